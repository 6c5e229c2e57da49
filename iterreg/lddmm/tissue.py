"""Soft tissue maps made from an image's own intensities.

Local correlation asks for the same pattern, whatever its strength: it is nearly blind to how well the border
between two tissues fits. Squared differences see that, but also every shade within a tissue, which differs
from scan to scan. Between maps of tissues they see the borders alone, as in registration of segmented brains
(Ashburner, NeuroImage 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.volume import Grid

__all__ = ["agreement", "tissue_maps"]

Array = NDArray[Any]

_BINS = 1024
_STARTS = (0.1, 0.5, 0.9)
"""Quantiles of the foreground where the three classes start."""

_WIDTH = 0.2
"""Standard deviation of a class, in distances between the first and the last start."""

_CLIP = (0.005, 0.995)
"""Quantiles of the foreground beyond which intensities are clipped: no class is to settle on what stripping
left."""

_ROUNDS = 50
_STRIDE = 3


def tissue_maps(values: Array, inside: NDArray[np.bool_]) -> tuple[Array, Array]:
    """How much a voxel belongs to the middle and to the brightest of three classes of intensity.

    The classes are Gaussians of one width whose centres settle as in fuzzy clustering. In a T1-weighted brain
    they are fluid, grey and white matter.

    Parameters
    ----------
    values
        (X, Y, Z) intensities.
    inside
        (X, Y, Z): the foreground; the maps are zero elsewhere.

    Returns
    -------
    Two (X, Y, Z) float32 arrays, from 0 to 1 in units of their own standard deviation over the foreground.
    """
    own = values[inside].astype(np.float64)
    maps = np.zeros((2, *values.shape), np.float32)
    low, high = np.quantile(own, _CLIP)
    if not high > low:
        return maps[0], maps[1]
    np.clip(own, low, high, out=own)
    counts, edges = np.histogram(own, _BINS, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    centres = np.quantile(own, _STARTS)
    width = max(_WIDTH * float(np.ptp(centres)), (high - low) / _BINS)
    for _ in range(_ROUNDS):
        weights = counts[:, None] * _memberships(middles, centres, width)
        centres = (weights * middles[:, None]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9)
    shares = _memberships(middles, centres, width)
    for number in (1, 2):
        found = np.interp(own, middles, shares[:, number])
        maps[number - 1][inside] = found / max(float(found.std()), 1e-6)
    return maps[0], maps[1]


def _memberships(values: Array, centres: Array, width: float) -> Array:
    """(n, 3) shares of the classes, which add to one."""
    exponent = -0.5 * ((values[:, None] - centres) / width) ** 2
    share = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def agreement(fixed: Array, moving: Array, grids: tuple[Grid, Grid], inside: NDArray[np.bool_]) -> float:
    """Correlation of two maps where they lie, over the fixed foreground and on every third voxel.

    Parameters
    ----------
    fixed, moving
        (X, Y, Z) on the first and the second grid.
    inside
        (X, Y, Z) on the first.
    """
    points = _STRIDE * np.argwhere(inside[(slice(None, None, _STRIDE),) * 3])
    matrix = grids[0].to(grids[1])
    there = ndimage.map_coordinates(
        moving, matrix[:3, :3] @ points.T + matrix[:3, 3:], order=1, mode="constant"
    )
    here = fixed[tuple(points.T)]
    if len(points) < 2 or not here.std() > 0 or not there.std() > 0:
        return 0.0
    return float(np.corrcoef(here, there)[0, 1])
