"""Brings a pair onto grids that engines built on ITK can work with: perpendicular, upright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from iterreg.dataset.suitability import is_sheared, nearest_orthogonal
from iterreg.errors import InputError
from iterreg.methods.base import Task
from iterreg.volume import Grid, Volume

__all__ = ["perpendicular", "shear", "upright"]

_OBLIQUE = 1e-3
"""Deviation of a direction from the world's axes above which a grid counts as oblique."""
_ROUNDING = 1e-7
"""Deviation below which there is nothing to mend, so that exact affines stay exact."""


def perpendicular(task: Task) -> Task:
    """The task with every volume on a grid that ITK can hold.

    Rounding in a file's header is mended: the direction becomes the nearest orthogonal matrix (polar
    decomposition). Voxel displacements computed with these grids stay true, whatever is wrong with the world.

    Raises
    ------
    InputError
        If the axes of a volume are not perpendicular beyond rounding.
    """
    return replace(
        task,
        fixed=_mended(task.fixed, "the fixed image"),
        moving=_mended(task.moving, "the moving image"),
        fixed_mask=task.fixed_mask and _mended(task.fixed_mask, "the fixed mask"),
        moving_mask=task.moving_mask and _mended(task.moving_mask, "the moving mask"),
    )


def upright(task: Task) -> Task:
    """The task in a world turned until the fixed grid's axes are the world's; itself where they are already.

    elastix draws samples under a mask from the mask's bounding box, which it takes along the world's axes:
    on an oblique grid nearly all of them miss the mask and it gives up. Voxel displacements are the same in
    both worlds.
    """
    from scipy.optimize import linear_sum_assignment  # not needed before a job runs

    direction = task.fixed.grid.affine[:3, :3] / np.asarray(task.fixed.grid.spacing)
    chosen = linear_sum_assignment(-np.abs(direction))  # a world axis of its own for every array axis
    nearest = np.zeros((3, 3))
    nearest[chosen] = np.where(direction[chosen] < 0, -1.0, 1.0)
    if np.abs(direction - nearest).max() < _OBLIQUE:
        return task
    turn = np.eye(4)
    turn[:3, :3] = nearest @ direction.T

    def turned(volume: Volume) -> Volume:
        return Volume(volume.array, Grid(volume.grid.shape, turn @ volume.grid.affine), volume.path)

    return replace(
        task,
        fixed=turned(task.fixed),
        moving=turned(task.moving),
        fixed_mask=task.fixed_mask and turned(task.fixed_mask),
        moving_mask=task.moving_mask and turned(task.moving_mask),
    )


def _mended(volume: Volume, what: str) -> Volume:
    sentence = shear(volume.grid)
    if sentence:
        raise InputError(f"{volume.path or what}: {sentence}")
    orthogonal, deviation = nearest_orthogonal(volume.grid)
    if deviation <= _ROUNDING:
        return volume
    affine = volume.grid.affine.copy()
    affine[:3, :3] = orthogonal * np.asarray(volume.grid.spacing)
    return Volume(volume.array, Grid(volume.grid.shape, affine), volume.path)


def shear(grid: Grid) -> str:
    """Why ITK cannot hold a grid, as the end of a sentence; empty where it can."""
    if not is_sheared(grid):
        return ""
    return (
        "its affine shears (the axes are not perpendicular), which ITK cannot hold; "
        "resample it onto a grid with perpendicular axes first, or use lddmm"
    )
