"""Volumes and the grids they live on.

Axis order everywhere in iterreg is nibabel's: ``array[x, y, z]``, world coordinates are
RAS+ millimetres, and ``affine`` maps homogeneous voxel indices to world coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.nifti_files import open_header, open_whole, refusals

__all__ = [
    "ROUNDING",
    "FloatArray",
    "Grid",
    "Volume",
    "apply_affine",
    "foreground",
    "load_image",
    "load_labels",
    "read_grid",
    "read_nifti",
]

FloatArray = NDArray[np.float64]

_SAME_VOXEL = 1e-4

ROUNDING = 1e-3
"""How far a label value may lie from a whole number and still count as one: scaled files round."""


def apply_affine(matrix: FloatArray, points: ArrayLike) -> FloatArray:
    """Map (..., 3) points by a (4, 4) matrix.

    By einsum: on millions of points nine times faster than BLAS, which is slow on such thin arrays.
    """
    turned = np.einsum("...i,ci->...c", np.asarray(points, dtype=np.float64), matrix[:3, :3])
    return np.asarray(turned + matrix[:3, 3])


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
        If the shape is not three positive whole numbers or the affine is not an invertible (4, 4)
        with the last row (0, 0, 0, 1).
    """

    shape: tuple[int, int, int]
    affine: FloatArray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1 or shape != tuple(self.shape):
            raise InputError(f"a grid needs three positive sizes, got {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("a grid needs a finite (4, 4) affine")
        # Relative to the box its columns span: a scale in metres or micrometres is not an error.
        columns = np.linalg.norm(affine[:3, :3], axis=0)
        if not abs(np.linalg.det(affine[:3, :3])) > 1e-9 * columns.prod():
            raise InputError(
                f"a grid's affine must be invertible, got voxel axes {affine[:3, :3].T.tolist()} mm"
            )
        if not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise InputError(f"a grid's affine must end with the row (0, 0, 0, 1), got {affine[3].tolist()}")
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

    @property
    def corners(self) -> FloatArray:
        """(8, 3) voxel coordinates of the outermost voxels' centres."""
        return np.array(np.meshgrid(*[(0.0, n - 1.0) for n in self.shape])).reshape(3, -1).T

    def voxel_to_world(self, points: ArrayLike) -> FloatArray:
        """Map (..., 3) voxel coordinates to RAS+ millimetres."""
        return apply_affine(self.affine, points)

    def world_to_voxel(self, points: ArrayLike) -> FloatArray:
        """Map (..., 3) RAS+ millimetre coordinates to voxel coordinates."""
        return apply_affine(np.asarray(np.linalg.inv(self.affine), dtype=np.float64), points)

    def matches(self, other: Grid, *, tolerance: float = 1e-3) -> bool:
        """Whether both grids have one shape and place every corner within `tolerance` voxels."""
        if self.shape != other.shape:
            return False
        there = other.world_to_voxel(self.voxel_to_world(self.corners))
        return bool(np.abs(there - self.corners).max() <= tolerance)

    def to(self, other: Grid) -> FloatArray:
        """The (4, 4) matrix from voxels of this grid to voxels of `other` (same world point).

        Whole numbers are restored where rounding (of float32 headers, of the inverse) moves no voxel of
        this grid by more than 1e-4: an image and its mirrored or cropped copy share their voxels, and a
        border voxel at -1e-7 would count as outside.
        """
        matrix = np.asarray(np.linalg.inv(other.affine) @ self.affine, dtype=np.float64)
        whole = np.rint(matrix)
        reach = np.array([*(max(n - 1, 1) for n in self.shape), 1.0])
        return np.where(np.abs(matrix - whole) * reach <= _SAME_VOXEL, whole, matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, tuple(self.affine.ravel().tolist())))

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


def foreground(array: NDArray[Any]) -> NDArray[np.bool_]:
    """(X, Y, Z) voxels that differ from the background: the median of the eight corners' values.

    Where that leaves less than a hundredth of the grid (the corners hold tissue), everything counts.
    """
    inside = np.asarray(array != np.median(array[np.ix_(*[(0, -1)] * 3)]))
    return inside if inside.mean() > 0.01 else np.ones_like(inside)


def read_nifti(path: str | Path) -> tuple[NDArray[Any], Grid]:
    """Read a NIfTI volume whole: its scaled values and its grid.

    A fourth or fifth axis of length one is dropped.

    Returns
    -------
    array, grid
        The array is (X, Y, Z) in native byte order, float32 unless the file stores unscaled integers.

    Raises
    ------
    InputError
        If the file is missing, unreadable, truncated, of an unknown format, not three-dimensional, not
        of one real number per voxel, or without an invertible affine.
    """
    path = Path(path)
    with refusals(path):
        image = open_whole(path)
        raw: NDArray[Any] = np.asanyarray(image.dataobj)
        affine = image.affine
    grid = _grid(path, raw.shape, affine)
    if raw.dtype.kind not in "iubf":
        raise InputError(f"{path}: holds {raw.dtype} values, one real number per voxel is needed")
    # Compiled kernels take the machine's own byte order only.
    dtype = np.dtype(np.float32) if raw.dtype.kind == "f" else raw.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, as where the file says so
        return np.asarray(raw.reshape(grid.shape), dtype=dtype), grid


def read_grid(path: str | Path) -> Grid:
    """Read only the header of a volume: its grid, trailing axes of length one dropped.

    Raises
    ------
    InputError
        If the file is missing, its header cannot be read, or it does not describe a volume in space.
    """
    path = Path(path)
    with refusals(path):
        image = open_header(path)
        return _grid(path, image.shape, image.affine)


def _grid(path: Path, shape: tuple[int, ...], affine: FloatArray | None) -> Grid:
    """The grid a file's header describes, trailing axes of length one dropped."""
    spatial = tuple(shape)
    while len(spatial) > 3 and spatial[-1] == 1:
        spatial = spatial[:-1]
    if len(spatial) != 3 or 0 in spatial:
        raise InputError(
            f"{path}: has shape {shape}, a volume of three dimensions is needed; extract one volume first"
        )
    if affine is None:
        raise InputError(f"{path}: has no spatial header; convert it to NIfTI")
    try:
        return Grid(cast(Any, spatial), affine)
    except InputError as error:
        raise InputError(f"{path}: {error}; repair its sform or qform") from error


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


def load_labels(path: str | Path, *, smallest: bool = False) -> Volume:
    """Load a label volume as int32 (also used for masks and landmark blobs).

    Parameters
    ----------
    smallest
        uint8 instead where it holds every label.

    Raises
    ------
    InputError
        If it cannot be read or holds values that are not, but for rounding, whole numbers of 32 bits.
    """
    array, grid = read_nifti(path)
    if array.dtype.kind == "f":
        whole = np.rint(array)
        with np.errstate(invalid="ignore"):
            rounded = (array == whole) | (np.abs(array - whole) <= ROUNDING)
        if not rounded.all():
            raise InputError(
                f"{path}: {1 - rounded.mean():.2%} of the label values are not whole numbers; it was "
                "probably resampled with linear interpolation, resample it again with nearest neighbour"
            )
        array = whole
    limits = np.iinfo(np.int32)
    low, high = float(array.min()), float(array.max())
    if low < limits.min or high > limits.max:
        raise InputError(
            f"{path}: holds labels from {array.min()} to {array.max()}, they must fit 32 bits; renumber them"
        )
    dtype = np.uint8 if smallest and low >= 0 and high <= np.iinfo(np.uint8).max else np.int32
    return Volume(np.ascontiguousarray(array, dtype=dtype), grid, Path(path))
