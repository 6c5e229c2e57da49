"""Deformations of SPM (``y_*.nii``): each fixed voxel's **place** in the moving image, RAS+ millimetres.

``u(p) = A_mov^-1 y(p) - p``. Files are NIfTI of shape (X, Y, Z, 1, 3), intent 1007 ("vector"), called
"Mapping". SPM counts voxels from 1, but its millimetres are NIfTI's.
"""

from __future__ import annotations

from pathlib import Path

from iterreg.field import DisplacementField
from iterreg.io import world
from iterreg.io.nifti import VECTOR_INTENT, read_vectors
from iterreg.volume import Grid

__all__ = ["INTENT_NAME", "read", "write"]

INTENT_NAME = "Mapping"


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read places in RAS+ millimetres, sampled on the fixed grid or on another one.

    Raises
    ------
    InputError
        If the file cannot be read, holds no vectors or NaN, or covers no voxel of the fixed image.
    """
    return world.from_places(read_vectors(path), fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write (X, Y, Z, 1, 3) float32 places in RAS+ millimetres, atomically.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    world.write_places(path, field, intent=VECTOR_INTENT, intent_name=INTENT_NAME)
