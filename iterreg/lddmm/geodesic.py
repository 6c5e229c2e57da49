"""Geodesic shooting: the flow that a momentum starts, and the maps it makes.

A geodesic of the diffeomorphism group is fixed by its momentum at one time. On the way the momentum is
carried along the flow (Euler-Poincare equation; Vialard et al., IJCV 2012)::

    m_t = det(D psi_t) (D psi_t)^T m_0(psi_t),    v_t = K m_t,    psi_t = (phi_t)^-1

so that ``<m_t, v_t>`` never changes. Here the velocity is constant over a step, and each step of the map is
integrated by the midpoint rule in as many substeps as keep it invertible, place by place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.kernels import flow as kernels
from iterreg.lddmm.lattice import whole_rows
from iterreg.lddmm.reproducing_kernel import Smoother

__all__ = ["Geodesic", "shoot", "shoot_apart"]

Array = NDArray[Any]

_STEEPEST = 0.7
"""Largest change s of a velocity between neighbours over one substep. The midpoint rule changes a neighbour's
place by at most s + s^2 / 2 of its distance: less than all of it, so that the substep cannot fold."""


@dataclass(frozen=True, eq=False)
class Geodesic:
    """The velocities of a flow.

    Attributes
    ----------
    velocities
        One (3, x, y, z) array for each step, in units of length for a unit of time.
    step
        Time of a step; negative to go back in time.
    spacing
        The unit of length, between lattice points.
    first
        The displacements of lattice points one step ahead and one step back along the first velocity, where
        they are known already.
    spans
        Which lattice points matter (see `iterreg.lddmm.lattice.spans_around`); the others count as at rest.
        All of them if None.
    """

    velocities: tuple[Array, ...]
    step: float
    spacing: float = 1.0
    first: tuple[Array, Array] | None = None
    spans: Array | None = None

    def forward(self, start: Array | None = None) -> Array:
        """Displacement of lattice points from the start to the end of the flow.

        Parameters
        ----------
        start
            (3, x, y, z) lattice spacings: where the points stand already; the points themselves if None.
        """
        if start is None and self.first is not None:
            return self._trace(range(1, len(self.velocities)), self.step, self.first[0])
        return self._trace(range(len(self.velocities)), self.step, start)

    def backward(self, start: Array | None = None) -> Array:
        """Displacement of lattice points from the end to the start of the flow; `start` as in `forward`."""
        if start is None and self.first is not None and len(self.velocities) == 1:
            return self.first[1]
        return self._trace(reversed(range(len(self.velocities))), -self.step, start)

    @cached_property
    def _steepness(self) -> tuple[tuple[Array, Array], ...]:
        return tuple(kernels.steepness(velocity) for velocity in self.velocities)

    def _trace(self, order: Iterable[int], step: float, moved: Array | None) -> Array:
        _, x, y, z = self.velocities[0].shape
        places = whole_rows((x, y, z)) if self.spans is None else self.spans
        duration = step / self.spacing
        for number in order:
            velocity = self.velocities[number]
            substeps = _substeps(*self._steepness[number], moved, abs(duration))
            # Points at rest have no displacement to be read.
            start = velocity if moved is None else moved
            moved = kernels.trace(velocity, start, moved is None, duration, substeps, places)
        assert moved is not None
        return moved


def shoot(
    momentum: Array,
    smoother: Smoother,
    *,
    steps: int,
    duration: float = 1.0,
    velocity: Array | None = None,
    first: tuple[Array, Array] | None = None,
    spans: Array | None = None,
) -> Geodesic:
    """Follow the geodesic that starts with a momentum.

    Parameters
    ----------
    momentum
        (3, x, y, z) on the smoother's lattice.
    steps
        Number of time steps; the error falls with it to first order.
    duration
        How far to go, 1 being the geodesic's own length; negative to go back.
    velocity
        ``smoother(momentum)``, when the caller has it.
    first
        See `Geodesic`, when the caller has it.
    spans
        See `Geodesic`. They must hold every place that momentum is carried to.
    """
    places = whole_rows(smoother.lattice.shape) if spans is None else spans
    step, spacing = duration / steps, smoother.lattice.spacing[0]
    velocities = [smoother(momentum) if velocity is None else velocity]
    for _ in range(steps - 1):
        back = Geodesic(tuple(velocities), step, spacing, first, spans).backward()
        velocities.append(smoother(kernels.carry_momentum(momentum, back, places)))
    return Geodesic(tuple(velocities), step, spacing, first, spans)


def shoot_apart(
    momentum: Array,
    smoother: Smoother,
    *,
    steps: int,
    velocity: Array | None = None,
    spans: Array | None = None,
) -> tuple[Geodesic, Geodesic]:
    """Follow a geodesic half-way back and half-way on from its middle, where its momentum is known.

    Both halves start along the same velocity, the one against it, so that their first steps are shared.

    Parameters
    ----------
    momentum, smoother, velocity, spans
        As in `shoot`.
    steps
        Of each half.

    Returns
    -------
    To the geodesic's start, and to its end.
    """
    velocity = smoother(momentum) if velocity is None else velocity
    one = Geodesic((velocity,), 0.5 / steps, smoother.lattice.spacing[0], spans=spans)
    ahead, behind = one.forward(), one.backward()
    back, on = (
        shoot(momentum, smoother, steps=steps, duration=way, velocity=velocity, first=first, spans=spans)
        for way, first in ((-0.5, (behind, ahead)), (0.5, (ahead, behind)))
    )
    return back, on


def _substeps(slope: Array, speed: Array, displacement: Array | None, duration: float) -> Array:
    """(x, y) int32: into how many substeps each row cuts a step, so that none can fold near where it goes.

    Parameters
    ----------
    slope, speed
        Of the velocity; see `iterreg.kernels.flow.steepness`.
    displacement
        (3, x, y, z) lattice spacings: where the points stand; None at rest.
    duration
        Of the step; times the velocity it is lattice spacings.
    """
    reach = duration * float(speed.max())
    if displacement is not None:
        reach += float(max(displacement.max(), -displacement.min()))
    steepest: Array = ndimage.maximum_filter(slope, 2 * int(np.ceil(reach)) + 3, mode="nearest")
    return np.asarray(np.maximum(np.ceil(steepest * (duration / _STEEPEST)), 1), np.int32)
