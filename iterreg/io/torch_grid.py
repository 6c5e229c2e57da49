"""Sampling grids of ``torch.nn.functional.grid_sample``, as numpy arrays.

A grid holds, for each fixed voxel, the **absolute** place in the moving image, components reversed
(the last array axis first) and normalised. For an axis of n moving voxels and the index i = p + u(p)::

    align_corners=True    g = 2 i / (n - 1) - 1      (-1 and 1 are the centres of the outer voxels)
    align_corners=False   g = (2 i + 1) / n - 1      (-1 and 1 are the outer voxels' outer faces)

Source: PyTorch's documentation of grid_sample.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.nifti import check_folder
from iterreg.io.npz import load_array
from iterreg.jobs.atomic import atomic_path
from iterreg.volume import Grid

__all__ = ["from_torch_grid", "read", "to_torch_grid", "write"]


def to_torch_grid(field: DisplacementField, *, align_corners: bool = True) -> NDArray[np.float32]:
    """The (1, X, Y, Z, 3) float32 grid that samples the moving image as the field does.

    Raises
    ------
    InputError
        If `align_corners` is true and a moving axis has one voxel: the convention cannot express it.
    """
    out = np.empty((1, *field.fixed.shape, 3), np.float32)
    for axis, n in enumerate(field.moving.shape):
        view = [1, 1, 1]
        view[axis] = -1
        index = field.vectors[..., axis].astype(np.float64) + np.arange(field.fixed.shape[axis]).reshape(view)
        if align_corners:
            _check_corners(n)
            out[0, ..., 2 - axis] = 2 * index / (n - 1) - 1
        else:
            out[0, ..., 2 - axis] = (2 * index + 1) / n - 1
    return out


def from_torch_grid(
    grid: ArrayLike, fixed: Grid, moving: Grid, *, align_corners: bool = True
) -> DisplacementField:
    """The field of a sampling grid.

    Parameters
    ----------
    grid
        (X, Y, Z, 3) or (1, X, Y, Z, 3), absolute normalised coordinates, last array axis first.

    Raises
    ------
    InputError
        If the shape does not fit the fixed grid or values are not finite.
    """
    array = np.asarray(grid)
    if array.ndim == 5 and array.shape[0] == 1:
        array = array[0]
    if array.shape != (*fixed.shape, 3):
        raise InputError(
            f"a sampling grid of shape {array.shape} does not fit a fixed image of shape {fixed.shape}; "
            f"(1, {', '.join(map(str, fixed.shape))}, 3) is needed"
        )
    if not np.isfinite(array).all():
        raise InputError("the sampling grid holds NaN or infinite values")
    vectors = np.empty((*fixed.shape, 3), np.float32)
    for axis, n in enumerate(moving.shape):
        view = [1, 1, 1]
        view[axis] = -1
        normalised = array[..., 2 - axis].astype(np.float64)
        if align_corners:
            _check_corners(n)
            index = (normalised + 1) * (n - 1) / 2
        else:
            index = ((normalised + 1) * n - 1) / 2
        vectors[..., axis] = index - np.arange(fixed.shape[axis]).reshape(view)
    return DisplacementField(vectors, fixed, moving)


def read(path: str | Path, fixed: Grid, moving: Grid, *, align_corners: bool = True) -> DisplacementField:
    """Read a grid from ``.npy`` or a ``.npz`` of one array.

    Raises
    ------
    InputError
        As `from_torch_grid`, or if the file cannot be read.
    """
    array = load_array(path)
    try:
        return from_torch_grid(array, fixed, moving, align_corners=align_corners)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write(path: str | Path, field: DisplacementField, *, align_corners: bool = True) -> None:
    """Write the (1, X, Y, Z, 3) float32 grid as ``.npy``, atomically.

    Raises
    ------
    InputError
        If the name does not end in ``.npy``, or as `to_torch_grid`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"{path}: a numpy array is written, the name must end in .npy")
    check_folder(path)
    grid = to_torch_grid(field, align_corners=align_corners)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, grid)


def _check_corners(n: int) -> None:
    if n < 2:
        raise InputError(
            "align_corners=True cannot express an axis of one voxel; use align_corners=False for this image"
        )
