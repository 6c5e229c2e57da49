"""Soft tissue maps made from an image's own intensities.

Local correlation asks for the same pattern, whatever its strength: it is nearly blind to how well the border
between two tissues fits. Squared differences see that, but also every shade within a tissue, which differs
from scan to scan. Between maps of tissues they see the borders alone, as in registration of segmented brains
(Ashburner, NeuroImage 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.volume import Grid

__all__ = ["Tissues", "agreement", "tissue_maps"]

Array = NDArray[Any]

_BINS = 1024
_TABLE = 4096
_STARTS = (0.1, 0.5, 0.9)
"""Quantiles of the foreground where the three classes start."""

_WIDTH = 0.2
"""Standard deviation of a class, in distances between the first and the last start."""

_LEAST_APART = 1.0
"""Standard deviations between neighbouring centres below which classes ran into each other."""

_LEAST_CLARITY = 0.6

_NARROWEST = 0.05
"""Of a class's own standard deviation, in distances between the outermost centres."""

_RAREST = 0.05
"""Share of the voxels that a class is credited with at least, so that none dies out."""

_CLIP = (0.005, 0.995)
"""Quantiles of the foreground beyond which intensities are clipped: no class is to settle on what stripping
left."""

_ROUNDS = 50

_BIAS_ROUNDS = 5
_BIAS_MM = 20.0
"""Standard deviation of the Gaussian that a bias field is smoothed with."""

_BIAS_LIMITS = (0.5, 2.0)
_COARSE_MM = 4.0
"""Distance of the voxels that it is estimated from."""

_STRIDE = 3


@dataclass(frozen=True)
class Tissues:
    """What an image says of its tissues.

    Attributes
    ----------
    inside
        (X, Y, Z): the foreground.
    shares
        (3, n) float32: how much each voxel of the foreground belongs to the dark, the middle and the bright
        class of intensity. In a T1-weighted brain they are fluid, grey and white matter.
    clarity
        Mean over the foreground of the squared shares of its three classes: 1 where each voxel belongs to
        one class alone, 1/3 where no voxel says which it belongs to.
    apart
        Standard deviations between the centres of the two classes that are nearest to each other.
    own_widths
        Whether each class had a width of its own.
    """

    inside: NDArray[np.bool_]
    shares: Array
    clarity: float
    apart: float
    own_widths: bool

    def map_of(self, number: int) -> Array:
        """(X, Y, Z) float32: class 0 (dark), 1 or 2 (bright) in its own standard deviations; zero outside."""
        out, share = np.zeros(self.inside.shape, np.float32), self.shares[number]
        out[self.inside] = share / max(float(share.std()), 1e-6)
        return out

    @property
    def distinct(self) -> bool:
        """Whether the intensities do fall into three classes."""
        return self.apart >= _LEAST_APART and self.clarity >= _LEAST_CLARITY


def tissue_maps(
    values: Array,
    inside: NDArray[np.bool_],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    own_widths: bool | None = None,
) -> Tissues:
    """Find an image's tissues.

    The classes are Gaussians of one width whose centres settle as in fuzzy clustering, after a smooth bias
    field has been divided out: what the image is above what its classes' centres would make of it (in the
    spirit of Wells et al., IEEE TMI 1996).

    Parameters
    ----------
    values
        (X, Y, Z) intensities.
    inside
        (X, Y, Z): the foreground.
    spacing
        Millimetres, of a human brain.
    own_widths
        Give each class a width and a frequency of its own; by default where those of one width run into each
        other, because few voxels lie far from all others: fluid in T2-weighted brains. Classes of one width
        are softer and follow partial volume.
    """
    if own_widths is None:
        soft = tissue_maps(values, inside, spacing, own_widths=False)
        return soft if soft.apart >= _LEAST_APART else tissue_maps(values, inside, spacing, own_widths=True)
    low, high = np.quantile(values[inside], _CLIP) if inside.any() else (0.0, 0.0)
    if not high > low:
        shares = np.zeros((3, np.count_nonzero(inside)), np.float32)
        return Tissues(inside, shares, clarity=0.0, apart=0.0, own_widths=own_widths)
    rising = ((np.clip(values, low, high) - low) / (high - low)).astype(np.float32)
    own = rising[inside] / _bias(rising, inside, spacing, own_widths)[inside]
    classes = _Classes.of(own, own_widths)
    shares = classes.shares(own)
    clarity = float((shares**2).sum(axis=0).mean())
    return Tissues(inside, shares, clarity=clarity, apart=classes.apart, own_widths=own_widths)


@dataclass(frozen=True)
class _Classes:
    """Three Gaussians over intensities from `low` to `high`.

    `heights` are their peaks; beyond the `limits` an intensity belongs where the nearer limit does.
    """

    centres: Array
    widths: Array
    heights: Array
    limits: tuple[float, float]
    low: float
    high: float

    @classmethod
    def of(cls, own: Array, own_widths: bool) -> _Classes:
        low, high = float(own.min()), float(own.max())
        counts, edges = np.histogram(own, _BINS, (low, high))
        middles = (edges[1:] + edges[:-1]) / 2
        centres = np.quantile(own, _STARTS)
        widths = np.full(3, max(_WIDTH * float(np.ptp(centres)), (high - low) / _BINS, 1e-6))
        if own_widths:
            centres, widths, heights = _mixture(counts, middles, centres, widths)
            return cls(centres, widths, heights, (float(centres[0]), float(centres[-1])), low, high)
        heights = np.ones(3)
        for _ in range(_ROUNDS):
            weights = counts * _memberships(middles, centres, widths, heights)
            centres = (weights * middles).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        return cls(centres, widths, heights, (low, high), low, high)

    @property
    def apart(self) -> float:
        return float((np.diff(self.centres) / np.maximum(self.widths[1:], self.widths[:-1])).min())

    def shares(self, values: Array) -> Array:
        """(3, n) float32 of intensities from `low` to `high`: they add to one."""
        at = np.clip(np.linspace(self.low, self.high, _TABLE), *self.limits)
        table = _memberships(at, self.centres, self.widths, self.heights).astype(np.float32)
        step = max((self.high - self.low) / (_TABLE - 1), 1e-12)
        entry = ((values - self.low) / step + 0.5).astype(np.int32)
        return np.take(table, entry, axis=1, mode="clip")


def _mixture(counts: Array, values: Array, centres: Array, widths: Array) -> tuple[Array, Array, Array]:
    """Centres, widths and heights of Gaussians fitted to a histogram by expectation maximisation."""
    heights = 1.0 / widths
    for _ in range(_ROUNDS):
        weights = counts * _memberships(values, centres, widths, heights)
        sums = np.maximum(weights.sum(axis=1), 1e-9)
        centres = (weights * values).sum(axis=1) / sums
        spread = np.sqrt((weights * (values - centres[:, None]) ** 2).sum(axis=1) / sums)
        widths = np.maximum(spread, max(_NARROWEST * float(np.ptp(centres)), 1e-6))
        heights = np.maximum(sums / sums.sum(), _RAREST) / widths
    rising = np.argsort(centres, kind="stable")
    return centres[rising], widths[rising], heights[rising]


def _memberships(values: Array, centres: Array, widths: Array, heights: Array) -> Array:
    exponent = -0.5 * ((values - centres[:, None]) / widths[:, None]) ** 2 + np.log(heights)[:, None]
    share = np.exp(exponent - exponent.max(axis=0))
    return np.asarray(share / share.sum(axis=0))


def _bias(values: Array, inside: NDArray[np.bool_], spacing: Sequence[float], own_widths: bool) -> Array:
    """(X, Y, Z) smooth factor by which intensities differ from those of their classes."""
    strides = [max(1, round(_COARSE_MM / s)) for s in spacing]
    places = [np.arange(n % k // 2, n, k) for n, k in zip(values.shape, strides, strict=True)]
    own, coarse = inside[np.ix_(*places)], values[np.ix_(*places)]
    sigma = [_BIAS_MM / (s * k) for s, k in zip(spacing, strides, strict=True)]
    bias, ideal = np.ones_like(coarse), np.zeros_like(coarse)
    if not own.any():
        return np.ones_like(values)
    for _ in range(_BIAS_ROUNDS):
        flat = coarse[own] / bias[own]
        classes = _Classes.of(flat, own_widths)
        ideal[own] = classes.centres @ classes.shares(flat)
        above, below = (
            ndimage.gaussian_filter(product, sigma, mode="constant")
            for product in (coarse * ideal, ideal * ideal)
        )
        bias = np.clip((above + 1e-6) / (below + 1e-6), *_BIAS_LIMITS)
    for axis, (n, where) in enumerate(zip(values.shape, places, strict=True)):
        weights = np.stack([np.interp(np.arange(n), where, row) for row in np.eye(len(where))])
        bias = np.moveaxis(np.tensordot(bias, weights.astype(np.float32), (axis, 0)), -1, axis)
    return np.asarray(bias)


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
