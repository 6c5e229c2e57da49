"""Headers that ITK reads otherwise than nibabel; ITK itself says how."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from iterreg.headers import SAME_GRID, grid_by_itk, judge_header
from iterreg.volume import Grid, load_image, read_grid, read_nifti

SHAPE = (6, 7, 5)


def itk_grid(path: Path) -> Grid:
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Grid(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine)


def write(
    path: Path, qform: Any = None, sform: Any = None, *, codes: tuple[int, int] = (1, 1), **fields: Any
) -> Path:
    """A volume of 0, 1, 2 … with these forms, and then bytes changed that nibabel would not write."""
    voxels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image = nib.Nifti1Image(voxels, np.eye(4) if sform is None else sform)
    if qform is not None:
        image.set_qform(qform, codes[0])
    if sform is not None:
        image.set_sform(sform, codes[1])
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<hh", content, 252, *codes)
    places = {"pixdim": (80, "<fff"), "units": (123, "<B"), "offset": (108, "<f")}
    for name, values in fields.items():
        struct.pack_into(places[name][1], content, places[name][0], *np.atleast_1d(values).tolist())
    path.write_bytes(bytes(content))
    return path


@pytest.fixture
def affine(random_grid: Callable[..., Grid]) -> np.ndarray:
    return random_grid("LPI", (1.1, 0.9, 2.0), oblique=20.0, shape=SHAPE).affine


def test_a_header_in_order_is_one_world(
    orientation: str, tmp_path: Path, random_grid: Callable[..., Grid]
) -> None:
    affine = random_grid(orientation, (1.1, 0.9, 2.0), oblique=20.0, shape=SHAPE).affine
    for codes in ((1, 1), (0, 1), (1, 0), (2, 4)):
        path = write(tmp_path / "a.nii", affine, affine, codes=codes)
        grid = read_grid(path)
        assert judge_header(path, grid) == ()
        assert grid.matches(itk_grid(path), tolerance=SAME_GRID)
        assert grid_by_itk(path, grid) is grid


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "no orientation": ("neither a qform nor an sform", {"codes": (0, 0)}),
    "negative": ("must be positive", {"pixdim": (-1.1, 0.9, 2.0)}),
    "zero": ("must be positive", {"pixdim": (0.0, 0.9, 2.0)}),
    "sizes": ("and of 1, 1, 1 in pixdim", {"codes": (0, 1), "pixdim": (1.0, 1.0, 1.0)}),
}


@pytest.mark.parametrize("name", ODD)
def test_what_itk_reads_differently_is_said(name: str, tmp_path: Path, affine: np.ndarray) -> None:
    words, fields = ODD[name]
    path = write(tmp_path / "a.nii", affine, affine, **fields)
    grid = read_grid(path)
    remarks = judge_header(path, grid)
    assert words in remarks[0].what
    theirs = itk_grid(path)
    assert not grid.matches(theirs, tolerance=SAME_GRID)
    found = grid_by_itk(path, grid)
    assert found is not None
    assert found.matches(theirs, tolerance=1e-4)
    assert f"ITK, and so ANTs and elastix, read {theirs.orientation}" in remarks[0].what


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1)])
def test_conflicting_forms(codes: tuple[int, int], tmp_path: Path, affine: np.ndarray) -> None:
    path = write(tmp_path / "a.nii", affine, np.diag([1.1, 0.9, 2.0, 1]), codes=codes)
    grid = read_grid(path)
    (remark,) = judge_header(path, grid)
    assert (remark.severity, remark.kind) == ("error", "qform and sform disagree")
    differs = not grid.matches(itk_grid(path), tolerance=SAME_GRID)
    assert (f"iterreg reads {grid.orientation}" in remark.what) == differs
    assert differs == (codes == (1, 2))
    found = grid_by_itk(path, grid)
    assert found is not None
    assert found.matches(itk_grid(path), tolerance=1e-4)


def test_sheared_axes_are_refused_by_itk(tmp_path: Path, affine: np.ndarray) -> None:
    shear = np.eye(4)
    shear[0, 1] = 0.2
    path = write(tmp_path / "a.nii", None, affine @ shear, codes=(0, 1))
    remarks = judge_header(path, read_grid(path))
    assert "sheared axes" in [remark.kind for remark in remarks]
    assert "ITK does not read it (ITK only supports orthonormal" in remarks[0].what
    assert grid_by_itk(path, read_grid(path)) is None


@pytest.mark.parametrize(("units", "factor", "word"), [(1, 1e3, "metres"), (3, 1e-3, "micrometres")])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0)])
def test_units_are_honoured_as_itk_does(
    units: int, factor: float, word: str, codes: tuple[int, int], tmp_path: Path, affine: np.ndarray
) -> None:
    path = write(tmp_path / "a.nii", affine, affine, codes=codes, units=units)
    for grid in (read_grid(path), read_nifti(path)[1]):
        np.testing.assert_allclose(grid.spacing, np.array([1.1, 0.9, 2.0]) * factor, rtol=1e-5)
        assert grid.matches(itk_grid(path), tolerance=1e-3)
    (remark,) = judge_header(path, read_grid(path))
    assert f"is in {word} by its header" in remark.what
    np.testing.assert_array_equal(load_image(path).array.ravel(), np.arange(np.prod(SHAPE)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_begin_behind_the_header(suffix: str, tmp_path: Path, affine: np.ndarray) -> None:
    import gzip

    path = write(tmp_path / "a.nii", affine, affine, offset=0.0)
    if suffix == ".nii.gz":
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"
    np.testing.assert_array_equal(load_image(path).array.ravel(), np.arange(np.prod(SHAPE)))
    (remark,) = judge_header(path, read_grid(path))
    assert "begin at byte 0" in remark.what
