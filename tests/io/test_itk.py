"""ITK and ANTs themselves say where a fixed voxel goes; our reading and writing must agree."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.itk import from_itk, read_transforms, read_warp, to_itk, write_warp
from iterreg.volume import Grid, Volume

TOLERANCE = 1e-3  # moving voxels


@pytest.fixture(scope="module")
def ants() -> Any:
    return pytest.importorskip("ants")


def as_transform(file: Path) -> Any:
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))


def affine_lps(tools: SimpleNamespace) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((tools.rotation((0.1, -0.2, 0.05)) * [1.1, 0.95, 1.05]).ravel().tolist())
    transform.SetCenter((3.0, 1.0, -2.0))
    transform.SetTranslation((1.5, -2.0, 0.7))
    return transform


@pytest.mark.parametrize("orientation", range(48))
def test_warp_means_to_itk_what_the_field_means(
    orientation: int, tmp_path: Path, tools: SimpleNamespace
) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    field = tools.smooth_field(fixed, moving, seed=orientation)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")

    def judged(candidate: DisplacementField) -> float:
        write_warp(tmp_path / "Warp.nii.gz", candidate)
        return tools.error(field, tools.itk_targets(as_transform(tmp_path / "Warp.nii.gz"), *images))

    assert judged(field) < TOLERANCE

    # the oracle tells every usual mistake from the truth
    identity = DisplacementField.identity(fixed, moving).vectors
    deviation = field.vectors - identity
    for wrong in (-deviation, deviation[..., ::-1], deviation * [-1, -1, 1], deviation * moving.spacing):
        assert judged(DisplacementField(identity + wrong.astype(np.float32), fixed, moving)) > 100 * TOLERANCE


@pytest.mark.parametrize("orientation", range(48))
def test_itk_warp_is_read_as_itk_means_it(orientation: int, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    fixed_image = tools.itk_image(fixed, tmp_path, "fixed")
    moving_image = tools.itk_image(moving, tmp_path, "moving")
    # the warp is ITK's own work, on a grid that is not the fixed image's
    lattice = tools.itk_image(
        tools.oriented_grid((orientation + 5) % 48, (9, 8, 10), (2.0, 1.9, 1.6), (0.1, 0, 0)),
        tmp_path,
        "lattice",
    )
    rng = np.random.default_rng(orientation)
    warp = sitk.GetImageFromArray(rng.normal(0, 1.2, (*lattice.GetSize()[::-1], 3)).astype(np.float32), True)
    warp.CopyInformation(lattice)
    sitk.WriteImage(warp, str(tmp_path / "Warp.nii.gz"))
    targets = tools.itk_targets(as_transform(tmp_path / "Warp.nii.gz"), fixed_image, moving_image)

    field = read_transforms([tmp_path / "Warp.nii.gz"], fixed, moving)

    assert tools.error(field, targets) < TOLERANCE
    # a warp read with negated, reversed or unflipped components would not pass
    identity = DisplacementField.identity(fixed, moving).vectors
    deviation = field.vectors - identity
    for wrong in (-deviation, deviation[..., ::-1], deviation * [-1, -1, 1]):
        mistaken = DisplacementField(identity + wrong.astype(np.float32), fixed, moving)
        assert tools.error(mistaken, targets) > 100 * TOLERANCE


def test_an_inverted_field_fails_the_oracle(tmp_path: Path, tools: SimpleNamespace) -> None:
    grid = tools.oriented_grid(9, (14, 13, 12), (1.0, 1.2, 0.9), (0.2, 0.1, 0.3))
    field = tools.smooth_field(grid, grid, seed=3)
    image = tools.itk_image(grid, tmp_path, "fixed")
    write_warp(tmp_path / "InverseWarp.nii.gz", field.invert().field)
    targets = tools.itk_targets(as_transform(tmp_path / "InverseWarp.nii.gz"), image, image)
    assert tools.error(field, targets) > 0.5


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_round_trip(orientation: int, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    field = tools.smooth_field(fixed, moving, seed=orientation)
    np.testing.assert_allclose(from_itk(to_itk(field), fixed, moving).vectors, field.vectors, atol=1e-4)
    write_warp(tmp_path / "Warp.nii.gz", field)
    back = read_transforms([tmp_path / "Warp.nii.gz"], fixed, moving)
    np.testing.assert_allclose(back.vectors, field.vectors, atol=1e-4)


def test_resampling_by_itk_gives_our_warped_image(tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed = tools.oriented_grid(13, (20, 18, 16), (1.0, 1.3, 0.8), (0.2, -0.3, 0.15))
    moving = tools.oriented_grid(30, (22, 17, 19), (0.9, 1.1, 1.2), (-0.1, 0.2, 0.3))
    field = tools.smooth_field(fixed, moving, seed=1)
    values = np.random.default_rng(0).uniform(1, 2, moving.shape).astype(np.float32)
    nib.Nifti1Image(values, moving.affine).to_filename(tmp_path / "moving.nii.gz")
    write_warp(tmp_path / "Warp.nii.gz", field)
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(
            sitk.ReadImage(str(tmp_path / "moving.nii.gz")),
            tools.itk_image(fixed, tmp_path, "fixed"),
            as_transform(tmp_path / "Warp.nii.gz"),
            sitk.sitkLinear,
            0.0,
        )
    ).T
    ours = field.warp_image(Volume(values, moving)).array
    both = (ours > 0) & (theirs > 0)
    assert both.mean() > 0.3
    np.testing.assert_allclose(ours[both], theirs[both], atol=2e-3)


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm", ".h5"])
@pytest.mark.parametrize("orientation", [0, 17, 41])
def test_affine_files(suffix: str, orientation: int, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    transform = affine_lps(tools)
    file = tmp_path / f"affine{suffix}"
    sitk.WriteTransform(transform, str(file))
    assert tools.error(read_transforms([file], fixed, moving), tools.itk_targets(transform, *images)) < 1e-4
    inverted = read_transforms([f"[{file},1]"], fixed, moving)
    assert tools.error(inverted, tools.itk_targets(transform.GetInverse(), *images)) < 1e-4


def test_bspline_and_composite_files(tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(22)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    bspline = sitk.BSplineTransformInitializer(images[0], [3, 4, 2], 3)
    rng = np.random.default_rng(0)
    bspline.SetParameters(rng.normal(0, 1.5, len(bspline.GetParameters())).tolist())
    # the point is moved by the affine first, so that a good part of it leaves the spline's domain
    composite = sitk.CompositeTransform([bspline, affine_lps(tools)])
    sitk.WriteTransform(composite, str(tmp_path / "Composite.h5"))
    targets = tools.itk_targets(composite, *images)
    assert tools.error(read_transforms([tmp_path / "Composite.h5"], fixed, moving), targets) < TOLERANCE
    # the order of the links matters to the judge
    swapped = sitk.CompositeTransform([affine_lps(tools), bspline])
    assert np.abs(tools.itk_targets(swapped, *images) - targets).max() > 0.1


def test_composite_with_warp_written_by_simpleitk(tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(35)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    write_warp(tmp_path / "Warp.nii.gz", tools.smooth_field(fixed, fixed, seed=8))
    composite = sitk.CompositeTransform([affine_lps(tools), as_transform(tmp_path / "Warp.nii.gz")])
    sitk.WriteTransform(composite, str(tmp_path / "Composite.h5"))
    targets = tools.itk_targets(composite, *images)
    assert tools.error(read_transforms([tmp_path / "Composite.h5"], fixed, moving), targets) < TOLERANCE
    # the same as a list: seen from the fixed point, the first of the list comes first
    sitk.WriteTransform(affine_lps(tools), str(tmp_path / "0GenericAffine.mat"))
    files = [tmp_path / "Warp.nii.gz", tmp_path / "0GenericAffine.mat"]
    assert tools.error(read_transforms(files, fixed, moving), targets) < TOLERANCE
    assert tools.error(read_transforms(files[::-1], fixed, moving), targets) > 100 * TOLERANCE


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_other_image_formats(suffix: str, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(27)
    field = tools.smooth_field(fixed, moving, seed=5)
    write_warp(tmp_path / "Warp.nii.gz", field)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "Warp.nii.gz")), str(tmp_path / f"warp{suffix}"))
    back = read_transforms([tmp_path / f"warp{suffix}"], fixed, moving)
    np.testing.assert_allclose(back.vectors, field.vectors, atol=1e-3)


def test_points_beyond_the_warp_do_not_move(tmp_path: Path, tools: SimpleNamespace) -> None:
    small = Grid((4, 4, 4))
    large = Grid((12, 4, 4))
    ones = DisplacementField(np.ones((4, 4, 4, 3), np.float32), small, small)
    write_warp(tmp_path / "Warp.nii.gz", ones)
    vectors = read_transforms([tmp_path / "Warp.nii.gz"], large, large).vectors
    assert (vectors[:4] == 1).all()
    assert (vectors[4:] == 0).all()


class TestRefusals:
    def test_warp_with_inverse_flag(self, tmp_path: Path) -> None:
        grid = Grid((4, 4, 4))
        write_warp(tmp_path / "Warp.nii.gz", DisplacementField.identity(grid))
        with pytest.raises(InputError, match="InverseWarp"):
            read_transforms([f"[{tmp_path / 'Warp.nii.gz'},1]"], grid, grid)

    def test_four_dimensions(self, tmp_path: Path) -> None:
        nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)).to_filename(tmp_path / "f.nii.gz")
        with pytest.raises(InputError, match="iterreg inspect"):
            read_warp(tmp_path / "f.nii.gz")

    def test_nan(self, tmp_path: Path) -> None:
        array = np.zeros((4, 4, 4, 1, 3), np.float32)
        array[1, 2, 3, 0, 1] = np.nan
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "f.nii.gz")
        with pytest.raises(InputError, match="NaN"):
            read_warp(tmp_path / "f.nii.gz")

    def test_shear(self, tmp_path: Path) -> None:
        affine = np.eye(4)
        affine[0, 1] = 0.3
        with pytest.raises(InputError, match="shear"):
            write_warp(tmp_path / "Warp.nii.gz", DisplacementField.identity(Grid((4, 4, 4), affine)))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ([], "at least one"),
            (["absent.mat"], "no such file"),
            (["absent.mha"], "no such file"),
            (["[absent.mat]"], "brackets"),
            (["[absent.mat,2]"], "brackets"),
        ],
    )
    def test_names(self, files: list[str], words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_transforms(files, Grid((4, 4, 4)), Grid((4, 4, 4)))

    @pytest.mark.parametrize("name", ["bad.mat", "bad.h5", "bad.mha", "bad.txt"])
    def test_rubbish(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"rubbish" * 50)
        with pytest.raises(InputError, match="ITK cannot read"):
            read_transforms([tmp_path / name], Grid((4, 4, 4)), Grid((4, 4, 4)))

    def test_two_dimensions(self, tmp_path: Path) -> None:
        sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.tfm"))
        with pytest.raises(InputError, match="2 dimensions"):
            read_transforms([tmp_path / "flat.tfm"], Grid((4, 4, 4)), Grid((4, 4, 4)))


class TestAnts:
    """The binaries behind antspyx, a few orientations (they are slow to start)."""

    @pytest.mark.parametrize("orientation", [0, 6, 23, 44])
    def test_compose_and_points(
        self, orientation: int, tmp_path: Path, tools: SimpleNamespace, ants: Any
    ) -> None:
        import pandas

        fixed, moving = tools.pair_of_grids(orientation)
        for name, grid in (("fixed", fixed), ("moving", moving)):
            tools.itk_image(grid, tmp_path, name)
        images = [ants.image_read(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving")]
        deformation = tools.smooth_field(fixed, fixed, seed=orientation)
        write_warp(tmp_path / "1Warp.nii.gz", deformation)
        sitk.WriteTransform(affine_lps(tools), str(tmp_path / "0GenericAffine.mat"))
        files = [str(tmp_path / "1Warp.nii.gz"), str(tmp_path / "0GenericAffine.mat")]

        ours = read_transforms(files, fixed, moving)
        composed = ants.apply_transforms(images[0], images[1], files, compose=str(tmp_path / "all_"))
        theirs = read_transforms([composed], fixed, moving)
        assert np.abs(theirs.vectors - ours.vectors).max() < TOLERANCE
        for wrong in (files[::-1], files[:1], [files[0], f"[{files[1]},1]"]):
            assert np.abs(read_transforms(wrong, fixed, moving).vectors - ours.vectors).max() > 0.1

        # antsApplyTransformsToPoints takes fixed points to moving points with the very same list
        lps = (fixed.voxel_to_world(tools.voxels(fixed.shape)) * [-1, -1, 1]).reshape(-1, 3)
        points = pandas.DataFrame(lps, columns=["x", "y", "z"])
        moved = ants.apply_transforms_to_points(3, points, files)[["x", "y", "z"]].to_numpy()
        targets = moving.world_to_voxel(moved * [-1, -1, 1]).reshape(*fixed.shape, 3)
        assert tools.error(ours, targets) < TOLERANCE

        inverse_affine = [f"[{files[1]},1]"]
        moved = ants.apply_transforms_to_points(3, points, files[1:], whichtoinvert=[True])
        targets = moving.world_to_voxel(moved[["x", "y", "z"]].to_numpy() * [-1, -1, 1])
        field = read_transforms(inverse_affine, fixed, moving)
        assert tools.error(field, targets.reshape(*fixed.shape, 3)) < TOLERANCE

    def test_registration_composite(self, tmp_path: Path, tools: SimpleNamespace, ants: Any) -> None:
        """A composite that antsRegistration wrote equals the list of files it stands for."""
        grid = tools.oriented_grid(19, (24, 22, 20), (1.0, 1.2, 0.9), (0.1, 0.2, 0.0))
        centre = (np.array(grid.shape) - 1) / 2
        for name, shift in (("fixed", 0.0), ("moving", 1.5)):
            distance = np.linalg.norm((tools.voxels(grid.shape) - centre - shift) * [1, 1.3, 1], axis=-1)
            blob = (100 * np.exp(-(distance**2) / 40)).astype(np.float32)
            nib.Nifti1Image(blob, grid.affine).to_filename(tmp_path / f"{name}.nii.gz")
        images = [ants.image_read(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving")]
        result = ants.registration(
            *images,
            "SyN",
            outprefix=str(tmp_path / "list_"),
            reg_iterations=(5, 5),
            aff_iterations=(20, 10),
            aff_shrink_factors=(2, 1),
            aff_smoothing_sigmas=(1, 0),
            random_seed=1,
        )
        ours = read_transforms(result["fwdtransforms"], grid, grid)
        composed = ants.apply_transforms(
            *images, result["fwdtransforms"], compose=str(tmp_path / "composed_")
        )
        np.testing.assert_allclose(
            ours.vectors, read_transforms([composed], grid, grid).vectors, atol=TOLERANCE
        )
        assert np.abs(ours.vectors).max() > 0.5

        composite = ants.registration(
            *images,
            "SyN",
            outprefix=str(tmp_path / "composite_"),
            reg_iterations=(5, 5),
            aff_iterations=(20, 10),
            aff_shrink_factors=(2, 1),
            aff_smoothing_sigmas=(1, 0),
            random_seed=1,
            write_composite_transform=True,
        )
        file = composite["fwdtransforms"]
        file = file if isinstance(file, str) else file[0]
        assert file.endswith(".h5")
        composed = ants.apply_transforms(*images, [file], compose=str(tmp_path / "from_composite_"))
        np.testing.assert_allclose(
            read_transforms([file], grid, grid).vectors,
            read_transforms([composed], grid, grid).vectors,
            atol=TOLERANCE,
        )
