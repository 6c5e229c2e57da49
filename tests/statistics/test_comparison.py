"""Verdicts, families, unequal sets, and degenerate scores."""

from __future__ import annotations

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.statistics.comparison import compare
from iterreg.statistics.paired import cases_needed
from iterreg.statistics.scores import Scope, load_scores

FAST = {"resamples": 20}


@pytest.fixture
def compared(write_run):
    """Compare runs given by name as one number per case, of a chain of subjects unless cases are named."""

    def make(runs, *, options=None, **more):
        texts = [f"{name}={write_run(name, values, **more)}" for name, values in runs.items()]
        return compare(load_scores(texts), **FAST | (options or {}))

    return make


def unshared(values):
    """The values as rows of cases that share no subject."""
    return {f"f{i}<--m{i}": {"DSC": value} for i, value in enumerate(values)}


def test_a_clear_difference(compared, rng: np.random.Generator) -> None:
    base = rng.uniform(0.6, 0.8, 12)
    (one,) = compared({"a": base + 0.02 + rng.normal(0, 0.002, 12), "b": base}).pairs("DSC")
    assert (one.verdict, one.better) == ("first better", "a")
    assert (one.wins, one.ties, one.losses) == (12, 0, 0)
    assert one.difference.low > 0.015
    assert one.effects.cohens_dz.estimate > 3 > 1 > one.effects.cohens_d.estimate > 0
    assert one.effects.hedges_g.estimate < one.effects.cohens_d.estimate
    assert "share 13 subjects" in one.assumption
    assert "anticonservative" in one.assumption


def test_lower_is_better_turns_effects_not_differences(compared, rng: np.random.Generator) -> None:
    base = rng.uniform(3, 4, 12)
    runs = {"a": base - 0.5 + rng.normal(0, 0.02, 12), "b": base}
    (one,) = compared(runs, measure="HD95").pairs("HD95")
    assert one.verdict == "first better"
    assert one.difference.estimate < 0
    assert min(one.effects.cohens_dz.estimate, one.effects.cliffs_delta.estimate) > 0
    assert one.wins == 12


def test_noise(compared, rng: np.random.Generator) -> None:
    (one,) = compared({"a": rng.uniform(0, 1, 30), "b": rng.uniform(0, 1, 30)}).pairs("DSC")
    assert one.verdict == "no difference shown"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_cases_whatever_was_measured(compared, count: int) -> None:
    (one,) = compared({"a": unshared([0.9] * count), "b": unshared([0.1] * count)}).pairs("DSC")
    assert one.verdict == "too few cases"
    assert one.why.endswith("6 that differ can"), "there are no other comparisons whose results could matter"
    assert one.wilcoxon.smallest_p_holm == min(1.0, 2.0 ** (1 - count))


def test_enough_cases_for_one_comparison_are_too_few_for_three(compared) -> None:
    values = np.linspace(0.5, 0.6, 6)
    runs = {"a": unshared(values + 0.1), "b": unshared(values)}
    (one,) = compared(runs).pairs("DSC")
    assert one.verdict == "first better"
    three = compared({f"{name}3": values for name, values in runs.items()} | {"c": unshared(values - 0.1)})
    assert {one.verdict for one in three.pairs("DSC")} == {"too few cases"}
    assert {one.why.partition(", ")[2] for one in three.pairs("DSC")} == {
        "whatever the other 2 of the 3 comparisons give"
    }
    assert {one.wilcoxon.p_holm for one in three.pairs("DSC")} == {3 / 32}


@pytest.mark.parametrize("tests", [1, 2, 3, 6, 10, 21, 45, 400])
def test_cases_needed(tests: int) -> None:
    needed = cases_needed(tests)
    assert tests * 2.0 ** (1 - needed) < 0.05 <= tests * 2.0 ** (2 - needed)


def test_a_reference_needs_a_milder_correction(compared) -> None:
    values = np.linspace(0.5, 0.6, 7)
    runs = {name: unshared(values + 0.1 * i) for i, name in enumerate("abcd")}
    found = compared(runs, options={"reference": "a"}).pairs("DSC")
    assert [(one.first, one.second) for one in found] == [("b", "a"), ("c", "a"), ("d", "a")]
    assert {one.verdict for one in found} == {"first better"}


def test_identical_methods(compared) -> None:
    values = np.linspace(0.5, 0.6, 9)
    found = compared({"a": values, "b": values})
    (one,) = found.pairs("DSC")
    assert (one.verdict, one.ties) == ("equal", 9)
    assert np.isnan(one.effects.cohens_dz.estimate)
    assert one.effects.cohens_d.estimate == one.effects.cliffs_delta.estimate == 0
    assert not one.effects.hedges_gz.known
    assert [row.rank for row in found.rankings[0].rows] == [1.5, 1.5]


def test_all_ties_but_one(compared) -> None:
    (one,) = compared({"a": [0.5] * 11 + [0.6], "b": [0.5] * 12}).pairs("DSC")
    assert one.verdict == "too few cases"
    assert one.why.startswith("1 differing of 12 cases cannot")
    assert (one.wins, one.ties, one.losses) == (1, 11, 0)


def test_differences_of_rounding_are_ties(compared) -> None:
    (one,) = compared({"a": [0.1 + 0.2] * 8, "b": [0.3] * 8}).pairs("DSC")
    assert one.verdict == "equal"


def test_shared_subjects_that_are_too_few_for_an_interval(compared) -> None:
    """Twelve ordered pairs of four subjects: enough for p, too few to say what others would have given."""
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    values = {f"{i}<--{j}": {"DSC": 0.5 + 0.01 * i} for i, j in pairs}
    better = {case: {"DSC": row["DSC"] + 0.1 + 0.001 * n} for n, (case, row) in enumerate(values.items())}
    (one,) = compared({"a": better, "b": values}).pairs("DSC")
    assert one.wilcoxon.p_holm < 0.001
    assert one.verdict == "too few cases"
    assert "too few subjects (4)" in one.why


def test_a_single_subject_does_not_make_a_difference(compared, rng: np.random.Generator) -> None:
    """Six of seven pairs with one subject are won: p alone would say better, the interval does not."""
    cases = {f"s{i}<--t": {"DSC": 0.5} for i in range(9)} | {f"u{i}<--v{i}": {"DSC": 0.5} for i in range(2)}
    better = {case: {"DSC": 0.6 + 0.01 * i} for i, case in enumerate(cases)}
    for case in ("u0<--v0", "u1<--v1"):
        better[case] = {"DSC": 0.2}
    (one,) = compared({"a": better, "b": cases}).pairs("DSC")
    assert one.shared
    assert one.verdict == "no difference shown"


def test_an_atlas_is_told(compared) -> None:
    values = {f"atlas<--s{i}": {"DSC": 0.5 + i / 100} for i in range(8)}
    better = {case: {"DSC": row["DSC"] + 0.1} for case, row in values.items()}
    (one,) = compared({"a": better, "b": values}).pairs("DSC")
    assert one.verdict == "first better"
    assert not one.shared
    assert one.assumption.endswith("no two share another subject; all hold for atlas, who is in every case")


def test_unequal_sets_are_reported(compared) -> None:
    values = unshared(np.linspace(0.5, 0.7, 8))
    found = compared({"a": values, "b": dict(list(values.items())[2:])})
    (one,) = found.pairs("DSC")
    assert (one.cases, one.only_first, one.only_second) == (6, ("f0<--m0", "f1<--m1"), ())
    a, b = found.summary("DSC")
    assert (a.cases, a.missing, a.common_cases) == (8, 0, 6)
    assert (b.cases, b.missing, b.common_cases) == (6, 2, 6)
    assert a.common_mean.estimate == pytest.approx(b.mean)
    assert a.mean < a.common_mean.estimate


def test_nothing_in_common(compared) -> None:
    found = compared({"a": {"1<--2": {"DSC": 0.5}}, "b": {"3<--4": {"DSC": 0.6}}})
    (one,) = found.pairs("DSC")
    assert (one.cases, one.verdict, one.why) == (0, "too few cases", "no case in common")
    assert not any(row.best for row in found.summary("DSC"))


def test_nan_scores(compared) -> None:
    values = unshared([0.5, "nan", 0.7, "inf", 0.6])
    found = compared({"a": values, "b": unshared([0.5, 0.6, 0.7, 0.8, 0.9])})
    (one,) = found.pairs("DSC")
    assert one.cases == 3
    assert one.only_second == ("f1<--m1", "f3<--m3")
    assert [m.reason for m in found.scores.missing] == ["its number is nan", "its number is inf"]


def test_one_run_alone(compared) -> None:
    found = compared({"a": [0.5, 0.6, 0.7]})
    assert found.pairwise == ()
    assert found.rankings == ()
    assert found.summary("DSC")[0].mean == pytest.approx(0.6)


def test_scopes_are_families_of_their_own(write_run) -> None:
    texts = []
    for name, shift in (("a", 0.1), ("b", 0.0)):
        cases = {
            f"{i}_0000<--{i + 1}_000{i % 2}": {"task": f"t{i // 10}", "DSC": 0.5 + shift + 0.001 * i * shift}
            for i in range(20)
        }
        labels = {
            (case, label): row["DSC"] + label / 100 for case, row in cases.items() for label in (1, 2, 3)
        }
        texts.append(f"{name}={write_run(name, cases, labels=labels)}")
    found = compare(load_scores(texts), **FAST)
    kinds = {one.scope.kind: [] for one in found.pairwise}
    for one in found.pairwise:
        kinds[one.scope.kind].append(one)
    assert {kind: len(rows) for kind, rows in kinds.items()} == {
        "all": 1,
        "task": 2,
        "contrast": 2,
        "label": 3,
    }
    (task, _) = kinds["task"]
    assert task.scope == Scope("task", "t0")
    assert task.wilcoxon.p_holm == pytest.approx(2 * task.wilcoxon.result.p)
    assert found.scopes("DSC", "contrast") == (Scope("contrast", "0000"), Scope("contrast", "0000-0001"))
    assert kinds["label"][0].cases == 20
    assert not kinds["label"][0].effects.cohens_d.known  # only d_z and the difference have one per label
    assert kinds["label"][0].effects.cohens_dz.known


def test_intervals_and_verdicts_do_not_depend_on_a_seed(compared, rng: np.random.Generator) -> None:
    a, b = rng.uniform(0.5, 0.6, 10), rng.uniform(0.5, 0.6, 10)
    first = compared({"a": a, "b": b})
    again = compare(first.scores, **FAST)
    assert first.pairwise == again.pairwise
    assert repr(first.rankings) == repr(again.rankings)  # with NaN in them
    other = compare(first.scores, **FAST, seed=2)
    assert first.pairwise == other.pairwise
    assert repr(first.rankings) != repr(other.rankings)


def test_shared_subjects_are_corrected_for_the_family_too(compared) -> None:
    """Four runs over every two of six subjects: Wilcoxon's corrected p would do, the dyadic one not."""
    pairs = [(i, j) for i in range(6) for j in range(i)]
    effects = np.array([0.9, 1.1, 0.2, 1.3, 0.35, 0.5]) / 100
    base = {f"{i}<--{j}": {"DSC": 0.6 + 0.01 * i} for i, j in pairs}

    def shifted(times: float) -> dict[str, dict[str, float]]:
        gains = {f"{i}<--{j}": times * (effects[i] + effects[j]) for i, j in pairs}
        return {case: {"DSC": row["DSC"] + gains[case]} for case, row in base.items()}

    (alone,) = compared({"a": shifted(1), "b": base}).pairs("DSC")
    assert alone.dyadic.p_holm == alone.dyadic.result.p < 0.05
    assert alone.dyadic.result.method == "Student's t, 5.0 degrees of freedom"
    assert alone.verdict == "first better"
    together = compared({"a3": shifted(1), "b3": base, "c3": shifted(3), "d3": shifted(7)}).pairs("DSC")
    assert all(one.wilcoxon.p_holm < 0.001 for one in together)
    assert together[0].dyadic.result.p == pytest.approx(alone.dyadic.result.p)
    assert together[0].dyadic.p_holm == pytest.approx(6 * alone.dyadic.result.p)
    assert {one.verdict for one in together} == {"no difference shown"}
    assert "by the dyadic test, which allows for shared subjects" in together[0].why


def test_an_effect_that_is_hardly_bounded_is_told(compared, rng: np.random.Generator) -> None:
    base = rng.uniform(0.6, 0.8, 6)
    cases = {f"{i}<--{(i + 1) % 6}": {"DSC": value} for i, value in enumerate(base)}
    better = {case: {"DSC": row["DSC"] + 0.1 + rng.normal(0, 0.001)} for case, row in cases.items()}
    (one,) = compared({"a": better, "b": cases}).pairs("DSC")
    size = one.effects.cohens_dz
    assert size.high - size.low > 4
    assert size.note == "too few to say how large it is"


def test_published_means_stand_beside_and_are_not_tested(write_run) -> None:
    texts = [f"a={write_run('a', [0.7] * 7)}", f"b={write_run('b', [0.6] * 7)}", "published:lumir24-test"]
    found = compare(load_scores(texts), **FAST)
    assert len(found.pairs("DSC")) == 1
    rows = found.summary("DSC")
    assert next(row.run for row in rows if row.reference) == "SITReg (published)"
    assert not any(row.best for row in rows if row.reference)


def test_refusals(write_run) -> None:
    scores = load_scores([f"a={write_run('a', [0.5, 0.6])}"])
    with pytest.raises(InputError, match="no run has the measure 'speed'"):
        compare(scores, measures=["speed"])
    with pytest.raises(InputError, match="there is no run 'b' with cases"):
        compare(scores, reference="b")
    odd = load_scores([f"x={write_run('x', [0.5, 0.6], measure='odd')}"])
    with pytest.raises(InputError, match="not known whether more of it is better"):
        compare(odd, measures=["odd"])
    with pytest.raises(InputError, match="name one and its better direction"):
        compare(odd)
