"""``iterreg work``: one of many workers on a plan that was left in a run folder."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime

from iterreg.cli.batch_options import parse_bytes, parse_seconds, positive
from iterreg.cli.commands import Subparsers, path_argument

__all__ = ["add_parser", "parse_moment", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "work",
        help="help with a plan that was left in a run folder: start one on every node",
        description="Does the jobs that `iterreg run … --plan-only` left to do in a run folder, side by side "
        "with any number of other workers on any hosts that see the folder. Nothing is checked or hashed "
        "again. It begins no job that will not end within its scheduler's walltime (SLURM, PBS), and on "
        "SIGTERM, SIGUSR1 and SIGUSR2 it gives back at once what it has not ended.",
        epilog="Exit code: 0 nothing is left to do here (the rest is other workers'), 1 refused before any "
        "work, 2 some pairs failed.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder")
    parser.add_argument(
        "--wait", action="store_true",
        help="wait for what other workers are computing, and do it should those end",
    )  # fmt: skip
    parser.add_argument(
        "--until", type=parse_moment, metavar="WHEN",
        help="begin no job that will not have ended by then: +8h (from now), 06:30, or 2026-11-30T06:30 "
        "(default: the end of the scheduler's walltime, where it says one)",
    )  # fmt: skip
    parser.add_argument(
        "--cores", type=positive, default=0, help="cores to use (default: all that were granted)"
    )
    parser.add_argument("--threads", type=positive, help="threads per job (default: as planned)")
    parser.add_argument(
        "--memory", type=parse_bytes, default=0, metavar="SIZE",
        help="memory that its jobs together may take (default: 90 %% of what is free)",
    )  # fmt: skip
    parser.add_argument(
        "--scratch", type=path_argument, help="where temporary files go (default: the system's)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the closing line")


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.plan import Settings
    from iterreg.batch.session import Session
    from iterreg.batch.walltime import granted_until

    until = args.until if args.until is not None else granted_until()
    settings = Settings(cores=args.cores, memory=args.memory, threads=args.threads, scratch=args.scratch)
    with Session(args.run, settings) as session:
        plan, summary = session.work(wait=args.wait, until=until, quiet=args.quiet)
    parts = [f"{summary.done} of {len(plan.jobs)} planned jobs done"]
    for number, word in (
        (summary.failed, "failed"), (summary.elsewhere, "with other workers"),
        (summary.left, "left for other workers"),
    ):  # fmt: skip
        if number:
            parts.append(f"{number} {word}")
    print(f"{', '.join(parts)}; iterreg status {args.run} says more")
    return 2 if summary.failed else 0


def parse_moment(text: str) -> float:
    """``+8h`` (from now), ``06:30`` (the next time it is that late) or ``2026-11-30T06:30``, in local time.

    Returns
    -------
    Seconds since 1970.
    """
    text = text.strip()
    if text.startswith("+"):
        return time.time() + parse_seconds(text[1:])
    try:
        if re.fullmatch(r"\d{1,2}:\d\d", text, re.ASCII):
            hour, minute = map(int, text.split(":"))
            moment = datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()
            return moment if moment > time.time() else moment + 86400
        moment = datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as +8h, 06:30 or 2026-11-30T06:30"
        ) from None
    if moment < time.time():
        raise argparse.ArgumentTypeError(f"{text!r} is over already")
    return moment
