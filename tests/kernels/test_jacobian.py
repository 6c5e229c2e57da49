"""Jacobian kernels against loops, analytic maps and tetrahedra measured corner by corner."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from iterreg.kernels.jacobian import central_determinant, determinant_moments, folding, smallest_determinant


def central_twin(displacement: np.ndarray) -> np.ndarray:
    shape = displacement.shape[:3]
    out = np.empty(shape)
    for p in np.ndindex(shape):
        jacobian = np.eye(3)
        for axis in range(3):
            before, after = list(p), list(p)
            before[axis] = max(p[axis] - 1, 0)
            after[axis] = min(p[axis] + 1, shape[axis] - 1)
            distance = after[axis] - before[axis]
            if distance:
                change = displacement[tuple(after)].astype(float) - displacement[tuple(before)].astype(float)
                jacobian[:, axis] += change / distance
        out[p] = np.linalg.det(jacobian)
    return out


INNER = [
    [(-1, -1, 0), (-1, 0, -1), (0, -1, -1)],
    [(1, 1, 0), (0, 1, 1), (1, 0, 1)],
]


def ten_determinants(displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed volumes, times six, of the mapped tetrahedra at every interior voxel: (8, ...) and (2, ...).

    Liu et al. 2024: a cube of voxels is cut into four corner tetrahedra and an inner one, in two ways; every
    voxel is the tip of eight corner tetrahedra (its three neighbours along the axes) and of two inner ones
    (three neighbours along face diagonals). Signs make each positive in an undeformed grid.
    """
    shape = displacement.shape[:3]
    mapped = np.moveaxis(np.indices(shape), 0, -1) + displacement.astype(np.float64)

    def at(offset: tuple[int, ...]) -> np.ndarray:
        return mapped[tuple(slice(1 + o, n - 1 + o) for o, n in zip(offset, shape, strict=True))]

    here = at((0, 0, 0))

    def volume(offsets: list[tuple[int, ...]]) -> np.ndarray:
        undeformed = np.linalg.det(np.array(offsets, float))
        return np.linalg.det(np.stack([at(o) - here for o in offsets], axis=-2)) * np.sign(undeformed)

    corner = [volume([(a, 0, 0), (0, b, 0), (0, 0, c)]) for a, b, c in itertools.product((-1, 1), repeat=3)]
    return np.stack(corner), np.stack([volume(offsets) for offsets in INNER])


@pytest.mark.parametrize("shape", [(6, 7, 5), (1, 5, 4), (2, 2, 2), (3, 1, 1), (1, 1, 1)])
def test_central_equals_its_twin(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    displacement = rng.normal(0, 1, (*shape, 3)).astype(np.float32)
    got = central_determinant(displacement)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, central_twin(displacement), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_an_affine_map_has_its_determinant_everywhere(rng: np.random.Generator, scale: float) -> None:
    matrix = scale * (np.eye(3) + rng.normal(0, 0.3, (3, 3)))
    points = np.moveaxis(np.indices((6, 5, 7)), 0, -1).astype(float)
    displacement = (points @ (matrix - np.eye(3)).T).astype(np.float32)
    np.testing.assert_allclose(central_determinant(displacement), np.linalg.det(matrix), rtol=1e-4)


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("amplitude", [0.3, 3.0])
@pytest.mark.parametrize("shape", [(3, 3, 3), (6, 7, 5), (9, 3, 4)])
def test_folding_equals_the_tetrahedra(
    random_field: Callable[..., np.ndarray],
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    amplitude: float,
    everywhere: bool,
) -> None:
    displacement = random_field(shape, amplitude, 0.5)
    mask = rng.random(shape) > 0.4
    mask[1:-1, 1, 1] = True
    counts = mask[1:-1, 1:-1, 1:-1]
    corner, inner = ten_determinants(displacement)
    expected = (np.maximum(-corner, 0).sum(0) + np.maximum(-inner, 0).sum(0)) * 0.5 / 6
    volume, folded, voxels, lowest, where = folding(displacement, mask, everywhere)
    np.testing.assert_allclose(volume, (expected * counts).sum(axis=(1, 2)), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(folded, ((expected > 0) & counts).sum(axis=(1, 2)))
    np.testing.assert_array_equal(voxels, counts.sum(axis=(1, 2)))
    least = np.minimum(corner.min(0), inner.min(0) / 2)
    searched = least if everywhere else np.where(counts, least, np.inf)
    np.testing.assert_allclose(lowest, searched.min(axis=(1, 2)), rtol=1e-9)
    for slab, (y, z) in enumerate(where):
        assert least[slab, y - 1, z - 1] == pytest.approx(lowest[slab])
    everything = folding(displacement, np.ones(shape, bool), False)
    np.testing.assert_allclose(everything[0], expected.sum(axis=(1, 2)), rtol=1e-9, atol=1e-12)
    assert (amplitude > 1) == bool(everything[0].any()), "the case must test what it means to"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 7, 5), (3, 3, 3), (2, 5, 6), (9, 4, 17)])
def test_smallest_equals_the_tetrahedra(
    rng: np.random.Generator, shape: tuple[int, int, int], dtype: type
) -> None:
    """Inner tetrahedra measure 2 in an undeformed grid and count half."""
    displacement = rng.normal(0, 0.4, (*shape, 3)).astype(dtype)
    expected = np.ones(shape)
    if min(shape) > 2:
        corner, inner = ten_determinants(displacement)
        expected[1:-1, 1:-1, 1:-1] = np.concatenate([corner, inner / 2]).min(axis=0)
    assert (expected < 0).any() or max(shape) < 7
    np.testing.assert_allclose(smallest_determinant(displacement), expected, rtol=1e-5, atol=1e-5)


def test_no_displacement_is_undeformed() -> None:
    volume, folded, voxels, lowest, _ = folding(
        np.zeros((4, 5, 6, 3), np.float32), np.ones((4, 5, 6), bool), True
    )
    assert volume.shape == (2,)
    assert not volume.any()
    assert not folded.any()
    assert (voxels == 12).all()
    assert (lowest == 1).all()
    assert (central_determinant(np.zeros((4, 5, 6, 3), np.float32)) == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("margin", [1, 2])
def test_moments_equal_their_twin(
    random_field: Callable[..., np.ndarray], rng: np.random.Generator, margin: int, dtype: type
) -> None:
    displacement = random_field((9, 8, 7), 4.0, 0.7).astype(dtype)
    mask = rng.random((9, 8, 7)) > 0.5
    inside = (slice(margin, -margin),) * 3
    values = central_twin(displacement)[inside][mask[inside]]
    logs = np.log((values + 3).clip(1e-9, 1e9) / 4)
    found = determinant_moments(displacement, mask, margin)
    assert found[:, 0].sum() == values.size
    np.testing.assert_allclose(found[:, 1].sum(), logs.sum(), atol=1e-9)
    np.testing.assert_allclose(found[:, 2].sum(), (logs**2).sum())
    np.testing.assert_allclose([found[:, 3].min(), found[:, 4].max()], [values.min(), values.max()])
    assert found[:, 5].sum() == (values <= 0).sum() > 0


def test_one_voxel_pushed_through_its_neighbour() -> None:
    """Moved by -1.5 along x, the backward edge has length -0.5 and the forward edge 2.5."""
    displacement = np.zeros((5, 5, 5, 3), np.float32)
    displacement[2, 2, 2, 0] = -1.5
    only = np.zeros((5, 5, 5), bool)
    only[1:3, 2, 2] = True
    volume, _, _, lowest, where = folding(displacement, only, True)
    # At the voxel: four backward corners of determinant -0.5 each; the backward inner tetrahedron
    # ((-1,-1,0), (-1,0,-1), (0,-1,-1) with 1.5 added to x) has 2 - 1.5 * 1 = 0.5, so it does not fold.
    assert volume[1] == pytest.approx(4 * 0.5 / 12)
    # At the neighbour behind it: four forward corners of -0.5, and the forward inner tetrahedron keeps.
    assert volume[0] == pytest.approx(4 * 0.5 / 12)
    assert lowest.min() == pytest.approx(-0.5)
    assert where[1].tolist() == [2, 2]


def test_a_value_that_is_not_finite_is_not_swallowed() -> None:
    displacement = np.zeros((5, 5, 5, 3), np.float32)
    displacement[2, 2, 2] = np.nan
    assert np.isnan(folding(displacement, np.ones((5, 5, 5), bool), False)[0].sum())
    assert np.isnan(central_determinant(displacement)).any()


def test_same_bits_for_any_thread_count(
    random_field: Callable[..., np.ndarray], same_bits: Callable[..., None]
) -> None:
    displacement = random_field((13, 12, 11), 4.0, 1.0)
    same_bits(lambda: central_determinant(displacement))
    mask = np.ones((13, 12, 11), bool)
    same_bits(lambda: folding(displacement, mask, True))
    same_bits(lambda: determinant_moments(displacement, mask, 2))
