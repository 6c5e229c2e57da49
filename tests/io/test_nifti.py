"""Volumes are written with their own grid, in the smallest integer type that holds them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.io.nifti import read_vectors, stored_shape, write_volume
from iterreg.volume import Grid, Volume, read_nifti

GRID = Grid((4, 5, 6), np.array([[0, 2.0, 0, 1], [-1.5, 0, 0, 2], [0, 0, 3, -7], [0, 0, 0, 1]]))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((0, 255), np.uint8), ((-1, 200), np.int16), ((0, 256), np.int16), ((0, 70_000), np.int32)],
)
def test_labels(tmp_path: Path, values: tuple[int, int], dtype: type) -> None:
    array = np.random.default_rng(0).choice(values, GRID.shape).astype(np.int32)
    write_volume(tmp_path / "labels.nii.gz", Volume(array, GRID))
    back, grid = read_nifti(tmp_path / "labels.nii.gz")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)
    assert grid.matches(GRID, tolerance=1e-5)


def test_images_and_headers(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=GRID.shape)
    write_volume(tmp_path / "image.nii", Volume(array, GRID))
    image = nib.load(tmp_path / "image.nii")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), array.astype(np.float32))
    np.testing.assert_allclose(image.get_sform(), GRID.affine)
    np.testing.assert_allclose(image.get_qform(), GRID.affine, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert stored_shape(tmp_path / "image.nii") == GRID.shape


def test_scaled_integers_are_vectors_too(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(4 * 4 * 4 * 3, dtype=np.int16).reshape(4, 4, 4, 3), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata()
    np.testing.assert_allclose(read_vectors(tmp_path / "a.nii.gz").array, expected)


def test_nifti_2_and_big_endian(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    nib.Nifti2Image(array, np.eye(4)).to_filename(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_vectors(tmp_path / "two.nii.gz").array, array)
    header = nib.Nifti1Header(endianness=">")
    nib.Nifti1Image(array, np.eye(4), header).to_filename(tmp_path / "big.nii.gz")
    np.testing.assert_array_equal(read_vectors(tmp_path / "big.nii.gz").array, array)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        stored_shape(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="cannot be read"):
        stored_shape(tmp_path / "a.nii.gz")
    rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(rgb, np.eye(4)).to_filename(tmp_path / "rgb.nii.gz")
    with pytest.raises(InputError, match="real numbers"):
        read_vectors(tmp_path / "rgb.nii.gz")
