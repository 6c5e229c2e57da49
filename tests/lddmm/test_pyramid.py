"""Levels know where their voxels lie in the full image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.lddmm.pyramid import Region, image_levels
from iterreg.volume import Grid, foreground

Array = np.ndarray


@pytest.mark.parametrize("shape", [(32, 32, 32), (37, 29, 41), (30, 31, 17)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (0.7, 2.0, 0.9)])
def test_every_voxel_of_a_level_is_where_it_says(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """Smoothing leaves a linear image as it is, so its values say where they were taken."""
    slope = np.array([1.0, -2.0, 0.5])
    image = np.moveaxis(np.indices(shape), 0, -1) @ slope
    targets = (6.0, 2.5, 1.0, 0.0)
    for target, level in zip(targets, image_levels(image, spacing, targets), strict=True):
        at = level.origin + np.moveaxis(np.indices(level.array.shape), 0, -1) * level.step
        last = np.array(shape) - 1
        reach = 2 * level.step * (level.step > 1) + 1e-6  # of the smoothing, at the border
        inner = ((at >= reach) & (at <= last - reach)).all(axis=-1)
        assert inner.any() or target > 3
        np.testing.assert_allclose(level.array[inner], (at @ slope)[inner], atol=1e-6)
        assert (at >= 0).all()
        assert (at <= last + 1e-9).all()
        expected = [max(1.0, target / s) if target > 1.15 * s else 1.0 for s in spacing]
        np.testing.assert_allclose(level.step, expected)
        matrix = np.hstack([np.eye(3), np.zeros((3, 1))])
        into = level.from_full(matrix)
        np.testing.assert_allclose(at @ into[:, :3].T + into[:, 3], np.moveaxis(
            np.indices(level.array.shape), 0, -1), atol=1e-9)  # fmt: skip


def test_the_finest_level_is_the_image_itself(rng: np.random.Generator) -> None:
    image = rng.standard_normal((9, 8, 7))
    (level,) = image_levels(image, (1.0, 1.0, 1.0), (0.0,))
    assert level.array is image


def test_coarse_levels_do_not_alias(rng: np.random.Generator) -> None:
    """Voxel noise loses most of its strength, what is wider than the spacing keeps it."""
    noise = rng.standard_normal((48, 48, 48))
    wide = gaussian_filter(rng.standard_normal((48, 48, 48)), 6.0)
    wide /= wide.std()
    for image, low, high in ((noise, 0.05, 0.35), (wide, 0.9, 1.1)):
        (level,) = image_levels(image, (1.0, 1.0, 1.0), (4.0,))
        assert low < level.array.std() < high


def test_the_region_holds_both_foregrounds() -> None:
    grid = Grid((40, 50, 60), np.diag([2.0, 1.0, 1.0, 1.0]))
    other = Grid((40, 50, 60), np.array([[0, 1, 0, 3], [1, 0, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    inside = np.zeros((2, 40, 50, 60), bool)
    inside[0, 10:20, 20:30, 20:30] = True
    inside[1, 8:30, 4:20, 21:29] = True  # in the world x 7..22, y 13..34, z 21..28
    region = Region.around(grid, other, (inside[0], inside[1]), 3.0)
    np.testing.assert_allclose(region.low, [4, 10, 17])
    np.testing.assert_allclose(region.high, [42, 37, 32])
    lattice = region.lattice(4.0, grid.spacing)
    assert lattice.spacing == (4.0, 4.0, 4.0)
    ends = np.array(lattice.origin) + 4.0 * (np.array(lattice.shape) - 1)
    assert (np.array(lattice.origin) >= region.low).all()
    assert (ends <= region.high).all()
    np.testing.assert_allclose(np.array(lattice.origin) - region.low, region.high - ends)
    fine = region.lattice(1.0, grid.spacing)
    assert fine.spacing == (2.0, 1.0, 1.0), "never finer than the voxels"
    np.testing.assert_array_equal(np.array(fine.origin) % grid.spacing, 0)


def test_foreground_is_what_differs_from_the_corners() -> None:
    array = np.full((9, 9, 9), 5.0, np.float32)
    array[2:5, 3:6, 4:8] = 0
    array[0, 0, 0] = 80  # one corner may hold something
    found = foreground(array)
    np.testing.assert_array_equal(found, array != 5)
    assert foreground(np.zeros((9, 9, 9), np.float32)).all()
