"""Transformations of NiftyReg: fields of places or of displacements in RAS+ millimetres.

The header says which: intent 1007 ("vector"), named ``NREG_TRANS``, and its first parameter the kind.

* 0, a deformation field: ``u(p) = A_mov^-1 y(p) - p``, as SPM's;
* 1, a displacement field: ``u(p) = A_mov^-1 (A_fix p + d(p)) - p``;
* others are grids of control points or velocities, which NiftyReg itself turns into a field.

Source of the numbers: ``NREG_TRANS_TYPE`` in NiftyReg's sources, and the manual of reg_transform.
"""

from __future__ import annotations

from pathlib import Path

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import world
from iterreg.io.nifti import VECTOR_INTENT, StoredVectors, read_vectors
from iterreg.volume import Grid

__all__ = ["DEFORMATION", "DISPLACEMENT", "INTENT_NAME", "KINDS", "read", "refuse_other_kinds", "write"]

INTENT_NAME = "NREG_TRANS"
DEFORMATION, DISPLACEMENT = 0, 1
KINDS = (
    "deformation field",
    "displacement field",
    "grid of cubic B-spline control points",
    "velocity field, as places",
    "velocity field, as displacements",
    "grid of B-spline velocities",
    "grid of linear B-spline control points",
)
"""What the first parameter of the intent means."""


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read a deformation or displacement field, sampled on the fixed grid or on another one.

    Raises
    ------
    InputError
        If the header does not say that it is one of these, or as `iterreg.io.spm.read`.
    """
    stored = read_vectors(path)
    if stored.intent_name != INTENT_NAME:
        raise InputError(
            f"{path}: has the intent name {stored.intent_name!r} where NiftyReg writes {INTENT_NAME}, so "
            "whether it holds places or displacements is not said: read places with --from spm, "
            "displacements in RAS+ millimetres with --from ras"
        )
    refuse_other_kinds(stored)
    if stored.parameter == DISPLACEMENT:
        return world.from_displacements(stored, fixed, moving)
    return world.from_places(stored, fixed, moving)


def refuse_other_kinds(stored: StoredVectors) -> None:
    """Refuse control points and velocities.

    Raises
    ------
    InputError
        With what the file is, and the command that makes a field of it.
    """
    number = stored.parameter
    if number in (DEFORMATION, DISPLACEMENT):
        return
    kind = KINDS[int(number)] if number in range(len(KINDS)) else f"transformation of kind {number:g}"
    raise InputError(
        f"{stored.path}: is a {kind} of NiftyReg, not a field; make one with "
        f"`reg_transform -ref FIXED -def {stored.path.name} OUT.nii.gz` and convert that"
    )


def write(path: str | Path, field: DisplacementField) -> None:
    """Write a deformation field, (X, Y, Z, 1, 3) float32 places in RAS+ millimetres, atomically.

    Raises
    ------
    InputError
        If the field holds NaN or infinite values, or the name or folder cannot be used.
    """
    world.write_places(path, field, intent=VECTOR_INTENT, intent_name=INTENT_NAME)
