"""The world as ITK, ANTs and elastix see it: LPS millimetres, where iterreg and NIfTI have RAS+."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iterreg.volume import FloatArray, Grid

__all__ = ["RAS_TO_LPS", "Geometry", "geometry_of", "grid_of", "lps_matrix"]

RAS_TO_LPS: FloatArray = np.array([-1.0, -1.0, 1.0])
"""Signs that take the components of a vector or point from RAS to LPS, and back."""
RAS_TO_LPS.setflags(write=False)

_FLIP: FloatArray = np.diag([*RAS_TO_LPS, 1.0])


def lps_matrix(matrix: ArrayLike) -> FloatArray:
    """A (4, 4) map between LPS points as the same map between RAS points, and back: ``F M F``."""
    return _FLIP @ np.asarray(matrix, dtype=np.float64) @ _FLIP


@dataclass(frozen=True, eq=False)
class Geometry:
    """What an ITK image knows of its place.

    Attributes
    ----------
    origin, spacing
        (3,) float64: LPS millimetres of the first voxel's centre, and voxel sizes.
    direction
        (3, 3) float64, the array axes as columns in LPS.
    """

    origin: FloatArray
    spacing: FloatArray
    direction: FloatArray


def geometry_of(grid: Grid, *, first: ArrayLike = (0, 0, 0)) -> Geometry:
    """Where ITK says a grid, or its part that begins at the voxel `first`, lies."""
    spacing = np.asarray(grid.spacing)
    return Geometry(
        RAS_TO_LPS * grid.voxel_to_world(first),
        spacing,
        RAS_TO_LPS[:, np.newaxis] * (grid.affine[:3, :3] / spacing),
    )


def grid_of(shape: tuple[int, int, int], origin: ArrayLike, spacing: ArrayLike, direction: ArrayLike) -> Grid:
    """The grid of an ITK image.

    Parameters
    ----------
    shape
        Array axes in nibabel's order (ITK's size).
    origin, spacing, direction
        As `Geometry` has them; the direction may be flat, row by row, as ITK gives it.

    Raises
    ------
    InputError
        If they do not make an invertible affine.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return Grid(shape, _FLIP @ affine)
