"""Landmark errors against the definition, blob by blob."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from iterreg.errors import InputError
from iterreg.evaluation.landmarks import centroids, landmark_errors, mean_error, vanished
from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume


def test_centroids_are_centres_of_mass(rng: np.random.Generator) -> None:
    blobs = rng.integers(0, 6, (7, 8, 9)).astype(np.int16) * 11
    found = centroids(blobs)
    assert list(found) == [11, 22, 33, 44, 55]
    for name, point in found.items():
        np.testing.assert_allclose(point, center_of_mass(blobs == name))


def test_errors_by_hand() -> None:
    fixed = np.zeros((9, 9, 9), np.int32)
    fixed[1:4, 1:4, 1:4] = 5
    fixed[6, 6, 6] = 900
    fixed[8, 0, 0] = 2
    warped = np.zeros_like(fixed)
    warped[2:5, 1:4, 1:4] = 5
    warped[6, 3, 2] = 900
    warped[0, 0, 0] = 77  # no fixed landmark: it does not count
    errors = landmark_errors(fixed, warped)
    assert list(errors) == [2, 5, 900]
    assert np.isnan(errors[2])
    assert errors[5] == pytest.approx(1)
    assert errors[900] == pytest.approx(5)
    assert vanished(errors) == (2,)
    assert np.isnan(mean_error(errors)), "a vanished landmark poisons the official mean"
    scaled = landmark_errors(fixed, warped, spacing=(2, 1, 0.5))
    assert scaled[5] == pytest.approx(2)
    assert scaled[900] == pytest.approx(np.hypot(3, 2))
    assert mean_error({1: 1.0, 2: 2.0}) == 1.5
    assert np.isnan(mean_error({}))


def test_a_known_shift_is_measured() -> None:
    """Blobs moved by whole voxels and brought back by the field that says so have no error."""
    grid = Grid((12, 12, 12))
    fixed = np.zeros(grid.shape, np.int32)
    moving = np.zeros(grid.shape, np.int32)
    for name, (x, y, z) in {1: (3, 4, 5), 2: (7, 3, 6)}.items():
        fixed[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = name
        moving[x + 1 : x + 4, y - 2 : y + 1, z - 1 : z + 2] = name
    assert landmark_errors(fixed, moving) == {1: pytest.approx(np.sqrt(5)), 2: pytest.approx(np.sqrt(5))}
    vectors = np.broadcast_to(np.array([2, -1, 0], np.float32), (*grid.shape, 3))
    warped = DisplacementField(vectors, grid, grid).warp_labels(Volume(moving, grid))
    assert landmark_errors(fixed, warped.array) == {1: 0, 2: 0}


def test_no_landmarks_and_refusals() -> None:
    empty = np.zeros((3, 3, 3), np.int32)
    assert centroids(empty) == {}
    assert landmark_errors(empty, empty) == {}
    with pytest.raises(InputError, match="shape"):
        landmark_errors(empty, np.zeros((3, 3, 4), np.int32))
    with pytest.raises(InputError, match="integer"):
        centroids(np.zeros((3, 3, 3)))
