"""The few numbers of the demo's and the benchmark's tables, and what they remember."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.dataset import Pair, Scan
from iterreg.evaluation import scores
from iterreg.evaluation.scores import score_folder
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.volume import read_grid


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    for name in ("a", "b"):
        array = np.random.default_rng(1).uniform(1, 9, (8, 7, 6)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    grid = read_grid(tmp_path / "a.nii.gz")
    write_field(tmp_path / "disp_a_b.nii.gz", DisplacementField.identity(grid))
    return Pair(Scan(tmp_path / "a.nii.gz", "a"), Scan(tmp_path / "b.nii.gz", "b"))


def one(_: Pair, field: DisplacementField) -> Mapping[str, float]:
    return {"extra": 1.0}


def two(_: Pair, field: DisplacementField) -> Mapping[str, float]:
    return {"extra": 2.0}


def test_scores_are_remembered_by_the_code_that_made_them(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "scores.json"

    def extra_by(function: scores.Extra) -> float:
        return score_folder(tmp_path, [pair], cache=cache, extra=function)["a_b"]["extra"]

    assert extra_by(one) == 1
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: {**value, "extra": 7.0} for key, value in known.items()}))
    assert extra_by(one) == 7, "it is taken from the cache"
    assert extra_by(two) == 2, "another extra is another question"
    monkeypatch.setattr(scores, "_code", lambda: "of another revision")
    assert extra_by(one) == 1, "what another code made is made again"
