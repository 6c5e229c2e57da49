"""``iterreg status``: what a run folder holds, proven from its statuses."""

from __future__ import annotations

import argparse
from collections import Counter

from iterreg.cli.commands import Subparsers, path_argument

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "status",
        help="say what is done, failed, running and missing in a run folder",
        description="Reads every job's status; a field without a status does not count as done.",
        epilog="Exit code: 0 all done, 2 some failed, 3 some are missing or running.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder")
    parser.add_argument("--verify", action="store_true", help="read every field again and compare its digest")
    parser.add_argument(
        "--log", metavar="ARM/PAIR", help="print the log of one job, e.g. syn-cheap/1000_1001"
    )


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.runfolder import RunFolder
    from iterreg.batch.survey import survey
    from iterreg.errors import InputError

    folder = RunFolder(args.run)
    record = folder.read()
    if args.log:
        arm, _, pair = args.log.partition("/")
        log = folder.arm(arm).job(pair).log
        if not log.is_file():
            raise InputError(f"{log}: there is no such log; name a job as ARM/PAIR")
        print(log.read_text(errors="replace"), end="")
        return 0
    entries = survey(folder, record, verify=args.verify)
    dataset = record["dataset"]
    print(f"{args.run}: {dataset['name']}, {len(record['pairs'])} pairs, {len(record['arms'])} arms")
    width = max(map(len, record["arms"]), default=0)
    for arm in record["arms"]:
        states = Counter(entry.state for entry in entries if entry.arm == arm)
        print(f"  {arm:{width}}  " + ", ".join(f"{count} {state}" for state, count in states.items()))
    for entry in entries:
        if entry.why:
            print(f"  {entry.state} {entry.arm}/{entry.pair}: {entry.why}")
    states = Counter(entry.state for entry in entries)
    if states["failed"] or states["damaged"]:
        return 2
    return 3 if states["running"] or states["missing"] else 0
