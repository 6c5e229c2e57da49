"""What a descent does to vector fields, against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.kernels.descent import (
    advance,
    blurred_length,
    downhill,
    even_out,
    pairing,
    squared_lengths,
)

Array = NDArray[Any]

SHAPES = [(5, 7, 9), (1, 3, 4), (3, 1, 1), (12, 2, 17)]
PRECISIONS = [(np.float64, 1e-13), (np.float32, 2e-6)]


def vectors(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    return rng.standard_normal((3, *shape)).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_each_equals_its_formula(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, tolerance: float
) -> None:
    one, two, three = (vectors(rng, shape, dtype) for _ in range(3))
    scalar = rng.random(shape).astype(dtype)
    near = {"rtol": tolerance, "atol": tolerance}

    got = downhill(one, two, scalar, 1.7)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, (one.astype(float) - 1.7 * two) * scalar, **near)

    np.testing.assert_allclose(
        squared_lengths(one), (one.astype(float) ** 2).sum(axis=0).max(axis=(1, 2)), **near
    )
    np.testing.assert_allclose(
        pairing(one, two), (one.astype(float) * two).sum(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12
    )

    update = three.copy()
    got = advance(one, update, two, 0.8, -0.3)
    assert got.dtype == dtype
    np.testing.assert_allclose(update, 0.8 * three.astype(float) - 0.3 * two, **near)
    np.testing.assert_allclose(got, one.astype(float) + update, **near)

    evened = one.copy()
    even_out(evened, scalar, 0.5, 0.1)
    np.testing.assert_allclose(evened, one / (0.5 * scalar.astype(float) + 0.1), rtol=10 * tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("reach", [0, 1, 4])
def test_blur_equals_separate_filters(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, tolerance: float, reach: int
) -> None:
    """Windows wider than the field, too: the border goes on."""
    field = vectors(rng, shape, dtype)
    weights = rng.random(2 * reach + 1)
    expected = np.linalg.norm(field.astype(float), axis=0)
    for axis in range(3):
        expected = ndimage.correlate1d(expected, weights, axis=axis, mode="nearest")
    got = blurred_length(field, weights.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=10 * tolerance)


def test_same_bits_for_any_thread_count(rng: np.random.Generator, same_bits: Callable[..., None]) -> None:
    one, two = (vectors(rng, (23, 12, 11), np.float32) for _ in range(2))
    weights = np.full(7, 1 / 7, np.float32)

    def evened() -> Array:
        out = one.copy()
        even_out(out, blurred_length(two, weights), 1.0, 0.1)
        return out

    same_bits(evened)
    same_bits(lambda: downhill(one, two, np.abs(one[0]), 2.0))
    same_bits(lambda: blurred_length(one, weights))
    same_bits(lambda: (squared_lengths(one), pairing(one, two)))
    same_bits(lambda: advance(one, two.copy(), one, 0.9, 0.1))
