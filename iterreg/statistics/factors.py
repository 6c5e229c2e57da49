"""Sensitivity arms: what one declared factor does to each method, and whether it does it to all alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iterreg.statistics.bootstrap import Interval

__all__ = ["FactorEffect", "FactorResult", "Interaction", "Pairing"]

Pairing = Literal["cases", "subjects", "none"]


@dataclass(frozen=True)
class FactorEffect:
    """What going from the baseline to another level does to one method, or to a class of methods.

    Attributes
    ----------
    method
        A method, or the name of a class.
    members
        The methods of a class, whose effects are averaged; empty for a method.
    level, baseline
        The two levels.
    measure
        By name.
    cases
        At the level and at the baseline; equal where they are paired.
    mean_level, mean_baseline
        In the measure's unit.
    effect
        Level minus baseline, in the measure's unit, with its interval.
    cohens_d, cohens_dz
        Of the effect; positive where the method gets better. d_z is NaN where nothing is paired.
    p
        Wilcoxon's signed-rank test of the paired cases; NaN where nothing is paired.
    smallest_p
        The smallest p so many cases could have given.
    """

    method: str
    members: tuple[str, ...]
    level: str
    baseline: str
    measure: str
    cases: tuple[int, int]
    mean_level: float
    mean_baseline: float
    effect: Interval
    cohens_d: float
    cohens_dz: float
    p: float
    smallest_p: float


@dataclass(frozen=True)
class Interaction:
    """Whether the factor does more to one method (or class) than to another.

    Attributes
    ----------
    first, second
        Methods or classes.
    difference
        Effect on the first minus effect on the second, in the measure's unit, with its interval.
    verdict
        ``"first suffers more"``, ``"second suffers more"``, ``"no interaction shown"``, ``"too few cases"``.
    """

    first: str
    second: str
    level: str
    baseline: str
    measure: str
    difference: Interval
    verdict: str


@dataclass(frozen=True)
class FactorResult:
    """Everything about one factor.

    Attributes
    ----------
    factor
        Its name.
    levels
        The baseline first.
    pairing
        Over what levels are compared: the same ``"cases"``, the same pairs of ``"subjects"`` (whose contrast
        differs), or ``"none"``, different subjects.
    """

    factor: str
    levels: tuple[str, ...]
    pairing: Pairing
    effects: tuple[FactorEffect, ...]
    interactions: tuple[Interaction, ...]
    notes: tuple[str, ...] = ()
