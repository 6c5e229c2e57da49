"""Dice against the evaluator's own way of counting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iterreg.errors import InputError
from iterreg.evaluation.overlap import dice, lumirage_dice, mean_score, overlap
from iterreg.volume import load_labels


def twin(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: list[int]) -> list[float]:
    """One label at a time, as the challenge does."""
    scores = []
    for label in labels:
        f, w = fixed == label, warped == label
        if not f.any() or not (moving == label).any():
            scores.append(float("nan"))
        else:
            scores.append(2 * (f & w).sum() / (f.sum() + w.sum()))
    return scores


@given(
    volumes=hnp.arrays(
        np.int32, (3, 4, 3, 5), elements=st.integers(0, 4) | st.sampled_from([-7, 17, 2035, 2**31 - 1])
    )
)
@settings(max_examples=100, deadline=None)
def test_equals_its_twin(volumes: np.ndarray) -> None:
    fixed, moving, warped = volumes
    labels = [0, 1, 2, 3, 4, 5, 17, 2035, -7, 2**31 - 1]
    scores = dice(fixed, warped, labels, moving=moving)
    assert list(scores) == labels
    expected = twin(fixed, moving, warped, labels)
    np.testing.assert_array_equal(list(scores.values()), expected)
    if np.isnan(expected).all():
        assert np.isnan(mean_score(scores))
    else:
        assert mean_score(scores) == pytest.approx(np.nanmean(expected))


def test_what_is_missing() -> None:
    fixed = np.array([[[1, 1, 2, 2, 3, 0]]])
    warped = np.array([[[1, 0, 0, 0, 0, 4]]])
    moving = np.array([[[1, 2, 2, 4, 0]]])
    scores = dice(fixed, warped, moving=moving)
    assert scores[1] == pytest.approx(2 / 3)
    assert scores[2] == 0, "it vanished in the warping"
    assert np.isnan(scores[3]), "it is missing in the moving volume"
    assert np.isnan(scores[4]), "it is missing in the fixed volume"
    assert list(scores) == [1, 2, 3, 4]
    assert mean_score(scores) == pytest.approx(1 / 3)
    assert dice(fixed, warped)[3] == 0, "without the moving volume it cannot be known"
    assert np.isnan(mean_score({}))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64, bool])
def test_any_integer_type(dtype: type) -> None:
    fixed = np.array([[[0, 1], [1, 1]]], dtype)
    warped = np.array([[[1, 1], [0, 1]]], dtype)
    assert dice(fixed, warped, [0, 1]) == {0: 0.0, 1: pytest.approx(2 / 3)}


def test_refuses() -> None:
    with pytest.raises(InputError, match="shape"):
        dice(np.zeros((2, 2, 2), int), np.zeros((2, 3, 2), int))
    with pytest.raises(InputError, match="integers"):
        dice(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int))


def test_real_pair_before_registration(data_dir: Path) -> None:
    """The development data state 0.435 for this pair, over 138 labels without the background."""
    folder = data_dir / "oasis"
    config = json.loads((folder / "OASIS_VAL_Segmentation_evaluation_config.json").read_text())
    labels = next(m["labels"] for m in config["evaluation_methods"] if m["metric"] == "dice")
    fixed = load_labels(folder / "labelsVal" / "OASISMRI_1000_0000.nii.gz").array
    moving = load_labels(folder / "labelsVal" / "OASISMRI_1001_0000.nii.gz").array
    scores = dice(fixed, moving, [label for label in labels if label], moving=moving)
    assert mean_score(scores) == pytest.approx(0.435, abs=5e-4)


@given(volumes=hnp.arrays(np.int16, (2, 5, 4, 6), elements=st.sampled_from([-3, 0, 0, 1, 2, 400])))
@settings(max_examples=50, deadline=None)
def test_boxes_hold_the_label_and_nothing_more(volumes: np.ndarray) -> None:
    fixed, warped = volumes
    for row in overlap(fixed, warped).rows():
        voxels = np.argwhere((fixed == row.label) | (warped == row.label))
        lower, upper = row.box
        assert lower == tuple(voxels.min(axis=0))
        assert upper == tuple(voxels.max(axis=0) + 1)


def test_lumirage_scores_a_label_absent_on_both_sides_with_one() -> None:
    fixed = np.array([[[1, 1, 0, 0]]])
    warped = np.array([[[1, 0, 0, 2]]])
    scores = lumirage_dice(overlap(fixed, warped, [1, 2, 3]))
    assert scores[1] == pytest.approx((2 + 1e-5) / (3 + 1e-5))
    assert scores[2] == pytest.approx(1e-5 / (1 + 1e-5))
    assert scores[3] == 1
