"""``iterreg run``: every pair of a data set with every method, resumable."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from iterreg.cli.batch_options import (
    DEFAULT_METHOD,
    add_batch_arguments,
    methods_of,
    refuse_findings,
    session_from,
)
from iterreg.cli.commands import Subparsers
from iterreg.cli.dataset_options import add_dataset_arguments, dataset_from
from iterreg.cli.plan import print_plan
from iterreg.errors import InputError
from iterreg.words import count

if TYPE_CHECKING:
    from iterreg.batch.plan import Plan
    from iterreg.batch.running import Summary
    from iterreg.runs import RunFolder

__all__ = ["add_parser", "close", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "run",
        help="register every pair of a data set, or two images",
        description="Registers every pair with every method, in parallel, into challenge-format fields. "
        "The same command again resumes: what is done and unchanged is skipped.",
        epilog="Exit code: 0 all done here (what other processes hold is theirs to end, unless --wait), "
        "1 refused before any work, 2 some pairs failed, 130 interrupted.",
    )
    add_dataset_arguments(parser)
    add_batch_arguments(parser)
    parser.add_argument(
        "--no-check", action="store_true", help="skip reading every image before the work starts"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="run the usable pairs of a data set that has errors"
    )
    parser.add_argument(
        "--wait", action="store_true",
        help="wait for the pairs that other processes are computing, and do them should those end",
    )  # fmt: skip
    parser.add_argument(
        "--plan-only", action="store_true",
        help="check and plan, leave the plan in the run folder for any number of `iterreg work`, run nothing",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the closing line")


def run(args: argparse.Namespace) -> int:
    dataset = dataset_from(args)
    with session_from(args, dataset) as session:
        session.folder.check_writable()
        plan = session.plan(dataset, methods_of(args))
        if not args.method and not args.quiet:
            preset = plan.arms[0].parameters.preset
            _say(f"no --method given: using {DEFAULT_METHOD} with its preset {preset!r}")
        if plan.todo and not (args.no_check or args.keep_going):
            _check(plan)
        if not args.quiet:
            with _even_unheard():
                print_plan(plan)
        refused = plan.in_state("refused")
        if refused and not args.keep_going:
            raise InputError(
                f"{len(refused)} of {count(len(plan.jobs), 'job')} cannot run: {refused[0].why}. "
                "Nothing was run; --keep-going runs the others."
            )
        if args.plan_only:
            session.leave(plan)
            _say(
                f"{count(len(plan.todo), 'job')} planned in {session.folder.plan}; on every node: "
                f"iterreg work {shlex.quote(str(session.folder.path))}"
            )
            return 0
        summary = session.run(plan, quiet=args.quiet, wait=args.wait)
    return close(plan, session.folder, summary)


def _check(plan: Plan) -> None:
    """Refuse a plan whose images cannot be used. Of a large data set only what is left needs to be read."""
    left = dict.fromkeys(planned.job.pair for planned in plan.todo)
    for note in refuse_findings(replace(plan.dataset, pairs=tuple(left)), read_voxels=True):
        _say(f"note: {note}", error=True)


def close(plan: Plan, folder: RunFolder, summary: Summary) -> int:
    """Say how a run ended, and return its exit code."""
    refused = len(plan.in_state("refused"))
    parts = [f"{len(plan.in_state('done', 'kept')) + summary.done} of {len(plan.jobs)} done"]
    for number, word in (
        (summary.failed, "failed"), (refused, "could not run"),
        (summary.elsewhere, "with another process"), (summary.left, "not finished"),
    ):  # fmt: skip
        if number:
            parts.append(f"{number} {word}")
    _say(f"{', '.join(parts)}; results in {folder.results}")
    if summary.left:
        _say("interrupted: the same command goes on from here", error=True)
        return 130
    if summary.failed or refused:
        _say(f"what failed and why: iterreg status {shlex.quote(str(folder.path))}", error=True)
        return 2
    if summary.elsewhere:
        _say(
            "what other processes hold is theirs to end; the same command with --wait waits for them",
            error=True,
        )
    return 0


def _say(text: str, *, error: bool = False) -> None:
    with _even_unheard():
        print(text, file=sys.stderr if error else sys.stdout)


@contextmanager
def _even_unheard() -> Iterator[None]:
    """Print, and go on when nobody reads it any more (``iterreg run … | head``): the work is what counts."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:  # what it still holds is written again when Python ends: let it
                os.dup2(nowhere, stream.fileno())
