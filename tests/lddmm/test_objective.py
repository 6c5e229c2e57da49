"""The force against differences of the energy along perturbed flows.

Optimise, then discretise: the force is the derivative of the continuous problem, so what it says of the
discrete energy is wrong by the time step and by the lattices' spacing. The images are smooth and the fields
fine enough for the latter to stay below a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.kernels.flow import carry_momentum
from iterreg.lddmm.geodesic import Geodesic, shoot, shoot_apart
from iterreg.lddmm.lattice import Interpolation, Lattice, whole_rows
from iterreg.lddmm.objective import Channel, Objective, inner
from iterreg.lddmm.pyramid import LevelImage
from iterreg.lddmm.reproducing_kernel import Smoother, Sobolev
from iterreg.lddmm.similarity import LNCC, SSD, Similarity

Array = np.ndarray

N = 40
IMAGE = Lattice((0.0,) * 3, (1.0,) * 3, (N,) * 3)
VELOCITY = Lattice.covering((0,) * 3, (N - 1,) * 3, 3.0, 15.0)
SMOOTHER = Smoother(Sobolev(9.0), VELOCITY, dtype=np.float64)
INTERPOLATION = Interpolation(VELOCITY, IMAGE, np.float64)
EYE = np.eye(4)[:3]
DIRECTIONS = 10
SHIFT = 2.0
"""mm at the fastest point: differences reach over voxels, between which a trilinear image's slope jumps."""

MEASURES: dict[str, Callable[[], Similarity]] = {
    "ssd": lambda: SSD(IMAGE.shape, dtype=np.float64),
    "lncc": lambda: LNCC(IMAGE.shape, radius=(6, 6, 6), dtype=np.float64),
    "lncc, power 2": lambda: LNCC(IMAGE.shape, radius=(6, 6, 6), power=2, dtype=np.float64),
}


def level(image: Array) -> LevelImage:
    return LevelImage(image, np.zeros(3), np.ones(3))


def soft_window() -> Array:
    """1 inside, 0 within the windows' reach of the border, where differences are one-sided."""
    t = np.clip((np.minimum(np.arange(N), N - 1 - np.arange(N)) - 5) / 9, 0, 1)
    t = t * t * (3 - 2 * t)
    return np.asarray(t[:, None, None] * t[:, None] * t)


@dataclass(frozen=True)
class Problem:
    """Two smooth images, a momentum that moves the fastest point by 3 mm, ten directions."""

    images: tuple[Array, Array]
    momentum: Array
    directions: list[Array]
    """(3, x, y, z) velocities in mm, the fastest 1 mm."""

    @cached_property
    def velocity(self) -> Array:
        return SMOOTHER(self.momentum)

    def objective(self, name: str, steps: int, **options: Any) -> Objective:
        fixed, moving = map(level, self.images)
        given = {"energy_weight": 0.0, "drift_mm": 50.0}
        given |= {"symmetric": False, "weight": soft_window()}
        return Objective(
            (Channel(fixed, moving, MEASURES[name]()),), IMAGE, SMOOTHER,
            masks=(None, None), matrices=(EYE, EYE), time_steps=steps, **{**given, **options},
        )  # fmt: skip

    def dissimilarity(self, name: str, to_moving: Geodesic, to_fixed: Geodesic | None = None) -> float:
        """Of the images where they meet, along any flow."""
        warped = []
        for image, path in zip(self.images, (to_fixed, to_moving), strict=True):
            displacement = np.zeros_like(self.momentum) if path is None else path.forward()
            warped.append(np.empty(IMAGE.shape))
            INTERPOLATION.warp([image], displacement, EYE, [warped[-1]])
        return MEASURES[name]().compare(*warped, soft_window(), both=False).value


@pytest.fixture(scope="module")
def problem(bumps: Callable[..., Array]) -> Problem:
    rng = np.random.default_rng(2)

    def velocity_like(largest: float) -> Array:
        momentum = np.stack([bumps(rng, VELOCITY, 9.0, 0.2 * N, 0.8 * N, 12) for _ in range(3)])
        return np.asarray(momentum * (largest / np.linalg.norm(SMOOTHER(momentum), axis=0).max()))

    one, two, three = (bumps(rng, IMAGE, 12.0, 0, N - 1) for _ in range(3))
    images = [a / a.std() for a in (one + two, one + three)]
    momentum = velocity_like(3.0)
    return Problem(
        (images[0], images[1]), momentum, [SMOOTHER(velocity_like(1.0)) for _ in range(DIRECTIONS)]
    )


def shifted(path: Geodesic, ways: list[Array], by: float) -> Geodesic:
    velocities = tuple(v + by * w for v, w in zip(path.velocities, ways, strict=True))
    return Geodesic(velocities, path.step, path.spacing)


def arrivals(path: Geodesic) -> list[Array]:
    """Displacement from each step's beginning to where the images meet."""
    first = np.zeros_like(path.velocities[0])
    parts = (path.velocities[:n] for n in range(1, len(path.velocities)))
    return [first, *(Geodesic(part, path.step, path.spacing).backward() for part in parts)]


def misses(problem: Problem, name: str, steps: int, weight: float) -> Array:
    """Promised minus measured slope of the whole energy in ten directions, relative to the measured ones."""
    found = problem.objective(name, steps).evaluate(problem.momentum, problem.velocity)
    path = shoot(problem.momentum, SMOOTHER, steps=steps, velocity=problem.velocity)
    assert problem.dissimilarity(name, path) == found.dissimilarity
    homes = arrivals(path)
    forces = [carry_momentum(found.force, home, whole_rows(home.shape[1:])) for home in homes]
    momenta = [carry_momentum(problem.momentum, home, whole_rows(home.shape[1:])) for home in homes]
    promised, measured = [], []
    for number in range(DIRECTIONS):
        one, two = problem.directions[number], problem.directions[number - 1]
        times = np.arange(steps) * path.step
        ways = [np.cos(np.pi * t) * one + np.sin(np.pi * t) * two for t in times]
        promised.append(
            sum(path.step * inner(weight * m - f, w) for m, f, w in zip(momenta, forces, ways, strict=True))
        )
        ends = [problem.dissimilarity(name, shifted(path, ways, by)) for by in (SHIFT / 2, -SHIFT / 2)]
        # |v + e w|^2 is quadratic in e and K m_t = v_t: its slope needs no difference.
        energy = sum(path.step * inner(m, w) for m, w in zip(momenta, ways, strict=True))
        measured.append((ends[0] - ends[1]) / SHIFT + weight * energy)
    return (np.array(promised) - np.array(measured)) / np.linalg.norm(measured)


@pytest.mark.parametrize("name", MEASURES)
def test_force_is_the_derivative_by_every_velocity_of_the_path(problem: Problem, name: str) -> None:
    """``dE = sum dt <weight m_t - Ad*_t force, w_t>`` for w_t that differ from time to time."""
    four, eight, sixteen = (misses(problem, name, steps, 30.0) for steps in (4, 8, 16))
    assert np.linalg.norm(sixteen) < 0.01
    assert np.linalg.norm(four) > np.linalg.norm(eight) > np.linalg.norm(sixteen)
    # First order in time: what a doubling of the steps takes away halves.
    decay = np.linalg.norm(four - eight) / np.linalg.norm(eight - sixteen)
    assert decay == pytest.approx(2, abs=0.4)


def transported(path: Geodesic, way: Array) -> list[Array]:
    """``D phi_t w(psi_t)``: a direction carried along to each step's beginning."""
    out = []
    for home in arrivals(path):
        places = np.indices(way.shape[1:]) + home
        there = np.stack([map_coordinates(w, places, order=3, mode="nearest") for w in way])
        slope = np.stack([np.stack(np.gradient(u)) for u in home])  # [component, axis]
        jacobian = np.moveaxis(slope, (0, 1), (-2, -1)) + np.eye(3)
        turned = np.linalg.solve(jacobian, np.moveaxis(there, 0, -1)[..., None])[..., 0]
        out.append(np.ascontiguousarray(np.moveaxis(turned, -1, 0)))
    return out


@pytest.mark.parametrize(("name", "symmetric"), [("ssd", False), ("lncc", True)])
def test_force_is_the_derivative_by_a_direction_carried_along(
    problem: Problem, name: str, symmetric: bool
) -> None:
    """Along such directions even the half-way force, one for both sides, is the whole derivative."""
    steps = 8
    found = problem.objective(name, steps, symmetric=symmetric).evaluate(problem.momentum, problem.velocity)
    if symmetric:
        paths = [
            shoot(sign * problem.momentum, SMOOTHER, steps=steps // 2, duration=0.5) for sign in (1.0, -1.0)
        ]
    else:
        paths = [shoot(problem.momentum, SMOOTHER, steps=steps)]
    promised, measured = [], []
    for way in problem.directions:
        ways = [transported(path, sign * way) for path, sign in zip(paths, (1.0, -1.0), strict=False)]
        ends = [
            problem.dissimilarity(name, *(shifted(p, w, by) for p, w in zip(paths, ways, strict=True)))
            for by in (SHIFT / 2, -SHIFT / 2)
        ]
        promised.append(-inner(found.force, way))
        measured.append((ends[0] - ends[1]) / SHIFT)
    miss = np.linalg.norm(np.array(promised) - np.array(measured)) / np.linalg.norm(measured)
    assert miss < 0.02


def test_regularity_is_half_the_squared_length(problem: Problem) -> None:
    found = problem.objective("ssd", 2, energy_weight=3.0).evaluate(problem.momentum, problem.velocity)
    assert found.regularity == pytest.approx(1.5 * inner(problem.momentum, problem.velocity))
    assert found.energy == pytest.approx(found.dissimilarity + found.regularity)
    other = problem.objective("ssd", 2).evaluate(problem.momentum, problem.velocity)
    np.testing.assert_array_equal(other.force, found.force)


def test_swapping_the_images_turns_the_half_way_force_round(problem: Problem) -> None:
    swapped = Problem(problem.images[::-1], -problem.momentum, [])
    one = problem.objective("lncc", 4, symmetric=True).evaluate(problem.momentum, problem.velocity)
    two = swapped.objective("lncc", 4, symmetric=True).evaluate(swapped.momentum, swapped.velocity)
    assert two.dissimilarity == pytest.approx(one.dissimilarity, rel=1e-12)
    np.testing.assert_allclose(two.force, -one.force, atol=1e-10 * np.abs(one.force).max())


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_what_is_far_from_the_weight_is_left_out_without_a_trace(
    problem: Problem, name: str, symmetric: bool
) -> None:
    """A weight of a small ball: the value is that of the whole flow and the whole warped images."""
    squares = [(np.arange(N) - centre) ** 2 for centre in (18, 20, 23)]
    ball = np.add.outer(np.add.outer(squares[0], squares[1]), squares[2]) < 5**2
    objective = problem.objective(name, 4, symmetric=symmetric, weight=soft_window() * ball, drift_mm=8.0)
    momentum = objective.allowed(problem.momentum)
    assert 0.02 < (momentum != 0).mean() < 0.5
    found = objective.evaluate(momentum, SMOOTHER(momentum))
    if symmetric:
        back, on = shoot_apart(momentum, SMOOTHER, steps=2)
    else:
        back, on = None, shoot(momentum, SMOOTHER, steps=4)
    warped = []
    for image, path in zip(problem.images, (back, on), strict=True):
        displacement = np.zeros_like(momentum) if path is None else path.forward()
        warped.append(np.empty(IMAGE.shape))
        INTERPOLATION.warp([image], displacement, EYE, [warped[-1]])
    expected = MEASURES[name]().compare(*warped, soft_window() * ball, both=symmetric)
    assert found.dissimilarity == pytest.approx(expected.value, rel=1e-9)
    force = -INTERPOLATION.pool_force([(expected.by_moving, warped[1], 1.0)])
    if expected.by_fixed is not None:
        force = 0.5 * (force + INTERPOLATION.pool_force([(expected.by_fixed, warped[0], 1.0)]))
    np.testing.assert_allclose(found.force, force, atol=1e-7 * np.abs(force).max())


def test_channels_add_by_their_shares(problem: Problem) -> None:
    fixed, moving = map(level, problem.images)
    parts = [Channel(fixed, moving, MEASURES[name](), share) for name, share in (("ssd", 0.3), ("lncc", 0.7))]

    def evaluate(channels: tuple[Channel, ...]) -> Any:
        objective = Objective(
            channels, IMAGE, SMOOTHER, weight=soft_window(), masks=(None, None), matrices=(EYE, EYE),
            energy_weight=1.0, drift_mm=50.0,
            symmetric=False, time_steps=2,
        )  # fmt: skip
        return objective.evaluate(problem.momentum, problem.velocity)

    both, one, two = evaluate(tuple(parts)), evaluate((parts[0],)), evaluate((parts[1],))
    assert both.dissimilarity == pytest.approx(one.dissimilarity + two.dissimilarity)
    np.testing.assert_allclose(both.force, one.force + two.force, atol=1e-9 * np.abs(both.force).max())


def test_masks_are_carried_along(problem: Problem) -> None:
    """The moving mask counts where the moving image's voxels come to lie, the fixed one where it is."""
    steps = 2
    mask = np.zeros(IMAGE.shape)
    mask[:, : N // 2] = 1
    fixed, moving = map(level, problem.images)
    path = shoot(problem.momentum, SMOOTHER, steps=steps)
    carried = np.empty(IMAGE.shape)
    INTERPOLATION.warp([mask], path.forward(), EYE, [carried])
    warped = np.empty(IMAGE.shape)
    INTERPOLATION.warp([problem.images[1]], path.forward(), EYE, [warped])
    for masks, weight in (((level(mask), None), mask), ((None, level(mask)), carried)):
        objective = Objective(
            (Channel(fixed, moving, MEASURES["ssd"]()),), IMAGE, SMOOTHER, weight=soft_window(), masks=masks,
            matrices=(EYE, EYE), energy_weight=1.0, drift_mm=50.0,
            symmetric=False,
            time_steps=steps,
        )  # fmt: skip
        expected = 0.5 * (soft_window() * weight * (problem.images[0] - warped) ** 2).sum()
        found = objective.evaluate(problem.momentum, problem.velocity)
        assert found.dissimilarity == pytest.approx(expected, rel=1e-10)
