"""The part of a pair of grids that is worth registering: the box around both images' foreground."""

from __future__ import annotations

import numpy as np

from iterreg.methods.ants_engine import Box, whole_box
from iterreg.methods.base import Task
from iterreg.methods.syn_settings import Settings
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["registered_boxes"]


def registered_boxes(task: Task, settings: Settings) -> tuple[Box, Box]:
    """The parts of the fixed and of the moving grid to register.

    Each box holds the foreground of both images: SyN does not move the border of its grid, so that moving
    tissue beyond the fixed brain needs room too.
    """
    if settings.crop_margin_mm is None:
        return whole_box(task.fixed.grid), whole_box(task.moving.grid)
    inner = [_foreground(task.fixed), _foreground(task.moving)]
    shift = np.zeros(3)
    if settings.linear.initialization == "center_of_mass":
        shift = _center_of_mass(task.moving) - _center_of_mass(task.fixed)
    elif settings.linear.initialization == "geometric_center":
        shift = _geometric_center(task.moving.grid) - _geometric_center(task.fixed.grid)
    margin = settings.crop_margin_mm
    fixed = _joint(task.fixed.grid, inner[0], task.moving.grid, inner[1], -shift, margin)
    moving = _joint(task.moving.grid, inner[1], task.fixed.grid, inner[0], shift, margin)
    return fixed, moving


def _foreground(volume: Volume) -> FloatArray:
    """(2, 3) lowest and highest index of the voxels that are not zero.

    The background must be zero for a crop to change nothing: ANTs takes zero beyond an image's border.
    """
    bounds = np.empty((2, 3))
    filled = volume.array != 0
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(filled.any(axis=others))
        bounds[:, axis] = where[0], where[-1]
    return bounds


def _center_of_mass(volume: Volume) -> FloatArray:
    weights = volume.array.astype(np.float64)
    total = weights.sum()
    index = [
        float((weights.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / total)
        for axis, n in enumerate(weights.shape)
    ]
    return volume.grid.voxel_to_world(index)


def _geometric_center(grid: Grid) -> FloatArray:
    return grid.voxel_to_world((np.asarray(grid.shape) - 1) / 2)


def _joint(
    grid: Grid, own: FloatArray, other: Grid, theirs: FloatArray, shift: FloatArray, margin: float
) -> Box:
    mapped = grid.world_to_voxel(other.voxel_to_world(_corners(theirs)) + shift)
    points = np.concatenate([own, mapped])
    room = margin / np.asarray(grid.spacing)
    low = np.maximum(np.floor(points.min(axis=0) - room), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + room) + 1, grid.shape).astype(int)
    # Images that do not overlap in the world: a crop would leave nothing, so keep the image's own foreground.
    low, high = np.minimum(low, own[0].astype(int)), np.maximum(high, own[1].astype(int) + 1)
    (a, c, e), (b, d, f) = low.tolist(), high.tolist()
    return ((a, b), (c, d), (e, f))


def _corners(ends: FloatArray) -> FloatArray:
    """The eight corners (8, 3) of a box given by its (2, 3) ends."""
    return np.array(np.meshgrid(*ends.T)).reshape(3, -1).T
