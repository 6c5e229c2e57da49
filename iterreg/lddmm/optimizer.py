"""Descent in the velocity space: normalised natural gradient, momentum, a trust radius on the true energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.lddmm.objective import Evaluation, Objective
from iterreg.lddmm.settings import Optimizer

__all__ = ["Descent", "Iteration", "descend"]

Array = NDArray[Any]

_UPHILL = 0.01
"""Share of the lowest energy by which an iterate may exceed it: momentum may carry it up."""

_SMALLEST_STEP = 0.02
"""Share of the first trust radius below which a level has converged."""


@dataclass(frozen=True)
class Iteration:
    """What a callback sees.

    Attributes
    ----------
    level, iteration
        Counted from 0.
    dissimilarity, regularity
        The two terms of the energy (mm^3); `energy` is their sum.
    step_mm
        Largest change of the velocity that led here.
    """

    level: int
    iteration: int
    dissimilarity: float
    regularity: float
    step_mm: float

    @property
    def energy(self) -> float:
        """What is minimised."""
        return self.dissimilarity + self.regularity


@dataclass(frozen=True)
class Descent:
    """Where a level ended.

    Attributes
    ----------
    momentum
        (3, x, y, z), the best found.
    history
        One entry for each evaluation.
    stopped
        ``converged`` (the energy no longer falls), ``small steps`` or ``iterations`` (used up).
    """

    momentum: Array
    history: tuple[Iteration, ...]
    stopped: str


def descend(
    objective: Objective,
    momentum: Array,
    settings: Optimizer,
    *,
    iterations: int,
    step_mm: float,
    level: int = 0,
    callback: Callable[[Iteration], None] | None = None,
) -> Descent:
    """Lower the energy from a momentum.

    The gradient of the energy in the velocity space is ``weight v - K f``. The force is first evened out in
    space; then the largest vector it makes, not its norm, is scaled to the trust radius, for what must stay
    small is how far a voxel moves. An iterate that clearly raises the energy is taken back and the radius
    halved.

    Parameters
    ----------
    momentum
        (3, x, y, z) to start from.
    iterations
        The most evaluations of the energy.
    step_mm
        The first trust radius.
    """
    smooth = objective.smoother
    weight = momentum.dtype.type(objective.energy_weight)
    keep = momentum.dtype.type(settings.momentum)
    momentum = objective.allowed(momentum)
    velocity = smooth(momentum)
    update, update_velocity = np.zeros_like(momentum), np.zeros_like(momentum)
    best: tuple[Array, Array, Evaluation] | None = None
    radius, moved = step_mm, 0.0
    history: list[Iteration] = []
    energies: list[float] = []
    stopped = "iterations"
    for number in range(iterations):
        found = objective.evaluate(momentum, velocity)
        now = Iteration(level, number, found.dissimilarity, found.regularity, moved)
        history.append(now)
        if callback is not None:
            callback(now)
        if best is not None and not found.energy <= best[2].energy * (1 + _UPHILL):
            momentum, velocity, found = best
            radius *= 0.5
            update, update_velocity = np.zeros_like(momentum), np.zeros_like(momentum)
            if radius < _SMALLEST_STEP * step_mm:
                stopped = "small steps"
                break
        else:
            if best is None or found.energy <= best[2].energy:
                best = (momentum, velocity, found)
            energies.append(best[2].energy)
            if _settled(energies, settings):
                stopped = "converged"
                break
        if number == iterations - 1:
            break
        descent = objective.allowed(found.force - weight * momentum)
        if settings.evenness > 0:
            descent *= _evening(smooth(descent), smooth.lattice.spacing[0], settings)
        direction = smooth(descent)
        largest = float(np.sqrt(np.max(np.einsum("cxyz,cxyz->xyz", direction, direction))))
        if not largest > 0:
            stopped = "converged"
            break
        scale = momentum.dtype.type(radius / largest)
        update = keep * update + scale * descent
        update_velocity = keep * update_velocity + scale * direction
        moved = radius
        momentum, velocity = momentum + update, velocity + update_velocity
    return Descent(best[0] if best is not None else momentum, tuple(history), stopped)


def _evening(direction: Array, spacing: float, settings: Optimizer) -> Array:
    """(x, y, z) factor of a force that undoes the size of what it moves nearby; no place waits.

    A diagonal preconditioner in the dual space: the fixed points of the descent stay where they are.
    """
    length = np.sqrt(np.einsum("cxyz,cxyz->xyz", direction, direction))
    nearby = ndimage.gaussian_filter(length, settings.evenness_mm / spacing, truncate=2.0)
    largest = nearby.max()
    if not largest > 0:
        return np.ones_like(length)
    floor = length.dtype.type(1.0 / settings.evenness)
    return np.asarray(1 / (nearby / largest + floor))


def _settled(energies: list[float], settings: Optimizer) -> bool:
    if len(energies) <= settings.window:
        return False
    before, now = energies[-1 - settings.window], energies[-1]
    return before - now < settings.tolerance * abs(before)
