"""Descent in the velocity space: normalised natural gradient, momentum, a trust radius on the true energy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels import descent as kernels
from iterreg.lddmm.objective import Evaluation, Objective
from iterreg.lddmm.settings import Optimizer

__all__ = ["Descent", "Iteration", "descend"]

Array = NDArray[Any]

_UPHILL = 0.01
"""Share of the lowest energy by which an iterate may exceed it: momentum may carry it up."""

_SMALLEST_STEP = 0.02
"""Share of the first trust radius below which a level has converged."""


_EVENNESS_REACH = 2.0
"""Standard deviations of the Gaussian over which places share their speed."""


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
        (3, x, y, z): of the lowest energy, or the last one where folds were mended on the way.
    kept
        Its entry of the history.
    history
        One entry for each evaluation.
    stopped
        ``converged`` (the energy no longer falls), ``small steps`` or ``iterations`` (used up).
    """

    momentum: Array
    kept: Iteration
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
    calm: Callable[[Array, int], Array | None] | None = None,
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
    calm
        What the last `settings.calming` iterates go through, half of them all at most: a momentum and how
        many went before it, to a momentum that folds less, or None if it does not fold. They need not have
        less energy than those before: what folds is cheap.
    """
    smooth = objective.smoother
    momentum = objective.allowed(momentum)
    velocity = smooth(momentum)
    update, update_velocity = np.zeros_like(momentum), np.zeros_like(momentum)
    kept: tuple[Array, Array, Evaluation] | None = None
    radius, moved = step_mm, 0.0
    history: list[Iteration] = []
    energies: list[float] = []
    stopped = "iterations"
    calming = 0 if calm is None else settings.looks(iterations)
    calmed = False
    left = iterations
    while left:
        left -= 1
        found = objective.evaluate(momentum, velocity)
        now = Iteration(level, len(history), found.dissimilarity, found.regularity, moved)
        history.append(now)
        if callback is not None:
            callback(now)
        stop = ""
        if kept is not None and not found.energy <= kept[2].energy * (1 + _UPHILL):
            momentum, velocity, found = kept
            radius *= 0.5
            update, update_velocity = np.zeros_like(momentum), np.zeros_like(momentum)
            if radius < _SMALLEST_STEP * step_mm:
                stop = "small steps"
        else:
            if kept is None or calmed or found.energy <= kept[2].energy:
                kept, entry = (momentum, velocity, found), now
            energies.append(kept[2].energy)
            if not calmed and _settled(energies, settings):
                stop = "converged"
        if stop and stopped == "iterations":
            stopped, radius, left = stop, max(radius, _SMALLEST_STEP * step_mm), min(left, calming)
        if not left:
            break
        descent = objective.downhill(found.force, momentum)
        if settings.evenness > 0:
            _even_out(descent, smooth(descent), smooth.lattice.spacing[0], settings)
        direction = smooth(descent)
        largest = math.sqrt(kernels.squared_lengths(direction).max())
        if not largest > 0:
            stopped = "converged"
            break
        scale, moved = radius / largest, radius
        momentum = kernels.advance(momentum, update, descent, settings.momentum, scale)
        velocity = kernels.advance(velocity, update_velocity, direction, settings.momentum, scale)
        if calm is not None and left <= calming:
            unfolded = calm(momentum, calming - left)
            if unfolded is not None:
                calmed, momentum, velocity = True, unfolded, smooth(unfolded)
            elif stopped != "iterations":
                break
    assert kept is not None
    return Descent(kept[0], entry, tuple(history), stopped)


def _even_out(descent: Array, direction: Array, spacing: float, settings: Optimizer) -> None:
    """Divide a force by the size of what it moves nearby, so that no place waits for the fastest.

    A diagonal preconditioner in the dual space: the fixed points of the descent stay where they are.
    """
    nearby = kernels.blurred_length(direction, _gaussian(settings.evenness_mm / spacing, direction.dtype))
    largest = float(nearby.max())
    if largest > 0:
        kernels.even_out(descent, nearby, 1.0 / largest, 1.0 / settings.evenness)


def _gaussian(sigma: float, dtype: Any) -> Array:
    """Weights up to two standard deviations to either side."""
    reach = int(_EVENNESS_REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum(), dtype)


def _settled(energies: list[float], settings: Optimizer) -> bool:
    if len(energies) <= settings.window:
        return False
    before, now = energies[-1 - settings.window], energies[-1]
    return before - now < settings.tolerance * abs(before)
