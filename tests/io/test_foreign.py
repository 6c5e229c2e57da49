"""Fields of SPM, NiftyReg, FSL and ICON: read as their own tools mean them, and taken for nothing else."""

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
from iterreg.io import formats, itk
from iterreg.io.coordinates import fit_lines
from iterreg.io.readings import rank_readings
from iterreg.io.sniff import describe
from iterreg.volume import Grid, Volume

SHAPE = (24, 20, 22)
LAS = Grid(SHAPE, np.array([[-2.0, 0, 0, 23], [0, 2, 0, -20], [0, 0, 2, -22], [0, 0, 0, 1]]))


def save(path: Path, array: Any, affine: Any, intent: int = 0, name: str = "", parameter: float = 0) -> Path:
    image = nib.Nifti1Image(np.asarray(array, np.float32), affine)
    image.header["intent_code"] = intent
    image.header["intent_name"] = name.encode()
    image.header["intent_p1"] = parameter
    image.to_filename(path)
    return path


def places(field: DisplacementField, tools: SimpleNamespace) -> np.ndarray:
    """(X, Y, Z, 3) moving voxels, p + u(p)."""
    return tools.voxels(field.fixed.shape) + field.vectors.astype(np.float64)


def fsl_coordinates(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """By FSL's own words: scaled voxels, the first axis counted from its end in "neurological" images."""
    out = voxels * grid.spacing
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        out[..., 0] = (grid.shape[0] - 1) * grid.spacing[0] - out[..., 0]
    return out


@pytest.mark.parametrize("orientation", range(48))
def test_each_is_read_as_its_formula_says(orientation: int, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    field = tools.smooth_field(fixed, moving, seed=orientation)
    there = places(field, tools)
    here = tools.voxels(fixed.shape)
    world = moving.voxel_to_world(there)
    relative = world - fixed.voxel_to_world(here)
    in_fsl = fsl_coordinates(there, moving)
    five = (Ellipsis, np.newaxis, slice(None))
    files = {
        "spm": save(tmp_path / "y.nii", world[five], fixed.affine, 1007, "Mapping"),
        "niftyreg": save(tmp_path / "d.nii", world[five], fixed.affine, 1007, "NREG_TRANS", 0),
        "ras": save(tmp_path / "r.nii", relative, fixed.affine, 1007),
        "fsl": save(tmp_path / "f.nii", in_fsl - fsl_coordinates(here, fixed), fixed.affine, 2006),
        "fsl-absolute": save(tmp_path / "fa.nii", in_fsl, fixed.affine, 2006),
        "icon": tmp_path / "phi.npy",
    }
    np.save(files["icon"], np.moveaxis(there / (np.array(moving.shape) - 1), -1, 0)[np.newaxis])
    for name, file in files.items():
        assert tools.error(formats.read([file], fixed, moving, name=name), there) < 1e-4, name
    displacement = save(tmp_path / "nd.nii", relative[five], fixed.affine, 1007, "NREG_TRANS", 1)
    assert tools.error(formats.read([displacement], fixed, moving, name="niftyreg"), there) < 1e-4
    assert formats.guess_input([displacement]).name == "niftyreg"


def test_places_are_interpolated_on_another_grid(tmp_path: Path, tools: SimpleNamespace) -> None:
    lattice = tools.oriented_grid(17, (9, 8, 10), (2.0, 1.9, 1.6), (0.1, 0, 0))
    fixed, moving = tools.oriented_grid(3, (5, 6, 4), (1.0, 1.2, 1.1)), tools.pair_of_grids(5)[1]
    rng = np.random.default_rng(0)
    d = rng.normal(0, 1, (*lattice.shape, 3))
    world = lattice.voxel_to_world(tools.voxels(lattice.shape)) + d
    file = save(tmp_path / "y.nii", world[:, :, :, np.newaxis], lattice.affine, 1007, "Mapping")
    # the same displacement as ITK's own warp, evaluated by ITK
    warp = sitk.GetImageFromArray((d * [-1, -1, 1]).transpose(2, 1, 0, 3), True)
    warp.CopyInformation(tools.itk_image(lattice, tmp_path, "lattice"))
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    targets = tools.itk_targets(sitk.DisplacementFieldTransform(warp), *images)
    assert tools.error(formats.read([file], fixed, moving, name="spm"), targets) < 1e-3


@pytest.fixture(scope="module")
def known(tools: SimpleNamespace) -> DisplacementField:
    return tools.smooth_field(LAS, LAS, seed=4, amplitude=1.5)


FOREIGN = ("spm", "niftyreg", "fsl", "fsl-absolute", "icon")


@pytest.mark.parametrize("name", FOREIGN)
def test_what_another_tool_wrote_needs_no_name(name: str, tmp_path: Path, known: DisplacementField) -> None:
    path = tmp_path / ("a.npy" if name == "icon" else "a.nii.gz")
    formats.FORMATS[name].writer(path, known)
    assert formats.guess_input([path]).name == name
    assert describe(path).format == name
    np.testing.assert_allclose(formats.read([path], LAS, LAS).vectors, known.vectors, atol=1e-5)


def test_five_dimensions_are_not_itk_for_that_alone(
    tmp_path: Path, known: DisplacementField, tools: SimpleNamespace
) -> None:
    def guess(array: np.ndarray, *header: Any) -> str:
        return formats.guess_input([save(tmp_path / "w.nii.gz", array, LAS.affine, *header)]).name

    warp = itk.to_itk(known)
    assert guess(warp, 1007) == "itk"
    world = LAS.voxel_to_world(places(known, tools))[:, :, :, np.newaxis]
    assert guess(world, 1007) == "spm"  # its numbers are places, whatever its name
    for array, header, words in (
        (warp, (0,), "intent is 0"),
        (warp, (1007, "Flow"), "'Flow'"),
        (warp, (1007, "NREG_TRANS", 0), "against what the header says"),
        (world, (1007, "NREG_TRANS", 1), "against what the header says"),
        (world, (0,), "as coordinates do"),
        (world * [-1, -1, 1], (1007,), "No format is like that"),
        (world, (1007, "NREG_TRANS", 2), "cubic B-spline control points"),
        (world, (1007, "NREG_TRANS", 5), "B-spline velocities"),
    ):
        with pytest.raises(InputError, match=words):
            guess(array, *header)
    with pytest.raises(InputError, match="reg_transform -ref"):
        formats.read(
            [save(tmp_path / "c.nii", world, LAS.affine, 1007, "NREG_TRANS", 3)], LAS, LAS, name="niftyreg"
        )
    with pytest.raises(InputError, match="--from spm"):
        formats.read([save(tmp_path / "c.nii", world, LAS.affine, 1007)], LAS, LAS, name="niftyreg")
    with pytest.raises(InputError, match="fnirtfileutils"):
        formats.read([save(tmp_path / "c.nii", warp[:, :, :, 0], LAS.affine, 2007)], LAS, LAS, name="fsl")
    assert "fnirtfileutils" in describe(tmp_path / "c.nii").warnings[0]


def test_a_displacement_vector_is_read_as_itk_reads_it(
    tmp_path: Path, known: DisplacementField, tools: SimpleNamespace
) -> None:
    """Of intent 1006 ITK turns the numbers round."""
    file = save(tmp_path / "w.nii.gz", known.to_world()[:, :, :, np.newaxis], LAS.affine, 1006)
    image = tools.itk_image(LAS, tmp_path, "fixed")
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))
    targets = tools.itk_targets(transform, image, image)
    assert tools.error(formats.read([file], LAS, LAS), targets) < 1e-3
    assert tools.error(known, targets) < 1e-3


class TestNumpy:
    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("layout", ["last", "first", "batch last", "batch first"])
    def test_layouts(self, suffix: str, layout: str, tmp_path: Path, known: DisplacementField) -> None:
        array = known.vectors if "last" in layout else np.moveaxis(known.vectors, -1, 0)
        path = tmp_path / f"disp_1_2{suffix}"
        array = array[np.newaxis] if "batch" in layout else array
        np.save(path, array) if suffix == ".npy" else np.savez(path, array)
        assert formats.guess_input([path]).name == "npz"
        np.testing.assert_array_equal(formats.read([path], LAS, LAS).vectors, known.vectors)

    def test_a_batch_in_nifti(self, tmp_path: Path, known: DisplacementField) -> None:
        for array in (known.vectors[np.newaxis], np.moveaxis(known.vectors, -1, 0)[np.newaxis]):
            file = save(tmp_path / "disp_1_2.nii.gz", array, np.eye(4))
            np.testing.assert_array_equal(formats.read([file], LAS, LAS).vectors, known.vectors)

    def test_places_are_not_taken_for_displacements(
        self, tmp_path: Path, known: DisplacementField, tools: SimpleNamespace
    ) -> None:
        np.save(tmp_path / "disp_1_2.npy", places(known, tools))
        np.savez(tmp_path / "disp_1_2.npz", places(known, tools))
        formats.FORMATS["torch"].writer(tmp_path / "grid.npy", known)
        np.save(tmp_path / "u.npy", known.vectors)
        for name in ("disp_1_2.npy", "disp_1_2.npz", "grid.npy", "u.npy"):
            with pytest.raises(InputError, match="name the format with --from"):
                formats.guess_input([tmp_path / name])
        assert describe(tmp_path / "disp_1_2.npz").units == "absolute voxels"
        assert describe(tmp_path / "u.npy").format == "npz"


def test_advice_is_never_to_read_it_as_something_else(
    tmp_path: Path, known: DisplacementField, tools: SimpleNamespace
) -> None:
    """Reading as the best reading says gives the known field, and no other reading is as good."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 1.2).astype(np.float32)
    moving = Volume(noise - noise.min(), LAS)
    fixed = known.warp_image(moving)
    np.save(tmp_path / "u.npy", known.vectors)
    np.savez(tmp_path / "u.npz", np.moveaxis(known.vectors, -1, 0))
    files = ["u.npy", "u.npz"]
    for name in (*FOREIGN, "itk", "ras", "challenge", "torch"):
        files.append(f"{name}.npy" if name in ("icon", "torch") else f"{name}.nii.gz")
        formats.FORMATS[name].writer(tmp_path / files[-1], known)
    for file in files:
        best = rank_readings(tmp_path / file, fixed, moving)[0]
        assert best.ncc > 0.99
        assert best.format
        read = formats.read([tmp_path / file], LAS, LAS, name=best.format)
        np.testing.assert_allclose(read.vectors, known.vectors, atol=1e-4)


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("orientation", range(0, 48, 7))
def test_turned_and_scaled_places_are_told(orientation: int, turn: float, tools: SimpleNamespace) -> None:
    """SPM's deformations hold an affine map between template and subject."""
    grid = tools.oriented_grid(orientation, SHAPE, (1.0, 1.7, 0.8), (0.2, -0.3, 0.15))
    affine = tools.rotation((turn, 0, 0)) * [1.15, 0.9, 1.1]
    deviation = np.sin(tools.voxels(SHAPE) @ [[0.3, 0.1, 0], [0.1, 0.2, 0.3], [0, 0.4, 0.1]]) * 2
    world = grid.voxel_to_world(tools.voxels(SHAPE)) @ affine.T + [30, -20, 50] + deviation
    system = fit_lines(world, grid).system
    assert system is not None
    assert system.format == "spm"
    assert fit_lines(deviation + np.array([30, -20, 50]), grid).system is None
    assert fit_lines(deviation, grid).like_displacements(grid)
