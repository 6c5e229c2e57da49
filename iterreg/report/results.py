"""What is known of one method on each pair: its numbers, its field, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.evaluation.rules import storage_of
from iterreg.evaluation.storage import Storage
from iterreg.io.challenge import field_name
from iterreg.runs import MethodResults
from iterreg.text_files import read_table

__all__ = ["NOT_RUN", "Failure", "Results"]

NOT_RUN = "not run"
"""The outcome of a pair that no job has ended of."""

_TEXT = {"pair", "case", "task", "outcome", "reason", "field"}
"""Columns of ``pairs.csv`` that are no measures."""


@dataclass(frozen=True)
class Failure:
    """A pair that a method has no field for, or that could not be scored in full.

    Attributes
    ----------
    outcome
        What the run or the evaluation calls it.
    reason, log
        A sentence, and the end of what the engine printed; both may hold anything.
    """

    method: str
    pair: str
    outcome: str
    reason: str
    log: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """An entry with what its folder of scores says.

    Attributes
    ----------
    rows
        Case -> its row of ``pairs.csv``. Cases, unlike names of pairs, differ where only contrasts do.
    dice
        Case -> label -> Dice.
    storage
        How the scored fields are stored.
    """

    entry: MethodResults
    rows: Mapping[str, Mapping[str, str]]
    dice: Mapping[str, Mapping[int, float]]
    storage: Storage

    @classmethod
    def of(cls, entry: MethodResults) -> Results:
        """Read the scores; empty as far as files are missing or damaged."""
        rows = {row["case"]: row for row in _read(entry.scores / "pairs.csv") if row.get("case")}
        dice: dict[str, dict[int, float]] = {}
        for row in _read(entry.scores / "labels.csv"):
            label, value = _number(row.get("label")), _number(row.get("dice"))
            if row.get("case") and label is not None and value is not None and math.isfinite(value):
                dice.setdefault(row["case"], {})[int(label)] = value
        return cls(entry, rows, dice, storage_of(entry.scores))

    def scores(self, case: str) -> dict[str, float]:
        """Every number of a case's row, NaN and infinity included."""
        numbers = {
            name: _number(text)
            for name, text in self.rows.get(case, {}).items()
            if name and name not in _TEXT and not name.endswith("_affected")
        }
        return {name: value for name, value in numbers.items() if value is not None}

    def field(self, pair: Pair) -> tuple[Path, ...]:
        """The files of its field; none where one is missing or it is not the method's as it is now."""
        if self.entry.fields is None or self.entry.other_version(pair.name):
            return ()
        if self.storage.patterns:
            files = self.storage.files(self.entry.fields, pair)
            return files if all(path.is_file() for path in files) else ()
        recorded = self.rows.get(pair.case, {}).get("field") or field_name(pair.name)
        path = self.entry.fields / Path(recorded).name
        return (path,) if path.is_file() else ()

    def failure(self, case: str, pair: str) -> Failure | None:
        """Why there is no number; the run knows better than the evaluation, which only misses the field.

        Parameters
        ----------
        case, pair
            The evaluator's key, and the name of the pair's job.
        """
        entry, row = self.entry, self.rows.get(case, {})
        if row.get("outcome") == "ok":
            return None
        status = entry.status(pair)
        if status is not None and not status.ok:
            outcome, reason = status.outcome, status.reason
        elif entry.arm is not None and status is None and not row.get("field"):
            outcome, reason = NOT_RUN, "no job of this pair has ended yet"
        elif row:
            outcome, reason = row.get("outcome", ""), row.get("reason", "")
        else:
            outcome, reason = "not scored", "the evaluation has no row of this pair"
        return Failure(entry.name, pair, outcome, reason, entry.log(pair))


def _read(path: Path) -> list[dict[str, str]]:
    try:
        return read_table(path)
    except InputError:
        return []


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
