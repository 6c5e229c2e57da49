"""Over which labels Dice and HD95 are averaged, what counts the background, and what a reader is told."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from iterreg.cli.main import main
from iterreg.errors import InputError
from iterreg.statistics.comparison import compare
from iterreg.statistics.label_groups import label_table
from iterreg.statistics.scores import load_scores
from iterreg.statistics.table_formats import to_latex
from iterreg.statistics.tables import means_table, verdict_table

DICE = {0: 0.99, 2: 0.6, 3: 0.3}
HD95 = {0: 1.0, 2: 2.0, 3: float("inf")}
CASES = [f"{i}_0000<--{i + 1}_0000" for i in range(8)]


def scored(folder: Path, *, labels: dict[int, float] = DICE, official: float | None = None) -> Path:
    """A folder of scores, Dice averaged over all labels as LUMIR does, unless it is given."""
    folder.mkdir()
    dice = sum(labels.values()) / len(labels) if official is None else official
    with (folder / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "outcome", "reason", "DSC", "HD95", "HD95_robust", "HD95_affected"])
        writer.writerows([case, "ok", "", dice, "inf", 1.5, "3"] for case in CASES)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "label", "dice", "hd95"])
        writer.writerows(
            [case, label, value, HD95[label]] for case in CASES for label, value in labels.items()
        )
    return folder


def test_dice_with_background_says_so_wherever_it_stands(tmp_path: Path) -> None:
    texts = [f"{name}={scored(tmp_path / name)}" for name in "ab"]
    comparison = compare(load_scores(texts), resamples=20)
    said = "Dice includes the background (label 0), as scored; --no-background leaves it out."
    assert comparison.scores.measure("DSC").remark == said
    for table in (means_table(comparison), verdict_table(comparison)):
        assert said in table.notes
        assert said in to_latex(table)
    without = load_scores(texts, background=False)
    assert without.measure("DSC").remark == ""
    assert without.table("DSC")["a"].tolist() == pytest.approx([0.45] * 8)
    assert without.table("HD95").empty  # label 3 vanished
    assert load_scores(texts, background=False, robust=True).table("HD95")["a"].tolist() == [2.0] * 8


def test_labels_may_be_chosen(tmp_path: Path) -> None:
    scores = load_scores([f"a={scored(tmp_path / 'a')}"], labels=[2])
    assert scores.table("DSC")["a"].tolist() == [0.6] * 8
    assert scores.table("HD95")["a"].tolist() == [2.0] * 8
    assert scores.measure("DSC").remark == "Dice and HD95 are means over the labels 2."
    assert set(scores.labels["label"]) == {2}


def test_runs_that_differ_in_counting_the_background_are_told(tmp_path: Path) -> None:
    scored(tmp_path / "b", official=0.45)
    scores = load_scores([f"a={scored(tmp_path / 'a')}", f"b={tmp_path / 'b'}"])
    assert scores.measure("DSC").remark.startswith("Dice of a includes the background")
    assert any(note.startswith("some runs count the background in Dice") for note in scores.notes)


def test_a_number_of_the_background_alone_is_told(tmp_path: Path) -> None:
    scores = load_scores([f"a={scored(tmp_path / 'a', labels={0: 0.97})}"])
    (note,) = [note for note in scores.notes if "background alone" in note]
    assert note.startswith(f"a: Dice is that of the background alone in {', '.join(CASES[:4])} and 4 more")


def test_infinite_is_explained_where_it_stands(tmp_path: Path) -> None:
    comparison = compare(load_scores([f"{name}={scored(tmp_path / name)}" for name in "ab"]), resamples=20)
    (note,) = [note for note in means_table(comparison).notes if note.startswith("HD95 [voxels]: ")]
    assert "a has no finite number in 8 cases (its number is inf, because of what vanished" in note


def test_without_numbers_by_label_nothing_can_be_chosen(tmp_path: Path) -> None:
    folder = scored(tmp_path / "a")
    (folder / "labels.csv").unlink()
    with pytest.raises(InputError, match="has no numbers label by label"):
        load_scores([f"a={folder}"], background=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"{name}={scored(tmp_path / name)}" for name in "ab"]
    assert main(["compare", *texts, "--measure", "DSC", "--by", "none"]) == 0
    assert "Dice includes the background (label 0)" in capsys.readouterr().out
    assert main(["compare", *texts, "--measure", "DSC", "--by", "none", "--no-background"]) == 0
    shown = capsys.readouterr().out
    assert "0.4500" in shown
    assert "background" not in shown
    assert main(["compare", *texts, "--measure", "DSC", "--by", "none", "--labels", "2-3"]) == 0
    assert "means over the labels 2 3" in capsys.readouterr().out
    assert main(["compare", *texts, "--labels", "3-2"]) == 1
    assert "--labels 3-2: write the smaller number first" in capsys.readouterr().err


def test_freesurfers_numbers_are_known() -> None:
    labels = [0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28, 41, 42, 43, 44, 46, 47, 49, 50,
              51, 52, 53, 54, 58, 60]  # fmt: skip
    table = label_table(None, labels)
    assert "FreeSurfer" in table.note
    assert (table.names[17], table.groups[17]) == ("left hippocampus", "subcortical grey")
    assert (table.names[2035], table.groups[2035]) == ("right insula", "cortex")
    assert not label_table(None, range(61)).names, "numbered one after the other"
    assert label_table("freesurfer", [17]).names[53] == "right hippocampus"
