"""The benchmark of the evaluation: on small scans, without the official code."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "benchmarks" / "evaluation.py"


@pytest.mark.slow
def test_without_the_official_code(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for subject in (1000, 1001):
        labels = np.kron(rng.integers(0, 4, (5, 5, 5)), np.ones((4, 4, 4), int)).astype(np.uint8)
        blobs = np.zeros((20, 20, 20), np.uint8)
        blobs[8:12, 8:12, 8:12] = 1
        for kind, array in (("images", labels * 60), ("labels", labels), ("landmarks", blobs)):
            (tmp_path / f"{kind}Val").mkdir(exist_ok=True)
            image = nib.Nifti1Image(array, np.eye(4))
            nib.save(image, tmp_path / f"{kind}Val" / f"OASISMRI_{subject}_0000.nii.gz")
    (tmp_path / "OASIS_dataset.json").write_text(json.dumps({"name": "OASIS"}))
    command = [sys.executable, str(PROGRAM), "--data", str(tmp_path), "--results", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    with (tmp_path / "evaluation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["field"] for row in rows] == ["identity"] * 2 + ["random, folding"] * 2
    assert rows[-1]["grid"].startswith("0.6 mm")
    for row in rows:
        assert float(row["cpu_s"]) > 0
        assert float(row["peak_mib"]) > 50
        assert 0 < float(row["dice"]) < 1
    assert "random, folding" in (tmp_path / "evaluation.md").read_text()


def test_differences_are_found_wherever_they_are() -> None:
    spec = importlib.util.spec_from_file_location("benchmark_evaluation", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    nan, inf = float("nan"), float("inf")
    theirs = {"DSC": {"mean": 0.5, "detailed": [nan, 0.5]}, "HD95": {"mean": inf, "detailed": [1.0, inf]}}
    same = json.loads(json.dumps(theirs))
    assert module.difference(same, theirs) == (6, 0.0)
    same["HD95"]["detailed"][0] = 1.25
    assert module.difference(same, theirs) == (6, 0.25)
    same["DSC"]["detailed"][0] = 0.0
    assert module.difference(same, theirs)[1] == math.inf
