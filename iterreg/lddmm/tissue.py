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
_COARSE_MM = 4.0
_SMOOTH_MM = 20.0
_BIAS_ROUNDS = 6
_BIAS_LIMITS = (0.5, 2.0)
_STRIDE = 3


def tissue_maps(values: Array, inside: NDArray[np.bool_], spacing=(1.,1.,1.)) -> tuple[Array, Array]:
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
    maps = np.zeros((2, *values.shape), np.float32)
    if not inside.any():
        return maps[0], maps[1]
    low, high = np.quantile(values[inside].astype(np.float64), _CLIP)
    if not high > low:
        return maps[0], maps[1]
    flat = np.where(inside, (np.clip(values, low, high) - low) / (high - low), 0).astype(np.float32)
    strides = [max(1, round(_COARSE_MM / s)) for s in spacing]
    places = tuple(slice(n % stride // 2, None, stride) for n, stride in zip(values.shape, strides, strict=True))
    sigma = [_SMOOTH_MM / (s * stride) for s, stride in zip(spacing, strides, strict=True)]
    coarse, weight = flat[places], inside[places].astype(np.float32)
    bias = np.ones_like(coarse)
    for _ in range(_BIAS_ROUNDS):
        shares, centres = _settled(coarse[weight > 0] / bias[weight > 0])
        ideal = np.zeros_like(coarse)
        ideal[weight > 0] = shares(coarse[weight > 0] / bias[weight > 0]) @ centres
        above, below = (
            ndimage.gaussian_filter(product, sigma, mode="constant") for product in (coarse * ideal, ideal**2)
        )
        bias = np.clip((above + 1e-6) / (below + 1e-6), *_BIAS_LIMITS)
    if _BIAS_ROUNDS:
        grid = [(np.arange(n) - n % stride // 2) / stride for n, stride in zip(values.shape, strides, strict=True)]
        at = np.meshgrid(*grid, indexing="ij")
        flat = flat / ndimage.map_coordinates(bias, at, order=1, mode="nearest")
    own = flat[inside]
    shares, _ = _settled(own)
    found = shares(own)
    for number in (1, 2):
        maps[number - 1][inside] = found[:, number] / max(float(found[:, number].std()), 1e-6)
    return maps[0], maps[1]


def _settled(own: Array):
    """Shares of the classes as a function of intensity, and their centres."""
    low, high = float(own.min()), float(own.max())
    counts, edges = np.histogram(own, _BINS, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    centres = np.quantile(own, _STARTS)
    width = max(_WIDTH * float(np.ptp(centres)), (high - low) / _BINS)
    for _ in range(_ROUNDS):
        weights = counts[:, None] * _memberships(middles, centres, width)
        centres = (weights * middles[:, None]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9)
    table = _memberships(middles, centres, width)
    return lambda x: np.stack([np.interp(x, middles, t) for t in table.T], -1), centres


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
