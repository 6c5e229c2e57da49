"""Sums pairs up: the challenge's metrics json, and robust means that name what they leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.evaluation.folder import PairRecord
from iterreg.evaluation.protocols import Measure, Protocol

__all__ = ["Aggregate", "aggregates", "dice30", "metrics_json"]


@dataclass(frozen=True)
class Aggregate:
    """One measure over all scored cases.

    Attributes
    ----------
    official
        The evaluator's ``mean``, ``std`` and ``30``: NaN or infinite as soon as one case is.
    robust
        Mean over the cases' robust numbers, as far as they are finite.
    cases
        How many cases were measured.
    affected
        Case -> labels or landmarks for which its official number is NaN or infinite.
    """

    name: str
    official: Mapping[str, float]
    robust: float
    cases: int
    affected: Mapping[str, tuple[int, ...]]


def aggregates(records: Sequence[PairRecord], protocol: Protocol) -> dict[str, Aggregate]:
    """Every measure over the cases that have it, by name."""
    found = {}
    for measure in _measures(records):
        scored = [
            (record.pair.case, record.scores.scores[measure.name])
            for record in records
            if record.scores is not None and measure.name in record.scores.scores
        ]
        if not scored:
            continue
        robust = [score.robust for _, score in scored if math.isfinite(score.robust)]
        found[measure.name] = Aggregate(
            name=measure.name,
            official=_summary([score.official for _, score in scored], protocol.quantile(measure)),
            robust=float(np.mean(robust)) if robust else float("nan"),
            cases=len(scored),
            affected={case: score.affected for case, score in scored if not math.isfinite(score.official)},
        )
    return found


def metrics_json(records: Sequence[PairRecord], protocol: Protocol, name: str) -> dict[str, Any]:
    """The evaluator's own json of the cases that could be scored.

    Source: ``to_json`` and ``evaluate_L2R`` of the evaluators named in `iterreg.evaluation.protocols.known`.
    """
    cases: dict[str, Any] = {}
    for record in records:
        if record.scores is None:
            continue
        case: dict[str, Any] = {}
        for key, score in record.scores.scores.items():
            case[key] = {"mean": score.official, "detailed": score.detailed}
            if score.kind == "sdlogj" and protocol.counts_foldings:
                case["num_foldings"] = {"mean": 0.0, "detailed": 0.0}
        cases[record.pair.case] = case
    totals = {key: dict(one.official) for key, one in aggregates(records, protocol).items()}
    for key, task in protocol.groups:
        values = [
            score.official
            for record in records
            if record.pair.task == task and record.scores is not None
            for score in record.scores.scores.values()
            if score.kind == "dice"
        ]
        if values:
            totals[key] = _summary(values, 0.3)
    return {"name": name, "aggregates": totals, "cases": cases, "eval_version": protocol.version}


def dice30(initial: NDArray[np.float64], final: NDArray[np.float64]) -> float:
    """Learn2Reg's robust Dice: mean over the 30 % of (case, label) cells that were worst before registration.

    Parameters
    ----------
    initial, final
        (cases, labels) Dice before and after registration. The cells are chosen by `initial`, so that they
        are the same for every method; NaN counts as best, and is left out of the mean.

    Source: ``rubustify`` in ranking/ranking_utils.py of MDL-UzL/L2R.
    """
    count = round(initial.size * 0.3)
    chosen = final.reshape(-1)[np.argsort(initial.reshape(-1), kind="stable")[:count]]
    chosen = chosen[np.isfinite(chosen)]
    return float(chosen.mean()) if chosen.size else float("nan")


def dice30_of(records: Sequence[PairRecord]) -> float:
    """`dice30` over the records' label rows; NaN where no Dice before registration is known."""
    rows = [
        {row.label: (row.initial_dice, row.dice) for row in record.scores.labels}
        for record in records
        if record.scores is not None and record.scores.labels
    ]
    if not rows:
        return float("nan")
    labels = sorted(set().union(*rows))
    cells = np.array([[row.get(label, (np.nan, np.nan)) for label in labels] for row in rows])
    if np.isnan(cells[..., 0]).all():
        return float("nan")
    return dice30(cells[..., 0], cells[..., 1])


def _measures(records: Sequence[PairRecord]) -> list[Measure]:
    """Every measure that some pair was asked for, by name in order of first appearance."""
    found: dict[str, Measure] = {}
    for record in records:
        for measure in record.measures:
            found.setdefault(measure.name, measure)
    return list(found.values())


def _summary(values: Sequence[float], quantile: float) -> dict[str, float]:
    array = np.array(values)
    with np.errstate(invalid="ignore"):  # an infinite HD95 has no standard deviation
        return {
            "mean": float(array.mean()),
            "std": float(array.std()),
            "30": float(np.quantile(array, quantile)),
        }
