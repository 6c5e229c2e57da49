"""Rankings as the challenges make them, and how stable they are.

Learn2Reg's scheme stands in its text and in its code, which differ in three ways; both are here:

=============  ====================================  ===========================================
               text (ranking/readme.md)              code (ranking/ranking_utils.py)
=============  ====================================  ===========================================
test           Wilcoxon signed-rank                  Wilcoxon rank-sum, which ignores the pairing
what counts    comparisons won                       comparisons lost (fewest is best)
compared over  cases                                 (case, label) cells where there are labels
=============  ====================================  ===========================================

Source: MDL-UzL/L2R, commit 8847509; Hering et al., Learn2Reg, IEEE TMI 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.statistics.measures import Measure
from iterreg.statistics.tests import signed_rank_test

__all__ = [
    "LUMIR24_WEIGHTS",
    "FriedmanRanks",
    "RankedRun",
    "Ranking",
    "Variant",
    "friedman_ranks",
    "geometric_mean",
    "learn2reg_scores",
    "lumir24_scores",
    "rank_scores",
    "ranks_of",
]

Variant = Literal["signed-rank", "rank-sum"]

LUMIR24_WEIGHTS: Mapping[str, float] = {"dice": 1 / 6, "hd95": 1 / 6, "tre": 1 / 3, "ndv": 1 / 3}
"""LUMIR24's weight of each kind of measure (its README of 31 July 2024)."""


@dataclass(frozen=True)
class RankedRun:
    """A run in a ranking.

    Attributes
    ----------
    score
        The scheme's score; more is better, except of mean ranks.
    rank
        1 is best; ties share the mean of their ranks.
    parts
        Measure -> the score it contributes.
    rank_low, rank_high
        Between which 95 % of the resampled ranks lie; NaN when nothing could be resampled.
    first_share
        In which share of the resamples the run is first (ties shared).
    reference
        Whether it is a published row.
    """

    run: str
    score: float
    rank: float
    parts: Mapping[str, float]
    rank_low: float = float("nan")
    rank_high: float = float("nan")
    first_share: float = float("nan")
    reference: bool = False


@dataclass(frozen=True)
class Ranking:
    """One ranking of all runs.

    Attributes
    ----------
    key, scheme
        Its name in file names, and in titles.
    rows
        Best first.
    measures
        What it rests on.
    cases
        Measure -> how many cases were compared.
    resamples
        How many resamples its stability rests on; 0 when nothing could be resampled.
    agreement
        Mean Kendall tau-b between the resampled rankings and this one; NaN without resamples.
    notes
        What must be known of it, one sentence each.
    """

    key: str
    scheme: str
    rows: tuple[RankedRun, ...]
    measures: tuple[str, ...]
    cases: Mapping[str, int] = field(default_factory=dict)
    resamples: int = 0
    agreement: float = float("nan")
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FriedmanRanks:
    """Mean ranks over cases, for the critical-difference diagram.

    Attributes
    ----------
    ranks
        Run -> mean over the cases of its rank, 1 is best.
    cases
        Over how many cases, all of which every run has.
    p
        Friedman's test that all runs are alike; it takes cases for independent.
    critical_difference
        Nemenyi's: two mean ranks further apart than this differ at level alpha.
    alpha
        The level.
    """

    measure: str
    ranks: Mapping[str, float]
    cases: int
    p: float
    critical_difference: float
    alpha: float = 0.05

    def cliques(self) -> tuple[tuple[str, ...], ...]:
        """The largest sets of runs, best first, whose mean ranks lie within the critical difference."""
        ordered = sorted(self.ranks, key=lambda run: self.ranks[run])
        found: list[tuple[str, ...]] = []
        for start, run in enumerate(ordered):
            near = [o for o in ordered[start:] if self.ranks[o] - self.ranks[run] <= self.critical_difference]
            if len(near) > 1 and not any(set(near) <= set(other) for other in found):
                found.append(tuple(near))
        return tuple(found)


def learn2reg_scores(
    values: ArrayLike, *, higher_is_better: bool, variant: Variant = "signed-rank", alpha: float = 0.05
) -> NDArray[np.float64]:
    """Learn2Reg's rank score of every method by one measure, from 0.1 (worst) to 1 (best).

    Methods are compared two by two; the number of comparisons won (``"signed-rank"``, as the text says) or
    lost (``"rank-sum"``, as the code counts) orders them; the places are spread evenly over [0.1, 1] and
    methods with the same number share the mean of their places.

    Parameters
    ----------
    values
        (methods, cells) finite: of every method the same cases, or (case, label) cells, in the same order.

    Returns
    -------
    (methods,) float64.
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError("values must be one finite number per method and cell")
    if not higher_is_better:
        table = -table
    beats = _signed_rank_wins(table, alpha) if variant == "signed-rank" else _rank_sum_wins(table, alpha)
    counted = beats.sum(axis=1) if variant == "signed-rank" else -beats.sum(axis=0)
    return rank_scores(counted)


def rank_scores(counted: ArrayLike) -> NDArray[np.float64]:
    """Places spread evenly over [0.1, 1], the largest number at 1; equal numbers share the mean."""
    numbers = np.asarray(counted)
    places = np.linspace(0.1, 1, numbers.size)
    placed = np.empty(numbers.size)
    placed[np.argsort(numbers, kind="stable")] = places
    return np.array([placed[numbers == number].mean() for number in numbers])


def geometric_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """(measures, methods) -> (methods,): how Learn2Reg puts its measures together."""
    return np.asarray(np.exp(np.log(np.asarray(scores, dtype=float)).mean(axis=0)))


def lumir24_scores(
    means: Mapping[str, ArrayLike],
    directions: Mapping[str, bool],
    weights: Mapping[str, float] | None = None,
) -> NDArray[np.float64]:
    """LUMIR24's score: every measure's means scaled to [0, 1] over the methods, and a weighted sum.

    Parameters
    ----------
    means
        Kind of measure -> (methods,) means over cases.
    directions
        Kind -> whether more is better; such a measure is scaled as (m - min) / (max - min), another one as
        (max - m) / (max - min). A measure in which all methods are equal gives all of them 1.
    weights
        Kind -> weight; by default LUMIR24's, 1/6 Dice, 1/6 HD95, 1/3 TRE, 1/3 NDV.

    Returns
    -------
    (methods,) float64: the sum, divided by the weights' sum where measures are missing.

    Source: README.md of JHU-MedImage-Reg/LUMIR_L2R as of 31 July 2024.
    """
    weights = LUMIR24_WEIGHTS if weights is None else weights
    used = [kind for kind in weights if kind in means]
    if not used:
        raise ValueError(f"none of {', '.join(weights)} is given")
    total = sum(weights[kind] for kind in used)
    parts = [weights[kind] / total * min_max(means[kind], directions[kind]) for kind in used]
    return np.asarray(np.sum(parts, axis=0))


def min_max(means: ArrayLike, higher_is_better: bool) -> NDArray[np.float64]:
    """Scaled to [0, 1] over the methods, 1 for the best."""
    values = np.asarray(means, dtype=float)
    span = np.ptp(values)
    if span == 0:
        return np.ones(values.shape)
    return np.asarray((values - values.min() if higher_is_better else values.max() - values) / span)


def ranks_of(scores: ArrayLike) -> NDArray[np.float64]:
    """Ranks of scores of which more is better: 1 is best, ties share the mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.round(np.asarray(scores, dtype=float), 12)))


def friedman_ranks(
    values: ArrayLike, runs: Sequence[str], measure: Measure, *, alpha: float = 0.05
) -> FriedmanRanks | None:
    """Mean ranks over cases with Friedman's test and Nemenyi's critical difference.

    Parameters
    ----------
    values
        (cases, runs) finite.

    Returns
    -------
    None with fewer than two runs or two cases. p is NaN with fewer than three runs, as the test is not
    defined for two.

    References
    ----------
    J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    table = np.asarray(values, dtype=float)
    cases, count = table.shape
    if count < 2 or cases < 2:
        return None
    mean_ranks = rankdata(-measure.sign * table, axis=1).mean(axis=0)
    p = float("nan")
    if count > 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            p = float(friedmanchisquare(*table.T).pvalue)
    q = float(studentized_range.ppf(1 - alpha, count, np.inf)) / math.sqrt(2)
    return FriedmanRanks(
        measure=measure.name,
        ranks={run: float(rank) for run, rank in zip(runs, mean_ranks, strict=True)},
        cases=cases,
        p=p,
        critical_difference=q * math.sqrt(count * (count + 1) / (6 * cases)),
        alpha=alpha,
    )


def _signed_rank_wins(table: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """(methods, methods): whether the row's method is significantly larger than the column's."""
    count = len(table)
    wins = np.zeros((count, count), dtype=bool)
    for i in range(count):
        for j in range(i):
            result = signed_rank_test(table[i] - table[j])
            if result.p < alpha:
                centre = result.differing * (result.differing + 1) / 4
                wins[i, j], wins[j, i] = result.statistic > centre, result.statistic < centre
    return wins


def _rank_sum_wins(table: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """The same by the rank-sum test, normal and without a correction for ties, as scipy's ``ranksums``."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    count, cells = table.shape
    limit = -float(ndtri(alpha / 2))
    deviation = math.sqrt(cells * cells * (2 * cells + 1) / 12)
    wins = np.zeros((count, count), dtype=bool)
    for i in range(count):
        for j in range(i):
            ranks = rankdata(np.concatenate([table[i], table[j]]))
            z = (float(ranks[:cells].sum()) - cells * (2 * cells + 1) / 2) / deviation
            wins[i, j], wins[j, i] = z > limit, -z > limit
    return wins
