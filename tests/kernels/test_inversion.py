"""Inversion: what it returns must map back, and what it says of its error must be true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.kernels.inversion import invert
from iterreg.kernels.jacobian import folding

EYE = np.eye(4)[:3].copy()


def forward(deviation: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``A p + d(p)`` at (N, 3) points in float64, by scipy; d is constant beyond its border."""
    d = [
        map_coordinates(deviation[..., c].astype(np.float64), points.T, order=1, mode="nearest")
        for c in range(3)
    ]
    return points @ affine[:, :3].T + affine[:, 3] + np.stack(d, -1)


def grid_points(shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3).astype(np.float64)


def measured(deviation: np.ndarray, affine: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """``|A p + d(p) - q|`` of an inverse, recomputed from what it returned."""
    q = grid_points(displacement.shape[:3])
    p = q + displacement.reshape(-1, 3)
    return np.linalg.norm(forward(deviation, affine, p) - q, axis=1).reshape(displacement.shape[:3])


def inverse_of(affine: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.linalg.inv(np.vstack([affine, [0, 0, 0, 1]]))[:3])


@pytest.mark.parametrize("shape", [(11, 9, 10), (5, 1, 7), (2, 3, 1), (1, 1, 1)])
def test_no_deviation_gives_zero_bits(shape: tuple[int, int, int]) -> None:
    displacement, residual = invert(np.zeros((*shape, 3), np.float32), EYE, EYE, shape, 30, 1e-3)
    assert displacement.dtype == residual.dtype == np.float32
    assert displacement.shape == (*shape, 3)
    assert residual.shape == shape
    assert not displacement.any()
    assert not residual.any()


@pytest.mark.parametrize(("amplitude", "smoothness"), [(0.5, 1.0), (3.0, 2.5), (8.0, 4.0)])
def test_a_smooth_field_is_inverted_to_the_tolerance(
    random_field: Callable[..., np.ndarray], amplitude: float, smoothness: float
) -> None:
    field = random_field((24, 20, 22), amplitude, smoothness)
    displacement, residual = invert(field, EYE, EYE, (24, 20, 22), 30, 1e-3)
    truth = measured(field, EYE, displacement)
    np.testing.assert_allclose(residual, truth, atol=2e-5)
    assert truth.max() < 1.1e-3
    # And the other way round: the inverse of the inverse is the field, away from the border.
    points = grid_points((24, 20, 22))
    moved = points + field.reshape(-1, 3)
    back = moved + np.stack(
        [
            map_coordinates(displacement[..., c].astype(float), moved.T, order=1, mode="nearest")
            for c in range(3)
        ],
        -1,
    )
    inside = ((moved >= 1) & (moved <= np.array([24, 20, 22]) - 2)).all(axis=1)
    error = np.linalg.norm(back - points, axis=1)[inside]
    assert np.mean(error) < 0.1 * amplitude / smoothness


def test_a_tight_tolerance_is_reached(random_field: Callable[..., np.ndarray]) -> None:
    field = random_field((16, 15, 14), 3.0, 2.5)
    _, residual = invert(field, EYE, EYE, (16, 15, 14), 50, 1e-9)
    assert np.percentile(residual, 99) < 1e-9


def test_unequal_grids_with_an_affine_part(
    rng: np.random.Generator, random_field: Callable[..., np.ndarray]
) -> None:
    deviation = random_field((12, 14, 10), 2.0, 2.5)
    affine = np.hstack([np.diag([-1.0, 1.5, 0.8]) + rng.normal(0, 0.1, (3, 3)), [[11.0], [2.0], [-1.0]]])
    displacement, residual = invert(deviation, affine, inverse_of(affine), (11, 17, 9), 30, 1e-3)
    truth = measured(deviation, affine, displacement)
    np.testing.assert_allclose(residual, truth, atol=2e-5)
    assert truth.max() < 1.1e-3


def test_where_the_field_folds_the_residual_says_so(random_field: Callable[..., np.ndarray]) -> None:
    field = random_field((20, 18, 16), 12.0, 1.5)
    displacement, residual = invert(field, EYE, EYE, (20, 18, 16), 30, 1e-3)
    assert np.isfinite(displacement).all()
    np.testing.assert_allclose(residual, measured(field, EYE, displacement), atol=5e-4)
    # Never worse than where it started.
    start = measured(field, EYE, np.zeros_like(displacement))
    assert (residual <= start + 1e-4).all()
    assert np.median(residual) < 1e-3


def test_a_few_folds_do_not_spoil_their_surroundings(random_field: Callable[..., np.ndarray]) -> None:
    """A folding map still reaches every voxel: starting again around a dead end finds the way."""
    field = random_field((40, 42, 44), 6.0, 3.0)
    _, folded, _, _, _ = folding(field, np.ones(field.shape[:3], np.bool_), False)
    assert 0 < folded.sum() < 200, "the case must test what it means to"
    _, residual = invert(field, EYE, EYE, (40, 42, 44), 30, 1e-3)
    assert np.count_nonzero(residual > 1e-3) <= 2


def test_a_collapsed_map_ends_with_an_honest_residual() -> None:
    """Everything is sent to voxel (2, 2, 2): the derivative is zero and there is no inverse."""
    field = np.ascontiguousarray(2 - grid_points((5, 5, 5)).reshape(5, 5, 5, 3), np.float32)
    displacement, residual = invert(field, EYE, EYE, (5, 5, 5), 30, 1e-3)
    assert np.isfinite(displacement).all()
    assert residual[2, 2, 2] == 0
    # Leaving the grid is a way out: beyond the border the deviation is constant and the map moves again.
    np.testing.assert_allclose(residual, measured(field, EYE, displacement), atol=1e-4)


def test_values_that_are_not_finite_show_in_the_residual() -> None:
    field = np.zeros((5, 5, 5, 3), np.float32)
    field[2, 2, 2] = np.nan
    _, residual = invert(field, EYE, EYE, (5, 5, 5), 30, 1e-3)
    assert np.isnan(residual[2, 2, 2])
    assert residual[0, 0, 0] == 0


def test_same_bits_for_any_thread_count(
    random_field: Callable[..., np.ndarray], same_bits: Callable[..., None]
) -> None:
    field = random_field((13, 12, 11), 6.0, 1.5)
    same_bits(lambda: invert(field, EYE, EYE, (9, 14, 11), 30, 1e-3))
