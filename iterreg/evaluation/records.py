"""Writes what an evaluation found: the challenge's json, a row per pair, a row per label, a summary."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from iterreg import __version__
from iterreg.dataset.base import Dataset
from iterreg.errors import InputError
from iterreg.evaluation.aggregate import Aggregate, aggregates, dice30_of, metrics_json
from iterreg.evaluation.folder import PairRecord
from iterreg.evaluation.protocols import Protocol
from iterreg.evaluation.rules import Rules
from iterreg.evaluation.scoring import LabelRow
from iterreg.jobs.atomic import write_text
from iterreg.text_files import read_table, table_text

__all__ = ["table", "with_scored", "write_records"]


def with_scored(dataset: Dataset, whole: Dataset, out: Path) -> Dataset:
    """The pairs of `dataset`, and those of `whole` that a folder of scores has rows of already.

    What is scored of a part must not take the rest out of the tables.
    """
    cases = {pair.case for pair in dataset.pairs}
    try:
        cases |= {row.get("case") or "" for row in read_table(out / "pairs.csv")}
    except InputError:
        return dataset
    return replace(whole, pairs=tuple(pair for pair in whole.pairs if pair.case in cases))


def write_records(out: Path, records: Sequence[PairRecord], rules: Rules, dataset: Dataset) -> None:
    """Write ``metrics.json``, ``pairs.csv``, ``labels.csv`` and ``summary.json`` into `out`.

    A file that says the same already is left as it is.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    name = rules.configs[-1].name if rules.configs else dataset.name
    for file, text in (
        ("metrics.json", _strict(metrics_json(records, rules.protocol, name), indent=4)),
        ("labels.csv", _csv(_label_rows(records))),
        ("summary.json", _strict(_summary(records, rules, dataset), indent=1)),
        ("pairs.csv", _csv(_pair_rows(records))),
    ):
        path = out / file
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)


def _strict(value: Any, *, indent: int) -> str:
    """JSON as its standard has it: ``null`` for NaN and infinity, which it has no words for."""

    def known(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: known(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [known(item) for item in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(known(value), indent=indent, allow_nan=False) + "\n"


def table(records: Sequence[PairRecord], protocol: Protocol) -> str:
    """What the terminal shows: one line per pair, then the means."""
    names = list(dict.fromkeys(m.name for record in records for m in record.measures))
    titles = {"Non-diffeomorphic Volumes": "NDV %"}
    titles |= {name: f"{name} [{unit}]" for name, unit in _units(records).items()}
    lines = [["pair", "task", *(titles.get(name, name) for name in names)]]
    if len({record.pair.task for record in records}) == 1:
        lines = [["pair", *lines[0][2:]]]
    with_task = lines[0][1:2] == ["task"]
    for record in records:
        cells = [record.pair.name, *([record.pair.task] if with_task else [])]
        if record.scores is None:
            cells += ["-"] * len(names)
        else:
            known = record.scores.scores
            cells += [_number(known[name].official) if name in known else "" for name in names]
        lines.append(cells)
    found = aggregates(records, protocol)
    blank = [""] if with_task else []
    lines.append(["mean", *blank, *(_number(found[n].official["mean"]) if n in found else "" for n in names)])
    if any(one.affected for one in found.values()):
        lines.append(
            ["robust mean", *blank, *(_number(found[n].robust) if n in found else "" for n in names)]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if i < 1 + with_task else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def _pair_rows(records: Sequence[PairRecord]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        pair, scores = record.pair, record.scores
        row: dict[str, Any] = {
            "pair": pair.name,
            "case": pair.case,
            "task": pair.task,
            "outcome": "failed" if scores is None else "incomplete" if scores.problems else "ok",
            "reason": record.reason
            or " | ".join(filter(None, [*(scores.problems if scores else ()), record.note, record.doubt])),
            "field": record.files,
        }
        for measure in record.measures:
            score = scores.scores.get(measure.name) if scores else None
            row[measure.name] = "" if score is None else score.official
            if measure.kind in ("hd95", "tre"):
                row[f"{measure.name}_robust"] = "" if score is None else score.robust
                row[f"{measure.name}_affected"] = (
                    "" if score is None else " ".join(str(name) for name in score.affected)
                )
        rows.append(row | (scores.extras if scores else {}))
    return rows


def _label_rows(records: Sequence[PairRecord]) -> list[dict[str, Any]]:
    empty = dict.fromkeys(["pair", "case", "task", *(one.name for one in fields(LabelRow))], "")
    rows = [
        {"pair": record.pair.name, "case": record.pair.case, "task": record.pair.task, **asdict(row)}
        for record in records
        if record.scores is not None
        for row in record.scores.labels
    ]
    return rows or [empty]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the union of their columns, in order of first appearance; NaN and infinity as such."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return table_text((row for row in rows if any(value != "" for value in row.values())), columns)


def _summary(records: Sequence[PairRecord], rules: Rules, dataset: Dataset) -> dict[str, Any]:
    found = aggregates(records, rules.protocol)
    return {
        "dataset": dataset.name,
        "source": str(dataset.source.absolute()),
        **rules.to_json(),
        "iterreg": __version__,
        "pairs": len(records),
        "scored": sum(record.scores is not None for record in records),
        "measures": {name: _aggregate(one) for name, one in found.items()},
        "units": _units(records),
        "dice30": dice30_of(records),
        "not_scored": {r.pair.case: r.reason for r in records if r.scores is None},
        "incomplete": {
            r.pair.case: list(r.scores.problems)
            for r in records
            if r.scores is not None and r.scores.problems
        },
        "read_as": dict(Counter(r.format for r in records if r.format)),
        "notes": {r.pair.case: r.note for r in records if r.scores is not None and r.note},
        "doubts": {r.pair.case: r.doubt for r in records if r.scores is not None and r.doubt},
    }


def _units(records: Sequence[PairRecord]) -> dict[str, str]:
    """Measure -> ``"voxels"`` or ``"mm"``, of those that have a unit."""
    return {
        name: score.unit
        for record in records
        if record.scores is not None
        for name, score in record.scores.scores.items()
        if score.unit
    }


def _aggregate(one: Aggregate) -> dict[str, Any]:
    return {
        "cases": one.cases,
        "official": dict(one.official),
        "robust_mean": one.robust,
        "affected": {case: list(names) for case, names in one.affected.items()},
    }


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"
