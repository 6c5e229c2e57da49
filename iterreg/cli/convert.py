"""``iterreg convert``: one field format into another."""

from __future__ import annotations

import argparse
from pathlib import Path

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.field_options import add_field_arguments, field_from
from iterreg.cli.writing import writing
from iterreg.io.names import FORMAT_NAMES

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "convert",
        help="convert a displacement field between formats",
        description="Convert a displacement field between formats. Formats are inferred from names and "
        "headers only where that is safe.",
        epilog="formats: challenge = voxels, (X, Y, Z, 3), disp_*.nii.gz; itk (ants) = LPS mm, 5-D warps, "
        ".mat, .txt, .h5; elastix = TransformParameters.*.txt or deformationField; npz = Learn2Reg's half "
        "resolution, or any .npy; ras = RAS+ mm, (X, Y, Z, 3); spm = y_*.nii, absolute RAS+ mm; niftyreg = "
        "its deformation and displacement fields; fsl, fsl-absolute = fnirt --fout, convertwarp; torch, "
        "torch-unaligned = grid_sample grids with align_corners=True, False; icon = maps in [0, 1], .npy.",
    )
    parser.add_argument(
        "input",
        metavar="IN",
        nargs="+",
        help="field or transform file; several ITK/ANTs transforms in the order antsApplyTransforms takes "
        "them (1Warp.nii.gz 0GenericAffine.mat), [0GenericAffine.mat,1] inverted",
    )
    parser.add_argument("output", type=path_argument, metavar="OUT", help="file to write")
    parser.add_argument("--to", dest="target", choices=FORMAT_NAMES, help="format of OUT")
    add_field_arguments(
        parser,
        needed="fixed",
        fixed="fixed image (only its header is read): IN's grid",
        moving="moving image (only its header is read)",
    )
    parser.add_argument(
        "--invert",
        action="store_true",
        help="write the inverse: it lies on the moving image's grid and points into the fixed image",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    InputError
        If a file cannot be read or written as asked.
    """
    from iterreg.io import formats
    from iterreg.io.nifti import check_folder

    target = formats.named(args.target) if args.target else formats.guess_output(args.output)
    output = Path(args.output)
    check_folder(output)
    field = field_from(args, args.input)
    if args.invert:
        inversion = field.invert()
        error = inversion.summary()
        print(
            f"inverse: residual {error['mean']:.4f} voxels on average, {error['max']:.4f} at most; "
            f"{1 - inversion.inside.mean():.1%} of its voxels lie outside the field and are extrapolated"
        )
        field = inversion.field
    with writing(output):
        target.writer(output, field)
    print(f"{args.output}: written as {target.name}, {field!r}")
    return 0
