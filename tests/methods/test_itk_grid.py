"""Grids as ITK holds them: rounding mended, shear refused, oblique pairs turned upright, nothing moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.methods.base import Task
from iterreg.methods.itk_grid import perpendicular, upright
from iterreg.volume import Grid, Volume

SHAPE = (4, 5, 6)
SPACING = np.array([0.7, 1.2, 2.5])


def oblique(seed: int, mirrored: bool = False) -> Grid:
    turn = Rotation.random(random_state=seed).as_matrix() @ np.diag([-1 if mirrored else 1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = turn * SPACING
    affine[:3, 3] = (10, -20, 30)
    return Grid(SHAPE, affine)


def pair(fixed: Grid, moving: Grid) -> Task:
    f, m = (Volume(np.ones(grid.shape, np.float32), grid, Path(f"{grid!r}.nii")) for grid in (fixed, moving))
    return Task(f, m, scratch=Path(), fixed_mask=f, moving_mask=m)


def test_rounding_is_mended_and_exact_grids_are_kept() -> None:
    exact = oblique(3)
    rounded = exact.affine.copy()
    rounded[:3, :3] += 2e-5 * np.random.default_rng(0).normal(size=(3, 3))
    task = perpendicular(pair(exact, Grid(SHAPE, rounded)))
    assert task.fixed.grid == exact
    direction = task.moving.grid.affine[:3, :3] / task.moving.grid.spacing
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    assert task.moving.grid.matches(Grid(SHAPE, rounded), tolerance=1e-3)
    assert task.moving_mask is not None
    assert task.moving_mask.grid == task.moving.grid


def test_shear_is_refused_with_the_file() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(InputError, match=r"\.nii: its affine shears"):
        perpendicular(pair(Grid(SHAPE), Grid(SHAPE, affine)))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_upright_is_upright_and_moves_no_voxel(seed: int, mirrored: bool) -> None:
    fixed, moving = oblique(seed, mirrored), oblique(100 + seed)
    task = upright(pair(fixed, moving))
    direction = task.fixed.grid.affine[:3, :3] / SPACING
    np.testing.assert_allclose(np.sort(np.abs(direction), axis=0), [[0] * 3, [0] * 3, [1] * 3], atol=1e-12)
    before = DisplacementField.identity(fixed, moving).vectors
    after = DisplacementField.identity(task.fixed.grid, task.moving.grid).vectors
    np.testing.assert_allclose(after, before, atol=1e-4)
    for mask, image in ((task.fixed_mask, task.fixed), (task.moving_mask, task.moving)):
        assert mask is not None
        assert mask.grid == image.grid


def test_upright_leaves_upright_grids_alone() -> None:
    task = pair(Grid(SHAPE, np.diag([-1.0, 2, 1, 1])), oblique(1))
    assert upright(task) is task
