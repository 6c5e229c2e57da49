"""Displacements and places in RAS+ millimetres (nibabel, nitransforms, DIPY; SPM and NiftyReg build on it).

``u(p) = A_mov^-1 (A_fix p + d(p)) - p``: `iterreg.field.DisplacementField.from_world`. The files of the
format ``ras`` are NIfTI of shape (X, Y, Z, 3) with the fixed image's affine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import check_finite, check_vectors
from iterreg.io.nifti import VECTOR_INTENT, StoredVectors, read_vectors, write_array
from iterreg.io.pointmaps import densify, displacement_map
from iterreg.volume import Grid

__all__ = ["from_displacements", "from_places", "read", "sample_displacements", "write", "write_places"]


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read (X, Y, Z, 3) or (3, X, Y, Z) displacements in RAS+ millimetres; five dimensions are read, too.

    Raises
    ------
    InputError
        As `iterreg.io.challenge.read_field`.
    """
    stored = read_vectors(path)
    if stored.array.ndim == 5:
        return from_displacements(stored, fixed, moving)
    return DisplacementField.from_world(check_vectors(stored.array, path, fixed.shape), fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write (X, Y, Z, 3) float32 displacements in RAS+ millimetres, atomically.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    check_finite(path, field)
    write_array(path, field.to_world().astype(np.float32), field.fixed.affine, intent=VECTOR_INTENT)


def from_displacements(stored: StoredVectors, fixed: Grid, moving: Grid) -> DisplacementField:
    """The field of displacements in RAS+ millimetres on the grid of their own header.

    Raises
    ------
    InputError
        If they are no three-dimensional vectors, not finite, or cover no voxel of the fixed image.
    """
    displacement, grid = _vectors(stored)
    return sample_displacements(displacement, grid, fixed, moving, source=str(stored.path))


def from_places(stored: StoredVectors, fixed: Grid, moving: Grid) -> DisplacementField:
    """The field of places in RAS+ millimetres on the grid of their own header.

    Raises
    ------
    InputError
        As `from_displacements`.
    """
    places, grid = _vectors(stored)
    displacement = np.empty(places.shape, np.float64)
    for x in range(grid.shape[0]):
        rows, columns = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
        index = np.stack([np.full(rows.shape, x), rows, columns], axis=-1)
        displacement[x] = places[x] - grid.voxel_to_world(index)
    return sample_displacements(displacement, grid, fixed, moving, source=str(stored.path))


def write_places(path: str | Path, field: DisplacementField, *, intent: int, intent_name: str) -> None:
    """Write (X, Y, Z, 1, 3) float32 places ``A_mov (p + u(p))`` in RAS+ millimetres, atomically.

    Raises
    ------
    InputError
        As `write`.
    """
    check_finite(path, field)
    places = np.empty((*field.fixed.shape, 1, 3), np.float32)
    for x in range(field.fixed.shape[0]):
        rows, columns = np.meshgrid(*(np.arange(n) for n in field.fixed.shape[1:]), indexing="ij")
        index = np.stack([np.full(rows.shape, x), rows, columns], axis=-1)
        places[x, :, :, 0] = field.moving.voxel_to_world(index + field.vectors[x].astype(np.float64))
    write_array(path, places, field.fixed.affine, intent=intent, intent_name=intent_name)


def sample_displacements(
    displacement: ArrayLike, grid: Grid, fixed: Grid, moving: Grid, *, source: str
) -> DisplacementField:
    """The field of displacements on `grid`, interpolated only where that is not the fixed grid.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3) in RAS+ millimetres.
    source
        The file, for messages.

    Raises
    ------
    InputError
        If `grid` covers no voxel of the fixed image.
    """
    if grid.matches(fixed, tolerance=1e-4):
        return DisplacementField.from_world(displacement, fixed, moving)
    return densify([displacement_map(displacement, grid)], fixed, moving, source=source)


def _vectors(stored: StoredVectors) -> tuple[NDArray[Any], Grid]:
    """(X, Y, Z, 3) of four dimensions, or of five with one of length one, and their grid."""
    array = stored.array
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0, :]
    if array.ndim != 4 or array.shape[3] != 3:
        raise InputError(
            f"{stored.path}: has shape {'x'.join(map(str, stored.array.shape))}; XxYxZx1x3 or XxYxZx3 is "
            "needed"
        )
    if not np.isfinite(array).all():
        raise InputError(
            f"{stored.path}: holds NaN or infinite values; the registration that wrote it failed"
        )
    return array, Grid(cast(Any, array.shape[:3]), stored.affine)
