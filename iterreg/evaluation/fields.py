"""Finds a pair's displacement field in a folder and reads it as its protocol's evaluator would."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.base import Pair
from iterreg.errors import InputError, InputWarning
from iterreg.evaluation.protocols import Protocol
from iterreg.evaluation.storage import Storage
from iterreg.io import formats, npz
from iterreg.io.challenge import check_vectors, unbatched
from iterreg.io.coordinates import fit_lines
from iterreg.io.nifti import read_vectors
from iterreg.volume import Grid, read_grid

__all__ = ["FoundField", "StoredField", "find_field", "find_reverse", "read_field"]

_SUFFIXES = (".nii.gz", ".npz", ".nii", ".npy", ".mha", ".mhd", ".nrrd", ".h5", ".txt")

_VOXELS = ("challenge", "npz")
"""Formats whose numbers are the evaluators' own: these are read as the evaluators read them."""

_LIKE_GRIDS = 0.2
"""How far (spectral norm) one grid's axes may be from the other's where numbers are asked for places."""


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
    further
        Files that make one transform together with it, in the order antsApplyTransforms takes them.
    """

    path: Path | None
    note: str = ""
    further: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the field's own first."""
        return () if self.path is None else (self.path, *self.further)


@dataclass(frozen=True, eq=False)
class StoredField:
    """What was read of a pair's field.

    Attributes
    ----------
    vectors
        (X, Y, Z, 3) voxel displacements on the fixed grid: float32, or float64 where voxels are stored so.
    format
        The name of the format it was read as.
    notes
        What the reader said, one sentence each.
    point_dtype
        In which the evaluator takes its displacements at points.
    """

    vectors: NDArray[Any]
    format: str
    notes: tuple[str, ...] = ()
    point_dtype: type[np.floating[Any]] = np.float64


def find_field(
    folder: Path,
    pair: Pair,
    protocol: Protocol,
    *,
    also: Collection[str] = (),
    storage: Storage | None = None,
) -> FoundField:
    """Look for a pair's field under the evaluator's names first, then under any name it might have.

    Parameters
    ----------
    also
        Further names of the pair, where no other pair can be meant by them.
    storage
        Where it has patterns, these alone say what the files are called.
    """
    if storage is not None and storage.patterns:
        files = storage.files(folder, pair)
        gone = [file for file in files if not file.is_file()]
        if gone:
            return FoundField(None, f"{gone[0]}: is missing, which --pattern says is the pair's field")
        return FoundField(files[0], _without_affine(files), files[1:])
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


def find_reverse(
    folder: Path, pair: Pair, protocol: Protocol, *, storage: Storage | None = None
) -> tuple[Path, ...]:
    """The files of a field that leads back; none where there is none.

    It is a saved inverse (``inverse/disp_FIX_MOV``), or the opposite pair's field.
    """
    for inverses in (folder / "inverse", folder.parent / "inverse"):
        for stem in (f"disp_{pair.name}", f"disp_{pair.long_name}"):
            for suffix in _SUFFIXES:
                if (inverses / (stem + suffix)).is_file():
                    return (inverses / (stem + suffix),)
    if pair.fixed.path == pair.moving.path:  # an image registered to itself is not its own opposite
        return ()
    opposite = Pair(pair.moving, pair.fixed, in_full=pair.in_full)
    return find_field(folder, opposite, protocol, storage=storage).files


def read_field(files: Sequence[Path], fixed: Path, moving: Path, *, name: str = "") -> StoredField:
    """The voxel displacements in a pair's files.

    Parameters
    ----------
    files
        One file, or the list of ITK's transforms that make one.
    fixed, moving
        The pair's images, of which only the headers are read.
    name
        The files' format. ``""``: what the challenge calls a field (``disp_…``) and fits the fixed image is
        read as its evaluator reads it, unless its numbers are places and no displacements; anything else
        as what it is for certain.

    Raises
    ------
    InputError
        If a file is damaged, of another shape, not finite, or its format is neither named nor certain.
    """
    if len(files) == 1 and (name in _VOXELS or (not name and _is_official(files[0]))):
        grids = read_grid(fixed), read_grid(moving)
        array = _stored(files[0])
        if name:
            array = unbatched(array, grids[0].shape)
        if name or (array.ndim == 4 and not _are_places(array, *grids)):
            return StoredField(
                _vectors(array, files[0], *grids),
                "npz" if _is_numpy(files[0]) else "challenge",
                point_dtype=np.float32 if files[0].suffix == ".npz" else np.float64,
            )
        places = array.ndim == 4
        del array  # one field in memory at a time
        name = name or _certain(files[0], places=places)
    name = name or formats.guess_input(files).name
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        field = formats.read_between(files, fixed, moving, name=name)
    notes = [f"{files[0].name}: {warning.message}" for warning in caught]
    return StoredField(field.vectors, name, tuple(notes))


def _without_affine(files: Sequence[Path]) -> str:
    """A sentence where antsRegistration has left an affine transform beside a warp that is read alone."""
    head, found, _ = files[0].name.partition("1Warp.nii")
    affine = files[0].with_name(f"{head}0GenericAffine.mat")
    if len(files) > 1 or not found or head.endswith("Inverse") or not affine.is_file():
        return ""
    return (
        f"{files[0].name}: is read without {affine.name} beside it, which antsApplyTransforms would be "
        "given, too; name it with a second --pattern if the images were not aligned by it before"
    )


def _is_numpy(path: Path) -> bool:
    return path.name.lower().endswith((".npz", ".npy"))


def _is_official(path: Path) -> bool:
    """Whether a file's name is the challenge's, so that its evaluator takes it for voxels."""
    return path.name.startswith("disp_") and path.name.lower().endswith((".nii.gz", ".nii", ".npz", ".npy"))


def _stored(path: Path) -> NDArray[Any]:
    return npz.load_array(path) if _is_numpy(path) else read_vectors(path).array


def _are_places(array: NDArray[Any], fixed: Grid, moving: Grid) -> bool:
    """Whether the numbers run along the axes as coordinates do, which displacements do not.

    Between grids of different voxels displacements do, too: there it is not asked.
    """
    if np.linalg.norm(fixed.to(moving)[:3, :3] - np.eye(3), 2) > _LIKE_GRIDS:
        return False
    vectors = array if array.shape[-1] == 3 else np.moveaxis(array, 0, -1)
    if vectors.shape[-1] != 3 or vectors.size == 0:
        return False
    return fit_lines(vectors, fixed if vectors.shape[:3] == fixed.shape else None).system is not None


def _certain(path: Path, *, places: bool) -> str:
    """The format of a file that has the challenge's name and is not the challenge's."""
    try:
        return formats.guess_input([path]).name
    except InputError as error:
        if not places:
            raise
        raise InputError(
            f"{path}: its numbers run along the axes as coordinates do, so they are places and not the "
            "displacements that its name promises; look at it with `iterreg inspect` and name its format "
            "with --from (--from challenge reads it as the evaluator does)"
        ) from error


def _vectors(array: NDArray[Any], path: Path, fixed: Grid, moving: Grid) -> NDArray[Any]:
    """Stored voxels as (X, Y, Z, 3) on the fixed grid, in the precision they are stored in."""
    if array.shape == (3, *(n // 2 for n in fixed.shape)) and _is_numpy(path):
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: holds NaN or infinite displacements; the registration that wrote it failed"
            )
        return npz.from_half(array, fixed, moving).vectors
    # float64 matters: a label half a voxel away rounds to the one side or the other.
    vectors = check_vectors(array, path, fixed.shape, keep_float64=True)
    if vectors.size == 0:
        raise InputError(f"{path}: holds no voxels")
    return vectors
