"""A data set written as a table: one pair a line."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.dataset.paths import ScanReader, absolute, check_identifier, check_modality
from iterreg.dataset.tasks import by_modality
from iterreg.errors import InputError, located
from iterreg.paths import to_path
from iterreg.text_files import read_text

__all__ = ["COLUMNS", "read_csv"]

_ABOUT_A_SCAN = ("id", "modality", "labels", "landmarks", "mask")
COLUMNS = (
    "fixed",
    "moving",
    "task",
    *(f"{role}_{what}" for role in ("fixed", "moving") for what in _ABOUT_A_SCAN),
)
"""The columns that mean something; ``fixed`` and ``moving`` are needed."""


def read_csv(source: str | Path, *, root: str | Path | None = None) -> Dataset:
    """Read a table of pairs.

    The first line names the columns (`COLUMNS`); others are allowed and passed over. Commas, semicolons
    or tabs separate; empty lines and lines that begin with ``#`` are skipped. An empty cell means what the
    path says: companions by the challenge's rule, id and modality by the file's name.

    Parameters
    ----------
    root
        The folder that relative paths start from. Default: the table's folder.

    Raises
    ------
    InputError
        If it cannot be read, lacks a needed column, has a misspelt one, or lists no pairs.
    """
    path = absolute(source)
    lines = read_text(path).splitlines()
    numbered = [
        (i, line) for i, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")
    ]
    if not numbered:
        raise InputError(f"{path}: is empty; its first line names the columns, at least fixed and moving")
    header_line = numbered[0][1]
    separator = max(",;\t", key=header_line.count)
    header = _cells(header_line, separator, f"{path}, line {numbered[0][0]}")
    _check_header(header, path)
    reader = ScanReader(absolute(root) if root is not None else path.parent)
    pairs = []
    for number, line in numbered[1:]:
        where = f"{path}, line {number}"
        cells = _cells(line, separator, where)
        if len(cells) > len(header):
            raise InputError(
                f"{where}: has {len(cells)} cells for {len(header)} columns; quote cells that hold commas"
            )
        row = dict(zip(header, cells, strict=False))
        pairs.append(
            Pair(_scan(row, "fixed", reader, where), _scan(row, "moving", reader, where), row.get("task", ""))
        )
    if not pairs:
        raise InputError(f"{path}: lists no pairs; write one a line below the header")
    if not any(pair.task for pair in pairs):
        pairs = by_modality(pairs)
    return Dataset(path.stem, tuple(pairs), path)


def _cells(line: str, separator: str, where: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except csv.Error as error:
        raise InputError(f"{where}: cannot be read as csv ({error}); mend the line") from error


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in ("fixed", "moving") if name not in header]
    if missing:
        raise InputError(
            f"{path}: has no column {' and '.join(missing)} (its columns are {', '.join(header)}); "
            "name the columns in the first line"
        )
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: has the column {name!r} twice; remove one")
        if name.startswith(("fixed", "moving")) and name not in COLUMNS:
            raise InputError(
                f"{path}: has an unknown column {name!r}; the known ones are {', '.join(COLUMNS)}"
            )


def _scan(row: Mapping[str, str], role: str, reader: ScanReader, where: str) -> Scan:
    image = row.get(role, "")
    if not image:
        raise InputError(f"{where}: names no {role} image; fill the cell or remove the line")
    with located(where):
        found = reader.scan(image)

    def file(kind: str, default: Path | None) -> Path | None:
        cell = row.get(f"{role}_{kind}", "")
        with located(where):
            return absolute(reader.root / to_path(cell)) if cell else default

    return replace(
        found,
        subject=check_identifier(row.get(f"{role}_id", "") or found.subject, where),
        modality=check_modality(row.get(f"{role}_modality", "") or found.modality, where),
        labels=file("labels", found.labels),
        landmarks=file("landmarks", found.landmarks),
        mask=file("mask", found.mask),
    )
