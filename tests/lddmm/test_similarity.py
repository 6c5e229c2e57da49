"""Measures against their definitions, and their derivatives against differences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from iterreg.lddmm.similarity import LNCC, SSD, Similarity

Array = np.ndarray
SHAPE = (19, 8, 11)
RADIUS = (2, 1, 3)


def lncc_twin(fixed: Array, moving: Array, weight: Array, epsilon: float, power: int) -> float:
    size = [2 * r + 1 for r in RADIUS]

    def mean(image: Array) -> Array:
        return np.asarray(uniform_filter(image, size, mode="constant"))

    covariance = mean(fixed * moving) - mean(fixed) * mean(moving)
    variances = [mean(x * x) - mean(x) ** 2 + epsilon for x in (fixed, moving)]
    correlation = covariance**2 / (variances[0] * variances[1])
    return float((weight * (1 - correlation**power)).sum())


def ssd_twin(fixed: Array, moving: Array, weight: Array) -> float:
    return float(0.5 * (weight * (fixed - moving) ** 2).sum())


def measures() -> list[Any]:
    made: list[Any] = [pytest.param(lambda: SSD(SHAPE, dtype=np.float64), ssd_twin, id="ssd")]
    for power in (1, 2):
        made.append(
            pytest.param(
                lambda power=power: LNCC(SHAPE, radius=RADIUS, epsilon=0.02, power=power, dtype=np.float64),
                lambda *images, power=power: lncc_twin(*images, 0.02, power),
                id=f"lncc, power {power}",
            )
        )
    return made


def related(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    fixed = rng.standard_normal(SHAPE)
    return fixed, 0.7 * fixed + 0.6 * rng.standard_normal(SHAPE), rng.random(SHAPE)


@pytest.mark.parametrize(("make", "twin"), measures())
def test_value_equals_its_twin(rng: np.random.Generator, make: Any, twin: Any) -> None:
    fixed, moving, weight = related(rng)
    for both in (False, True):
        assert make().compare(fixed, moving, weight, both=both).value == pytest.approx(
            twin(fixed, moving, weight), rel=1e-10
        )


@pytest.mark.parametrize(("make", "twin"), measures())
def test_derivatives_in_ten_directions(rng: np.random.Generator, make: Any, twin: Any) -> None:
    fixed, moving, weight = related(rng)
    found = make().compare(fixed, moving, weight, both=True)
    step = 1e-3
    for _ in range(10):
        way = rng.standard_normal(SHAPE)
        for derivative, one, two in ((found.by_fixed, way, 0 * way), (found.by_moving, 0 * way, way)):
            values = [twin(fixed + h * one, moving + h * two, weight)
                      for h in (step, 2 * step, -step, -2 * step)]  # fmt: skip
            slope = (8 * (values[0] - values[2]) - (values[1] - values[3])) / (12 * step)
            assert (derivative * way).sum() == pytest.approx(
                slope, rel=1e-6, abs=1e-7 * np.linalg.norm(derivative * way)
            )


@pytest.mark.parametrize(("make", "twin"), measures())
def test_the_fixed_derivative_only_where_asked_for(rng: np.random.Generator, make: Any, twin: Any) -> None:
    measure: Similarity = make()
    fixed, moving, weight = related(rng)
    alone = measure.compare(fixed, moving, weight, both=False)
    assert alone.by_fixed is None
    by_moving = alone.by_moving.copy()
    again = measure.compare(fixed, moving, weight, both=True)
    np.testing.assert_array_equal(again.by_moving, by_moving)
    swapped = measure.compare(moving, fixed, weight, both=True)
    assert swapped.value == pytest.approx(again.value, rel=1e-12)


def test_lncc_of_images_that_agree_is_nearly_nothing(rng: np.random.Generator) -> None:
    image = rng.standard_normal(SHAPE).astype(np.float32)
    weight = np.ones(SHAPE, np.float32)
    noise = rng.standard_normal(SHAPE).astype(np.float32)
    measure = LNCC(SHAPE, radius=RADIUS)
    windows = [
        measure.compare(image, other, weight, both=False).value / weight.sum()
        for other in (image, 3 * image, -image, noise)
    ]
    assert max(windows[:3]) < 5e-3
    assert windows[3] > 0.9


@pytest.mark.parametrize("power", [1, 2])
def test_lncc_is_finite_wherever_images_are_constant(power: int) -> None:
    measure = LNCC(SHAPE, radius=RADIUS, power=power)
    weight = np.ones(SHAPE, np.float32)
    for fixed, moving in itertools.product((0.0, 7.0), repeat=2):
        found = measure.compare(
            np.full(SHAPE, fixed, np.float32), np.full(SHAPE, moving, np.float32), weight, both=True
        )
        assert np.isfinite(found.value)
        assert np.isfinite(found.by_moving).all()
        assert np.isfinite(found.by_fixed).all()
    assert found.value <= weight.sum()
