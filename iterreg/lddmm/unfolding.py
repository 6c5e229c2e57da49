"""Keeps the written field free of folding by calming the geodesic, never the field.

The flow itself cannot fold, but a field sampled on a voxel grid can: where it compresses or shears strongly
within a voxel, one of the ten finite-difference determinants may be negative. There the velocity is made a
little less steep, the geodesic shot again, and the field looked at anew; each round is firmer than the last.
What is written is always the plain flow of the momentum that is saved.

The last iterations of a registration each take one such round (`calmed`), so that what lies around a place
that would fold can settle anew; `unfold` goes on until nothing folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.field import DisplacementField
from iterreg.kernels.flow import excess_slope
from iterreg.kernels.jacobian import smallest_determinant
from iterreg.lddmm.transform import Transform

__all__ = ["calmed", "unfold"]

Array = NDArray[Any]

_ENOUGH = 0.01
"""Determinants below this, relative to no deformation, are mended: above zero with room for rounding."""

_REACH_MM = 2.0
_SLOPE = 1.0
"""Slopes beyond this, a length in a unit of time, are lowered by the first step …"""

_SLOPE_FALLS = 0.8
"""… and beyond this share of it by the next; …"""

_LEAST_SLOPE = 0.2
"""… this is as low as it gets."""

_STEP_MM = 0.2
_FURTHER = 1.1
_STEPS = 2
"""Steps between looks: to look is to shoot the geodesic anew, which takes several times as long as a step."""

_GENTLE_ROUNDS = 20
_FIRMEST_OF_A_DESCENT = 3
"""Rounds that a round within a descent is as firm as, at most: there is time to come back."""

_DAMPING = 0.15
_HARDER = 1.3
_ROUNDS = 50


def unfold(transform: Transform) -> tuple[Transform, DisplacementField, Mapping[str, Any]]:
    """Lower the velocity's slope where its field folds until it does so nowhere.

    Returns
    -------
    transform, field
        The calmed geodesic and its field.
    report
        ``rounds``, ``norm_kept`` (share of the geodesic's squared length that is left) and
        ``smallest_determinant`` of the field.
    """
    before = transform.distance
    for rounds in range(_ROUNDS + 1):
        field = transform.field()
        determinant = smallest_determinant(field.in_fixed_voxels())
        lowest = float(determinant.min())
        if lowest >= _ENOUGH or rounds == _ROUNDS:
            break
        transform = _firmer(transform, determinant, rounds)
    kept = (transform.distance / before) ** 2 if before > 0 else 1.0
    return transform, field, {"rounds": rounds, "norm_kept": kept, "smallest_determinant": lowest}


def calmed(transform: Transform, rounds: int) -> Transform | None:
    """One round within a descent, after so many others; None where nothing folds."""
    determinant = smallest_determinant(transform.field().in_fixed_voxels())
    if determinant.min() >= _ENOUGH:
        return None
    return _firmer(transform, determinant, min(rounds, _FIRMEST_OF_A_DESCENT))


def _firmer(transform: Transform, determinant: Array, rounds: int) -> Transform:
    places = _around(determinant < _ENOUGH, transform)
    if rounds < _GENTLE_ROUNDS:
        momentum = _less_steep(transform, places, _STEPS * rounds)
    else:
        damping = np.float32(min(_DAMPING * _HARDER ** (rounds - _GENTLE_ROUNDS), 0.8))
        momentum = transform.momentum * (1 - damping * places)
    return replace(transform, momentum=momentum)


def _less_steep(transform: Transform, places: Array, first: int) -> Array:
    """The momentum after some steps down the excess of slopes at some places, the steepest first.

    They take momentum from one side of a place and give it to the other, so that what lies around hardly
    moves. To damp the momentum there, which is the last resort, moves much more: it is made of large parts
    that cancel each other.
    """
    momentum, velocity = transform.momentum, transform.velocity
    unit = momentum.dtype.type(1.0 / transform.lattice.spacing[0])
    for number in range(first, first + _STEPS):
        limit = max(_LEAST_SLOPE, _SLOPE * _SLOPE_FALLS**number)
        _, excess = excess_slope(velocity * unit, places, limit)
        change = transform.smoother(excess)
        largest = float(np.sqrt(np.einsum("cxyz,cxyz->xyz", change, change).max()))
        if largest > 0:
            step = unit.dtype.type(_STEP_MM * _FURTHER**number / largest)
            momentum, velocity = momentum - step * excess, velocity - step * change
    return momentum


def _around(places: NDArray[np.bool_], transform: Transform) -> Array:
    """(x, y, z) on the velocity lattice: 1 where these fixed voxels go, 0 far from there."""
    lattice = transform.lattice
    voxels = np.argwhere(places)
    spacing = np.asarray(lattice.spacing)
    points = (voxels * np.asarray(transform.fixed.spacing) - np.asarray(lattice.origin)) / spacing
    moved = points + np.stack(
        [ndimage.map_coordinates(u, points.T, order=1, mode="nearest") for u in transform.to_meeting()],
        axis=1,
    )
    index = np.clip(np.rint(moved).astype(int), 0, np.asarray(lattice.shape) - 1)
    marks = np.zeros(lattice.shape, np.float32)
    marks[tuple(index.T)] = 1.0
    sigma = np.maximum(_REACH_MM / spacing, 0.8)
    blurred = ndimage.gaussian_filter(marks, sigma, truncate=3.0)
    peak = float(np.prod(1.0 / (np.sqrt(2 * np.pi) * sigma)))
    return np.asarray(np.minimum(blurred / peak, 1.0))
