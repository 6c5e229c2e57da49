"""``iterreg compare`` as a user meets it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from iterreg.cli.main import main

SUBJECTS = 9


def write_scores(folder: Path, dice: float, *, lacks: int | None = None, labels: bool = True) -> Path:
    """A ring of nine subjects in two tasks; one case may have failed."""
    folder.mkdir(parents=True)
    pairs = ["pair,case,task,outcome,reason,DSC,HD95,TRE_lm,Non-diffeomorphic Volumes"]
    rows = ["case,label,dice,initial_dice,hd95"]
    for i in range(2 * SUBJECTS):
        fixed, moving = i % SUBJECTS, (i + 1 + i // SUBJECTS) % SUBJECTS
        case, task = f"{fixed}_0000<--{moving}_0000", "in-domain" if i < SUBJECTS else "high-field"
        own = dice + 0.01 * ((7 * i) % 5) + 0.0003 * i * dice
        if i == lacks:
            pairs.append(f"{fixed}_{moving},{case},{task},failed,the field is missing,,,,")
            continue
        pairs.append(f"{fixed}_{moving},{case},{task},ok,,{own},{8 - 5 * own},{6 - 5 * own},0")
        rows += [f"{case},{label},{own + label / 50},0.5,2.5" for label in (1, 2)]
    (folder / "pairs.csv").write_text("\n".join([*pairs, ""]))
    if labels:
        (folder / "labels.csv").write_text("\n".join([*rows, ""]))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_scores(folder / "syn" / "scores", 0.70)
    write_scores(folder / "elastix" / "scores", 0.65, lacks=4)
    write_scores(folder / "lddmm" / "scores", 0.72)
    return folder


def test_the_terminal_says_who_is_best_by_how_much_and_how_sure(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(runs)]) == 0
    text = capsys.readouterr().out
    titles = [
        "3 runs, 18 cases, 9 subjects", "Mean ± standard deviation", "Who is better", "per task",
        "Ranking: Learn2Reg as its text says", "Ranking: Learn2Reg as its code does", "Ranking: LUMIR24's",
        "Cases without a number",
    ]  # fmt: skip
    places = [text.find(title) for title in titles]
    assert places == sorted(places)
    assert min(places) >= 0
    (line,) = [line for line in text.splitlines() if line.split()[:3] == ["Dice", ">lddmm", "syn"]]
    assert "18/0/0" in line
    assert line.endswith("better")
    assert "p are too small" in text
    assert "elastix: 4_0000<--5_0000: Dice, TRE, HD95 [voxels], NDV %: the field is missing" in text


def test_files(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(
            [
                "compare",
                str(runs),
                "--measure",
                "dsc",
                "--by",
                "task",
                "--out",
                str(out),
                "--formats",
                "csv,tex",
            ]
        )
        == 0
    )
    assert {path.suffix for path in out.iterdir()} == {".csv", ".tex"}
    with (out / "pairwise_tasks.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert {(row["task"], row["measure"]) for row in found} == {("in-domain", "Dice"), ("high-field", "Dice")}
    assert len(found) == 6
    assert f"{out}: " in capsys.readouterr().out


def test_figures(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert (
        main(
            ["compare", str(runs), "--measure", "DSC", "--by", "none", "--out", str(out), "--formats", "png"]
        )
        == 0
    )
    assert {path.suffix for path in out.iterdir()} == {".png"}
    assert len(list(out.iterdir())) >= 3


def test_without_matplotlib_there_are_tables(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "iterreg.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert main(["compare", str(runs), "--measure", "DSC", "--by", "none", "--out", str(out)]) == 0
    assert "no figures: matplotlib is not installed" in capsys.readouterr().err
    assert {path.suffix for path in out.iterdir()} == {".csv", ".md", ".tex"}


def test_sensitivity_arms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level, shifts in (("plain", (0.7, 0.75)), ("cropped", (0.69, 0.65))):
        for method, dice in zip(("syn", "vfa"), shifts, strict=True):
            write_scores(tmp_path / level / method / "scores", dice, labels=False)
    arguments = [f"@{level}={tmp_path / level}" for level in ("plain", "cropped")]
    options = ["--factor", "preprocessing", "--measure", "DSC", "--by", "none"]
    assert main(["compare", *arguments, *options, "--class", "deep=vfa", "--class", "classical=syn"]) == 0
    text = capsys.readouterr().out
    assert "Effect of preprocessing per method" in text
    assert "deep suffers more" in text


def test_published_rows(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "syn"), "published:lumir24-validation", "--by", "none"]) == 0
    text = capsys.readouterr().out
    assert "VFA (published)†" in text
    assert "Who is better" not in text
    assert "not measured here" in " ".join(text.split())


def test_one_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, dice in (("a", 0.7), ("b", 0.6)):
        (tmp_path / f"{name}.csv").write_text(f"case,DSC\n1<--2,{dice}\n")
    assert main(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "too few cases" in text
    assert "1 case cannot give a corrected p below 1" in text
    assert "no difference" not in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--alpha", "5"], "--alpha 5: must lie between 0 and 1"),
        (["--confidence", "95"], "--confidence 95: must lie"),
        (["--resamples", "3"], "fewer than 100"),
        (["--seed", "-1"], "must not be negative"),
        (["--by", "moon"], "there is no such scope"),
        (["--formats", "docx"], "there is no such format"),
        (["--better", "DSC"], "--better DSC: write NAME=VALUE"),
        (["--better", "DSC=sideways"], "up or down"),
        (["--baseline", "plain"], "--baseline belongs to a factor"),
        (["--class", "deep=vfa"], "--class belongs to a factor"),
        (["--measure", "speed"], "no run has the measure 'speed'"),
        (["--reference", "ants"], "there is no run 'ants'"),
        (["--factor", "preprocessing"], "has not two levels"),
        (["nowhere"], "there is no such file or folder"),
    ],
)
def test_refusals(runs: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs), *options]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 1


def test_help_is_light() -> None:
    import subprocess

    code = "from iterreg.cli.main import build_parser; build_parser(); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pandas", "scipy", "numpy", "matplotlib"} & set(done.stdout.split()) == set()
