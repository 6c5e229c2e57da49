"""``iterreg plan``: what a run would do, and what it would cost."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from iterreg.cli.batch_options import add_batch_arguments, methods_of, session_from
from iterreg.cli.commands import Subparsers
from iterreg.cli.dataset_options import add_dataset_arguments, dataset_from
from iterreg.words import count

if TYPE_CHECKING:
    from iterreg.batch.plan import Plan

__all__ = ["add_parser", "print_plan", "run"]

_SHOWN = 20
_HOWS = 3


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "plan",
        help="say what a run would do: jobs, memory, time, what is missing",
        description="Says what `iterreg run` with the same arguments would do, and runs nothing.",
    )
    add_dataset_arguments(parser)
    add_batch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    dataset = dataset_from(args)
    with session_from(args, dataset) as session:
        plan = session.plan(dataset, methods_of(args))
    print_plan(plan)
    return 1 if plan.in_state("refused") else 0


def _about_software(plan: Plan) -> str:
    """What is done, but by other software, and what becomes of it; empty when there is no such job."""
    jobs = [one for one in plan.jobs if one.keepable and one.state in ("changed", "kept")]
    if not jobs:
        return ""
    hows = list(dict.fromkeys(one.why.removeprefix("it was ") for one in jobs))
    how = f"{' and '.join(hows[:_HOWS])}{' …' if len(hows) > _HOWS else ''}"
    if plan.settings.keep_changed:
        return f"{count(len(jobs), 'result')} {how}, kept by --keep-changed"
    return f"{count(len(jobs), 'result')} {how}: done again, unless --keep-changed keeps them"


def print_plan(plan: Plan) -> None:
    """Print a plan: the data set, a line per arm, the schedule, and every job that cannot run."""
    from iterreg.jobs.progress import format_seconds
    from iterreg.jobs.resources import format_bytes

    dataset = plan.dataset
    tasks = Counter(pair.task for pair in dataset.pairs if pair.task)
    named = ", ".join(f"{many} {task}" for task, many in tasks.items())
    pairs = count(len(dataset.pairs), "pair")
    print(f"{dataset.name}: {pairs}{f' ({named})' if named else ''}, from {dataset.source}")
    for note in dataset.notes:
        print(f"  note: {note}")
    for arm in plan.arms:
        jobs = [entry for entry in plan.jobs if entry.job.arm is arm]
        states: Counter[str] = Counter(
            "outdated" if entry.state == "changed" and entry.keepable else entry.state for entry in jobs
        )
        left = [entry for entry in jobs if entry.state not in ("done", "kept", "refused")]
        parts = [
            f"{states[state]} {word}"
            for state, word in (
                ("done", "done"), ("kept", "done with other software, kept"),
                ("new", "to do"), ("again", "to do again"),
                ("changed", "done with other settings, to do again"),
                ("outdated", "done with other software, to do again"),
                ("extended", "done, to be given more files"), ("refused", "cannot run"),
            )
            if states[state]
        ]  # fmt: skip
        priced = left or [entry for entry in jobs if entry.state == "refused" and entry.cost.memory]
        cost = max((entry.cost.memory for entry in priced), default=0)
        cpu = sum(entry.cost.cpu_seconds for entry in priced)
        price = (
            f"; about {format_bytes(cost)} and {format_seconds(cpu / len(priced))} CPU each" if priced else ""
        )
        print(f"  {arm.name}: {', '.join(parts)}{price}")
        for note in arm.parameters.notes:
            print(f"    note: {note}")
    if said := _about_software(plan):
        print(f"  note: {said}")
    if plan.todo:
        print(
            f"{count(len(plan.todo), 'job')}, {plan.parallel} at a time with {count(plan.threads, 'thread')} "
            f"each, {format_bytes(plan.settings.memory)} of memory: "
            f"about {format_seconds(plan.wall_seconds)}"
        )
    missing = [scan.path for scan in dataset.scans() if not scan.path.is_file()]
    if missing:
        if len(missing) == 1:
            print(f"  1 image file is missing: {missing[0]}")
        else:
            print(f"  {len(missing)} image files are missing, the first is {missing[0]}")
    gone = set(missing)
    refused = [
        entry
        for entry in plan.in_state("refused")
        if gone.isdisjoint((entry.job.pair.fixed.path, entry.job.pair.moving.path))
    ]
    for entry in refused[:_SHOWN]:
        print(f"  cannot run {entry.job.arm.name} {entry.job.pair.name}: {entry.why}")
    if len(refused) > _SHOWN:
        print(f"  ... and {len(refused) - _SHOWN} more")
