"""Opens a field file of which nothing is known yet: its numbers, and the layouts they may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io import itk
from iterreg.io.nifti import DISPLACEMENT_INTENT, VECTOR_INTENT, StoredVectors, read_vectors
from iterreg.io.npz import load_array
from iterreg.itk_files import ITK_SUFFIXES as ITK_IMAGES
from iterreg.volume import FloatArray, Grid

__all__ = [
    "FIELD_SUFFIXES",
    "ITK_IMAGES",
    "Unknown",
    "as_vectors",
    "format_of",
    "layouts",
    "load_unknown",
    "voxels",
]

_NIFTI = (".nii", ".nii.gz")
_NUMPY = (".npy", ".npz")
FIELD_SUFFIXES = (*_NIFTI, *ITK_IMAGES, *_NUMPY)
"""How the names of dense field files end."""


@dataclass(frozen=True, eq=False)
class Unknown:
    """A dense field whose convention is not known.

    Attributes
    ----------
    path
        The file.
    array
        As stored; a MetaImage or NRRD as ITK would store it in NIfTI.
    grid
        The header's, None for numpy files.
    stored
        With its header, for NIfTI files.
    """

    path: Path
    array: NDArray[Any]
    grid: Grid | None
    stored: StoredVectors | None

    @property
    def intent(self) -> int:
        """NIfTI's intent code; ITK's own for its own files."""
        if self.stored is not None:
            return self.stored.intent
        return 0 if self.grid is None else VECTOR_INTENT


def load_unknown(path: Path) -> Unknown:
    """Read a dense field as it is.

    Raises
    ------
    InputError
        If it cannot be read or holds no vectors of three components.
    """
    name = path.name.lower()
    if name.endswith(_NUMPY):
        return Unknown(path, load_array(path), None, None)
    if name.endswith(_NIFTI):
        stored = read_vectors(path)
        vectors, _ = as_vectors(stored.array, path)
        return Unknown(path, stored.array, Grid(cast(Any, vectors.shape[:3]), stored.affine), stored)
    displacement, grid = itk.read_warp(path)
    # back to the stored signs, in the layout ITK's NIfTI files have
    return Unknown(path, (displacement * [-1, -1, 1])[:, :, :, np.newaxis, :], grid, None)


def as_vectors(array: NDArray[Any], path: Path) -> tuple[NDArray[Any], str]:
    """The array as (X, Y, Z, 3), and its layout in words.

    Raises
    ------
    InputError
        If it holds no vectors of three components.
    """
    shape = array.shape
    if array.ndim == 5 and shape[3:] == (1, 3):
        return array[:, :, :, 0, :], "X x Y x Z x 1 x 3"
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


def format_of(unknown: Unknown, prefix: str, file_format: str) -> str:
    """The format whose reader takes the file as it is and reads it so, ``""`` where there is none.

    Parameters
    ----------
    prefix
        Of the layout, as `layouts` gives it: a rearranged one is no format.
    file_format
        The one whose numbers mean this.
    """
    name, array = unknown.path.name.lower(), unknown.array
    if name.endswith(_NUMPY):
        if file_format == "challenge":
            return "npz" if prefix == "" or prefix.startswith("half") else ""
        components_last = array.shape[-1] == 3
        fits = file_format == "icon" or (file_format.startswith("torch") and components_last)
        return file_format if fits and prefix == "" else ""
    if prefix != "":
        return ""
    five = array.ndim == 5 and array.shape[3:] == (1, 3)
    by_itk = five and unknown.intent != DISPLACEMENT_INTENT  # there ITK turns the numbers round
    if not name.endswith(_NIFTI):
        return file_format if file_format == "itk" else ""
    fitting = {
        "challenge": not five,
        "itk": by_itk,
        "ras": five or array.ndim == 4,
        "spm": five or array.shape[-1] == 3,
        "fsl": array.ndim == 4,
        "fsl-absolute": array.ndim == 4,
    }
    return file_format if fitting.get(file_format, False) else ""


def voxels(shape: tuple[int, ...], step: int) -> FloatArray:
    """(N, 3) indices of every `step`-th voxel along each axis."""
    axes = [np.arange(0, n, step, dtype=np.float64) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
