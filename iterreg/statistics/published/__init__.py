"""Means that others published, to be shown beside a user's own numbers and never as ours.

The tables are those of LUMIR24's README (JHU-MedImage-Reg/LUMIR_L2R, commit 9b88e63): validation, 29 pairs
with labels and 9 with landmarks; test, 590 subjects. Columns are named as the evaluator names the measures;
``DSC_std`` is the standard deviation over pairs that is printed behind Dice; ``score`` and ``rank`` are those
of the final table of the test phase, of 21 entries. That README gives no formula for them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from iterreg.errors import InputError

__all__ = ["TABLES", "PublishedMean", "PublishedPlace", "published_means", "published_places"]

TABLES = {
    "lumir24-validation": "LUMIR24 validation (29 pairs with labels, 9 with landmarks)",
    "lumir24-test": "LUMIR24 test (590 subjects)",
}
"""Name of each table -> the data its numbers are of."""


@dataclass(frozen=True)
class PublishedMean:
    """One published number: the mean of a measure over cases that are not known one by one.

    Attributes
    ----------
    std
        The published standard deviation; NaN where there is none.
    """

    table: str
    method: str
    measure: str
    mean: float
    std: float = float("nan")


@dataclass(frozen=True)
class PublishedPlace:
    """Where the organisers' own ranking puts a method."""

    score: float
    rank: int


def published_means(table: str) -> tuple[PublishedMean, ...]:
    """The numbers of one published table, methods in its order.

    Raises
    ------
    InputError
        If there is no such table.
    """
    rows = _rows(table)
    measures = [name for name in rows[0] if name not in _NO_MEASURES and not name.endswith("_std")]
    return tuple(
        PublishedMean(table, row["method"], name, float(row[name]), float(row.get(f"{name}_std") or "nan"))
        for row in rows
        for name in measures
    )


def published_places(table: str) -> dict[str, PublishedPlace]:
    """Method -> its place in the organisers' own ranking; empty where the table has none.

    Raises
    ------
    InputError
        If there is no such table.
    """
    return {
        row["method"]: PublishedPlace(float(row["score"]), int(row["rank"]))
        for row in _rows(table)
        if row.get("rank")
    }


_NO_MEASURES = ("method", "score", "rank")


def _rows(table: str) -> list[dict[str, str]]:
    if table not in TABLES:
        raise InputError(f"there is no published table {table!r}; there are {', '.join(TABLES)}")
    with files(__name__).joinpath(f"{table}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
