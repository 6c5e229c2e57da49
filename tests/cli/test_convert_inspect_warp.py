"""The commands end to end, on files."""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter

from iterreg.cli import convert, inspect, warp
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import challenge, itk
from iterreg.volume import Grid, Volume, load_labels, read_nifti

FIXED = Grid((16, 14, 12), np.array([[-1.1, 0, 0, 8], [0, 0, 0.9, -6], [0, -1.2, 0, 7], [0, 0, 0, 1.0]]))
MOVING = Grid((15, 16, 14), np.array([[1.0, 0, 0, -8], [0, 1.0, 0, -8], [0, 0, 1.3, -9], [0, 0, 0, 1.0]]))


def iterreg(*arguments: object) -> int:
    """What the main program does, without catching errors."""
    parser = argparse.ArgumentParser(prog="iterreg")
    subparsers = parser.add_subparsers(dest="command", required=True)
    commands = {"convert": convert, "inspect": inspect, "warp": warp}
    for module in commands.values():
        module.add_parser(subparsers)
    args = parser.parse_args([str(a) for a in arguments])
    return commands[args.command].run(args)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fixed and moving image, labels, and a field between them that is in no way trivial."""
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.normal(size=MOVING.shape), 1.5).astype(np.float32)
    image -= image.min()
    identity = DisplacementField.identity(FIXED, MOVING)
    p = np.stack(np.meshgrid(*[np.arange(n) for n in FIXED.shape], indexing="ij"), axis=-1)
    wave = np.stack([1.3 + np.sin(p @ w) for w in ([0.3, 0.1, 0], [0.1, 0.2, 0.3], [0, 0.4, 0.1])], axis=-1)
    field = DisplacementField(identity.vectors + wave.astype(np.float32), FIXED, MOVING)
    nib.Nifti1Image(image, MOVING.affine).to_filename(tmp_path / "moving.nii.gz")
    labels = np.digitize(image, np.quantile(image, [0.3, 0.6])).astype(np.int16)
    nib.Nifti1Image(labels, MOVING.affine).to_filename(tmp_path / "labels.nii.gz")
    fixed = field.warp_image(Volume(image, MOVING)).array
    nib.Nifti1Image(fixed, FIXED.affine).to_filename(tmp_path / "fixed.nii.gz")
    challenge.write_field(tmp_path / "disp_1_2.nii.gz", field)
    itk.write_warp(tmp_path / "1Warp.nii.gz", field)
    return tmp_path


def pair(folder: Path) -> list[object]:
    return ["--fixed", folder / "fixed.nii.gz", "--moving", folder / "moving.nii.gz"]


class TestConvert:
    def test_there_and_back(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert iterreg("convert", folder / "1Warp.nii.gz", folder / "disp_3_4.nii.gz", *pair(folder)) == 0
        assert "written as challenge" in capsys.readouterr().out
        fields = [
            challenge.read_field(folder / f"disp_{name}.nii.gz", FIXED, MOVING) for name in ("1_2", "3_4")
        ]
        np.testing.assert_allclose(fields[1].vectors, fields[0].vectors, atol=1e-4)
        arguments = [folder / "disp_3_4.nii.gz", folder / "grid.npy", "--to", "torch"]
        assert iterreg("convert", *arguments, *pair(folder)) == 0
        arguments = [folder / "grid.npy", folder / "disp_5_6.nii.gz", "--from", "torch"]
        assert iterreg("convert", *arguments, *pair(folder)) == 0
        last = challenge.read_field(folder / "disp_5_6.nii.gz", FIXED, MOVING)
        np.testing.assert_allclose(last.vectors, fields[0].vectors, atol=1e-4)

    def test_a_list_of_ants_transforms(self, folder: Path) -> None:
        shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
        sitk.WriteTransform(shift, str(folder / "0GenericAffine.mat"))
        files = [folder / "1Warp.nii.gz", f"[{folder / '0GenericAffine.mat'},1]"]
        assert iterreg("convert", *files, folder / "disp_7_8.nii.gz", *pair(folder)) == 0
        before = challenge.read_field(folder / "disp_1_2.nii.gz", FIXED, MOVING).vectors
        after = challenge.read_field(folder / "disp_7_8.nii.gz", FIXED, MOVING).vectors
        expected = np.array([1.0, 2.0, -3.0]) / [1.0, 1.0, 1.3]  # the inverse shift, in RAS moving voxels
        np.testing.assert_allclose(after - before, np.broadcast_to(expected, before.shape), atol=1e-3)

    def test_invert(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [folder / "disp_1_2.nii.gz", folder / "disp_2_1.nii.gz", *pair(folder), "--invert"]
        assert iterreg("convert", *arguments) == 0
        assert "residual" in capsys.readouterr().out
        forward = challenge.read_field(folder / "disp_1_2.nii.gz", FIXED, MOVING)
        inverse = challenge.read_field(folder / "disp_2_1.nii.gz", MOVING, FIXED)
        centre = np.array([[8.0, 7.0, 6.0]])
        np.testing.assert_allclose(inverse.warp_points(forward.warp_points(centre)), centre, atol=0.05)

    def test_doubt_is_refused(self, folder: Path) -> None:
        (folder / "disp_1_2.nii.gz").rename(folder / "field.nii.gz")
        with pytest.raises(InputError, match="iterreg inspect"):
            iterreg("convert", folder / "field.nii.gz", folder / "disp_1_2.nii.gz", *pair(folder))
        with pytest.raises(InputError, match="--to"):
            iterreg("convert", folder / "1Warp.nii.gz", folder / "out.nii.gz", *pair(folder))
        assert not (folder / "out.nii.gz").exists()

    def test_wrong_pair_is_refused(self, folder: Path) -> None:
        swapped = ["--fixed", folder / "moving.nii.gz", "--moving", folder / "fixed.nii.gz"]
        with pytest.raises(InputError, match="15x16x14x3"):
            iterreg("convert", folder / "disp_1_2.nii.gz", folder / "a_Warp.nii.gz", *swapped)


class TestInspect:
    def test_alone(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert iterreg("inspect", folder / "1Warp.nii.gz") == 0
        out = capsys.readouterr().out
        assert "format    itk" in out
        assert "WARNING: The challenge's evaluator rejects five dimensions" in out

    def test_with_images(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert iterreg("inspect", folder / "disp_1_2.nii.gz", *pair(folder)) == 0
        out = capsys.readouterr().out
        assert "Most similar: voxels; read it with --from challenge." in out
        assert "NCC  1.000" in out

    def test_no_displacement_wins(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        same = ["--fixed", folder / "moving.nii.gz", "--moving", folder / "moving.nii.gz"]
        wrong = np.random.default_rng(1).normal(0, 3, (*MOVING.shape, 3)).astype(np.float32)
        challenge.write_field(folder / "disp_9_9.nii.gz", DisplacementField(wrong, MOVING, MOVING))
        assert iterreg("inspect", folder / "disp_9_9.nii.gz", *same) == 0
        assert "No reading is better than no displacement" in capsys.readouterr().out

    def test_undecided(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tiny = np.random.default_rng(1).normal(0, 0.003, (*FIXED.shape, 3)).astype(np.float32)
        vectors = DisplacementField.identity(FIXED, MOVING).vectors + tiny
        itk.write_warp(folder / "tiny.nii.gz", DisplacementField(vectors, FIXED, MOVING))
        assert iterreg("inspect", folder / "tiny.nii.gz", *pair(folder)) == 0
        assert "Undecided" in capsys.readouterr().out

    def test_one_image_is_not_enough(self, folder: Path) -> None:
        with pytest.raises(InputError, match="or neither"):
            iterreg("inspect", folder / "1Warp.nii.gz", "--fixed", folder / "fixed.nii.gz")


class TestWarp:
    @pytest.mark.parametrize("name", ["disp_1_2.nii.gz", "1Warp.nii.gz"])
    def test_image(self, folder: Path, name: str) -> None:
        assert iterreg("warp", "--field", folder / name, *pair(folder), "--out", folder / "out.nii.gz") == 0
        (out, grid), (fixed, _) = (read_nifti(folder / n) for n in ("out.nii.gz", "fixed.nii.gz"))
        assert grid.matches(FIXED)
        inside = (fixed > 0) & (out > 0)
        assert inside.mean() > 0.4
        np.testing.assert_allclose(out[inside], fixed[inside], atol=1e-3)

    @pytest.mark.parametrize("mode", ["nearest", "linear"])
    def test_labels(self, folder: Path, mode: str) -> None:
        arguments = ["--field", folder / "disp_1_2.nii.gz", "--fixed", folder / "fixed.nii.gz"]
        arguments += ["--moving", folder / "labels.nii.gz", "--out", folder / "out.nii.gz", "--labels"]
        assert iterreg("warp", *arguments, *([] if mode == "nearest" else [mode])) == 0
        field = challenge.read_field(folder / "disp_1_2.nii.gz", FIXED, MOVING)
        expected = field.warp_labels(load_labels(folder / "labels.nii.gz"), interpolation=mode).array
        out, _ = read_nifti(folder / "out.nii.gz")
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, expected)

    @pytest.mark.parametrize("header", ["", "x,y,z\n"])
    def test_points(self, folder: Path, header: str) -> None:
        (folder / "in.csv").write_text(header + "3,4,5\n7.5,6.25,8\n")
        arguments = ["--points", folder / "in.csv", "--out", folder / "out.csv"]
        assert iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), *arguments) == 0
        moved = np.loadtxt(folder / "out.csv", delimiter=",")
        field = challenge.read_field(folder / "disp_1_2.nii.gz", FIXED, MOVING)
        # a fixed voxel goes to p + u(p), not the other way round
        np.testing.assert_allclose(moved[0], field.vectors[3, 4, 5] + [3, 4, 5], atol=1e-4)
        np.testing.assert_allclose(moved, field.warp_points([[3, 4, 5], [7.5, 6.25, 8]]), atol=1e-5)

    def test_fixed_defaults_to_the_moving_grid(self, folder: Path) -> None:
        zero = DisplacementField.identity(MOVING)
        challenge.write_field(folder / "disp_5_5.nii.gz", zero)
        arguments = ["--moving", folder / "moving.nii.gz", "--out", folder / "out.nii"]
        assert iterreg("warp", "--field", folder / "disp_5_5.nii.gz", *arguments) == 0
        np.testing.assert_array_equal(
            read_nifti(folder / "out.nii")[0], read_nifti(folder / "moving.nii.gz")[0]
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [("", "no points"), ("1,2\n", "three"), ("1,2,3\na,b,c\n", "line 2"), ("1,2,nan\n", "finite")],
    )
    def test_bad_points(self, folder: Path, text: str, words: str) -> None:
        (folder / "in.csv").write_text(text)
        arguments = ["--points", folder / "in.csv", "--out", folder / "out.csv"]
        with pytest.raises(InputError, match=words):
            iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), *arguments)
        assert not (folder / "out.csv").exists()

    def test_bad_outputs(self, folder: Path) -> None:
        with pytest.raises(InputError, match=r"\.nii\.gz"):
            iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), "--out", folder / "out.mha")
        (folder / "in.csv").write_text("1,2,3\n")
        arguments = ["--points", folder / "in.csv", "--out", folder / "out.txt"]
        with pytest.raises(InputError, match=r"\.csv"):
            iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), *arguments)
