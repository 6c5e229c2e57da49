"""HD95 against the definition of surface-distance, retold slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from iterreg.errors import InputError
from iterreg.evaluation import surface_distance
from iterreg.evaluation.surface_distance import hd95, surfel_areas

UNIT = (1.0, 1.0, 1.0)


def surface(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where the surface passes and its area, on the corners of the mask's voxels."""
    padded = np.pad(mask, 1).astype(int)
    n = np.array(padded.shape) - 1
    code = np.zeros(n, int)
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                bit = 4 * dz + 2 * dx + dy
                code += padded[dx : dx + n[0], dy : dy + n[1], dz : dz + n[2]] << bit
    return (code > 0) & (code < 255), surfel_areas(*spacing)[code]


def twin(
    fixed: np.ndarray, warped: np.ndarray, spacing: tuple[float, ...] = UNIT, percent: float = 95
) -> float:
    (one, area_one), (two, area_two) = surface(fixed, spacing), surface(warped, spacing)
    directed = []
    for start, areas, goal in ((one, area_one, two), (two, area_two, one)):
        distances = distance_transform_edt(~goal, sampling=spacing)[start]
        ordered = np.array(sorted(zip(distances, areas[start], strict=True)))
        share = np.cumsum(ordered[:, 1]) / np.sum(ordered[:, 1])
        index = min(np.searchsorted(share, percent / 100), len(ordered) - 1)
        directed.append(ordered[index, 0])
    return max(directed)


@given(
    masks=hnp.arrays(bool, (2, 7, 6, 8), elements=st.booleans()),
    spacing=st.sampled_from([UNIT, (0.5, 0.5, 0.5), (1.5, 0.7, 2.2)]),
    percent=st.sampled_from([49.7, 95.0, 100.0]),
)
@settings(max_examples=60, deadline=None)
def test_equals_its_twin(masks: np.ndarray, spacing: tuple[float, ...], percent: float) -> None:
    fixed, warped = masks
    if not (fixed.any() and warped.any()):
        return
    found = hd95(fixed.astype(np.int16), warped.astype(np.int16), [1], spacing=spacing, percent=percent)
    assert found[1] == pytest.approx(twin(fixed, warped, spacing, percent), rel=1e-6)


@pytest.mark.parametrize("shift", [3, 12, 16])
def test_near_and_far_surfaces(rng: np.random.Generator, shift: int) -> None:
    """Beyond thirteen voxels another algorithm takes over: both give the same number."""
    fixed = np.zeros((40, 24, 22), np.int32)
    fixed[3:15, 4:18, 5:17][rng.random((12, 14, 12)) > 0.2] = 7
    warped = np.roll(fixed, shift, axis=0)
    assert hd95(fixed, warped, [7])[7] == twin(fixed == 7, warped == 7)


def test_both_algorithms_agree(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    fixed, warped = (np.kron(rng.integers(0, 4, (6, 6, 6)), np.ones((4, 4, 4), int)) for _ in range(2))
    near = hd95(fixed, warped, [0, 1, 2, 3])
    monkeypatch.setattr(surface_distance, "_near", lambda *_: None)
    assert hd95(fixed, warped, [0, 1, 2, 3]) == near


def test_what_is_missing() -> None:
    fixed = np.zeros((5, 5, 5), int)
    fixed[1, 1, 1], fixed[2, 2, 2], fixed[3, 3, 3] = 1, 2, 3
    warped = np.zeros_like(fixed)
    warped[1, 1, 2] = 1
    moving = np.array([[[1, 2, 5]]])
    found = hd95(fixed, warped, [1, 2, 3, 4, 5], moving=moving)
    assert found[1] == 1
    assert found[2] == np.inf, "it vanished in the warping"
    assert np.isnan(found[3]), "it is missing in the moving volume"
    assert np.isnan([found[4], found[5]]).all(), "they are missing in the fixed volume"


def test_a_shifted_box() -> None:
    """Of a bar's area, its ends and the rings beside them are off by a shift along it."""
    fixed = np.zeros((60, 12, 12), np.uint8)
    fixed[5:45, 4:8, 4:8] = 1
    assert hd95(fixed, np.roll(fixed, 4, axis=0), [1], percent=100)[1] == 4
    assert hd95(fixed, np.roll(fixed, 4, axis=0), [1], percent=90)[1] < 4
    assert hd95(fixed, np.roll(fixed, 2, axis=1), [1])[1] == 2


def test_areas_of_plain_surfaces() -> None:
    """A face, an edge cut off at 45 degrees, a corner cut off: areas anyone can work out."""
    areas = surfel_areas()
    assert areas[0] == areas[255] == 0
    for code, area in ((0b00001111, 1), (0b00000011, np.sqrt(0.5)), (0b00000001, np.sqrt(3) / 8)):
        assert areas[code] == areas[255 - code] == pytest.approx(area)
    assert surfel_areas(2, 3, 5)[0b00001111] == 6, "a face across z has the area of its x and y"
    assert np.count_nonzero(areas) == 254


def test_bits_do_not_depend_on_threads(
    same_bits: Callable[[Callable[[], Any]], None], rng: np.random.Generator
) -> None:
    fixed, warped = rng.integers(0, 3, (2, 20, 18, 16))
    same_bits(lambda: np.array(list(hd95(fixed, warped, [0, 1, 2]).values())))


def test_refuses() -> None:
    with pytest.raises(InputError, match="shape"):
        hd95(np.zeros((2, 2, 2), int), np.zeros((2, 3, 2), int))
