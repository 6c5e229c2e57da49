"""Shooting: what a geodesic conserves, and how fast its error falls."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.kernels.flow import carry_momentum, steepness, trace
from iterreg.lddmm.geodesic import Geodesic, shoot
from iterreg.lddmm.lattice import Lattice, whole_rows
from iterreg.lddmm.objective import inner
from iterreg.lddmm.reproducing_kernel import Smoother, Sobolev

Array = np.ndarray
LATTICE = Lattice((0.0, 0.0, 0.0), (2.0, 2.0, 2.0), (30, 32, 27))
ALL = whole_rows(LATTICE.shape)


@pytest.fixture(scope="module")
def smoother() -> Smoother:
    return Smoother(Sobolev(6.0), LATTICE, dtype=np.float64)


@pytest.fixture(scope="module")
def momentum(smoother: Smoother, bumps: Callable[..., Array]) -> Array:
    """Moves its fastest point by some 8 mm, four lattice points."""
    rng = np.random.default_rng(4)
    found = np.stack([bumps(rng, LATTICE, 6.0, 18.0, 38.0, 8) for _ in range(3)])
    return np.asarray(found * (8 / np.linalg.norm(smoother(found), axis=0).max()))


def chained(first: Array, second: Array) -> Array:
    """Displacement of going along `first`, then along `second`."""
    places = np.indices(first.shape[1:]) + first
    return first + np.stack([map_coordinates(u, places, order=1, mode="nearest") for u in second])


def test_the_energy_is_conserved(smoother: Smoother, momentum: Array) -> None:
    """``<m_t, v_t>`` stays, and is wrong by half as much with twice the steps."""
    drifts = []
    for steps in (4, 8, 16):
        geodesic = shoot(momentum, smoother, steps=steps)
        assert len(geodesic.velocities) == steps
        carried = carry_momentum(momentum, geodesic.backward(), ALL)
        energy = inner(carried, smoother(carried))
        drifts.append(abs(energy / inner(momentum, smoother(momentum)) - 1))
    assert drifts[0] < 0.1
    assert drifts[-1] < 0.03
    assert drifts[0] > drifts[1] > drifts[2] > 0


def test_velocities_are_those_of_the_carried_momentum(smoother: Smoother, momentum: Array) -> None:
    geodesic = shoot(momentum, smoother, steps=5)
    np.testing.assert_allclose(geodesic.velocities[0], smoother(momentum))
    for number in (1, 4):
        back = Geodesic(geodesic.velocities[:number], geodesic.step, geodesic.spacing).backward()
        np.testing.assert_allclose(
            geodesic.velocities[number], smoother(carry_momentum(momentum, back, ALL)), atol=1e-12
        )


def test_the_error_falls_with_the_steps_to_first_order(smoother: Smoother, momentum: Array) -> None:
    ends = [shoot(momentum, smoother, steps=steps).forward() for steps in (4, 8, 16, 32)]
    assert np.abs(ends[0]).max() > 3
    changes = [np.linalg.norm(a - b) for a, b in itertools.pairwise(ends)]
    assert changes[0] / changes[1] == pytest.approx(2, abs=0.25)
    assert changes[1] / changes[2] == pytest.approx(2, abs=0.2)


def test_half_the_duration_is_half_the_geodesic(smoother: Smoother, momentum: Array) -> None:
    whole = shoot(momentum, smoother, steps=8)
    half = shoot(momentum, smoother, steps=4, duration=0.5)
    for one, two in zip(half.velocities, whole.velocities, strict=False):
        np.testing.assert_array_equal(one, two)
    assert half.step == whole.step


def test_a_geodesic_turned_round_ends_where_it_began(smoother: Smoother, momentum: Array) -> None:
    """Minus the momentum at the end starts the way back."""
    misses = []
    for steps in (8, 16):
        there = shoot(momentum, smoother, steps=steps)
        end = carry_momentum(momentum, there.backward(), ALL)
        back = shoot(-end, smoother, steps=steps)
        misses.append(np.linalg.norm(back.forward() - there.backward(), axis=0).max())
    assert misses[1] < 0.6 * misses[0]
    assert misses[1] < 0.15


def test_backward_inverts_forward(smoother: Smoother, momentum: Array) -> None:
    geodesic = shoot(momentum, smoother, steps=6)
    miss = np.linalg.norm(geodesic.backward(geodesic.forward()), axis=0)
    assert miss.mean() < 0.002
    assert miss.max() < 0.05
    # Sampled on the lattice the two maps agree as far as a trilinear field can say.
    miss = np.linalg.norm(chained(geodesic.backward(), geodesic.forward()), axis=0)
    assert miss[3:-3, 3:-3, 3:-3].mean() < 0.02


def test_a_violent_velocity_is_integrated_without_folding(rng: np.random.Generator) -> None:
    """Steps are cut until each is invertible: the order of points along every line is kept."""
    velocity = np.zeros((3, 24, 5, 5))
    velocity[0] = 3 * rng.standard_normal((24, 1, 1))
    velocity[0, [0, -1]] = 0
    assert steepness(velocity)[0].max() > 3
    moved = np.arange(24) + Geodesic((velocity,), 1.0).forward()[0, :, 2, 2]
    assert (np.diff(moved) > 0).all()


def test_calm_rows_are_cut_less_and_those_near_a_violent_place_like_it(rng: np.random.Generator) -> None:
    """A row takes the substeps of the steepest place its points may come by."""
    velocity = 0.05 * rng.standard_normal((3, 24, 24, 8))
    velocity[:, 4, 4] = 2.5 * rng.standard_normal((3, 8))
    whole = Geodesic((velocity,), 1.0)
    slope, speed = steepness(velocity)
    assert speed.max() < 9
    many = int(np.ceil(slope.max() / 0.7))
    everywhere = whole_rows((24, 24, 8))
    as_much, once = (
        trace(velocity, velocity, True, 1.0, np.full((24, 24), n, np.int32), everywhere) for n in (many, 1)
    )
    moved = whole.forward()
    np.testing.assert_array_equal(moved[:, :12, :12], as_much[:, :12, :12])
    np.testing.assert_array_equal(moved[:, 18:, 18:], once[:, 18:, 18:])


def test_back_in_time_is_forward_against_the_velocity(smoother: Smoother, momentum: Array) -> None:
    back = shoot(momentum, smoother, steps=3, duration=-0.5)
    against = shoot(-momentum, smoother, steps=3, duration=0.5)
    np.testing.assert_allclose(back.forward(), against.forward(), atol=1e-12)
    np.testing.assert_allclose(back.backward(), against.backward(), atol=1e-12)


def test_nothing_starts_nothing(smoother: Smoother) -> None:
    zero = np.zeros((3, *LATTICE.shape), np.float32)
    single = Smoother(Sobolev(6.0), LATTICE)
    assert not shoot(zero, single, steps=3).forward().any()
