"""Tables say the same in every form, and names cannot break them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from iterreg.statistics import tables
from iterreg.statistics.comparison import compare
from iterreg.statistics.intervals import Interval
from iterreg.statistics.scores import load_scores
from iterreg.statistics.table_formats import (
    Column,
    Table,
    interval,
    number,
    p_value,
    text_cell,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)

NASTY = r"a_b & 50% #1 {x} $y$ ~^ \z | <b> `c` *d*"


@pytest.fixture
def comparison(write_run, rng: np.random.Generator):
    texts = []
    for name, shift in (
        ("good_one@plain", 0.1),
        ("good_one@cropped", 0.0),
        ("b@plain", 0.05),
        ("b@cropped", 0.04),
    ):
        cases = {
            f"{i}_0000<--{(i + 1) % 14}_0000": {
                "task": f"t{i % 2}",
                "DSC": 0.6 + shift + rng.normal(0, 0.005),
                "HD95": 4 - shift,
            }
            for i in range(14 if name != "b@cropped" else 13)
        }
        labels = {(case, label): row["DSC"] for case, row in cases.items() for label in (1, 2)}
        texts.append(f"{name}={write_run(name, cases, labels=labels)}")
    scores = load_scores([*texts, "published:lumir24-test"])
    return compare(scores, factor="preprocessing", resamples=20)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_tables_are_written_in_all_forms(comparison, tmp_path: Path) -> None:
    written = tables.write_tables(comparison, tmp_path / "out")
    stems = {path.stem for path in written}
    assert stems == {
        "means", "means_tasks", "means_labels", "pairwise", "pairwise_tasks", "pairwise_labels",
        "ranking_learn2reg_signed_rank", "ranking_learn2reg_rank_sum", "ranking_lumir24",
        "ranking_lumir24-test_final",
        "factor_effects", "factor_interactions", "missing", "structures",
    }  # fmt: skip
    assert len(written) == 3 * len(stems)
    assert {path.suffix for path in written} == {".csv", ".md", ".tex"}
    for path in written:
        if path.suffix == ".csv":
            rows = list(csv.reader(path.read_text().splitlines()))
            assert {len(row) for row in rows} == {len(rows[0])}, path
            assert len(rows) > 1


def test_csv_has_all_digits(comparison) -> None:
    found = read(to_csv(tables.pairwise_table(comparison)))
    assert len(found) == len(comparison.pairs("DSC")) + len(comparison.pairs("HD95"))
    for row, one in zip(found, comparison.pairs("DSC"), strict=False):
        assert (row["first"], row["second"]) == (one.first, one.second)
        assert float(row["difference_low"]) == one.difference.low
        assert float(row["p_wilcoxon_holm"]) == one.wilcoxon.p_holm
        assert int(row["wins"]) == one.wins
        assert (row["verdict"], row["assumption"]) == (one.verdict, one.assumption)


def test_means_bold_the_best_mark_the_worse_and_tell_unequal_sets(comparison) -> None:
    table = tables.means_table(comparison)
    by_run = {row[0].text: row for row in table.rows}
    best = by_run["good_one@plain"][1]
    assert (best.bold, best.mark) == (True, "")
    assert by_run["b@plain"][1].mark == "*"
    own = float(comparison.summary("DSC")[0].mean)
    assert best.text.endswith(f"({own:.4f} of 14)")  # the others' cases are 13
    assert "of 1" not in by_run["b@cropped"][1].text
    assert by_run["VFA (published)"][0].mark == "†"
    assert by_run["VFA (published)"][1].text == "0.7767"
    (found,) = [row for row in read(to_csv(table)) if row["run"] == "b@cropped"]
    assert (found["DSC_cases"], found["DSC_own_cases"]) == ("13", "13")


def test_verdicts_put_the_better_first(comparison) -> None:
    found = read(to_csv(tables.verdict_table(comparison)))
    assert all(float(row["better_by"]) >= 0 for row in found)
    assert all(int(row["wins"]) >= int(row["losses"]) for row in found if row["verdict"] == "better")
    (row,) = [
        row for row in found if row["measure"] == "HD95 [voxels]" and row["than"] == "good_one@cropped"
    ][:1]
    assert row["run"] in ("good_one@plain", "b@plain", "b@cropped")


def test_structures_are_counted(comparison) -> None:
    found = read(to_csv(tables.structures_table(comparison)))
    (row,) = [row for row in found if (row["first"], row["second"]) == ("good_one@plain", "b@plain")]
    assert row["labels"] == row["mean_first_better"] == row["first_better"] == "2"
    assert row["mean_second_better"] == row["too_few_cases"] == "0"


def test_missing_cases_are_listed(comparison) -> None:
    found = read(to_csv(tables.missing_table(comparison)))
    assert {(row["run"], row["case"]) for row in found} == {("b@cropped", "13_0000<--0_0000")}


def nasty() -> Table:
    columns = (Column("run [95 %]", ("run",), numeric=False), Column("Dice ↑", ("dice", "low", "high")))
    rows = (
        (text_cell(NASTY, bold=True), interval(Interval(-0.01, -0.02, 0.003), mark="*")),
        (text_cell("[x]"), interval(Interval(float("nan")))),
    )
    return Table("n_1", NASTY, columns, rows, (NASTY,))


def test_latex_is_well_formed() -> None:
    text = to_latex(nasty())
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    body = text.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0].splitlines()
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 1
    assert r"\textbf{a\_b \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}" in body[0]
    assert r"\textbackslash{}z \textbar{} \textless{}b\textgreater{}" in body[0]
    assert r"$-$0.0100 [$-$0.0200, +0.0030]\textsuperscript{{}*}" in body[0]
    assert body[1].startswith("{}[x]")  # not an argument of the line break before it
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert r"\label{tab:n-1}" in text


def test_markdown_is_well_formed() -> None:
    lines = to_markdown(nasty()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {3}
    assert table[1] == "| --- | ---: |"
    assert r"**a\_b & 50% #1 {x} $y$ ~^ \\z \| \<b\> \`c\` \*d\***" in table[2]


def test_text_is_aligned() -> None:
    lines = to_text(nasty()).splitlines()
    assert lines[2].startswith(">a_b")
    assert len({len(line) for line in lines[:2]}) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.64312, "0.6431"), (-0.2, "-0.2000"), (12.345, "12.35"), (4321.4, "4321"), (0.0, "0"),
        (3e-5, "3.0e-05"),
        (float("nan"), "–"), (float("inf"), "∞"), (float("-inf"), "-∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value).text == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0312, "0.031"), (0.0078, "0.0078"), (1e-7, "<0.0001"), (1.0, "1.000"), (float("nan"), "–")],
)
def test_p_values(p: float, text: str) -> None:
    assert p_value(p).text == text


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+a", "-a", "@a", "\ta"])
def test_a_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    columns = (Column("run", ("run",), numeric=False), Column("Dice", ("dice",)))
    table = Table("t", "t", columns, ((text_cell(name), number(-0.5)),))
    assert read(to_csv(table)) == [{"run": f"'{name}", "dice": "-0.5"}]


def test_an_effect_that_is_hardly_bounded_is_marked(write_run) -> None:
    noise = [0.0, 0.001, -0.001, 0.0005, -0.0005, 0.0008]
    base = {f"{i}<--{(i + 1) % 6}": 0.6 + 0.02 * i for i in range(6)}
    runs = {
        "a": {case: {"DSC": value + 0.1 + e} for (case, value), e in zip(base.items(), noise, strict=True)},
        "b": {case: {"DSC": value} for case, value in base.items()},
    }
    comparison = compare(load_scores([f"{n}={write_run(n, v)}" for n, v in runs.items()]), resamples=20)
    table = tables.pairwise_table(comparison)
    (cell,) = [cell for cell in table.rows[0] if cell.mark == "°"]
    assert float(cell.values[0]) == pytest.approx(comparison.pairs("DSC")[0].effects.cohens_dz.estimate)
    assert "°: an interval wider than 4: too few to say how large the effect is." in table.notes
    assert r"\textsuperscript{$^{\circ}$}" in to_latex(table)
