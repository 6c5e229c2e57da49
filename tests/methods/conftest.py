"""A pair that shows what a mask does: two halves that move in opposite directions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume

SHAPE = (26, 24, 25)
MOVED = 2.0
HALVES = tuple((axis, side) for axis in range(3) for side in (0, 1))
"""Every half of the grid: an axis, and its lower (0) or upper (1) end."""


@dataclass(frozen=True)
class PartedPair:
    """A textured ellipsoid whose halves along `axis` slide past each other by 2 voxels each way.

    A field that found one half and never saw the other is right in the first and about 2 voxels wrong, or
    more, in the second: whichever half a mask names must be the one that is right.
    """

    axis: int
    fixed: Volume
    moving: Volume
    truth: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def half(self, side: int) -> Volume:
        """The mask of one half of the grid."""
        return Volume(self._half(side).astype(np.int32), self.fixed.grid)

    @property
    def all_ones(self) -> Volume:
        return Volume(np.ones(SHAPE, np.int32), self.fixed.grid)

    def error(self, field: DisplacementField, side: int, depth: int = 3) -> float:
        """Mean distance to the truth in the ellipsoid's half, more than `depth` voxels from the other."""
        return float(np.linalg.norm(field.vectors - self.truth, axis=-1)[self._core(side, depth)].mean())

    def moves(self, field: DisplacementField, side: int, depth: int = 3) -> float:
        """Mean length of the displacements where `error` looks."""
        return float(np.linalg.norm(field.vectors, axis=-1)[self._core(side, depth)].mean())

    def _core(self, side: int, depth: int) -> NDArray[np.bool_]:
        return np.asarray(self.inside & (distance_transform_edt(self._half(side)) > depth))

    def _half(self, side: int) -> NDArray[np.bool_]:
        place = np.indices(SHAPE)[self.axis]
        return np.asarray((place >= SHAPE[self.axis] // 2) == bool(side))


@dataclass(frozen=True)
class PairWithACore:
    """A textured ellipsoid that stays where it is, but for a core that moves by `MOVED` along z."""

    fixed: Volume
    moving: Volume
    from_middle: NDArray[np.float64]

    @property
    def hole(self) -> Volume:
        """The mask of everything but the core and what it pulls along."""
        return Volume((self.from_middle > 7).astype(np.int32), self.fixed.grid)

    def core_moves(self, field: DisplacementField) -> float:
        """Mean displacement of the core along z."""
        return float(field.vectors[self.from_middle < 3, 2].mean())


def _centred() -> NDArray[np.float64]:
    return np.moveaxis(np.indices(SHAPE, dtype=np.float64), 0, -1) - (np.array(SHAPE) - 1) / 2


def _ellipsoid(seed: int) -> tuple[Volume, NDArray[np.float64]]:
    """A textured ellipsoid and the distance from its middle, 1 on its outline."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    radius = np.linalg.norm(_centred() / (np.array(SHAPE) * 0.42), axis=-1)
    values = np.clip(120 + 35 * noise / noise.std(), 5, None) / (1 + np.exp((radius - 1) * 25))
    values[values < 2] = 0
    return Volume(values.astype(np.float32), Grid(SHAPE)), radius


def _warped(moving: Volume, truth: NDArray[np.float64]) -> Volume:
    return DisplacementField(truth.astype(np.float32), moving.grid, moving.grid).warp_image(moving)


@cache
def make_parted(axis: int) -> PartedPair:
    moving, radius = _ellipsoid(axis)
    truth = np.zeros((*SHAPE, 3))
    truth[..., (axis + 1) % 3] = MOVED * np.tanh(_centred()[..., axis] / 2)
    return PartedPair(axis, _warped(moving, truth), moving, truth, radius < 0.95)


@pytest.fixture(scope="session")
def with_a_core() -> PairWithACore:
    """The pair of which only the core moves."""
    moving, _ = _ellipsoid(3)
    from_middle = np.linalg.norm(_centred(), axis=-1)
    truth = np.zeros((*SHAPE, 3))
    truth[..., 2] = MOVED / (1 + np.exp(from_middle - 5))
    return PairWithACore(_warped(moving, truth), moving, from_middle)


@pytest.fixture(params=HALVES, ids=lambda half: "xyz"[half[0]] + "-+"[half[1]])
def half(request: pytest.FixtureRequest) -> tuple[PartedPair, int]:
    """Each half of a parted pair: the pair, and the side that a mask is to name."""
    axis, side = request.param
    return make_parted(axis), side


@pytest.fixture
def parted() -> PartedPair:
    """The pair whose halves along x move apart."""
    return make_parted(0)
