"""Every number of the official evaluators, to 1e-6. See golden/make.py for how theirs were made."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from iterreg.cli.main import main

Golden = Callable[[str], Any]


def assert_equal(found: Any, expected: Any, where: str = "") -> int:
    """Compare nested numbers; how many there were."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        return sum(assert_equal(found[key], expected[key], f"{where}/{key}") for key in expected)
    if isinstance(expected, list):
        assert len(found) == len(expected), where
        return sum(
            assert_equal(*pair, f"{where}[{i}]") for i, pair in enumerate(zip(found, expected, strict=True))
        )
    if isinstance(expected, float) and not math.isfinite(expected):
        assert found is None, f"{where}: strict JSON has no {expected}"
    else:
        assert found == pytest.approx(expected, rel=0, abs=1e-6), where
    return 1


def evaluated(fields: Path, config: Path, out: Path, *more: str) -> Any:
    """The metrics json of ``iterreg evaluate``."""
    command = ["evaluate", str(fields), "--dataset", str(config), "--out", str(out), "--cores", "1", *more]
    assert main(command) == 0
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("protocol", ["lumir24", "lumir25"])
def test_brains(tmp_path: Path, cases: ModuleType, golden: Golden, protocol: str) -> None:
    """Labels and landmarks absent or vanished, indices just outside, odd layouts, precisions and names."""
    config = cases.make_brains(tmp_path)
    found = evaluated(tmp_path / "fields", config, tmp_path / "out", "--protocol", protocol)
    expected = golden(f"brains_{protocol}")["cases"]
    assert_equal(found["cases"], expected)
    with (tmp_path / "out" / "pairs.csv").open(newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    for name in ("HD95", "TRE_lm"):
        means = {case: measures[name]["mean"] for case, measures in expected.items()}
        infinite = {case: str(mean) for case, mean in means.items() if not math.isfinite(mean)}
        assert infinite, "the case must hold what it means to test"
        assert {case: rows[case][name] for case in infinite} == infinite


def test_lungs(tmp_path: Path, cases: ModuleType, golden: Golden) -> None:
    """Points, anisotropic headers, masks, an ``.npz`` field, long names, two cases, the aggregates."""
    config = cases.make_lungs(tmp_path)
    found = evaluated(tmp_path / "fields", config, tmp_path / "out")
    expected = golden("lungs")
    assert assert_equal(found["cases"], expected["cases"]) > 1600
    assert_equal(found["aggregates"], expected["aggregates"])


@pytest.mark.slow
def test_real_lung_points(tmp_path: Path, cases: ModuleType, golden: Golden) -> None:
    """Learn2Reg's own LungCT keypoints, landmarks and masks, of the user's checkout of MDL-UzL/L2R."""
    checkouts = os.environ.get("ITERREG_CHECKOUTS")
    if checkouts is None or not (Path(checkouts) / "L2R").is_dir():
        pytest.skip("set ITERREG_CHECKOUTS to the folder that holds a checkout L2R of MDL-UzL/L2R")
    config = cases.make_real_lungs(tmp_path, Path(checkouts) / "L2R")
    found = evaluated(tmp_path / "fields", config, tmp_path / "out")
    expected = golden("real_lungs")
    assert_equal(found["cases"], expected["cases"])
    assert_equal(found["aggregates"], expected["aggregates"])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_real_brains(tmp_path: Path, data_dir: Path, cases: ModuleType, golden: Golden, number: int) -> None:
    """A real pair under all its labels and under the challenge's: identity, folding, SyN."""
    field, labels, protocol = cases.REAL[number]
    cases.make_real_field(tmp_path / "fields", field)
    config = cases.real_config(tmp_path / "config.json", data_dir, labels)
    more = ["--protocol", protocol, "--root", str(data_dir / "oasis")]
    found = evaluated(tmp_path / "fields", config, tmp_path / "out", *more)
    expected = golden(cases.real_name(field, labels, protocol))
    assert assert_equal(found["cases"], expected["cases"]) > 250
    shutil.rmtree(tmp_path / "fields")
