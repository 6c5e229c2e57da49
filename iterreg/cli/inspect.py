"""``iterreg inspect``: what a field file seems to be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.field_options import print_doubts, print_remarks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iterreg.io.readings import Reading
    from iterreg.io.sniff import Belief

__all__ = ["add_parser", "run"]

_DECISIVE = 0.005
"""A lead in NCC below this leaves the reading undecided."""

_ALIKE = 0.5
"""Images with a lower NCC are not alike, and the most similar reading is so by chance."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "inspect",
        help="say what a field file is: format, layout, units, suspicions",
        description="Say what a field file seems to be, and why. With both images, warp the moving image "
        "under every possible reading and rank them by similarity (NCC) to the fixed image.",
    )
    parser.add_argument("field", type=path_argument, metavar="FIELD", help="field or transform file")
    parser.add_argument("--fixed", type=path_argument, metavar="IMG", help="fixed image")
    parser.add_argument("--moving", type=path_argument, metavar="IMG", help="moving image")


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    InputError
        If a file cannot be read, or only one of the two images is given.
    """
    from iterreg.errors import InputError
    from iterreg.headers import judge_header
    from iterreg.io.readings import rank_readings
    from iterreg.io.sniff import describe

    if bool(args.fixed) != bool(args.moving):
        raise InputError("readings are compared with both images: give --fixed and --moving, or neither")
    belief = describe(args.field)
    _print_belief(belief)
    print_doubts("inspect", [args.field])
    if belief.grid is not None and "millimetres" in belief.units:
        for remark in judge_header(belief.path, belief.grid):
            print(f"  WARNING: The file {remark}.")
    if args.fixed:
        print_remarks("inspect", (args.fixed, args.moving))
    if args.fixed and belief.shape:
        from iterreg.volume import load_image

        _print_ranking(rank_readings(args.field, load_image(args.fixed), load_image(args.moving)))
    return 0


def _print_belief(belief: Belief) -> None:
    print(belief.path)
    print(f"  format    {belief.format or 'none that iterreg reads as it stands'}")
    print(f"  layout    {belief.layout}")
    print(f"  units     {belief.units}")
    if belief.shape:
        print(f"  array     {'x'.join(map(str, belief.shape))} {belief.dtype}")
    if belief.grid is not None:
        print(f"  header    {belief.grid!r}")
    for name, value in belief.statistics.items():
        print(f"  {name}: {value:.4g}")
    for sentence in belief.evidence:
        print(f"  because: {sentence}")
    for sentence in belief.warnings:
        print(f"  WARNING: {sentence}")


def _print_ranking(readings: Sequence[Reading]) -> None:
    print("  readings by similarity of the warped moving image to the fixed image:")
    for reading in readings:
        print(f"    NCC {reading.ncc:6.3f}  inside {reading.inside:6.1%}  {' = '.join(reading.names)}")
    best, others = readings[0], readings[1:]
    if others and best.ncc - others[0].ncc < _DECISIVE:
        print("  Undecided: the best two are too close, or the images differ in contrast.")
    elif "no displacement" in best.names[0]:
        print("  No reading is better than no displacement: are these the images it was made for?")
    elif best.ncc < _ALIKE:
        print(
            "  Undecided: no reading makes the images alike. They differ in contrast, or are not those it "
            "was made for."
        )
    elif best.format:
        print(f"  Most similar: {best.names[0]}; read it with --from {best.format}.")
    else:
        print(f"  Most similar: {best.names[0]}; no format is like that, mend the code that wrote the file.")
