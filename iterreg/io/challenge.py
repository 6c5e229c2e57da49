"""The challenge's field files: ``disp_<FIX>_<MOV>.nii.gz`` as Learn2Reg and LUMIR read them.

The stored numbers are iterreg's own: voxel displacements on the fixed grid, components in
array-axis order. The official evaluator ignores the header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.nifti import read_vectors, write_array
from iterreg.volume import Grid

__all__ = ["check_finite", "check_vectors", "field_name", "read_field", "unbatched", "write_field"]


def field_name(pair_name: str) -> str:
    """The file name the evaluator looks for, from `iterreg.dataset.base.Pair.name`."""
    return f"disp_{pair_name}.nii.gz"


def write_field(path: str | Path, field: DisplacementField, *, threads: int = 1) -> None:
    """Write (X, Y, Z, 3) float32 voxel displacements with an identity affine, atomically.

    The same field gives the same bytes, with any number of threads; these are for the compression.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    check_finite(path, field)
    write_array(path, field.vectors, np.eye(4), threads=threads)


def check_finite(path: str | Path, field: DisplacementField) -> None:
    """Refuse to write a field that no reader accepts.

    Raises
    ------
    InputError
        If it holds NaN or infinite values.
    """
    if not np.isfinite(field.vectors).all():
        raise InputError(
            f"{path}: the field to write holds NaN or infinite displacements; it was not written"
        )


def read_field(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read a challenge field, (X, Y, Z, 3) or (3, X, Y, Z) voxel displacements; a batch axis is dropped.

    Parameters
    ----------
    path
        A NIfTI file; its header's affine is ignored, as the evaluator ignores it.
    fixed, moving
        The grids of the pair's images: the field lies on `fixed` and points into `moving`.

    Raises
    ------
    InputError
        If the file is missing or truncated, has another shape (ITK's five dimensions included), or
        holds NaN or infinite values.
    """
    stored = read_vectors(path)
    return DisplacementField(
        check_vectors(unbatched(stored.array, fixed.shape), path, fixed.shape), fixed, moving
    )


def check_vectors(
    array: NDArray[Any], path: str | Path, shape: tuple[int, int, int], *, keep_float64: bool = False
) -> NDArray[Any]:
    """Bring a stored array to (X, Y, Z, 3) for a fixed grid of `shape`, or say why it cannot be.

    Parameters
    ----------
    keep_float64
        Leave float64 as it is, as the evaluators do, instead of making it float32.

    Raises
    ------
    InputError
        As `read_field`.
    """
    size = "x".join(map(str, array.shape))
    wanted = "x".join(map(str, shape))
    if array.ndim == 5:
        raise InputError(
            f"{path}: has shape {size}, five dimensions as ANTs, ITK, NiftyReg or SPM write millimetres, "
            "which the challenge's evaluator rejects; see with `iterreg inspect` which it is, and turn it "
            "into voxels with `iterreg convert`"
        )
    if array.shape == (*shape, 3):
        vectors = array
    elif array.shape == (3, *shape):
        vectors = np.moveaxis(array, 0, -1)
    else:
        raise InputError(
            f"{path}: has shape {size}, but the fixed image is {wanted}: {wanted}x3 or 3x{wanted} is needed; "
            "check that field and fixed image belong together" + _hint(array.shape, shape)
        )
    dtype = np.float64 if keep_float64 and array.dtype == np.float64 else np.float32
    vectors = _contiguous(vectors.astype(dtype, copy=False))
    finite = np.isfinite(vectors)
    if not finite.all():
        count = int(np.count_nonzero(~finite.all(axis=-1)))
        raise InputError(
            f"{path}: holds NaN or infinite displacements in {count} voxels; the registration that wrote it "
            "failed there, run it again"
        )
    return vectors


def unbatched(array: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """The array without the batch axis of length one that networks put first.

    A field on a grid of `shape` whose first axis has one voxel, (1, Y, Z, 3), keeps it.
    """
    return array[0] if array.ndim == 5 and array.shape[0] == 1 and array.shape != (*shape, 1, 3) else array


def _contiguous(vectors: NDArray[Any]) -> NDArray[Any]:
    """The same vectors with their components fastest in memory; NIfTI files have them slowest."""
    planes = vectors.T
    if planes.flags.c_contiguous and not vectors.flags.c_contiguous:
        from iterreg.kernels.layout import components_last

        return components_last(planes)
    return np.ascontiguousarray(vectors)


def _hint(found: tuple[int, ...], shape: tuple[int, int, int]) -> str:
    """What a wrong shape usually means."""
    if 3 in found and len(found) == 4:
        spatial = tuple(found[:3] if found[-1] == 3 else found[1:])
        if spatial == shape[::-1]:
            return "; the axes are reversed, as in an array taken from SimpleITK"
        if spatial == tuple(n // 2 for n in shape):
            return (
                "; it has half the resolution: `iterreg convert --from npz` upsamples half-resolution fields"
            )
    return ""
