"""The world by ITK's conventions, against ITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from iterreg.io.lps import geometry_of, grid_of, lps_matrix
from iterreg.volume import Grid


def oblique(seed: int) -> Grid:
    turn = Rotation.random(random_state=seed).as_matrix() @ np.diag([-1 if seed % 2 else 1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.7, 1.2, 2.5)
    affine[:3, 3] = (10, -20, 30)
    return Grid((4, 5, 6), affine)


@pytest.mark.parametrize("seed", range(4))
def test_a_part_of_a_grid_lies_where_itk_says(seed: int) -> None:
    grid = oblique(seed)
    place = geometry_of(grid, first=(1, 2, 3))
    image = sitk.Image(3, 3, 3, sitk.sitkUInt8)
    image.SetOrigin(place.origin.tolist())
    image.SetSpacing(place.spacing.tolist())
    image.SetDirection(place.direction.ravel().tolist())
    there = np.array(image.TransformContinuousIndexToPhysicalPoint((0.5, 1.0, -2.0)))
    np.testing.assert_allclose(there * (-1, -1, 1), grid.voxel_to_world((1.5, 3.0, 1.0)), atol=1e-9)
    back = grid_of((3, 3, 3), image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    np.testing.assert_allclose(back.voxel_to_world((0.5, 1.0, -2.0)), there * (-1, -1, 1), atol=1e-9)


def test_a_map_between_lps_points_is_turned_into_ras() -> None:
    matrix = np.vstack([np.random.default_rng(1).normal(size=(3, 4)), [0, 0, 0, 1]])
    point = np.array([1.0, 2, 3, 1])
    flip = np.array([-1, -1, 1, 1])
    np.testing.assert_allclose(lps_matrix(matrix) @ point, flip * (matrix @ (flip * point)))
