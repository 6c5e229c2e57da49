"""Distances to a known field, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iterreg.dataset.base import Pair, Scan
from iterreg.dataset.truth import load_truth, truth_error, truth_path
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.io.nifti import write_volume
from iterreg.volume import Grid, Volume

FIXED = Grid((4, 5, 6))
MOVING = Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]))


def shifted(*by: float) -> DisplacementField:
    return DisplacementField(np.broadcast_to(np.float32(by), (*FIXED.shape, 3)), FIXED, MOVING)


def test_error_in_voxels_and_millimetres() -> None:
    error = truth_error(shifted(0, 3, 4), shifted(0, 0, 0))
    assert error == pytest.approx(
        {"mean": 5, "p95": 5, "max": 5, **dict.fromkeys(("mean_mm", "p95_mm", "max_mm"), np.hypot(6, 12))}
    )


def test_error_counts_the_mask_only() -> None:
    vectors = np.zeros((*FIXED.shape, 3), np.float32)
    vectors[0] = 9
    vectors[1, 0, 0, 0] = 2
    mask = np.zeros(FIXED.shape, np.int32)
    mask[1, :2, :2] = 7
    error = truth_error(DisplacementField(vectors, FIXED, MOVING), shifted(0, 0, 0), mask)
    assert (error["mean"], error["max"]) == (0.5, 2)
    assert error["p95"] == pytest.approx(2 * (0.95 * 3 - 2))


def test_error_refuses_what_does_not_fit() -> None:
    other = DisplacementField.identity(Grid((4, 5, 7)))
    with pytest.raises(InputError, match="one pair"):
        truth_error(other, shifted(0, 0, 0))
    for mask in (np.zeros(FIXED.shape), np.ones((2, 2, 2))):
        with pytest.raises(InputError, match="fixed subject's"):
            truth_error(shifted(0, 0, 0), shifted(0, 0, 0), mask)


def test_truth_lies_beside_the_images(tmp_path: Path) -> None:
    images = [tmp_path / "imagesVal" / f"X_000{i}_000{i}.nii.gz" for i in (0, 1)]
    pair = Pair(Scan(images[0], "0000", "0000"), Scan(images[1], "0001", "0001"))
    assert truth_path(pair) == tmp_path / "truth" / "disp_0000_0001.nii.gz"
    with pytest.raises(InputError, match="only the packaged demo"):
        load_truth(pair)
    for path in (images[0], truth_path(pair)):
        path.parent.mkdir()
    for path, grid in zip(images, (FIXED, MOVING), strict=True):
        write_volume(path, Volume(np.ones(grid.shape, np.uint8), grid))
    write_field(truth_path(pair), shifted(1, 2, 3))
    truth = load_truth(pair)
    assert truth.fixed == FIXED
    assert truth.moving == MOVING
    assert truth_error(truth, shifted(1, 2, 3))["max"] == 0
