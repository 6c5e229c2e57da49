"""Formats by name, and which names are certain enough to guess from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import formats
from iterreg.io.names import FORMAT_NAMES
from iterreg.volume import Grid

NAMES = {
    "challenge": "disp_1_2.nii.gz",
    "itk": "1Warp.nii.gz",
    "elastix": "TransformParameters.0.txt",
    "npz": "disp_1_2.npz",
    "ras": "ras.nii.gz",
    "torch": "grid.npy",
    "torch-unaligned": "grid.npy",
    "spm": "y_1.nii",
    "niftyreg": "cpp.nii.gz",
    "fsl": "warp.nii.gz",
    "fsl-absolute": "warp.nii.gz",
    "icon": "phi.npy",
}


def test_names_agree() -> None:
    assert set(FORMAT_NAMES) == {*formats.FORMATS, "ants"}
    assert formats.named("ants") is formats.FORMATS["itk"]
    assert set(NAMES) == set(formats.FORMATS)
    with pytest.raises(InputError, match="no field format 'nifti'"):
        formats.named("nifti")


@pytest.mark.parametrize("name", NAMES)
def test_every_format_reads_what_it_writes(name: str, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed = tools.oriented_grid(11, (8, 10, 12), (1.0, 1.2, 0.8), (0.1, 0.2, 0.3))
    moving = tools.oriented_grid(42, (9, 8, 11), (1.1, 0.7, 1.5), (0.3, 0.0, 0.1))
    if name == "npz":  # half the resolution carries no change of grid exactly, so compare on one grid
        moving = fixed
    field = tools.smooth_field(fixed, moving, seed=0, amplitude=0.2)
    formats.FORMATS[name].writer(tmp_path / NAMES[name], field)
    back = formats.read([tmp_path / NAMES[name]], fixed, moving, name=name)
    tolerance = 0.15 if name == "npz" else 1e-3
    np.testing.assert_allclose(back.vectors, field.vectors, atol=tolerance)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["challenge", "itk", "elastix", "npz"])
def test_safe_names_are_guessed(name: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[name]
    assert formats.guess_output(path).name == name
    formats.FORMATS[name].writer(path, DisplacementField.identity(Grid((8, 8, 8))))
    assert formats.guess_input([path]).name == name


@pytest.mark.parametrize("name", ["ras", "torch"])
def test_doubtful_names_are_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[name]
    with pytest.raises(InputError, match="--to"):
        formats.guess_output(path)
    formats.FORMATS[name].writer(path, DisplacementField.identity(Grid((8, 8, 8))))
    with pytest.raises(InputError, match="iterreg inspect"):
        formats.guess_input([path])


def test_transform_files_are_guessed_without_reading_them() -> None:
    for names in (["a.mat"], ["[a.mat,1]"], ["a.h5"], ["w.mha"], ["1Warp.nii.gz", "0GenericAffine.mat"]):
        assert formats.guess_input(names).name == "itk"
    assert formats.guess_output("x_1InverseWarp.nii.gz").name == "itk"


def test_lists_are_for_itk_only(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4))
    with pytest.raises(InputError, match="takes one file"):
        formats.read(["a.nii.gz", "b.nii.gz"], grid, grid, name="challenge")


def test_five_dimensions_called_disp_are_still_itk(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4))
    image.header["intent_code"] = 1007
    image.to_filename(tmp_path / "disp_1_2.nii.gz")
    assert formats.guess_input([tmp_path / "disp_1_2.nii.gz"]).name == "itk"
