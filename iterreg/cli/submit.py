"""``iterreg submit``: an array of workers for a scheduler, in one call."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys

from iterreg.cli.batch_options import parse_bytes, parse_seconds, positive
from iterreg.cli.commands import Subparsers, path_argument
from iterreg.errors import InputError
from iterreg.words import count

__all__ = ["add_parser", "run"]

NAMES = ("slurm", "pbs", "sge", "lsf")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "submit",
        help="hand the plan in a run folder to a scheduler: one array of `iterreg work`",
        description="Writes the script of an array of workers on the plan that `iterreg run … --plan-only` "
        "left, and hands it to the scheduler in one call.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder, seen by every node")
    parser.add_argument("--scheduler", choices=NAMES, required=True)
    parser.add_argument("--dry-run", action="store_true", help="print the script, send nothing")
    parser.add_argument("--workers", type=positive, help="how many (default: what the plan's estimate needs)")
    parser.add_argument("--cores", type=positive, default=4, help="of each worker (default 4)")
    parser.add_argument(
        "--memory", type=parse_bytes, default=0, metavar="SIZE",
        help="of each worker (default: what the largest jobs take that run at once)",
    )  # fmt: skip
    parser.add_argument(
        "--time", type=parse_seconds, default=8 * 3600.0, help="wall time of each worker (default 8h)"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="TEXT",
        help="an option of the scheduler's own, e.g. --option=--partition=long; repeat for several",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.arrays import SCHEDULERS, array_for
    from iterreg.batch.plan import Settings
    from iterreg.batch.shared import take_plan
    from iterreg.runs import RunFolder

    if any("\n" in option for option in args.option):
        raise InputError("--option: holds a line break; give one option, and repeat --option for several")
    folder, scheduler = RunFolder(args.run), SCHEDULERS[args.scheduler]
    if re.search(r"""[\s"'\\%$`#]""", str(folder.path.absolute())):
        raise InputError(
            f"{folder.path.absolute()}: schedulers' scripts do not take such a path; move the run to one "
            "without spaces, quotes and %"
        )
    plan = take_plan(folder, Settings())
    worker = [sys.executable, "-m", "iterreg", "work", str(args.run.absolute()), "--cores", str(args.cores)]
    array = array_for(
        plan,
        folder.path,
        command=tuple(worker),
        cores=args.cores,
        seconds=int(args.time),
        workers=args.workers,
        memory=args.memory,
        extra=tuple(args.option),
    )
    script = scheduler.script(array)
    if args.dry_run:
        print(script, end="")
        return 0
    if not plan.todo:
        raise InputError(f"{folder.plan}: has no jobs left; there is nothing to submit")
    try:
        sent = subprocess.run(scheduler.submit, input=script, text=True, capture_output=True, check=False)
    except OSError as error:
        raise InputError(
            f"{scheduler.submit[0]}: cannot be started ({error.strerror}); submit on a host of the cluster, "
            "or see the script with --dry-run"
        ) from error
    if sent.returncode:
        raise InputError(
            f"{shlex.join(scheduler.submit)} refused the array: {(sent.stderr or sent.stdout).strip()}; "
            "see the script with --dry-run"
        )
    print(f"{count(array.workers, 'worker')} submitted: {sent.stdout.strip()}")
    return 0
