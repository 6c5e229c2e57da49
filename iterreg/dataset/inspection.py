"""What one file of a data set says about itself: its grid, its values, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from iterreg.dataset.findings import Finding, Severity
from iterreg.dataset.suitability import Foreground
from iterreg.errors import InputError
from iterreg.nifti_files import UNREADABLE, open_header, open_whole
from iterreg.volume import Grid, foreground

__all__ = ["SAME_GRID", "Inspection", "Role", "inspect_file"]

Role = Literal["image", "labels", "landmarks", "mask"]

SAME_GRID = 0.05
"""Two grids are one when no corner lies further apart than this, in voxels: far above what the rounding of
NIfTI's float32 affines and quaternions gives (1e-3), far below what matters to a registration."""

_Report = Callable[..., None]


@dataclass(frozen=True)
class Inspection:
    """What was found in one file.

    Attributes
    ----------
    findings
        Errors and notes about the file alone.
    grid
        None when the file has none that can be used.
    ids
        The label ids above zero of a label volume, mask or landmark volume, when voxels were read.
    points
        (N, 3) voxel coordinates of a landmark csv.
    foreground
        Where an image is not background, or a mask is above zero, when voxels were read.
    """

    findings: tuple[Finding, ...]
    grid: Grid | None = None
    ids: frozenset[int] | None = None
    points: NDArray[np.float64] | None = None
    foreground: Foreground | None = None


def inspect_file(path: Path, roles: Collection[Role], *, read_voxels: bool = True) -> Inspection:
    """Read one file and judge it. Never raises for what is in the file.

    Parameters
    ----------
    roles
        What the data set uses it as.
    read_voxels
        Read all of it, to the last byte and checksum; otherwise only the header (csv files are read
        in any case).
    """
    findings: list[Finding] = []

    def report(kind: str, what: str, do: str, severity: Severity = "error") -> None:
        findings.append(Finding(severity, path, None, what, do, kind))

    if not path.is_file():
        if path.exists():
            report("missing file", "is not a file", "name the image file itself")
        else:
            report(
                "missing file",
                "does not exist",
                "put it there, or say with --root where the data set's relative paths start",
            )
        return Inspection(tuple(findings))
    if path.name.endswith(".csv"):
        points = _points(path, report)
        return Inspection(tuple(findings), points=points)
    try:
        image = open_whole(path) if read_voxels else open_header(path)
        grid = _grid(image, report)
        if grid is None:
            return Inspection(tuple(findings))
        array = _voxels(image) if read_voxels else None
    except UNREADABLE as error:
        report(
            "unreadable file",
            f"cannot be read as NIfTI ({type(error).__name__}: {error})",
            "it is truncated, damaged or of another format: copy, download or convert it again",
        )
        return Inspection(tuple(findings))
    ids: frozenset[int] | None = None
    inside: Foreground | None = None
    if array is not None:
        if "image" in roles:
            _judge_intensities(array, report)
            inside = Foreground.of(foreground(array))
        elif "mask" in roles:
            inside = Foreground.of(array > 0)
        for role in ("labels", "landmarks", "mask"):
            if role in roles:
                ids = _judge_labels(array, role, report)
                break
    return Inspection(tuple(findings), grid, ids, foreground=inside)


# -- reading ------------------------------------------------------------------------------------


def _voxels(image: Any) -> NDArray[Any]:
    """(X, Y, Z) scaled values, in the dtype `iterreg.volume.read_nifti` gives them."""
    raw: NDArray[Any] = np.asanyarray(image.dataobj)
    while raw.ndim > 3:
        raw = raw[..., 0]
    if raw.dtype.kind in "iub":
        return raw
    with np.errstate(over="ignore"):
        return raw.astype(np.float32, copy=False)


def _grid(image: Any, report: _Report) -> Grid | None:
    shape = tuple(int(n) for n in image.shape)
    spatial = shape
    while len(spatial) > 3 and spatial[-1] == 1:
        spatial = spatial[:-1]
    if len(spatial) != 3:
        report(
            "wrong dimensions",
            f"has shape {'x'.join(map(str, shape))}, which is not one volume",
            "extract one three-dimensional volume",
        )
        return None
    dtype = image.header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iubf":
        report(
            "wrong voxel type",
            f"stores voxels of type {dtype}, which are not scalars",
            "convert it to one real-valued channel",
        )
        return None
    try:
        grid = Grid(cast(Any, spatial), image.affine)
    except InputError as error:
        report("bad affine", f"places its voxels nowhere ({error})", "correct its sform or qform")
        return None
    _judge_forms(image, grid, report)
    return grid


def _judge_forms(image: Any, grid: Grid, report: _Report) -> None:
    """Compare qform and sform: nibabel follows the sform, other software may follow the qform."""
    header = image.header
    if "qform_code" not in header:
        return
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    if qcode == 0 and scode == 0:
        report(
            "no orientation",
            "has neither a qform nor an sform, so its orientation is a guess",
            "set its sform if left and right matter",
            "note",
        )
    if qcode <= 0 or scode <= 0:
        return
    do = "decide which is right and copy it over the other (set both, or set one's code to 0)"
    try:
        qform = Grid(grid.shape, header.get_qform())
        sform = Grid(grid.shape, header.get_sform())
    except (InputError, HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        report("qform and sform disagree", f"has an invalid qform or sform ({error})", do)
        return
    if not sform.matches(qform, tolerance=SAME_GRID):
        report(
            "qform and sform disagree",
            f"has a qform (code {qcode}) and an sform (code {scode}) that place it differently",
            do,
        )


def _points(path: Path, report: _Report) -> NDArray[np.float64] | None:
    do = "write one point a line as x,y,z in voxels of its image, without a header"
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [[float(cell) for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        report("bad landmarks", f"cannot be read as points ({error})", do)
        return None
    if not rows:
        report("empty labels", "holds no point", do)
        return None
    if any(len(row) != 3 for row in rows) or not np.isfinite(np.array(rows, dtype=float)).all():
        report("bad landmarks", "holds lines that are not three finite numbers", do)
        return None
    return np.array(rows, dtype=np.float64)


# -- judging ------------------------------------------------------------------------------------


def _judge_intensities(array: NDArray[Any], report: _Report) -> None:
    low, high = array.min(), array.max()  # both are NaN when any voxel is
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        report("not finite", f"holds {count} NaN or infinite voxels", "replace them, by 0 in the background")
    elif low == high:
        report(
            "constant image",
            f"holds the value {low:g} everywhere",
            "look where the image was lost and make it again",
        )
    elif low < 0:
        report(
            "negative intensities",
            f"has intensities down to {low:g}; engines differ in what they make of them, and the challenge's "
            "measures take voxels above 0 for the brain",
            "shift or clip it if 0 is not its background",
            "note",
        )


_WORDS: dict[Role, str] = {"labels": "label", "landmarks": "landmark", "mask": "mask"}


def _judge_labels(array: NDArray[Any], role: Role, report: _Report) -> frozenset[int] | None:
    word = _WORDS[role]
    if array.dtype.kind == "f":
        if not np.isfinite(array.min()) or not np.isfinite(array.max()):
            report("bad labels", f"holds NaN or infinite {word} values", "replace them by 0")
            return None
        if not np.array_equal(np.rint(array), array):
            report(
                "bad labels",
                f"holds {word} values that are not whole numbers",
                "it was probably resampled with linear interpolation: resample it with nearest neighbour",
            )
            return None
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        report(
            "bad labels",
            f"holds {word} values from {low} to {high}",
            f"number them from 0 (background) to {np.iinfo(np.int32).max} at most",
        )
        return None
    if high == 0:
        report("empty labels", f"is an empty {word} volume", "make it again, or take the file away")
        return frozenset()
    if high < 2**20:
        present = np.flatnonzero(np.bincount(array.astype(np.int32, copy=False).ravel(order="K")))
    else:
        present = np.unique(array)
    return frozenset(int(i) for i in present if i > 0)
