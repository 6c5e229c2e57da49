"""Registration pairs are dyads: who is shared by which cases, and intervals that allow for it.

Two pairs that share a subject are not independent. Intervals are Student's, with a standard error from
leaving out one subject at a time. With few subjects that error is itself uncertain and, with most designs,
biased; both are known from the design alone and are allowed for, at their worst over how much of the scatter
may be due to subjects. See docs/statistics.md for what such intervals cover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.statistics.intervals import Interval

__all__ = ["FEWEST_UNITS", "Calibration", "Dyads", "Statistic"]

Values = NDArray[np.float64]

Statistic = Callable[[Values], Values]
"""Takes weights (..., cases), gives one number per row; NaN or infinite where it is not defined."""

FEWEST_UNITS = 6
"""With fewer subjects than this there is no interval: no six of anything could be significant either."""

_SHARES = np.linspace(0.0, 1.0, 11)
"""Shares of the variance that may be due to subjects, over which the worst is taken."""


@dataclass(frozen=True)
class Calibration:
    """What a design makes of the variance that leaving out subjects gives.

    Attributes
    ----------
    scale
        What the variance is multiplied by, so that it is nowhere too small on average.
    freedom
        Satterthwaite's degrees of freedom, at their fewest.
    """

    scale: float
    freedom: float


class Dyads:
    """A list of cases, given by their two subjects.

    Rules. A subject that is in every case (an atlas) is no sample of anything and is held fixed: what is
    found holds for it. Where no two cases share any other subject they are independent, and are the units
    themselves. A case of one subject with itself (another contrast of the same person) counts once for that
    subject.

    Parameters
    ----------
    fixed, moving
        Subject ids of each case.

    Attributes
    ----------
    unit
        ``"subjects"`` or ``"cases"``: what others could have been drawn of.
    units
        How many there are.
    held
        Subjects that are in every case.
    shared
        Whether some other subject is in more than one case: then tests that take cases for independent give
        too small p-values.
    membership
        (units, cases) float64: 1 where the unit is in the case, else 0.

    References
    ----------
    P. M. Aronow, C. Samii, V. A. Assenova, Cluster-robust variance estimation for dyadic data, Political
    Analysis 2015 (the variance); R. M. Bell, D. F. McCaffrey, Bias reduction in standard errors for linear
    regression with multi-stage samples, Survey Methodology 2002 (bias and freedom from the design).
    """

    def __init__(self, fixed: Sequence[str], moving: Sequence[str]) -> None:
        members = [frozenset(pair) for pair in zip(fixed, moving, strict=True)]
        counts = Counter(subject for pair in members for subject in sorted(pair))
        several = len(members) > 1
        self.held = tuple(name for name, count in counts.items() if several and count == len(members))
        names = [name for name in counts if name not in self.held]
        self.shared = any(counts[name] > 1 for name in names)
        self.unit = "subjects" if self.shared else "cases"
        if self.shared:
            row = {name: number for number, name in enumerate(names)}
            self.membership = np.zeros((len(names), len(members)))
            for case, pair in enumerate(members):
                self.membership[[row[name] for name in pair if name in row], case] = 1
        else:
            self.membership = np.eye(len(members))
        self.units = len(self.membership)
        self._calibrations: dict[bytes, Calibration] = {}

    def interval(
        self, statistic: Statistic, *, confidence: float = 0.95, coefficients: ArrayLike | None = None
    ) -> Interval:
        """The statistic of all cases, with an interval that allows for shared subjects.

        There is none, and the answer says so, with fewer than `FEWEST_UNITS` units, and where the statistic
        is not defined without one of them.

        Parameters
        ----------
        statistic
            A mean, or what behaves like one; see `Statistic`.
        coefficients
            (cases,): with which the cases enter the mean. None: all alike. For the difference of the means of
            two sets of cases 1 / n on the one, -1 / m on the other, 0 elsewhere.
        """
        cases = self.membership.shape[1]
        estimate = float(statistic(np.ones((1, cases)))[0]) if cases else float("nan")
        alone = Interval(estimate, confidence=confidence)
        if not np.isfinite(estimate):
            return replace(alone, note="not defined")
        entering = (
            np.full(cases, 1 / cases) if coefficients is None else np.asarray(coefficients, dtype=float)
        )
        shares = self.membership @ np.abs(entering) / np.abs(entering).sum()
        concerned = shares > 0
        if concerned.sum() < FEWEST_UNITS:
            return replace(alone, note=f"too few {self.unit} ({concerned.sum()}) for an interval")
        without = statistic(1 - self.membership[concerned])
        if not np.isfinite(without).all():
            return replace(alone, note=f"not defined without one of the {self.unit}: too few {self.unit}")
        # Of a mean these are the sums of each unit's residuals, divided by the number of cases.
        moved = (1 - shares[concerned]) * (without - estimate)
        found = self.calibration(entering)
        error = float(np.sqrt(found.scale * (moved**2).sum()))
        if error <= 1e-12 * abs(estimate):
            same = Interval.student(estimate, 0.0, found.freedom, confidence=confidence)
            return replace(same, note=f"the same without any one of the {self.unit}")
        return Interval.student(estimate, error, found.freedom, confidence=confidence)

    def calibration(self, coefficients: Values) -> Calibration:
        """What the design makes of the variance of a mean with such coefficients; see `interval`.

        The model: a case's number is a constant, plus an effect of each of its subjects, plus noise of its
        own. The share of the variance that is due to subjects is not known, and not estimated: whatever it
        is, the variance is not too small on average.
        """
        key = coefficients.tobytes()
        if key not in self._calibrations:
            make = _of_shared if self.shared else _of_independent
            self._calibrations[key] = make(self.membership, coefficients)
        return self._calibrations[key]

    def resampled(self, resamples: int, *, seed: int = 1) -> Values:
        """(resamples, cases): how often each case counts when units are drawn with replacement.

        A case counts as often as the product of its subjects' multiplicities says (A. B. Owen, The pigeonhole
        bootstrap, Ann. Appl. Stat. 2007); it may be 0 for all of them. Equal arguments give equal draws.
        """
        weights = np.ones((resamples, self.membership.shape[1]))
        if self.units:
            generator = np.random.default_rng(seed)
            drawn = generator.multinomial(self.units, np.full(self.units, 1 / self.units), size=resamples)
            for case, column in enumerate(self.membership.T.astype(bool)):
                weights[:, case] = drawn[:, column].prod(axis=1)
        return weights


def _sets(coefficients: Values) -> list[Values]:
    """The coefficients of each set of cases that a mean is taken over: those above and those below zero."""
    sets = [np.where(sign * coefficients > 0, coefficients, 0.0) for sign in (1, -1)]
    return [one for one in sets if one.any()]


def _of_independent(_: Values, coefficients: Values) -> Calibration:
    """The usual n / (n - 1) and n - 1, and Welch's degrees of freedom of two equally scattered sets."""
    counts = np.array([np.count_nonzero(one) for one in _sets(coefficients)], dtype=float)
    expected = ((counts - 1) / counts**2).sum()
    scattered = ((counts - 1) / counts**4).sum()
    return Calibration(float((1 / counts).sum() / expected), float(expected**2 / scattered))


def _of_shared(membership: Values, coefficients: Values) -> Calibration:
    """Mean and scatter of the variance as a quadratic form, for every share that may be due to subjects."""
    # Row by row what a unit's sum of residuals takes from each case.
    residual = np.zeros_like(membership)
    for one in _sets(coefficients):
        residual += membership * one - np.outer(membership @ one, one / one.sum())
    from_noise = residual @ residual.T
    through = residual @ membership.T
    from_subjects = through @ through.T / 2  # a case has two subjects: both halves make its variance 1
    true_noise = float(coefficients @ coefficients)
    true_subjects = float(((membership @ coefficients) ** 2).sum()) / 2
    ratios, freedoms = [], []
    for share in _SHARES:
        covariance = (1 - share) * from_noise + share * from_subjects
        expected = float(np.trace(covariance))
        ratios.append(((1 - share) * true_noise + share * true_subjects) / expected)
        freedoms.append(expected**2 / float((covariance**2).sum()))
    return Calibration(max(ratios), min(freedoms))
