"""How every command names a data set and chooses among its pairs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from iterreg.cli.commands import path_argument

if TYPE_CHECKING:
    from iterreg.dataset import Dataset

__all__ = ["add_dataset_arguments", "add_reading_arguments", "dataset_from", "listed", "reading_of"]


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATASET and the options that choose among its pairs; `dataset_from` reads them back."""
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="+",
        help="a LUMIR or Learn2Reg json, a csv of pairs, a BIDS folder, a folder of images, or two images "
        "(fixed moving)",
    )
    group = add_reading_arguments(parser)
    group.add_argument(
        "--atlas", type=path_argument, metavar="FILE", help="register this image with every image of DATASET"
    )
    group.add_argument(
        "--atlas-role",
        choices=("fixed", "moving", "both"),
        help="moving (default) registers the atlas to each subject, fixed each subject to the atlas",
    )
    group.add_argument(
        "--task", action="append", metavar="NAME[,NAME]", help="take only the pairs of these tasks"
    )
    group.add_argument(
        "--pairs",
        action="append",
        metavar="FIX_MOV[,FIX_MOV]",
        help="take only these pairs, named by their ids, for example 3455_3454",
    )
    group.add_argument("--first", type=int, metavar="N", help="of what is left, take the first N pairs")


def add_reading_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say how a data set is read; `reading_of` gives them back."""
    group = parser.add_argument_group("data set")
    group.add_argument(
        "--root", type=path_argument, metavar="FOLDER", help="where the relative paths of a json or csv start"
    )
    group.add_argument(
        "--split",
        choices=("validation", "test", "training"),
        help="which list of a json to take (default: validation, else test)",
    )
    group.add_argument("--modality", metavar="0000", help="of a folder, take only images of this modality")
    group.add_argument(
        "--suffix",
        metavar="T1w",
        help="of a folder, take only images whose names end so; several for BIDS: T1w,T2w (default: T1w for "
        "BIDS, else all)",
    )
    group.add_argument(
        "--labels-suffix",
        metavar="dseg",
        help="of a folder, how names of label maps end, e.g. desc-aseg_dseg (default: dseg for BIDS, else "
        "_seg, _labels … behind an image's name)",
    )
    group.add_argument(
        "--pairs-of", metavar="all|ring|N[:SEED]",
        help="of a folder, register all ordered pairs (default), each image with the next, or N random pairs",
    )  # fmt: skip
    return group


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """What parsed arguments say about how to read a data set, for `iterreg.dataset.open_dataset`."""
    return {name: getattr(args, name) for name in _READING}


_READING = ("root", "split", "modality", "suffix", "labels_suffix", "pairs_of")


def dataset_from(args: argparse.Namespace) -> Dataset:
    """The data set that parsed arguments ask for.

    Raises
    ------
    InputError
        If it cannot be opened, or nothing of it is left after the choice.
    """
    from iterreg.dataset import open_dataset
    from iterreg.errors import InputError

    if args.atlas_role is not None and args.atlas is None:
        raise InputError("--atlas-role says what the atlas is, but there is none; give one with --atlas FILE")
    dataset = open_dataset(
        args.dataset,
        **reading_of(args),
        atlas=args.atlas,
        atlas_role=args.atlas_role or "moving",
    )
    return dataset.select(tasks=listed(args.task), pairs=listed(args.pairs), first=args.first)


def listed(values: list[str] | None) -> list[str] | None:
    """Names from an option that may be repeated and may hold several, separated by commas."""
    if values is None:
        return None
    return [name for value in values for name in value.split(",") if name]
