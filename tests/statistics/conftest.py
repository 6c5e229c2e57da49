"""Evaluated runs made of chosen numbers, as ``iterreg evaluate`` writes them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write ``pairs.csv`` (and ``labels.csv``) of a run and give its folder."""

    def write(
        name: str,
        values: Mapping[str, Mapping[str, Any]] | Sequence[float],
        *,
        labels: Mapping[tuple[str, int], float] | None = None,
        measure: str = "DSC",
    ) -> Path:
        """`values` are rows by case, or one number per case of a chain of subjects 0 <- 1, 1 <- 2, …"""
        if not isinstance(values, Mapping):
            values = {f"{i}_0000<--{i + 1}_0000": {measure: value} for i, value in enumerate(values)}
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rows = [
            {"case": case, "task": "", "outcome": "ok", "reason": ""} | dict(row)
            for case, row in values.items()
        ]
        _write(folder / "pairs.csv", rows)
        if labels is not None:
            _write(
                folder / "labels.csv",
                [{"case": case, "label": label, "dice": dice} for (case, label), dice in labels.items()],
            )
        return folder

    return write


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
