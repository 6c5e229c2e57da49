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

__all__ = ["Cell", "TableView", "by_scope", "effects", "overview", "pairwise", "rankings"]

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
    """A row per method: means over its own cases, with the best marked by the cases all have.

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
    common = {
        row.common_cases for row in comparison.summary(comparison.measures[0].name) if not row.reference
    }
    notes = ["Means ± standard deviation over each method's own pairs; time and memory are per pair."]
    if len(comparison.scores.own_runs) > 1:
        notes.append(
            f"Bold: the best mean over the pairs that all methods have ({max(common, default=0)} of {pairs})."
        )
    return TableView("Methods", tuple(heads), tuple(rows), tuple(notes))


def pairwise(comparison: Comparison, measure: Measure) -> TableView | None:
    """Every two methods by one measure over all cases; None when there is nothing to compare."""
    found = comparison.pairs(measure.name)
    if not found:
        return None
    percent = f"{round(100 * comparison.confidence)} % interval"
    heads = (
        "first", "second", "verdict", "pairs", "first − second", percent, "won / tied / lost",
        "p Wilcoxon", "p sign flips", "smallest p",
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
        "p-values are corrected by Holm's method; smallest p is the smallest corrected Wilcoxon p that so "
        "many pairs could have given.",
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
        "ignores the pairing; δ = share of x better than y minus share worse. In brackets: bootstrap "
        "intervals over subjects."
    )
    return TableView(f"{measure.title}: effect sizes", heads, tuple(rows), (formulas,), (0, 1))


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
    return TableView(f"{measure.title} by {title}", heads, tuple(rows))


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
        Cell(p_value(one.wilcoxon.smallest_p_holm), one.wilcoxon.smallest_p_holm),
    )


def _short_interval(found: Interval) -> str:
    return f"[{short(found.low)}, {short(found.high)}]" if found.known else ""


def _summary_cell(comparison: Comparison, measure: Measure, run: str, scope: Scope) -> Cell:
    row = next((row for row in comparison.summary(measure.name, scope) if row.run == run), None)
    if row is None or math.isnan(row.mean):
        return Cell("–")
    spread = "" if math.isnan(row.std) else f" ± {number(row.std, 3) if row.std >= 0.0005 else '0.000'}"
    return Cell(f"{number(row.mean)}{spread}", row.mean, "best" if row.best else "")


def _mean_cell(comparison: Comparison, measure: Measure, run: str) -> Cell:
    values = _values(comparison, measure, run)
    mean = float(np.mean(values)) if values.size else math.nan
    return Cell(number(mean, 3 if mean < 10 else 0), mean)


def _values(comparison: Comparison, measure: Measure, run: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(comparison.scores.table(measure.name)[run], dtype=float)
    return np.asarray(values[np.isfinite(values)])


def _any(comparison: Comparison, measure: Measure) -> bool:
    return any(len(_values(comparison, measure, run.name)) for run in comparison.scores.own_runs)
