"""Volumes and the grids they live on.

Axis order everywhere in iterreg is nibabel's: ``array[x, y, z]``, world coordinates are
RAS+ millimetres, and ``affine`` maps homogeneous voxel indices to world coordinates.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError

__all__ = ["Grid", "Volume", "load_image", "load_labels", "read_grid", "read_nifti"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular voxel grid in world space.

    Parameters
    ----------
    shape
        Number of voxels along the three array axes (x, y, z).
    affine
        (4, 4) float64, voxel index -> RAS+ world millimetres. Default: identity.

    Raises
    ------
    InputError
        If the shape is not three positive numbers or the affine is not an invertible (4, 4).
    """

    shape: tuple[int, int, int]
    affine: FloatArray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a grid needs three positive sizes, got {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("a grid needs a finite (4, 4) affine")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError("a grid's affine must be invertible")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the array axes, in millimetres."""
        columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(columns[0]), float(columns[1]), float(columns[2]))

    @property
    def orientation(self) -> str:
        """Closest anatomical orientation of the array axes, e.g. ``'RAS'`` or ``'LAS'``."""
        return "".join(cast(Any, nib.aff2axcodes)(self.affine))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def voxel_to_world(self, points: ArrayLike) -> FloatArray:
        """Map (..., 3) voxel coordinates to RAS+ millimetres."""
        return _apply(self.affine, points)

    def world_to_voxel(self, points: ArrayLike) -> FloatArray:
        """Map (..., 3) RAS+ millimetre coordinates to voxel coordinates."""
        return _apply(np.asarray(np.linalg.inv(self.affine), dtype=np.float64), points)

    def matches(self, other: Grid, *, tolerance: float = 1e-3) -> bool:
        """Whether both grids have one shape and place every corner within `tolerance` voxels."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        there = other.world_to_voxel(self.voxel_to_world(corners))
        return bool(np.abs(there - corners).max() <= tolerance)

    def to(self, other: Grid) -> FloatArray:
        """The (4, 4) matrix from voxels of this grid to voxels of `other` (same world point)."""
        if np.array_equal(self.affine, other.affine):
            return np.eye(4)
        return np.linalg.inv(other.affine) @ self.affine

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        return f"Grid({shape}, {spacing} mm, {self.orientation})"


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar 3-D image on a grid.

    Parameters
    ----------
    array
        (X, Y, Z), any real dtype; images are float32, label volumes an integer type.
    grid
        Where the array lies in the world; its shape is the array's.
    path
        The file it came from, for messages.
    """

    array: NDArray[Any]
    grid: Grid
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise InputError(f"array of shape {self.array.shape} on a grid of shape {self.grid.shape}")

    def __repr__(self) -> str:
        size = self.array.nbytes / 2**20
        name = f", {self.path.name}" if self.path else ""
        return f"Volume({self.grid!r}, {self.array.dtype}, {size:.1f} MiB{name})"


def _apply(matrix: FloatArray, points: ArrayLike) -> FloatArray:
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def read_nifti(path: str | Path) -> tuple[NDArray[Any], Grid]:
    """Read a NIfTI volume whole: its scaled values and its grid.

    A fourth or fifth axis of length one is dropped.

    Returns
    -------
    array, grid
        The array is (X, Y, Z), float32 unless the file stores unscaled integers.

    Raises
    ------
    InputError
        If the file is missing, truncated, not NIfTI, or not three-dimensional.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path or the data set's root")
    try:
        image = cast(Any, nib.load(path))
        raw = np.asanyarray(image.dataobj)
        affine = image.affine
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read as NIfTI ({type(error).__name__}: {error}); "
            "the file is truncated or of another format, copy or convert it again"
        ) from error
    if affine is None:
        raise InputError(f"{path}: has no spatial header; convert it to NIfTI")
    while raw.ndim > 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim != 3 or raw.dtype.fields is not None:
        raise InputError(
            f"{path}: has shape {raw.shape}, a volume of three dimensions is needed; extract one volume first"
        )
    array = raw if raw.dtype.kind in "iub" else raw.astype(np.float32, copy=False)
    return np.asarray(array), Grid(cast(Any, array.shape), affine)


def read_grid(path: str | Path) -> Grid:
    """Read only the header of a volume: its grid, trailing axes of length one dropped.

    Raises
    ------
    InputError
        If the file is missing, its header cannot be read, or it is not three-dimensional.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path or the data set's root")
    try:
        image = cast(Any, nib.load(path))
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read as NIfTI ({type(error).__name__}: {error}); copy or convert it again"
        ) from error
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(f"{path}: has shape {shape}, a volume of three dimensions is needed")
    return Grid(cast(Any, shape), image.affine)


def load_image(path: str | Path) -> Volume:
    """Load an intensity image as float32.

    Raises
    ------
    InputError
        If it cannot be read or holds NaN or infinite values.
    """
    array, grid = read_nifti(path)
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite intensities; replace them before registration")
    return Volume(values, grid, Path(path))


def load_labels(path: str | Path) -> Volume:
    """Load a label volume as int32 (also used for masks and landmark blobs).

    Raises
    ------
    InputError
        If it cannot be read or holds values that are not whole numbers.
    """
    array, grid = read_nifti(path)
    if array.dtype.kind not in "iub":
        rounded = np.rint(array)
        if not np.array_equal(rounded, array):
            raise InputError(
                f"{path}: label values are not whole numbers; it was probably resampled with "
                "linear interpolation, resample it again with nearest neighbour"
            )
        array = rounded
    return Volume(np.ascontiguousarray(array, dtype=np.int32), grid, Path(path))
