"""``iterreg lddmm shoot``: a saved momentum gives the written field again, and its inverse."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.main import main
from iterreg.io import itk
from iterreg.io.challenge import read_field
from iterreg.methods.trial import Trial, make_trial

QUICK = """\
scale_to_brain = false
padding_mm = 8.0
pyramid = {image_spacing_mm = [4.0, 3.0], velocity_spacing_mm = [4.0, 4.0], iterations = [10, 4]}
similarity = {radius_mm = [6.0]}
"""


@dataclass(frozen=True)
class Saved:
    """A registered pair with oblique, unequal grids."""

    trial: Trial
    arm: Path

    @property
    def momentum(self) -> Path:
        return self.arm / "momentum" / "fixed_moving.npz"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder, trial = tmp_path_factory.mktemp("shoot"), make_trial()
    for name, volume in (("fixed", trial.fixed), ("moving", trial.moving)):
        nib.nifti1.Nifti1Image(volume.array, volume.grid.affine).to_filename(folder / f"{name}.nii.gz")
    (folder / "quick.toml").write_text(QUICK)
    command = [sys.executable, "-m", "iterreg", "run", "fixed.nii.gz", "moving.nii.gz", "--out", "run"]
    command += ["--method", "lddmm:quick.toml", "--threads", "1", "--inverse", "--save-momentum"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Saved(trial, folder / "run" / "lddmm-quick")


def shoot(*arguments: str | Path) -> int:
    return main(["lddmm", "shoot", *map(str, arguments)])


def test_gives_the_written_fields_again(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "disp.nii.gz", tmp_path / "back.nii.gz"
    assert shoot(saved.momentum, "--out", out, "--inverse-out", back) == 0
    fixed, moving = saved.trial.fixed.grid, saved.trial.moving.grid
    for path, kind, start, end in ((out, "fields", fixed, moving), (back, "inverse", moving, fixed)):
        written = read_field(saved.arm / kind / "disp_fixed_moving.nii.gz", start, end).vectors
        assert np.abs(read_field(path, start, end).vectors - written).max() < 1e-3
        assert np.abs(written).max() > 1
    assert "geodesic distance" in capsys.readouterr().out


def test_writes_other_formats(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / "1Warp.nii.gz"
    assert shoot(saved.momentum, "--out", path, "--to", "itk") == 0
    fixed, moving = saved.trial.fixed.grid, saved.trial.moving.grid
    written = read_field(saved.arm / "fields" / "disp_fixed_moving.nii.gz", fixed, moving).vectors
    assert np.abs(itk.read_transforms([path], fixed, moving).vectors - written).max() < 1e-3


@pytest.mark.parametrize("kind", ["missing", "text", "another npz", "cut off"])
def test_what_is_no_momentum_is_refused_in_a_sentence(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "some.npz"
    if kind == "text":
        path.write_text("momentum")
    elif kind == "another npz":
        np.savez(path, arr_0=np.zeros((3, 4, 4, 4), np.float16))
    elif kind == "cut off":
        path.write_bytes(saved.momentum.read_bytes()[:-5000])
    assert shoot(path, "--out", tmp_path / "disp.nii.gz") == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(path) in sentence
    assert not (tmp_path / "disp.nii.gz").exists()


def test_a_folder_that_is_not_there_is_refused_before_any_work(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shoot(saved.momentum, "--out", tmp_path / "nowhere" / "disp.nii.gz") == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on file sizes stands for it: both end a write by an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        assert shoot(saved.momentum, "--out", tmp_path / "disp.nii.gz") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "disp.nii.gz: cannot be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_method_without_a_momentum_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = make_trial(oblique=False)
    for name, volume in (("fixed", trial.fixed), ("moving", trial.moving)):
        nib.nifti1.Nifti1Image(volume.array, volume.grid.affine).to_filename(tmp_path / f"{name}.nii.gz")
    pair = [str(tmp_path / f"{name}.nii.gz") for name in ("fixed", "moving")]
    assert main(["run", *pair, "-m", "identity", "--save-momentum", "--out", str(tmp_path / "run")]) == 1
    assert "no method of identity has a momentum" in capsys.readouterr().err
