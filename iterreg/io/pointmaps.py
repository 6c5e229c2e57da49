"""Chains of transforms as functions of world points, sampled into one field.

Foreign transforms (affine matrices, warps on a grid of their own, B-splines) map points to points
in millimetres. Composing the functions and sampling once on the fixed grid avoids resampling a
field at every link of the chain.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError, InputWarning
from iterreg.field import DisplacementField
from iterreg.volume import FloatArray, Grid, apply_affine

__all__ = [
    "PointMap",
    "affine_map",
    "bspline_map",
    "chain",
    "densify",
    "displacement_map",
    "sum_of",
]

PointMap = Callable[[FloatArray], tuple[FloatArray, NDArray[np.bool_]]]
"""(N, 3) float64 RAS+ millimetres -> where they go, the same; and (N,) whether the map is defined there."""

_POINTS_AT_ONCE = 2_000_000


def affine_map(matrix: ArrayLike) -> PointMap:
    """The map of a (4, 4) matrix in RAS+ millimetres."""
    fixed_matrix = np.array(matrix, dtype=np.float64)

    def apply(points: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        return apply_affine(fixed_matrix, points), np.ones(len(points), bool)

    return apply


def displacement_map(displacement: ArrayLike, grid: Grid) -> PointMap:
    """The map ``x -> x + d(x)`` of a sampled displacement, ITK's DisplacementFieldTransform.

    Linear interpolation inside ``[-0.5, n - 0.5)`` (constant in the outer half voxel), no displacement
    beyond.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3), d in RAS+ millimetres on `grid`.
    """
    vectors = np.ascontiguousarray(displacement, dtype=np.float32)
    upper = np.array(grid.shape) - 0.5
    to_index: FloatArray = np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)

    def apply(points: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        from iterreg.kernels.sampling import sample_field

        index = apply_affine(to_index, points)
        inside: NDArray[np.bool_] = np.asarray(((index >= -0.5) & (index < upper)).all(axis=-1))
        displaced: FloatArray = sample_field(vectors, index)
        displaced[~inside] = 0.0
        displaced += points
        return displaced, inside

    return apply


def bspline_map(coefficients: ArrayLike, grid: Grid, order: int = 3) -> PointMap:
    """The map ``x -> x + sum_k c_k beta((x - x_k) / h)`` of a B-spline control grid.

    As in ITK and elastix, a point whose support leaves the control grid is not moved
    (Rueckert et al., IEEE TMI 1999; Unser, IEEE Signal Processing Magazine 1999).

    Parameters
    ----------
    coefficients
        (X, Y, Z, 3), c_k in RAS+ millimetres on the control points of `grid`.
    order
        1, 2 or 3.

    Raises
    ------
    InputError
        If the order is another one.
    """
    # float64 contiguous per component, because scipy samples one scalar array at a time
    components: FloatArray = np.ascontiguousarray(
        np.moveaxis(np.asarray(coefficients, dtype=np.float64), -1, 0)
    )
    if order not in (1, 2, 3):
        raise InputError(f"B-splines of order 1, 2 and 3 are known, not {order}; check the transform file")
    low = (order - 1) / 2
    high = np.array(grid.shape) - 1 - low
    to_index: FloatArray = np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)

    def apply(points: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        from scipy.ndimage import map_coordinates

        index = apply_affine(to_index, points)
        inside: NDArray[np.bool_] = np.asarray(((index >= low) & (index <= high)).all(axis=-1))
        moved = points.copy()
        chosen: FloatArray = index[inside].T
        for c in range(3):
            moved[inside, c] += map_coordinates(
                components[c], chosen, order=cast(Any, order), prefilter=False, mode="nearest"
            )
        return moved, inside

    return apply


def chain(maps: Sequence[PointMap]) -> PointMap:
    """The map that applies the first of `maps` first; it is defined where each of them is."""

    def apply(points: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        inside = np.ones(len(points), bool)
        for one in maps:
            points, there = one(points)
            inside &= there
        return points, inside

    return apply


def sum_of(first: PointMap, second: PointMap) -> PointMap:
    """``x -> first(x) + second(x) - x``: both displacements, taken at the same point."""

    def apply(points: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        (one, here), (other, there) = first(points), second(points)
        return one + other - points, here & there

    return apply


def densify(maps: Sequence[PointMap], fixed: Grid, moving: Grid, *, source: str) -> DisplacementField:
    """Sample a chain on the fixed grid: ``u(p) = A_mov^-1 T(A_fix p) - p``.

    Parameters
    ----------
    maps
        Fixed points to moving points; the first is applied first to the fixed point.
    source
        The file or files they were read from, for messages.

    Raises
    ------
    InputError
        If the maps are defined nowhere on the fixed grid.

    Warns
    -----
    InputWarning
        If they are defined on a part of it only: elsewhere the one that ends there displaces nothing.
    """
    apply = chain(maps)
    to_moving: FloatArray = np.asarray(np.linalg.inv(moving.affine), dtype=np.float64)
    vectors = np.empty((*fixed.shape, 3), np.float32)
    plane = fixed.shape[1] * fixed.shape[2]
    step = max(1, _POINTS_AT_ONCE // plane)
    covered = 0
    for start in range(0, fixed.shape[0], step):
        stop = min(start + step, fixed.shape[0])
        index = _indices(start, stop, fixed.shape)
        places, inside = apply(apply_affine(fixed.affine, index))
        covered += int(np.count_nonzero(inside))
        moved = apply_affine(to_moving, places)
        vectors[start:stop] = (moved - index).reshape(stop - start, *fixed.shape[1:], 3)
    _judge_cover(covered, fixed, source)
    return DisplacementField(vectors, fixed, moving)


def _judge_cover(covered: int, fixed: Grid, source: str) -> None:
    if covered == 0:
        raise InputError(
            f"{source}: lies elsewhere in space and covers no voxel of the fixed image, {fixed!r}; give the "
            "images it was made for, with the headers they had"
        )
    if covered < fixed.size:
        warnings.warn(
            f"{source}: covers {100 * covered / fixed.size:.1f} % of the fixed image's voxels; elsewhere "
            "it displaces nothing, as in ITK. See that these are the images it was made for",
            InputWarning,
            stacklevel=3,
        )


def _indices(start: int, stop: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    axes = (np.arange(start, stop), np.arange(shape[1]), np.arange(shape[2]))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float64)
