"""The known answer of the demo data set, and how far a field is from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import field_name, read_field
from iterreg.volume import read_grid

__all__ = ["load_truth", "truth_error", "truth_path"]


def truth_path(pair: Pair) -> Path:
    """Where a pair's true field lies: ``truth/disp_<pair name>.nii.gz`` beside ``imagesVal``."""
    return pair.fixed.path.parent.parent / "truth" / field_name(pair.name)


def load_truth(pair: Pair) -> DisplacementField:
    """The field a pair of the demo was made with.

    Raises
    ------
    InputError
        If there is none: only the packaged demo knows its truth.
    """
    path = truth_path(pair)
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; only the packaged demo (iterreg demo) knows the truth"
        )
    return read_field(path, read_grid(pair.fixed.path), read_grid(pair.moving.path))


def truth_error(
    field: DisplacementField, truth: DisplacementField, mask: NDArray[Any] | None = None
) -> dict[str, float]:
    """Distance between where a field and the truth send each fixed voxel.

    Parameters
    ----------
    field, truth
        On the same fixed and moving grids.
    mask
        (X, Y, Z); voxels above zero count. The fixed subject's brain; default: every voxel.

    Returns
    -------
    ``mean``, ``p95``, ``max`` in moving voxels and ``mean_mm``, ``p95_mm``, ``max_mm``.

    Raises
    ------
    InputError
        If the grids differ, or the mask is empty or of another shape.
    """
    if not (field.fixed.matches(truth.fixed) and field.moving.matches(truth.moving)):
        raise InputError(f"the field is on {field!r}, the truth on {truth!r}; compare fields of one pair")
    chosen = np.ones(truth.fixed.shape, bool) if mask is None else np.asarray(mask) > 0
    if chosen.shape != truth.fixed.shape or not chosen.any():
        raise InputError(
            f"the mask of shape {chosen.shape} with {np.count_nonzero(chosen)} voxels above zero does not "
            f"fit the fixed grid of shape {truth.fixed.shape}; use the fixed subject's"
        )
    off = field.vectors[chosen].astype(np.float64) - truth.vectors[chosen]
    voxels = np.linalg.norm(off, axis=-1)
    millimetres = np.linalg.norm(off @ truth.moving.affine[:3, :3].T, axis=-1)
    return {
        "mean": float(voxels.mean()),
        "p95": float(np.percentile(voxels, 95)),
        "max": float(voxels.max()),
        "mean_mm": float(millimetres.mean()),
        "p95_mm": float(np.percentile(millimetres, 95)),
        "max_mm": float(millimetres.max()),
    }
