"""Warps of FSL (``fnirt --fout``, ``convertwarp``): millimetres along the array axes.

FSL's coordinates x of a voxel p are its index times the voxel size, counted from the other end of the first
axis where the affine's determinant is positive ("neurological" storage)::

    x = M p     with M p = s p, or s_0 (n_0 - 1 - p_0) for the first component

A relative warp is added to the fixed coordinates, an absolute one replaces them::

    u(p) = M_mov^-1 (M_fix p + d(p)) - p         u(p) = M_mov^-1 y(p) - p

Source: FSL's wiki on FNIRT and its warp utilities. Files are NIfTI of shape (X, Y, Z, 3) on the fixed grid,
intent 2006 (2007 to 2009 are spline coefficients).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import check_finite, check_vectors
from iterreg.io.coordinates import fsl_signs
from iterreg.io.nifti import StoredVectors, read_vectors, write_array
from iterreg.volume import FloatArray, Grid, apply_affine

__all__ = ["COEFFICIENTS", "FIELD_INTENT", "read", "refuse_coefficients", "write"]

FIELD_INTENT = 2006
COEFFICIENTS = {2007: "cubic spline", 2008: "discrete cosine", 2009: "quadratic spline"}


def read(path: str | Path, fixed: Grid, moving: Grid, *, absolute: bool) -> DisplacementField:
    """Read a warp sampled on the fixed grid.

    Raises
    ------
    InputError
        If it holds spline coefficients, or as `iterreg.io.challenge.read_field`.
    """
    stored = read_vectors(path)
    refuse_coefficients(stored)
    vectors = check_vectors(stored.array, path, fixed.shape)
    to_fsl = _fsl_matrix(fixed)
    from_fsl: FloatArray = np.asarray(np.linalg.inv(_fsl_matrix(moving)), dtype=np.float64)
    out = np.empty(vectors.shape, np.float32)
    for x in range(fixed.shape[0]):
        index = _plane(x, fixed)
        there = vectors[x].astype(np.float64)
        if not absolute:
            there = there + apply_affine(to_fsl, index)
        out[x] = apply_affine(from_fsl, there) - index
    return DisplacementField(out, fixed, moving)


def refuse_coefficients(stored: StoredVectors) -> None:
    """Refuse what FNIRT writes as ``--cout``.

    Raises
    ------
    InputError
        With the command that makes a field of it.
    """
    if stored.intent in COEFFICIENTS:
        raise InputError(
            f"{stored.path}: holds {COEFFICIENTS[stored.intent]} coefficients of FNIRT, not a field; make "
            f"one with `fnirtfileutils --in={stored.path.name} --ref=FIXED --out=OUT --withaff` and convert "
            "that"
        )


def write(path: str | Path, field: DisplacementField, *, absolute: bool) -> None:
    """Write (X, Y, Z, 3) float32 millimetres of FSL, atomically.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    check_finite(path, field)
    fixed, moving = _fsl_matrix(field.fixed), _fsl_matrix(field.moving)
    out = np.empty(field.vectors.shape, np.float32)
    for x in range(field.fixed.shape[0]):
        index = _plane(x, field.fixed)
        there = apply_affine(moving, index + field.vectors[x])
        out[x] = there if absolute else there - apply_affine(fixed, index)
    write_array(path, out, field.fixed.affine, intent=FIELD_INTENT)


def _fsl_matrix(grid: Grid) -> FloatArray:
    """(4, 4): voxel index -> FSL's millimetres."""
    signs, spacing = fsl_signs(grid), np.array(grid.spacing)
    matrix: FloatArray = np.diag([*(signs * spacing), 1.0])
    matrix[:3, 3] = np.where(signs < 0, (np.array(grid.shape) - 1) * spacing, 0.0)
    return matrix


def _plane(x: int, grid: Grid) -> FloatArray:
    """(Y, Z, 3) voxel indices of one plane."""
    _, rows, columns = grid.shape
    axes = np.meshgrid([float(x)], np.arange(rows), np.arange(columns), indexing="ij")
    return np.asarray(np.stack(axes, axis=-1)[0], dtype=np.float64)
