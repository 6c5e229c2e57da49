"""Sampling kernels against slow obvious loops and against scipy, whose rules the challenge follows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import map_coordinates

from iterreg.kernels.sampling import (
    compose,
    sample_field,
    sample_labels_linear,
    sample_labels_nearest,
    sample_linear,
)

SHAPES = [
    ((7, 5, 6), (7, 5, 6)),
    ((5, 3, 4), (4, 6, 3)),
    ((1, 4, 3), (1, 4, 3)),
    ((3, 2, 1), (2, 1, 2)),
    ((2, 2, 2), (1, 1, 1)),
    ((1, 1, 1), (3, 3, 3)),
]


def corners(point: np.ndarray, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
    """The eight voxels around a point with their trilinear weights, those outside the grid included."""
    low = np.floor(point).astype(int)
    found = []
    for step in itertools.product((0, 1), repeat=3):
        weights = [1 - abs(p - (i + s)) for p, i, s in zip(point, low, step, strict=True)]
        found.append((tuple(int(i + s) for i, s in zip(low, step, strict=True)), float(np.prod(weights))))
    return found


def within(index: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= i < n for i, n in zip(index, shape, strict=True))


def linear_twin(image: np.ndarray, displacement: np.ndarray, fill: float) -> np.ndarray:
    out = np.full(displacement.shape[:3], fill, np.float64)
    for p in np.ndindex(out.shape):
        q = np.array(p) + displacement[p].astype(np.float64)
        if all(0 <= x <= n - 1 for x, n in zip(q, image.shape, strict=True)):
            out[p] = sum(
                w * float(image[c]) for c, w in corners(q, image.shape) if w > 0 and within(c, image.shape)
            )
    return out


def nearest_twin(labels: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    out = np.zeros(displacement.shape[:3], labels.dtype)
    for p in np.ndindex(out.shape):
        q = np.array(p) + displacement[p].astype(np.float64)
        if all(0 <= x <= n - 1 for x, n in zip(q, labels.shape, strict=True)):
            out[p] = labels[tuple(np.floor(q + 0.5).astype(int))]
    return out


def one_hot_twin(labels: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Interpolate every label's indicator, zero beyond the border, and take the first largest."""
    names = sorted({0, *labels.ravel().tolist()})
    out = np.zeros(displacement.shape[:3], labels.dtype)
    for p in np.ndindex(out.shape):
        channels = np.zeros(len(names))
        for c, weight in corners(np.array(p) + displacement[p].astype(np.float64), labels.shape):
            if within(c, labels.shape):
                channels[names.index(int(labels[c]))] += weight
        out[p] = names[int(np.argmax(channels))] if channels.any() else 0
    return out


def field_twin(field: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Trilinear, the border's value beyond the border."""
    clamped = np.clip(point, 0, np.array(field.shape[:3]) - 1)
    total = np.zeros(3)
    for c, weight in corners(clamped, field.shape[:3]):
        if weight > 0:
            total += weight * field[c].astype(np.float64)
    return total


def to_scipy(displacement: np.ndarray) -> np.ndarray:
    identity = np.indices(displacement.shape[:3]).astype(np.float64)
    return identity + np.moveaxis(displacement.astype(np.float64), -1, 0)


def displacement_to(points: list[float], n: int) -> np.ndarray:
    """(N, N, N, 3) displacements from the voxels of a cube to every combination of coordinates."""
    grid = np.stack(np.meshgrid(points, points, points, indexing="ij"), axis=-1)
    return (grid - np.moveaxis(np.indices(grid.shape[:3]), 0, -1)).astype(np.float32)


@pytest.mark.parametrize(("shape", "moving"), SHAPES)
def test_linear_equals_its_twin_and_scipy(
    rng: np.random.Generator, shape: tuple[int, int, int], moving: tuple[int, int, int]
) -> None:
    image = rng.normal(100, 50, moving).astype(np.float32)
    displacement = rng.normal(0, 1.2, (*shape, 3)).astype(np.float32)
    displacement[0, 0, 0] = 0
    got = sample_linear(image, displacement, -7.0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, linear_twin(image, displacement, -7.0), rtol=1e-6, atol=1e-5)
    scipy = map_coordinates(
        image.astype(np.float64), to_scipy(displacement), order=1, mode="constant", cval=-7
    )
    np.testing.assert_allclose(got, scipy, rtol=1e-6, atol=1e-4)


EDGES = [-1.0, -0.5, -0.3, -1e-6, 0.0, 1e-6, 0.25, 0.5, 1.5, 2.499999, 2.5, 4.5, 4.999999, 5.0, 5.000001, 5.5]


def test_borders_and_halves_are_scipys(rng: np.random.Generator) -> None:
    displacement = displacement_to(EDGES, 6)
    labels = rng.integers(1, 100, (6, 6, 6)).astype(np.int32)
    points = to_scipy(displacement)
    np.testing.assert_array_equal(
        sample_labels_nearest(labels, displacement), map_coordinates(labels, points, order=0, mode="constant")
    )
    image = labels.astype(np.float32)
    np.testing.assert_allclose(
        sample_linear(image, displacement, 0.0),
        map_coordinates(image.astype(np.float64), points, order=1, mode="constant"),
        rtol=1e-5,
    )


def test_an_index_a_little_outside_is_outside() -> None:
    labels = np.arange(1, 6, dtype=np.int32).reshape(5, 1, 1)
    displacement = np.zeros((5, 1, 1, 3), np.float32)
    displacement[:, 0, 0, 0] = [-0.3, 0.5, 0.49, 1.0, 0.001]
    # 0 - 0.3 is outside; 1.5 rounds up to voxel 2; 2.49 to 2; 4 is the last; 4.001 is outside.
    assert sample_labels_nearest(labels, displacement).ravel().tolist() == [0, 3, 3, 5, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(("shape", "moving"), SHAPES)
def test_nearest_equals_its_twin_and_scipy(
    rng: np.random.Generator, shape: tuple[int, int, int], moving: tuple[int, int, int], dtype: type
) -> None:
    labels = rng.integers(0, 100, moving).astype(dtype)
    # Quarters hit halves and borders exactly.
    displacement = (rng.integers(-8, 9, (*shape, 3)) / 4).astype(np.float32)
    got = sample_labels_nearest(labels, displacement)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, nearest_twin(labels, displacement))
    np.testing.assert_array_equal(
        got, map_coordinates(labels, to_scipy(displacement), order=0, mode="constant")
    )


@given(
    displacement=hnp.arrays(
        np.float32,
        (3, 2, 4, 3),
        elements=st.floats(-5, 5, width=32) | st.sampled_from([-0.5, 0.5, 1.0, -0.0]),
    )
)
@settings(max_examples=60, deadline=None)
def test_nearest_is_scipys_for_any_displacement(displacement: np.ndarray) -> None:
    labels = np.arange(1, 3 * 3 * 4 + 1, dtype=np.int32).reshape(3, 3, 4)
    np.testing.assert_array_equal(
        sample_labels_nearest(labels, displacement),
        map_coordinates(labels, to_scipy(displacement), order=0, mode="constant"),
    )


@pytest.mark.parametrize(("shape", "moving"), SHAPES)
def test_one_hot_equals_its_twin_ties_included(
    rng: np.random.Generator, shape: tuple[int, int, int], moving: tuple[int, int, int]
) -> None:
    labels = rng.integers(0, 4, moving).astype(np.int32) * 7
    # Quarters make every weight a whole number of 64ths: ties are exact ties in any order of summing.
    displacement = (rng.integers(-8, 9, (*shape, 3)) / 4).astype(np.float32)
    np.testing.assert_array_equal(
        sample_labels_linear(labels, displacement), one_hot_twin(labels, displacement)
    )


def test_one_hot_equals_its_twin_on_blocks(rng: np.random.Generator) -> None:
    labels = np.kron(rng.integers(0, 5, (3, 3, 3)), np.ones((4, 4, 4))).astype(np.int32)
    displacement = rng.uniform(-3, 3, (12, 12, 12, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        sample_labels_linear(labels, displacement), one_hot_twin(labels, displacement)
    )


def test_displacements_that_are_not_finite_leave_the_grid() -> None:
    displacement = np.zeros((2, 2, 1, 3), np.float32)
    displacement[0, 0, 0, 0] = np.nan
    displacement[0, 1, 0, 1] = np.inf
    displacement[1, 0, 0, 2] = -np.inf
    image = np.ones((2, 2, 1), np.float32)
    assert sample_linear(image, displacement, 5.0).ravel().tolist() == [5, 5, 5, 1]
    for sample in (sample_labels_nearest, sample_labels_linear):
        assert sample(image.astype(np.int32), displacement).ravel().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("value", [0.1, 1e30, -1e-30, 16777217.0])
def test_a_constant_image_stays_constant(rng: np.random.Generator, value: float) -> None:
    image = np.full((6, 5, 4), value, np.float32)
    displacement = rng.uniform(-1, 1, (4, 3, 2, 3)).astype(np.float32)
    displacement += 1  # every point inside
    np.testing.assert_array_equal(sample_linear(image, displacement, 0.0), image[:4, :3, :2])


@pytest.mark.parametrize("shape", [(7, 5, 6), (1, 4, 2), (2, 1, 1)])
def test_field_equals_its_twin(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    field = (rng.normal(0, 1e3, (*shape, 3))).astype(np.float32)
    points = rng.uniform(-3, 9, (300, 3))
    points[:8] = [[x, y, z] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)]
    got = sample_field(field, points)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [field_twin(field, p) for p in points], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(("shape", "middle"), SHAPES)
def test_compose_equals_its_twin(
    rng: np.random.Generator, shape: tuple[int, int, int], middle: tuple[int, int, int]
) -> None:
    first = rng.normal(0, 2, (*shape, 3)).astype(np.float32)
    second = rng.normal(0, 2, (*middle, 3)).astype(np.float32)
    affine = np.hstack([np.eye(3) + rng.normal(0, 0.2, (3, 3)), rng.normal(0, 3, (3, 1))])
    expected = np.empty((*shape, 3))
    for p in np.ndindex(shape):
        q = np.array(p) + first[p].astype(np.float64)
        expected[p] = affine[:, :3] @ q + affine[:, 3] + field_twin(second, q) - p
    np.testing.assert_allclose(compose(first, second, affine), expected, rtol=1e-6, atol=1e-5)


def test_composing_with_zero_changes_no_bit(random_field: Callable[..., np.ndarray]) -> None:
    field = random_field((8, 7, 6), 3.0)
    zero = np.zeros_like(field)
    eye = np.eye(4)[:3].copy()
    np.testing.assert_array_equal(compose(zero, field, eye), field)
    np.testing.assert_allclose(compose(field, zero, eye), field, rtol=1e-6, atol=1e-6)


def test_same_bits_for_any_thread_count(
    rng: np.random.Generator, random_field: Callable[..., np.ndarray], same_bits: Callable[..., None]
) -> None:
    shape = (13, 9, 11)
    displacement = random_field(shape, 3.0)
    image = rng.random(shape, dtype=np.float32)
    labels = rng.integers(0, 5, shape).astype(np.int32)
    points = rng.uniform(-2, 14, (101, 3))
    affine = np.hstack([np.eye(3) * 1.1, np.ones((3, 1))])
    same_bits(lambda: sample_linear(image, displacement, 0.0))
    same_bits(lambda: sample_labels_nearest(labels, displacement))
    same_bits(lambda: sample_labels_linear(labels, displacement))
    same_bits(lambda: sample_field(displacement, points))
    same_bits(lambda: compose(displacement, displacement, affine))
