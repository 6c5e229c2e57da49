"""``iterreg package``: the zip that a challenge takes, or what is wrong with the fields."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers, path_argument

if TYPE_CHECKING:
    from iterreg.dataset import Dataset

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "package",
        help="pack the fields of a run, or of any method, for submission",
        description="Writes folder/disp_*.nii.gz as a zip, after holding every field to what the official "
        "evaluator asks for: all pairs, names, shape, finite values, and content as it was written.",
        epilog="Exit code: 0 packed, 1 refused (one sentence for each reason).",
    )
    parser.add_argument(
        "fields", type=path_argument, metavar="RUN[/ARM]",
        help="a run folder, an arm in it, or any folder of disp_*.nii.gz",
    )  # fmt: skip
    parser.add_argument("--arm", help="which arm of the run, when it has several")
    parser.add_argument(
        "--dataset", type=path_argument,
        help="the data set's json, whose pairs must all be there (default: the run's own; "
        "needed for a folder that is no run)",
    )  # fmt: skip
    parser.add_argument("--root", type=path_argument, help="where the relative paths of --dataset start")
    parser.add_argument(
        "--split", choices=("validation", "test", "training"), help="which list of --dataset to take"
    )
    parser.add_argument(
        "--ignore-extra", action="store_true", help="leave out fields of pairs the data set does not list"
    )
    parser.add_argument(
        "-o", "--out", type=path_argument, metavar="ZIP",
        help="the zip to write (default: the arm's or folder's name + .zip, here)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.package import pack
    from iterreg.batch.vetting import inspect
    from iterreg.dataset import open_dataset
    from iterreg.errors import InputError
    from iterreg.jobs.resources import format_bytes
    from iterreg.runs import open_results

    if args.dataset is None and (args.root is not None or args.split is not None):
        raise InputError("--root and --split belong to a data set; name it with --dataset")
    opened = open_results(args.fields)
    for note in opened.notes:
        print(f"note: {note}", file=sys.stderr)
    fields = opened.only(args.arm)
    if args.dataset is not None:
        dataset = open_dataset(args.dataset, root=args.root, split=args.split)
    elif fields.run is not None:
        dataset = fields.run.record.whole()
    else:
        raise InputError(
            f"{args.fields}: is not part of a run, so which fields are needed must be said; "
            "give the data set's json with --dataset"
        )
    found = inspect(fields, dataset, ignore_extra=args.ignore_extra)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if found.errors:
        raise InputError(
            f"{fields.fields}: nothing was packed, {len(found.errors)} "
            f"{'things are' if len(found.errors) > 1 else 'thing is'} wrong "
            f"({len(found.members)} of {len(dataset.pairs)} fields are fit):\n  " + "\n  ".join(found.errors)
        )
    packed = pack(found.members, args.out or Path(f"{fields.name}.zip"))
    print(
        f"{packed.path}: {packed.fields} fields of {fields.name} for {_name(dataset)}, "
        f"{format_bytes(packed.size)}, sha256 {packed.sha256}"
    )
    return 0


def _name(dataset: Dataset) -> str:
    tasks = Counter(pair.task for pair in dataset.pairs if pair.task)
    named = ", ".join(f"{count} {task}" for task, count in tasks.items())
    return f"{dataset.name} ({named})" if named else dataset.name
