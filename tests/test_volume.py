"""Grids and reading volumes, broken files included."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.volume import Grid, Volume, load_image, load_labels, read_grid, read_nifti


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


class TestGrid:
    def test_knows_its_orientation_and_spacing(
        self, orientation: str, random_grid: Callable[..., Grid]
    ) -> None:
        grid = random_grid(orientation, (0.7, 1.2, 2.0), oblique=10)
        assert grid.orientation == orientation
        assert grid.spacing == pytest.approx((0.7, 1.2, 2.0))
        assert orientation in repr(grid)

    def test_maps_points_both_ways(self, random_grid: Callable[..., Grid], rng: np.random.Generator) -> None:
        grid = random_grid("PIL", (0.7, 1.2, 2.0), oblique=30)
        points = rng.normal(0, 50, (4, 5, 3))
        world = grid.voxel_to_world(points)
        for index in np.ndindex(4, 5):
            np.testing.assert_allclose(world[index], (grid.affine @ [*points[index], 1])[:3])
        np.testing.assert_allclose(grid.world_to_voxel(world), points, atol=1e-10)

    def test_to_another_grid(self, random_grid: Callable[..., Grid], rng: np.random.Generator) -> None:
        one, two = random_grid("RAS", oblique=8), random_grid("SLP", (2, 1, 3), oblique=70)
        points = rng.normal(0, 10, (20, 3))
        matrix = one.to(two)
        np.testing.assert_allclose(
            points @ matrix[:3, :3].T + matrix[:3, 3],
            two.world_to_voxel(one.voxel_to_world(points)),
            atol=1e-9,
        )
        np.testing.assert_array_equal(one.to(one), np.eye(4))

    def test_equality_hash_and_matching(self) -> None:
        negative_zero = np.eye(4)
        negative_zero[0, 1] = -0.0
        one, two = Grid((2, 3, 4)), Grid((2, 3, 4), negative_zero)
        assert one == two
        assert hash(one) == hash(two)
        moved = np.eye(4)
        moved[0, 3] = 1e-2
        three = Grid((2, 3, 4), moved)
        assert one != three
        assert not one.matches(three)
        assert one.matches(three, tolerance=0.02)
        assert not one.matches(Grid((2, 3, 5)))
        assert one != "a grid"

    def test_cannot_be_changed(self) -> None:
        affine = np.eye(4)
        grid = Grid((2, 3, 4), affine)
        affine[0, 0] = 5
        assert grid.affine[0, 0] == 1
        with pytest.raises(ValueError, match="read-only"):
            grid.affine[0, 0] = 2

    def test_scales_in_other_units_are_invertible(self) -> None:
        assert Grid((2, 2, 2), np.diag([1e-6, 1e-6, 1e-6, 1])).spacing == pytest.approx((1e-6,) * 3)

    @pytest.mark.parametrize("shape", [(1, 2), (1, 2, 3, 4), (0, 2, 3), (-1, 2, 3), (1.5, 2, 3)])
    def test_refuses_shapes(self, shape: Any) -> None:
        with pytest.raises(InputError, match="three positive sizes"):
            Grid(shape)

    @pytest.mark.parametrize(
        ("affine", "message"),
        [
            (np.eye(3), "finite"),
            (np.full((4, 4), np.nan), "finite"),
            (np.diag([1, 1, 0, 1]), "invertible"),
            (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "invertible"),
            (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]), "last|end with the row"),
        ],
    )
    def test_refuses_affines(self, affine: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Grid((2, 2, 2), affine)


def test_a_volume_fits_its_grid() -> None:
    with pytest.raises(InputError, match="on a grid"):
        Volume(np.zeros((2, 2, 3)), Grid((2, 2, 2)))
    shown = repr(Volume(np.zeros((64, 64, 64), np.float32), Grid((64, 64, 64)), Path("t1.nii.gz")))
    assert "1.0 MiB" in shown
    assert "t1.nii.gz" in shown


class TestReading:
    @pytest.mark.filterwarnings("error")
    def test_what_float32_cannot_hold_is_infinite(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(np.array([0, 1, 4, 0], np.int16).reshape(2, 2, 1), np.eye(4))
        image.header.set_slope_inter(1e38, 0)
        nib.save(image, tmp_path / "a.nii")
        array, _ = read_nifti(tmp_path / "a.nii")
        np.testing.assert_array_equal(array.ravel(), np.array([0, 1e38, np.inf, 0], np.float32))
        with pytest.raises(InputError, match="infinite intensities"):
            load_image(tmp_path / "a.nii")

    def test_image(self, tmp_path: Path, rng: np.random.Generator, random_grid: Callable[..., Grid]) -> None:
        grid = random_grid("LSP", (1, 2, 0.5), oblique=9, shape=(4, 5, 6))
        array = rng.integers(0, 255, grid.shape).astype(np.uint8)
        volume = load_image(save(tmp_path / "a.nii.gz", array, grid.affine))
        assert volume.array.dtype == np.float32
        assert volume.array.flags.c_contiguous
        np.testing.assert_array_equal(volume.array, array)
        assert volume.grid.matches(grid)
        assert volume.path == tmp_path / "a.nii.gz"

    def test_scaling_is_applied(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(np.array([0.0, 0.5, 1.5, 2.0]).reshape(4, 1, 1), np.eye(4))
        image.set_data_dtype(np.int16)
        nib.save(image, tmp_path / "a.nii.gz")
        np.testing.assert_allclose(
            load_image(tmp_path / "a.nii.gz").array.ravel(), [0, 0.5, 1.5, 2], atol=1e-4
        )

    @pytest.mark.parametrize("dtype", [">i2", ">f4", "<f8", "u1"])
    def test_arrays_are_of_this_machines_byte_order(self, tmp_path: Path, dtype: str) -> None:
        image = nib.Nifti1Image(
            np.arange(8).reshape(2, 2, 2).astype(dtype),
            np.eye(4),
            header=nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<"),
        )
        image.set_data_dtype(dtype)
        nib.save(image, tmp_path / "a.nii")
        array, _ = read_nifti(tmp_path / "a.nii")
        assert array.dtype.isnative
        assert array.dtype.kind == ("f" if "f" in dtype else dtype[-2])
        np.testing.assert_array_equal(array.ravel(), range(8))

    def test_axes_of_one_are_dropped(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.nii.gz", np.zeros((3, 4, 1, 1, 1), np.uint8))
        assert read_nifti(path)[0].shape == (3, 4, 1)

    def test_labels(self, tmp_path: Path) -> None:
        for dtype in (np.uint8, np.int16, np.float32):
            array = np.array([[[0, 2], [17, 255]]], dtype)
            volume = load_labels(save(tmp_path / f"{np.dtype(dtype)}.nii.gz", array))
            assert volume.array.dtype == np.int32
            np.testing.assert_array_equal(volume.array, array)

    @pytest.mark.parametrize("bad", [0.5, np.nan])
    def test_labels_must_be_whole(self, tmp_path: Path, bad: float) -> None:
        path = save(tmp_path / "labels.nii.gz", np.array([[[0, bad]]], np.float32))
        with pytest.raises(InputError, match=r"labels\.nii\.gz: .*nearest neighbour"):
            load_labels(path)

    @pytest.mark.parametrize(
        "bad", [np.array([3e9], np.float32), np.array([np.inf], np.float32), np.array([2**31], np.uint32)]
    )
    def test_labels_must_fit(self, tmp_path: Path, bad: np.ndarray) -> None:
        with pytest.raises(InputError, match=r"labels\.nii\.gz: .*32 bits"):
            load_labels(save(tmp_path / "labels.nii.gz", bad.reshape(1, 1, 1)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_intensities_must_be_finite(self, tmp_path: Path, bad: float) -> None:
        with pytest.raises(InputError, match=r"t1\.nii\.gz: holds NaN"):
            load_image(save(tmp_path / "t1.nii.gz", np.array([[[1, bad]]], np.float32)))

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2), (3, 4, 5, 1, 3)])
    def test_three_dimensions(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"a\.nii: has shape .*three dimensions"):
            read_nifti(save(tmp_path / "a.nii", np.zeros(shape, np.uint8)))

    @pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
    def test_one_real_number_per_voxel(self, tmp_path: Path, dtype: Any) -> None:
        with pytest.raises(InputError, match="one real number per voxel"):
            read_nifti(save(tmp_path / "a.nii", np.zeros((2, 2, 2), dtype)))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"gone\.nii\.gz: there is no such file"):
            read_nifti(tmp_path / "gone.nii.gz")
        with pytest.raises(InputError, match="there is no such file"):
            read_nifti(tmp_path)

    def test_truncated_or_foreign(self, tmp_path: Path, rng: np.random.Generator) -> None:
        whole = save(
            tmp_path / "whole.nii.gz", rng.integers(0, 255, (20, 20, 20)).astype(np.uint8)
        ).read_bytes()
        broken = {
            "cut.nii.gz": whole[: len(whole) // 2],
            "empty.nii.gz": b"",
            "text.nii.gz": b"not a volume",
            "flipped.nii.gz": whole[:200] + bytes(100) + whole[300:],
            "cut.nii": gzip.decompress(whole)[:500],
            "zeros.nii": bytes(400),
            "header.nii": gzip.decompress(whole)[:100],
            "type.nii": gzip.decompress(whole)[:70] + b"\xff\x7f" + gzip.decompress(whole)[72:],
            "dims.nii": gzip.decompress(whole)[:42] + b"\xff\xff\xff\xff" + gzip.decompress(whole)[46:],
            "what.xyz": b"?",
        }
        for name, content in broken.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=name):
                read_nifti(tmp_path / name)
        with pytest.raises(InputError, match=r"cut\.nii: .*bytes instead of"):
            read_grid(tmp_path / "cut.nii")

    def test_an_affine_that_is_not_one_is_named_with_its_file(self, tmp_path: Path) -> None:
        path = save(tmp_path / "flat.nii", np.zeros((2, 2, 2), np.uint8))
        content = bytearray(path.read_bytes())
        content[280:328] = bytes(48)  # the sform's three rows
        path.write_bytes(content)
        for read in (read_nifti, read_grid):
            with pytest.raises(InputError, match=r"flat\.nii: .*invertible.*sform"):
                read(path)
