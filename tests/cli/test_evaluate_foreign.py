"""Folders of networks' and other tools' fields, scored, compared and reported as they are."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.main import main
from iterreg.field import DisplacementField
from iterreg.io import fsl, icon, itk, niftyreg, npz, spm, torch_grid, world
from iterreg.io.challenge import read_field, write_field
from iterreg.jobs.resources import cpu_model
from iterreg.volume import Grid, read_grid

SHAPE = (16, 12, 14)
AFFINE = np.array([[-1.2, 0, 0, 9], [0, 0.96, 0.252, -20], [0, -0.28, 0.864, 3], [0, 0, 0, 1]])
PAIRS = [("0011", "0010"), ("0012", "0011")]
PATTERN = "{fixed}_to_{moving}"
NOT_MEASURES = ("field", "reason")


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three people, two pairs, and known fields in ``known`` as the challenge has them."""
    rng = np.random.default_rng(8)
    for subject in ("0010", "0011", "0012"):
        name = f"BRAINMRI_{subject}_0000.nii.gz"
        blocks = np.kron(rng.integers(0, 4, (4, 3, 4)), np.ones((4, 4, 4), int))[:16, :12, :14]
        save(tmp_path / "imagesVal" / name, (blocks * 50 + 5).astype(np.uint8))
        save(tmp_path / "labelsVal" / name, blocks.astype(np.uint8))
    grid = Grid(SHAPE, AFFINE)
    p = np.stack(np.indices(SHAPE), axis=-1).astype(np.float64)
    (tmp_path / "known").mkdir()
    for fixed, moving in PAIRS:
        phase = rng.uniform(0, 6, (3, 3))
        u = np.stack([np.sin(p @ (0.2 * np.eye(3)[a]) + phase[a, 0]) * 1.5 + 0.37 for a in range(3)], axis=-1)
        field = DisplacementField(u.astype(np.float32), grid, grid)
        write_field(tmp_path / "known" / f"disp_{fixed}_{moving}.nii.gz", field)
    path = tmp_path / "BRAIN_dataset.json"
    listed = [
        {
            side: f"./imagesVal/BRAINMRI_{i}_0000.nii.gz"
            for side, i in zip(("fixed", "moving"), pair, strict=True)
        }
        for pair in PAIRS
    ]
    path.write_text(json.dumps({"name": "BRAIN", "validation": listed}))
    return path


Writer = Callable[[Path, DisplacementField], None]


def each(dataset: Path, folder: Path, name: str, write: Writer) -> Path:
    """The known fields, written into `folder` under names of the pattern."""
    folder.mkdir(exist_ok=True)
    for fixed, moving in PAIRS:
        images = dataset.parent / "imagesVal"
        grids = [read_grid(images / f"BRAINMRI_{one}_0000.nii.gz") for one in (fixed, moving)]
        field = read_field(dataset.parent / "known" / f"disp_{fixed}_{moving}.nii.gz", *grids)
        path = folder / name.format(fixed=fixed, moving=moving)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, field)
    return folder


def evaluate(dataset: Path, folder: Path, *more: str, out: str = "out") -> int:
    command = ["evaluate", str(folder), "--dataset", str(dataset), "--cores", "1"]
    return main([*command, "--out", str(dataset.parent / out), *more])


def scores(dataset: Path, out: str = "out") -> list[Mapping[str, str]]:
    """The rows of ``pairs.csv`` and ``labels.csv`` without what is no number."""
    found: list[Mapping[str, str]] = []
    for name in ("pairs.csv", "labels.csv"):
        with (dataset.parent / out / name).open(newline="") as stream:
            for row in csv.DictReader(stream):
                found.append({key: value for key, value in row.items() if key not in NOT_MEASURES})
    return found


def batched(path: Path, field: DisplacementField) -> None:
    np.savez(path, arr_0=np.moveaxis(field.vectors, -1, 0)[np.newaxis])


WRITTEN: Mapping[str, tuple[str, str, Writer]] = {
    "transmorph": ("challenge", ".nii.gz", write_field),
    "voxelmorph": ("npz", ".npz", lambda p, f: np.savez(p, arr_0=np.moveaxis(f.vectors, -1, 0))),
    "batch": ("npz", ".npz", batched),
    "array": ("npz", ".npy", lambda p, f: np.save(p, f.vectors)),
    "half": ("npz", ".npz", npz.write),
    "torch": ("torch", ".npy", torch_grid.write),
    "torch-unaligned": (
        "torch-unaligned", ".npy", lambda p, f: torch_grid.write(p, f, align_corners=False)
    ),
    "icon": ("icon", ".npy", icon.write),
    "itk": ("itk", ".nii.gz", itk.write_warp),
    "ras": ("ras", ".nii.gz", world.write),
    "spm": ("spm", ".nii", spm.write),
    "niftyreg": ("niftyreg", ".nii.gz", niftyreg.write),
    "fsl": ("fsl", ".nii.gz", lambda p, f: fsl.write(p, f, absolute=False)),
    "fsl-absolute": ("fsl-absolute", ".nii.gz", lambda p, f: fsl.write(p, f, absolute=True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_scored_as_it_is_equals_converted_first(dataset: Path, kind: str) -> None:
    name, ending, write = WRITTEN[kind]
    folder = each(dataset, dataset.parent / "net", PATTERN + ending, write)
    asked = ["--from", name, "--pattern", PATTERN + ending]
    assert evaluate(dataset, folder, *asked) == 0
    converted = dataset.parent / "converted"
    converted.mkdir()
    for fixed, moving in PAIRS:
        images = [str(dataset.parent / "imagesVal" / f"BRAINMRI_{i}_0000.nii.gz") for i in (fixed, moving)]
        command = ["convert", str(folder / (PATTERN + ending).format(fixed=fixed, moving=moving))]
        command += [str(converted / f"disp_{fixed}_{moving}.nii.gz"), "--from", name]
        assert main([*command, "--fixed", images[0], "--moving", images[1]]) == 0
    assert evaluate(dataset, converted, out="first") == 0
    assert scores(dataset) == scores(dataset, "first")

    summary = json.loads((dataset.parent / "out" / "summary.json").read_text())
    assert summary["fields"] == {"format": name, "pattern": [PATTERN + ending]}
    voxels = "npz" if ending.startswith(".np") else "challenge"
    assert summary["read_as"] == {voxels if name in ("challenge", "npz") else name: 2}

    if kind != "half":  # which is coarser than what it was made of
        assert evaluate(dataset, dataset.parent / "known", out="known-scores") == 0
        for mine, truth in zip(scores(dataset), scores(dataset, "known-scores"), strict=True):
            assert mine.get("dice") == truth.get("dice")
            assert mine.get("DSC") == truth.get("DSC")


@pytest.mark.parametrize(
    "kind", ["voxelmorph", "half", "icon", "itk", "spm", "niftyreg", "fsl", "fsl-absolute"]
)
def test_a_certain_format_needs_no_option_and_is_said(
    dataset: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, ending, write = WRITTEN[kind]
    folder = each(dataset, dataset.parent / "net", PATTERN + ending, write)
    assert evaluate(dataset, folder, "--pattern", PATTERN + ending) == 0
    said = f"2 fields read as {name}, which their names, headers and numbers make certain"
    assert said in capsys.readouterr().out
    assert evaluate(dataset, folder, "--pattern", PATTERN + ending, "--from", name, out="named") == 0
    assert scores(dataset) == scores(dataset, "named")


@pytest.mark.parametrize(("kind", "ending"), [("icon", ".npz"), ("itk", ".nii.gz"), ("batch", ".npz")])
def test_a_challenges_name_makes_no_other_format_voxels(
    dataset: Path, kind: str, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """ICON's maps in a ``disp_`` file were scored as displacements of less than a voxel."""

    def write(path: Path, field: DisplacementField) -> None:
        if kind != "icon":
            WRITTEN[kind][2](path, field)
            return
        icon.write(path.with_suffix(".npy"), field)
        np.savez(path, np.load(path.with_suffix(".npy"))[0])
        path.with_suffix(".npy").unlink()

    folder = each(dataset, dataset.parent / "net", "disp_{fixed}_{moving}" + ending, write)
    assert evaluate(dataset, folder) == 0
    if kind != "batch":
        assert f"2 fields read as {kind}, which" in capsys.readouterr().out
    assert evaluate(dataset, dataset.parent / "known", out="known-scores") == 0
    assert [row.get("DSC") for row in scores(dataset)] == [
        row.get("DSC") for row in scores(dataset, "known-scores")
    ]


def test_places_under_the_challenges_name_are_refused(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, field: DisplacementField) -> None:
        places = field.vectors + np.stack(np.indices(SHAPE), axis=-1)
        save(path, places.astype(np.float32), np.eye(4))

    folder = each(dataset, dataset.parent / "net", "disp_{fixed}_{moving}.nii.gz", write)
    assert evaluate(dataset, folder) == 2
    assert "so they are places and not the displacements that its name promises" in capsys.readouterr().out
    assert evaluate(dataset, folder, "--from", "challenge", out="as-said") == 0


def test_ants_files_make_one_transform(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warp alone is half of it, and it is said; both patterns give what both files mean."""
    import SimpleITK

    affine = SimpleITK.AffineTransform(3)
    affine.SetTranslation((1.2, 0.0, 0.0))

    def write(path: Path, field: DisplacementField) -> None:
        itk.write_warp(path.with_name(path.name + "1Warp.nii.gz"), field)
        SimpleITK.WriteTransform(affine, str(path.with_name(path.name + "0GenericAffine.mat")))

    name = "{fixed}/{moving}_"
    folder = each(dataset, dataset.parent / "ants", name, write)
    assert evaluate(dataset, folder, "--pattern", f"{name}1Warp.nii.gz", out="alone") == 0
    assert "0010_1Warp.nii.gz: is read without 0010_0GenericAffine.mat" in capsys.readouterr().out
    both = ["--pattern", f"{name}1Warp.nii.gz", "--pattern", f"{name}0GenericAffine.mat"]
    assert evaluate(dataset, folder, *both) == 0
    assert "is read without" not in capsys.readouterr().out
    shifted = dataset.parent / "shifted"
    shifted.mkdir()
    for fixed, moving in PAIRS:  # +1.2 mm in LPS is -1.2 mm in RAS: +1 voxel of the first axis
        grid = Grid(SHAPE, AFFINE)
        known = read_field(dataset.parent / "known" / f"disp_{fixed}_{moving}.nii.gz", grid, grid)
        moved = DisplacementField(known.vectors + np.float32([1, 0, 0]), grid, grid)
        write_field(shifted / f"disp_{fixed}_{moving}.nii.gz", moved)
    assert evaluate(dataset, shifted, out="truth") == 0
    dice = [row.get("DSC") for row in scores(dataset)]
    assert dice == [row.get("DSC") for row in scores(dataset, "truth")]
    assert dice != [row.get("DSC") for row in scores(dataset, "alone")]


def test_a_folder_without_usable_fields_says_what_would_read_it(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = each(dataset, dataset.parent / "net", PATTERN + ".npy", torch_grid.write)
    assert evaluate(dataset, folder) == 1
    said = capsys.readouterr().err
    assert "holds no field of the 2 pairs" in said
    assert "0011_to_0010.npy (seems to be torch" in said
    assert "add --pattern '{fixed}_to_{moving}.npy' --from torch" in said
    assert "it fits 2 pairs" in said
    assert not (dataset.parent / "out").exists()
    assert evaluate(dataset, folder, "--pattern", "{fixed}_to_{moving}.npy", "--from", "torch") == 0
    (folder / "notes.md").write_text("x")
    for path in folder.glob("*.npy"):
        path.unlink()
    shutil.copy(dataset, folder / "one.nii.gz.json")
    assert main(["evaluate", str(folder), "--dataset", str(dataset), "--pattern", "{pair}.npy"]) == 1
    assert "it holds notes.md, one.nii.gz.json; name the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pattern", "{fixd}_{moving}.npy"], "there is no {fixd}; did you mean 'fixed'? known are {fix"),
        (["--pattern", "{fixed_{moving}.npy"], "its braces do not match"),
        (["--pattern", "field.npy"], "names one file for all pairs"),
        (["--pattern", "{fixed:03}_{moving}.npy"], "takes nothing behind its name"),
        (["--pattern", "/data/{pair}.npy"], "is taken within the folder of fields"),
        (["--pattern", "{fixed_modality}.npy"], "gives the pairs 0011_0000<--0010_0000 and 0012_0000<--"),
        (["--pattern", "{pair}", "--pattern", "{case}", "--from", "npz"], "the format npz takes one file"),
        (["--from", "matlab"], "there is no field format 'matlab'"),
        (["--from", "npz", "--from", "itk"], "is given twice"),
    ],
)  # fmt: skip
def test_wrong_options_are_a_sentence(
    dataset: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(dataset, dataset.parent / "known", *options) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.fixture
def run(dataset: Path) -> Path:
    folder = dataset.parent / "run"
    command = ["run", str(dataset), "-m", "identity", "--out", str(folder), "--cores", "1"]
    assert main(command) == 0
    return folder


def test_a_run_takes_no_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--from", "torch"]) == 1
    assert "--from torch: is about a folder of anyone's fields" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--cores", "1"]) == 0
    assert (run / "identity" / "scores" / "summary.json").is_file()


def test_foreign_folders_beside_a_run(
    dataset: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """compare scores them by the run's pairs; report reads them again as it was said, pictures included."""
    monkeypatch.chdir(dataset.parent)
    each(dataset, Path("vxm"), PATTERN + ".npz", WRITTEN["voxelmorph"][2])
    each(dataset, Path("maps"), "{fixed}/{moving}.npy", torch_grid.write)
    command = ["compare", "run", "VXM=vxm", "Maps=maps", "--pattern", f"VXM={PATTERN}.npz"]
    command += ["--pattern", "Maps={fixed}/{moving}.npy", "--from", "Maps=torch"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "identity" in shown
    assert "VXM" in shown
    truth = Path("truth")
    assert evaluate(dataset, Path("known"), out="truth") == 0
    expected = [row.get("DSC") for row in scores(dataset, str(truth))]
    for folder in ("vxm-scores", "maps-scores"):
        assert [row.get("DSC") for row in scores(dataset, folder)] == expected

    pytest.importorskip("matplotlib")
    capsys.readouterr()
    report = ["report", "run", "VXM=vxm", "Maps=maps-scores", "-o", "report.html", "--cores", "1"]
    assert main(report) == 0
    assert "evaluating" not in capsys.readouterr().err, "what was said of the folders is known by now"
    text = Path("report.html").read_text()
    assert "fields read as torch, from {fixed}/{moving}.npy" in text
    sidecar = json.loads(next(Path("run").rglob("disp_*.json")).read_text())
    machine = sidecar["machine"]
    assert machine["cpu"] == cpu_model()
    assert text.count(f"{machine['host']}: {cpu_model()}, ") == 1, "once for the two jobs of a host"
    assert "No pictures" not in text
    assert "Only its scores are here" not in text


def test_one_unusable_folder_costs_itself(
    dataset: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(dataset.parent)
    each(dataset, Path("net"), PATTERN + ".npz", WRITTEN["voxelmorph"][2])
    assert main(["report", "run", "net", "-o", "report.html", "--cores", "1"]) == 0
    assert "add --pattern &#39;{fixed}_to_{moving}.npz&#39;" in Path("report.html").read_text()
