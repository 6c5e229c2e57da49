"""Target registration error: of landmarks drawn as label blobs, and of points in a csv file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.text_files import read_text
from iterreg.volume import FloatArray

__all__ = ["centroids", "landmark_errors", "mean_error", "point_errors", "read_points", "vanished"]

_SPLINE_REACH = 24
"""Voxels after which a sample no longer matters to a cubic spline: its weight has fallen to 0.27 ** 24."""


def centroids(blobs: NDArray[Any]) -> dict[int, FloatArray]:
    """Mean voxel index (x, y, z) of every label but 0, ascending.

    Parameters
    ----------
    blobs
        (X, Y, Z) integer labels.

    Raises
    ------
    InputError
        If the volume is not three-dimensional or does not hold integers.
    """
    if blobs.ndim != 3 or blobs.dtype.kind not in "iub":
        raise InputError(f"landmark blobs must be a 3-D integer volume, got {blobs.dtype} of {blobs.shape}")
    voxels = np.nonzero(blobs)
    names, which = np.unique(blobs[voxels], return_inverse=True)
    counts = np.bincount(which, minlength=names.size)
    sums = [np.bincount(which, weights=axis, minlength=names.size) for axis in voxels]
    points = np.stack(sums, axis=-1) / counts[:, None]
    return {int(name): point for name, point in zip(names, points, strict=True)}


def landmark_errors(
    fixed: NDArray[Any], warped: NDArray[Any], *, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[int, float]:
    """Distance between the centroids of each fixed blob and of the moving blob warped onto it.

    LUMIR's definition: the ids are the fixed volume's, the moving blobs are warped with nearest
    neighbour (`DisplacementField.warp_labels`), and the distance is in voxels, which are millimetres there.

    Parameters
    ----------
    fixed, warped
        (X, Y, Z) integer blobs on the fixed grid.
    spacing
        Millimetres per voxel along the array axes, to measure in millimetres on other grids.

    Returns
    -------
    Landmark id -> error; NaN where the warped blob vanished (see `vanished`).

    Raises
    ------
    InputError
        If a volume does not hold integers, or the two differ in shape.
    """
    if fixed.shape != warped.shape:
        raise InputError(f"fixed landmarks of shape {fixed.shape} and warped ones of shape {warped.shape}")
    there = centroids(warped)
    nowhere = np.full(3, np.nan)
    scale = np.asarray(spacing, dtype=np.float64)
    return {
        name: float(np.linalg.norm((there.get(name, nowhere) - point) * scale))
        for name, point in centroids(fixed).items()
    }


def point_errors(
    vectors: NDArray[Any],
    fixed: FloatArray,
    moving: FloatArray,
    *,
    spacing: Sequence[float],
    dtype: type = np.float64,
) -> FloatArray:
    """Distance between where a field sends each fixed point and its moving counterpart.

    Learn2Reg's definition (``compute_tre`` in MDL-UzL/L2R): the displacement at a point is the cubic
    B-spline interpolant of the field, 0 outside the grid, and the difference in voxels is multiplied by the
    **moving** image's voxel size.

    Parameters
    ----------
    vectors
        (X, Y, Z, 3) voxel displacements on the fixed grid.
    fixed, moving
        (N, 3) voxel coordinates, row by row of the same place.
    spacing
        Millimetres per voxel of the moving image, as its header states them.
    dtype
        Of the interpolated displacements: the evaluator has float64 of a NIfTI file, float32 of an ``.npz``.

    Returns
    -------
    (N,) millimetres.

    Raises
    ------
    InputError
        If the two lists differ in length, or are not (N, 3).
    """
    from scipy.ndimage import map_coordinates

    if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != 3:
        raise InputError(
            f"fixed points of shape {fixed.shape} and moving points of shape {moving.shape}: "
            "two lists of x,y,z of the same length are needed"
        )
    # The spline's filter runs over whole lines; only the neighbourhood of the points matters.
    last = np.array(vectors.shape[:3]) - 1
    lower = np.clip(np.floor(fixed.min(axis=0)).astype(int) - _SPLINE_REACH, 0, last)
    upper = np.clip(np.ceil(fixed.max(axis=0)).astype(int) + _SPLINE_REACH, 0, last)
    box = vectors[tuple(slice(a, b + 1) for a, b in zip(lower, upper, strict=True))]
    displaced = fixed + np.stack(
        [map_coordinates(box[..., c].astype(dtype), (fixed - lower).T) for c in range(3)], axis=-1
    )
    # A point outside the grid is outside the box, which ends where the grid does.
    return np.asarray(np.linalg.norm((displaced - moving) * np.asarray(spacing, np.float64), axis=1))


def read_points(path: str | Path) -> FloatArray:
    """(N, 3) voxel coordinates of a Learn2Reg csv: one ``x,y,z`` a line, no header.

    Raises
    ------
    InputError
        If the file is missing, empty, or holds anything else.
    """
    lines = read_text(path).splitlines()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*contained no data")  # said below
            points = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as points ({error}); one x,y,z a line is needed") from error
    if points.size == 0 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(
            f"{path}: holds an array of shape {points.shape}; three finite numbers a line are needed"
        )
    return np.asarray(points, dtype=np.float64)


def vanished(errors: Mapping[int, float]) -> tuple[int, ...]:
    """The landmarks without an error, because their warped blob has no voxel left."""
    return tuple(name for name, error in errors.items() if np.isnan(error))


def mean_error(errors: Mapping[int, float]) -> float:
    """The official mean: NaN as soon as one landmark vanished, and when there is none."""
    return float(np.mean(list(errors.values()))) if errors else float("nan")
