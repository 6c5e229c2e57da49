"""``iterreg evaluate`` on small data: rows with reasons, records kept, outputs, protocols."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.main import main
from iterreg.evaluation import work
from iterreg.statistics.sources import read_sources

SHAPE = (14, 12, 13)
PAIRS = [("0011", "0010"), ("0012", "0011"), ("0010", "0012"), ("0010", "0011")]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three people, four pairs (the last the opposite of the first) and their fields."""
    rng = np.random.default_rng(5)
    for subject in ("0010", "0011", "0012"):
        name = f"BRAINMRI_{subject}_0000.nii.gz"
        blocks = np.kron(rng.integers(0, 4, (4, 3, 4)), np.ones((4, 4, 4), int))[:14, :12, :13]
        save(tmp_path / "imagesVal" / name, (blocks * 50 + 5).astype(np.uint8))
        save(tmp_path / "labelsVal" / name, blocks.astype(np.uint8))
        blobs = np.zeros(SHAPE, np.uint8)
        blobs[4:7, 4:7, 4:7], blobs[9:12, 5:8, 6:9] = 1, 2
        save(tmp_path / "landmarksVal" / name, blobs)
    for fixed, moving in PAIRS:
        u = rng.normal(0, 0.4, (*SHAPE, 3)).astype(np.float32)
        save(tmp_path / "fields" / f"disp_{fixed}_{moving}.nii.gz", u)
    path = tmp_path / "BRAIN_dataset.json"
    listed = [
        {
            side: f"./imagesVal/BRAINMRI_{i}_0000.nii.gz"
            for side, i in zip(("fixed", "moving"), p, strict=True)
        }
        for p in PAIRS
    ]
    path.write_text(json.dumps({"name": "BRAIN", "validation": listed}))
    return path


def evaluate(dataset: Path, *more: str, cores: int = 1) -> int:
    command = ["evaluate", str(dataset.parent / "fields"), "--dataset", str(dataset), "--cores", str(cores)]
    return main([*command, "--out", str(dataset.parent / "out"), *more])


def rows(dataset: Path, name: str) -> list[dict[str, str]]:
    with (dataset.parent / "out" / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def written(dataset: Path, name: str) -> Any:
    return json.loads((dataset.parent / "out" / name).read_text())


def test_writes_everything(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(dataset) == 0
    metrics = written(dataset, "metrics.json")
    assert list(metrics) == ["name", "aggregates", "cases", "eval_version"]
    assert set(metrics["aggregates"]) == {"Non-diffeomorphic Volumes", "DSC", "HD95", "TRE_lm"}
    case = metrics["cases"]["0011_0000<--0010_0000"]
    assert len(case["DSC"]["detailed"]) == 4, "the background counts in LUMIR's protocols"
    pairs = rows(dataset, "pairs.csv")
    assert [row["pair"] for row in pairs] == ["0011_0010", "0012_0011", "0010_0012", "0010_0011"]
    assert float(pairs[0]["DSC"]) == pytest.approx(case["DSC"]["mean"])
    labels = rows(dataset, "labels.csv")
    assert len(labels) == 16
    first = [float(row["dice"]) for row in labels if row["pair"] == "0011_0010"]
    np.testing.assert_allclose(first, case["DSC"]["detailed"])
    volume = nib.load(dataset.parent / "labelsVal" / "BRAINMRI_0011_0000.nii.gz").get_fdata()
    assert float(labels[1]["fixed_mm3"]) == (volume == 1).sum()
    summary = written(dataset, "summary.json")
    assert summary["scored"] == summary["pairs"] == 4
    assert 0 <= summary["dice30"] <= 1
    shown = capsys.readouterr().out
    assert "0012_0011" in shown
    assert f"{metrics['aggregates']['DSC']['mean']:.4f}" in shown


def test_json_is_strict_where_numbers_are_not_finite(dataset: Path) -> None:
    """A vanished label makes HD95 infinite: null in the json, which has no word for it, inf in the csv."""
    for path in (dataset.parent / "labelsVal").glob("*_0010_*"):
        volume = nib.load(path)
        labels = np.asarray(volume.dataobj).copy()
        labels[labels == 3] = 0
        labels.flat[0] = 3  # in a corner, where the field leads away from it
        nib.save(nib.Nifti1Image(labels, volume.affine), path)
    evaluate(dataset)

    def refused(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for name in ("metrics.json", "summary.json"):
        json.loads((dataset.parent / "out" / name).read_text(), parse_constant=refused)
    assert rows(dataset, "pairs.csv")[0]["HD95"] == "inf"
    assert written(dataset, "metrics.json")["cases"]["0011_0000<--0010_0000"]["HD95"]["mean"] is None
    assert written(dataset, "summary.json")["units"] == {"HD95": "voxels", "TRE_lm": "voxels"}


def test_a_number_that_comes_from_the_background_alone_says_so(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dataset.parent / "labelsVal" / "BRAINMRI_0010_0000.nii.gz"
    labels = np.asarray(nib.load(path).dataobj)
    save(path, np.where(labels > 0, labels + 10, 0).astype(np.uint8))
    evaluate(dataset, "--no-config", "--protocol", "lumir25")
    shown = capsys.readouterr().out
    assert "0011_0010: Dice is that of the background alone" in shown
    assert "0012_0011: Dice" not in shown


def test_inverse_consistency_where_a_pair_exists_in_both_directions(dataset: Path) -> None:
    assert evaluate(dataset) == 0
    by_pair = {row["pair"]: row for row in rows(dataset, "pairs.csv")}
    assert float(by_pair["0011_0010"]["inverse_consistency_mean_mm"]) > 0
    assert float(by_pair["0010_0011"]["inverse_consistency_mean_mm"]) > 0
    assert by_pair["0012_0011"]["inverse_consistency_mean_mm"] == ""


def test_a_saved_inverse_is_found(dataset: Path) -> None:
    inverses = dataset.parent / "inverse"
    inverses.mkdir()
    shutil.copy(dataset.parent / "fields" / "disp_0012_0011.nii.gz", inverses)
    assert evaluate(dataset, "--pairs", "0012_0011") == 0
    assert float(rows(dataset, "pairs.csv")[0]["inverse_consistency_p95_mm"]) > 0


def test_what_cannot_be_scored_is_a_row_with_a_reason(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = dataset.parent / "fields"
    (fields / "disp_0011_0010.nii.gz").unlink()
    save(fields / "disp_0012_0011.nii.gz", np.zeros((*SHAPE[::-1], 3), np.float32))
    damaged = fields / "disp_0010_0012.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert evaluate(dataset) == 2
    found = {row["pair"]: row for row in rows(dataset, "pairs.csv")}
    assert [row["outcome"] for row in found.values()] == ["failed", "failed", "failed", "ok"]
    assert "is missing" in found["0011_0010"]["reason"]
    assert "reversed" in found["0012_0011"]["reason"]
    assert "cannot be read" in found["0010_0012"]["reason"]
    assert list(written(dataset, "metrics.json")["cases"]) == ["0010_0000<--0011_0000"]
    assert len(written(dataset, "summary.json")["not_scored"]) == 3
    assert "not scored: 0011_0010" in capsys.readouterr().out


def test_children_give_the_same_numbers_and_the_same_reasons(dataset: Path) -> None:
    save(dataset.parent / "fields" / "disp_0012_0011.nii.gz", np.zeros((3, 3, 3, 3), np.float32))
    assert evaluate(dataset) == 2
    alone = written(dataset, "metrics.json"), rows(dataset, "pairs.csv")
    shutil.rmtree(dataset.parent / "out")
    assert evaluate(dataset, cores=2) == 2
    assert (written(dataset, "metrics.json"), rows(dataset, "pairs.csv")) == alone


def test_nothing_is_computed_twice(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = work.score_pair

    def counted(pair: Any, *args: Any, **more: Any) -> Any:
        done.append(pair.name)
        return real(pair, *args, **more)

    monkeypatch.setattr(work, "score_pair", counted)
    assert evaluate(dataset) == 0
    first = written(dataset, "metrics.json")
    assert len(done) == 4
    assert evaluate(dataset) == 0
    assert len(done) == 4, "all were known"
    assert written(dataset, "metrics.json") == first

    save(dataset.parent / "fields" / "disp_0012_0011.nii.gz", np.zeros((*SHAPE, 3), np.float32))
    assert evaluate(dataset) == 0
    assert done[4:] == ["0012_0011"], "its field has changed"
    (dataset.parent / "out" / "cases" / "0010_0000_0012_0000.json").write_text("{")
    assert evaluate(dataset) == 0
    assert done[5:] == ["0010_0012"], "its record was damaged"
    assert evaluate(dataset, "--protocol", "lumir24") == 0
    assert len(done) == 10, "another protocol is another question"


def test_a_part_takes_nothing_of_the_rest_away(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(dataset) == 0
    before = rows(dataset, "pairs.csv"), rows(dataset, "labels.csv"), written(dataset, "metrics.json")
    capsys.readouterr()
    assert evaluate(dataset, "--pairs", "0012_0011") == 0
    shown = capsys.readouterr().out
    assert "0012_0011" in shown
    assert "0011_0010" not in shown
    assert (
        rows(dataset, "pairs.csv"),
        rows(dataset, "labels.csv"),
        written(dataset, "metrics.json"),
    ) == before
    save(dataset.parent / "fields" / "disp_0010_0012.nii.gz", np.zeros((*SHAPE, 3), np.float32))
    assert evaluate(dataset, "--pairs", "0012_0011") == 0
    after = {row["pair"]: row for row in rows(dataset, "pairs.csv")}
    assert len(after) == 4
    assert after["0010_0012"]["DSC"] != {row["pair"]: row for row in before[0]}["0010_0012"]["DSC"]


def test_a_field_under_another_name_is_scored_and_noted(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = dataset.parent / "fields"
    (fields / "disp_0011_0010.nii.gz").rename(fields / "disp_0011_0000_0010_0000.nii.gz")
    assert evaluate(dataset) == 0
    assert "looks for disp_0011_0010.nii.gz" in capsys.readouterr().out


def test_robust_values_name_what_they_leave_out(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    u = np.zeros((*SHAPE, 3), np.float32)
    u[2:9, 2:9, 2:9, 2] = 20  # landmark 1 is sent out of the grid
    save(dataset.parent / "fields" / "disp_0011_0010.nii.gz", u)
    assert evaluate(dataset) == 0
    row = rows(dataset, "pairs.csv")[0]
    assert math.isnan(float(row["TRE_lm"]))
    assert float(row["TRE_lm_robust"]) == 0
    assert row["TRE_lm_affected"] == "1"
    measures = written(dataset, "summary.json")["measures"]["TRE_lm"]
    assert measures["official"]["mean"] is None
    assert measures["robust_mean"] > 0
    assert measures["affected"] == {"0011_0000<--0010_0000": [1]}
    assert "the landmarks 1 vanished" in capsys.readouterr().out


def test_a_measure_without_its_files_is_a_problem_of_the_pair(dataset: Path) -> None:
    shutil.rmtree(dataset.parent / "landmarksVal")
    config = dataset.parent / "X_evaluation_config.json"
    entry = json.loads(dataset.read_text())["validation"][0]
    methods = [{"name": "TRE", "metric": "tre", "dest": "landmarks"}, {"name": "NDV", "metric": "ndv"}]
    config.write_text(json.dumps({"name": "X", "eval_pairs": [entry], "evaluation_methods": methods}))
    assert evaluate(dataset) == 2
    first, second, *_ = rows(dataset, "pairs.csv")
    assert first["outcome"] == "incomplete"
    assert "no landmarks" in first["reason"]
    assert float(first["NDV"]) >= 0
    assert second["outcome"] == "ok", "a pair that no config lists is measured by the protocol"
    assert second["DSC"]


def test_lumirage_scores_foreground_by_one_hot_interpolation(dataset: Path) -> None:
    assert evaluate(dataset, "--protocol", "lumirage", "--pairs", "0011_0010") == 0
    case = written(dataset, "metrics.json")["cases"]["0011_0000<--0010_0000"]
    assert list(case) == ["DSC"]
    u = nib.load(dataset.parent / "fields" / "disp_0011_0010.nii.gz").get_fdata()
    fixed, moving = (
        nib.load(dataset.parent / "labelsVal" / f"BRAINMRI_{i}_0000.nii.gz").get_fdata()
        for i in ("0011", "0010")
    )
    channels = np.stack([zero_padded(moving == label, u) for label in range(4)])
    warped = channels.argmax(axis=0)
    expected = [
        (2 * ((fixed == i) & (warped == i)).sum() + 1e-5) / ((fixed == i).sum() + (warped == i).sum() + 1e-5)
        for i in (1, 2, 3)
    ]
    np.testing.assert_allclose(case["DSC"]["detailed"], expected)


def zero_padded(channel: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Trilinear interpolation as torch's ``grid_sample`` does it: zeros beyond the border."""
    from scipy.ndimage import map_coordinates

    where = np.moveaxis(np.moveaxis(np.indices(channel.shape), 0, -1) + u, -1, 0)
    return map_coordinates(channel.astype(float), where, order=1, mode="grid-constant")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.json"], "there is no such file"),
        (["--config", "BRAIN_dataset.json"], "an evaluation config is needed"),
        (["--config", "a.json", "--no-config"], "exclude each other"),
        (["--pairs", "0099_0010"], "has no pair"),
    ],
)
def test_refusals(
    dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    known = {"BRAIN_dataset.json": str(dataset)}
    assert evaluate(dataset, *(known.get(word, word) for word in arguments)) == 1
    assert message in capsys.readouterr().err


def test_no_folder_of_fields(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(dataset.parent / "fields")
    assert evaluate(dataset) == 1
    assert "there is no such file or folder" in capsys.readouterr().err


def test_a_name_is_no_formula_to_a_spreadsheet(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is guarded in the tables, and read back as it is."""
    folder = dataset.parent
    image = "imagesVal/BRAINMRI_{}_0000.nii.gz"
    lines = ["fixed,moving,fixed_id,moving_id", f"{image.format('0011')},{image.format('0010')},=1+1,@x"]
    (folder / "pairs.csv").write_text("\n".join([*lines, ""]))
    (folder / "fields/disp_0011_0010.nii.gz").rename(folder / "fields/disp_=1+1_@x.nii.gz")
    out = folder / "scores"
    arguments = ["evaluate", folder / "fields", "--dataset", folder / "pairs.csv", "-o", out]
    assert main([str(one) for one in arguments]) == 0
    for name in ("pairs.csv", "labels.csv"):
        rows = list(csv.DictReader((out / name).read_text().splitlines()))
        assert {row["pair"] for row in rows} == {"'=1+1_@x"}
        assert {row["case"] for row in rows} == {"'=1+1_0000<--@x_0000"}
    (source,) = read_sources([str(out)])
    assert set(source.values) == set(source.labels["case"]) == {"=1+1_0000<--@x_0000"}
