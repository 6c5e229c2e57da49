"""Paired tests against scipy, R's documented examples, and every sign pattern gone through one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from iterreg.statistics.tests import EXACT_FLIPS, EXACT_RANKS, holm, sign_flip_test, signed_rank_test

# Hollander & Wolfe (1973), Hamilton depression scale; the first example of R's ?wilcox.test, which gives
# V = 40, p-value = 0.01953 for alternative = "greater".
DEPRESSION = (
    np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]),
    np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]),
)


def every_pattern(differences: np.ndarray, statistic: str) -> float:
    """Two-sided p by going through all signs of the differences that are not zero."""
    d = differences[differences != 0]
    weights = stats.rankdata(np.abs(d)) if statistic == "ranks" else np.abs(d)
    sums = np.array([np.dot(signs, weights) for signs in product((-1, 1), repeat=d.size)])
    observed = np.dot(np.sign(d), weights)
    return float(np.mean(np.abs(sums) >= abs(observed) - 1e-9))


def test_the_example_of_r() -> None:
    result = signed_rank_test(DEPRESSION[0] - DEPRESSION[1])
    assert result.statistic == 40
    assert result.p == pytest.approx(2 * 0.01953125, abs=1e-12)
    assert result.method == "exact"


@pytest.mark.parametrize("count", [1, 2, 5, 12, 30, 50])
def test_signed_ranks_without_ties_are_scipys(count: int, rng: np.random.Generator) -> None:
    d = rng.standard_normal(count) + 0.3
    result = signed_rank_test(d)
    expected = stats.wilcoxon(d, mode="exact")
    assert result.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert min(result.statistic, count * (count + 1) / 2 - result.statistic) == expected.statistic


@pytest.mark.parametrize("seed", range(8))
def test_signed_ranks_with_ties_and_zeros_are_counted_out(seed: int) -> None:
    d = np.random.default_rng(seed).integers(-4, 6, 12).astype(float)
    assert signed_rank_test(d).p == pytest.approx(every_pattern(d, "ranks"), abs=1e-12)


def test_many_cases_are_taken_as_normal(rng: np.random.Generator) -> None:
    d = rng.normal(0.05, 1, EXACT_RANKS + 100).round(1)
    result = signed_rank_test(d)
    expected = stats.wilcoxon(d, zero_method="wilcox", correction=False, method="approx")
    assert result.method == "normal approximation"
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_normal_and_exact_meet(rng: np.random.Generator) -> None:
    d = rng.normal(0.1, 1, EXACT_RANKS)
    assert signed_rank_test(d).p == pytest.approx(stats.wilcoxon(d, method="approx").pvalue, abs=4e-3)


def test_differences_that_are_equal_on_paper_tie() -> None:
    x, y = np.array([0.3, 0.2, 0.9, 0.1]), np.array([0.2, 0.1, 0.5, 0.2])
    d = x - y
    assert np.unique(np.abs(d)).size > 2  # 0.3 - 0.2 is not 0.2 - 0.1
    assert signed_rank_test(d).statistic == 2 + 2 + 4


@pytest.mark.parametrize("seed", range(6))
def test_sign_flips_are_gone_through(seed: int) -> None:
    generator = np.random.default_rng(seed)
    d = np.concatenate([generator.normal(0.5, 1, 9).round(1), [0.0, 0.0]])
    result = sign_flip_test(d)
    assert result.method == "exact"
    assert result.p == pytest.approx(every_pattern(d, "mean"), abs=1e-12)
    assert result.differing == np.count_nonzero(d)


def test_sign_flips_are_scipys_permutation_test(rng: np.random.Generator) -> None:
    x, y = rng.normal(0.4, 1, 11), rng.normal(0, 1, 11)
    expected = stats.permutation_test(
        (x, y), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip_test(x - y).p == pytest.approx(expected.pvalue, abs=1e-12)


def test_drawn_flips_come_near_the_exact_p(rng: np.random.Generator) -> None:
    d = rng.normal(0.45, 1, EXACT_FLIPS)
    exact = sign_flip_test(d).p
    # One more case of next to no weight changes nothing but the way it is done.
    drawn = sign_flip_test(np.append(d, 1e-9), flips=40_000)
    assert drawn.method == "40000 random flips"
    assert drawn.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))
    assert drawn.p == sign_flip_test(np.append(d, 1e-9), flips=40_000).p
    assert drawn.p != sign_flip_test(np.append(d, 1e-9), flips=40_000, seed=2).p


def test_drawn_p_is_never_zero() -> None:
    result = sign_flip_test(np.full(60, 1.0), flips=999)
    assert result.p == result.smallest_p == 1 / 1000


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9])
def test_smallest_p_is_what_all_on_one_side_give(count: int) -> None:
    one_sided = np.arange(1.0, count + 1)
    for test in (signed_rank_test, sign_flip_test):
        result = test(one_sided)
        assert result.p == result.smallest_p == pytest.approx(min(1.0, 2.0 ** (1 - count)))
        mixed = one_sided * np.where(np.arange(count) == 0, -1, 1)
        assert test(mixed).smallest_p == result.smallest_p


def test_nothing_differs() -> None:
    for test in (signed_rank_test, sign_flip_test):
        result = test(np.zeros(9))
        assert (result.p, result.smallest_p, result.cases, result.differing) == (1.0, 1.0, 9, 0)


def test_no_case() -> None:
    for test in (signed_rank_test, sign_flip_test):
        assert np.isnan(test([]).p)


@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf], [[1.0, 2.0]]])
def test_what_is_no_difference_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="leave out cases without a score"):
        signed_rank_test(bad)


def test_holm_by_hand() -> None:
    # As R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm").
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]).size == 0


def test_holm_passes_over_what_is_not_known() -> None:
    adjusted = holm([0.01, np.nan, 0.04])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(adjusted[1])


def test_holm_grows_with_every_p(rng: np.random.Generator) -> None:
    """On which the smallest attainable corrected p rests."""
    for _ in range(200):
        p = rng.uniform(0, 0.2, 6)
        smaller = p * rng.uniform(0, 1, 6)
        assert (holm(smaller) <= holm(p) + 1e-15).all()
