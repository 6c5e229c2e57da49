"""The report's tables, as rows of cells that a template writes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iterreg.report.results import Results
from iterreg.report.words import interval, number, p_value, short
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.paired import Pairwise
from iterreg.statistics.scores import Scope, ScopeKind
from iterreg.statistics.table_formats import VAGUE_MARK, vague
from iterreg.statistics.tables import lacking, remarks

__all__ = ["Cell", "TableView", "by_pair", "by_scope", "effects", "overview", "pairwise", "rankings"]

_EXTRAS = ("folded_percent", "sdlogj", "inverse_consistency_mean_mm", "cpu_s", "peak_mib")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text
        Plain text.
    value
        What it is sorted by, when not by its text.
    kind
        Style classes: ``"best"``, ``"bad"``, ``"wrap"``, ``"reference"``.
    run
        The run it names, for the colour beside it.
    """

    text: str
    value: float | None = None
    kind: str = ""
    run: str = ""

    @property
    def sorted_by(self) -> str:
        """`value` as the page holds it; empty where the text says it."""
        return "" if self.value is None or math.isnan(self.value) else repr(float(self.value))


@dataclass(frozen=True)
class TableView:
    """A table with its caption and what must stand below it."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: tuple[int, ...] = (0,)


def overview(
    comparison: Comparison | None, results: Sequence[Results], cases: Mapping[str, str]
) -> TableView:
    """A row per method: means over the cases that all have, and over more of its own where it has more.

    Parameters
    ----------
    cases
        Case -> name of its pair: all that there should be.
    """
    pairs = len(cases)
    if comparison is None:
        empty = tuple((Cell(one.entry.name, run=one.entry.name), Cell(f"0 of {pairs}", 0)) for one in results)
        return TableView("Methods", ("method", "scored"), empty)
    extras = [m for m in comparison.scores.measures if m.name in _EXTRAS and _any(comparison, m)]
    extras.sort(key=lambda measure: _EXTRAS.index(measure.name))
    heads = ["method", "scored", *(f"{m.title} {m.arrow}" for m in (*comparison.measures, *extras))]
    by_name = {one.entry.name: one for one in results}
    rows = []
    everywhere = Scope("all")
    for run in comparison.scores.runs:
        means = [_summary_cell(comparison, one, run.name, everywhere) for one in comparison.measures]
        if run.reference:
            cells = [Cell(run.name), Cell("published"), *means, *(Cell("–") for _ in extras)]
            rows.append(tuple(replace(cell, kind="reference") for cell in cells))
            continue
        done = sum(by_name[run.name].failure(case, pair) is None for case, pair in cases.items())
        further = [_mean_cell(comparison, measure, run.name) for measure in extras]
        rows.append((Cell(run.name, run=run.name), _scored(done, pairs), *means, *further))
    known = {run.name for run in comparison.scores.runs}
    for name in [name for name in by_name if name not in known]:
        rows.append((Cell(name, run=name), _scored(0, pairs), *(Cell("–") for _ in heads[2:])))
    return TableView("Methods", tuple(heads), tuple(rows), _mean_notes(comparison))


def pairwise(comparison: Comparison, measure: Measure) -> TableView | None:
    """Every two methods by one measure over all cases; None when there is nothing to compare."""
    found = comparison.pairs(measure.name)
    if not found:
        return None
    percent = f"{round(100 * comparison.confidence)} % interval"
    heads = (
        "first", "second", "verdict", "pairs", "first − second", percent, "won / tied / lost",
        "p Wilcoxon", "p sign flips", "p dyadic", "smallest p",
    )  # fmt: skip
    unequal = "; ".join(
        f"{one.first} and {one.second}: {len(one.only_first)} and {len(one.only_second)}"
        for one in found
        if one.only_first or one.only_second
    )
    reasons = dict.fromkeys(
        f"{one.verdict[:1].upper()}{one.verdict[1:]}: {one.why}."
        for one in found
        if one.why and not one.better
    )
    notes = (
        *reasons,
        *(f"{text[:1].upper()}{text[1:]}." for text in dict.fromkeys(one.assumption for one in found)),
        "p-values are corrected by Holm's method; p dyadic is of Student's test that allows for shared "
        "subjects; smallest p is the smallest corrected Wilcoxon p that so many pairs could have given.",
        *remarks([measure]),
        *([f"Pairs that only the one or only the other has are left out: {unequal}."] if unequal else []),
    )
    return TableView(
        f"{measure.title}: every two methods over the pairs that both have",
        heads,
        tuple(_pair_row(one) for one in found),
        notes,
        (0, 1, 2),
    )


def effects(comparison: Comparison, measure: Measure) -> TableView | None:
    """The effect sizes of the same comparisons."""
    found = comparison.pairs(measure.name)
    if not found:
        return None
    heads = ("first", "second", "pairs", "Cohen's d_z", "Hedges' g_z", "Cohen's d", "Cliff's δ")
    rows = []
    for one in found:
        sizes = one.effects
        cells = [
            Cell(f"{short(size.estimate)} {_short_interval(size)}".strip(), size.estimate)
            for size in (sizes.cohens_dz, sizes.hedges_gz, sizes.cohens_d, sizes.cliffs_delta)
        ]
        runs = (Cell(one.first, run=one.first), Cell(one.second, run=one.second))
        rows.append((*runs, Cell(str(one.cases), one.cases), *cells))
    formulas = (
        "Positive where the first is better. d_z = mean(d) / s_d over the paired differences d; "
        "g_z = J(n − 1) d_z with Hedges' correction J; d = (mean x − mean y) / √((s_x² + s_y²) / 2), which "
        "ignores the pairing; δ = share of x better than y minus share worse."
    )
    shown = [
        size
        for one in found
        for size in (one.effects.cohens_dz, one.effects.cohens_d, one.effects.cliffs_delta)
    ]
    notes = [formulas]
    if any(size.known for size in shown):
        notes.append("In brackets: intervals that allow for shared subjects.")
    notes += dict.fromkeys(f"No interval: {size.note}." for size in shown if not size.known and size.note)
    if any(map(vague, shown)):
        notes.append(f"{VAGUE_MARK}: an interval so wide that it hardly says how large the effect is.")
    return TableView(f"{measure.title}: effect sizes", heads, tuple(rows), tuple(notes), (0, 1))


def by_scope(comparison: Comparison, measure: Measure, kind: ScopeKind, title: str) -> TableView | None:
    """Scopes × methods; None where there is one scope alone."""
    scopes = comparison.scopes(measure.name, kind)
    if not scopes:
        return None
    runs = comparison.scores.own_runs
    rows = []
    for scope in scopes:
        label = scope.name
        if kind == "label":
            known = comparison.scores.label_names.get(int(scope.name), "")
            label = f"{scope.name} {known}".strip()
        cases = max((row.cases for row in comparison.summary(measure.name, scope)), default=0)
        cells = [_summary_cell(comparison, measure, run.name, scope) for run in runs]
        rows.append((Cell(label), Cell(str(cases), cases), *cells))
    heads = (title, "pairs", *(run.name for run in runs))
    return TableView(f"{measure.title} by {title}", heads, tuple(rows), remarks([measure]))


def rankings(comparison: Comparison) -> list[TableView]:
    """The challenges' rankings with their stability."""
    found = []
    for ranking in comparison.rankings:
        rows = tuple(
            (
                Cell(number(row.rank, 2).rstrip("0").rstrip("."), row.rank),
                Cell(row.run, run=row.run),
                Cell(number(row.score), row.score),
                Cell("–" if math.isnan(row.rank_low) else f"{row.rank_low:.3g} to {row.rank_high:.3g}"),
                Cell(
                    "–" if math.isnan(row.first_share) else number(100 * row.first_share, 0), row.first_share
                ),
            )
            for row in ranking.rows
        )
        notes = list(ranking.notes)
        if ranking.resamples:
            notes.append(f"Stability: {ranking.resamples} resamples of the subjects.")
        heads = ("rank", "method", "score", "95 % of resampled ranks", "first in %")
        found.append(TableView(ranking.scheme, heads, rows, tuple(notes), (1,)))
    return found


def by_pair(
    comparison: Comparison, measure: Measure, results: Sequence[Results], cases: Mapping[str, str]
) -> TableView | None:
    """Every method's number on every pair; None when no pair has one.

    Parameters
    ----------
    cases
        Case -> name of its pair.
    """
    names = list(dict.fromkeys(cases.values()))
    known = cases if len(names) == len(cases) else dict(zip(cases, cases, strict=True))
    rows = []
    for case, name in known.items():
        values = [one.scores(case).get(measure.name, math.nan) for one in results]
        finite = [value for value in values if math.isfinite(value)]
        best = (max if measure.higher_is_better else min)(finite) if len(finite) > 1 else math.nan
        cells = [Cell(number(value), value, "best" if value == best else "") for value in values]
        rows.append((Cell(name), *cells))
    if not any(cell.sorted_by for _, *cells in rows for cell in cells):
        return None
    heads = ("pair", *(one.entry.name for one in results))
    notes = ("Bold: the best of the pair.",) if len(results) > 1 else ()
    return TableView(f"{measure.title} {measure.arrow} of every pair", heads, tuple(rows), notes)


def _scored(done: int, pairs: int) -> Cell:
    return Cell(f"{done} of {pairs}", done, "" if done == pairs else "bad")


def _pair_row(one: Pairwise) -> tuple[Cell, ...]:
    return (
        Cell(one.first, run=one.first),
        Cell(one.second, run=one.second),
        Cell(f"{one.better} better" if one.better else one.verdict),
        Cell(str(one.cases), one.cases),
        Cell(number(one.difference.estimate), one.difference.estimate),
        Cell(interval(one.difference) or "–", one.difference.low),
        Cell(f"{one.wins} / {one.ties} / {one.losses}", one.wins),
        Cell(p_value(one.wilcoxon.p_holm), one.wilcoxon.p_holm),
        Cell(p_value(one.sign_flips.p_holm), one.sign_flips.p_holm),
        Cell(p_value(one.dyadic.p_holm), one.dyadic.p_holm),
        Cell(p_value(one.wilcoxon.smallest_p_holm), one.wilcoxon.smallest_p_holm),
    )


def _short_interval(found: Interval) -> str:
    mark = VAGUE_MARK if vague(found) else ""
    return f"[{short(found.low)}, {short(found.high)}]{mark}" if found.known else ""


def _mean_notes(comparison: Comparison) -> tuple[str, ...]:
    """How the means are to be read, and what is not in them."""
    several = len(comparison.scores.own_runs) > 1
    rows = [row for measure in comparison.measures for row in comparison.summary(measure.name)]
    own = [row for row in rows if not row.reference and row.cases]
    notes = ["Means ± standard deviation over pairs; time and memory are per pair."]
    if several:
        notes = [
            "Means ± standard deviation over the pairs that all methods have; time and memory are per pair, "
            "over each method's own. Bold: the best."
        ]
    if any(row.cases != row.common_cases and row.common_cases for row in own):
        notes.append("(… of n): the mean over all n pairs of that method, of which others lack some.")
    if any(not row.common_cases for row in own):
        notes.append("(n = …): no pair is common to all methods, and these means do not compare.")
    notes += remarks(comparison.measures)
    notes += filter(None, (lacking(comparison, measure) for measure in comparison.measures))
    return tuple(notes)


def _summary_cell(comparison: Comparison, measure: Measure, run: str, scope: Scope) -> Cell:
    row = next((row for row in comparison.summary(measure.name, scope) if row.run == run), None)
    if row is None or math.isnan(row.mean):
        return Cell("–")
    if row.reference or not row.common_cases:
        among = "" if row.reference else f" (n = {row.cases})"
        return Cell(f"{number(row.mean)}{_spread(row.std)}{among}", row.mean)
    mean = row.common_mean.estimate
    among = "" if row.cases == row.common_cases else f" ({number(row.mean)} of {row.cases})"
    return Cell(f"{number(mean)}{_spread(row.common_std)}{among}", mean, "best" if row.best else "")


def _spread(deviation: float) -> str:
    if math.isnan(deviation):
        return ""
    return f" ± {number(deviation, 3) if deviation >= 0.0005 else '0.000'}"


def _mean_cell(comparison: Comparison, measure: Measure, run: str) -> Cell:
    """The mean over the run's own cases, which are counted where another run has not as many."""
    counts = {len(_values(comparison, measure, one.name)) for one in comparison.scores.own_runs} - {0}
    values = _values(comparison, measure, run)
    mean = float(np.mean(values)) if values.size else math.nan
    among = f" (n = {values.size})" if len(counts) > 1 and values.size else ""
    return Cell(f"{number(mean, 3 if mean < 10 else 0)}{among}", mean)


def _values(comparison: Comparison, measure: Measure, run: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(comparison.scores.table(measure.name)[run], dtype=float)
    return np.asarray(values[np.isfinite(values)])


def _any(comparison: Comparison, measure: Measure) -> bool:
    return any(len(_values(comparison, measure, run.name)) for run in comparison.scores.own_runs)
