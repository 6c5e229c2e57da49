"""``iterreg status``: what a run folder holds, proven from its statuses."""

from __future__ import annotations

import argparse
from collections import Counter

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.words import count

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "status",
        help="say what is done, failed, running and missing in a run folder",
        description="Reads every job's status; a field without a status does not count as done.",
        epilog="Exit code: 0 all done, 2 some failed, or are not what was asked for any more, 3 some are "
        "missing or running.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN[/ARM]", help="run folder, or an arm in it")
    parser.add_argument("--verify", action="store_true", help="read every file again and compare its digest")
    parser.add_argument(
        "--log", metavar="ARM/PAIR", help="print the log of one job, e.g. syn-cheap/1000_1001"
    )


def run(args: argparse.Namespace) -> int:
    from iterreg.errors import InputError
    from iterreg.runs import open_results
    from iterreg.runs.survey import survey

    opened = open_results(args.run)
    if opened.run is None:
        raise InputError(f"{args.run}: is not a run folder (it has no run.json), and no arm of one")
    folder, record = opened.run.folder, opened.run.record
    arms = [method.name for method in opened.methods]
    if args.log:
        arm, _, pair = args.log.partition("/")
        log = folder.arm(arm).job(pair).log
        if not log.is_file():
            raise InputError(f"{log}: there is no such log; name a job as ARM/PAIR")
        print(log.read_text(errors="replace"), end="")
        return 0
    entries = survey(folder, record, arms=arms, verify=args.verify)
    print(f"{args.run}: {record.dataset.name}, {_many(len(record.pairs), 'pair')}, {_many(len(arms), 'arm')}")
    width = max(map(len, arms), default=0)
    for arm in arms:
        states = Counter(entry.state for entry in entries if entry.arm == arm)
        print(f"  {arm:{width}}  " + ", ".join(f"{many} {state}" for state, many in states.items()))
    for entry in entries:
        if entry.why and entry.state != "kept":
            print(f"  {entry.state} {entry.arm}/{entry.pair}: {entry.why}")
    for (arm, why), kept in Counter((one.arm, one.why) for one in entries if one.state == "kept").items():
        print(f"  kept {arm}: {count(kept, 'result')} {why}")
    for problem in record.problems:
        print(f"  {problem}")
    states = Counter(entry.state for entry in entries)
    if states["failed"] or states["damaged"] or states["changed"] or record.problems:
        return 2
    return 3 if states["running"] or states["missing"] else 0


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
