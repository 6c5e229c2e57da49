"""The first registration on a machine: kernels are compiled once, and the log says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pytest

import iterreg
from iterreg.methods.trial import make_trial

PACKAGE = Path(iterreg.__file__).parent
PAIR = "fixed_moving"

QUICK = """\
scale_to_brain = false
padding_mm = 8.0
pyramid = {image_spacing_mm = [6.0, 4.0], velocity_spacing_mm = [4.0, 4.0], iterations = [3, 3]}
similarity = {radius_mm = [6.0]}
"""


@pytest.fixture
def sealed_copy(tmp_path: Path) -> Iterator[Path]:
    """The package where nothing can be written beside it, not even by root, whom permissions do not bind."""
    copy = tmp_path / "site" / "iterreg"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "kernels" / "__pycache__").write_text("a file where numba would make a folder")
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield copy
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--cold"]], ids=["warm", "cold"])
def test_together_with_an_empty_cache_and_no_home(
    sealed_copy: Path, tmp_path: Path, options: list[str]
) -> None:
    """Three commands start at once; later ones find what they compiled, in the temporary folder."""
    scratch, work = tmp_path / "scratch", tmp_path / "work"
    scratch.mkdir()
    work.mkdir()
    trial = make_trial()
    for name, volume in (("fixed", trial.fixed), ("moving", trial.moving)):
        nib.nifti1.Nifti1Image(volume.array, volume.grid.affine).to_filename(work / f"{name}.nii.gz")
    (work / "quick.toml").write_text(QUICK)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "PYTHON"))}
    env = kept | {
        "PYTHONPATH": str(sealed_copy.parent),
        "HOME": "/dev/null/nonexistent",
        "TMPDIR": str(scratch),
    }

    def start(out: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "iterreg", "run", "fixed.nii.gz", "moving.nii.gz", "--out", out]
        command += ["--method", "lddmm:quick.toml", "--threads", "1", *options]
        return subprocess.Popen(
            command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(process: subprocess.Popen[str]) -> None:
        said, _ = process.communicate(timeout=800)
        assert process.returncode == 0, said

    def log(out: str) -> str:
        return (work / out / "lddmm-quick" / "jobs" / PAIR / "log.txt").read_text()

    for process in [start(f"run{number}") for number in range(3)]:
        finish(process)
    logs = [log(f"run{number}") for number in range(3)]
    assert any("compiling kernels once" in text for text in logs)
    assert all(text.count("compiling kernels") <= 1 for text in logs)
    kernels = next(scratch.glob("iterreg-numba-*"))
    assert any(f"kept in {kernels}" in text for text in logs)
    assert list(kernels.rglob("*.nbc"))

    finish(start("later"))
    assert "compiling" not in log("later")
    fields = {
        (work / out / "lddmm-quick" / "fields" / f"disp_{PAIR}.nii.gz").read_bytes()
        for out in ("run0", "run1", "run2", "later")
    }
    assert len(fields) == 1
