"""Target registration error of landmarks drawn as label blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError

__all__ = ["centroids", "landmark_errors", "mean_error", "vanished"]


def centroids(blobs: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
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


def vanished(errors: Mapping[int, float]) -> tuple[int, ...]:
    """The landmarks without an error, because their warped blob has no voxel left."""
    return tuple(name for name, error in errors.items() if np.isnan(error))


def mean_error(errors: Mapping[int, float]) -> float:
    """The official mean: NaN as soon as one landmark vanished, and when there is none."""
    return float(np.mean(list(errors.values()))) if errors else float("nan")
