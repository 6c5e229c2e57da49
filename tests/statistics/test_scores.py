"""What is read from where, and what is said to be missing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.statistics.measures import measure_named
from iterreg.statistics.scores import Scope, load_scores
from iterreg.statistics.sources import INITIAL_DICE, subjects_of

CASE = "3455_0000<--3454_0000"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_case_keys() -> None:
    assert subjects_of(CASE) == ("3455", "3454", "0000")
    assert subjects_of("4024_0000<--4033_0001") == ("4024", "4033", "0000-0001")
    assert subjects_of("sub_01<--sub_02") == ("sub_01", "sub_02", "")
    assert subjects_of("sub-01_ses-1_0000<--sub-01_ses-2_0000") == ("sub-01", "sub-01", "0000")
    assert subjects_of("sub-01_ses-1_run-2_0000<--sub-02_0001") == ("sub-01", "sub-02", "0000-0001")
    assert subjects_of("case 7") == ("case 7", "case 7", "")


@pytest.mark.parametrize(
    ("name", "kind", "higher"),
    [
        ("DSC", "dice", True), ("Dice30", "dice", True), ("HD95", "hd95", False), ("TRE_kp", "tre", False),
        ("Non-diffeomorphic Volumes", "ndv", False), ("LogJacDetStd", "sdlogj", False),
        ("cpu_s", "cost", False),
        ("jacobian_min", "extra", True), ("jacobian_max", "extra", None), ("trend", "", None),
    ],
)  # fmt: skip
def test_measures_by_name(name: str, kind: str, higher: bool | None) -> None:
    measure = measure_named(name)
    assert (measure.kind, measure.higher_is_better) == (kind, higher)


def test_a_tidy_table(write_run) -> None:
    folder = write_run("a", {CASE: {"task": "in-domain", "DSC": 0.7, "HD95": 3.0, "HD95_robust": 2.0}})
    scores = load_scores([f"ours={folder}"])
    assert scores.cases.to_dict("records") == [
        {
            "run": "ours", "case": CASE, "fixed": "3455", "moving": "3454", "task": "in-domain",
            "contrast": "0000", "measure": measure, "value": value,
        }
        for measure, value in (("DSC", 0.7), ("HD95", 3.0))
    ]  # fmt: skip
    assert load_scores([str(folder)], robust=True).table("HD95").iloc[0, 0] == 2.0


def test_what_is_missing_has_a_reason(write_run) -> None:
    full = write_run("full", {str(i): {"DSC": 0.7, "TRE": 2.0} for i in range(4)})
    holes = write_run(
        "holes",
        {
            "0": {"DSC": "nan", "TRE": "inf"},
            "1": {"DSC": "", "outcome": "failed", "reason": "the field is missing"},
            "2": {"DSC": 0.6, "TRE": 2.5},
        },
    )
    scores = load_scores([f"full={full}", f"holes={holes}"])
    assert {(m.case, m.measure): m.reason for m in scores.missing} == {
        ("0", "DSC"): "its number is nan",
        ("0", "TRE"): "its number is inf",
        ("1", "DSC"): "the field is missing",
        ("1", "TRE"): "the field is missing",
        ("3", "DSC"): "the run has no row of this case",
        ("3", "TRE"): "the run has no row of this case",
    }
    assert {m.run for m in scores.missing} == {"holes"}
    assert scores.table("DSC")["holes"].notna().tolist() == [False, False, True, False]


def test_what_vanished_is_named_and_robust_numbers_go_round_it(write_run) -> None:
    row = {"HD95": "inf", "HD95_robust": 2.5, "HD95_affected": "4 11"}
    folder = write_run("a", {"1<--2": row})
    (one,) = load_scores([str(folder), "published:lumir24-test"]).missing
    assert one.reason == "its number is inf, because of what vanished in the warping (4 11)"
    assert load_scores([str(folder)], robust=True).missing == ()


def test_a_measure_that_is_nowhere_finite_is_not_forgotten(write_run) -> None:
    scores = load_scores([str(write_run("a", {"1<--2": {"DSC": 0.5, "HD95": "inf"}}))])
    assert [measure.name for measure in scores.ranked_measures] == ["DSC", "HD95"]
    assert len(scores.missing) == 1
    assert scores.table("HD95").empty


def test_a_measure_that_was_not_asked_for_is_not_missing(write_run) -> None:
    values = {"1<--2": {"DSC": 0.7}, "3<--4": {"TRE": 2.0}}
    scores = load_scores([str(write_run("a", values)), str(write_run("b", values))])
    assert scores.missing == ()
    assert len(scores.table("TRE")) == 1


def test_a_run_folder_of_arms_with_its_costs(write_run, tmp_path: Path) -> None:
    for arm, dice in (("syn", 0.7), ("elastix", 0.6)):
        write_run(f"run/{arm}/scores", {CASE: {"DSC": dice}})
    (tmp_path / "run" / "results.csv").write_text(
        f"arm,case,outcome,cpu_s,wall_s,peak_mib\nsyn,{CASE},ok,12.5,3,800\nelastix,{CASE},failed,99,9,9\n"
    )
    scores = load_scores([str(tmp_path / "run")])
    assert [run.name for run in scores.runs] == ["elastix", "syn"]
    assert scores.table("cpu_s")["syn"].tolist() == [12.5]
    assert scores.table("cpu_s")["elastix"].isna().all()
    named = [run.name for run in load_scores([f"x={tmp_path / 'run'}"]).runs]
    assert named == ["x/elastix", "x/syn"]
    levels = load_scores([f"@plain={tmp_path / 'run'}", f"syn={tmp_path / 'run' / 'syn'}"]).runs
    assert [(run.method, run.level) for run in levels] == [
        ("elastix", "plain"),
        ("syn", "plain"),
        ("syn", ""),
    ]


def test_a_damaged_table_of_costs_costs_the_costs(write_run, tmp_path: Path) -> None:
    write_run("run/syn/scores", {CASE: {"DSC": 0.7}})
    results = tmp_path / "run" / "results.csv"
    results.write_text(f"arm,case,outcome,cpu_s,wall_s,peak_mib\nsyn,{CASE},ok,much,3,800\n")
    scores = load_scores([str(tmp_path / "run")])
    assert scores.table("wall_s")["syn"].tolist() == [3]
    assert "cpu_s" not in [measure.name for measure in scores.measures]
    results.write_bytes(b"\xff\x00")
    assert load_scores([str(tmp_path / "run")]).table("DSC")["syn"].tolist() == [0.7]


def test_a_challenges_json(tmp_path: Path) -> None:
    path = tmp_path / "their_metrics.json"
    case = {
        "DSC": {"mean": 0.71, "detailed": [0.7]},
        "num_foldings": {"mean": 0},
        "TRE": {"mean": float("nan")},
    }
    path.write_text(json.dumps({"name": "LUMIR", "aggregates": {}, "cases": {CASE: case}}))
    scores = load_scores([str(path)])
    assert scores.runs[0].name == "their_metrics"
    assert [measure.name for measure in scores.measures] == ["DSC", "TRE"]
    assert [(one.measure, one.reason) for one in scores.missing] == [("TRE", "its number is nan")]


def test_published_rows_are_references() -> None:
    scores = load_scores(["published:lumir24-validation"])
    assert all(run.reference for run in scores.runs)
    assert scores.own_runs == ()
    vfa = {one.measure: one.mean for one in scores.published["VFA (published)"]}
    assert vfa == {"DSC": 0.7726, "TRE_lm": 2.4949, "Non-diffeomorphic Volumes": 0.0788, "HD95": 3.2127}
    assert any("not measured here" in note for note in scores.notes)
    assert len(load_scores(["published:lumir24-test"]).runs) == 9


def test_labels_and_their_groups(write_run, tmp_path: Path) -> None:
    labels = {("1<--2", 1): 0.5, ("1<--2", 2): 0.7, ("1<--2", 7): 0.9, ("3<--4", 1): 0.6}
    values = {"1<--2": {"DSC": 0.7}, "3<--4": {"DSC": 0.6}}
    folder = write_run("a", values, labels=labels)
    groups = tmp_path / "groups.csv"
    groups.write_text("id,name,group\n1,left,side\n2,right,side\n7,middle,\n")
    scores = load_scores([str(folder)], label_groups=groups)
    assert scores.scopes("DSC", "group") == (Scope("group", "side"),)
    assert [scope.name for scope in scores.scopes("DSC", "label")] == ["1", "2", "7"]
    assert scores.table("DSC", Scope("group", "side"))["a"].tolist() == pytest.approx([0.6, 0.6])
    assert scores.table("DSC", Scope("label", "7"))["a"].tolist() == [0.9]
    assert scores.label_names[2] == "right"
    assert load_scores([str(folder)]).scopes("DSC", "group") == ()


def test_neuromorphometrics_is_known_by_its_numbers(write_run) -> None:
    labels = {("1<--2", label): 0.5 for label in [0, 4, 44, 47, *range(100, 170)]}
    scores = load_scores([str(write_run("a", {"1<--2": {"DSC": 0.7}}, labels=labels))])
    assert "labels are grouped as Neuromorphometrics numbers them" in scores.notes
    assert {scope.name for scope in scores.scopes("DSC", "group")} == {
        "background", "ventricles and CSF", "white matter", "subcortical grey", "cortex",
    }  # fmt: skip
    assert scores.label_names[47] == "right hippocampus"


def test_dice_before_registration_is_kept(write_run) -> None:
    folder = write_run("a", {"1<--2": {"DSC": 0.7}})
    (folder / "labels.csv").write_text("case,label,dice,initial_dice,hd95\n1<--2,3,0.7,0.4,inf\n")
    found = load_scores([str(folder)]).labels
    assert dict(zip(found["measure"], found["value"], strict=True)) == {"DSC": 0.7, INITIAL_DICE: 0.4}


def test_tasks_are_taken_from_whoever_knows_them(write_run, tmp_path: Path) -> None:
    folder = write_run("a", {CASE: {"task": "in-domain", "DSC": 0.7}})
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"cases": {CASE: {"DSC": {"mean": 0.6}}}}))
    assert set(load_scores([str(path), str(folder)]).cases["task"]) == {"in-domain"}


def test_different_protocols_are_told(write_run) -> None:
    for name in ("lumir24", "lumir25"):
        folder = write_run(name, [0.5, 0.6])
        (folder / "summary.json").write_text(json.dumps({"protocol": name, "dataset": "D"}))
    notes = load_scores([str(folder), str(folder.with_name("lumir24"))]).notes
    assert notes == (
        "the runs were scored by different protocols (lumir24 and lumir25): their numbers may not compare",
    )


def test_an_unknown_measure_is_not_compared_unless_declared(write_run) -> None:
    folder = write_run("a", [1.0, 2.0], measure="sharpness")
    scores = load_scores([str(folder)])
    assert scores.ranked_measures == ()
    assert any("sharpness" in note for note in scores.notes)
    (measure,) = load_scores([str(folder)], better={"sharpness": "up"}).ranked_measures
    assert measure.sign == 1


def test_refusals(write_run, tmp_path: Path) -> None:
    good = write_run("good", [0.5])
    twice = write_run("twice", [0.5])
    text = (twice / "pairs.csv").read_text()
    (twice / "pairs.csv").write_text(text + text.splitlines()[1] + "\n")
    words = write_run("words", {"1<--2": {"DSC": "high"}})
    none = write_run("none", {"1<--2": {"DSC": "", "outcome": "failed", "reason": "no"}})
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"cases": {"1<--2": {"DSC": 0.5}}}')
    (tmp_path / "nothing.csv").write_text("a,b\n1,2\n")
    for texts, sentence in [
        ([], "no runs are given"),
        (["nowhere"], "there is no such file or folder"),
        ([str(tmp_path / "empty")], "nor scores .*; it is empty"),
        ([str(twice)], r"line 3: the case 0_0000<--1_0000 is there twice"),
        ([str(words)], "DSC is 'high', not a number"),
        ([str(none)], "not one case has a number"),
        ([f"a={good}", f"a={good}"], "two runs are called 'a'"),
        ([f"={good}"], "NAME=PATH"),
        (["published:nowhere"], "there is no published table 'nowhere'"),
        ([str(tmp_path / "broken.json")], "cannot be read as json"),
        ([str(tmp_path / "other.json")], "not in the evaluators' form"),
        ([str(tmp_path / "nothing.csv")], "no rows with a column 'case'"),
    ]:
        with pytest.raises(InputError, match=sentence):
            load_scores(texts)
    with pytest.raises(InputError, match="there is no measure 'x'"):
        load_scores([str(good)], better={"x": "up"})
    with pytest.raises(InputError, match="cannot be read as a table of labels"):
        load_scores([str(good)], label_groups="nowhere.csv")


def test_tables_are_copies(write_run) -> None:
    scores = load_scores([str(write_run("a", [0.5, 0.6]))])
    table = scores.table("DSC")
    table.iloc[0, 0] = 99.0
    assert scores.table("DSC").iloc[0, 0] == 0.5
    assert np.isfinite(scores.cases["value"]).all()
