"""Inverse consistency: exact inverses, known offsets, points that leave the grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.evaluation.consistency import inverse_consistency
from iterreg.field import DisplacementField
from iterreg.volume import Grid

GRID = Grid((12, 11, 10), np.diag([2.0, 1.0, 0.5, 1.0]))


def shift(*voxels: float) -> DisplacementField:
    return DisplacementField(np.tile(np.array(voxels, np.float32), (*GRID.shape, 1)), GRID, GRID)


def test_a_shift_and_its_opposite() -> None:
    found = inverse_consistency(shift(1, -2, 0.5), shift(-1, 2, -0.5))
    assert found.max == pytest.approx(0, abs=1e-6)
    assert 0 < found.voxels < GRID.size, "what leaves the grid does not count"


def test_is_measured_in_millimetres() -> None:
    found = inverse_consistency(shift(1, 0, 0), shift(-1, 3, 4))
    assert [found.mean, found.p95, found.max] == pytest.approx([np.hypot(3 * 1.0, 4 * 0.5)] * 3)


def test_the_mask_chooses(random_field: Callable[..., np.ndarray]) -> None:
    backward = shift(0, 0, 0)
    backward.vectors[5, 5, 5] = [0, 1, 0]
    mask = np.zeros(GRID.shape, np.uint8)
    mask[5, 5, 5] = 1
    found = inverse_consistency(shift(0, 0, 0), backward, mask)
    assert (found.mean, found.voxels) == (1, 1)
    assert np.isnan(inverse_consistency(shift(0, 0, 0), backward, np.zeros(GRID.shape)).mean)


def test_between_two_grids(random_field: Callable[..., np.ndarray]) -> None:
    """An identity in the world leads back whatever the grids."""
    other = Grid((7, 9, 15), np.diag([3.0, 1.2, 0.4, 1.0]))
    there, back = DisplacementField.identity(GRID, other), DisplacementField.identity(other, GRID)
    assert inverse_consistency(there, back).max == pytest.approx(0, abs=1e-4)
    with pytest.raises(InputError, match="one pair"):
        inverse_consistency(there, there)


def test_a_numerical_inverse(random_field: Callable[..., np.ndarray]) -> None:
    forward = DisplacementField(random_field((20, 20, 20), 1.5, 4.0), Grid((20, 20, 20)), Grid((20, 20, 20)))
    inner = np.zeros((20, 20, 20), bool)
    inner[4:-4, 4:-4, 4:-4] = True
    assert inverse_consistency(forward, forward.invert().field, inner).max < 0.1
