"""Local correlation against loops over its definition, and its derivatives against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.kernels.lncc import lncc_backward, lncc_forward
from iterreg.lddmm.lattice import spans_around, whole_rows

Array = np.ndarray
Triple = tuple[int, int, int]

EPSILON = 1e-3
CASES = [
    ((7, 9, 5), (1, 1, 1)),
    ((19, 6, 11), (2, 1, 3)),
    ((97, 5, 4), (3, 2, 1)),
    ((3, 70, 4), (1, 2, 1)),
    ((3, 2, 5), (2, 3, 4)),  # windows larger than the image
    ((1, 6, 7), (1, 2, 2)),
]
"""Shapes (tiles have 48 planes and 32 rows) and radii."""


def window_means(image: Array, radius: Triple) -> Array:
    """Means over boxes, the image being zero beyond its border."""
    padded = np.pad(image.astype(np.float64), [(r, r) for r in radius])
    out = np.empty(image.shape)
    for p in np.ndindex(image.shape):
        out[p] = padded[tuple(slice(i, i + 2 * r + 1) for i, r in zip(p, radius, strict=True))].mean()
    return out


def agreement_twin(first: Array, second: Array, weight: Array, radius: Triple, power: int) -> float:
    f, s = first.astype(np.float64), second.astype(np.float64)
    mf, ms = window_means(f, radius), window_means(s, radius)
    covariance = window_means(f * s, radius) - mf * ms
    variances = [window_means(x * x, radius) - m * m + EPSILON for x, m in ((f, mf), (s, ms))]
    return float((weight * (covariance**2 / (variances[0] * variances[1])) ** power).sum())


def evaluate(
    first: Array, second: Array, weight: Array, radius: Triple, power: int, spans: Array | None = None
) -> tuple[float, Array, Array]:
    """Value and its derivatives by the first and by the second image, nan where they were not written."""
    spans = whole_rows(first.shape) if spans is None else spans
    a, b, c, d, e, by_first, by_second = (np.full_like(first, np.nan) for _ in range(7))
    parts = lncc_forward(first, second, weight, spans, radius, EPSILON, power, a, b, c, d, e, True)
    lncc_backward(first, second, a, b, c, d, e, spans, radius, 1.0, by_second, by_first, True)
    return float(parts.sum()), by_first, by_second


def images(rng: np.random.Generator, shape: Triple, dtype: Any) -> tuple[Array, Array, Array]:
    """Two related images of unit variance with a constant corner, and a weight."""
    first = rng.standard_normal(shape)
    second = 0.6 * first**2 + 0.5 * rng.standard_normal(shape)
    corner = tuple(slice(0, (n + 1) // 2) for n in shape)
    first[corner] = 1.5
    second[corner] = -0.5
    weight = rng.random(shape)
    return first.astype(dtype), second.astype(dtype), weight.astype(dtype)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("shape", "radius"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-5)])
def test_value_equals_its_twin(
    rng: np.random.Generator, shape: Triple, radius: Triple, power: int, dtype: Any, tolerance: float
) -> None:
    first, second, weight = images(rng, shape, dtype)
    value, _, _ = evaluate(first, second, weight, radius, power)
    expected = agreement_twin(first, second, weight, radius, power)
    assert value == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("shape", "radius"), [*CASES, ((60, 40, 22), (2, 3, 1))])
def test_spans_change_nothing_within_them(rng: np.random.Generator, shape: Triple, radius: Triple) -> None:
    """Weights of a few blobs: value and derivatives as without spans, and not a voxel written outside."""
    first, second, weight = images(rng, shape, np.float64)
    blobs = gaussian_filter(rng.standard_normal(shape), 1.5)
    weight *= blobs > np.quantile(blobs, 0.8)
    spans = spans_around(weight, radius)
    column = np.arange(shape[2])
    inside = (column >= spans[..., :1]) & (column < spans[..., 1:])
    one = evaluate(first, second, weight, radius, 2)
    # Beyond the spans nothing may be read, either.
    hidden = [np.where(inside, image, 1e6) for image in (first, second)]
    two = evaluate(hidden[0], hidden[1], weight, radius, 2, spans)
    assert two[0] == pytest.approx(one[0], rel=1e-11)
    for whole, part in zip(one[1:], two[1:], strict=True):
        np.testing.assert_allclose(part[inside], whole[inside], rtol=1e-9, atol=1e-12)
        assert np.isnan(part[~inside]).all()
        np.testing.assert_allclose(whole[~inside], 0.0, atol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("shape", "radius"), CASES)
def test_derivatives_are_those_of_the_value(
    rng: np.random.Generator, shape: Triple, radius: Triple, power: int
) -> None:
    first, second, weight = images(rng, shape, np.float64)
    _, by_first, by_second = evaluate(first, second, weight, radius, power)
    step = 1e-4

    def slope(one: Array, two: Array) -> float:
        ahead, further, back, behind = (
            evaluate(first + h * one, second + h * two, weight, radius, power)[0]
            for h in (step, 2 * step, -step, -2 * step)
        )
        return (8 * (ahead - back) - (further - behind)) / (12 * step)

    nothing = np.zeros(shape)
    for _ in range(10):
        one, two = rng.standard_normal((2, *shape))
        for x, y in ((one, nothing), (nothing, two), (one, two)):
            found = (by_first * x).sum() + (by_second * y).sum()
            size = np.linalg.norm(by_first * x) + np.linalg.norm(by_second * y)
            assert found == pytest.approx(slope(x, y), rel=1e-6, abs=1e-6 * size)


@pytest.mark.parametrize("power", [1, 2])
def test_single_precision_is_enough_on_a_brain_like_image(rng: np.random.Generator, power: int) -> None:
    """Intensities from 0 to 65535 with a large constant background, standardised as `register` does."""
    shape, radius = (41, 23, 29), (4, 3, 2)
    raw = gaussian_filter(rng.standard_normal((2, *shape)), (0, 1.5, 1.5, 1.5))
    raw = np.rint(np.interp(raw, (raw.min(), raw.max()), (1, 65535)))
    raw[:, :12] = 0
    raw[:, :, :6] = 0
    raw[:, 20:24, 10:14, 10:14] = 65535
    scaled = [(x - x[x > 0].mean()) / x[x > 0].std() for x in raw]
    weight = np.ones(shape)
    exact = evaluate(scaled[0], scaled[1], weight, radius, power)
    single = evaluate(*(x.astype(np.float32) for x in (*scaled, weight)), radius, power)
    assert single[0] == pytest.approx(exact[0], rel=1e-5)
    for got, expected in zip(single[1:], exact[1:], strict=True):
        assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("level", [0.0, -3.7, 10.0])
def test_constant_regions_are_quiet(rng: np.random.Generator, level: float) -> None:
    """A window without variance agrees with nothing, ten standard deviations from the mean as well."""
    shape, radius = (48, 9, 8), (2, 2, 2)
    first, second = (rng.standard_normal(shape).astype(np.float32) * 3 for _ in range(2))
    first[20:] = level
    second[20:] = -level
    # The border is no constant: beyond it images are zero.
    inside = np.zeros(shape, np.float32)
    inside[23:-3, 3:-3, 3:-3] = 1
    value, by_first, by_second = evaluate(first, second, inside, radius, 1)
    assert 0 <= value < 3e-4 * inside.sum()
    for derivative in (by_first, by_second):
        assert np.isfinite(derivative).all()
        assert np.abs(derivative).max() < 1e-4


def test_only_the_second_derivative_when_the_first_is_not_wanted(rng: np.random.Generator) -> None:
    first, second, weight = images(rng, (9, 8, 7), np.float32)
    _, _, expected = evaluate(first, second, weight, (2, 2, 2), 1)
    a, b, c, by_second = (np.empty_like(first) for _ in range(4))
    nothing = np.empty((0, 0, 0), np.float32)
    coefficients, rows = (a, b, c, nothing, nothing), whole_rows(first.shape)
    lncc_forward(first, second, weight, rows, (2, 2, 2), EPSILON, 1, *coefficients, False)
    lncc_backward(first, second, *coefficients, rows, (2, 2, 2), -1.0, by_second, nothing, False)
    np.testing.assert_array_equal(by_second, -expected)


@pytest.mark.parametrize("power", [1, 2])
def test_same_bits_for_any_thread_count(
    rng: np.random.Generator, same_bits: Callable[..., None], power: int
) -> None:
    first, second, weight = images(rng, (53, 12, 11), np.float32)

    def run() -> tuple[Array, ...]:
        value, by_first, by_second = evaluate(first, second, weight, (3, 2, 1), power)
        return np.float64(value), by_first, by_second

    same_bits(run)
