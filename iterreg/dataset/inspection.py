"""What one file of a data set says about itself: its grid, its values, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.findings import Finding, Severity
from iterreg.dataset.suitability import Foreground, is_sheared
from iterreg.errors import InputError
from iterreg.headers import SAME_GRID, judge_header
from iterreg.nifti_files import UNREADABLE, kind_of, open_header, open_whole
from iterreg.volume import ROUNDING, Grid, foreground

__all__ = ["SAME_GRID", "Inspection", "Role", "inspect_file"]

Role = Literal["image", "labels", "landmarks", "mask"]

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
    patchy
        Whether an image's voxels look like labels: whole numbers, nearly all equal to their neighbours.
    foreground
        Where an image is not background, or a mask is above zero, when voxels were read.
    """

    findings: tuple[Finding, ...]
    grid: Grid | None = None
    ids: frozenset[int] | None = None
    points: NDArray[np.float64] | None = None
    patchy: bool = False
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
        grid = _grid(path, image, report)
        if grid is None:
            return Inspection(tuple(findings))
        array = _voxels(image) if read_voxels else None
    except UNREADABLE as error:
        report(
            "unreadable file",
            f"cannot be read as {kind_of(path)} ({type(error).__name__}: {error})",
            "it is truncated, damaged or of another format: copy or download it again, or convert it to "
            "NIfTI",
        )
        return Inspection(tuple(findings))
    ids: frozenset[int] | None = None
    patchy = False
    inside: Foreground | None = None
    if array is not None:
        if "image" in roles:
            _judge_intensities(array, report)
            patchy = _is_patchy(array)
            inside = Foreground.of(foreground(array))
        elif "mask" in roles:
            inside = Foreground.of(array > 0)
        for role in ("labels", "landmarks", "mask"):
            if role in roles:
                ids = _judge_labels(array, role, report)
                break
    return Inspection(tuple(findings), grid, ids, patchy=patchy, foreground=inside)


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


def _grid(path: Path, image: Any, report: _Report) -> Grid | None:
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
    for remark in judge_header(path, grid):
        if remark.kind == "sheared axes" and is_sheared(grid):
            continue  # an error of the image, which engines refuse
        report(remark.kind, remark.what, remark.do, remark.severity)
    return grid


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


_PATCHY = 0.7
"""Share of equal neighbours above zero: 0.90 to 1 in label maps of 1 mm, below 0.1 in scans of 8 bits."""


def _is_patchy(array: NDArray[Any]) -> bool:
    """Whether voxels are whole numbers from 0 and mostly equal to the next along the second axis."""
    here, there = array[:, :-1], array[:, 1:]
    inside = (here > 0) & (there > 0)
    equal = np.count_nonzero((here == there) & inside)
    if equal == 0 or equal < _PATCHY * np.count_nonzero(inside):
        return False
    low = array.min()
    if low < 0 or low == array.max():
        return False
    return array.dtype.kind in "iub" or bool(np.array_equal(np.rint(array), array))


_WORDS: dict[Role, str] = {"labels": "label", "landmarks": "landmark", "mask": "mask"}


def _judge_labels(array: NDArray[Any], role: Role, report: _Report) -> frozenset[int] | None:
    word = _WORDS[role]
    if array.dtype.kind == "f":
        if not np.isfinite(array.min()) or not np.isfinite(array.max()):
            report("bad labels", f"holds NaN or infinite {word} values", "replace them by 0")
            return None
        whole = np.rint(array)
        if (np.abs(array - whole) > ROUNDING).any():
            report(
                "bad labels",
                f"holds {word} values that are not whole numbers",
                "it was probably resampled with linear interpolation: resample it with nearest neighbour",
            )
            return None
        array = whole
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
