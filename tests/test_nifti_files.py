"""Files that promise more than they hold, and files of other kinds than NIfTI."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from iterreg.dataset.inspection import inspect_file
from iterreg.errors import InputError
from iterreg.volume import Grid, load_image, load_labels, read_grid, read_nifti

SHAPE = (6, 7, 5)


def header(shape: tuple[int, ...], dtype: str = "f8") -> bytes:
    out = nib.Nifti1Header()
    out.set_data_dtype(dtype)
    out.set_data_shape(shape)
    out["vox_offset"] = 352
    out["magic"] = b"n+1"
    return out.binaryblock + b"\0" * 4


class TestPromises:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_more_than_the_file_can_hold(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        content = header((32767,) * 3) + bytes(1000)
        path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
        for read in (read_nifti, read_grid):
            with pytest.raises(InputError, match=r"a\.nii.*281449207693656"):
                read(path)
        (finding,) = inspect_file(path, {"image"}).findings
        assert finding.kind == "unreadable file"

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_of_itk(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(sitk.Image(SHAPE, sitk.sitkUInt8), str(path))
        path.write_bytes(path.read_bytes().replace(b"6 7 5", b"32767 32767 32767"))
        for read in (read_nifti, read_grid):
            with pytest.raises(InputError, match="35181150961663"):
                read(path)

    def test_more_than_this_machine_has(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.sysconf", lambda name: 1024 if name == "SC_PAGE_SIZE" else 1)
        nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        with pytest.raises(InputError, match="this machine has"):
            read_nifti(tmp_path / "a.nii.gz")

    def test_a_bomb_is_read_no_further_than_its_header_says(self, tmp_path: Path) -> None:
        """A gigabyte behind a volume of 8 kB: neither its memory nor its time is spent."""
        path = tmp_path / "a.nii.gz"
        with gzip.open(path, "wb", compresslevel=1) as stream:
            stream.write(header((10, 10, 10)))
            for _ in range(1024):
                stream.write(bytes(2**20))
        command = f"""
import resource
from iterreg.volume import read_nifti
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    read_nifti({str(path)!r})
except ValueError as error:
    print(error)
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_maxrss - before.ru_maxrss, after.ru_utime - before.ru_utime)
"""
        done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        said, numbers = done.stdout.strip().splitlines()
        assert "goes on after the 8352 bytes" in said
        memory, seconds = map(float, numbers.split())
        assert memory < 50 * 1024  # KiB
        assert seconds < 0.5

    @pytest.mark.parametrize("kept", [100, 352, 400, -100, -1])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".nrrd", ".mha"])
    def test_cut_short(self, suffix: str, kept: int, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
        path = tmp_path / f"a{suffix}"
        if suffix in (".nrrd", ".mha"):
            sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
        else:
            kind = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
            kind(noise, np.eye(4)).to_filename(path)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(InputError, match="cannot be read as"):
            read_nifti(path)

    def test_a_little_padding_is_nothing(self, tmp_path: Path) -> None:
        content = header((2, 2, 2)) + bytes(64) + bytes(1000)
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
        assert read_nifti(tmp_path / "a.nii.gz")[0].shape == (2, 2, 2)


class TestOtherKinds:
    @pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".NII.GZ", ".NII"])
    def test_same_voxels_in_the_same_place(
        self, suffix: str, orientation: str, tmp_path: Path, random_grid: Callable[..., Grid]
    ) -> None:
        grid = random_grid(orientation, (1.1, 0.9, 2.0), oblique=25.0, shape=SHAPE)
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        source, path = tmp_path / "a.nii", tmp_path / f"b{suffix}"
        nib.Nifti1Image(array, grid.affine).to_filename(source)
        if suffix == ".mgz":
            nib.MGHImage(array, grid.affine).to_filename(path)
        elif suffix == ".NII":
            shutil.copy(source, path)
        elif suffix == ".NII.GZ":
            path.write_bytes(gzip.compress(source.read_bytes()))
        else:
            sitk.WriteImage(sitk.ReadImage(str(source)), str(path))
        found, place = read_nifti(path)
        np.testing.assert_array_equal(found, array)
        assert place.matches(grid, tolerance=1e-4)
        assert read_grid(path).matches(grid, tolerance=1e-4)
        assert inspect_file(path, {"image"}).findings == ()

    def test_int64_and_colours(self, tmp_path: Path) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int64)), str(tmp_path / "a.nrrd"))
        assert load_labels(tmp_path / "a.nrrd").array.dtype == np.int32
        sitk.WriteImage(
            sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), True), str(tmp_path / "c.nrrd")
        )
        for read in (read_nifti, read_grid):
            with pytest.raises(InputError, match="three dimensions"):
                read(tmp_path / "c.nrrd")

    def test_no_image_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
        with pytest.raises(InputError, match="convert it to NIfTI"):
            load_image(tmp_path / "a.pdf")


class TestRounding:
    @pytest.mark.parametrize("value", [0.9999, 1.0001])
    def test_labels_whole_but_for_rounding(self, value: float, tmp_path: Path) -> None:
        array = np.zeros((4, 4, 4), np.float32)
        array[1:3] = value * np.arange(1, 3)[:, np.newaxis, np.newaxis]
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        found = load_labels(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(found.array[:, 0, 0], [0, 1, 2, 0])
        inspection = inspect_file(tmp_path / "a.nii.gz", {"labels"})
        assert inspection.findings == ()
        assert inspection.ids == {1, 2}

    def test_a_linearly_resampled_one_is_none(self, tmp_path: Path) -> None:
        array = np.zeros((4, 4, 4), np.float32)
        array[1] = 0.99
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
        with pytest.raises(InputError, match=r"25\.00% of the label values"):
            load_labels(tmp_path / "a.nii.gz")
