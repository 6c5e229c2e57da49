"""Two methods over the same cases: tests, effect sizes with intervals, counts, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.statistics.dyads import Dyads
from iterreg.statistics.effect_sizes import (
    cliffs_delta,
    cohens_d,
    cohens_dz,
    hedges_correction,
    mean_difference,
)
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.scores import Scope
from iterreg.statistics.tests import TestResult, holm, sign_flip_test, signed_rank_test

__all__ = ["Designs", "Effects", "Pairwise", "Tested", "Verdict", "cases_needed", "compare_pair", "judged"]

Verdict = Literal["first better", "second better", "no difference shown", "equal", "too few cases"]

Designs = Callable[[pd.MultiIndex], Dyads]
"""Who is shared by the cases with the index (case, fixed, moving)."""

VAGUE = 4.0
"""A standardised effect whose interval is wider than this is marked: it says hardly more than a direction."""


@dataclass(frozen=True)
class Tested:
    """A test with its correction.

    Attributes
    ----------
    result
        The test by itself.
    p_holm
        Corrected for all pairs of methods, and all scopes of the same kind, of the same measure.
    smallest_p_holm
        The smallest corrected p that was attainable, had all differences pointed the same way everywhere.
    """

    result: TestResult
    p_holm: float = float("nan")
    smallest_p_holm: float = float("nan")


@dataclass(frozen=True)
class Effects:
    """Effect sizes, positive in favour of the first method whichever way the measure is better.

    An interval too wide to say how large the effect is has a note; see `VAGUE`.

    Attributes
    ----------
    cohens_d
        Pooled, (mean x - mean y) / sqrt((s_x² + s_y²) / 2); ignores the pairing.
    hedges_g
        The same times Hedges' J(2n - 2).
    cohens_dz
        Paired, mean(d) / s_d.
    hedges_gz
        The same times J(n - 1).
    cliffs_delta
        Share of x_i better than y_j minus share worse, over all i and j.
    """

    cohens_d: Interval
    hedges_g: Interval
    cohens_dz: Interval
    hedges_gz: Interval
    cliffs_delta: Interval


@dataclass(frozen=True)
class Pairwise:
    """One comparison of two runs by one measure in one scope.

    Attributes
    ----------
    scope, measure, first, second
        What is compared; the measure and the runs by name.
    cases
        How many cases both have.
    only_first, only_second
        Cases that only one of them has: they are left out here.
    units, unit
        How many ``"subjects"`` (or independent ``"cases"``) the intervals rest on.
    shared
        Whether cases share subjects, so that the tests' p-values come out too small.
    held
        Subjects that are in every case (an atlas): what is found holds for them.
    mean_first, mean_second
        Over the common cases.
    difference
        First minus second, in the measure's own unit, with its interval.
    wins, ties, losses
        In how many cases the first is better, equal, worse.
    wilcoxon, sign_flips
        The tests that take cases for independent.
    dyadic
        Student's test of the difference, with the standard error of its interval: it allows for shared
        subjects.
    effects
        See `Effects`.
    verdict
        ``"too few cases"`` when no data from so many cases could have been significant after the correction,
        or when subjects are shared and too few for an interval. Otherwise better when Wilcoxon's corrected p
        is below alpha and, where subjects are shared, the dyadic test's corrected p is so too.
        ``"equal"`` when the two do not differ in a single case.
    why
        The verdict's reason, a phrase.
    """

    scope: Scope
    measure: str
    first: str
    second: str
    cases: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    units: int
    unit: str
    shared: bool
    held: tuple[str, ...]
    mean_first: float
    mean_second: float
    difference: Interval
    wins: int
    ties: int
    losses: int
    wilcoxon: Tested
    sign_flips: Tested
    dyadic: Tested
    effects: Effects
    verdict: Verdict = "too few cases"
    why: str = ""

    @property
    def assumption(self) -> str:
        """What the p-values assume, and whether it holds here."""
        if not self.cases:
            return "there is nothing to test"
        given = f"; all hold for {' and '.join(self.held)}, who is in every case" if self.held else ""
        if self.shared:
            return (
                f"Wilcoxon and sign flips take the {_cases(self.cases)} for independent, but they share "
                f"{self.units} subjects: their p are too small (anticonservative); the dyadic test and the "
                f"intervals allow for it{given}"
            )
        subject = "another subject" if self.held else "a subject"
        if self.cases == 1:
            return f"there is one case{given}"
        return f"the tests take the {self.cases} cases for independent; no two share {subject}{given}"

    @property
    def better(self) -> str:
        """The better run by the verdict; empty when neither is."""
        return {"first better": self.first, "second better": self.second}.get(self.verdict, "")


def compare_pair(
    table: pd.DataFrame,
    scope: Scope,
    measure: Measure,
    first: str,
    second: str,
    *,
    designs: Designs,
    confidence: float = 0.95,
    all_intervals: bool = True,
    seed: int = 1,
) -> Pairwise:
    """Compare two runs; p-values are not corrected yet and there is no verdict, see `judged`.

    Parameters
    ----------
    table
        Cases × runs of that measure and scope, as `Scores.table` gives it.
    designs
        Says who is shared by which cases.
    all_intervals
        Take intervals of all effect sizes, not of the difference and Cohen's d_z alone.
    """
    x, y = table[first].to_numpy(), table[second].to_numpy()
    has_first, has_second = np.isfinite(x), np.isfinite(y)
    both = has_first & has_second
    x, y = x[both], y[both]
    names = table.index.get_level_values("case")
    differences = (x - y) * measure.sign
    differences = np.where(np.abs(differences) <= 1e-12 * np.maximum(np.abs(x), np.abs(y)), 0.0, differences)
    dyads = designs(table.index[both])
    difference = dyads.interval(lambda w: mean_difference(x, y, w), confidence=confidence)
    return Pairwise(
        scope=scope,
        measure=measure.name,
        first=first,
        second=second,
        cases=x.size,
        only_first=tuple(names[has_first & ~has_second]),
        only_second=tuple(names[has_second & ~has_first]),
        units=dyads.units,
        unit=dyads.unit,
        shared=dyads.shared,
        held=dyads.held,
        mean_first=float(x.mean()) if x.size else float("nan"),
        mean_second=float(y.mean()) if y.size else float("nan"),
        difference=difference,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        wilcoxon=Tested(signed_rank_test(differences)),
        sign_flips=Tested(sign_flip_test(differences, seed=seed)),
        dyadic=Tested(_dyadic_test(difference, x.size, int((differences != 0).sum()))),
        effects=_effects(x * measure.sign, y * measure.sign, dyads, confidence, all_intervals),
    )


def _dyadic_test(difference: Interval, cases: int, differing: int) -> TestResult:
    """Student's test, by the standard error of the interval; a t has no smallest p."""
    known = difference.known
    with np.errstate(divide="ignore", invalid="ignore"):
        t = float(np.divide(difference.estimate, difference.standard_error))
    return TestResult(
        test="dyadic t",
        statistic=t,
        p=difference.p,
        smallest_p=0.0 if known else float("nan"),
        cases=cases,
        differing=differing,
        method=f"Student's t, {difference.freedom:.1f} degrees of freedom" if known else "",
    )


def _effects(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    dyads: Dyads,
    confidence: float,
    all_intervals: bool,
) -> Effects:
    def interval(size: Callable[..., NDArray[np.float64]], wanted: bool = all_intervals) -> Interval:
        if not wanted:
            estimate = float(size(x, y)) if x.size else float("nan")
            return Interval(estimate, confidence=confidence, note="no interval taken")
        return dyads.interval(lambda w: size(x, y, w), confidence=confidence)

    d, dz = _told(interval(cohens_d)), _told(interval(cohens_dz, True))
    return Effects(
        cohens_d=d,
        hedges_g=_corrected(d, 2 * x.size - 2),
        cohens_dz=dz,
        hedges_gz=_corrected(dz, x.size - 1),
        cliffs_delta=interval(cliffs_delta).clipped(-1, 1),
    )


def _told(size: Interval) -> Interval:
    """A standardised effect, with a note where its interval is too wide to say how large it is."""
    if not size.known or size.high - size.low <= VAGUE:
        return size
    return replace(size, note="too few to say how large it is")


def _corrected(interval: Interval, freedom: int) -> Interval:
    factor = float(hedges_correction(freedom))
    if np.isnan(factor):
        return Interval(float("nan"), confidence=interval.confidence, note="not defined")
    return interval.scaled(factor)


def judged(family: Sequence[Pairwise], *, alpha: float = 0.05) -> list[Pairwise]:
    """Correct a family of comparisons by Holm's method and say what follows from each."""
    corrected: dict[str, list[Tested]] = {}
    for name in ("wilcoxon", "sign_flips", "dyadic"):
        results = [getattr(one, name).result for one in family]
        p = holm([result.p for result in results])
        smallest = holm([result.smallest_p for result in results])
        corrected[name] = [
            Tested(result, float(a), float(b)) for result, a, b in zip(results, p, smallest, strict=True)
        ]
    tested = [
        replace(one, wilcoxon=wilcoxon, sign_flips=flips, dyadic=dyadic)
        for one, wilcoxon, flips, dyadic in zip(family, *corrected.values(), strict=True)
    ]
    tests = sum(one.cases > 0 for one in tested)
    verdicts = [_verdict(one, alpha, tests) for one in tested]
    return [
        replace(one, verdict=verdict, why=why) for one, (verdict, why) in zip(tested, verdicts, strict=True)
    ]


def cases_needed(tests: int, alpha: float = 0.05) -> int:
    """The fewest differing cases with which one of so many tests can be significant.

    The least n with tests · 2^(1 - n) < alpha.
    """
    return math.floor(math.log2(tests / alpha)) + 2


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _verdict(one: Pairwise, alpha: float, tests: int) -> tuple[Verdict, str]:
    result = one.wilcoxon.result
    if not one.cases:
        return "too few cases", "no case in common"
    if not result.differing and 2.0 ** (1 - one.cases) < alpha:
        return "equal", f"the same in all {_cases(one.cases)}"
    if not one.wilcoxon.smallest_p_holm < alpha:
        count = _cases(one.cases)
        if result.differing != one.cases:
            count = f"{result.differing} differing of {count}"
        return "too few cases", (
            f"{count} cannot give a corrected p below "
            f"{one.wilcoxon.smallest_p_holm:.2g}; {cases_needed(tests, alpha)} that differ can"
            + (f", whatever the other {tests - 1} of the {tests} comparisons give" if tests > 1 else "")
        )
    if one.shared and not one.difference.known:
        return "too few cases", f"cases share subjects, and there are {one.difference.note}"
    by_ranks = f"corrected p {one.wilcoxon.p_holm:.2g}"
    if not one.wilcoxon.p_holm < alpha:
        return "no difference shown", by_ranks
    favour = np.sign(2 * result.statistic - result.differing * (result.differing + 1) / 2)
    by_subjects = f"corrected p {one.dyadic.p_holm:.2g} by the dyadic test, which allows for shared subjects"
    if one.shared and not one.dyadic.p_holm < alpha:
        return "no difference shown", by_subjects
    if one.effects.cohens_dz.estimate * favour <= 0:
        return "no difference shown", "ranks and mean point opposite ways"
    verdict: Verdict = "first better" if favour > 0 else "second better"
    return verdict, f"{by_ranks} by Wilcoxon's test, {by_subjects}" if one.shared else by_ranks
