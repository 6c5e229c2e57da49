"""``iterreg report``: what it takes, what it reuses, what it refuses, what it does about what is missing."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.main import main

Report = Callable[..., Path]


def words(page: Path) -> str:
    """The page's text as a reader sees it."""
    text = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_a_run_and_anyones_fields_in_one_file(
    runs: Any, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    page = report(runs.run, runs.deep, f"rough={runs.folding}")
    shown = words(page)
    assert "Registration report: HEAD" in shown
    assert "3 methods, 4 pairs, 3 results failed" in shown
    for name in ("identity", "deep", "rough"):
        assert name in shown
    assert "NaN or infinite intensities" in shown, "the run's own reason, not that the field is missing"
    assert "rough folds" in shown or "rough up to" in shown
    printed = capsys.readouterr()
    assert printed.err.count("not scored yet") == 3
    assert "report.html" in printed.out


def test_scores_that_are_there_are_taken(
    runs: Any, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    report(runs.deep)
    written = (runs.deep.with_name("deep-scores") / "pairs.csv").stat().st_mtime_ns
    capsys.readouterr()
    report(runs.deep)
    assert "not scored" not in capsys.readouterr().err
    assert (runs.deep.with_name("deep-scores") / "pairs.csv").stat().st_mtime_ns == written


def test_a_new_field_is_scored_and_the_others_stay(
    runs: Any, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    last = runs.deep / "disp_0013_0011.nii.gz"
    kept = last.read_bytes()
    last.unlink()
    assert "deep 2 of 4" in words(report(runs.deep))
    last.write_bytes(kept)
    capsys.readouterr()
    assert "deep 3 of 4" in words(report(runs.deep, "--pairs", "0013_0011,0011_0012,0012_0013,0011_0014"))
    assert "evaluating" in capsys.readouterr().err


def test_chosen_pairs_are_shown_alone_and_no_score_is_lost(runs: Any, report: Report) -> None:
    report(runs.deep)
    (runs.deep / "disp_0011_0012.nii.gz").touch()
    page = report(runs.deep, "--pairs", "0011_0012")
    assert "1 method, 1 pair" in words(page)
    assert "over 1 pair" in words(page)
    with (runs.deep.with_name("deep-scores") / "pairs.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4


def test_a_moved_run_needs_no_data_set_when_the_images_are_where_they_were(runs: Any, report: Report) -> None:
    page = report(runs.run, dataset=False)  # the fixture has copied the run, its images are elsewhere
    assert "4 pairs" in words(page)
    assert page.read_text().count("data:image/webp") > 20


def test_a_run_from_a_json_with_another_root(runs: Any, report: Report) -> None:
    """What `iterreg run --root` records: a json whose own folder has no images."""
    away = runs.run.parent / "away" / runs.dataset.name
    away.parent.mkdir()
    shutil.copy(runs.dataset, away)
    record = json.loads((runs.run / "run.json").read_text())
    record["dataset"]["source"] = str(away)
    (runs.run / "run.json").write_text(json.dumps(record))
    page = report(runs.run, dataset=False)
    assert "identity 3 of 4" in words(page)
    assert page.read_text().count("data:image/webp") > 20


def scores_of(run: Path) -> dict[str, dict[str, str]]:
    with (run / "identity" / "scores" / "pairs.csv").open(newline="") as stream:
        return {row["pair"]: row for row in csv.DictReader(stream)}


def test_digests_decide_and_a_replaced_field_is_named_by_every_command(
    runs: Any, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `cp -p`: another field, of an older time than the scores."""
    report(runs.run)
    before = scores_of(runs.run)
    field = runs.run / "identity" / "fields" / "disp_0011_0012.nii.gz"
    os.utime(runs.folding / field.name, (1_000_000_000, 1_000_000_000))
    shutil.copy2(runs.folding / field.name, field)
    capsys.readouterr()
    shown = words(report(runs.run))
    sentence = "disp_0011_0012.nii.gz: is not the field that its status describes"
    err = capsys.readouterr().err
    assert "evaluating" in err
    assert sentence in err
    assert shown.index(sentence) < shown.index("Means ± standard deviation"), "before the first table"
    after = scores_of(runs.run)
    assert float(after["0011_0012"]["folded_voxels"]) > float(before["0011_0012"]["folded_voxels"]) == 0
    assert after["0012_0013"] == before["0012_0013"]
    for command, heard in (("evaluate", "out"), ("compare", "err")):
        main([command, str(runs.run), *(["--dataset", str(runs.dataset)] if command == "evaluate" else [])])
        assert sentence in getattr(capsys.readouterr(), heard), command
    images = runs.dataset.parent / "imagesVal"
    fixed, moving = (str(images / f"HEADMRI_{subject}_0000.nii.gz") for subject in ("0011", "0012"))
    both = ["--fixed", fixed, "--moving", moving]
    out = str(runs.run.parent / "disp_1_2.nii.gz")
    for command in (
        ["inspect", str(field)],
        ["convert", str(field), out, *both],
        ["warp", "--field", str(field), *both, "--out", out],
    ):
        assert main(command) == 0, command
        assert sentence in capsys.readouterr().err, command
    assert main(["package", str(runs.run), "--dataset", str(runs.dataset)]) == 1
    assert "has another size than was written" in capsys.readouterr().err


def test_changed_labels_are_scored_again(runs: Any, report: Report) -> None:
    report(runs.run)
    before = scores_of(runs.run)
    labels = runs.dataset.parent / "labelsVal" / "HEADMRI_0011_0000.nii.gz"
    other = runs.dataset.parent / "labelsVal" / "HEADMRI_0013_0000.nii.gz"
    old = labels.stat().st_mtime_ns
    shutil.copyfile(other, labels)
    os.utime(labels, ns=(old, old))
    report(runs.run)
    after = scores_of(runs.run)
    assert after["0013_0011"]["DSC"] == "1.0", "the same labels on both sides now, and nothing moved"
    assert after["0013_0011"]["DSC"] != before["0013_0011"]["DSC"]
    assert after["0012_0013"] == before["0012_0013"]


def test_a_report_keeps_the_rules_that_the_scores_were_made_by(runs: Any, report: Report) -> None:
    command = ["evaluate", str(runs.deep), "--dataset", str(runs.dataset), "--cores", "1"]
    assert main([*command, "--protocol", "learn2reg", "--no-config", "--official-only"]) == 2
    table = runs.deep.with_name("deep-scores") / "pairs.csv"
    before = table.read_bytes()
    report(runs.deep)
    assert table.read_bytes() == before


def test_an_image_that_is_gone_takes_no_score_with_it(runs: Any, report: Report) -> None:
    report(runs.run)
    before = scores_of(runs.run)
    (runs.dataset.parent / "imagesVal" / "HEADMRI_0013_0000.nii.gz").unlink()
    report(runs.run)
    after = scores_of(runs.run)
    assert {name: row["DSC"] for name, row in after.items()} == {n: row["DSC"] for n, row in before.items()}
    assert "could not be checked" in after["0012_0013"]["reason"]


def test_an_arm_without_a_field_and_a_status_of_wrong_types_cost_themselves(
    runs: Any, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((runs.run / "run.json").read_text())
    record["arms"]["empty"] = record["arms"]["identity"]
    record["arms"]["broken"] = "nothing"
    (runs.run / "run.json").write_text(json.dumps(record))
    status = runs.run / "identity" / "jobs" / "0012_0013" / "status.json"
    status.write_text(json.dumps({"outcome": ["ok"], "cpu_seconds": {}}))
    shown = words(report(runs.run))
    assert "empty: no job of it has ended yet" in shown
    assert "arm broken: is &#34;nothing&#34;, not an object" in shown
    assert "unreadable" in shown
    assert "1 method, 4 pairs" in shown
    for command in (["evaluate"], ["compare"]):
        assert main([*command, str(runs.run)]) in (0, 2)
        said = capsys.readouterr()
        assert "arm broken" in said.err


def test_scores_by_another_data_set_are_left_as_they_are(runs: Any, report: Report) -> None:
    """The fixture has copied the run and its data: the copy is another data set than the run records."""
    assert main(["evaluate", str(runs.run), "--dataset", str(runs.dataset), "--cores", "1"]) == 2
    table = runs.run / "identity" / "scores" / "pairs.csv"
    before = table.read_bytes()
    shown = words(report(runs.run, dataset=False))
    assert f"its scores were made with {runs.dataset}; name that with --dataset" in shown
    assert table.read_bytes() == before


def test_scores_alone_give_numbers_without_pictures(runs: Any, report: Report) -> None:
    report(runs.deep)
    alone = runs.run.parent / "elsewhere"
    shutil.copytree(runs.deep.with_name("deep-scores"), alone)
    page = report(alone, dataset=False)
    assert "No data set is known" in words(page)
    assert "elsewhere" in words(page)
    assert "data:image/webp" not in page.read_text()
    with_images = words(report(alone))
    assert "Only its scores are here" in with_images


def test_nothing_could_be_scored(runs: Any, report: Report) -> None:
    for path in runs.deep.glob("disp_*"):
        path.write_bytes(path.read_bytes()[:200])
    shown = words(report(runs.deep))
    assert "Not one pair could be scored" in shown
    assert "4 results failed" in shown


def test_without_labels(runs: Any, report: Report) -> None:
    shutil.rmtree(runs.dataset.parent / "labelsVal")
    page = report(runs.deep)
    assert 'class="panel contours"' not in page.read_text()
    assert "through the middle of the head" in words(page)
    assert 'class="panel jacobian"' in page.read_text()


def test_an_image_that_is_gone(runs: Any, report: Report) -> None:
    report(runs.deep)
    (runs.dataset.parent / "imagesVal" / "HEADMRI_0013_0000.nii.gz").unlink()
    shown = words(report(runs.deep))
    assert "No pictures:" in shown
    assert "HEADMRI_0013_0000.nii.gz" in shown


def test_names_reasons_and_logs_are_escaped(runs: Any, report: Report) -> None:
    status_path = runs.run / "identity" / "jobs" / "0011_0014" / "status.json"
    status = json.loads(status_path.read_text())
    status["reason"] = "<script>alert('reason')</script>"
    status_path.write_text(json.dumps(status))
    status_path.with_name("log.txt").write_text("<img src=x onerror=alert('log')>\n" * 3)
    named = runs.deep.rename(runs.deep.with_name("<b onclick=alert(1)>&'\""))
    data = json.loads(runs.dataset.read_text())
    data["name"] = "</title><script>alert('title')</script>"
    runs.dataset.write_text(json.dumps(data))
    text = report(runs.run, named).read_text()
    for bad in ("<script>alert", "<img src=x", "<b onclick", "</title><script"):
        assert bad not in text
    assert "&lt;script&gt;alert(&#39;reason&#39;)&lt;/script&gt;" in text
    assert "&lt;img src=x onerror=alert(&#39;log&#39;)&gt;" in text
    assert text.count("<script>") == 1


def test_contrasts_that_share_a_name_are_told_apart(runs: Any, report: Report) -> None:
    """A pair of two T1w and one of two T2w images would have one short name: they get long ones."""
    data = json.loads(runs.dataset.read_text())
    for kind in ("images", "labels"):
        for subject in ("0011", "0012"):
            source = runs.dataset.parent / f"{kind}Val" / f"HEADMRI_{subject}_0000.nii.gz"
            shutil.copy(source, source.with_name(f"HEADMRI_{subject}_0001.nii.gz"))
    data["validation"] = [
        {"fixed": f"./imagesVal/HEADMRI_0011_{a}.nii.gz", "moving": f"./imagesVal/HEADMRI_0012_{b}.nii.gz"}
        for a, b in (("0000", "0000"), ("0001", "0001"), ("0000", "0001"))
    ]
    runs.dataset.write_text(json.dumps(data))
    page = report(runs.deep)
    shown = words(page)
    assert "0011_0000_0012_0000" in shown
    assert "0011_0001_0012_0001" in shown
    assert "different contrasts, so no difference is shown" in shown


def test_oblique_images_are_shown_and_said_to_be(runs: Any, report: Report) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.94, -0.342], [0.342, 0.94]]
    for path in runs.dataset.parent.glob("*Val/*.nii.gz"):
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)
        nib.save(nib.Nifti1Image(array, turn @ image.affine), path)
    assert "The image is oblique" in words(report(runs.deep))


@pytest.mark.slow
def test_figures_are_written_too(runs: Any, report: Report) -> None:
    folder = runs.run.parent / "figures"
    report(runs.run, runs.deep, runs.folding, "--figures", folder)
    names = {path.name for path in folder.iterdir()}
    assert {"raincloud-dsc.png", "raincloud-dsc.svg", "raincloud-dsc.pdf", "structures-dice.png"} <= names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no such file or folder"),
        (["{data}"], "is neither a run folder"),
        (["{deep}", "{deep}"], "two methods are called 'deep'"),
        (["{deep}", "--out", "{data}"], "is a folder"),
        (["{deep}", "--pairs", "0000_9999"], "has no pair"),
        (["{deep}", "--megabytes", "0"], "must be above zero"),
        (["published:lumir24-validation"], "no runs are given"),
    ],
)
def test_refusals(runs: Any, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    places = {"deep": runs.deep, "data": runs.dataset.parent}
    code = main(["report", *(one.format(**places) for one in arguments), "--dataset", str(runs.dataset)])
    assert code == 1
    assert said in capsys.readouterr().err


def test_fields_without_a_data_set_are_refused(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs.deep)]) == 1
    assert "--dataset" in capsys.readouterr().err


def test_scores_whose_fields_are_gone_are_told(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can say whether labels have changed since."""
    assert main(["compare", str(runs.run)]) == 0
    assert "fields are gone" not in capsys.readouterr().err
    for folder in ("fields", "jobs"):
        shutil.rmtree(runs.run / "identity" / folder)
    assert main(["compare", str(runs.run)]) == 0
    said = capsys.readouterr().err
    assert "note: identity: its fields are gone, so that its scores could not be checked." in said
