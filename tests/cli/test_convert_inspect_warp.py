"""The commands end to end, on files."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    def test_images_that_are_not_alike_advise_nothing(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of two contrasts, or of other subjects, some wrong reading is the most similar by chance."""
        noise = np.random.default_rng(3).normal(size=FIXED.shape).astype(np.float32)
        nib.Nifti1Image(noise, FIXED.affine).to_filename(folder / "fixed.nii.gz")
        assert iterreg("inspect", folder / "1Warp.nii.gz", *pair(folder)) == 0
        out = capsys.readouterr().out
        assert "Undecided: no reading makes the images alike" in out
        assert "Most similar" not in out
        assert "format    itk" in out

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

    @pytest.mark.parametrize("labels", [False, True])
    def test_edges(self, folder: Path, labels: bool) -> None:
        """ITK keeps a value in the outer half voxel; the evaluators, the default, do not."""
        moving = sitk.ReadImage(str(folder / ("labels.nii.gz" if labels else "moving.nii.gz")))
        warp = sitk.ReadImage(str(folder / "1Warp.nii.gz"), sitk.sitkVectorFloat64)
        theirs = sitk.GetArrayFromImage(
            sitk.Resample(
                sitk.Cast(moving, sitk.sitkFloat32) + 1,
                sitk.ReadImage(str(folder / "fixed.nii.gz")),
                sitk.DisplacementFieldTransform(warp),
                sitk.sitkNearestNeighbor if labels else sitk.sitkLinear,
                0.0,
            )
        ).T
        array, grid = read_nifti(folder / ("labels.nii.gz" if labels else "moving.nii.gz"))
        nib.Nifti1Image(array + np.ones_like(array), grid.affine).to_filename(folder / "above_0.nii.gz")
        arguments = ["--field", folder / "1Warp.nii.gz", "--fixed", folder / "fixed.nii.gz"]
        arguments += ["--moving", folder / "above_0.nii.gz", "--out", folder / "out.nii"]
        arguments += ["--labels"] if labels else []
        assert iterreg("warp", *arguments, "--edge", "itk") == 0
        ours, _ = read_nifti(folder / "out.nii")
        np.testing.assert_array_equal(ours > 0, theirs > 0)
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
        assert iterreg("warp", *arguments) == 0
        strict, _ = read_nifti(folder / "out.nii")
        assert 0.02 < ((ours > 0) & (strict == 0)).mean() < 0.3
        kept = strict > 0
        np.testing.assert_allclose(strict[kept], ours[kept], atol=1e-5)

    def test_one_hot_labels_have_one_edge(self, folder: Path) -> None:
        arguments = ["--field", folder / "1Warp.nii.gz", *pair(folder), "--out", folder / "out.nii"]
        with pytest.raises(InputError, match="--edge itk"):
            iterreg("warp", *arguments, "--labels", "linear", "--edge", "itk")

    def test_bad_outputs(self, folder: Path) -> None:
        with pytest.raises(InputError, match=r"\.nii\.gz"):
            iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), "--out", folder / "out.mha")
        (folder / "in.csv").write_text("1,2,3\n")
        arguments = ["--points", folder / "in.csv", "--out", folder / "out.txt"]
        with pytest.raises(InputError, match=r"\.csv"):
            iterreg("warp", "--field", folder / "disp_1_2.nii.gz", *pair(folder), *arguments)


class TestHeaders:
    """Images whose header ITK reads differently, with ITK's own warp and ITK's own moved image."""

    @staticmethod
    def made_by_itk(folder: Path, change: Callable[[nib.Nifti1Header], None]) -> np.ndarray:
        """Writes fixed.nii, moving.nii and 1Warp.nii.gz; gives the moved image as ITK sees it."""
        rng = np.random.default_rng(1)
        affine = np.diag([2.0, 1.5, 2.5, 1])
        affine[:3, 3] = (-24, -20, -22)
        for name in ("fixed", "moving"):
            image = nib.Nifti1Image(gaussian_filter(rng.random((16, 18, 14)), 2).astype(np.float32), affine)
            image.set_qform(affine, 1)
            image.set_sform(affine, 1)
            image.header["vox_offset"] = 352
            change(image.header)
            content = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
            (folder / f"{name}.nii").write_bytes(content)
        fixed, moving = (sitk.ReadImage(str(folder / f"{name}.nii")) for name in ("fixed", "moving"))
        noise = [gaussian_filter(rng.standard_normal((14, 18, 16)), 3) * 25 for _ in range(3)]
        warp = sitk.GetImageFromArray(np.stack(noise, axis=-1), isVector=True)
        warp.CopyInformation(fixed)
        sitk.WriteImage(warp, str(folder / "1Warp.nii.gz"))
        transform = sitk.DisplacementFieldTransform(sitk.Cast(warp, sitk.sitkVectorFloat64))
        return sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)).T

    @staticmethod
    def no_codes(header: nib.Nifti1Header) -> None:
        header["qform_code"] = header["sform_code"] = 0

    @staticmethod
    def conflict(header: nib.Nifti1Header) -> None:
        header["srow_x"] = [-2, 0, 0, 40]
        header["srow_z"] = [0, 0, 2.5, -60]
        header["sform_code"] = 2

    @staticmethod
    def negative(header: nib.Nifti1Header) -> None:
        header["pixdim"][1] = -2

    @staticmethod
    def micrometres(header: nib.Nifti1Header) -> None:
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row] = header[row] * 1000
        for offset in ("qoffset_x", "qoffset_y", "qoffset_z"):
            header[offset] = header[offset] * 1000
        header["pixdim"][1:4] *= 1000
        header["xyzt_units"] = 3

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (no_codes, "ITK, and so ANTs and elastix, read LPS"),
            (conflict, "a qform (code 1) and an sform (code 2) that place it differently"),
            (negative, "which must be positive"),
            (micrometres, "is in micrometres by its header"),
        ],
    )
    def test_itks_warp_moves_as_itk_moves(
        self,
        change: Callable[[nib.Nifti1Header], None],
        said: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        theirs = self.made_by_itk(tmp_path, change)
        images = ["--fixed", tmp_path / "fixed.nii", "--moving", tmp_path / "moving.nii"]
        assert iterreg("convert", tmp_path / "1Warp.nii.gz", tmp_path / "disp_1_2.nii.gz", *images) == 0
        captured = capsys.readouterr()
        assert said in captured.err
        assert f"{tmp_path / 'moving.nii'}: " in captured.err
        for field in ("disp_1_2.nii.gz", "1Warp.nii.gz"):
            arguments = ["--field", tmp_path / field, *images, "--out", tmp_path / "out.nii.gz"]
            assert iterreg("warp", *arguments, "--edge", "itk") == 0
            assert said in capsys.readouterr().err
            ours, _ = read_nifti(tmp_path / "out.nii.gz")
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert iterreg("inspect", tmp_path / "1Warp.nii.gz", *images) == 0
        captured = capsys.readouterr()
        assert said in captured.err

    def test_a_warp_elsewhere_is_refused(self, folder: Path) -> None:
        far = nib.load(folder / "1Warp.nii.gz")
        affine = far.affine.copy()
        affine[:3, 3] += 500
        image = nib.Nifti1Image(np.asarray(far.dataobj), affine)
        image.header["intent_code"] = 1007
        image.to_filename(folder / "far_1Warp.nii.gz")
        for command in ("convert", "warp"):
            inputs = ["--field"] if command == "warp" else []
            output = ["--out"] if command == "warp" else []
            inputs += [folder / "far_1Warp.nii.gz", *output, folder / "disp_3_4.nii.gz", *pair(folder)]
            with pytest.raises(InputError, match="covers no voxel of the fixed image"):
                iterreg(command, *inputs)
        assert not (folder / "disp_3_4.nii.gz").exists()

    def test_what_a_warp_covers_is_said(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        warp = nib.load(folder / "1Warp.nii.gz")
        image = nib.Nifti1Image(np.asarray(warp.dataobj)[:, :7], warp.affine)
        image.header["intent_code"] = 1007
        image.to_filename(folder / "half_1Warp.nii.gz")
        arguments = [folder / "half_1Warp.nii.gz", folder / "disp_3_4.nii.gz", *pair(folder)]
        assert iterreg("convert", *arguments) == 0
        assert "covers 50.0 % of the fixed image's voxels" in capsys.readouterr().err


class TestDisks:
    """A limit on file sizes stands for a full disk: both end a write by an OSError."""

    @pytest.mark.parametrize(
        "name", ["1Warp.nii", "disp_3_4.nii.gz", "a.npz", "TransformParameters.0.txt", "g.npy"]
    )
    def test_convert(self, name: str, folder: Path) -> None:
        arguments = [folder / "disp_1_2.nii.gz", folder / name, *pair(folder)]
        arguments += ["--to", "torch"] if name == "g.npy" else []
        before = set(folder.iterdir())
        with file_size_limit(200), pytest.raises(InputError, match="cannot be written"):
            iterreg("convert", *arguments)
        assert set(folder.iterdir()) == before

    @pytest.mark.parametrize("points", [False, True])
    def test_warp(self, points: bool, folder: Path) -> None:
        (folder / "in.csv").write_text("1,2,3\n" * 200)
        arguments = ["--field", folder / "disp_1_2.nii.gz", *pair(folder)]
        arguments += ["--points", folder / "in.csv", "--out", folder / "out.csv"] if points else []
        arguments += [] if points else ["--out", folder / "out.nii.gz"]
        before = set(folder.iterdir())
        with file_size_limit(200), pytest.raises(InputError, match="cannot be written"):
            iterreg("warp", *arguments)
        assert set(folder.iterdir()) == before

    def test_a_missing_folder_is_named_before_any_work(self, folder: Path) -> None:
        with pytest.raises(InputError, match="does not exist; create it first"):
            iterreg("convert", folder / "none.nii.gz", folder / "no" / "disp_1_2.nii.gz", *pair(folder))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
