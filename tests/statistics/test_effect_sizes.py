"""Effect sizes by hand, by brute force, and with weights that say what repeated cases say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iterreg.statistics.effect_sizes import (
    cliffs_delta,
    cohens_d,
    cohens_d_independent,
    cohens_dz,
    hedges_correction,
    mean_difference,
)

X = np.array([3.0, 4.0, 5.0, 8.0])
Y = np.array([1.0, 3.0, 5.0, 3.0])
SIZES = [mean_difference, cohens_d, cohens_dz, cliffs_delta]


def test_by_hand() -> None:
    # Means 5 and 3, variances 14/3 and 8/3, differences 2, 1, 0, 5 of mean 2 and variance 14/3.
    assert mean_difference(X, Y) == 2
    assert cohens_d(X, Y) == pytest.approx(2 / math.sqrt((14 / 3 + 8 / 3) / 2))
    assert cohens_dz(X, Y) == pytest.approx(2 / math.sqrt(14 / 3))
    # 12 of the 16 combinations have x > y (3: 1; 4: 1 3 3; 5: 1 3 3; 8: all), 1 has x < y (3 < 5), 4 < 5.
    above, below = 1 + 3 + 3 + 4, 1 + 1
    assert cliffs_delta(X, Y) == pytest.approx((above - below) / 16)


def test_independent_samples_by_hand() -> None:
    assert cohens_d_independent(X, Y) == pytest.approx(float(cohens_d(X, Y)))
    # Means 2 and 4, sums of squares 2 and 8, 3 + 2 - 2 degrees of freedom.
    assert cohens_d_independent([1, 2, 3], [2, 6]) == pytest.approx(-2 / math.sqrt(10 / 3))
    assert math.isnan(cohens_d_independent([1.0], [2.0, 3.0]))


@pytest.mark.parametrize("freedom", [2, 3, 10, 50])
def test_hedges_correction_is_the_quotient_of_gammas(freedom: int) -> None:
    exact = math.gamma(freedom / 2) / (math.sqrt(freedom / 2) * math.gamma((freedom - 1) / 2))
    assert hedges_correction(freedom) == pytest.approx(exact)
    if freedom >= 10:
        assert hedges_correction(freedom) == pytest.approx(1 - 3 / (4 * freedom - 1), abs=4e-4)


def test_hedges_correction_makes_d_unbiased(rng: np.random.Generator) -> None:
    x, y = rng.normal(0.8, 1, (40_000, 6)), rng.normal(0, 1, (40_000, 6))
    pooled = np.sqrt((x.var(axis=1, ddof=1) + y.var(axis=1, ddof=1)) / 2)
    d = (x.mean(axis=1) - y.mean(axis=1)) / pooled
    assert d.mean() > 0.85
    assert (float(hedges_correction(10)) * d).mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_a_weight_is_a_repetition(size, rng: np.random.Generator) -> None:
    x, y = rng.normal(0, 1, 9).round(1), rng.normal(0.2, 1, 9).round(1)
    weights = rng.integers(0, 4, (5, 9))
    expected = [size(np.repeat(x, row), np.repeat(y, row)) for row in weights]
    assert size(x, y, weights) == pytest.approx(np.array(expected), rel=1e-9)


def test_cliffs_delta_by_brute_force(rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 9, 40), rng.integers(1, 9, 40)
    assert cliffs_delta(x, y) == pytest.approx(np.sign(x[:, None] - y[None, :]).mean())


def test_offsets_do_not_matter(rng: np.random.Generator) -> None:
    x, y = rng.normal(0, 1e-3, 12), rng.normal(0, 1e-3, 12)
    assert cohens_d(x + 1e6, y + 1e6) == pytest.approx(float(cohens_d(x, y)), rel=1e-4)


def test_nothing_to_measure_by() -> None:
    same = np.array([0.5, 0.6, 0.7])
    assert np.isnan(cohens_dz(same, same))
    assert cohens_d(same, same) == 0
    assert cliffs_delta(same, same) == 0
    assert np.isposinf(cohens_dz(same + 0.25, same))
    for size in (cohens_d, cohens_dz):
        assert np.isnan(size([1.0], [2.0]))
    assert np.isnan(mean_difference(X, Y, np.zeros(4)))
    assert np.isnan(hedges_correction(1))
