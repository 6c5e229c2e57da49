"""What headers and the extent of the foreground tell about a pair: whether engines can work with it.

Nothing here knows an engine. Methods ask these questions for their own limits,
`iterreg.dataset.check` for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iterreg.volume import FloatArray, Grid

__all__ = ["BRAIN_MM", "Foreground", "apart", "is_sheared", "nearest_orthogonal", "of_a_brain", "size_mm"]

BRAIN_MM = (2.0, 500.0)
"""The sizes (cube roots of volumes, in millimetres) that can be a brain's or a head's: a shrew has 5, a
human 118. A file outside of them has its spacing in another unit."""

_SHEAR = 1e-3
"""Deviation of a direction from the nearest orthogonal one above which it is no rounding any more."""


@dataclass(frozen=True, eq=False)
class Foreground:
    """Where an image is not background.

    Attributes
    ----------
    low, high
        (3,) lowest and highest voxel index.
    voxels
        How many they are.
    """

    low: FloatArray
    high: FloatArray
    voxels: int

    @classmethod
    def of(cls, inside: NDArray[np.bool_]) -> Foreground | None:
        """Of an (X, Y, Z) mask; None when nothing is inside."""
        ends = []
        for axis in range(3):
            where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
            if not where.size:
                return None
            ends.append((where[0], where[-1]))
        low, high = np.array(ends, dtype=np.float64).T
        return cls(low, high, int(np.count_nonzero(inside)))

    @classmethod
    def whole(cls, grid: Grid) -> Foreground:
        """All of a grid."""
        return cls(np.zeros(3), np.array(grid.shape, dtype=np.float64) - 1, grid.size)


def size_mm(grid: Grid, voxels: int) -> float:
    """Cube root of the volume of so many voxels, in millimetres."""
    return float((voxels * np.prod(grid.spacing)) ** (1 / 3))


def of_a_brain(grid: Grid, voxels: int) -> str:
    """Why so many voxels cannot be a brain, as the end of a sentence; empty where they can."""
    size = size_mm(grid, voxels)
    if BRAIN_MM[0] <= size <= BRAIN_MM[1]:
        return ""
    spacing = " x ".join(f"{step:.3g}" for step in grid.spacing)
    low, high = BRAIN_MM
    return (
        f"is about {size:.3g} mm across (the cube root of its volume), where a brain has "
        f"{low:g} to {high:g} mm; "
        f"its spacing of {spacing} mm is probably wrong or in another unit: correct its header"
    )


def nearest_orthogonal(grid: Grid) -> tuple[FloatArray, float]:
    """The direction (3, 3) closest to a grid's that has perpendicular axes (polar decomposition).

    Returns
    -------
    direction, deviation
        And by how much the grid's own differs from it, at most.
    """
    direction = grid.affine[:3, :3] / np.asarray(grid.spacing)
    left, _, right = np.linalg.svd(direction)
    orthogonal = left @ right
    return orthogonal, float(np.abs(orthogonal - direction).max())


def is_sheared(grid: Grid) -> bool:
    """Whether a grid's axes are not perpendicular beyond rounding, which ITK's images cannot say."""
    return nearest_orthogonal(grid)[1] > _SHEAR


def apart(
    fixed: Grid, moving: Grid, inside: tuple[Foreground | None, Foreground | None] = (None, None)
) -> bool:
    """Whether two images have no place of the world in common.

    Parameters
    ----------
    inside
        The boxes that count; the whole grids where None.
    """
    boxes = [box or Foreground.whole(grid) for box, grid in zip(inside, (fixed, moving), strict=True)]
    return _misses(fixed, boxes[0], moving, boxes[1]) or _misses(moving, boxes[1], fixed, boxes[0])


def _misses(grid: Grid, box: Foreground, other: Grid, theirs: Foreground) -> bool:
    """Whether the other's box, in voxels of this grid, lies beyond one of this box's faces."""
    corners = np.array(np.meshgrid(*np.stack([theirs.low, theirs.high], axis=1))).reshape(3, -1).T
    mapped = grid.world_to_voxel(other.voxel_to_world(corners))
    return bool((mapped.max(axis=0) < box.low).any() or (mapped.min(axis=0) > box.high).any())
