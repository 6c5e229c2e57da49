"""Finds a pair's displacement field in a folder and reads it as its protocol's evaluator would."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.evaluation.protocols import Protocol
from iterreg.io import npz
from iterreg.io.challenge import check_vectors
from iterreg.io.nifti import read_vectors
from iterreg.volume import Grid

__all__ = ["FoundField", "find_field", "find_reverse", "read_field_vectors"]

_SUFFIXES = (".nii.gz", ".npz", ".nii")


@dataclass(frozen=True)
class FoundField:
    """A pair's field file.

    Attributes
    ----------
    path
        The file; None when there is none.
    note
        A sentence when it was found under a name that the official evaluator does not look for, or when
        there is none.
    """

    path: Path | None
    note: str = ""


def find_field(folder: Path, pair: Pair, protocol: Protocol, *, also: Collection[str] = ()) -> FoundField:
    """Look for a pair's field under the evaluator's names first, then under any name it might have.

    Parameters
    ----------
    also
        Further names of the pair, where no other pair can be meant by them.
    """
    official = [stem + suffix for stem in protocol.field_stems(pair) for suffix in protocol.suffixes]
    for name in official:
        if (folder / name).is_file():
            return FoundField(folder / name)
    wanted = " or ".join(official)
    for stem in (f"disp_{name}" for name in (pair.name, pair.long_name, *also)):
        for suffix in _SUFFIXES:
            path = folder / (stem + suffix)
            if path.is_file():
                return FoundField(path, f"{path.name}: the official evaluator looks for {wanted}; rename it")
    return FoundField(
        None, f"{folder / official[0]}: is missing; the official evaluation would stop here without a number"
    )


def find_reverse(folder: Path, pair: Pair, protocol: Protocol) -> Path | None:
    """A field that leads back: a saved inverse (``inverse/disp_FIX_MOV``), or the opposite pair's field."""
    for inverses in (folder / "inverse", folder.parent / "inverse"):
        for stem in (f"disp_{pair.name}", f"disp_{pair.long_name}"):
            for suffix in _SUFFIXES:
                if (inverses / (stem + suffix)).is_file():
                    return inverses / (stem + suffix)
    if pair.fixed.path == pair.moving.path:  # an image registered to itself is not its own opposite
        return None
    opposite = Pair(pair.moving, pair.fixed, in_full=pair.in_full)
    return find_field(folder, opposite, protocol).path


def read_field_vectors(path: Path, fixed: Grid, moving: Grid) -> NDArray[Any]:
    """(X, Y, Z, 3) voxel displacements in the precision they are stored in, float32 or float64.

    Raises
    ------
    InputError
        If the file is damaged, of another shape, or not finite.
    """
    if path.suffix == ".npz":
        array = npz.load_array(path)
        if array.shape == (3, *(n // 2 for n in fixed.shape)):
            return npz.read(path, fixed, moving).vectors
    else:
        array = read_vectors(path).array
    # float64 matters: a label half a voxel away rounds to the one side or the other.
    vectors = check_vectors(array, path, fixed.shape, keep_float64=True)
    if vectors.size == 0:
        raise InputError(f"{path}: holds no voxels")
    return vectors
