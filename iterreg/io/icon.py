"""Maps of ICON networks (GradICON, uniGradICON), as numpy arrays.

For each fixed voxel the **place** in the moving image, in [0, 1] between the centres of the outer voxels,
components in the order of the array's axes. For an axis of n moving voxels: ``p + u(p) = phi (n - 1)``.

Source: the identity map of the icon_registration package. There the array often comes from ITK, axes z, y, x.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import check_finite, check_vectors, unbatched
from iterreg.io.nifti import check_folder
from iterreg.io.npz import load_array
from iterreg.jobs.atomic import atomic_path
from iterreg.volume import Grid

__all__ = ["read", "write"]


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read a map from ``.npy`` or a ``.npz`` of one array: (1, 3, X, Y, Z), or components last.

    Raises
    ------
    InputError
        If it cannot be read, does not fit the fixed image, or is not finite.
    """
    phi = check_vectors(unbatched(load_array(path), fixed.shape), path, fixed.shape)
    vectors = np.empty(phi.shape, np.float32)
    for axis, (own, n) in enumerate(zip(_index_along_axes(fixed), moving.shape, strict=True)):
        vectors[..., axis] = phi[..., axis].astype(np.float64) * (n - 1) - own
    return DisplacementField(vectors, fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write the (1, 3, X, Y, Z) float32 map as ``.npy``, atomically.

    Raises
    ------
    InputError
        If the name does not end in ``.npy``, a value is not finite, or a moving axis has one voxel.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"{path}: a numpy array is written, the name must end in .npy")
    check_folder(path)
    check_finite(path, field)
    if min(field.moving.shape) < 2:
        raise InputError(f"{path}: maps in [0, 1] cannot express an axis of one voxel")
    phi = np.empty((1, 3, *field.fixed.shape), np.float32)
    for axis, (own, n) in enumerate(zip(_index_along_axes(field.fixed), field.moving.shape, strict=True)):
        phi[0, axis] = (field.vectors[..., axis].astype(np.float64) + own) / (n - 1)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, phi)


def _index_along_axes(grid: Grid) -> tuple[np.ndarray, ...]:
    return np.ix_(*(np.arange(n) for n in grid.shape))
