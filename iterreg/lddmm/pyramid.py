"""Both images at a level of the pyramid, prepared once: standardised, cropped, smoothed, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.lddmm.lattice import Lattice
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["LevelImage", "Region", "image_levels", "standardised"]

Array = NDArray[Any]

_SAME_SPACING = 1.15
"""A level this close to an image's own spacing takes the image as it is."""


@dataclass(frozen=True)
class LevelImage:
    """An image at one level.

    Attributes
    ----------
    array
        (X, Y, Z).
    origin, step
        Voxel of the full image that the first voxel of `array` is, and how many it steps along each axis.
    """

    array: Array
    origin: FloatArray
    step: FloatArray

    def from_full(self, matrix: FloatArray) -> FloatArray:
        """Turn a (3, 4) matrix to voxels of the full image into one to voxels of this level."""
        out = matrix / self.step[:, None]
        out[:, 3] -= self.origin / self.step
        return out


@dataclass(frozen=True)
class Region:
    """The box of the fixed frame that holds both foregrounds, in millimetres."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def around(cls, fixed: Grid, moving: Grid, inside: tuple[Array, Array], margin: float) -> Region:
        """The box of both foreground masks plus a margin, not beyond the fixed grid."""
        spacing = np.asarray(fixed.spacing)
        points = [_ends(inside[0])]
        ends = _ends(inside[1])
        corners = np.array(np.meshgrid(*ends.T)).reshape(3, -1).T
        to_fixed = moving.to(fixed)
        points.append(corners @ to_fixed[:3, :3].T + to_fixed[:3, 3])
        every = np.concatenate(points) * spacing
        limit = (np.asarray(fixed.shape) - 1) * spacing
        low = np.clip(every.min(axis=0) - margin, 0.0, limit)
        high = np.clip(every.max(axis=0) + margin, 0.0, limit)
        # Whole voxels, so that a level at the image's own spacing needs no interpolation. An oblique grid's
        # spacing is rounded: that must not add a voxel.
        low = np.floor(low / spacing + 1e-6) * spacing
        high = np.ceil(high / spacing - 1e-6) * spacing
        return cls(low, high)

    def lattice(self, spacing: float, own: Sequence[float]) -> Lattice:
        """The image lattice of a level; axes whose own spacing is coarser, or about the same, keep it."""
        steps = [o if spacing <= o * _SAME_SPACING else spacing for o in own]
        shape = [
            int(np.floor((b - a) / s + 1e-6)) + 1 for a, b, s in zip(self.low, self.high, steps, strict=True)
        ]
        # Centred where the spacing does not divide the box.
        origin = [
            a + ((b - a) - (n - 1) * s) / 2
            for a, b, n, s in zip(self.low, self.high, shape, steps, strict=True)
        ]
        return Lattice(
            (origin[0], origin[1], origin[2]), (steps[0], steps[1], steps[2]), (shape[0], shape[1], shape[2])
        )


def standardised(
    image: Volume, inside: NDArray[np.bool_], quantiles: tuple[float, float]
) -> NDArray[np.float32]:
    """Clipped intensities with zero mean and unit standard deviation over the foreground.

    Parameters
    ----------
    quantiles
        Of the foreground's intensities; 0 and 1 clip nothing.
    """
    values = image.array[inside].astype(np.float64)
    low, high = np.quantile(values, quantiles)
    if quantiles[0] == 0:
        low = min(low, float(image.array.min()))
    np.clip(values, low, high, out=values)
    scale = values.std()
    if not scale > 0:
        scale = 1.0
    return np.asarray((np.clip(image.array, low, high) - values.mean()) / scale, dtype=np.float32)


def image_levels(array: Array, spacing: Sequence[float], targets: Sequence[float]) -> list[LevelImage]:
    """An image at every spacing asked for, each made from the finest of the coarser steps before it.

    Parameters
    ----------
    array
        (X, Y, Z).
    spacing
        Of the image, in millimetres.
    targets
        Millimetres; a level near the image's own spacing, or below, is the image itself.
    """
    own = np.asarray(spacing, dtype=np.float64)
    made: dict[float, LevelImage] = {}
    current = LevelImage(array, np.zeros(3), np.ones(3))
    for target in sorted(set(targets)):
        wanted = np.where(target <= own * _SAME_SPACING, 1.0, target / own)
        current = _coarser(current, wanted)
        made[target] = current
    return [made[target] for target in targets]


def _coarser(image: LevelImage, step: FloatArray) -> LevelImage:
    """Smooth against aliasing, then sample every `step` voxels of the full image."""
    array, origin = image.array, image.origin.copy()
    for axis in range(3):
        factor = step[axis] / image.step[axis]
        if factor <= 1.0 + 1e-6:
            continue
        smooth = ndimage.gaussian_filter1d(
            array, 0.5 * np.sqrt(factor**2 - 1), axis=axis, mode="nearest", truncate=3.0
        )
        size = array.shape[axis]
        count = max(int((size - 1) / factor + 1e-6) + 1, 2)
        start = max(((size - 1) - (count - 1) * factor) / 2, 0.0)
        where = np.minimum(start + factor * np.arange(count), size - 1)
        cell = np.clip(np.floor(where).astype(int), 0, max(size - 2, 0))
        share = (where - cell).astype(array.dtype).reshape([-1 if a == axis else 1 for a in range(3)])
        low, high = np.take(smooth, cell, axis), np.take(smooth, np.minimum(cell + 1, size - 1), axis)
        array = low + (high - low) * share
        origin[axis] += start * image.step[axis]
    return LevelImage(np.ascontiguousarray(array), origin, np.maximum(step, image.step))


def _ends(inside: Array) -> FloatArray:
    """(2, 3) lowest and highest index inside a mask."""
    ends = np.empty((2, 3))
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends[:, axis] = where[0], where[-1]
    return ends
