"""Files of every kind, and files that are wrong in the usual ways."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import challenge, elastix, itk, npz, torch_grid, world
from iterreg.io.readings import Reading, rank_readings
from iterreg.io.sniff import describe
from iterreg.volume import Grid, Volume

SHAPE = (24, 20, 22)
FINE = Grid(SHAPE, np.array([[0, 0.6, 0, 3], [-0.6, 0, 0, 9], [0, 0, 0.6, -4], [0, 0, 0, 1.0]]))


@pytest.fixture(scope="module")
def field(tools: SimpleNamespace) -> DisplacementField:
    return tools.smooth_field(FINE, FINE, seed=6, amplitude=1.5)


@pytest.fixture(scope="module")
def images(field: DisplacementField) -> tuple[Volume, Volume]:
    """A fixed image that really is the warped moving one."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 1.2).astype(np.float32)
    moving = Volume(noise - noise.min(), FINE)
    return field.warp_image(moving), moving


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, intent: int = 0) -> Path:
    image = nib.Nifti1Image(array.astype(np.float32), np.eye(4) if affine is None else affine)
    image.header["intent_code"] = intent
    image.to_filename(path)
    return path


class TestDescribe:
    def test_challenge(self, tmp_path: Path, field: DisplacementField) -> None:
        challenge.write_field(tmp_path / "disp_1_2.nii.gz", field)
        belief = describe(tmp_path / "disp_1_2.nii.gz")
        assert (belief.format, belief.units) == ("challenge", "voxels")
        assert not belief.warnings
        assert belief.shape == (*SHAPE, 3)
        largest = np.linalg.norm(field.vectors, axis=-1).max()
        assert belief.statistics["largest length"] == pytest.approx(largest)

    def test_components_first(self, tmp_path: Path, field: DisplacementField) -> None:
        belief = describe(save(tmp_path / "disp_1_2.nii.gz", np.moveaxis(field.vectors, -1, 0)))
        assert (belief.format, belief.layout) == ("challenge", "3 x X x Y x Z")
        assert belief.grid is not None
        assert belief.grid.shape == SHAPE

    def test_itk(self, tmp_path: Path, field: DisplacementField) -> None:
        itk.write_warp(tmp_path / "Warp.nii.gz", field)
        belief = describe(tmp_path / "Warp.nii.gz")
        assert (belief.format, belief.units) == ("itk", "millimetres")
        assert any("rejects five dimensions" in w for w in belief.warnings)
        assert not any("intent" in w for w in belief.warnings)
        belief = describe(save(tmp_path / "w.nii.gz", itk.to_itk(field), FINE.affine, intent=1006))
        assert any("which ITK turns to LPS" in e for e in belief.evidence)
        belief = describe(save(tmp_path / "w.nii.gz", itk.to_itk(field), FINE.affine))
        assert any("0, not 1007" in w for w in belief.warnings)
        assert not belief.certain
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "Warp.nii.gz")), str(tmp_path / "warp.mha"))
        assert describe(tmp_path / "warp.mha").format == "itk"

    def test_ras(self, tmp_path: Path, field: DisplacementField) -> None:
        world.write(tmp_path / "ras.nii.gz", field)
        assert describe(tmp_path / "ras.nii.gz").format == "ras"

    def test_npz(self, tmp_path: Path, field: DisplacementField) -> None:
        npz.write(tmp_path / "a.npz", field)
        assert (describe(tmp_path / "a.npz").format, describe(tmp_path / "a.npz").grid) == ("npz", None)

    @pytest.mark.parametrize("align_corners", [True, False])
    def test_torch(self, tmp_path: Path, align_corners: bool) -> None:
        small = DisplacementField(np.zeros((*SHAPE, 3), np.float32), FINE, FINE)
        torch_grid.write(tmp_path / "a.npy", small, align_corners=align_corners)
        belief = describe(tmp_path / "a.npy")
        assert belief.format == ("torch" if align_corners else "torch-unaligned")
        assert belief.units == "normalised"
        np.save(tmp_path / "b.npy", np.load(tmp_path / "a.npy")[..., ::-1])
        belief = describe(tmp_path / "b.npy")
        assert belief.format == ""
        assert "last array axis first" in belief.warnings[0]

    def test_transforms(self, tmp_path: Path, field: DisplacementField) -> None:
        sitk.WriteTransform(sitk.AffineTransform(3), str(tmp_path / "a.mat"))
        assert describe(tmp_path / "a.mat").format == "itk"
        elastix.write_transform(tmp_path / "TransformParameters.0.txt", field)
        belief = describe(tmp_path / "TransformParameters.0.txt")
        assert belief.format == "elastix"
        assert "DeformationFieldTransform" in belief.evidence[0]

    def test_suspicions(self, tmp_path: Path, field: DisplacementField, tools: SimpleNamespace) -> None:
        def warnings(array: np.ndarray, affine: np.ndarray | None = None) -> str:
            return " ".join(describe(save(tmp_path / "disp_1_2.nii.gz", array, affine)).warnings)

        assert "0.6 x 0.6 x 0.6 mm" in warnings(field.vectors, FINE.affine)
        assert "absolute coordinates" in warnings(field.vectors + tools.voxels(SHAPE))
        assert "No component exceeds 1.1" in warnings(field.vectors / 20)
        assert "out of the grid" in warnings(field.vectors * 10)
        assert "longest side" in warnings(field.vectors * 30)
        assert "zero" in warnings(field.vectors * 0)
        broken = field.vectors.copy()
        broken[1, 1, 1] = np.nan
        assert "1 voxels hold NaN" in warnings(broken)
        assert "NaN" in warnings(np.full((4, 4, 4, 3), np.nan))

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no vectors"):
            describe(save(tmp_path / "a.nii.gz", np.zeros((4, 4, 4))))
        with pytest.raises(InputError, match="known ways"):
            describe(tmp_path / "a.dcm")
        with pytest.raises(InputError, match="no such file"):
            describe(tmp_path / "b.nii.gz")


class TestRanking:
    """The true reading must come first among all of them."""

    def best(self, path: Path, images: tuple[Volume, Volume]) -> Reading:
        readings = rank_readings(path, *images, samples=20_000)
        assert readings[0].ncc > 0.95
        assert readings[0].ncc - readings[1].ncc > 0.02
        assert all(a.ncc >= b.ncc for a, b in itertools.pairwise(readings))
        return readings[0]

    def test_formats(self, tmp_path: Path, field: DisplacementField, images: tuple[Volume, Volume]) -> None:
        itk.write_warp(tmp_path / "Warp.nii.gz", field)
        world.write(tmp_path / "ras.nii.gz", field)
        npz.write(tmp_path / "half.npz", field)
        torch_grid.write(tmp_path / "grid.npy", field)
        challenge.write_field(tmp_path / "disp.nii.gz", field)
        expected = {
            "Warp.nii.gz": "itk",
            "ras.nii.gz": "ras",
            "half.npz": "npz",
            "grid.npy": "torch",
            "disp.nii.gz": "challenge",
        }
        assert {name: self.best(tmp_path / name, images).format for name in expected} == expected

    def test_mistakes(
        self,
        tmp_path: Path,
        field: DisplacementField,
        images: tuple[Volume, Volume],
        tools: SimpleNamespace,
    ) -> None:
        u = field.vectors
        half = (np.array(SHAPE) - 1) / 2
        cases = {
            "voxels, components reversed": u[..., ::-1],
            "voxels, negated (an inverse or the opposite direction)": -u,
            "millimetres along the array axes": u * 0.6,
            "absolute voxel coordinates": u + tools.voxels(SHAPE),
            "absolute voxel coordinates, components reversed": (u + tools.voxels(SHAPE))[..., ::-1],
            "normalised displacements": u / half,
            "normalised displacements, components reversed": (u / half)[..., ::-1],
            "millimetres, LPS (ITK, ANTs, elastix)": itk.to_itk(field)[:, :, :, 0],
            "axes z, y, x: voxels": u.transpose(2, 1, 0, 3),
        }
        for name, array in cases.items():
            reading = self.best(save(tmp_path / "disp_1_2.nii.gz", array), images)
            assert name in reading.names
            assert reading.format == ""

    def test_equal_readings_share_a_line(self, tmp_path: Path, images: tuple[Volume, Volume]) -> None:
        grid = Grid(SHAPE)
        volumes = Volume(images[0].array, grid), Volume(images[1].array, grid)
        readings = rank_readings(save(tmp_path / "disp_1_2.nii.gz", np.ones((*SHAPE, 3))), *volumes)
        line = next(r for r in readings if "voxels" in r.names)
        assert {"millimetres, RAS+", "millimetres along the array axes"} <= set(line.names)
        assert line.format == "challenge"

    def test_refusals(self, tmp_path: Path, images: tuple[Volume, Volume]) -> None:
        with pytest.raises(InputError, match="no layout"):
            rank_readings(save(tmp_path / "a.nii.gz", np.zeros((5, 5, 5, 3))), *images)
        with pytest.raises(InputError, match="not in doubt"):
            rank_readings(tmp_path / "a.mat", *images)
