"""Paired tests: Wilcoxon's signed ranks and sign flips, exact where they can be, with Holm's correction.

Both ask whether the differences of two methods over the same cases are symmetric about zero, and both take
the cases for independent. Where pairs share subjects they are not, and the p-values come out too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TestResult", "holm", "sign_flip_test", "signed_rank_test"]

EXACT_RANKS = 100
"""Up to so many differing cases Wilcoxon's distribution is counted out; beyond, it is taken as normal."""

EXACT_FLIPS = 30
"""Up to so many differing cases all sign flips are gone through; beyond, they are drawn."""

_BLOCK = 4_000_000
"""So many random signs are held at once."""

_ULPS = 64
"""Differences of means that are equal on paper differ by rounding: how many units in the last place count
as equal."""


@dataclass(frozen=True)
class TestResult:
    """One test of one pair of methods.

    Attributes
    ----------
    test
        ``"Wilcoxon signed-rank"`` or ``"sign flips"``.
    statistic
        Of Wilcoxon the sum of the ranks of positive differences, of the sign flips the mean difference.
    p
        Two-sided; NaN when there is not one case.
    smallest_p
        The smallest p that so many differing cases could have given: what all of them pointing the same
        way gives. No data could have shown more.
    cases, differing
        How many cases there are, and in how many the two methods differ at all.
    method
        How p was found: ``"exact"``, ``"normal approximation"``, or the number of random flips.
    """

    __test__ = False  # pytest takes every class called Test… for its own

    test: str
    statistic: float
    p: float
    smallest_p: float
    cases: int
    differing: int
    method: str


def signed_rank_test(differences: ArrayLike) -> TestResult:
    """Wilcoxon's signed-rank test, two-sided.

    Rules: differences of zero are left out before ranking (Wilcoxon 1945, and what R and scipy do unless
    told otherwise); ties share the mean of their ranks. With at most `EXACT_RANKS` differing cases the
    distribution of the rank sum, given the ties, is counted out; otherwise it is taken as normal, with the
    variance corrected for ties and no continuity correction.

    Parameters
    ----------
    differences
        (cases,) finite; first minus second.

    References
    ----------
    F. Wilcoxon, Biometrics Bulletin 1945; Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, 2014.
    """
    all_differences = _checked(differences)
    nonzero = all_differences[all_differences != 0]
    count = nonzero.size
    # Doubled, mid-ranks are integers and the sums can be counted.
    doubled = _doubled_ranks(np.abs(nonzero))
    observed = int(doubled[nonzero > 0].sum())
    if count <= EXACT_RANKS:
        p, method = _rank_sum_p(doubled, observed), "exact"
        smallest = _rank_sum_p(doubled, int(doubled.sum()))
    else:
        p, method = _normal_p(doubled, observed), "normal approximation"
        smallest = _normal_p(doubled, int(doubled.sum()))
    if not all_differences.size:
        p = smallest = float("nan")
    return TestResult("Wilcoxon signed-rank", observed / 2, p, smallest, all_differences.size, count, method)


def sign_flip_test(differences: ArrayLike, *, flips: int | None = None, seed: int = 1) -> TestResult:
    """Paired permutation test of the mean difference, two-sided: under no difference every sign is a coin's.

    With at most `EXACT_FLIPS` differing cases all 2^n sign patterns are gone through. Otherwise patterns are
    drawn, and p = (1 + as extreme ones) / (1 + drawn), which cannot be zero (Phipson and Smyth, 2010).

    Parameters
    ----------
    differences
        (cases,) finite; first minus second.
    flips
        How many patterns are drawn where not all are gone through. None: 99 999, and 9 999 for more than
        100 differing cases.
    seed
        Of the drawing.

    References
    ----------
    R. A. Fisher, The Design of Experiments, 1935; B. Phipson, G. K. Smyth, Permutation p-values
    should never be zero, Stat. Appl. Genet. Mol. Biol. 2010.
    """
    all_differences = _checked(differences)
    nonzero = all_differences[all_differences != 0]
    count = nonzero.size
    flips = flips or (99_999 if count <= 100 else 9_999)
    observed = abs(float(nonzero.sum()))
    slack = _ULPS * np.finfo(float).eps * float(np.abs(nonzero).sum())
    mean = float(all_differences.mean()) if all_differences.size else float("nan")
    if not all_differences.size:
        p = smallest = float("nan")
        method = "exact"
    elif count <= EXACT_FLIPS:
        p = _exact_flips(nonzero, observed - slack)
        smallest, method = min(1.0, 2.0 ** (1 - count)), "exact"
    else:
        extreme = sum(
            int(np.count_nonzero(np.abs(signs @ nonzero) >= observed - slack))
            for signs in _drawn_signs(count, flips, seed)
        )
        p = (1 + extreme) / (1 + flips)
        smallest, method = max(2.0 ** (1 - count), 1 / (1 + flips)), f"{flips} random flips"
    return TestResult("sign flips", mean, p, smallest, all_differences.size, count, method)


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction of a family of p-values; NaN stays NaN and does not count.

    Every adjusted p grows with each of the p-values, so the correction of the smallest attainable ones gives
    the smallest attainable corrected ones.

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
    """
    given = np.asarray(p_values, dtype=float)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return adjusted


# -- how ------------------------------------------------------------------------------------------------


def _checked(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("differences must be one finite number per case; leave out cases without a score")
    return values


def _doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice the mid-ranks, integers.

    Values that are equal on paper, such as 0.3 - 0.2 and 0.2 - 0.1, differ in their last digits; they tie.
    """
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    scale = float(ranked[-1]) if ranked.size else 0.0
    starts = np.concatenate([[True], np.diff(ranked) > _ULPS * np.finfo(float).eps * scale])[: ranked.size]
    group = np.cumsum(starts) - 1
    sizes = np.bincount(group) if ranked.size else np.zeros(0, int)
    before = np.cumsum(sizes) - sizes
    doubled = np.empty(values.size, dtype=np.int64)
    doubled[order] = (2 * before + sizes + 1)[group]
    return doubled


def _rank_sum_p(doubled: NDArray[np.int64], observed: int) -> float:
    """Two-sided p of a sum of ranks, each of which is in it or not with probability one half."""
    total = int(doubled.sum())
    if observed in (0, total):  # all point the same way, the commonest case
        return min(1.0, 2.0 ** (1 - doubled.size))
    probability = np.zeros(total + 1)
    probability[0] = 1.0
    reached = 0
    for rank in np.sort(doubled):
        reached += int(rank)
        head = probability[: reached + 1] * 0.5
        shifted = np.zeros_like(head)
        shifted[rank:] = head[: head.size - rank]
        probability[: reached + 1] = head + shifted
    far = max(observed, total - observed)
    return min(1.0, 2.0 * float(probability[far:].sum()))


def _normal_p(doubled: NDArray[np.int64], observed: int) -> float:
    from scipy.special import ndtr

    total = float(doubled.sum())
    deviation = np.sqrt(float((doubled.astype(float) ** 2).sum())) / 2
    return min(1.0, 2.0 * float(ndtr(-abs(observed - total / 2) / deviation)))


def _exact_flips(values: NDArray[np.float64], threshold: float) -> float:
    """The share of all 2^n sign patterns whose sum is as far from zero as the threshold.

    The sums of one half of the values, sorted, are searched for what the sums of the other half need.
    """
    if threshold <= 0:
        return 1.0
    half = values.size // 2
    one, other = np.sort(_signed_sums(values[:half])), _signed_sums(values[half:])
    above = one.size * other.size - int(np.searchsorted(one, threshold - other, side="left").sum())
    return min(1.0, 2.0 * above / (one.size * other.size))  # the sums are symmetric about zero


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_signs(count: int, flips: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Random signs in blocks of (some, count), the same for every call with the same numbers."""
    block = max(1, _BLOCK // count)
    for number, start in enumerate(range(0, flips, block)):
        yield _signs(min(block, flips - start), count, seed, number)


@lru_cache(maxsize=4)
def _signs(some: int, count: int, seed: int, number: int) -> NDArray[np.float64]:
    """Kept, because one comparison after the other needs the same."""
    generator = np.random.default_rng([seed, number])
    drawn = generator.integers(0, 2, (some, count), dtype=np.int8).astype(np.float64)
    return np.asarray(2 * drawn - 1, dtype=np.float64)
