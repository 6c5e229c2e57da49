"""``iterreg lddmm``: what only iterreg's own LDDMM can do."""

from __future__ import annotations

import argparse
from pathlib import Path

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.writing import writing
from iterreg.io.names import FORMAT_NAMES

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "lddmm",
        help="make fields again from saved momenta",
        description="What only iterreg's own LDDMM can do.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shoot = actions.add_parser(
        "shoot",
        help="integrate a saved momentum: the field of that registration, and its inverse",
        description="Integrates a momentum that `iterreg run --save-momentum` left in RUN/ARM/momentum, and "
        "gives the field that the run wrote. The file holds the grids of both images.",
    )
    shoot.add_argument("momentum", metavar="MOMENTUM", type=path_argument, help=".npz of a run")
    shoot.add_argument(
        "--out", metavar="OUT", required=True, type=path_argument, help="the field, fixed -> moving"
    )
    shoot.add_argument(
        "--inverse-out", metavar="OUT", type=path_argument, help="the inverse field, moving -> fixed"
    )
    shoot.add_argument(
        "--to",
        dest="target",
        choices=FORMAT_NAMES,
        default="challenge",
        help="format of both (default: challenge, as the run wrote it)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; ``shoot`` is its only action.

    Raises
    ------
    InputError
        If the momentum cannot be read, or a field cannot be written as asked.
    """
    from iterreg.io import formats
    from iterreg.io.nifti import check_folder
    from iterreg.lddmm import Transform

    outputs: list[Path] = [path for path in (args.out, args.inverse_out) if path is not None]
    for path in outputs:
        check_folder(path)
    target = formats.named(args.target)
    transform = Transform.load(args.momentum)
    for path in outputs:
        field = transform.field() if path == args.out else transform.inverse()
        with writing(path):
            target.writer(path, field)
        print(f"{path}: written as {target.name}, {field!r}")
    print(f"geodesic distance {transform.distance:.6g}")
    return 0
