"""Axis-aligned lattices in the fixed frame, and interpolation from a coarse one to a fine one.

The *fixed frame* measures millimetres along the fixed grid's own axes from its first voxel: everything the
optimizer does happens there, so that lengths are millimetres whatever the voxels are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from iterreg.kernels import lattice as kernels

__all__ = ["Interpolation", "Lattice", "nearby", "spans_around", "whole_rows", "within"]

Array = NDArray[Any]
Triple = tuple[float, float, float]
Stencils = tuple[Array, Array, Array, Array, Array, Array]


@dataclass(frozen=True)
class Lattice:
    """Points ``origin + spacing * index``.

    Attributes
    ----------
    origin
        Millimetres of the first point in the fixed frame.
    spacing
        Millimetres between points along each axis.
    shape
        Number of points along each axis.
    """

    origin: Triple
    spacing: Triple
    shape: tuple[int, int, int]

    @classmethod
    def covering(cls, low: Sequence[float], high: Sequence[float], spacing: float, padding: float) -> Lattice:
        """The lattice of one spacing around a box: `padding` on every side, of a shape that FFTs like."""
        extent = [b - a + 2 * padding for a, b in zip(low, high, strict=True)]
        shape = [max(8, fft.next_fast_len(int(np.ceil(e / spacing)) + 1, real=True)) for e in extent]
        origin = [(a + b - (n - 1) * spacing) / 2 for a, b, n in zip(low, high, shape, strict=True)]
        return cls(
            (origin[0], origin[1], origin[2]), (spacing, spacing, spacing), (shape[0], shape[1], shape[2])
        )

    @property
    def cell(self) -> float:
        """Volume of a cell in cubic millimetres."""
        return float(np.prod(self.spacing))


class Interpolation:
    """Keys's cubic convolution from a coarse lattice to the points of a finer one, and its transpose.

    Beyond the coarse lattice its border values continue.

    Parameters
    ----------
    coarse, fine
        The two lattices.
    dtype
        Of the weights: the arrays' own.
    """

    def __init__(self, coarse: Lattice, fine: Lattice, dtype: Any = np.float32) -> None:
        self.coarse, self.fine = coarse, fine
        stencils: list[Array] = []
        for axis in range(3):
            points = fine.origin[axis] + fine.spacing[axis] * np.arange(fine.shape[axis])
            where = (points - coarse.origin[axis]) / coarse.spacing[axis]
            first, weights = _stencil(where, coarse.shape[axis])
            stencils += [first, weights.astype(dtype)]
        self._stencils = cast(Stencils, tuple(stencils))

    def __call__(self, values: Array) -> Array:
        """(3, x, y, z) on the coarse lattice to (X, Y, Z, 3) on the fine one."""
        return kernels.upsample(values, *self._stencils)

    def warp(
        self,
        images: Sequence[Array],
        values: Array,
        matrix: Array,
        outs: Sequence[Array],
        spans: Array | None = None,
    ) -> None:
        """Sample images where displaced points of the fine lattice lie.

        Parameters
        ----------
        images
            (X', Y', Z') each, on one grid, held constant beyond their border.
        values
            (3, x, y, z) displacement on the coarse lattice, in its spacing.
        matrix
            (3, 4) from millimetres of the fixed frame to voxels of the images.
        outs
            (X, Y, Z) each, written.
        spans
            See `spans_around`: what is written; everything if None.
        """
        fine, coarse = self.fine, self.coarse
        full = np.empty((3, 7), outs[0].dtype)
        full[:, :3] = matrix[:, :3] * np.asarray(fine.spacing)
        full[:, 3] = matrix[:, :3] @ np.asarray(fine.origin) + matrix[:, 3]
        full[:, 4:] = matrix[:, :3] * np.asarray(coarse.spacing)
        spans = whole_rows(fine.shape) if spans is None else spans
        kernels.warp_through_lattice(tuple(images), values, *self._stencils, full, spans, tuple(outs))

    def pool_force(self, terms: Sequence[tuple[Array, Array, float]], *, spans: Array | None = None) -> Array:
        """Gather the sum of ``share * derivative * grad(image)`` on the coarse lattice, per millimetre.

        Parameters
        ----------
        terms
            Derivative and image, (X, Y, Z) each on the fine lattice, and share; the share is negative where
            an image moves the other way.
        spans
            Where the derivatives may differ from zero; everywhere if None.

        Returns
        -------
        (3, x, y, z).
        """
        derivatives, images, shares = zip(*terms, strict=True)
        dtype = images[0].dtype
        return kernels.pool_force(
            derivatives,
            images,
            np.asarray(shares, dtype),
            *self._stencils,
            self.coarse.shape,
            np.asarray([1.0 / s for s in self.fine.spacing], dtype),
            whole_rows(self.fine.shape) if spans is None else spans,
        )


def whole_rows(shape: tuple[int, int, int]) -> Array:
    """Spans that leave nothing out."""
    spans = np.zeros((*shape[:2], 2), np.int32)
    spans[..., 1] = shape[2]
    return spans


def spans_around(places: Array, reach: tuple[int, int, int]) -> Array:
    """For each row of voxels, from which to which one it holds all marked ones and those within reach.

    Parameters
    ----------
    places
        (X, Y, Z), anything but zero where marked.
    reach
        In voxels along each axis, a box.

    Returns
    -------
    (X, Y, 2) int32: the first voxel and the one after the last; twice 0 for a row without any.
    """
    marked = places != 0
    last = marked.shape[2]
    filled = marked.any(axis=2)
    first = np.where(filled, marked.argmax(axis=2), last)
    end = np.where(filled, last - marked[..., ::-1].argmax(axis=2), 0)
    for axis in range(2):
        size = 2 * reach[axis] + 1
        first = ndimage.minimum_filter1d(first, size, axis=axis)
        end = ndimage.maximum_filter1d(end, size, axis=axis)
    spans = np.stack([np.maximum(first - reach[2], 0), np.minimum(end + reach[2], last)], axis=2)
    spans[first >= end] = 0
    return spans.astype(np.int32)


def within(spans: Array, shape: tuple[int, int, int]) -> Array:
    """(X, Y, Z) bool: which voxels lie in the spans of their rows."""
    column = np.arange(shape[2])
    return np.asarray((column >= spans[..., :1]) & (column < spans[..., 1:]))


def nearby(fine: Lattice, places: Array, coarse: Lattice, reach: int) -> Array:
    """Spans of a coarse lattice around places marked on a fine one.

    Parameters
    ----------
    fine, places
        (X, Y, Z), anything but zero where marked.
    coarse
        The lattice of the spans.
    reach
        How many coarse points further.

    Returns
    -------
    (x, y, z) int32 spans; see `spans_around`.
    """
    picked = places
    for axis in range(3):
        points = coarse.origin[axis] + coarse.spacing[axis] * np.arange(coarse.shape[axis])
        index = (points - fine.origin[axis]) / fine.spacing[axis]
        # A coarse point stands for the fine ones up to its neighbours.
        span = max(1, int(np.ceil(coarse.spacing[axis] / fine.spacing[axis])))
        picked = ndimage.maximum_filter1d(picked != 0, 2 * span + 1, axis=axis, mode="constant")
        inside = (index >= -span) & (index <= fine.shape[axis] - 1 + span)
        nearest = np.clip(np.rint(index).astype(int), 0, fine.shape[axis] - 1)
        picked = np.take(picked, nearest, axis=axis)
        picked &= np.expand_dims(inside, [a for a in range(3) if a != axis])
    return spans_around(picked, (reach, reach, reach))


def _stencil(where: Array, size: int) -> tuple[Array, Array]:
    """First of four neighbours and their weights for coordinates along an axis of `size` points."""
    where = np.clip(where, 0.0, size - 1.0)
    cell = np.minimum(np.floor(where).astype(np.int64), size - 2)
    t = where - cell
    weights = np.stack(
        [
            -0.5 * t**3 + t**2 - 0.5 * t,
            1.5 * t**3 - 2.5 * t**2 + 1.0,
            -1.5 * t**3 + 2.0 * t**2 + 0.5 * t,
            0.5 * t**3 - 0.5 * t**2,
        ],
        axis=1,
    )
    first = np.clip(cell - 1, 0, size - 4)
    folded = np.zeros_like(weights)
    for tap in range(4):
        # A neighbour beyond the border is the border itself.
        slot = np.clip(cell - 1 + tap, 0, size - 1) - first
        np.add.at(folded, (np.arange(len(where)), slot), weights[:, tap])
    return first, folded
