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

    def hole(self, radius: float) -> Volume:
        """The mask of everything but a ball in the middle."""
        return Volume((self._from_middle() > radius).astype(np.int32), self.fixed.grid)

    @property
    def all_ones(self) -> Volume:
        return Volume(np.ones(SHAPE, np.int32), self.fixed.grid)

    def error(self, field: DisplacementField, side: int) -> float:
        """Mean distance to the truth in the ellipsoid's half, 3 voxels and more from the other."""
        core = self.inside & (distance_transform_edt(self._half(side)) > 3)
        return float(self._distance(field)[core].mean())

    def error_in_ball(self, field: DisplacementField, radius: float) -> float:
        """The same around the middle."""
        return float(self._distance(field)[self._from_middle() <= radius].mean())

    def moves(self, field: DisplacementField, side: int) -> float:
        """Mean length of the displacements where `error` looks."""
        core = self.inside & (distance_transform_edt(self._half(side)) > 3)
        return float(np.linalg.norm(field.vectors, axis=-1)[core].mean())

    def _distance(self, field: DisplacementField) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(field.vectors - self.truth, axis=-1))

    def _half(self, side: int) -> NDArray[np.bool_]:
        place = np.indices(SHAPE)[self.axis]
        return (place >= SHAPE[self.axis] // 2) == bool(side)

    def _from_middle(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(_centred(), axis=-1))


def _centred() -> NDArray[np.float64]:
    return np.moveaxis(np.indices(SHAPE, dtype=np.float64), 0, -1) - (np.array(SHAPE) - 1) / 2


@cache
def make_parted(axis: int) -> PartedPair:
    noise = gaussian_filter(np.random.default_rng(axis).standard_normal(SHAPE), 2)
    places = _centred()
    radius = np.linalg.norm(places / (np.array(SHAPE) * 0.42), axis=-1)
    values = np.clip(120 + 35 * noise / noise.std(), 5, None) / (1 + np.exp((radius - 1) * 25))
    values[values < 2] = 0
    grid = Grid(SHAPE)
    moving = Volume(values.astype(np.float32), grid)
    truth = np.zeros((*SHAPE, 3))
    truth[..., (axis + 1) % 3] = MOVED * np.tanh(places[..., axis] / 2)
    fixed = DisplacementField(truth.astype(np.float32), grid, grid).warp_image(moving)
    return PartedPair(axis, fixed, moving, truth, radius < 0.95)


@pytest.fixture(params=HALVES, ids=lambda half: "xyz"[half[0]] + "-+"[half[1]])
def half(request: pytest.FixtureRequest) -> tuple[PartedPair, int]:
    """Each half of a parted pair: the pair, and the side that a mask is to name."""
    axis, side = request.param
    return make_parted(axis), side


@pytest.fixture
def parted() -> PartedPair:
    """The pair whose halves along x move apart."""
    return make_parted(0)
