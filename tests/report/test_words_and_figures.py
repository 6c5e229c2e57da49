"""Words and figures of comparisons of every kind, down to one case of one method."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iterreg.errors import InputError
from iterreg.report.figures import draw_all, write_all
from iterreg.report.figures.style import colours, markers, shortened
from iterreg.report.results import Results
from iterreg.report.words import leader, number, p_value, sentences
from iterreg.runs import MethodResults
from iterreg.statistics.comparison import Comparison, compare
from iterreg.statistics.scores import load_scores

Make = Callable[..., Comparison]


@pytest.fixture
def comparison(tmp_path: Path) -> Make:
    """Compare runs given as name -> Dice of each case; NaN where there is none."""

    def make(
        dice: dict[str, list[float]], *, tasks: int = 1, labels: int = 3, chained: bool = False
    ) -> Comparison:
        for name, values in dice.items():
            folder = tmp_path / name
            folder.mkdir()
            rows, label_rows = [], []
            for i, value in enumerate(values):
                moving = i + 1 if chained else 500 + i
                case = f"{i:04}_0000<--{moving:04}_0000"
                row = {"pair": f"{i:04}_{moving:04}", "case": case, "task": f"task {i % tasks}"}
                scored = {"outcome": "ok", "DSC": value, "HD95": 5 - value, "folded_percent": 0.0}
                rows.append(row | (scored if np.isfinite(value) else {"outcome": "failed", "reason": "why"}))
                label_rows += [
                    row | {"label": label + 1, "dice": value, "hd95": 5 - value} for label in range(labels)
                ]
            for file, table in (("pairs.csv", rows), ("labels.csv", label_rows)):
                if not table:
                    continue
                columns = list(dict.fromkeys(column for row in table for column in row))
                with (folder / file).open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, columns)
                    writer.writeheader()
                    writer.writerows(table)
        return compare(load_scores([f"{name}={tmp_path / name}" for name in dice]), resamples=200)

    return make


GOOD = [0.70, 0.72, 0.75, 0.71, 0.69, 0.74, 0.73, 0.76, 0.70, 0.72]
WORSE = [value - 0.05 - 0.001 * i for i, value in enumerate(GOOD)]


def test_says_who_is_best_by_how_much_and_how_sure(comparison: Make) -> None:
    lead, said = sentences(comparison({"worse": WORSE, "good": GOOD}))
    assert lead == (
        "good has the best Dice: mean 0.7220 over 10 pairs. "
        "It is better than worse, and the cases suffice to say so."
    )
    gain = np.mean(GOOD) - np.mean(WORSE)
    assert f"Against worse: Dice {gain:.4f} higher" in said[0]
    assert "better in 10 of 10 pairs; p = 0.002 (Wilcoxon, Holm)" in said[0]
    assert "HD95 [voxels]: good is best here too" in said[1]


def test_lower_is_better_is_said_rightly(comparison: Make) -> None:
    found = comparison({"worse": WORSE, "good": GOOD})
    measure = found.scores.measure("HD95")
    assert leader(found, measure) == "good"
    only = compare(found.scores, measures=["HD95"], resamples=200)
    lead, said = sentences(only)
    assert lead.startswith("good has the best HD95 [voxels]")
    assert "Against worse: HD95 [voxels]" in said[0]
    assert "lower" in said[0]


def test_too_few_cases_is_no_verdict(comparison: Make) -> None:
    lead, said = sentences(comparison({"good": GOOD[:3], "worse": WORSE[:3]}))
    assert "There are too few cases to say whether it is better than worse." in lead
    assert "no difference" not in lead.lower()
    assert "Too few cases for a verdict" in said[0]


def test_no_difference_is_said_where_there_were_cases_enough(comparison: Make) -> None:
    noisy = [value + 0.03 * (-1) ** i for i, value in enumerate(GOOD)]
    lead, said = sentences(comparison({"good": GOOD, "noisy": [value - 0.001 for value in noisy]}))
    assert "Against noisy no difference is shown." in lead
    assert "No difference is shown" in said[0]


def test_a_single_easy_case_does_not_lead(comparison: Make) -> None:
    nan = float("nan")
    lead, _ = sentences(comparison({"lucky": [0.99] + [nan] * 9, "good": GOOD, "worse": WORSE}))
    assert lead.startswith("good has the best Dice")
    assert "lucky did better" not in lead, "one case is no verdict"


def test_identical_methods_are_equal(comparison: Make) -> None:
    lead, said = sentences(comparison({"one": GOOD, "other": GOOD}))
    assert lead.endswith("share the best Dice: mean 0.7220 over 10 pairs. one does just as other.")
    assert "They are equal" in said[0]


def test_one_method_one_case(comparison: Make) -> None:
    found = comparison({"alone": [0.5]})
    lead, said = sentences(found)
    assert lead == "alone is the only method with a number of Dice: mean 0.5000 over 1 pair."
    assert said == ["HD95 [voxels]: mean 4.5000."]
    assert all(drawn.encode("png") for drawn in draw_all(found))


def test_all_that_share_the_best_mean_are_named(comparison: Make) -> None:
    found = comparison({"one": GOOD, "two": GOOD, "three": GOOD, "worse": WORSE})
    lead, said = sentences(found)
    assert lead.startswith("one, two and three share the best Dice: mean 0.7220 over 10 pairs.")
    assert "HD95 [voxels]: one, two and three share the best mean, 4.2780." in said


def test_means_are_over_the_pairs_that_all_have(comparison: Make) -> None:
    """The run that failed on the hardest pairs has the better mean over its own, and not over the others'."""
    nan = float("nan")
    hard = [0.2, 0.2, *GOOD[2:]]
    lead, _ = sentences(comparison({"whole": hard, "lacking": [nan, nan, *[v - 0.01 for v in GOOD[2:]]]}))
    assert lead.startswith("whole has the best Dice: mean 0.7250 over 8 pairs.")


def table_of(found: Comparison, which: str) -> str:
    from iterreg.report.tabulating import effects, overview

    cases = {case: case for case in found.scores.cases["case"].unique()}
    dice = found.scores.measure("DSC")
    table = overview(found, _results(found), cases) if which == "overview" else effects(found, dice)
    assert table is not None
    return "\n".join([*(" | ".join(cell.text for cell in row) for row in table.rows), *table.notes])


def _results(found: Comparison) -> list:
    return [Results.of(MethodResults(run.name, run.path)) for run in found.scores.own_runs]


def test_unequal_sets_are_marked_in_the_overview(comparison: Make) -> None:
    nan = float("nan")
    text = table_of(comparison({"whole": GOOD, "lacking": [nan, *GOOD[1:]]}), "overview")
    assert "0.7244 ± 0.023 (0.7220 of 10)" in text
    assert "(… of n): the mean over all n pairs of that method, of which others lack some." in text
    assert "Dice: lacking has no finite number in 1 case (why)." in text


def test_brackets_are_explained_where_there_are_some(comparison: Make) -> None:
    few, many = (table_of(comparison(runs), "effects") for runs in (
        {"good3": GOOD[:3], "worse3": WORSE[:3]}, {"good": GOOD, "worse": WORSE},
    ))  # fmt: skip
    assert "In brackets" not in few
    assert "No interval: too few cases (3) for an interval." in few
    assert "In brackets: intervals that allow for shared subjects." in many


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.1235"), (-0.5, "−0.5000"), (0.00001, "1.0e−05"), (0.0, "0.0000"), (12.345, "12.35"),
        (123.45, "123.5"), (12345.6, "12346"), (float("nan"), "–"), (float("inf"), "∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_p_values() -> None:
    assert [p_value(p) for p in (0.0001, 0.0456, 1.0, float("nan"))] == ["< 0.001", "0.046", "1.000", "–"]


# -- figures ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_figure_in_every_format(comparison: Make, tmp_path: Path) -> None:
    found = comparison({"good": GOOD, "worse": WORSE, "identity": [0.4] * 10}, tasks=2, chained=True)
    paths = write_all(found, tmp_path / "figures")
    names = {path.stem for path in paths}
    assert {"raincloud-dsc", "effects-dice", "critical-difference-dice", "structures-dice"} <= names
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for path in paths:
        assert path.read_bytes().startswith(starts[path.suffix])
    before = {path: path.read_bytes() for path in paths}
    write_all(found, tmp_path / "figures")
    assert {path: path.read_bytes() for path in paths} == before, "the same figure gives the same bytes"
    with pytest.raises(InputError, match="not as 'gif'"):
        write_all(found, tmp_path, formats=["gif"])


@pytest.mark.slow
def test_many_methods_with_long_names_are_not_cut_off(comparison: Make) -> None:
    rng = np.random.default_rng(0)
    dice = {
        f"a-method-with-a-very-long-name-{i:02}": list(rng.normal(0.6 + 0.01 * i, 0.02, 8)) for i in range(12)
    }
    for drawn in draw_all(comparison(dice, tasks=4)):
        pixels = np.asarray(Image.open(io.BytesIO(drawn.encode("png"))).convert("L"))
        assert max(pixels.shape) < 4000, drawn.name
        frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (frame > 250).all(), f"{drawn.name}: something runs off the figure"
        assert len(drawn.alternative) > 20


def test_nothing_to_draw_is_not_drawn(comparison: Make) -> None:
    nan = float("nan")
    found = comparison({"one": [0.5, nan], "other": [nan, 0.6]}, labels=0)
    names = [drawn.name for drawn in draw_all(found)]
    assert "raincloud-dsc" in names
    assert not [name for name in names if name.startswith(("cost", "structures", "critical"))]


def test_colours_and_markers_are_fixed() -> None:
    runs = ["identity", "syn-strong", "elastix-fast", "lddmm-fast", "lddmm-lumir", "deep"]
    found = colours(runs)
    assert len(set(found.values())) == len(runs)
    assert found["lddmm-fast"] == colours(["lddmm-fast", "other"])["lddmm-fast"]
    many = [f"m{i}" for i in range(30)]
    assert set(colours(many)) == set(markers(many)) == set(many)
    assert len(shortened("x" * 100)) == 28
