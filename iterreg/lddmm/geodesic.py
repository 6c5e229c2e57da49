"""Geodesic shooting: the flow that a momentum starts, and the maps it makes.

A geodesic of the diffeomorphism group is fixed by its momentum at one time. On the way the momentum is
carried along the flow (Euler-Poincare equation; Vialard et al., IJCV 2012)::

    m_t = det(D psi_t) (D psi_t)^T m_0(psi_t),    v_t = K m_t,    psi_t = (phi_t)^-1

so that ``<m_t, v_t>`` never changes. Here the velocity is constant over a step, and each step of the map is
integrated by the midpoint rule in as many substeps as keep it invertible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels import flow as kernels
from iterreg.lddmm.lattice import whole_rows
from iterreg.lddmm.reproducing_kernel import Smoother

__all__ = ["Geodesic", "shoot", "shoot_apart"]

Array = NDArray[Any]

_STEEPEST = 0.7
"""Largest change s of a velocity between neighbours over one substep. The midpoint rule changes a neighbour's
place by at most s + s^2 / 2 of its distance: less than all of it, so that the substep cannot fold."""


@dataclass(frozen=True)
class Geodesic:
    """The velocities of a flow.

    Attributes
    ----------
    velocities
        One (3, x, y, z) array for each step, in lattice spacings for a unit of time.
    step
        Time of a step.
    first
        The displacements of lattice points one step ahead and one step back along the first velocity, where
        they are known already.
    spans
        Which lattice points matter (see `iterreg.lddmm.lattice.spans_around`); the others count as at rest.
        All of them if None.
    """

    velocities: tuple[Array, ...]
    step: float
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
            return _trace(self.velocities[1:], self.step, self.first[0], self.spans)
        return _trace(self.velocities, self.step, start, self.spans)

    def backward(self, start: Array | None = None) -> Array:
        """Displacement of lattice points from the end to the start of the flow; `start` as in `forward`."""
        if start is None and self.first is not None and len(self.velocities) == 1:
            return self.first[1]
        return _trace(self.velocities[::-1], -self.step, start, self.spans)


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
        How far to go, 1 being the geodesic's own length.
    velocity
        ``smoother(momentum)``, when the caller has it.
    first
        See `Geodesic`, when the caller has it.
    spans
        See `Geodesic`. They must hold every place that momentum is carried to.
    """
    places = whole_rows(smoother.lattice.shape) if spans is None else spans
    step = duration / steps
    unit = momentum.dtype.type(1.0 / smoother.lattice.spacing[0])
    now = (smoother(momentum) if velocity is None else velocity) * unit
    velocities = [now]
    for _ in range(steps - 1):
        back = Geodesic(tuple(velocities), step, first, spans).backward()
        velocities.append(smoother(kernels.carry_momentum(momentum, back, places)) * unit)
    return Geodesic(tuple(velocities), step, first, spans)


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
    unit = momentum.dtype.type(1.0 / smoother.lattice.spacing[0])
    one = Geodesic((velocity * unit,), 0.5 / steps, spans=spans)
    ahead, behind = one.forward(), one.backward()
    back = shoot(
        -momentum,
        smoother,
        steps=steps,
        duration=0.5,
        velocity=-velocity,
        first=(behind, ahead),
        spans=spans,
    )
    on = shoot(
        momentum,
        smoother,
        steps=steps,
        duration=0.5,
        velocity=velocity,
        first=(ahead, behind),
        spans=spans,
    )
    return back, on


def _trace(velocities: tuple[Array, ...], step: float, start: Array | None, spans: Array | None) -> Array:
    displacement = np.zeros_like(velocities[0]) if start is None else start
    _, x, y, z = displacement.shape
    places = whole_rows((x, y, z)) if spans is None else spans
    for velocity in velocities:
        steep = float(kernels.steepness(velocity).max()) * abs(step)
        substeps = max(1, int(np.ceil(steep / _STEEPEST)))
        displacement = kernels.trace(velocity, displacement, start is None, step / substeps, substeps, places)
        start = displacement
    return displacement
