"""The simulation of verdicts: what it draws, that it resumes, and that the document shows what it found."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdicts", ROOT / "benchmarks" / "verdicts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured() -> list[dict[str, str]]:
    with (ROOT / "benchmarks" / "results" / "verdicts.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_differences_are_as_said(verdicts: ModuleType) -> None:
    for scatter in verdicts.SHARES:
        drawn = verdicts.differences(verdicts.ring(8), scatter, 20_000, 1)
        assert drawn.mean() == pytest.approx(0, abs=0.02)
        assert drawn.var() == pytest.approx(1, abs=0.03)
        together = np.mean(drawn[:, 0] * drawn[:, 1])  # pairs that share a subject
        assert together == pytest.approx(verdicts.SHARES[scatter] / 2, abs=0.03)


def test_errors_and_coverage_are_what_is_promised(verdicts: ModuleType, measured: list) -> None:
    null = [row for row in measured if row["d_z"] == "0" and row["scatter"] != verdicts.SKEWED]
    assert {row["design"] for row in null} == set(verdicts.DESIGNS)
    assert len(null) == 2 * len(verdicts.DESIGNS)
    assert max(float(row["verdicts"]) for row in null) < 0.06
    assert min(float(row["covered"]) for row in null) > 0.93


def test_the_document_shows_what_was_measured(verdicts: ModuleType, measured: list) -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert f"{verdicts.BEGIN}\n{verdicts.table(measured)}\n{verdicts.END}" in text


def test_the_command_resumes(
    verdicts: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "DESIGNS", {"ring of 8": verdicts.ring(8)})
    document = tmp_path / "document.md"
    document.write_text(f"before\n{verdicts.BEGIN}\n{verdicts.END}\nafter\n")
    command = ["--data-sets", "8", "--results", str(tmp_path), "--document", str(document)]
    verdicts.main(command)
    assert len(capsys.readouterr().out.splitlines()) == 9
    first = document.read_text()
    assert first.startswith("before\n")
    assert first.endswith("after\n")
    assert first.count("ring of 8") == 2
    verdicts.main(command)
    assert capsys.readouterr().out == ""
    assert document.read_text() == first
