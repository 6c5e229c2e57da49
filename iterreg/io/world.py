"""Displacements in RAS+ millimetres on the fixed grid (nibabel, nitransforms, DIPY).

``u(p) = A_mov^-1 (A_fix p + d(p)) - p``: `iterreg.field.DisplacementField.from_world`. Files are NIfTI of
shape (X, Y, Z, 3) with the fixed image's affine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iterreg.field import DisplacementField
from iterreg.io.challenge import check_finite, check_vectors
from iterreg.io.nifti import VECTOR_INTENT, read_vectors, write_array
from iterreg.volume import Grid

__all__ = ["read", "write"]


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read (X, Y, Z, 3) or (3, X, Y, Z) displacements in RAS+ millimetres.

    Raises
    ------
    InputError
        As `iterreg.io.challenge.read_field`.
    """
    stored = read_vectors(path)
    return DisplacementField.from_world(check_vectors(stored.array, path, fixed.shape), fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write (X, Y, Z, 3) float32 displacements in RAS+ millimetres, atomically.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    check_finite(path, field)
    write_array(path, field.to_world().astype(np.float32), field.fixed.affine, intent=VECTOR_INTENT)
