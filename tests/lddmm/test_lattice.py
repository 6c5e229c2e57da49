"""Interpolation against Keys's definition, lengths in millimetres."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft
from scipy.ndimage import maximum_filter

from iterreg.lddmm.lattice import Interpolation, Lattice, spans_around, whole_rows

Array = np.ndarray

COARSE = Lattice((-3.0, 1.0, 0.0), (2.5, 2.5, 2.5), (8, 9, 10))
FINE = Lattice((-4.2, 0.1, -0.7), (1.1, 3.0, 0.9), (23, 11, 31))
"""Reaches beyond the coarse lattice at both ends of two axes."""


def keys(t: float) -> float:
    """Cubic convolution with a = -1/2 (Keys 1981, eq. 15)."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def axis_matrix(axis: int) -> Array:
    """Weight of each coarse point at each fine one; neighbours beyond the border count for the border."""
    n = COARSE.shape[axis]
    out = np.zeros((FINE.shape[axis], n))
    for row in range(len(out)):
        place = FINE.origin[axis] + FINE.spacing[axis] * row
        where = float(np.clip((place - COARSE.origin[axis]) / COARSE.spacing[axis], 0, n - 1))
        for neighbour in range(-2, n + 2):
            out[row, min(max(neighbour, 0), n - 1)] += keys(where - neighbour)
    return out


def test_interpolation_is_cubic_convolution(rng: np.random.Generator) -> None:
    values = rng.standard_normal((3, *COARSE.shape)).astype(np.float32)
    expected = np.einsum("ia,jb,kc,dabc->ijkd", *map(axis_matrix, range(3)), values)
    np.testing.assert_allclose(Interpolation(COARSE, FINE)(values), expected, rtol=1e-5, atol=1e-5)


def test_interpolation_keeps_the_coarse_points_and_quadratics(rng: np.random.Generator) -> None:
    values = rng.standard_normal((3, *COARSE.shape)).astype(np.float32)
    same = np.moveaxis(Interpolation(COARSE, COARSE)(values), -1, 0)
    np.testing.assert_allclose(same, values, atol=1e-6)
    x = np.arange(COARSE.shape[0])[:, None, None] * np.ones(COARSE.shape)
    inner = Lattice((0.0, 6.0, 5.0), (0.7, 1.0, 1.0), (12, 5, 5))
    got = Interpolation(COARSE, inner)(np.stack([x**2, x, 0 * x]).astype(np.float32))
    where = (np.arange(12) * 0.7 + 3.0) / 2.5
    np.testing.assert_allclose(got[:, 2, 2, 0], where**2, rtol=1e-5)


def test_pooling_is_the_transpose_in_millimetres(rng: np.random.Generator) -> None:
    """``<pool_force(d, J), u> = sum d grad J . u``, the gradient per millimetre of the fine lattice."""
    interpolation = Interpolation(COARSE, FINE, np.float64)
    derivative, image = rng.standard_normal((2, *FINE.shape))
    for axis in range(3):  # where the border's differences do not come in
        derivative[(slice(None),) * axis + ([0, -1],)] = 0
    values = rng.standard_normal((3, *COARSE.shape))
    pooled = interpolation.pool_force([(derivative, image, 1.0)])
    assert pooled.shape == values.shape
    gradient = np.stack(np.gradient(image, *FINE.spacing), axis=-1)
    moved = np.einsum("ia,jb,kc,dabc->ijkd", *map(axis_matrix, range(3)), values)
    expected = (derivative * (gradient * moved).sum(axis=-1)).sum()
    assert (pooled * values).sum() == pytest.approx(expected, rel=1e-10)


def test_warp_samples_where_displaced_points_lie(rng: np.random.Generator) -> None:
    """On an image that is linear in space every sample says where it was taken."""
    slope = np.array([2.0, -1.0, 0.5])
    image = np.moveaxis(np.indices((40, 45, 50)), 0, -1) @ slope
    matrix = np.hstack([np.eye(3) + rng.normal(0, 0.1, (3, 3)), [[9.0], [8.0], [7.0]]])
    values = 0.8 * rng.standard_normal((3, *COARSE.shape))
    out = np.empty(FINE.shape)
    Interpolation(COARSE, FINE, np.float64).warp([image], values, matrix, [out])
    points = np.array(FINE.origin) + np.moveaxis(np.indices(FINE.shape), 0, -1) * FINE.spacing
    moved = points + 2.5 * np.einsum("ia,jb,kc,dabc->ijkd", *map(axis_matrix, range(3)), values)
    places = moved @ matrix[:, :3].T + matrix[:, 3]
    inside = ((places >= 0) & (places <= np.array(image.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(out[inside], (places @ slope)[inside], atol=1e-9)


@pytest.mark.parametrize("high", [(30.0, 41.3, 17.9), (3.0, 3.0, 200.0)])
def test_covering_holds_the_box_and_its_padding(high: tuple[float, float, float]) -> None:
    low = (-2.0, 0.0, 1.5)
    lattice = Lattice.covering(low, high, 3.0, 10.0)
    assert lattice.spacing == (3.0, 3.0, 3.0)
    assert lattice.cell == 27
    for a, b, o, n in zip(low, high, lattice.origin, lattice.shape, strict=True):
        last = o + 3.0 * (n - 1)
        assert o <= a - 10
        assert last >= b + 10
        assert (o + last) / 2 == pytest.approx((a + b) / 2)
        assert n == fft.next_fast_len(n, real=True)


@pytest.mark.parametrize("reach", [(0, 0, 0), (1, 2, 3), (9, 9, 9)])
def test_spans_hold_all_within_reach_and_start_and_end_with_it(
    rng: np.random.Generator, reach: tuple[int, int, int]
) -> None:
    places = rng.random((9, 7, 12)) < 0.02
    spans = spans_around(places, reach)
    near = maximum_filter(places, [2 * r + 1 for r in reach], mode="constant")
    for i, j in np.ndindex(9, 7):
        found = np.flatnonzero(near[i, j])
        first, end = spans[i, j]
        assert (first, end) == ((found[0], found[-1] + 1) if found.size else (0, 0))
    np.testing.assert_array_equal(spans_around(np.ones((3, 2, 5)), reach), whole_rows((3, 2, 5)))
