"""The benchmark's table: earlier rows stay until they are measured anew, and say which they are."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def oasis() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oasis", ROOT / "benchmarks" / "oasis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two brains of ten voxels with two labels."""
    rng = np.random.default_rng(3)
    for kind, dtype in (("images", np.float32), ("labels", np.uint8)):
        (tmp_path / f"{kind}Val").mkdir()
        for subject in (1000, 1001):
            array = rng.integers(0, 3, (10, 12, 11)).astype(dtype)
            path = tmp_path / f"{kind}Val" / f"OASISMRI_{subject}_0000.nii.gz"
            nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    pair = {
        role: f"./imagesVal/OASISMRI_{subject}_0000.nii.gz"
        for role, subject in (("fixed", 1000), ("moving", 1001))
    }
    path = tmp_path / "OASIS_dataset.json"
    path.write_text(json.dumps({"name": "OASIS", "validation": [pair]}))
    return path


def test_rows_of_an_earlier_run_are_kept_and_marked(oasis: ModuleType, source: Path, tmp_path: Path) -> None:
    run, results = tmp_path / "run", tmp_path / "results"
    command = ["run", str(source), "--out", str(run), "--method", "identity", "--cores", "1"]
    subprocess.run([sys.executable, "-m", "iterreg", *command], check=True, capture_output=True)
    earlier = dict.fromkeys(oasis.COLUMNS, "7") | {"measured": "2020-01-02 (0.0.1)", "run": "this"}
    results.mkdir()
    with (results / "oasis.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, oasis.COLUMNS)
        writer.writeheader()
        writer.writerows(earlier | {"method": name} for name in ("syn-cheap", "identity"))

    oasis.report(source, run, results)
    with (results / "oasis.csv").open(newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["identity", "syn-cheap"]
    assert rows["syn-cheap"] == earlier | {"method": "syn-cheap", "run": "earlier"}
    assert rows["identity"]["run"] == "this"
    assert rows["identity"]["ndv_percent"] == "0.000000"
    assert not rows["identity"]["measured"].startswith("2020")
    document = (results / "oasis.md").read_text()
    assert "| syn-cheap \\* | 7 |" in document
    assert "| identity | 1 |" in document

    oasis.report(source, run, results)
    assert (results / "oasis.md").read_text() == document
