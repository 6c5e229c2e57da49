"""Opens a field file of which nothing is known yet: its numbers, and the layouts they may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io import itk
from iterreg.io.nifti import VECTOR_INTENT, read_vectors
from iterreg.io.npz import load_array
from iterreg.volume import FloatArray, Grid

__all__ = ["FIELD_SUFFIXES", "as_vectors", "format_of", "layouts", "load_unknown", "voxels"]

_NUMPY = (".npy", ".npz")
FIELD_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", *_NUMPY)
"""How the names of dense field files end."""


def load_unknown(path: Path) -> tuple[NDArray[Any], Grid | None, int]:
    name = path.name.lower()
    if name.endswith(_NUMPY):
        return load_array(path), None, 0
    if name.endswith((".nii", ".nii.gz")):
        stored = read_vectors(path)
        spatial = stored.array.shape[1:4] if stored.array.shape[0] == 3 else stored.array.shape[:3]
        grid = Grid(spatial, stored.affine) if len(spatial) == 3 and min(spatial) > 0 else None
        return stored.array, grid, stored.intent
    displacement, grid = itk.read_warp(path)
    # back to the stored signs, in the layout ITK's NIfTI files have
    return (displacement * [-1, -1, 1])[:, :, :, np.newaxis, :], grid, VECTOR_INTENT


def as_vectors(array: NDArray[Any], path: Path) -> tuple[NDArray[Any], str]:
    shape = array.shape
    if array.ndim == 5 and shape[3:] == (1, 3):
        return array[:, :, :, 0, :], "X x Y x Z x 1 x 3 (ITK's)"
    if array.ndim == 5 and shape[0] == 1 and shape[-1] == 3:
        return array[0], "1 x X x Y x Z x 3 (a batch of one)"
    if array.ndim == 5 and shape[:2] == (1, 3):
        return np.moveaxis(array[0], 0, -1), "1 x 3 x X x Y x Z (a batch of one)"
    if array.ndim == 4 and shape[-1] == 3:
        return array, "X x Y x Z x 3"
    if array.ndim == 4 and shape[0] == 3:
        return np.moveaxis(array, 0, -1), "3 x X x Y x Z"
    raise InputError(
        f"{path}: has shape {'x'.join(map(str, shape))}, which holds no vectors of three components"
    )


def layouts(array: NDArray[Any], shape: tuple[int, int, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every way to see the array as (X, Y, Z, 3) on the fixed grid."""
    try:
        vectors, _ = as_vectors(array, Path())
    except InputError:
        return
    if vectors.shape[:3] == shape:
        yield "", vectors
    if vectors.shape[:3] == shape[::-1]:
        yield "axes z, y, x: ", vectors.transpose(2, 1, 0, 3)
    if tuple(2 * n for n in vectors.shape[:3]) == shape:
        from scipy.ndimage import zoom

        components = [zoom(vectors[..., c].astype(np.float32), 2, order=2) for c in range(3)]
        yield "half resolution: ", np.stack(components, axis=-1)


def format_of(array: NDArray[Any], prefix: str, file_format: str) -> str:
    if prefix == "":
        five = array.ndim == 5 and array.shape[3:] == (1, 3)
        fits = {"challenge": not five, "ras": not five, "itk": five}
        return file_format if fits.get(file_format, True) else ""
    return "npz" if prefix.startswith("half") and file_format == "challenge" else ""


def voxels(shape: tuple[int, ...], step: int) -> FloatArray:
    """(N, 3) indices of every `step`-th voxel along each axis."""
    axes = [np.arange(0, n, step, dtype=np.float64) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
