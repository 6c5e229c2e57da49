"""Flow kernels against loops, affine maps and the flows of linear velocities."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from iterreg.kernels.flow import carry_momentum, excess_slope, steepness, trace
from iterreg.lddmm.lattice import spans_around, whole_rows, within

Array = np.ndarray
SHAPES = [(5, 7, 6), (9, 2, 3), (2, 2, 2), (19, 4, 5)]
PRECISIONS = [(np.float64, 1e-10), (np.float32, 2e-5)]


def everywhere(field: Array) -> Array:
    """Spans that leave out nothing of a (3, X, Y, Z) field."""
    _, x, y, z = field.shape
    return whole_rows((x, y, z))


def sample_twin(field: Array, point: Array) -> Array:
    """Trilinear, the border's value beyond the border; `field` is (3, X, Y, Z)."""
    point = np.clip(point, 0, np.array(field.shape[1:]) - 1)
    low = np.floor(point).astype(int)
    total = np.zeros(3)
    for step in itertools.product((0, 1), repeat=3):
        index = np.minimum(low + step, np.array(field.shape[1:]) - 1)
        weight = np.prod([1 - abs(p - (i + s)) for p, i, s in zip(point, low, step, strict=True)])
        total += weight * field[:, *index].astype(np.float64)
    return total


def trace_twin(velocity: Array, displacement: Array, step: float, substeps: int) -> Array:
    out = np.empty(displacement.shape)
    for p in np.ndindex(displacement.shape[1:]):
        here = np.array(p) + displacement[:, *p].astype(np.float64)
        for _ in range(substeps):
            middle = here + 0.5 * step * sample_twin(velocity, here)
            here = here + step * sample_twin(velocity, middle)
        out[:, *p] = here - p
    return out


def carry_twin(momentum: Array, displacement: Array) -> Array:
    out = np.zeros(displacement.shape)
    for p in np.ndindex(displacement.shape[1:]):
        if any(i in (0, n - 1) for i, n in zip(p, displacement.shape[1:], strict=True)):
            continue
        jacobian = np.eye(3)
        for axis in range(3):
            before, after = list(p), list(p)
            before[axis] -= 1
            after[axis] += 1
            change = displacement[:, *after].astype(np.float64) - displacement[:, *before]
            jacobian[:, axis] += change / 2
        there = sample_twin(momentum, np.array(p) + displacement[:, *p].astype(np.float64))
        out[:, *p] = np.linalg.det(jacobian) * jacobian.T @ there
    return out


def vectors(rng: np.random.Generator, shape: tuple[int, ...], size: float, dtype: Any) -> Array:
    return (size * rng.standard_normal((3, *shape))).astype(dtype)


def cut(velocity: Array, substeps: int) -> Array:
    """As many substeps in every row."""
    return np.full(velocity.shape[1:3], substeps, np.int32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("step", "substeps"), [(1.0, 1), (-0.25, 3)])
def test_trace_equals_its_twin(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: Any,
    tolerance: float,
    step: float,
    substeps: int,
) -> None:
    """Displacements lead beyond every border."""
    velocity = vectors(rng, shape, 0.7, dtype)
    displacement = vectors(rng, shape, 2.0, dtype)
    got = trace(
        velocity, displacement, False, step * substeps, cut(velocity, substeps), everywhere(displacement)
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, trace_twin(velocity, displacement, step, substeps), rtol=tolerance, atol=tolerance
    )


def test_trace_follows_a_linear_velocity_to_second_order() -> None:
    """The flow of ``A (x - c)`` is a matrix exponential; half the step makes a quarter of the error."""
    shape, centre = (21, 21, 21), np.full(3, 10.0)
    matrix = np.array([[0.1, -0.5, 0.0], [0.4, -0.2, 0.1], [0.0, 0.2, 0.1]])
    places = np.moveaxis(np.indices(shape), 0, -1) - centre
    velocity = np.moveaxis(places @ matrix.T, -1, 0).copy()
    exact = np.moveaxis(places @ (expm(matrix) - np.eye(3)).T, -1, 0)
    inside = (slice(None), *[slice(6, 15)] * 3)  # what never leaves the grid, where the velocity is linear
    zero = np.zeros_like(velocity)
    errors = [
        np.abs(trace(velocity, zero, False, 1.0, cut(zero, n), everywhere(zero)) - exact)[inside].max()
        for n in (4, 8, 16)
    ]
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_each_row_is_cut_as_it_is_told(rng: np.random.Generator) -> None:
    velocity, displacement = (vectors(rng, (9, 8, 11), 1.0, np.float32) for _ in range(2))
    substeps = rng.integers(1, 4, (9, 8)).astype(np.int32)
    mixed = trace(velocity, displacement, False, 0.9, substeps, everywhere(velocity))
    for number in (1, 2, 3):
        alone = trace(velocity, displacement, False, 0.9, cut(velocity, number), everywhere(velocity))
        np.testing.assert_array_equal(mixed[:, substeps == number], alone[:, substeps == number])


def test_trace_goes_back_where_it_came_from(random_field: Callable[..., Array]) -> None:
    velocity = np.moveaxis(random_field((17, 15, 16), 1.0, 3.0), -1, 0).astype(np.float64).copy()
    many = cut(velocity, 32)
    there = trace(velocity, np.zeros_like(velocity), False, 1.0, many, everywhere(velocity))
    assert np.abs(there).max() > 0.8
    back = trace(velocity, there, False, -1.0, many, everywhere(velocity))
    np.testing.assert_allclose(back, 0, atol=1e-3)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 4), (3, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_steepness_equals_its_twin(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> None:
    velocity = vectors(rng, shape, 1.0, dtype)
    expected = np.zeros(shape[:2])
    for p in np.ndindex(*shape):
        for axis in range(3):
            q = list(p)
            q[axis] = min(p[axis] + 1, shape[axis] - 1)
            change = np.abs(velocity[:, *q].astype(np.float64) - velocity[:, *p]).sum()
            expected[p[:2]] = max(expected[p[:2]], change)
    slope, speed = steepness(velocity)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    np.testing.assert_array_equal(speed, np.abs(velocity).max(axis=(0, 2, 3)))


@pytest.mark.parametrize("shape", [*SHAPES, (3, 3, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_carry_equals_its_twin(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, tolerance: float
) -> None:
    momentum = vectors(rng, shape, 1.0, dtype)
    displacement = vectors(rng, shape, 0.8, dtype)
    got = carry_momentum(momentum, displacement, everywhere(momentum))
    assert got.dtype == dtype
    expected = carry_twin(momentum, displacement)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * 10)


def test_an_affine_map_carries_by_its_matrix(rng: np.random.Generator) -> None:
    """``det A A^T m(A x)`` for a momentum that is linear in space, hence exact between lattice points."""
    shape = (9, 8, 10)
    matrix = np.eye(3) + rng.normal(0, 0.1, (3, 3))
    slope = rng.standard_normal((3, 3))
    places = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    centre = (np.array(shape) - 1) / 2
    momentum = np.moveaxis((places + centre) @ slope.T, -1, 0).copy()
    displacement = np.moveaxis(places @ (matrix - np.eye(3)).T, -1, 0).copy()
    carried = np.linalg.det(matrix) * (((places @ matrix.T + centre) @ slope.T) @ matrix)
    inside = (slice(None), *[slice(2, n - 2) for n in shape])
    np.testing.assert_allclose(
        carry_momentum(momentum, displacement, everywhere(momentum))[inside],
        np.moveaxis(carried, -1, 0)[inside],
        rtol=1e-9,
    )


def test_carry_leaves_the_outermost_layer_empty(rng: np.random.Generator) -> None:
    momentum = vectors(rng, (6, 5, 7), 1.0, np.float32)
    carried = carry_momentum(momentum, np.zeros_like(momentum), everywhere(momentum))
    np.testing.assert_array_equal(carried[:, 1:-1, 1:-1, 1:-1], momentum[:, 1:-1, 1:-1, 1:-1])
    carried[:, 1:-1, 1:-1, 1:-1] = 0
    assert not carried.any()


def excess_twin(velocity: Array, weight: Array, limit: float) -> Array:
    """Value of each slab: a difference belongs to the slab of its lower neighbour."""
    shape = velocity.shape[1:]
    out = np.zeros(shape[0])
    for p in np.ndindex(shape):
        for axis in range(3):
            q = list(p)
            q[axis] += 1
            if q[axis] < shape[axis]:
                change = np.abs(velocity[:, *q].astype(np.float64) - velocity[:, *p])
                share = (float(weight[tuple(q)]) + float(weight[p])) / 2
                out[p[0]] += 0.5 * share * (np.maximum(change - limit, 0) ** 2).sum()
    return out


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 4), (3, 1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_excess_slope_equals_its_twin(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, tolerance: float
) -> None:
    velocity = vectors(rng, shape, 1.0, dtype)
    weight = rng.random(shape).astype(dtype)
    value, derivative = excess_slope(velocity, weight, 0.8)
    np.testing.assert_allclose(value, excess_twin(velocity, weight, 0.8), rtol=tolerance, atol=tolerance)
    assert derivative.dtype == dtype
    assert value.sum() > 0
    assert not excess_slope(velocity, weight, 100.0)[0].any()
    assert not excess_slope(velocity, weight, 100.0)[1].any()


def test_derivative_of_the_excess_slope(rng: np.random.Generator) -> None:
    velocity = vectors(rng, (6, 5, 7), 1.0, np.float64)
    weight = rng.random((6, 5, 7))
    _, derivative = excess_slope(velocity, weight, 0.8)
    for _ in range(10):
        way = vectors(rng, (6, 5, 7), 1.0, np.float64)
        ahead, behind = (excess_slope(velocity + h * way, weight, 0.8)[0].sum() for h in (1e-6, -1e-6))
        slope = (ahead - behind) / 2e-6
        assert (derivative * way).sum() == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_same_bits_for_any_thread_count(rng: np.random.Generator, same_bits: Callable[..., None]) -> None:
    one, two = (vectors(rng, (23, 12, 11), 1.0, np.float32) for _ in range(2))
    same_bits(lambda: trace(one, two, False, 0.5, cut(one, 2), everywhere(one)))
    same_bits(lambda: carry_momentum(one, two, everywhere(one)))
    same_bits(lambda: steepness(one))
    same_bits(lambda: excess_slope(one, np.abs(two[0]), 0.5))


def test_spans_leave_points_where_they_are_and_carry_nothing_elsewhere(rng: np.random.Generator) -> None:
    velocity, displacement = (vectors(rng, (9, 8, 11), 1.0, np.float32) for _ in range(2))
    spans = spans_around(rng.random((9, 8, 11)) < 0.1, (0, 0, 0))
    inside = within(spans, (9, 8, 11))
    assert 0.1 < inside.mean() < 0.9
    whole = trace(velocity, displacement, False, 1.0, cut(velocity, 2), everywhere(velocity))
    np.testing.assert_array_equal(
        trace(velocity, displacement, False, 1.0, cut(velocity, 2), spans),
        np.where(inside, whole, displacement),
    )
    whole = carry_momentum(velocity, displacement, everywhere(velocity))
    np.testing.assert_array_equal(carry_momentum(velocity, displacement, spans), np.where(inside, whole, 0))


def test_points_at_rest_need_not_be_looked_up(rng: np.random.Generator) -> None:
    velocity = vectors(rng, (9, 8, 11), 1.0, np.float32)
    zero = np.zeros_like(velocity)
    np.testing.assert_allclose(
        trace(velocity, velocity, True, 0.75, cut(zero, 3), everywhere(zero)),
        trace(velocity, zero, False, 0.75, cut(zero, 3), everywhere(zero)),
        atol=1e-6,  # at the far border the look-up rounds
    )
