"""The options of compare and report that say which labels count, and how they are grouped."""

from __future__ import annotations

import argparse
from typing import Any

from iterreg.errors import InputError

__all__ = ["add_label_options", "label_choice"]


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--labels``, ``--no-background`` and ``--label-groups``."""
    parser.add_argument(
        "--labels", action="append", metavar="ID[-ID][,ID…]",
        help="average Dice and HD95 over these labels alone, like 4,11,30-33 (default: those scored)",
    )  # fmt: skip
    parser.add_argument(
        "--no-background", action="store_true", help="leave label 0 out of the means over labels"
    )
    parser.add_argument(
        "--label-groups", metavar="FILE",
        help="csv with the columns label, name and group, or neuromorphometrics or freesurfer (default: the "
        "one of these by which the labels are numbered)",
    )  # fmt: skip


def label_choice(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `iterreg.statistics.load_scores` that those options give.

    Raises
    ------
    InputError
        If what is given is no list of labels.
    """
    return {
        "labels": _numbers(args.labels) if args.labels else None,
        "background": not args.no_background,
        "label_groups": args.label_groups,
    }


def _numbers(texts: list[str]) -> tuple[int, ...]:
    found: list[int] = []
    for word in (word.strip() for text in texts for word in text.split(",")):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"--labels {word}: is no label; write whole numbers or ranges, like 4,11,30-33")
        span = range(int(first), int(last or first) + 1)
        if not 0 < len(span) <= _MOST:
            raise InputError(f"--labels {word}: write the smaller number first, and at most {_MOST} at once")
        found += span
    return tuple(dict.fromkeys(found))


_MOST = 100_000
