"""Says in sentences what a comparison found: who is best, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from iterreg.statistics.comparison import Comparison
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.paired import Pairwise
from iterreg.words import count

__all__ = ["costs", "count", "interval", "leader", "number", "p_value", "sentences", "short", "verdict_words"]

_COVERED = 0.5
"""Whoever has at least this share of the cases that the most complete run has may lead."""


def number(value: float, digits: int = 4) -> str:
    """A number for tables: four decimals, fewer for large ones, scientific for tiny ones; – for none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if value and size < 0.5 * 10.0**-digits:
        return f"{value:.1e}".replace("-", "−")
    if size >= 10:
        digits = 0 if size >= 1000 else min(digits, 1) if size >= 100 else max(digits - 2, 0)
    return f"{value:.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """A number with three digits that count, for effect sizes."""
    if not math.isfinite(value):
        return number(value)
    return f"{value:.2f}".replace("-", "−") if abs(value) < 10 else f"{value:.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value: three decimals, below that an upper bound."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(found: Interval, digits: int = 4) -> str:
    """Ends of an interval in brackets; empty when there is none."""
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]" if found.known else ""


def leader(comparison: Comparison, measure: Measure) -> str:
    """The run that most others fall behind, pair of methods by pair of methods.

    Only runs with many cases may lead: one that was tried on a single easy pair is no winner. Empty when
    no run has a number.
    """
    covered = _covering(comparison, measure)
    ahead = dict.fromkeys(covered, 0)
    for one in comparison.pairs(measure.name):
        gain = measure.sign * one.difference.estimate
        winner = one.first if gain > 0 else one.second if gain < 0 else ""
        if winner in ahead and {one.first, one.second} <= set(covered):
            ahead[winner] += 1
    return max(ahead, key=lambda run: (ahead[run], measure.sign * covered[run]), default="")


def sentences(comparison: Comparison) -> tuple[str, list[str]]:
    """The summary: one leading sentence, and what supports it.

    Returns
    -------
    lead, further sentences
        About the first measure; the other measures have a sentence each.
    """
    measure = comparison.measures[0]
    first = leader(comparison, measure)
    if not first:
        return f"No method has a number of {measure.title}.", []
    means = _means(comparison, measure)
    value, pairs = means[first]
    mean = f"mean {number(value)} over {count(pairs, 'pair')}"
    rivals = [one for one in comparison.pairs(measure.name) if first in (one.first, one.second)]
    if len(means) == 1:
        others = any(row.cases and row.run != first for row in comparison.summary(measure.name))
        where = " in most pairs" if others else ""
        said_first = f"{first} is the only method with a number of {measure.title}{where}: {mean}."
        return said_first, _others(comparison, first)
    best = _best(means, measure)
    if best == [first]:
        claim = f"{first} has the best {measure.title}: {mean}."
    elif first in best:
        claim = f"{_listed(best)} share the best {measure.title}: {mean}."
    else:
        claim = (
            f"{first} is ahead of most others by {measure.title}, two by two over the pairs that both have: "
            f"{mean}."
        )
    # Where the claim names several, "it" would be any of them.
    subject = first if first in best and best != [first] else "it"
    lead = " ".join([claim, *_outcomes(rivals, first, subject)])
    said = [versus(one, first, measure) for one in _ordered(rivals, first, measure)]
    return lead, said + _others(comparison, first)


def _outcomes(rivals: Sequence[Pairwise], run: str, subject: str) -> list[str]:
    """What the comparisons of `run`, called `subject`, with all others gave: a sentence for each outcome."""
    by: dict[str, list[str]] = {}
    for one in rivals:
        outcome = "won" if one.better == run else "lost" if one.better else one.verdict
        by.setdefault(outcome, []).append(_other(one, run))
    phrases = (
        ("won", "{who} is better than {others}, and the cases suffice to say so."),
        ("no difference shown", "Against {others} no difference is shown."),
        ("equal", "{who} does just as {others}."),
        ("too few cases", "There are too few cases to say whether {subject} is better than {others}."),
        ("lost", "Yet {others} did better where both were tried."),
    )
    return [
        phrase.format(
            others=_listed(by[outcome], "or" if outcome == "too few cases" else "and"),
            subject=subject,
            who="It" if subject == "it" else subject,
        )
        for outcome, phrase in phrases
        if outcome in by
    ]


def versus(one: Pairwise, run: str, measure: Measure) -> str:
    """One comparison, as seen from `run`."""
    other = _other(one, run)
    turned = one if one.first == run else None
    gain = one.difference if turned else one.difference.scaled(-1)
    wins = one.wins if turned else one.losses
    if not one.cases:
        return f"{run} and {other} have no case in common."
    way = "higher" if gain.estimate > 0 else "lower"
    said = f"Against {other}: {measure.title} {number(abs(gain.estimate))} {way}"
    if gain.estimate == 0:
        said = f"Against {other}: the same {measure.title}"
    if gain.known:
        percent = round(100 * gain.confidence)
        said += f" ({percent} % interval of the difference {number(gain.low)} to {number(gain.high)})"
    said += f", better in {wins} of {count(one.cases, 'pair')}"
    if one.wilcoxon.result.differing:
        said += f"; p = {p_value(one.wilcoxon.p_holm)} (Wilcoxon, Holm)".replace("= <", "<")
    return f"{said}. {verdict_words(one)}"


def verdict_words(one: Pairwise) -> str:
    """The verdict as a sentence."""
    why = f" ({one.why})" if one.why else ""
    if one.better:
        return f"{one.better} is better{why}."
    return {
        "no difference shown": f"No difference is shown{why}.",
        "equal": f"They are equal{why}.",
    }.get(one.verdict, f"Too few cases for a verdict{why}.")


def _others(comparison: Comparison, first: str) -> list[str]:
    """A sentence for each further measure."""
    said = []
    for measure in comparison.measures[1:]:
        means = _means(comparison, measure)
        if first not in means:
            continue
        best = _best(means, measure)
        own, highest = (number(means[run][0]) for run in (first, best[0]))
        over = f" over {count(means[best[0]][1], 'pair')}"
        if len(means) == 1:
            said.append(f"{measure.title}: mean {own}.")
        elif len(best) == len(means):
            said.append(f"{measure.title}: the same for all methods, {own}.")
        elif best == [first]:
            said.append(f"{measure.title}: {first} is best here too, mean {own}.")
        elif first in best:
            said.append(f"{measure.title}: {_listed(best)} share the best mean, {own}.")
        elif len(best) > 1:
            said.append(
                f"{measure.title}: {_listed(best)} share the best mean, {highest}; {first} has {own}."
            )
        else:
            said.append(f"{measure.title}: {best[0]} is best, mean {highest}{over}; {first} has {own}.")
    return said


def _covering(comparison: Comparison, measure: Measure) -> dict[str, float]:
    """Runs that have many of the cases, with the means over their own: one easy pair makes no winner."""
    rows = [row for row in comparison.summary(measure.name) if row.cases]
    most = max((row.cases for row in rows), default=0)
    return {row.run: row.mean for row in rows if row.cases >= _COVERED * most}


def _means(comparison: Comparison, measure: Measure) -> dict[str, tuple[float, int]]:
    """Run -> its mean and over how many pairs, of those with many cases: over what all of them have."""
    own = _covering(comparison, measure)
    table = comparison.scores.table(measure.name)[list(own)]
    common = table.dropna()
    if len(common):
        return {run: (float(common[run].mean()), len(common)) for run in own}
    return {run: (mean, int(table[run].notna().sum())) for run, mean in own.items()}


def _best(means: Mapping[str, tuple[float, int]], measure: Measure) -> list[str]:
    """The runs with the best mean as it is written: what is equal there is not told apart."""
    best = max((value for value, _ in means.values()), key=lambda value: measure.sign * value)
    return [run for run, (value, _) in means.items() if number(value) == number(best)]


def costs(comparison: Comparison) -> str:
    """What the methods cost; empty when no run says."""
    if "cpu_s" not in [measure.name for measure in comparison.scores.measures]:
        return ""
    said = []
    for run in comparison.scores.own_runs:
        values = _column(comparison, "cpu_s", run.name)
        if values.size:
            said.append(f"{run.name} {number(float(values.mean()), 3)} s")
    return f"CPU time a pair: {', '.join(said)}." if said else ""


def _column(comparison: Comparison, measure: str, run: str) -> NDArray[np.float64]:
    table = comparison.scores.table(measure)
    return np.asarray(table[run].dropna(), dtype=float)


def _ordered(rivals: Sequence[Pairwise], first: str, measure: Measure) -> list[Pairwise]:
    """Closest rival first."""

    def gap(one: Pairwise) -> float:
        gain = measure.sign * one.difference.estimate * (1 if one.first == first else -1)
        return math.inf if math.isnan(gain) else gain

    return sorted(rivals, key=gap)


def _other(one: Pairwise, run: str) -> str:
    return one.second if one.first == run else one.first


def _listed(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
