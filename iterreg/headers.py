"""What is odd about where an image's header places its voxels, and where ITK would place them instead.

Field files made by ANTs, elastix or SimpleITK live in the world as ITK reads the images; iterreg and most
Python tools see it as nibabel does. For a header in order both are one world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.spatialimages import HeaderDataError

from iterreg.errors import InputError
from iterreg.itk_files import affine_by_itk
from iterreg.nifti_files import MILLIMETRES, UNREADABLE, stated_header
from iterreg.volume import Grid

__all__ = ["SAME_GRID", "Remark", "grid_by_itk", "judge_header"]

SAME_GRID = 0.05
"""Two grids are one when no corner lies further apart than this, in voxels: far above what the rounding of
NIfTI's float32 affines and quaternions gives (1e-3), far below what matters to a registration."""

_COPY = "decide which is right and copy it over the other (set both, or set one's code to 0)"


@dataclass(frozen=True)
class Remark:
    """One thing about a header.

    Attributes
    ----------
    severity
        An error where the header says two things; a note where it says one that others may not understand.
    kind
        A few words that remarks of one sort share.
    what, do
        What was found, and what to do about it (``""`` when there is nothing to do).
    """

    severity: Literal["error", "note"]
    kind: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what}; {self.do}" if self.do else self.what


def judge_header(path: Path, grid: Grid) -> tuple[Remark, ...]:
    """Everything that a NIfTI header says about its place which is doubtful, or which ITK reads otherwise.

    Parameters
    ----------
    grid
        Of the file, as `iterreg.volume.read_grid` gives it.

    Returns
    -------
    tuple of Remark
        Empty for a header in order, and for files of another kind: there both readers follow one rule. The
        first one also says what ITK makes of the header, where that is something else.
    """
    try:
        header = stated_header(path)
    except UNREADABLE:
        return ()  # whoever opens the file says so
    if header is None:
        return ()
    remarks = list(_oddities(header, grid))
    difference = _difference(path, grid) if remarks else ""
    if difference:
        remarks[0] = replace(remarks[0], what=f"{remarks[0].what}: {difference}")
    return tuple(remarks)


def grid_by_itk(path: Path, grid: Grid) -> Grid | None:
    """The file's grid as ITK reads it: `grid` itself where its header is in order, None if ITK refuses it."""
    if not judge_header(path, grid):
        return grid
    affine = affine_by_itk(path)
    return None if isinstance(affine, str) else Grid(grid.shape, affine)


def _oddities(header: Any, grid: Grid) -> Iterator[Remark]:
    """What the header alone shows; whatever makes ITK read another place is among it."""
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    unit = str(header.get_xyzt_units()[0]) if int(header["xyzt_units"]) & 7 in (0, 1, 2, 3) else "unknown"
    if unit in MILLIMETRES:
        yield Remark(
            "note",
            "another unit",
            f"is in {'metres' if unit == 'meter' else 'micrometres'} by its header, and read so: voxels of "
            f"{' x '.join(f'{s:.3g}' for s in grid.spacing)} mm",
            "if its numbers are millimetres all the same, correct the header's xyzt_units",
        )
    if (pixdim <= 0).any() or not np.isfinite(pixdim).all():
        yield Remark(
            "note",
            "voxel sizes not positive",
            f"has the voxel sizes {', '.join(f'{p:g}' for p in pixdim)} in pixdim, which must be positive",
            "write the header again, the orientation in its sform or qform",
        )
    offset, smallest = float(header["vox_offset"]), header.template_dtype.itemsize + 4
    if offset < smallest and header["magic"].item().startswith(b"n+"):
        yield Remark(
            "note",
            "voxels within the header",
            f"says that its voxels begin at byte {offset:g}, within the header; they are read from byte "
            f"{smallest}, where ITK may read them shifted",
            "write the file again",
        )
    if qcode <= 0 and scode <= 0:
        yield Remark(
            "note",
            "no orientation",
            "has neither a qform nor an sform, so its orientation is a guess",
            "set its sform if left and right matter",
        )
    elif qcode > 0 and scode > 0:
        yield from _conflict(header, grid, qcode, scode)
    elif scode > 0 and not np.allclose(np.abs(pixdim) * MILLIMETRES.get(unit, 1.0), grid.spacing, rtol=1e-3):
        yield Remark(
            "note",
            "voxel sizes and sform disagree",
            f"has voxels of {', '.join(f'{s:.4g}' for s in grid.spacing)} mm by its sform and of "
            f"{', '.join(f'{p:.4g}' for p in pixdim)} in pixdim",
            "correct the one that is wrong",
        )
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    if scode > 0 and np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        yield Remark(
            "note",
            "sheared axes",
            "has axes that are not perpendicular to each other, which ITK's images cannot have",
            "resample it onto a grid without shear before using it with ANTs or elastix",
        )


def _conflict(header: Any, grid: Grid, qcode: int, scode: int) -> Iterator[Remark]:
    try:
        # pixdim's own oddities are another remark
        sizes = np.abs(np.array(header["pixdim"][1:4]))
        mended = header.copy()
        mended["pixdim"][1:4] = np.where(sizes > 0, sizes, 1.0)
        qform, sform = Grid(grid.shape, mended.get_qform()), Grid(grid.shape, mended.get_sform())
    except (InputError, HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        yield Remark("error", "qform and sform disagree", f"has an invalid qform or sform ({error})", _COPY)
        return
    if not sform.matches(qform, tolerance=SAME_GRID):
        yield Remark(
            "error",
            "qform and sform disagree",
            f"has a qform (code {qcode}) and an sform (code {scode}) that place it differently",
            _COPY,
        )


def _difference(path: Path, grid: Grid) -> str:
    """What ITK makes of the header, where that is something else."""
    affine = affine_by_itk(path)
    if isinstance(affine, str):
        return f"ITK does not read it ({affine})"
    try:
        theirs = Grid(grid.shape, affine)
    except InputError as error:
        return f"ITK places it nowhere ({error})"
    if theirs.matches(grid, tolerance=SAME_GRID):
        return ""
    return f"ITK, and so ANTs and elastix, read {_place(theirs)}, iterreg reads {_place(grid)}"


def _place(grid: Grid) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in grid.spacing)
    origin = ", ".join(f"{x:.4g}" for x in grid.affine[:3, 3])
    return f"{grid.orientation}, {spacing} mm, first voxel at ({origin})"
