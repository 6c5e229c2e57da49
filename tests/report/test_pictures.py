"""Pictures say what the numbers are; drawings are compared with slow obvious twins."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from iterreg.report import pictures
from iterreg.report.cutting import box, worst_place
from iterreg.report.encoding import overlay, photo


def decoded(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_window_leaves_the_background_black() -> None:
    image = np.zeros((10, 10, 10), np.float32)
    image[2:8, 2:8, 2:8] = np.linspace(50, 100, 216).reshape(6, 6, 6)
    low, high = pictures.window(image)
    assert low == 0
    assert 99 < high <= 100
    assert pictures.grey(image, (low, high))[0, 0, 0] == 0
    assert pictures.window(np.zeros((2, 2, 2)))[1] > 0
    assert pictures.window(image - 1000)[0] == pytest.approx(-1000)


def test_difference_says_which_is_brighter() -> None:
    fixed, warped = np.array([[1.0, 0.0, 0.5]]), np.array([[0.0, 1.0, 0.5]])
    red, _, blue = np.moveaxis(pictures.difference(fixed, warped, ((0, 1), (0, 1))).astype(int), -1, 0)
    assert red[0, 0] > blue[0, 0] + 50
    assert blue[0, 1] > red[0, 1] + 50
    assert (pictures.difference(fixed, warped, ((0, 1), (0, 1)))[0, 2] <= 2).all()


def test_log_jacobian_is_white_at_one_and_symmetric() -> None:
    colours = pictures.log_jacobian(np.array([[0.25, 0.5, 1.0, 2.0, 4.0, -3.0]])).astype(int)[0]
    assert (colours[2] >= 246).all()
    assert colours[1, 2] > colours[1, 0], "blue where moving is smaller"
    assert colours[3, 0] > colours[3, 2], "red where moving is larger"
    np.testing.assert_array_equal(colours[5], colours[0])
    np.testing.assert_array_equal(pictures.folded(np.array([[0.1, 0.0, -1.0]])), [[0, 1, 1]])


def test_borders_like_their_twin(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, (5, 7))
    for enlarge in (1, 2, 3):
        found = pictures.borders(labels, enlarge)
        for i in range(found.shape[0]):
            for j in range(found.shape[1]):
                here = labels[i // enlarge, j // enlarge]
                below = labels[min(i + 1, found.shape[0] - 1) // enlarge, j // enlarge]
                right = labels[i // enlarge, min(j + 1, found.shape[1] - 1) // enlarge]
                assert found[i, j] == (here != below or here != right)


def test_grid_lines_lie_where_the_map_reaches_a_multiple_of_the_step() -> None:
    rows, columns = np.indices((40, 60)).astype(float)
    lines = pictures.grid_lines((rows, columns), (8, 10), 1)
    assert (lines[[0, 8, 16, 24, 32]] > 200).all()
    assert (lines[:, [0, 10, 20, 30]] > 200).all()
    assert not lines[[4, 12, 20]][:, [5, 15, 25]].any()
    shifted = pictures.grid_lines((rows + 3, columns), (8, 10), 1)
    assert (shifted[[5, 13, 21]] > 200).all(), "a map that adds 3 meets line 8 at row 5"
    stretched = pictures.grid_lines((rows * 2, columns), (8, 10), 1)
    assert (stretched[[0, 4, 8, 12]] > 200).all(), "lines crowd where more of the moving image is sampled"


def test_quantised_keeps_black_and_white() -> None:
    indices, colours = pictures.quantised(np.array([[0, 128, 255]], np.uint8), 3)
    assert [colours[i] for i in indices[0]] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


def test_overlays_are_lossless_and_photographs_are_reduced(rng: np.random.Generator) -> None:
    indices = rng.integers(0, 3, (20, 30)).astype(np.uint8)
    found = decoded(overlay(indices, pictures.CONTOURS))
    np.testing.assert_array_equal(found[..., 3] > 0, indices > 0)
    seen = indices > 0
    np.testing.assert_array_equal(found[seen][:, :3], np.array(pictures.CONTOURS)[indices[seen]])
    smooth = np.add.outer(np.arange(90), np.arange(200)).astype(np.uint8)
    assert decoded(photo(smooth // 2, quality=80, longest=100)).shape[:2] == (45, 100)
    kept = decoded(photo(np.clip(smooth, 0, 200) // 2, quality=90, longest=400))
    assert kept.shape[:2] == (90, 200)


def test_worst_place_is_where_most_is_missed() -> None:
    labels = np.zeros((20, 24, 16), np.int32)
    labels[2:8, 2:8, 2:8] = 7
    labels[12:18, 14:20, 9:14] = -3
    foreground = labels != 0
    near = worst_place(labels, {7: 0.9, -3: 0.1, 0: 1.0}, foreground)
    assert all(2 <= place < 8 for place in near)
    far = worst_place(labels, {7: 0.1, -3: 0.9}, foreground)
    assert foreground[far]
    assert labels[far] == -3
    middle = worst_place(labels, {}, foreground)
    assert middle == worst_place(None, {7: 1.0}, foreground), "without labels that tell, the middle"
    assert worst_place(None, {}, np.zeros((9, 8, 7), bool)) == (4, 4, 3)
    assert worst_place(labels, {55: 1.0}, foreground) == middle, "scores of labels that are not there"


def test_box_holds_the_foreground_with_a_margin() -> None:
    foreground = np.zeros((100, 50, 20), bool)
    foreground[40:60, 0:50, 5:6] = True
    first, second, third = box(foreground, (1.0, 1.0, 4.0))
    assert first[0] < 40
    assert first[1] > 60
    assert first[1] - first[0] < 30
    assert second == (0, 50)
    assert third[0] < 5
    assert third[1] > 6
    assert box(np.zeros((4, 5, 6), bool), (1, 1, 1)) == [(0, 4), (0, 5), (0, 6)]


@pytest.mark.filterwarnings("error")
def test_colours_end_where_their_scale_ends() -> None:
    black, white = (0, 0, 0), (255, 255, 255)
    values = np.array([-np.inf, -1e308, -1, 0, 1, 1e308, np.inf, np.nan])
    grey = pictures.ramp(values, (black, white))[:, 0]
    np.testing.assert_array_equal(grey, [0, 0, 0, 128, 255, 255, 255, 128])
