"""Kernels are compiled once on a machine: no part of what a method costs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_compiling_is_told_apart_from_what_a_method_costs(
    make_lab: Callable[..., Any], tmp_path: Path
) -> None:
    lab = make_lab("s00", "s01")
    done = lab.run("-m", "identity", "--cores", "1", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert " once, for compiling kernels)" in done.stdout + done.stderr
    with (lab.out / "results.csv").open(newline="") as stream:
        first, second = sorted(csv.DictReader(stream), key=lambda row: -float(row["compile_s"]))
    assert float(first["compile_s"]) > 1
    assert float(second["compile_s"]) == 0
    assert float(first["cpu_s"]) < float(first["compile_s"])
    assert float(first["cpu_s"]) < 3 * float(second["cpu_s"]) + 1
