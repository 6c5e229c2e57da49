"""Sensitivity arms: what one declared factor does to each method, and whether it does it to all alike.

The factor's levels are those of runs called ``METHOD@LEVEL`` (preprocessing, label source, resolution,
parameter file), or the tasks or contrasts of the cases. Means over weighted cases make every number, so that
one list of dyads serves levels that share all, some or none of their subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.statistics.dyads import Dyads
from iterreg.statistics.effect_sizes import cohens_d_independent, cohens_dz
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.scores import ALL_CASES, Scores
from iterreg.statistics.tests import TestResult, holm, signed_rank_test

__all__ = ["CASE_FACTORS", "FactorEffect", "FactorResult", "Interaction", "Pairing", "factor_result"]

CASE_FACTORS = ("task", "contrast")
"""Factors whose levels are those of the cases."""

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
        Effect on the first minus effect on the second, in the measure's unit, with its interval; the
        confidence is raised for the number of interactions of the measure (Bonferroni).
    p, p_holm, smallest_p_holm
        Wilcoxon's signed-rank test of the cases' differences of differences, corrected for the same number;
        NaN where nothing is paired.
    verdict
        ``"first suffers more"``: the level is worse for it than for the second, or gains it less;
        ``"second suffers more"``, ``"no interaction shown"`` or ``"too few cases"``.
    """

    first: str
    second: str
    level: str
    baseline: str
    measure: str
    difference: Interval
    p: float = float("nan")
    p_holm: float = float("nan")
    smallest_p_holm: float = float("nan")
    verdict: str = "too few cases"

    @property
    def words(self) -> str:
        """The verdict with the name in it."""
        name = {"first suffers more": self.first, "second suffers more": self.second}.get(self.verdict)
        return f"{name} suffers more" if name else self.verdict


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


@dataclass(frozen=True, eq=False)
class _Slots:
    """Where values stand: one slot per thing that the levels share, with its two subjects.

    Attributes
    ----------
    values
        (method, level) -> one number per slot, NaN where it has none.
    """

    pairing: Pairing
    fixed: tuple[str, ...]
    moving: tuple[str, ...]
    values: Mapping[tuple[str, str], NDArray[np.float64]]


def factor_result(
    scores: Scores,
    measures: Sequence[Measure],
    factor: str,
    *,
    baseline: str = "",
    classes: Mapping[str, Sequence[str]] | None = None,
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> FactorResult:
    """The effect of a factor on every method, and its interaction with the methods.

    Parameters
    ----------
    factor
        ``"task"`` or ``"contrast"``, when no run has a level in its name; else any name.
    baseline
        Empty: the first level.
    classes
        Name of a class -> its methods: the effects on its methods are averaged.

    Raises
    ------
    InputError
        If there are not two levels, or no such baseline or method.
    """
    arms = _arms(scores, factor)
    levels = list(dict.fromkeys(level for _, level in arms))
    if len(levels) < 2:
        raise InputError(
            f"the factor {factor!r} has not two levels to compare ({', '.join(levels) or 'none'}); call the "
            "runs METHOD@LEVEL, or name the factor task or contrast where the cases have several"
        )
    if baseline and baseline not in levels:
        raise InputError(f"{factor} has no level {baseline!r}; its levels are {', '.join(levels)}")
    first = baseline or levels[0]
    levels = [first, *(level for level in levels if level != first)]
    methods = list(dict.fromkeys(method for method, _ in arms))
    units = {method: (method,) for method in methods} | _classes(classes or {}, methods)
    effects: list[FactorEffect] = []
    interactions: list[Interaction] = []
    pairings: list[Pairing] = []
    for measure in measures:
        slots = _slots(scores, measure, arms, levels)
        pairings.append(slots.pairing)
        dyads = Dyads(slots.fixed, slots.moving)
        for level in levels[1:]:
            between = (level, levels[0])
            effects += [
                effect
                for name, members in units.items()
                for effect in [_effect(name, members, between, measure, slots, dyads, confidence)]
                if effect is not None
            ]
        family = [
            found
            for level in levels[1:]
            for one, other in _partners(units, methods)
            for found in [_interaction(one, other, units, (level, levels[0]), measure, slots)]
            if found is not None
        ]
        interactions += _judged(family, measure, slots.pairing, dyads, alpha, confidence)
    pairing: Pairing = next((one for one in pairings if one != "cases"), "cases")
    return FactorResult(
        factor, tuple(levels), pairing, tuple(effects), tuple(interactions), _notes(pairing, factor)
    )


def _arms(scores: Scores, factor: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(method, level) -> (run, level of its cases or nothing)."""
    named = {(run.method, run.level): (run.name, "") for run in scores.own_runs if run.level}
    if named or factor not in CASE_FACTORS:
        return named
    levels = [str(level) for level in dict.fromkeys(scores.cases[factor]) if level]
    return {(run.name, level): (run.name, level) for level in levels for run in scores.own_runs}


def _classes(classes: Mapping[str, Sequence[str]], methods: Sequence[str]) -> dict[str, tuple[str, ...]]:
    for name, members in classes.items():
        for member in members:
            if member not in methods:
                raise InputError(
                    f"class {name}: there is no method {member!r} with levels; there are {', '.join(methods)}"
                )
        if name in methods:
            raise InputError(f"class {name}: a method has that name already; call the class otherwise")
    return {name: tuple(members) for name, members in classes.items()}


def _partners(units: Mapping[str, tuple[str, ...]], methods: Sequence[str]) -> list[tuple[str, str]]:
    """Classes are compared with classes; without any, methods with methods."""
    names = [name for name in units if name not in methods]
    return list(combinations(names if len(names) > 1 else methods, 2))


def _slots(
    scores: Scores,
    measure: Measure,
    arms: Mapping[tuple[str, str], tuple[str, str]],
    levels: Sequence[str],
) -> _Slots:
    table = scores.table(measure.name, ALL_CASES)
    of_case = scores.cases.drop_duplicates("case").set_index("case")
    columns: dict[tuple[str, str], pd.Series] = {}
    for (method, level), (run, case_level) in arms.items():
        column = table[run].dropna()
        if case_level:
            kinds = of_case[_factor_column(of_case, case_level)].reindex(
                column.index.get_level_values("case")
            )
            column = column[(kinds == case_level).to_numpy()]
        columns[method, level] = column
    for pairing in ("cases", "subjects"):
        keyed = {arm: _keyed(column, pairing) for arm, column in columns.items()}
        if all(not column.empty and column.index.is_unique for column in keyed.values()) and _overlap(
            keyed, levels
        ):
            return _gathered(keyed, pairing)
    return _gathered({arm: _keyed(column, "none", arm[1]) for arm, column in columns.items()}, "none")


def _factor_column(of_case: pd.DataFrame, level: str) -> str:
    return "task" if (of_case["task"] == level).any() else "contrast"


def _keyed(column: pd.Series, pairing: str, level: str = "") -> pd.Series:
    """The values under the key by which levels are paired: (key, fixed, moving)."""
    keys = [
        ({"cases": case, "subjects": "", "none": f"{level} {case}"}[pairing], fixed, moving)
        for case, fixed, moving in column.index
    ]
    index = pd.MultiIndex.from_tuples(keys, names=["key", "fixed", "moving"]) if keys else column.index
    return pd.Series(column.to_numpy(), index=index)


def _overlap(keyed: Mapping[tuple[str, str], pd.Series], levels: Sequence[str]) -> bool:
    """Whether every method has something in common between the baseline and each other level."""
    methods = dict.fromkeys(method for method, _ in keyed)
    pairs = [((m, levels[0]), (m, level)) for m in methods for level in levels[1:]]
    return all(
        len(keyed[one].index.intersection(keyed[other].index))
        for one, other in pairs
        if one in keyed and other in keyed
    )


def _gathered(keyed: Mapping[tuple[str, str], pd.Series], pairing: Pairing) -> _Slots:
    wide = pd.concat(dict(keyed), axis=1, sort=False) if keyed else pd.DataFrame()
    return _Slots(
        pairing=pairing,
        fixed=tuple(wide.index.get_level_values(1)),
        moving=tuple(wide.index.get_level_values(2)),
        values={arm: wide[arm].to_numpy(dtype=float) for arm in keyed},
    )


def _pair_of_levels(
    members: Sequence[str], between: tuple[str, str], slots: _Slots
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """At the level and at the baseline: one number per slot, averaged over the methods that count together.

    A slot counts where all members have it, and, where levels are paired, at both levels.
    """
    if any((member, level) not in slots.values for member in members for level in between):
        return None
    at = [np.mean([slots.values[member, level] for member in members], axis=0) for level in between]
    if slots.pairing != "none":
        lacking = np.isnan(at[0]) | np.isnan(at[1])
        at = [np.where(lacking, np.nan, values) for values in at]
    return (at[0], at[1]) if all(np.isfinite(values).any() for values in at) else None


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(weights[..., known] @ values[known] / weights[..., known].sum(axis=-1))


def _coefficients(
    at_level: NDArray[np.float64], at_baseline: NDArray[np.float64], paired: bool
) -> NDArray[np.float64]:
    """With which the slots enter an effect: paired as a mean of differences, else as one of two means."""
    level, baseline = (known / known.sum() for known in (np.isfinite(at_level), np.isfinite(at_baseline)))
    return np.asarray(level if paired else level - baseline)


def _effect(
    name: str,
    members: tuple[str, ...],
    between: tuple[str, str],
    measure: Measure,
    slots: _Slots,
    dyads: Dyads,
    confidence: float,
) -> FactorEffect | None:
    found = _pair_of_levels(members, between, slots)
    if found is None:
        return None
    at_level, at_baseline = found
    x, y = (values[np.isfinite(values)] * measure.sign for values in found)
    paired = slots.pairing != "none"
    test = _test(x - y) if paired else None
    return FactorEffect(
        method=name,
        members=() if members == (name,) else members,
        level=between[0],
        baseline=between[1],
        measure=measure.name,
        cases=(x.size, y.size),
        mean_level=float(x.mean()) * measure.sign,
        mean_baseline=float(y.mean()) * measure.sign,
        effect=dyads.interval(
            lambda w: _weighted_mean(at_level, w) - _weighted_mean(at_baseline, w),
            confidence=confidence,
            coefficients=_coefficients(at_level, at_baseline, paired),
        ),
        cohens_d=float(cohens_d_independent(x, y)),
        cohens_dz=float(cohens_dz(x, y)) if paired else float("nan"),
        p=test.p if test else float("nan"),
        smallest_p=test.smallest_p if test else float("nan"),
    )


def _test(differences: NDArray[np.float64]) -> TestResult:
    rounding = 1e-12 * np.abs(differences).max(initial=0.0)
    return signed_rank_test(np.where(np.abs(differences) <= rounding, 0.0, differences))


_Family = list[tuple[Interaction, tuple[NDArray[np.float64], ...], TestResult | None]]


def _interaction(
    one: str,
    other: str,
    units: Mapping[str, tuple[str, ...]],
    between: tuple[str, str],
    measure: Measure,
    slots: _Slots,
) -> tuple[Interaction, tuple[NDArray[np.float64], ...], TestResult | None] | None:
    """The four columns of numbers an interaction is made of; where paired, over slots that all four have."""
    found = [_pair_of_levels(units[name], between, slots) for name in (one, other)]
    if found[0] is None or found[1] is None:
        return None
    four: tuple[NDArray[np.float64], ...] = (*found[0], *found[1])
    if slots.pairing == "none":  # at each level both methods must have the case
        lacks = [np.isnan(four[i]) | np.isnan(four[i + 2]) for i in (0, 1)]
    else:
        lacks = [np.isnan(four).any(axis=0)] * 2
    if any(lacking.all() for lacking in lacks):
        return None
    four = tuple(np.where(lacks[i % 2], np.nan, values) for i, values in enumerate(four))
    test = None
    if slots.pairing != "none":
        lacking = lacks[0]
        test = _test(((four[0] - four[1]) - (four[2] - four[3]))[~lacking] * measure.sign)
    empty = Interval(float("nan"))
    return Interaction(one, other, *between, measure.name, empty), four, test


def _difference_of_effects(
    four: Sequence[NDArray[np.float64]], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    means = [_weighted_mean(values, weights) for values in four]
    return (means[0] - means[1]) - (means[2] - means[3])


def _judged(
    family: _Family, measure: Measure, pairing: Pairing, dyads: Dyads, alpha: float, confidence: float
) -> list[Interaction]:
    together = 1 - (1 - confidence) / max(1, len(family))
    tests = [test for _, _, test in family]
    p = holm([test.p if test else float("nan") for test in tests])
    smallest = holm([test.smallest_p if test else float("nan") for test in tests])
    judged = []
    for (one, four, test), p_holm, smallest_holm in zip(family, p, smallest, strict=True):
        difference = dyads.interval(
            partial(_difference_of_effects, four),
            confidence=together,
            coefficients=_coefficients(four[0], four[1], pairing != "none"),
        )
        verdict = "no interaction shown"
        if not difference.known or (test is not None and not smallest_holm < alpha):
            verdict = "too few cases"
        elif difference.excludes_zero and (test is None or p_holm < alpha):
            worse = difference.estimate * measure.sign < 0
            verdict = "first suffers more" if worse else "second suffers more"
        judged.append(
            replace(
                one,
                difference=difference,
                p=test.p if test else float("nan"),
                p_holm=float(p_holm),
                smallest_p_holm=float(smallest_holm),
                verdict=verdict,
            )
        )
    return judged


def _notes(pairing: Pairing, factor: str) -> tuple[str, ...]:
    return {
        "cases": (f"The levels of {factor} are compared over the same cases.",),
        "subjects": (f"The levels of {factor} are compared over the same pairs of subjects.",),
        "none": (
            f"The levels of {factor} are different cases: nothing is paired, there is no test, and what else "
            "differs between them cannot be told from the factor.",
        ),
    }[pairing]
