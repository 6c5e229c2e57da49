"""Where a volume is cut, and how the cut is laid on a page: three anatomical planes, radiological sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from iterreg.field import DisplacementField
from iterreg.volume import Grid

Range = tuple[int, int]
"""First voxel, and the one behind the last."""

__all__ = ["Plane", "Slab", "oblique_degrees", "planes", "spread"]

_PLANES = (
    # name, world axis cut, world axis and letters along columns (left, right), along rows (top, bottom)
    ("axial", 2, 0, "RL", 1, "AP"),
    ("coronal", 1, 0, "RL", 2, "SI"),
    ("sagittal", 0, 1, "AP", 2, "SI"),
)
"""As radiologists look: the subject's right at the left of the page, front or top up."""

_POSITIVE = {0: "R", 1: "A", 2: "S"}


@dataclass(frozen=True)
class Plane:
    """A slice of a volume along its array axes, named after the closest anatomical plane.

    Attributes
    ----------
    name
        ``"axial"``, ``"coronal"`` or ``"sagittal"``.
    axis, index
        The array axis that is cut, and at which voxel.
    columns, rows
        The array axes that run across and down the page.
    flip_columns, flip_rows
        Whether they run against the array.
    left, right, top, bottom
        The anatomical direction at each side: R, L, A, P, S or I.
    row_range, column_range
        The voxels that are shown along those axes, first and behind the last.
    width, height
        Of what is shown, in millimetres.
    """

    name: str
    axis: int
    index: int
    columns: int
    rows: int
    flip_columns: bool
    flip_rows: bool
    left: str
    right: str
    top: str
    bottom: str
    row_range: Range
    column_range: Range
    width: float
    height: float

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) in voxels."""
        return self.row_range[1] - self.row_range[0], self.column_range[1] - self.column_range[0]

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of (X, Y, Z, …) as (rows, columns, …), first row at the top; a view."""
        return self.lay(np.take(array, self.index, axis=self.axis))

    def lay(self, slice_: NDArray[Any]) -> NDArray[Any]:
        """A slice with the two other array axes in their order, as (rows, columns, …) of the page."""
        page = slice_ if self.rows < self.columns else np.swapaxes(slice_, 0, 1)
        page = page[slice(*self.row_range), slice(*self.column_range)]
        if self.flip_rows:
            page = page[::-1]
        return page[:, ::-1] if self.flip_columns else page

    def across(self, voxel: tuple[int, int, int]) -> tuple[float, float]:
        """Where a voxel's centre lies on the page: millimetres from the left, from the top."""
        found = []
        for axis, flip, extent, (start, stop) in (
            (self.columns, self.flip_columns, self.width, self.column_range),
            (self.rows, self.flip_rows, self.height, self.row_range),
        ):
            place = voxel[axis] + 0.5
            found.append((stop - place if flip else place - start) * extent / (stop - start))
        return found[0], found[1]


def planes(
    grid: Grid, at: tuple[int, int, int], shown: Sequence[Range] | None = None
) -> tuple[Plane, Plane, Plane]:
    """The axial, coronal and sagittal plane through a voxel.

    Parameters
    ----------
    shown
        Of each array axis the voxels to show; None: all.

    Array axes are cut as they are stored; each plane is named after the anatomical axis closest to the one
    that it cuts across. In an oblique volume it is tilted by up to `oblique_degrees`.
    """
    closest = _closest(grid)
    ranges = shown or [(0, n) for n in grid.shape]
    by_world = {int(world): axis for axis, (world, _) in enumerate(closest)}
    found = []
    for name, cut, across, sides, down, ends in _PLANES:
        columns, rows, axis = by_world[across], by_world[down], by_world[cut]
        # The page begins with the first letter: against the array where the array ends with it.
        flip_columns = (closest[columns, 1] > 0) == (_POSITIVE[across] == sides[0])
        flip_rows = (closest[rows, 1] > 0) == (_POSITIVE[down] == ends[0])
        found.append(
            Plane(
                name=name,
                axis=axis,
                index=at[axis],
                columns=columns,
                rows=rows,
                flip_columns=bool(flip_columns),
                flip_rows=bool(flip_rows),
                left=sides[0],
                right=sides[1],
                top=ends[0],
                bottom=ends[1],
                row_range=ranges[rows],
                column_range=ranges[columns],
                width=(ranges[columns][1] - ranges[columns][0]) * grid.spacing[columns],
                height=(ranges[rows][1] - ranges[rows][0]) * grid.spacing[rows],
            )
        )
    return found[0], found[1], found[2]


def spread(at: tuple[int, int, int], shown: Sequence[Range], rows: int) -> list[tuple[int, int, int]]:
    """Voxels for several rows of planes: one is `at`, the others lie evenly on both sides of it.

    Parameters
    ----------
    at
        The voxel of the middle row.
    shown
        Of each array axis the voxels that are shown: rows keep within them.
    rows
        An odd number.
    """
    half = rows // 2
    along = []
    for middle, (start, stop) in zip(at, shown, strict=True):
        before = [middle - (middle - start) * k // (half + 1) for k in range(half, 0, -1)]
        after = [middle + (stop - 1 - middle) * k // (half + 1) for k in range(1, half + 1)]
        along.append([*before, middle, *after])
    return [(along[0][k], along[1][k], along[2][k]) for k in range(rows)]


def oblique_degrees(grid: Grid) -> float:
    """The largest angle between an array axis and the anatomical axis it is named after."""
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    closest = _closest(grid)
    cosines = [abs(axes[int(world), axis]) for axis, (world, _) in enumerate(closest)]
    return float(np.degrees(np.arccos(np.clip(min(cosines), 0, 1))))


def _closest(grid: Grid) -> NDArray[np.float64]:
    """(3, 2): of each array axis the closest world axis, and 1 or -1, whether it runs along it."""
    return cast(NDArray[np.float64], cast(Any, nib).io_orientation(grid.affine))


@dataclass(frozen=True, eq=False)
class Slab:
    """A field on a few voxels around a plane: enough for its slice of every picture.

    Attributes
    ----------
    plane
        The plane.
    field
        On the slab's own grid, which has one voxel on each side of the plane where the volume has.
    middle
        The plane's index within the slab.
    """

    plane: Plane
    field: DisplacementField
    middle: int

    @classmethod
    def of(cls, vectors: NDArray[Any], fixed: Grid, moving: Grid, plane: Plane) -> Slab:
        """Cut it from a whole field.

        Parameters
        ----------
        vectors
            (X, Y, Z, 3) voxel displacements on the fixed grid.
        """
        start, stop = max(plane.index - 1, 0), min(plane.index + 2, fixed.shape[plane.axis])
        part: list[slice] = [slice(None)] * 3
        part[plane.axis] = slice(start, stop)
        shape = list(fixed.shape)
        shape[plane.axis] = stop - start
        affine = fixed.affine.copy()
        affine[:3, 3] += start * affine[:3, plane.axis]
        # p' = p - start on the slab's grid, and p' + u' = p + u still points into the moving array.
        moved = np.array(vectors[tuple(part)], dtype=np.float32)
        moved[..., plane.axis] += start
        grid = Grid((shape[0], shape[1], shape[2]), affine)
        return cls(plane, DisplacementField(moved, grid, moving), plane.index - start)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The plane's slice of something on the slab's grid, laid for the page."""
        return self.plane.lay(np.take(array, self.middle, axis=self.plane.axis))
