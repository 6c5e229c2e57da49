"""What is shown of a pair: slices as pictures. Every function takes slices laid for the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONTOURS",
    "DIFFERENCE_COLOURS",
    "DIFFERENCE_LIMIT",
    "FOLDED",
    "JACOBIAN_COLOURS",
    "LOG2_LIMIT",
    "MAGNITUDE_COLOURS",
    "Colour",
    "borders",
    "difference",
    "folded",
    "grey",
    "grid_lines",
    "log_jacobian",
    "magnitude",
    "quantised",
    "ramp",
    "window",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[Any]

Colour = tuple[int, int, int]

CONTOURS: tuple[Colour, ...] = ((0, 0, 0), (60, 170, 255), (255, 150, 0))
"""Of palette indices: nothing, the fixed image's borders, the warped ones'. Told apart with every kind of
colour vision; screened over each other they are nearly white."""

FOLDED: tuple[Colour, ...] = ((0, 0, 0), (255, 230, 0))
"""Of palette indices: not folded, folded."""

LOG2_LIMIT = 2.0
"""The log-Jacobian map's colours end where volumes shrink to a quarter or grow fourfold."""

DIFFERENCE_LIMIT = 0.6
"""The difference map's colours end at this part of the intensity window."""

JACOBIAN_COLOURS: tuple[Colour, ...] = (
    (8, 29, 88), (33, 102, 172), (146, 197, 222), (247, 247, 247),
    (244, 165, 130), (178, 24, 43), (90, 0, 20),
)  # fmt: skip
"""From moving smaller than fixed to larger, equally spaced."""

DIFFERENCE_COLOURS: tuple[Colour, ...] = (
    (150, 215, 255), (40, 120, 190), (0, 0, 0), (200, 110, 0), (255, 200, 90),
)  # fmt: skip
"""From warped brighter than fixed to fixed brighter, equally spaced."""

MAGNITUDE_COLOURS: tuple[Colour, ...] = (
    (0, 0, 0), (60, 20, 95), (130, 35, 110), (205, 60, 75), (245, 130, 35), (252, 255, 165),
)  # fmt: skip
"""From not moved to moved far, equally spaced, brighter with every step."""


def window(image: Floats) -> tuple[float, float]:
    """The intensities shown black and white: the background, and the 99.7th percentile above it."""
    low = float(min(image.min(), 0.0))
    above = image[image > low]
    high = float(np.percentile(above, 99.7)) if above.size else low + 1.0
    return low, high if high > low else low + 1.0


def grey(image: Floats, limits: tuple[float, float]) -> Bytes:
    """(rows, columns) intensities as grey levels."""
    return np.asarray(_unit(image, limits) * 255 + 0.5, dtype=np.uint8)


def difference(fixed: Floats, warped: Floats, limits: tuple[tuple[float, float], ...]) -> Bytes:
    """Fixed minus warped, each scaled by its own window: orange where fixed is brighter, else blue.

    Returns
    -------
    (rows, columns, 3); black where both are equal.
    """
    signed = _unit(fixed, limits[0]) - _unit(warped, limits[1])
    return ramp(signed / DIFFERENCE_LIMIT, DIFFERENCE_COLOURS)


def log_jacobian(determinant: Floats) -> Bytes:
    """Base-2 logarithm of the Jacobian determinant: white is 1, red above, blue below.

    Returns
    -------
    (rows, columns, 3)
    """
    logarithm = np.log2(np.maximum(determinant, 2.0 ** (-2 * LOG2_LIMIT)))
    return ramp(logarithm / LOG2_LIMIT, JACOBIAN_COLOURS)


def magnitude(lengths: Floats, longest: float) -> Bytes:
    """Lengths of displacements: black is none, the brightest `longest` or more.

    Returns
    -------
    (rows, columns, 3)
    """
    return ramp(2 * lengths / longest - 1, MAGNITUDE_COLOURS)


def folded(determinant: Floats) -> Bytes:
    """(rows, columns) palette indices: 1 where the determinant is not above zero."""
    return np.asarray(determinant <= 0, dtype=np.uint8)


def borders(labels: NDArray[Any], enlarge: int) -> Bytes:
    """Borders between labels, half a voxel wide or less.

    Parameters
    ----------
    labels
        (rows, columns)
    enlarge
        Pixels along a voxel.

    Returns
    -------
    (rows · enlarge, columns · enlarge), 1 on a border.
    """
    large = labels.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    edge = np.zeros(large.shape, bool)
    edge[:-1] |= large[:-1] != large[1:]
    edge[:, :-1] |= large[:, :-1] != large[:, 1:]
    return edge.astype(np.uint8)


def quantised(lines: Bytes, levels: int) -> tuple[Bytes, tuple[Colour, ...]]:
    """Grey levels as palette indices with their colours: few of them make small files."""
    indices = np.asarray(np.rint(lines / 255 * (levels - 1)), dtype=np.uint8)
    steps = [round(255 * level / (levels - 1)) for level in range(levels)]
    return indices, tuple((step, step, step) for step in steps)


def grid_lines(
    positions: tuple[Floats, Floats], step: tuple[float, float], enlarge: int, width: float = 0.55
) -> Bytes:
    """A regular grid painted onto the moving image and warped with it.

    Parameters
    ----------
    positions
        Of each page pixel's voxel, where it lies after the map along the two page axes (rows, columns), in
        fixed voxels.
    step
        Voxels between lines along the rows and the columns.
    enlarge
        Pixels along a voxel.
    width
        Half a line's width in pixels.

    Returns
    -------
    (rows · enlarge, columns · enlarge), 255 on a line. Lines crowd where the map shrinks what it samples.
    """
    lines = np.zeros(tuple(n * enlarge for n in positions[0].shape), np.float32)
    for place, distance in zip(positions, step, strict=True):
        phase = _enlarged(place, enlarge) / distance
        slope = np.hypot(*np.gradient(phase)) if min(phase.shape) > 1 else np.ones_like(phase)
        pixels = np.abs(phase - np.rint(phase)) / np.maximum(slope, 1e-6)
        lines = np.maximum(lines, np.clip(1.0 + width - pixels, 0.0, 1.0))
    return np.asarray(lines * 255, dtype=np.uint8)


def ramp(values: Floats, colours: tuple[Colour, ...]) -> Bytes:
    """Colours of values in [-1, 1], linear between equally spaced anchors; (…, 3)."""
    table = np.array(colours, dtype=np.float64)
    levels = np.linspace(-1, 1, 256)
    anchors = np.linspace(-1, 1, len(table))
    lookup = np.stack([np.interp(levels, anchors, table[:, c]) for c in range(3)], axis=-1)
    index = (np.clip(np.nan_to_num(values), -1, 1) * 127.5 + 128).astype(np.intp)
    return np.asarray(lookup[index] + 0.5, dtype=np.uint8)


def _unit(image: Floats, limits: tuple[float, float]) -> NDArray[np.float32]:
    low, high = limits
    return np.clip((np.asarray(image, np.float32) - low) / (high - low), 0, 1)


def _enlarged(values: Floats, enlarge: int) -> NDArray[np.float64]:
    """Linear interpolation at the centres of enlarge x enlarge pixels per voxel, held at the border."""
    result = np.asarray(values, np.float64)
    for axis in (0, 1):
        count = result.shape[axis]
        place = np.clip((np.arange(count * enlarge) + 0.5) / enlarge - 0.5, 0, count - 1)
        below = np.minimum(place.astype(np.intp), max(count - 2, 0))
        above = np.minimum(below + 1, count - 1)
        part = (place - below).reshape((-1, 1) if axis == 0 else (1, -1))
        result = np.take(result, below, axis) * (1 - part) + np.take(result, above, axis) * part
    return result
