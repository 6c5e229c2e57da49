"""The LDDMM benchmark: what it plans, what it measures again, what its table says."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAIRS = [f"{number}_{number + 1}" for number in range(1000, 1008)]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_lddmm", ROOT / "benchmarks" / "lddmm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_every_run_has_a_key_of_its_own_and_methods_take_turns(bench: ModuleType) -> None:
    methods = [*bench.PRESETS, "greedy"]
    runs = [run for stage in bench.STAGES for run in bench.planned(stage, PAIRS, methods)]
    assert len({run.key for run in runs}) == len(runs)
    two = list(bench.planned("two", PAIRS, methods))
    assert len(two) == 2 * 3 * len(methods)
    assert [run.method for run in two[: len(methods)]] == methods
    assert not list(bench.planned("fine", PAIRS, ["greedy"]))


def test_a_changed_preset_or_code_is_measured_again(bench: ModuleType, tmp_path: Path) -> None:
    ours, theirs = bench.Run("eight", "fast", PAIRS[0]), bench.Run("eight", "greedy", PAIRS[0])
    found = bench.Bench(tmp_path, tmp_path / "run", keep=False)
    assert not found.is_done(ours)
    for run in (ours, theirs):
        found.rows[run.key] = {"values": found.values(run), "code": found.code}
    assert found.is_done(ours)
    found.code = "another"
    assert not found.is_done(ours)
    assert found.is_done(theirs)
    found.keep = True
    assert found.is_done(ours)
    found.keep, found.rows[theirs.key]["values"] = False, "10x10x0"
    assert not found.is_done(theirs)


def test_the_sweep_scales_iterations(bench: ModuleType) -> None:
    found = bench.Bench.__new__(bench.Bench)
    whole, half = (
        bench.json.loads(found.values(bench.Run("sweep", "fast", PAIRS[0], iterations=factor)))
        for factor in ("x1", "x0.5")
    )
    counts = [values["pyramid"].pop("iterations") for values in (whole, half)]
    assert all(abs(b - a / 2) < 1 for a, b in zip(*counts, strict=True))
    assert whole == half


def test_the_table_and_the_figure(bench: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def row(stage: str, method: str, pair: str, **changes: Any) -> dict[str, Any]:
        measured = {"dice": 0.6, "hd95": 3.0, "ndv": 0.0, "folded_percent": 0.0, "cpu_s": 10.0, "wall_s": 6.0}
        known = {"stage": stage, "method": method, "pair": pair, "repeat": 1, "threads": 2, "iterations": ""}
        return {**known, **measured, "peak_mib": 700.0, "measured": "2026-01-01T00:00:00", **changes}

    rows = [row("eight", "lumir", pair, dice=0.65 + 0.01 * n) for n, pair in enumerate(PAIRS[:2])]
    rows += [row("eight", "greedy", pair, dice=0.64, cpu_s=100.0) for pair in PAIRS[:2]]
    rows += [row("two", "lumir", PAIRS[0], cpu_s=cpu) for cpu in (10.0, 50.0, 12.0)]
    rows += [row("two", "greedy", PAIRS[0], cpu_s=cpu) for cpu in (110.0, 130.0, 120.0)]
    rows += [row("two", "lumir", PAIRS[1], cpu_s=99.0)]  # a median of one is none
    rows += [row("single", "lumir", PAIRS[0], cpu_s=11.0)]
    rows += [row("fine", "lumir", "finer", cpu_s=48.0, peak_mib=2000.0)]
    rows += [row("sweep", "lumir", PAIRS[0], iterations=f"x{n}", cpu_s=float(n)) for n in (1, 2)]
    bench.report({str(n): one for n, one in enumerate(rows)}, tmp_path)
    with (tmp_path / "lddmm.csv").open(newline="") as stream:
        lumir, greedy = csv.DictReader(stream)
    assert (lumir["method"], lumir["pairs"], lumir["dice"]) == ("lumir", "2", "0.6550")
    assert lumir["least_gain"] == "+0.0100"
    assert (lumir["cpu_median"], lumir["share"], lumir["wall_share"]) == ("12.0", "0.100", "0.50")
    assert (lumir["thread_share"], lumir["fine_share"]) == ("1.09", "4.00")
    assert (greedy["cpu_s"], greedy["least_gain"]) == ("100.0", "+0.0000")
    assert (tmp_path / "lddmm-sweep.png").stat().st_size > 5000
    with (tmp_path / "lddmm-runs.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(rows)
