"""How well two fields of opposite directions undo each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField

__all__ = ["InverseConsistency", "inverse_consistency"]


@dataclass(frozen=True)
class InverseConsistency:
    """Distances ``|psi(phi(p)) - p|`` in millimetres over fixed voxels p that phi sends into the moving grid.

    Attributes
    ----------
    mean, p95, max
        Of the distances; NaN where no voxel counts.
    voxels
        How many counted.
    """

    mean: float
    p95: float
    max: float
    voxels: int


def inverse_consistency(
    forward: DisplacementField, backward: DisplacementField, mask: NDArray[Any] | None = None
) -> InverseConsistency:
    """Inverse-consistency error (Christensen and Johnson, IEEE TMI 2001).

    Parameters
    ----------
    forward
        Fixed to moving grid.
    backward
        Moving to fixed grid: the field of the pair in the other direction, or a saved inverse. It is
        interpolated linearly.
    mask
        (X, Y, Z) on the fixed grid; voxels above zero count. Default: all.

    Raises
    ------
    InputError
        If the fields' grids do not fit each other or the mask.
    """
    if not (forward.fixed.matches(backward.moving) and forward.moving.matches(backward.fixed)):
        raise InputError(f"{backward!r} does not lead back along {forward!r}; they are not of one pair")
    if mask is not None and mask.shape != forward.fixed.shape:
        raise InputError(f"the mask's shape {mask.shape} is not the fixed grid's {forward.fixed.shape}")
    back = forward.compose(backward).deviation
    last = np.array(forward.moving.shape) - 1
    to_mm = forward.fixed.affine[:3, :3].T
    found = []
    for x in range(forward.fixed.shape[0]):
        chosen = np.argwhere(mask[x] > 0) if mask is not None else np.argwhere(np.ones(back.shape[1:3], bool))
        y, z = chosen.T
        place = forward.vectors[x, y, z] + np.column_stack([np.full(y.size, x), chosen])
        inside = ((place >= 0) & (place <= last)).all(axis=1)
        # np.einsum: for many small vectors faster than a matrix product with a 3 x 3.
        moved = np.einsum("ni,ic->nc", back[x, y, z][inside].astype(np.float64), to_mm)
        found.append(np.sqrt(np.einsum("nc,nc->n", moved, moved)))
    errors = np.concatenate(found)
    if errors.size == 0:
        nothing = float("nan")
        return InverseConsistency(nothing, nothing, nothing, 0)
    return InverseConsistency(
        float(errors.mean()), float(np.percentile(errors, 95)), float(errors.max()), errors.size
    )
