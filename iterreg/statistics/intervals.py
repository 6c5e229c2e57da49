"""A number with its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Interval"]


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
    standard_error, freedom
        Of the Student interval, and its degrees of freedom; NaN where there is none.
    note
        Why there is no interval, or what must be known of it; a phrase.
    """

    estimate: float
    low: float = float("nan")
    high: float = float("nan")
    confidence: float = 0.95
    standard_error: float = float("nan")
    freedom: float = float("nan")
    note: str = ""

    @classmethod
    def student(
        cls, estimate: float, standard_error: float, freedom: float, *, confidence: float = 0.95
    ) -> Interval:
        """Student's interval: the estimate, and its standard error times a quantile of t on either side."""
        from scipy.special import stdtrit

        reach = float(stdtrit(freedom, (1 + confidence) / 2)) * standard_error
        return cls(estimate, estimate - reach, estimate + reach, confidence, standard_error, freedom)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (np.isnan(self.low) or np.isnan(self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.known and (self.low > 0 or self.high < 0)

    @property
    def p(self) -> float:
        """Two-sided p of Student's test that the true number is zero; NaN where there is no interval."""
        from scipy.special import stdtr

        if not self.known:
            return float("nan")
        if self.standard_error == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return float(2 * stdtr(self.freedom, -abs(self.estimate) / self.standard_error))

    def scaled(self, factor: float) -> Interval:
        """The interval of the number times a factor; a negative one turns it round."""
        ends = sorted((self.low * factor, self.high * factor))
        return replace(
            self,
            estimate=self.estimate * factor,
            low=ends[0],
            high=ends[1],
            standard_error=self.standard_error * abs(factor),
        )

    def clipped(self, low: float, high: float) -> Interval:
        """The same without what the number cannot be: of a Dice nothing above 1."""
        if not self.known:
            return self
        return replace(self, low=max(self.low, low), high=min(self.high, high))
