"""Bootstrap intervals that know that pairs are dyads: subjects are drawn, pairs follow.

Two pairs that share a subject are not independent, so cases must not be drawn one by one. Subjects are
drawn with replacement; a pair counts as often as the product of its two subjects' multiplicities says
(Owen's pigeonhole bootstrap); acceleration for BCa comes from leaving out one subject at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

__all__ = ["Interval", "SubjectBootstrap"]

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Takes weights (..., cases), gives one number per row; NaN or infinite where it is not defined."""

FEWEST_UNITS = 5
"""With fewer subjects than this to draw from, a bootstrap interval means nothing."""

_USABLE = 0.9
"""An interval is given when the statistic is defined for at least this share of the resamples."""


@dataclass(frozen=True)
class Interval:
    """A number with its uncertainty.

    Attributes
    ----------
    estimate
        From all cases; NaN or infinite where it is not defined.
    low, high
        Ends of the interval; NaN where there is none.
    confidence
        For example 0.95.
    method
        ``"BCa"``, ``"percentile"`` where BCa's corrections are not defined, ``""`` where there is none.
    note
        Why there is no interval, or what must be known of it; a phrase.
    """

    estimate: float
    low: float = float("nan")
    high: float = float("nan")
    confidence: float = 0.95
    method: str = ""
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(self.method)

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.known and (self.low > 0 or self.high < 0)

    def scaled(self, factor: float) -> Interval:
        """The interval of the number times a factor; a negative one turns it round."""
        ends = sorted((self.low * factor, self.high * factor))
        return replace(self, estimate=self.estimate * factor, low=ends[0], high=ends[1])


class SubjectBootstrap:
    """Draws subjects and weights cases, for a list of cases given by their two subjects.

    Rules. A subject that is in every case (an atlas) is no sample of anything and is held fixed. Where no two
    cases share any other subject they are independent and are drawn themselves. A case of one subject with
    itself (another contrast of the same person) counts as often as that subject.

    Parameters
    ----------
    fixed, moving
        Subject ids of each case.
    resamples
        How many times subjects are drawn.
    seed
        Of the drawing; equal arguments give equal resamples.

    Attributes
    ----------
    units
        How many subjects (or independent cases) are drawn from.
    unit
        ``"subjects"`` or ``"cases"``.
    held
        Subjects that are in every case.
    shared
        Whether some other subject is in more than one case: then tests that take cases for independent give
        too small p-values.
    weights
        (resamples, cases) float64, how often each case counts; it may be 0 for all of them.
    without
        (units, cases) float64: one row per unit, 0 for its cases and 1 for the others.

    References
    ----------
    A. B. Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 2007; B. Efron, Better bootstrap confidence
    intervals, JASA 1987.
    """

    def __init__(
        self, fixed: Sequence[str], moving: Sequence[str], *, resamples: int = 2000, seed: int = 1
    ) -> None:
        members = [frozenset(pair) for pair in zip(fixed, moving, strict=True)]
        counts = Counter(subject for pair in members for subject in sorted(pair))
        several = len(members) > 1
        self.held = tuple(name for name, count in counts.items() if several and count == len(members))
        names = [name for name in counts if name not in self.held]
        self.shared = any(counts[name] > 1 for name in names)
        if self.shared:
            self.unit = "subjects"
            column = {name: number for number, name in enumerate(names)}
            rows = [[column[name] for name in sorted(pair) if name in column] for pair in members]
        else:
            self.unit = "cases"
            names = [str(number) for number in range(len(members))]
            rows = [[number] for number in range(len(members))]
        self.units = len(names)
        generator = np.random.default_rng(seed)
        drawn = (
            generator.multinomial(self.units, np.full(self.units, 1 / self.units), size=resamples)
            if self.units
            else np.zeros((resamples, 0), dtype=np.int64)
        )
        self.weights = _products(drawn.astype(float), rows)
        self.without = _products(1.0 - np.eye(self.units), rows)

    def interval(self, statistic: Statistic, *, confidence: float = 0.95) -> Interval:
        """The statistic of all cases, with a BCa interval.

        There is none, and the answer says so, with fewer than `FEWEST_UNITS` units, and where the statistic
        is not defined for more than a tenth of the resamples; a smaller share is left out and told.
        """
        cases = self.weights.shape[1]
        estimate = float(statistic(np.ones((1, cases)))[0]) if cases else float("nan")
        alone = Interval(estimate, confidence=confidence)
        if not np.isfinite(estimate):
            return replace(alone, note="not defined")
        if self.units < FEWEST_UNITS:
            return replace(alone, note=f"too few {self.unit} ({self.units}) for an interval")
        drawn = statistic(self.weights)
        usable = drawn[np.isfinite(drawn)]
        lost = drawn.size - usable.size
        if usable.size < _USABLE * drawn.size:
            return replace(
                alone, note=f"not defined in {lost} of {drawn.size} resamples: too few {self.unit}"
            )
        note = f"{lost} of {drawn.size} resamples left out, where it is not defined" if lost else ""
        if usable.size and np.ptp(usable) == 0:
            note = "all resamples give the same"
        low, high, method = _ends(estimate, usable, statistic(self.without), confidence)
        return Interval(estimate, low, high, confidence, method, note)


def _products(multiplicities: NDArray[np.float64], rows: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """(draws, units) -> (draws, cases): the product over each case's units."""
    weights = np.ones((multiplicities.shape[0], len(rows)))
    for place in (0, 1):
        having = [case for case, units in enumerate(rows) if len(units) > place]
        weights[:, having] *= multiplicities[:, [rows[case][place] for case in having]]
    return weights


def _ends(
    estimate: float, drawn: NDArray[np.float64], without: ArrayLike, confidence: float
) -> tuple[float, float, str]:
    """Ends of the BCa interval; of the percentile interval where its two corrections are not defined."""
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    slack = 1e-12 * max(1.0, abs(estimate))
    below = np.mean(drawn < estimate - slack) + np.mean(np.abs(drawn - estimate) <= slack) / 2
    left = np.asarray(without, dtype=float)
    method = "percentile"
    if np.isfinite(left).all() and 0 < below < 1:
        bias = float(ndtri(below))
        deviations = left.mean() - left
        spread = float((deviations**2).sum()) ** 1.5
        acceleration = float((deviations**3).sum()) / (6 * spread) if spread > 0 else 0.0
        shifted = bias + ndtri(tails)
        scale = 1 - acceleration * shifted
        if (scale > 0).all():
            tails, method = ndtr(bias + shifted / scale), "BCa"
    low, high = np.quantile(drawn, tails)
    return float(low), float(high), method
