"""A small data set, a real run over it with a pair that fails, and somebody else's fields."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.cli.main import main
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.volume import Grid, read_grid

SHAPE = (40, 48, 36)
AFFINE = np.array([[-4.0, 0, 0, 78], [0, 4, 0, -94], [0, 0, 5, -88], [0, 0, 0, 1]])
"""Stored L-A-S, voxels not cubic."""

PAIRS = (("0011", "0012"), ("0012", "0013"), ("0013", "0011"))
BROKEN = "0014"


@dataclass(frozen=True)
class Runs:
    """Where everything lies.

    Attributes
    ----------
    run
        Of `iterreg run` with the identity; the pair with `BROKEN` failed.
    deep, folding
        Folders of fields of other methods: one smooth, one that folds. Each lacks the broken pair.
    """

    dataset: Path
    run: Path
    deep: Path
    folding: Path


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def head(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with six structures: image and labels."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    at = at + 0.05 * gaussian_filter(rng.standard_normal(at.shape), (0, 5, 5, 5)) / 0.01
    labels = np.zeros(shape, np.uint8)
    labels[(at**2).sum(axis=0) < 0.75] = 1
    for label, centre in enumerate(((-0.4, 0.1, 0), (0.4, 0.1, 0), (0, 0.45, 0.1), (0, -0.45, 0)), start=2):
        labels[sum((at[a] - centre[a]) ** 2 for a in range(3)) < 0.05] = label
    image = np.array([0, 120, 200, 190, 60, 240])[labels] + rng.normal(0, 6, shape) * (labels > 0)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def image_name(subject: str) -> str:
    return f"./imagesVal/HEADMRI_{subject}_0000.nii.gz"


def fields(folder: Path, grid: Grid, amplitude: float, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for fixed, moving in PAIRS:
        noise = gaussian_filter(rng.standard_normal((*grid.shape, 3)), (3, 3, 3, 0))
        vectors = (amplitude * noise / np.abs(noise).max()).astype(np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        write_field(folder / f"disp_{fixed}_{moving}.nii.gz", DisplacementField(vectors, grid, grid))
    return folder


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Made once; tests that write take `runs`, a copy."""
    folder = tmp_path_factory.mktemp("runs")
    for number in (11, 12, 13):
        image, labels = head(number)
        save(folder / "data" / "imagesVal" / f"HEADMRI_00{number}_0000.nii.gz", image)
        save(folder / "data" / "labelsVal" / f"HEADMRI_00{number}_0000.nii.gz", labels)
    broken = folder / "data" / "imagesVal" / f"HEADMRI_{BROKEN}_0000.nii.gz"
    damaged = head(14)[0].astype(np.float32)
    damaged[3, 3, 3] = np.nan
    save(broken, damaged)
    listed = [
        {
            side: f"./imagesVal/HEADMRI_{one}_0000.nii.gz"
            for side, one in zip(("fixed", "moving"), pair, strict=True)
        }
        for pair in (*PAIRS, ("0011", BROKEN))
    ]
    dataset = folder / "data" / "HEAD_dataset.json"
    dataset.write_text(json.dumps({"name": "HEAD", "validation": listed}))
    main(["run", str(dataset), "-m", "identity", "--out", str(folder / "run"), "--cores", "1", "--no-check"])
    grid = read_grid(broken)
    return Runs(
        dataset,
        folder / "run",
        fields(folder / "deep", grid, 1.0, 1),
        fields(folder / "folding", grid, 9.0, 2),
    )


def copied(runs: Runs, folder: Path) -> Runs:
    for source in (runs.run, runs.deep, runs.folding, runs.dataset.parent):
        shutil.copytree(source, folder / source.name)
    return Runs(folder / "data" / runs.dataset.name, folder / "run", folder / "deep", folder / "folding")


@pytest.fixture
def runs(shared_runs: Runs, tmp_path: Path) -> Runs:
    """A copy to write into, in another place than where it was made."""
    return copied(shared_runs, tmp_path)


@pytest.fixture(scope="session")
def shared_page(shared_runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over the run, both folders of fields and a published table."""
    runs = copied(shared_runs, tmp_path_factory.mktemp("page"))
    out = runs.run.parent / "report.html"
    given = [str(runs.run), str(runs.deep), f"rough={runs.folding}", "published:lumir24-validation"]
    assert main(["report", *given, "--dataset", str(runs.dataset), "--out", str(out), "--cores", "1"]) == 0
    return out


@pytest.fixture
def page(shared_page: Path, tmp_path: Path) -> Path:
    """A copy of it, to write beside."""
    return Path(shutil.copy(shared_page, tmp_path))


@pytest.fixture
def report(runs: Runs) -> Callable[..., Path]:
    """Make a report by the command and give the file."""

    def make(*arguments: str | Path, dataset: bool = True) -> Path:
        out = runs.run.parent / "report.html"
        given = ["--dataset", str(runs.dataset)] if dataset else []
        assert main(["report", *map(str, arguments), *given, "--out", str(out), "--cores", "1"]) == 0
        return out

    return make
