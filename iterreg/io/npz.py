"""Learn2Reg's ``.npz`` fields: half-resolution float16, 3 x X/2 x Y/2 x Z/2.

Values are voxels of the **full** grid; only the sampling is halved. Evaluators read them by
``scipy.ndimage.zoom(component, 2, order=2)``, whose first and last samples lie on the grid's corners
(so sample k lies at full voxel ``k (n - 1) / (n/2 - 1)``, not at 2 k).

Source of the rule: ``--scale`` of L2R_LUMIR_Eval/digital_diffeomorphism.py in JHU-MedImage-Reg/LUMIR_L2R.
The present Learn2Reg evaluator (MDL-UzL/L2R) reads full-size arrays from ``.npz`` unscaled; so does `read`.
"""

from __future__ import annotations

import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import check_vectors
from iterreg.io.nifti import check_folder
from iterreg.jobs.atomic import atomic_path
from iterreg.volume import FloatArray, Grid

__all__ = ["from_half", "load_array", "read", "to_half", "write", "write_full"]


def from_half(half: ArrayLike, fixed: Grid, moving: Grid) -> DisplacementField:
    """Upsample (3, X/2, Y/2, Z/2) full-grid voxel displacements as the evaluators do.

    Raises
    ------
    InputError
        If the shape is not half the fixed grid's.
    """
    from scipy.ndimage import zoom

    array = np.asarray(half, dtype=np.float32)
    if tuple(2 * n for n in array.shape[1:]) != fixed.shape or array.shape[0] != 3:
        raise InputError(
            f"a half-resolution field of shape {array.shape} does not fit a fixed image of shape "
            f"{fixed.shape}; (3, X/2, Y/2, Z/2) is needed, with even X, Y, Z"
        )
    vectors = np.stack([zoom(component, 2, order=2) for component in array], axis=-1)
    return DisplacementField(vectors, fixed, moving)


def to_half(field: DisplacementField) -> NDArray[np.float16]:
    """The (3, X/2, Y/2, Z/2) float16 array that reads back closest to `field` (least squares).

    Raises
    ------
    InputError
        If an axis of the fixed grid is odd or shorter than four voxels, or a value exceeds float16.
    """
    shape = field.fixed.shape
    if any(n % 2 or n < 4 for n in shape):
        raise InputError(
            f"half-resolution fields need even sizes of at least four voxels, the fixed image is {shape}; "
            "write the full field instead (challenge format)"
        )
    half: NDArray[Any] = np.moveaxis(field.vectors, -1, 0).astype(np.float64)
    for axis, n in enumerate(shape, start=1):
        half = np.moveaxis(np.tensordot(_downsampling(n // 2), half, axes=(1, axis)), 0, axis)
    if np.abs(half).max() > np.finfo(np.float16).max:
        raise InputError("the field holds displacements beyond float16's range; write the challenge format")
    return half.astype(np.float16)


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read a ``.npz`` field of one array: half-resolution, or full (X, Y, Z, 3) or (3, X, Y, Z).

    Raises
    ------
    InputError
        If it cannot be read, holds several arrays, has another shape, or is not finite.
    """
    array = load_array(path)
    if array.ndim == 4 and array.shape == (3, *(n // 2 for n in fixed.shape)):
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: holds NaN or infinite displacements; the registration that wrote it failed"
            )
        return from_half(array, fixed, moving)
    return DisplacementField(check_vectors(array, path, fixed.shape), fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write the half-resolution float16 form, atomically, as the single array ``arr_0``.

    Raises
    ------
    InputError
        As `to_half`, or if the name does not end in ``.npz``.
    """
    _save(path, to_half(field))


def write_full(path: str | Path, field: DisplacementField) -> None:
    """Write (X, Y, Z, 3) float32 at full resolution, the form the present evaluator takes unscaled."""
    _save(path, field.vectors)


def load_array(path: str | Path) -> NDArray[Any]:
    """The one array of a ``.npz`` or ``.npy`` file.

    Raises
    ------
    InputError
        If it is missing, truncated, holds several arrays or something that is not real numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                array = loaded
            else:
                names = list(loaded.files)
                if len(names) != 1:
                    raise InputError(f"{path}: holds the arrays {', '.join(names) or 'none'}; one is needed")
                array = loaded[names[0]]
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read as a numpy file ({type(error).__name__}: {error}); "
            "write or copy it again"
        ) from error
    if array.dtype.kind not in "iubf":
        raise InputError(f"{path}: holds {array.dtype} values, real numbers are needed")
    return array


@cache
def _downsampling(n: int) -> FloatArray:
    """(n, 2n): the pseudo-inverse of zoom by 2, which is linear and works along one axis at a time."""
    from scipy.ndimage import zoom

    upsampling = np.stack([zoom(row, 2, order=2) for row in np.eye(n)], axis=1)
    return np.asarray(np.linalg.pinv(upsampling))


def _save(path: str | Path, array: NDArray[Any]) -> None:
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path}: a numpy archive is written, the name must end in .npz")
    check_folder(path)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, array)
