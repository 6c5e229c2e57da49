"""The benchmark of other tools: what it leaves out, what it writes."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)  # as for a program: peers.py imports its neighbour
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_not_installed_is_left_out_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "OASIS_dataset.json").write_text("{}")
    program = [sys.executable, str(BENCHMARKS / "peers.py"), "--data", str(tmp_path)]
    out = ["--out", str(tmp_path / "run"), "--results", str(tmp_path / "results")]
    nothing = {"DEEDS_DIR": str(tmp_path), "NIFTYREG_BIN": str(tmp_path)}
    chosen = ["--method", "deeds", "--method", "niftyreg"]
    done = subprocess.run(
        [*program, *out, *chosen], capture_output=True, text=True, env=os.environ | nothing, check=False
    )
    assert done.returncode == 0
    assert "left out: deeds: needs the program deedsBCV in $DEEDS_DIR" in done.stderr
    assert "left out: niftyreg: needs the program reg_f3d in $NIFTYREG_BIN" in done.stderr
    assert not (tmp_path / "results").exists()


def test_data_that_is_not_there(tmp_path: Path) -> None:
    program = [sys.executable, str(BENCHMARKS / "peers.py"), "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds no OASIS_dataset.json" in done.stderr


def test_the_table_ranks_each_pair_by_dice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = loaded(BENCHMARKS / "peers.py", monkeypatch)
    costs = {"hd95": 1.0, "ndv": 0.0, "folded_percent": 0.0, "cpu_s": 10.0, "wall_s": 9.0, "peak_mib": 900.0}
    rows = [
        {"method": method, "pair": pair, "dice": dice, **costs, "more": 1}
        for pair in peers.PAIRS
        for method, dice in (("deeds", 0.5), ("lddmm:lumir", 0.6), ("niftyreg", 0.55))
    ]
    peers.report(rows, tmp_path)
    lines = (tmp_path / "peers.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == 2 * ["| lddmm:lumir", "| niftyreg", "| deeds"]
    with (tmp_path / "peers.csv").open() as stream:
        assert [row["dice"] for row in csv.DictReader(stream)] == 2 * ["0.5", "0.6", "0.55"]


def test_deeds_control_points_stand_at_their_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    deeds = loaded(BENCHMARKS / "peers" / "deeds.py", monkeypatch)
    coarse = np.random.default_rng(1).standard_normal((5, 4, 3)).astype(np.float32)
    fine = deeds.stretched(coarse, 0, 10)
    np.testing.assert_allclose(fine[::2], coarse, atol=1e-6)
    np.testing.assert_allclose(fine[1:-1:2], (coarse[:-1] + coarse[1:]) / 2, atol=1e-6)
    np.testing.assert_allclose(fine[-1], coarse[-1], atol=1e-6)
