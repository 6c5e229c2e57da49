"""Rankings: Learn2Reg's own outcome on a stored example, LUMIR24's formula by hand, and stability."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from iterreg.statistics.comparison import compare
from iterreg.statistics.measures import measure_named
from iterreg.statistics.published import published_means
from iterreg.statistics.ranking import (
    FriedmanRanks,
    friedman_ranks,
    geometric_mean,
    learn2reg_scores,
    lumir24_scores,
    rank_scores,
    ranks_of,
)
from iterreg.statistics.scores import load_scores

GOLDEN = json.loads((Path(__file__).parent / "golden" / "learn2reg.json").read_text())
DIRECTIONS = {"dice": True, "hd95": False, "tre": False, "ndv": False}


@pytest.mark.parametrize("measure", GOLDEN["values"])
def test_the_code_of_learn2reg_gave_these_rank_scores(measure: str) -> None:
    ours = learn2reg_scores(GOLDEN["values"][measure], higher_is_better=measure == "dice", variant="rank-sum")
    assert ours == pytest.approx(np.array(GOLDEN["rank_scores"][measure]), abs=1e-12)


def test_the_code_of_learn2reg_gave_this_total() -> None:
    ours = geometric_mean([GOLDEN["rank_scores"][measure] for measure in GOLDEN["values"]])
    assert ours == pytest.approx(np.array(GOLDEN["total"]), abs=1e-12)


def test_the_golden_example_holds_ties_and_differences() -> None:
    for found in GOLDEN["rank_scores"].values():
        assert 2 <= len(set(found)) < len(found)


def test_places_are_shared() -> None:
    # Five methods at 0.1, 0.325, 0.55, 0.775, 1.
    assert rank_scores([0, 4, 2, 2, 1]) == pytest.approx([0.1, 1.0, 0.6625, 0.6625, 0.325])
    assert rank_scores([3, 3]) == pytest.approx([0.55, 0.55])
    assert rank_scores([7]) == pytest.approx([0.1])


def test_the_two_variants_differ_as_their_descriptions_do() -> None:
    """A small difference in every case: paired it is clear, unpaired it drowns in the cases' spread."""
    base = np.linspace(0.5, 0.9, 12)
    table = np.array([base, base + 0.01 + np.arange(12) * 1e-4])
    assert learn2reg_scores(table, higher_is_better=True) == pytest.approx([0.1, 1.0])
    assert learn2reg_scores(table, higher_is_better=True, variant="rank-sum") == pytest.approx([0.55, 0.55])


def test_won_and_lost_are_not_the_same() -> None:
    """B beats A, and C differs from neither: A has no win, C neither, but only A has lost."""
    generator = np.random.default_rng(3)
    a = generator.normal(0.60, 0.02, 40)
    b = generator.normal(0.62, 0.02, 40)
    c = generator.normal(0.61, 0.20, 40)
    table = np.array([a, b, c])
    for i, j, different in ((0, 1, True), (0, 2, False), (1, 2, False)):
        for test in (stats.ranksums(table[i], table[j]), stats.wilcoxon(table[i], table[j])):
            assert (test.pvalue < 0.05) == different
    won = learn2reg_scores(table, higher_is_better=True)
    lost = learn2reg_scores(table, higher_is_better=True, variant="rank-sum")
    assert won == pytest.approx([0.325, 1.0, 0.325])
    assert lost == pytest.approx([0.1, 0.775, 0.775])


def test_lumir24_on_its_published_table_by_hand() -> None:
    rows = {}
    for one in published_means("lumir24-validation"):
        rows.setdefault(one.method, {})[measure_named(one.measure).kind] = one.mean
    means = {kind: [row[kind] for row in rows.values()] for kind in DIRECTIONS}
    found = dict(zip(rows, lumir24_scores(means, DIRECTIONS), strict=True))
    # Best and worst of the table: Dice 0.7805 and 0.5657, HD95 3.1187 and 4.7876, TRE 2.2230 and 4.3543,
    # NDV 0 and 1.1836.
    vfa = (
        (0.7726 - 0.5657) / (0.7805 - 0.5657) / 6
        + (4.7876 - 3.2127) / (4.7876 - 3.1187) / 6
        + (4.3543 - 2.4949) / (4.3543 - 2.2230) / 3
        + (1.1836 - 0.0788) / (1.1836 - 0) / 3
    )
    assert vfa == pytest.approx(0.160537 + 0.157279 + 0.290808 + 0.311141, abs=2e-6)
    assert found["VFA"] == pytest.approx(vfa, abs=1e-12)
    assert found["zero displacement"] == pytest.approx(1 / 3)  # worst but for folding
    sitreg = 1 / 6 + 1 / 6 + (4.3543 - 2.3005) / (4.3543 - 2.2230) / 3 + (1.1836 - 0.0025) / 1.1836 / 3
    assert found["SITReg (v2)"] == pytest.approx(sitreg, abs=1e-12)
    assert max(found, key=found.get) == "SITReg (v2)"


@pytest.mark.parametrize(
    ("dice", "tre", "ndv", "hd95", "average"),
    [
        (1.0000, 0.9636, 0.9991, 0.9639, 0.9815), (0.9948, 0.9535, 1.0000, 0.9512, 0.9755),
        (0.9688, 0.9284, 0.8825, 0.8933, 0.9140), (0.7083, 0.7856, 0.9147, 0.7297, 0.8064),
    ],
)  # fmt: skip
def test_the_weights_are_those_of_the_published_snapshot(
    dice: float, tre: float, ndv: float, hd95: float, average: float
) -> None:
    """Normalised measures and average score, LUMIR_L2R's README of 31 July 2024, four of its rows."""
    bounds = {kind: [value, 0.0, 1.0] for kind, value in zip(DIRECTIONS, (dice, hd95, tre, ndv), strict=True)}
    found = lumir24_scores(bounds, dict.fromkeys(DIRECTIONS, True))
    assert found[0] == pytest.approx(average, abs=1e-4)


def test_lumir24_without_all_measures() -> None:
    found = lumir24_scores({"dice": [0.5, 0.7, 0.6]}, DIRECTIONS)
    assert found == pytest.approx([0, 1, 0.5])
    assert lumir24_scores({"dice": [0.5, 0.5]}, DIRECTIONS) == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="none of dice"):
        lumir24_scores({"sdlogj": [1.0]}, DIRECTIONS)


def test_the_published_table_alone_is_ranked() -> None:
    (ranking,) = compare(load_scores(["published:lumir24-validation"])).rankings
    assert ranking.key == "lumir24"
    assert [row.run for row in ranking.rows][:2] == ["SITReg (v2) (published)", "VFA (published)"]
    assert ranking.resamples == 0


def test_ranks() -> None:
    assert ranks_of([0.3, 0.9, 0.9 + 1e-15, 0.1]).tolist() == [3, 1.5, 1.5, 4]


def test_friedman_is_scipys_and_nemenyi_is_in_demsars_paper(rng: np.random.Generator) -> None:
    """Demšar 2006, 3.2.2: four classifiers on 14 data sets at 0.05, q = 2.569, CD = 1.25."""
    table = rng.normal(0, 1, (14, 4)) + np.array([0.0, 0.5, 1.0, 3.0])
    found = friedman_ranks(table, list("abcd"), measure_named("DSC"))
    assert found is not None
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue)
    assert min(found.ranks, key=found.ranks.get) == "d"
    assert sum(found.ranks.values()) == pytest.approx(10)
    turned = friedman_ranks(table, list("abcd"), measure_named("HD95"))
    assert turned is not None
    assert max(turned.ranks, key=turned.ranks.get) == "d"


def test_cliques() -> None:
    found = FriedmanRanks("DSC", {"a": 1.0, "b": 1.8, "c": 2.4, "d": 4.8}, 10, 0.01, 1.0)
    assert found.cliques() == (("a", "b"), ("b", "c"))


def test_friedman_of_too_little() -> None:
    assert friedman_ranks(np.zeros((5, 1)), ["a"], measure_named("DSC")) is None
    assert friedman_ranks(np.zeros((1, 3)), list("abc"), measure_named("DSC")) is None
    two = friedman_ranks(np.zeros((5, 2)), list("ab"), measure_named("DSC"))
    assert two is not None
    assert np.isnan(two.p)


def runs_of(write_run, shifts, count=14, spread=0.02):
    generator = np.random.default_rng(9)
    base = generator.uniform(0.6, 0.7, count)
    texts = []
    for name, shift in shifts.items():
        cases = {}
        for i in range(count):
            dice = base[i] + shift + generator.normal(0, spread)
            cases[f"{i}<--{(i + 1) % count}"] = {"DSC": dice, "HD95": 5 - 4 * dice}
        texts.append(f"{name}={write_run(name, cases)}")
    return load_scores(texts)


def test_clear_ranks_are_stable_and_close_ones_are_not(write_run) -> None:
    scores = runs_of(write_run, {"good": 0.2, "a": 0.001, "b": 0.0})
    rankings = {one.key: one for one in compare(scores, resamples=150).rankings}
    assert set(rankings) == {"learn2reg_signed_rank", "learn2reg_rank_sum", "lumir24"}
    for ranking in rankings.values():
        first, *others = ranking.rows
        assert (first.run, first.rank_low, first.rank_high) == ("good", 1, 1)
        assert first.first_share > 0.95
        assert {row.run for row in others} == {"a", "b"}
        assert ranking.resamples == 150
    close = rankings["lumir24"].rows[1:]
    assert {(row.rank_low, row.rank_high) for row in close} == {(2.0, 3.0)}
    assert 0.3 < rankings["lumir24"].agreement < 1
    assert sum(row.first_share for row in rankings["lumir24"].rows) == pytest.approx(1)


def test_the_codes_variant_looks_at_cells_and_dice30(write_run) -> None:
    texts = []
    for name, shift in (("a", 0.1), ("b", 0.0)):
        cases = {f"{i}<--{i + 1}": {"DSC": 0.6 + shift} for i in range(6)}
        folder = write_run(name, cases)
        cells = [(case, label) for case in cases for label in range(1, 6)]
        lines = [f"{case},{label},{0.5 + shift + label / 100},{label / 10}" for case, label in cells]
        (folder / "labels.csv").write_text("\n".join(["case,label,dice,initial_dice", *lines, ""]))
        texts.append(f"{name}={folder}")
    rankings = {one.key: one for one in compare(load_scores(texts), resamples=100).rankings}
    assert rankings["learn2reg_rank_sum"].measures == ("DSC", "Dice30")
    assert rankings["learn2reg_signed_rank"].measures == ("DSC",)
    assert rankings["learn2reg_rank_sum"].rows[0].run == "a"


def test_a_vanished_label_counts_as_the_worst(write_run) -> None:
    """Two of four labels vanish in b in every case: leaving the cells out would make it the better one."""
    texts = []
    for name, numbers in (("a", [3, 3, 3, 3]), ("b", [2, 2, float("inf"), float("inf")])):
        cases = {f"{i}<--{i + 1}": {"HD95": 3 if name == "a" else 4} for i in range(12)}
        folder = write_run(name, cases)
        lines = [f"{case},{label},{hd95}" for case in cases for label, hd95 in enumerate(numbers)]
        (folder / "labels.csv").write_text("\n".join(["case,label,hd95", *lines, ""]))
        texts.append(f"{name}={folder}")
    (ranking,) = (
        one for one in compare(load_scores(texts), resamples=100).rankings if one.key == "learn2reg_rank_sum"
    )
    assert [row.rank for row in ranking.rows] == [1.5, 1.5]


def test_the_final_table_of_lumir24_is_another_one_than_julys_formula(write_run) -> None:
    scores = load_scores(["published:lumir24-test"])
    rankings = {one.key: one for one in compare(scores).rankings}
    july, final = (
        [row.run.removesuffix(" (published)") for row in rankings[key].rows]
        for key in ("lumir24", "lumir24-test_final")
    )
    assert "formula of July 2024" in rankings["lumir24"].scheme
    assert "the organisers' final table" in rankings["lumir24-test_final"].scheme
    assert [(row.score, row.rank) for row in rankings["lumir24-test_final"].rows][:3] == [
        (0.814, 1), (0.668, 7), (0.667, 8),
    ]  # fmt: skip
    assert final[:4] == ["SITReg", "uniGradICON + IO", "VFA", "TransMorph"]
    assert july != final
    # Validation has no such table.
    assert [one.key for one in compare(load_scores(["published:lumir24-validation"])).rankings] == ["lumir24"]
