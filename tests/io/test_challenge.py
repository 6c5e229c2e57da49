"""The challenge's files: what the evaluator would read is what we meant."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import field_name, read_field, write_field
from iterreg.io.itk import write_warp
from iterreg.volume import Grid

SHAPE = (6, 5, 4)
GRID = Grid(SHAPE, np.diag([-0.7, 0.8, 1.2, 1.0]))


@pytest.fixture
def field() -> DisplacementField:
    vectors = np.random.default_rng(0).normal(size=(*SHAPE, 3)).astype(np.float32)
    return DisplacementField(vectors, GRID, GRID)


def test_name() -> None:
    assert field_name("3455_3454") == "disp_3455_3454.nii.gz"


def test_round_trip_keeps_every_bit(tmp_path: Path, field: DisplacementField) -> None:
    write_field(tmp_path / "disp_1_2.nii.gz", field)
    back = read_field(tmp_path / "disp_1_2.nii.gz", GRID, GRID)
    assert np.array_equal(back.vectors, field.vectors)
    assert back.fixed == GRID


def test_a_foreign_reader_sees_the_array(tmp_path: Path, field: DisplacementField) -> None:
    write_field(tmp_path / "disp_1_2.nii.gz", field)
    image = nib.load(tmp_path / "disp_1_2.nii.gz")
    assert image.shape == (*SHAPE, 3)
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(image.affine, np.eye(4))
    assert np.array_equal(image.get_fdata(dtype=np.float32), field.vectors)


def test_same_field_same_bytes(tmp_path: Path, field: DisplacementField) -> None:
    names = [tmp_path / "disp_1_2.nii.gz", tmp_path / "disp_3_4.nii.gz"]
    for name in names:
        write_field(name, field)
    first, second = (name.read_bytes() for name in names)
    assert first == second
    assert first[3] == 0  # no file name in the gzip header
    assert first[4:8] == bytes(4)  # no time


def test_uncompressed(tmp_path: Path, field: DisplacementField) -> None:
    write_field(tmp_path / "a.nii", field)
    write_field(tmp_path / "a.nii.gz", field)
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == (tmp_path / "a.nii").read_bytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_components_first_and_other_dtypes(tmp_path: Path, field: DisplacementField, dtype: type) -> None:
    array = np.moveaxis(field.vectors.astype(dtype), -1, 0)
    stored = array.astype(np.float32) if dtype is np.float16 else array
    nib.Nifti1Image(stored, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    back = read_field(tmp_path / "a.nii.gz", GRID, GRID)
    np.testing.assert_array_equal(back.vectors, np.moveaxis(array, 0, -1).astype(np.float32))


class TestRefusals:
    def test_itk_warp(self, tmp_path: Path, field: DisplacementField) -> None:
        write_warp(tmp_path / "a.nii.gz", field)
        with pytest.raises(InputError, match="iterreg convert"):
            read_field(tmp_path / "a.nii.gz", GRID, GRID)

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((6, 5, 5, 3), "6x5x4x3 or 3x6x5x4"),
            ((4, 5, 6, 3), "axes are reversed"),
            ((3, 3, 2, 2), "half the resolution"),
            ((6, 5, 4), "6x5x4x3"),
        ],
    )
    def test_shape(self, tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
        nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        with pytest.raises(InputError, match=words):
            read_field(tmp_path / "a.nii.gz", GRID, GRID)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, tmp_path: Path, field: DisplacementField, bad: float) -> None:
        array = field.vectors.copy()
        array[1, 2, 3, 0] = bad
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        with pytest.raises(InputError, match="in 1 voxels"):
            read_field(tmp_path / "a.nii.gz", GRID, GRID)
        with pytest.raises(InputError, match="not written"):
            write_field(tmp_path / "b.nii.gz", DisplacementField(array, GRID, GRID))
        assert not (tmp_path / "b.nii.gz").exists()

    @pytest.mark.parametrize("keep", [0, 5, 200, 900])
    def test_truncated(self, tmp_path: Path, field: DisplacementField, keep: int) -> None:
        write_field(tmp_path / "a.nii.gz", field)
        whole = (tmp_path / "a.nii.gz").read_bytes()
        assert len(whole) > 1000
        (tmp_path / "a.nii.gz").write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read"):
            read_field(tmp_path / "a.nii.gz", GRID, GRID)

    def test_missing_and_other_names(self, tmp_path: Path, field: DisplacementField) -> None:
        with pytest.raises(InputError, match="no such file"):
            read_field(tmp_path / "a.nii.gz", GRID, GRID)
        with pytest.raises(InputError, match="must end in"):
            write_field(tmp_path / "a.mha", field)
        with pytest.raises(InputError, match="does not exist"):
            write_field(tmp_path / "nowhere" / "a.nii.gz", field)

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path, field: DisplacementField) -> None:
        target = tmp_path / "a.nii.gz"
        write_field(target, field)
        before = target.read_bytes()

        class Broken(np.ndarray):
            @property
            def T(self) -> np.ndarray:  # noqa: N802
                raise OSError("disk full")

        from iterreg.io.nifti import write_array

        with pytest.raises(OSError, match="disk full"):
            write_array(target, field.vectors.view(Broken), np.eye(4))
        assert target.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
