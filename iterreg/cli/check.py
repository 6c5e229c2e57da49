"""``iterreg check``: look into a data set before registering it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers
from iterreg.cli.dataset_options import add_dataset_arguments, dataset_from
from iterreg.terminal import bare
from iterreg.words import count

if TYPE_CHECKING:
    from iterreg.dataset import Dataset
    from iterreg.dataset.check import Finding

__all__ = ["add_parser", "run"]

_SHOWN = 5


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "check",
        help="find what is wrong with a data set before hours are spent on it",
        description="Read every file of a data set and say what is wrong with it and what to do. "
        "The exit code is 0 when there are no errors (notes are allowed) and 1 when there are.",
    )
    add_dataset_arguments(parser)
    parser.add_argument(
        "--headers-only", action="store_true", help="be quick: read headers, not the voxels behind them"
    )
    parser.add_argument("--all", action="store_true", help=f"show every finding, not {_SHOWN} of each kind")


def run(args: argparse.Namespace) -> int:
    """Check the data set, print the findings; 1 when there are errors, else 0.

    Raises
    ------
    InputError
        If the data set cannot be opened.
    """
    from iterreg.dataset.check import check

    dataset = dataset_from(args)
    print(_headline(dataset), flush=True)
    with _Bar() as bar:
        findings = check(dataset, read_voxels=not args.headers_only, on_progress=bar.update)
    shown = len(findings) if args.all else _SHOWN
    for severity in ("error", "note"):
        _print_groups([finding for finding in findings if finding.severity == severity], shown)
    errors = sum(finding.severity == "error" for finding in findings)
    notes = len(findings) - errors
    print(_closing(errors, notes, args.headers_only))
    return 1 if errors else 0


def _headline(dataset: Dataset) -> str:
    scans = list(dataset.scans())
    parts = [count(len(dataset.pairs), "pair"), count(len(scans), "image")]
    for files, word in (
        ([s.labels for s in scans], "label volume"),
        ([s.landmarks for s in scans], "landmark file"),
        ([s.mask for s in scans], "mask"),
    ):
        if any(files):
            parts.append(count(len(set(files) - {None}), word))
    tasks = [task for task in dataset.tasks if task]
    of = f" (tasks: {', '.join(tasks)})" if tasks else ""
    return f"{dataset.name}: {', '.join(parts)}{of}"


def _print_groups(findings: Sequence[Finding], shown: int) -> None:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    for kind, group in groups.items():
        print(f"\n{group[0].severity}: {kind} ({len(group)})")
        for finding in group[:shown]:
            print(f"  {finding}")
        if len(group) > shown:
            print(f"  … and {len(group) - shown} more (--all shows them)")


def _closing(errors: int, notes: int, headers_only: bool) -> str:
    unread = " Only headers were read." if headers_only else ""
    noted = f", {count(notes, 'note')}" if notes else ""
    if errors:
        return f"\n{count(errors, 'error')}{noted}: mend the data set before registering it.{unread}"
    return f"\nNo errors{noted}: the data set can be registered.{unread}"


class _Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        self._bar = tqdm(unit="file", file=bare(sys.stderr), disable=None, leave=False)
        return self

    def update(self, done: int, total: int, path: object) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(self, *exc: object) -> None:
        self._bar.close()
