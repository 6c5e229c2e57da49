"""The energy of a momentum on one level, and the force that lowers it.

The energy is ``weight / 2 <m, K m>``, half the squared length of the geodesic, plus the dissimilarity of the
images carried along it. The force is the gradient of the dissimilarity by time-dependent velocities (Beg et
al., IJCV 2005) at the time where the images meet: there it needs no transport, and an optimal geodesic is one
whose momentum equals it (Ashburner & Friston, NeuroImage 2011). docs/lddmm.md derives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels.descent import downhill, pairing
from iterreg.lddmm.geodesic import shoot, shoot_apart
from iterreg.lddmm.lattice import Interpolation, Lattice, nearby, spans_around, within
from iterreg.lddmm.pyramid import LevelImage
from iterreg.lddmm.reproducing_kernel import Smoother
from iterreg.lddmm.similarity import Similarity

__all__ = ["Channel", "Evaluation", "Objective"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """The energy at a momentum.

    Attributes
    ----------
    dissimilarity, regularity
        The two terms, with their weights.
    force
        (3, x, y, z) minus the gradient of the dissimilarity by the momentum's own velocity, as a momentum.
    """

    dissimilarity: float
    regularity: float
    force: Array

    @property
    def energy(self) -> float:
        """What is minimised."""
        return self.dissimilarity + self.regularity


@dataclass(frozen=True)
class Channel:
    """A pair of images with the measure that compares them.

    Attributes
    ----------
    fixed, moving
        At this level.
    similarity
        Their measure, shared with no other channel: its derivatives are used after all have been compared.
    share
        Its weight among the channels.
    """

    fixed: LevelImage
    moving: LevelImage
    similarity: Similarity
    share: float = 1.0


_MOMENTUM_REACH = 2
"""Lattice points around the places compared where there may be momentum: the reach of the interpolation."""


class Objective:
    """The energy on one level.

    Parameters
    ----------
    channels
        What is compared; all fixed images on one grid, and all moving ones.
    lattice
        Where the images are compared.
    smoother
        The kernel on the velocity lattice.
    weight
        (X, Y, Z) cubic millimetres each voxel of `lattice` counts for.
    masks
        Optional fixed and moving masks, carried along with the images: they multiply the weight.
    matrices
        (3, 4) from the fixed frame's millimetres to voxels of the full fixed and moving images.
    energy_weight, symmetric, time_steps
        See `Settings`.
    drift_mm
        How far momentum is carried at most; the flow is not followed further away.
    """

    def __init__(
        self,
        channels: tuple[Channel, ...],
        lattice: Lattice,
        smoother: Smoother,
        *,
        weight: Array,
        masks: tuple[LevelImage | None, LevelImage | None],
        matrices: tuple[Array, Array],
        energy_weight: float,
        drift_mm: float,
        symmetric: bool,
        time_steps: int,
    ) -> None:
        self.channels, self.smoother = channels, smoother
        self.energy_weight, self.symmetric, self.time_steps = energy_weight, symmetric, time_steps
        self._interpolation = Interpolation(smoother.lattice, lattice, weight.dtype)
        self._weight, self._masks, self._matrices = weight, masks, matrices
        # A gradient looks one voxel further than a derivative.
        reach = np.max([channel.similarity.reach for channel in channels], axis=0) + 1
        self._spans = spans_around(weight, (int(reach[0]), int(reach[1]), int(reach[2])))
        near = nearby(lattice, weight, smoother.lattice, _MOMENTUM_REACH)
        self._near = within(near, smoother.lattice.shape).astype(weight.dtype)
        drift = int(np.ceil(drift_mm / smoother.lattice.spacing[0]))
        self._flowing = spans_around(self._near, (drift, drift, drift))
        self._warped = [[np.zeros(lattice.shape, weight.dtype) for _ in channels] for _ in range(2)]
        self._still: list[Array] = []

    def allowed(self, momentum: Array) -> Array:
        """What of a momentum is near the places that are compared: there is no other."""
        return np.asarray(momentum * self._near)

    def downhill(self, force: Array, momentum: Array) -> Array:
        """Minus the gradient of the energy by the momentum's own velocity, as a momentum."""
        return downhill(force, momentum, self._near, self.energy_weight)

    def evaluate(self, momentum: Array, velocity: Array) -> Evaluation:
        """The energy at a momentum.

        Parameters
        ----------
        momentum, velocity
            (3, x, y, z) m and K m.
        """
        if self.symmetric:
            back, on = shoot_apart(
                momentum, self.smoother, steps=self.time_steps // 2, velocity=velocity, spans=self._flowing
            )
            to_fixed, to_moving = back.forward(), on.forward()
        else:
            whole = shoot(
                momentum, self.smoother, steps=self.time_steps, velocity=velocity, spans=self._flowing
            )
            to_fixed, to_moving = None, whole.forward()
        weight = self._carried_weight(to_fixed, to_moving)
        fixed = self._fixed_images(to_fixed)
        moving = self._warp([channel.moving for channel in self.channels], 1, to_moving, self._warped[1])
        dissimilarity = 0.0
        terms: list[tuple[Array, Array, float]] = []
        for channel, f, m in zip(self.channels, fixed, moving, strict=True):
            found = channel.similarity.compare(f, m, weight, both=self.symmetric, spans=self._spans)
            dissimilarity += channel.share * found.value
            # Either image moves only half-way in the symmetric form.
            share = channel.share * (0.5 if self.symmetric else 1.0)
            terms.append((found.by_moving, m, -share))
            if found.by_fixed is not None:
                terms.append((found.by_fixed, f, share))
        force = self._interpolation.pool_force(terms, spans=self._spans)
        regularity = 0.5 * self.energy_weight * inner(momentum, velocity)
        return Evaluation(dissimilarity, regularity, force)

    def _fixed_images(self, displacement: Array | None) -> list[Array]:
        """The fixed images where the images meet; they stay where they are unless the form is symmetric."""
        images, out = [channel.fixed for channel in self.channels], self._warped[0]
        if displacement is not None:
            return self._warp(images, 0, displacement, out)
        if not self._still:
            zero = np.zeros((3, *self.smoother.lattice.shape), self._weight.dtype)
            self._still = self._warp(images, 0, zero, out)
        return self._still

    def _warp(
        self, images: list[LevelImage], side: int, displacement: Array, out: list[Array]
    ) -> list[Array]:
        matrix = images[0].from_full(self._matrices[side])
        self._interpolation.warp([image.array for image in images], displacement, matrix, out, self._spans)
        return out

    def _carried_weight(self, to_fixed: Array | None, to_moving: Array) -> Array:
        weight = self._weight
        for side, displacement in ((0, to_fixed), (1, to_moving)):
            mask = self._masks[side]
            if mask is not None:
                zero = np.zeros_like(to_moving) if displacement is None else displacement
                weight = weight * self._warp([mask], side, zero, [np.zeros_like(weight)])[0]
        return weight


def inner(momentum: Array, velocity: Array) -> float:
    """The pairing of a momentum with a velocity, summed in float64."""
    return float(pairing(momentum, velocity).sum())
