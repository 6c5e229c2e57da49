"""NDV and the Jacobian's spread and range, against numpy's own gradients and maps whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.evaluation.regularity import determinants, non_diffeomorphic


def test_sdlogj_is_learn2regs(random_field: Callable[..., np.ndarray]) -> None:
    u = random_field((12, 11, 13), 3.0, 1.0)
    gradients = np.stack([np.stack(np.gradient(u[..., c].astype(float)), axis=-1) for c in range(3)], axis=-2)
    j = np.linalg.det(gradients + np.eye(3))[2:-2, 2:-2, 2:-2]
    found = determinants(u)
    assert found.sd_log == pytest.approx(np.log((j + 3).clip(1e-9, 1e9)).std(), abs=1e-12)
    assert (found.lowest, found.highest) == (pytest.approx(j.min()), pytest.approx(j.max()))
    assert (found.folded, found.voxels) == ((j <= 0).sum(), j.size)


def test_a_uniform_scaling_has_no_spread() -> None:
    points = np.moveaxis(np.indices((8, 8, 8)), 0, -1)
    found = determinants((0.25 * points).astype(np.float32))
    assert found.sd_log == pytest.approx(0, abs=1e-7)
    assert found.lowest == found.highest == pytest.approx(1.25**3)


def test_ndv_counts_the_mask_alone() -> None:
    u = np.zeros((9, 9, 9, 3), np.float64)
    u[4, 4, 4, 0] = -1.5
    whole = non_diffeomorphic(u)
    assert whole.voxels == 7**3
    assert whole.folded_voxels > 0
    assert whole.lowest == pytest.approx(-0.5)
    here = np.zeros((9, 9, 9), np.uint8)
    here[4, 4, 4] = 200
    only = non_diffeomorphic(u, here)
    assert (only.voxels, only.folded_voxels) == (1, 1)
    assert only.percent == pytest.approx(100 * 4 * 0.5 / 12)
    far = np.zeros((9, 9, 9), bool)
    far[1, 1, 1] = True
    assert non_diffeomorphic(u, far).percent == 0


def test_empty_masks_have_no_number() -> None:
    u = np.zeros((5, 5, 5, 3), np.float32)
    border = np.ones((5, 5, 5), bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert np.isnan(non_diffeomorphic(u, border).percent)
    assert np.isnan(determinants(u, border).sd_log)


def test_refuses() -> None:
    with pytest.raises(InputError, match="three voxels"):
        non_diffeomorphic(np.zeros((2, 5, 5, 3), np.float32))
    with pytest.raises(InputError, match="mask"):
        determinants(np.zeros((5, 5, 5, 3), np.float32), np.ones((5, 5, 4)))
