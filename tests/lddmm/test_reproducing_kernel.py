"""The kernel against the closed forms of its functions of distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iterreg.lddmm.lattice import Lattice
from iterreg.lddmm.objective import inner
from iterreg.lddmm.reproducing_kernel import GaussianSum, ReproducingKernel, Smoother, Sobolev

Array = np.ndarray
ODD = Lattice((1.0, -2.0, 0.5), (1.5, 1.5, 1.5), (9, 15, 10))


def matern(order: int, length: float, distance: Array) -> Array:
    """Green's function of ``(1 - length^2 Laplacian)^order`` in three dimensions, 1 at 0."""
    s = distance / length
    return np.asarray(np.exp(-s) * {3: 1 + s, 4: 1 + s + s**2 / 3}[order])


def gaussians(distance: Array) -> Array:
    return np.asarray(0.25 * np.exp(-0.5 * (distance / 8) ** 2) + 0.75 * np.exp(-0.5 * (distance / 4) ** 2))


def point_response(kernel: ReproducingKernel, spacing: float) -> tuple[Array, Array]:
    """Distances in mm from a unit of momentum, and the velocity there, within 24 mm."""
    n = round(96 / spacing)
    lattice = Lattice((0.0, 0.0, 0.0), (spacing,) * 3, (n, n, n))
    momentum = np.zeros((3, n, n, n))
    momentum[1, n // 2, n // 2, n // 2] = 1
    velocity = Smoother(kernel, lattice, dtype=np.float64)(momentum)
    np.testing.assert_allclose(velocity[[0, 2]], 0, atol=1e-12)
    distance = spacing * np.linalg.norm(np.moveaxis(np.indices((n,) * 3), 0, -1) - n // 2, axis=-1)
    near = distance < 24
    return distance[near], velocity[1][near]


@pytest.mark.parametrize("spacing", [1.5, 2.0])
@pytest.mark.parametrize("order", [3, 4])
def test_sobolev_is_its_greens_function(order: int, spacing: float) -> None:
    distance, velocity = point_response(Sobolev(5.0, order), spacing)
    np.testing.assert_allclose(velocity, matern(order, 5.0, distance), atol=0.012)
    assert velocity.max() == pytest.approx(1, abs=0.012), "K(0) = 1 whatever the lattice"


@pytest.mark.parametrize("spacing", [1.5, 2.0])
def test_gaussians_are_gaussians_by_their_shares(spacing: float) -> None:
    distance, velocity = point_response(GaussianSum((8.0, 4.0), (1.0, 3.0)), spacing)
    np.testing.assert_allclose(velocity, gaussians(distance), atol=1e-3)


@pytest.mark.parametrize("kernel", [Sobolev(3.0), GaussianSum((6.0, 2.0), (1.0, 2.0))], ids=str)
def test_scaled_kernels_are_the_same_function_of_scaled_distance(kernel: ReproducingKernel) -> None:
    squared = np.linspace(0, 4, 50)
    np.testing.assert_allclose(
        kernel.scaled(2.0).transform(squared / 4), 8 * kernel.transform(squared), rtol=1e-12
    )


@pytest.mark.parametrize("kernel", [Sobolev(3.0), GaussianSum((4.0, 2.0), (1.0, 2.0))], ids=str)
def test_symmetric_and_positive_definite(rng: np.random.Generator, kernel: Any) -> None:
    smoother = Smoother(kernel, ODD, dtype=np.float64)
    for _ in range(5):
        one, two = rng.standard_normal((2, 3, *ODD.shape))
        assert inner(one, smoother(two)) == pytest.approx(inner(two, smoother(one)), rel=1e-10)
        assert inner(one, smoother(one)) > 0
        np.testing.assert_allclose(
            smoother(2 * one - two), 2 * smoother(one) - smoother(two), rtol=1e-9, atol=1e-9
        )
    # Positive on the highest frequency too, the one it likes least.
    waves = np.broadcast_to((-1.0) ** np.arange(ODD.shape[2]), (3, *ODD.shape)).copy()
    assert inner(waves, smoother(waves)) > 0


def test_threads_change_no_bit(rng: np.random.Generator) -> None:
    momentum = rng.standard_normal((3, *ODD.shape)).astype(np.float32)
    one, two = (Smoother(Sobolev(3.0), ODD, threads=threads)(momentum) for threads in (1, 2))
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, two)
