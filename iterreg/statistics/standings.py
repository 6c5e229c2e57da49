"""The rankings of a table of scores, and how they change when other subjects had been drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.statistics.dyads import FEWEST_UNITS, Dyads
from iterreg.statistics.measures import Measure
from iterreg.statistics.published import TABLES, published_places
from iterreg.statistics.ranking import (
    LUMIR24_WEIGHTS,
    RankedRun,
    Ranking,
    Variant,
    geometric_mean,
    learn2reg_scores,
    lumir24_scores,
    min_max,
    ranks_of,
)
from iterreg.statistics.scores import ALL_CASES, Scores
from iterreg.statistics.sources import INITIAL_DICE

__all__ = ["DICE30", "rankings"]

DICE30 = "Dice30"
"""Learn2Reg's robust Dice: over the 30 % of (case, label) cells that were worst before registration."""

_CELL_KINDS = ("dice", "hd95")


@dataclass(frozen=True, eq=False)
class _Column:
    """What one measure contributes: runs × cells, and which case each cell belongs to."""

    name: str
    measure: Measure
    values: NDArray[np.float64]
    case: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Draws:
    """How often each case counts in each resample, and how many subjects (or cases) were drawn from."""

    unit: str
    units: int
    weights: NDArray[np.float64]


Scheme = Callable[[Sequence[NDArray[np.float64]]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""From each column's runs × cells to (runs,) scores and (columns, runs) parts."""


def rankings(
    scores: Scores, measures: Sequence[Measure], *, resamples: int, seed: int
) -> tuple[Ranking, ...]:
    """Every scheme that these measures allow; nothing to rank with fewer than two runs.

    Cases that not all runs have are left out.
    """
    found: list[Ranking] = []
    own = [run.name for run in scores.own_runs]
    if len(own) > 1:
        tables = {measure.name: scores.table(measure.name, ALL_CASES).dropna() for measure in measures}
        used = [measure for measure in measures if len(tables[measure.name])]
        index = _all_cases([tables[measure.name] for measure in used])
        dyads = Dyads(list(index.get_level_values("fixed")), list(index.get_level_values("moving")))
        drawn = _Draws(dyads.unit, dyads.units, dyads.resampled(resamples, seed=seed))
        number = {case: i for i, case in enumerate(index.get_level_values("case"))}
        by_case = [_case_column(measure, tables[measure.name], number) for measure in used]
        by_cell = [
            column
            for measure in used
            for column in _cell_columns(scores, measure, tables[measure.name], number)
        ]
        if used:
            found += [
                _learn2reg("signed-rank", own, by_case, drawn),
                _learn2reg("rank-sum", own, by_cell, drawn),
            ]
            found += _lumir24(scores, own, by_case, drawn)
    elif len(scores.runs) > 1:
        found += _lumir24(scores, own, [], None)
    return (*found, *_final_tables(scores))


def _all_cases(tables: Sequence[pd.DataFrame]) -> pd.MultiIndex:
    keys = dict.fromkeys(key for table in tables for key in table.index)
    return pd.MultiIndex.from_tuples(list(keys), names=["case", "fixed", "moving"]) if keys else _EMPTY


_EMPTY = pd.MultiIndex.from_arrays([[], [], []], names=["case", "fixed", "moving"])


def _case_column(measure: Measure, table: pd.DataFrame, number: Mapping[str, int]) -> _Column:
    cases = np.array([number[case] for case in table.index.get_level_values("case")], dtype=np.int64)
    return _Column(measure.name, measure, table.to_numpy().T, cases)


def _cell_columns(
    scores: Scores, measure: Measure, table: pd.DataFrame, number: Mapping[str, int]
) -> list[_Column]:
    """The measure over (case, label) cells where labels are known, and Dice30 beside Dice.

    A cell that some run has and another has not (its label vanished in the warping) counts as worse than
    all numbers that there are, as Learn2Reg's code gives it a fixed bad one; only its rank matters.
    """
    rows = scores.labels[scores.labels["measure"] == measure.name]
    kept = set(table.index.get_level_values("case"))
    rows = rows[rows["case"].isin(kept)]
    if measure.kind not in _CELL_KINDS or rows.empty or set(table.columns) - set(rows["run"]):
        return [_case_column(measure, table, number)]
    wide = rows.pivot(index=["case", "label"], columns="run", values="value")[list(table.columns)]
    worst = wide.min().min() if measure.higher_is_better else wide.max().max()
    wide = wide.fillna(worst - measure.sign)
    cases = np.array([number[case] for case in wide.index.get_level_values("case")], dtype=np.int64)
    columns = [_Column(measure.name, measure, wide.to_numpy().T, cases)]
    before = scores.labels[scores.labels["measure"] == INITIAL_DICE]
    before = before.drop_duplicates(["case", "label"]).set_index(["case", "label"])["value"]
    initial = before.reindex(wide.index)
    if measure.kind == "dice" and initial.notna().any():
        count = round(0.3 * len(wide))
        chosen = np.argsort(initial.fillna(np.inf).to_numpy(), kind="stable")[:count]
        columns.append(_Column(DICE30, measure, wide.to_numpy().T[:, chosen], cases[chosen]))
    return columns


def _learn2reg(variant: Variant, runs: Sequence[str], columns: Sequence[_Column], drawn: _Draws) -> Ranking:
    def scheme(values: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        parts = np.array(
            [
                learn2reg_scores(table, higher_is_better=bool(c.measure.higher_is_better), variant=variant)
                for c, table in zip(columns, values, strict=True)
            ]
        )
        return geometric_mean(parts), parts

    said = {
        "signed-rank": "Learn2Reg as its text says: Wilcoxon signed-rank over cases, comparisons won",
        "rank-sum": "Learn2Reg as its code does: unpaired rank-sum over case × label, comparisons lost",
    }
    notes = (
        "Score: geometric mean over the measures of places between 0.1 and 1. p is not corrected, as in the "
        "challenge.",
    )
    return _ranked(
        f"learn2reg_{variant.replace('-', '_')}", said[variant], runs, columns, scheme, drawn, notes
    )


def _lumir24(
    scores: Scores, own: Sequence[str], columns: Sequence[_Column], drawn: _Draws | None
) -> list[Ranking]:
    """LUMIR24's score of own and published rows, by the measures that all of them have."""
    published = {
        run.name: {scores.measure(one.measure).kind: one.mean for one in scores.published[run.name]}
        for run in scores.runs
        if run.reference
    }
    by_kind = {column.measure.kind: column for column in reversed(columns)}  # the first of each kind
    kinds = [
        kind
        for kind in LUMIR24_WEIGHTS
        if (kind in by_kind or not own) and all(kind in means for means in published.values())
    ]
    if not kinds:
        return []
    measures = {
        kind: by_kind[kind].measure if own else next(m for m in scores.measures if m.kind == kind)
        for kind in kinds
    }
    used = [by_kind[kind] for kind in kinds] if own else [
        _Column(measures[kind].name, measures[kind], np.zeros((0, 0)), np.zeros(0, dtype=np.int64))
        for kind in kinds
    ]  # fmt: skip
    directions = {kind: bool(measures[kind].higher_is_better) for kind in kinds}

    def scheme(values: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        means = {
            kind: np.concatenate(
                [table.mean(axis=1) if own else np.zeros(0), [row[kind] for row in published.values()]]
            )
            for kind, table in zip(kinds, values, strict=True)
        }
        parts = np.array([min_max(means[kind], directions[kind]) for kind in kinds])
        return lumir24_scores(means, directions), parts

    missing = [kind for kind in LUMIR24_WEIGHTS if kind not in kinds]
    notes = [
        "Score: 1/6 Dice + 1/6 HD95 + 1/3 TRE + 1/3 NDV, each scaled to [0, 1] over these rows; the "
        "organisers ranked by it before the test phase, whose final table has other scores."
    ]
    if missing:
        notes.append(f"Not all rows have {', '.join(missing)}: the other weights are scaled up to 1.")
    if published:
        notes.append("†: published means" + (", held fixed in the resampling." if own else "."))
    runs = [*own, *published]
    return [
        _ranked(
            "lumir24",
            "LUMIR24's weighted score, by its formula of July 2024",
            runs,
            used,
            scheme,
            drawn,
            tuple(notes),
            set(published),
        )
    ]


def _final_tables(scores: Scores) -> list[Ranking]:
    """The organisers' own rankings, of the published rows that are shown."""
    by_table: dict[str, list[RankedRun]] = {}
    for run, means in scores.published.items():
        table, method = means[0].table, means[0].method
        place = published_places(table).get(method)
        if place is not None:
            by_table.setdefault(table, []).append(
                RankedRun(run, place.score, place.rank, parts={}, reference=True)
            )
    return [
        Ranking(
            key=f"{table}_final",
            scheme=f"{TABLES[table]}: the organisers' final table",
            rows=tuple(sorted(rows, key=lambda row: row.rank)),
            measures=(),
            notes=(
                "Scores and ranks as published on 7 October 2024, of 21 entries. No formula is given with "
                "them; they are not those of July's formula, and other runs cannot be placed among them.",
            ),
        )
        for table, rows in by_table.items()
    ]


def _ranked(
    key: str,
    name: str,
    runs: Sequence[str],
    columns: Sequence[_Column],
    scheme: Scheme,
    drawn: _Draws | None,
    notes: tuple[str, ...],
    references: set[str] | None = None,
) -> Ranking:
    totals, parts = scheme([column.values for column in columns])
    ranks = ranks_of(totals)
    resampled = np.zeros((0, len(runs)))
    if drawn is not None and drawn.units >= FEWEST_UNITS:
        resampled = _resampled_ranks(columns, scheme, drawn)
    elif drawn is not None:
        notes = (*notes, f"Too few {drawn.unit} ({drawn.units}) to say how stable it is.")
    low, high, first = (np.full(len(runs), np.nan) for _ in range(3))
    agreement = float("nan")
    if len(resampled):
        low, high = np.quantile(resampled, (0.025, 0.975), axis=0, method="nearest")
        best = resampled == resampled.min(axis=1, keepdims=True)
        first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
        agreement = _agreement(ranks, resampled)
        notes = (
            *notes,
            f"Stability: {len(resampled)} resamples of {drawn.units if drawn else 0} "
            f"{drawn.unit if drawn else ''}"
            + (f"; mean Kendall tau with this ranking {agreement:.2f}." if agreement == agreement else "."),
        )
    rows = [
        RankedRun(
            run=run,
            score=float(totals[i]),
            rank=float(ranks[i]),
            parts={column.name: float(parts[j, i]) for j, column in enumerate(columns)},
            rank_low=float(low[i]),
            rank_high=float(high[i]),
            first_share=float(first[i]),
            reference=run in (references or ()),
        )
        for i, run in enumerate(runs)
    ]
    return Ranking(
        key=key,
        scheme=name,
        rows=tuple(sorted(rows, key=lambda row: row.rank)),
        measures=tuple(column.name for column in columns),
        cases={column.name: len(set(column.case.tolist())) for column in columns},
        resamples=len(resampled),
        agreement=agreement,
        notes=notes,
    )


def _resampled_ranks(columns: Sequence[_Column], scheme: Scheme, drawn: _Draws) -> NDArray[np.float64]:
    """(resamples, runs): a case is repeated as often as it counts; resamples without any are left out."""
    found = []
    for weights in drawn.weights.astype(np.int64):
        repeated = [np.repeat(column.values, weights[column.case], axis=1) for column in columns]
        if all(table.shape[1] for table in repeated):
            found.append(ranks_of(scheme(repeated)[0]))
    return np.array(found) if found else np.zeros((0, 0))


def _agreement(ranks: NDArray[np.float64], resampled: NDArray[np.float64]) -> float:
    from scipy.stats import kendalltau

    with np.errstate(invalid="ignore"):
        found = np.array([kendalltau(ranks, one).statistic for one in resampled])
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
