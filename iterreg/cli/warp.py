"""``iterreg warp``: apply a field to an image, labels or points."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.field_options import add_field_arguments, field_from
from iterreg.cli.writing import writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "warp",
        help="apply a field to an image, a label volume or points",
        description="Resample a moving image (or labels) onto the fixed grid, or map points: points go from "
        "the fixed to the moving image.",
    )
    parser.add_argument("--field", metavar="F", required=True, nargs="+", help="field or transform file(s)")
    add_field_arguments(
        parser,
        needed="moving",
        fixed="fixed image (only its header is read)",
        moving="moving image, or label volume with --labels",
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="OUT",
        required=True,
        help=".nii.gz or .nii; a .csv with --points",
    )
    parser.add_argument(
        "--edge",
        choices=("evaluator", "itk"),
        default="evaluator",
        help="where the moving image ends: at its outer voxels' centres as for the challenges' evaluators "
        "(default), or at their outer faces as for ANTs, elastix and ITK, which keep a value in that half "
        "voxel",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--labels",
        nargs="?",
        const="nearest",
        choices=("nearest", "linear"),
        help="IMG holds labels: nearest neighbour as the challenge's evaluator (default), or linear on "
        "one-hot labels with the strongest taken",
    )
    what.add_argument(
        "--points",
        type=path_argument,
        metavar="CSV",
        help="map points instead: a CSV of x,y,z voxel coordinates of the FIXED grid (counted from 0, "
        "array-axis order, an optional header line); OUT gets their voxel coordinates in the MOVING image, "
        "in the same order",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    InputError
        If a file cannot be read or does not fit.
    """
    from iterreg.errors import InputError
    from iterreg.io.nifti import check_folder, write_volume
    from iterreg.volume import load_image, load_labels

    out: Path = args.out
    check_folder(out)
    if args.points:
        if out.suffix != ".csv":
            raise InputError(f"{out}: points are written as .csv; name the output so")
        points = _read_points(args.points)
        field = field_from(args, args.field)
        with writing(out):
            _write_points(out, field.warp_points(points))
        print(f"{out}: {len(points)} points, voxel coordinates of the moving image")
        return 0
    if not out.name.endswith((".nii.gz", ".nii")):
        raise InputError(f"{out}: images are written as .nii.gz or .nii; name the output so")
    if args.labels == "linear" and args.edge == "itk":
        raise InputError("--edge itk is for images and --labels nearest; leave it out with --labels linear")
    field = field_from(args, args.field)
    if args.labels:
        labels = load_labels(args.moving)
        moved = field.warp_labels(labels, interpolation=args.labels, edge=args.edge)
    else:
        moved = field.warp_image(load_image(args.moving), edge=args.edge)
    with writing(out):
        write_volume(out, moved)
    print(f"{out}: {args.moving} on the fixed grid, {field.fixed!r}")
    return 0


def _read_points(path: Path) -> NDArray[np.float64]:
    """(N, 3) coordinates of a CSV with an optional header line."""
    import numpy as np

    from iterreg.errors import InputError
    from iterreg.text_files import read_text

    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = line.split(",")
        if not line.strip():
            continue
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            if not rows and number == 1:
                continue
            raise InputError(f"{path}: line {number} does not hold numbers: {line[:60]}") from None
        if len(values) != 3 or not np.isfinite(values).all():
            raise InputError(f"{path}: line {number} should hold three finite numbers x,y,z")
        rows.append(values)
    if not rows:
        raise InputError(f"{path}: holds no points; it needs one x,y,z per line")
    return np.array(rows)


def _write_points(path: Path, points: NDArray[np.float64]) -> None:
    from iterreg.jobs.atomic import write_text

    write_text(path, "".join(f"{x:.6f},{y:.6f},{z:.6f}\n" for x, y, z in points))
