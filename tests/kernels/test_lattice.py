"""Lattice kernels against dense matrices and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.kernels.lattice import pool_force, upsample, warp_through_lattice
from iterreg.lddmm.lattice import spans_around, whole_rows

Array = np.ndarray
Triple = tuple[int, int, int]

CASES = [((11, 6, 7), (5, 4, 6)), ((37, 3, 4), (14, 5, 4)), ((2, 9, 3), (4, 4, 8))]
"""Shapes of the image (slabs have 16 planes) and of the lattice."""
PRECISIONS = [(np.float64, 1e-11), (np.float32, 1e-4)]


def stencils(
    rng: np.random.Generator, fine: Triple, coarse: Triple, dtype: Any
) -> tuple[list[Array], list[Array]]:
    """Random stencils, and the same as dense (image, lattice) matrices."""
    arguments, matrices = [], []
    for n, m in zip(fine, coarse, strict=True):
        first = np.sort(rng.integers(0, m - 3, n))
        weights = rng.standard_normal((n, 4)).astype(dtype)
        matrix = np.zeros((n, m))
        for i in range(n):
            matrix[i, first[i] : first[i] + 4] = weights[i]
        arguments += [first, weights]
        matrices.append(matrix)
    return arguments, matrices


def upsample_twin(values: Array, matrices: list[Array]) -> Array:
    return np.einsum("ia,jb,kc,dabc->ijkd", *matrices, values.astype(np.float64))


@pytest.mark.parametrize(("fine", "coarse"), CASES)
def test_upsample_equals_its_twin(rng: np.random.Generator, fine: Triple, coarse: Triple) -> None:
    arguments, matrices = stencils(rng, fine, coarse, np.float32)
    values = rng.standard_normal((3, *coarse)).astype(np.float32)
    got = upsample(values, *arguments)
    assert got.shape == (*fine, 3)
    np.testing.assert_allclose(got, upsample_twin(values, matrices), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("image_shape", [(6, 5, 7), (1, 4, 3), (3, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize(("fine", "coarse"), CASES)
def test_warp_equals_scipy(
    rng: np.random.Generator,
    fine: Triple,
    coarse: Triple,
    image_shape: Triple,
    dtype: Any,
    tolerance: float,
) -> None:
    arguments, matrices = stencils(rng, fine, coarse, dtype)
    values = (0.3 * rng.standard_normal((3, *coarse))).astype(dtype)
    image = rng.uniform(0, 65535, image_shape).astype(dtype)
    matrix = rng.standard_normal((3, 7)).astype(dtype)
    matrix[:, :3] *= np.array(image_shape)[:, None] / np.array(fine)  # about within the image
    out = np.empty(fine, dtype)
    warp_through_lattice((image,), values, *arguments, matrix, whole_rows(fine), (out,))
    m = matrix.astype(np.float64)
    index = np.moveaxis(np.indices(fine), 0, -1)
    places = index @ m[:, :3].T + m[:, 3] + upsample_twin(values, matrices) @ m[:, 4:].T
    last = np.array(image_shape) - 1
    if min(image_shape) > 1:
        between = (places > 0) & (places < last)
        assert between.mean() > 0.2, "the case must sample between voxels"
    expected = map_coordinates(
        image.astype(np.float64), np.moveaxis(np.clip(places, 0, last), -1, 0), order=1
    )
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=65535 * tolerance)


def gradient_twin(image: Array) -> Array:
    """(3, X, Y, Z) central differences; at the border half the one-sided ones."""
    out = np.zeros((3, *image.shape))
    for p in np.ndindex(image.shape):
        for axis in range(3):
            before, after = list(p), list(p)
            before[axis] = max(p[axis] - 1, 0)
            after[axis] = min(p[axis] + 1, image.shape[axis] - 1)
            out[axis, *p] = (float(image[tuple(after)]) - float(image[tuple(before)])) / 2
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("fine", "coarse"), CASES)
def test_pool_equals_its_twin(
    rng: np.random.Generator, fine: Triple, coarse: Triple, dtype: Any, tolerance: float
) -> None:
    arguments, matrices = stencils(rng, fine, coarse, dtype)
    derivative, warped = (rng.standard_normal(fine).astype(dtype) for _ in range(2))
    scale = np.array([0.5, 2.0, 1.25], dtype)
    one = np.ones(1, dtype)
    got = pool_force((derivative,), (warped,), one, *arguments, coarse, scale, whole_rows(fine))
    assert got.dtype == dtype
    force = derivative.astype(np.float64) * gradient_twin(warped) * scale[:, None, None, None]
    expected = np.einsum("ia,jb,kc,dijk->dabc", *matrices, force)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    pair, shares = (derivative, warped), np.array([1.0, -0.5], dtype)
    got = pool_force(pair, pair[::-1], shares, *arguments, coarse, scale, whole_rows(fine))
    force -= 0.5 * warped.astype(np.float64) * gradient_twin(derivative) * scale[:, None, None, None]
    expected = np.einsum("ia,jb,kc,dijk->dabc", *matrices, force)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("fine", "coarse"), CASES)
def test_pool_is_the_transpose_of_upsample(rng: np.random.Generator, fine: Triple, coarse: Triple) -> None:
    """``<force, upsample(v)> = <pool(force), v>``."""
    arguments, _ = stencils(rng, fine, coarse, np.float32)
    derivative, warped = (rng.standard_normal(fine).astype(np.float32) for _ in range(2))
    values = rng.standard_normal((3, *coarse)).astype(np.float32)
    one, scale = np.ones(1, np.float32), np.ones(3, np.float32)
    pooled = pool_force((derivative,), (warped,), one, *arguments, coarse, scale, whole_rows(fine))
    force = derivative * gradient_twin(warped)
    fine_side = np.moveaxis(upsample(values, *arguments), -1, 0) * force
    coarse_side = pooled * values
    assert coarse_side.sum(dtype=np.float64) == pytest.approx(
        fine_side.sum(dtype=np.float64), abs=1e-5 * float(np.abs(coarse_side).sum())
    )


def test_same_bits_for_any_thread_count(rng: np.random.Generator, same_bits: Callable[..., None]) -> None:
    fine, coarse = (53, 9, 8), (20, 6, 5)
    arguments, _ = stencils(rng, fine, coarse, np.float32)
    values = rng.standard_normal((3, *coarse)).astype(np.float32)
    image, derivative = (rng.random(fine, dtype=np.float32) for _ in range(2))
    matrix = rng.standard_normal((3, 7)).astype(np.float32)

    def warp() -> Array:
        out = np.empty(fine, np.float32)
        warp_through_lattice((image,), values, *arguments, matrix, whole_rows(out.shape), (out,))
        return out

    same_bits(lambda: upsample(values, *arguments))
    same_bits(warp)
    pair, shares = (derivative, image), np.array([1, -1], np.float32)
    one, rows = np.ones(3, np.float32), whole_rows(image.shape)
    same_bits(lambda: pool_force(pair, pair[::-1], shares, *arguments, coarse, one, rows))


@pytest.mark.parametrize(("fine", "coarse"), CASES)
def test_spans_leave_out_what_does_not_matter(rng: np.random.Generator, fine: Triple, coarse: Triple) -> None:
    arguments, _ = stencils(rng, fine, coarse, np.float32)
    marked = rng.random(fine) < 0.1
    spans = spans_around(marked, (0, 0, 0))
    column = np.arange(fine[2])
    inside = (column >= spans[..., :1]) & (column < spans[..., 1:])
    values = rng.standard_normal((3, *coarse)).astype(np.float32)
    image = rng.random(fine).astype(np.float32)
    matrix = np.eye(3, 7, dtype=np.float32)
    whole, part = np.empty(fine, np.float32), np.full(fine, np.nan, np.float32)
    warp_through_lattice((image,), values, *arguments, matrix, whole_rows(fine), (whole,))
    warp_through_lattice((image,), values, *arguments, matrix, spans, (part,))
    np.testing.assert_array_equal(part, np.where(inside, whole, np.nan))
    derivative = np.where(inside, rng.standard_normal(fine), 0).astype(np.float32)
    scale = np.ones(3, np.float32)
    pair = ((derivative,), (image,), scale[:1])
    found = [pool_force(*pair, *arguments, coarse, scale, rows) for rows in (spans, whole_rows(fine))]
    np.testing.assert_array_equal(*found)
