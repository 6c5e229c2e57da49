"""How regular a field is: non-diffeomorphic volume, spread and range of the Jacobian determinant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError

__all__ = ["Determinants", "NonDiffeomorphic", "determinants", "non_diffeomorphic"]


@dataclass(frozen=True)
class NonDiffeomorphic:
    """Non-diffeomorphic volume over a mask (Liu et al., IJCV 2024).

    Attributes
    ----------
    percent
        NDV: the ten-determinant volume summed over the mask's interior voxels, divided by their number, times
        100. NaN where the mask's interior is empty.
    folded_voxels, voxels
        Interior mask voxels whose volume is above zero, and all of them.
    lowest
        Smallest of the ten determinants in the mask, scaled so that an undeformed voxel has 1.
    """

    percent: float
    folded_voxels: int
    voxels: int
    lowest: float


@dataclass(frozen=True)
class Determinants:
    """Central-difference Jacobian determinants J over a mask.

    Attributes
    ----------
    sd_log
        Learn2Reg's SDlogJ: standard deviation of ``log(min(max(J + 3, 1e-9), 1e9))``.
    lowest, highest
        Range of J.
    folded, voxels
        Voxels with J not above zero, and all of them.
    """

    sd_log: float
    lowest: float
    highest: float
    folded: int
    voxels: int


def non_diffeomorphic(vectors: NDArray[Any], mask: NDArray[Any] | None = None) -> NonDiffeomorphic:
    """The challenge's NDV in one pass, in float64.

    Parameters
    ----------
    vectors
        (X, Y, Z, 3) float32 or float64 voxel displacements.
    mask
        (X, Y, Z); voxels above zero count: the moving image in LUMIR24, the fixed one in LUMIR25. Default:
        all. Only its interior counts, [1:-1] along each axis.

    Raises
    ------
    InputError
        If an axis has fewer than three voxels, or the mask is of another shape.
    """
    from iterreg.kernels.jacobian import folding

    if min(vectors.shape[:3]) < 3:
        raise InputError(f"NDV needs three voxels along each axis, got {vectors.shape[:3]}")
    volume, folded, voxels, lowest, _ = folding(vectors, _mask(mask, vectors), False)
    count = int(voxels.sum())
    percent = float(volume.sum() / count * 100) if count else float("nan")
    return NonDiffeomorphic(percent, int(folded.sum()), count, float(lowest.min()))


def determinants(vectors: NDArray[Any], mask: NDArray[Any] | None = None, *, margin: int = 2) -> Determinants:
    """Spread and range of the Jacobian determinant.

    Parameters
    ----------
    vectors
        (X, Y, Z, 3) float32 or float64 voxel displacements.
    mask
        (X, Y, Z); voxels above zero count. Default: all.
    margin
        Voxels left out along each side; Learn2Reg's SDlogJ leaves out two.

    Raises
    ------
    InputError
        If the mask is of another shape.
    """
    from iterreg.kernels.jacobian import determinant_moments

    slabs = determinant_moments(vectors, _mask(mask, vectors), margin)
    voxels, total, squares = (float(value) for value in slabs[:, :3].sum(axis=0))
    if not voxels:
        nothing = float("nan")
        return Determinants(nothing, nothing, nothing, 0, 0)
    mean = total / voxels
    spread = float(np.sqrt(max(squares / voxels - mean * mean, 0.0)))
    low, high = float(slabs[:, 3].min()), float(slabs[:, 4].max())
    return Determinants(spread, low, high, int(slabs[:, 5].sum()), int(voxels))


def _mask(mask: NDArray[Any] | None, vectors: NDArray[Any]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(vectors.shape[:3], bool)
    if mask.shape != vectors.shape[:3]:
        raise InputError(
            f"the mask's shape {mask.shape} is not the field's {vectors.shape[:3]}; "
            "a mask on the fixed grid is needed"
        )
    return np.ascontiguousarray(mask if mask.dtype == bool else mask > 0)
