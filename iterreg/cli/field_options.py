"""How commands name the field they read and the two images it lies between."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from iterreg.cli.commands import path_argument
from iterreg.errors import InputWarning
from iterreg.io.names import FORMAT_NAMES
from iterreg.paths import to_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from iterreg.field import DisplacementField

__all__ = ["add_field_arguments", "field_from", "print_remarks"]


def add_field_arguments(
    parser: argparse.ArgumentParser, *, needed: Literal["fixed", "moving"], fixed: str, moving: str
) -> None:
    """Add ``--from``, ``--fixed`` and ``--moving``; `field_from` reads them back.

    Parameters
    ----------
    needed
        The image that must be given; the other's grid defaults to its grid.
    fixed, moving
        What the images are to this command, for the help.
    """
    parser.add_argument(
        "--from",
        dest="source",
        choices=FORMAT_NAMES,
        help="the field's format; default: inferred where it is safe",
    )
    for role, what in (("fixed", fixed), ("moving", moving)):
        other = "" if role == needed else f"; default: the {needed} image's grid"
        parser.add_argument(
            f"--{role}", type=path_argument, metavar="IMG", required=role == needed, help=what + other
        )


def field_from(args: argparse.Namespace, files: Sequence[str]) -> DisplacementField:
    """The field that parsed arguments name; of the images only the headers are read.

    Raises
    ------
    InputError
        If a file cannot be read, or its format is neither given nor certain.
    """
    from iterreg.io import formats

    fixed, moving = args.fixed or args.moving, args.moving or args.fixed
    print_remarks(args.command, (fixed, moving))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        # What is in brackets is ITK's, with an option behind the name.
        named = [text if text.startswith("[") else to_path(text) for text in files]
        print_doubts(args.command, [path for path in named if isinstance(path, Path)])
        field = formats.read_between(named, fixed, moving, name=args.source)
    for warning in caught:
        print(f"iterreg {args.command}: note: {warning.message}", file=sys.stderr)
    return field


def print_doubts(command: str, files: Iterable[Path]) -> None:
    """Name fields in a run's folder that are not what their jobs wrote."""
    from iterreg.runs.opening import doubt_of

    for path in files:
        if (doubt := doubt_of(path)) is not None:
            print(f"iterreg {command}: note: {doubt.sentence}", file=sys.stderr)


def print_remarks(command: str, images: Iterable[str]) -> None:
    """Say what is odd about the images' headers, each file once.

    Raises
    ------
    InputError
        If a header cannot be read.
    """
    from iterreg.headers import judge_header
    from iterreg.volume import read_grid

    for image in dict.fromkeys(images):
        for remark in judge_header(Path(image), read_grid(image)):
            print(f"iterreg {command}: note: {image}: {remark}", file=sys.stderr)
