"""Which method is better, by how much, on which structures and tasks, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.statistics.dyads import Dyads
from iterreg.statistics.factors import FactorResult, factor_result
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.paired import Designs, Pairwise, compare_pair, judged
from iterreg.statistics.ranking import FriedmanRanks, Ranking, friedman_ranks
from iterreg.statistics.scores import ALL_CASES, Run, Scope, ScopeKind, Scores
from iterreg.statistics.standings import rankings

__all__ = ["RESAMPLES", "SCOPE_KINDS", "Comparison", "Summary", "compare"]

Values = NDArray[np.float64]

RESAMPLES = 300
"""So many resamples of the subjects tell how stable a ranking is, unless asked otherwise."""

SCOPE_KINDS: tuple[ScopeKind, ...] = ("all", "task", "contrast", "group", "label")


@dataclass(frozen=True)
class Summary:
    """One run by one measure in one scope.

    Attributes
    ----------
    cases
        How many cases it has a number for; 0 for a published row, whose cases are not known.
    missing
        How many it lacks that some other run has.
    mean, std, median, lower, upper, worst
        Over its own cases: lower and upper are the quartiles.
    common_cases
        How many cases all runs have.
    common_mean, common_std
        Over those, the mean with its interval: only these compare. Of a published row the published mean.
    best
        Whether no run's common mean is better.
    worse_than_best
        Whether the best run is better by the verdict of their comparison.
    reference
        Published by others.
    """

    scope: Scope
    measure: str
    run: str
    cases: int
    missing: int
    mean: float
    std: float
    median: float
    lower: float
    upper: float
    worst: float
    common_cases: int
    common_mean: Interval
    common_std: float = float("nan")
    best: bool = False
    worse_than_best: bool = False
    reference: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found; tables and figures are made from it.

    Attributes
    ----------
    scores
        What was compared.
    measures
        The measures that were compared, in order.
    summaries
        Scope by scope, measure by measure, runs in their order.
    pairwise
        Every two runs, or every run with the reference; see `Pairwise`.
    rankings
        Each scheme over all cases; empty with fewer than two runs.
    friedman
        One per measure that all runs share cases for.
    factor
        The sensitivity arms, when a factor was declared.
    reference
        The run that all are compared with; empty when all are compared with all.
    alpha, confidence, resamples, seed
        Level of the tests, of the intervals, how often rankings were repeated, and the seed of all draws.
    notes
        What must be known before reading a number, one sentence each.
    """

    scores: Scores
    measures: tuple[Measure, ...]
    summaries: tuple[Summary, ...]
    pairwise: tuple[Pairwise, ...]
    rankings: tuple[Ranking, ...] = ()
    friedman: tuple[FriedmanRanks, ...] = ()
    factor: FactorResult | None = None
    reference: str = ""
    alpha: float = 0.05
    confidence: float = 0.95
    resamples: int = RESAMPLES
    seed: int = 1
    notes: tuple[str, ...] = ()

    def summary(self, measure: str, scope: Scope = ALL_CASES) -> tuple[Summary, ...]:
        """The rows of one measure in one scope, in the runs' order."""
        return self._summaries.get((measure, scope), ())

    @cached_property
    def _summaries(self) -> dict[tuple[str, Scope], tuple[Summary, ...]]:
        found: dict[tuple[str, Scope], tuple[Summary, ...]] = {}
        for row in self.summaries:
            key = row.measure, row.scope
            found[key] = (*found.get(key, ()), row)
        return found

    def pairs(self, measure: str, scope: Scope = ALL_CASES) -> tuple[Pairwise, ...]:
        """The comparisons by one measure in one scope."""
        return tuple(row for row in self.pairwise if row.measure == measure and row.scope == scope)

    def scopes(self, measure: str, kind: ScopeKind) -> tuple[Scope, ...]:
        """The scopes of a kind that were looked at by a measure."""
        found = (row.scope for row in self.summaries if row.measure == measure and row.scope.kind == kind)
        return tuple(dict.fromkeys(found))


def compare(
    scores: Scores,
    *,
    measures: Sequence[str] | None = None,
    reference: str = "",
    scopes: Sequence[ScopeKind] = SCOPE_KINDS,
    factor: str = "",
    baseline: str = "",
    classes: Mapping[str, Sequence[str]] | None = None,
    alpha: float = 0.05,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Comparison:
    """Compare all runs.

    Parameters
    ----------
    measures
        Names or titles; None: the challenges' measures that some run has.
    reference
        A run that all others are compared with, which needs a milder correction; empty: all with all.
    scopes
        Which kinds of scopes are looked at.
    factor
        The name of what distinguishes the levels of sensitivity arms: runs called ``METHOD@LEVEL``, or
        ``"task"`` or ``"contrast"`` when the levels are those of the cases.
    baseline
        The level the others are compared with; empty: the first.
    classes
        Name of a class -> its methods, for the interaction of classes with the factor.
    alpha, confidence
        Level of the tests, and of the intervals.
    resamples, seed
        Over how many resamples of the subjects rankings are repeated, and the seed of all random draws.

    Raises
    ------
    InputError
        If there is no such measure, run or level, or nothing to compare.
    """
    chosen = _chosen(scores, measures)
    if reference and reference not in [run.name for run in scores.own_runs]:
        known = ", ".join(run.name for run in scores.own_runs)
        raise InputError(f"there is no run {reference!r} with cases to compare with; there are {known}")
    designs = _designs()
    pairwise: list[Pairwise] = []
    summaries: list[Summary] = []
    for measure in chosen:
        for kind in scopes:
            listed = scores.scopes(measure.name, kind)
            family = judged(
                [
                    compare_pair(
                        table, scope, measure, first, second,
                        designs=designs, confidence=confidence, seed=seed,
                        all_intervals=kind not in ("group", "label"),
                    )
                    for scope in listed
                    for table in [scores.table(measure.name, scope)]
                    for first, second in _pairs_of(scores.own_runs, reference)
                ],
                alpha=alpha,
            )  # fmt: skip
            pairwise += family
            for scope in listed:
                summaries += _summaries(scores, measure, scope, family, designs, confidence)
    arms = None
    if factor:
        arms = factor_result(
            scores, chosen, factor, baseline=baseline, classes=classes,
            alpha=alpha, confidence=confidence,
        )  # fmt: skip
    friedman = [_friedman(scores, measure, alpha) for measure in chosen]
    return Comparison(
        scores=scores,
        measures=chosen,
        summaries=tuple(summaries),
        pairwise=tuple(pairwise),
        rankings=rankings(scores, chosen, resamples=resamples, seed=seed),
        friedman=tuple(one for one in friedman if one is not None),
        factor=arms,
        reference=reference,
        alpha=alpha,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        notes=scores.notes,
    )


def _chosen(scores: Scores, names: Sequence[str] | None) -> tuple[Measure, ...]:
    if names is None:
        found = scores.ranked_measures
        if not found:
            raise InputError(
                "no measure is known by which runs could be compared; name one and its better direction"
            )
        return found
    measures = tuple(dict.fromkeys(scores.measure(name) for name in names))
    for measure in measures:
        if measure.higher_is_better is None:
            raise InputError(
                f"{measure.name}: it is not known whether more of it is better; declare it, up or down"
            )
    return measures


def _pairs_of(runs: Sequence[Run], reference: str) -> list[tuple[str, str]]:
    names = [run.name for run in runs]
    if reference:
        return [(name, reference) for name in names if name != reference]
    return list(combinations(names, 2))


def _designs() -> Designs:
    """Who is shared, by list of cases, found once for each."""

    @lru_cache(maxsize=8)  # each is as large as subjects times cases
    def made(fixed: tuple[str, ...], moving: tuple[str, ...]) -> Dyads:
        return Dyads(fixed, moving)

    def give(index: pd.MultiIndex) -> Dyads:
        return made(tuple(index.get_level_values("fixed")), tuple(index.get_level_values("moving")))

    return give


def _summaries(
    scores: Scores,
    measure: Measure,
    scope: Scope,
    family: Sequence[Pairwise],
    designs: Designs,
    confidence: float,
) -> list[Summary]:
    table = scores.table(measure.name, scope)
    names, values = list(table.columns), table.to_numpy()
    shared = np.isfinite(values).all(axis=1)
    common = values[shared]
    dyads = designs(table.index[shared])
    means = dict(zip(names, common.mean(axis=0).tolist(), strict=True)) if len(common) else {}
    best = max(means.values(), key=lambda mean: measure.sign * mean, default=float("nan"))
    leaders = [run for run, mean in means.items() if mean == best]
    beaten = {
        loser
        for one in family
        if one.scope == scope and one.better in leaders
        for loser in {one.first, one.second} - {one.better}
    }
    rows = []
    for run in scores.runs:
        if run.reference:
            if scope.kind == "all":
                rows += _published(scores, measure, scope, run)
            continue
        column = values[:, names.index(run.name)]
        own, ours = column[np.isfinite(column)], column[shared]
        lower, median, upper, worst = _spread(own, measure)
        rows.append(
            Summary(
                scope=scope,
                measure=measure.name,
                run=run.name,
                cases=own.size,
                missing=column.size - own.size,
                mean=_mean(own),
                std=_deviation(own),
                median=median,
                lower=lower,
                upper=upper,
                worst=worst,
                common_cases=ours.size,
                common_mean=dyads.interval(partial(_weighted_mean, ours), confidence=confidence).clipped(
                    *measure.range
                ),
                common_std=_deviation(ours),
                best=run.name in leaders and len(means) > 1,
                worse_than_best=run.name in beaten,
            )
        )
    return rows


def _mean(values: Values) -> float:
    return float(values.mean()) if values.size else float("nan")


def _deviation(values: Values) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else float("nan")


def _weighted_mean(values: Values, weights: Values) -> Values:
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ values / weights.sum(axis=-1))


def _spread(values: Values, measure: Measure) -> tuple[float, float, float, float]:
    """Lower quartile, median, upper quartile and the worst value."""
    if not values.size:
        return (float("nan"),) * 4
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
    worst = values.min() if measure.higher_is_better else values.max()
    return float(lower), float(median), float(upper), float(worst)


def _published(scores: Scores, measure: Measure, scope: Scope, run: Run) -> list[Summary]:
    """The published mean of the same kind of measure, whatever the runs call theirs."""
    nan = float("nan")
    return [
        Summary(
            scope, measure.name, run.name, 0, 0, one.mean, one.std, nan, nan, nan, nan, 0,
            Interval(one.mean, note="published"), reference=True,
        )
        for one in scores.published[run.name]
        if scores.measure(one.measure).kind == measure.kind
    ]  # fmt: skip


def _friedman(scores: Scores, measure: Measure, alpha: float) -> FriedmanRanks | None:
    common = scores.table(measure.name).dropna()
    return friedman_ranks(common.to_numpy(), list(common.columns), measure, alpha=alpha)
