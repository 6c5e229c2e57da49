"""Dyadic resampling: what is drawn, what an interval covers, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from iterreg.statistics.bootstrap import FEWEST_UNITS, Interval, SubjectBootstrap

RING = [str(i) for i in range(8)], [str((i + 1) % 8) for i in range(8)]


def mean_of(values: np.ndarray):
    def mean(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return weights @ values / weights.sum(axis=-1)

    return mean


def test_a_pair_counts_as_the_product_of_its_subjects() -> None:
    """Subject draws are recovered from a design where each is also paired with itself."""
    fixed = ["a", "b", "c", "d", "a", "b"]
    moving = ["a", "b", "c", "d", "b", "d"]
    drawn = SubjectBootstrap(fixed, moving, resamples=300)
    a, b, c, d, ab, bd = drawn.weights.T
    assert (a + b + c + d == 4).all()
    assert (ab == a * b).all()
    assert (bd == b * d).all()
    assert ab.max() > 1


def test_leaving_out_a_subject_leaves_out_its_pairs() -> None:
    drawn = SubjectBootstrap(*RING)
    assert drawn.without.shape == (8, 8)
    assert (drawn.without.sum(axis=1) == 6).all()
    assert drawn.without[0].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_unshared_cases_are_drawn_themselves() -> None:
    drawn = SubjectBootstrap(["1", "3", "5", "7"], ["2", "4", "6", "8"], resamples=50)
    assert (drawn.unit, drawn.units, drawn.shared) == ("cases", 4, False)
    assert (drawn.weights.sum(axis=1) == 4).all()


def test_an_atlas_is_held_fixed() -> None:
    drawn = SubjectBootstrap(["atlas"] * 6, list("abcdef"), resamples=50)
    assert (drawn.unit, drawn.units, drawn.shared, drawn.held) == ("cases", 6, False, ("atlas",))
    assert (drawn.weights.sum(axis=1) == 6).all()


def test_an_atlas_and_shared_subjects() -> None:
    """Two scans of each of three people to an atlas: people are drawn, with both of their scans."""
    drawn = SubjectBootstrap(["atlas"] * 6, ["a", "a", "b", "b", "c", "c"], resamples=50)
    assert (drawn.unit, drawn.units, drawn.shared, drawn.held) == ("subjects", 3, True, ("atlas",))
    assert (drawn.weights[:, ::2] == drawn.weights[:, 1::2]).all()
    assert (drawn.weights.sum(axis=1) == 6).all()


def test_two_contrasts_of_one_person_are_one_subject() -> None:
    drawn = SubjectBootstrap(["a", "b", "a"], ["a", "b", "b"], resamples=400)
    a, b, ab = drawn.weights.T
    assert (ab == a * b).all()
    assert set(a) == {0, 1, 2}


def test_bca_is_scipys_where_cases_are_independent(rng: np.random.Generator) -> None:
    values = rng.exponential(1, 25)
    fixed, moving = [f"f{i}" for i in range(25)], [f"m{i}" for i in range(25)]
    ours = SubjectBootstrap(fixed, moving, resamples=40_000).interval(mean_of(values))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
    assert ours.method == "BCa"
    assert ours.estimate == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    percentile = np.quantile(SubjectBootstrap(fixed, moving).weights @ values / 25, (0.025, 0.975))
    assert ours.high > percentile[1]  # the skewness is corrected for


def test_equal_arguments_give_equal_intervals(rng: np.random.Generator) -> None:
    values = rng.normal(0, 1, 8)
    first = SubjectBootstrap(*RING, seed=3).interval(mean_of(values))
    assert first == SubjectBootstrap(*RING, seed=3).interval(mean_of(values))
    assert first != SubjectBootstrap(*RING, seed=4).interval(mean_of(values))


@pytest.mark.parametrize(
    ("design", "at_least", "naive_at_most"), [("every two of 10", 0.8, 0.5), ("ring of 10", 0.84, 0.8)]
)
def test_dyads_are_covered_where_drawing_cases_is_not(
    design: str, at_least: float, naive_at_most: float
) -> None:
    """Subjects have effects of their own; the truth is a mean of 0, covered by 95 % of perfect intervals."""
    generator = np.random.default_rng(11)
    pairs = [(i, (i + 1) % 10) for i in range(10)]
    if design.startswith("every"):
        pairs = [(i, j) for i in range(10) for j in range(i)]
    count, trials = len(pairs), 150
    dyadic = SubjectBootstrap(*([str(pair[k]) for pair in pairs] for k in (0, 1)), resamples=400)
    naive = SubjectBootstrap(*([f"{k} {i}" for i in range(count)] for k in (0, 1)), resamples=400)
    covered = {"dyadic": 0, "naive": 0}
    for _ in range(trials):
        subject = generator.normal(0, 1, 10)
        values = np.array([subject[i] + subject[j] for i, j in pairs]) + generator.normal(0, 0.3, count)
        for name, drawn in (("dyadic", dyadic), ("naive", naive)):
            interval = drawn.interval(mean_of(values))
            covered[name] += interval.low <= 0 <= interval.high
    assert covered["naive"] / trials < naive_at_most
    assert covered["dyadic"] / trials > at_least


def test_too_few_subjects() -> None:
    fixed, moving = ["a", "b", "c"], ["b", "c", "d"]
    found = SubjectBootstrap(fixed, moving).interval(mean_of(np.array([1.0, 2.0, 3.0])))
    assert not found.known
    assert found.estimate == 2
    assert found.note == "too few subjects (4) for an interval"
    assert FEWEST_UNITS == 5


def test_one_case() -> None:
    found = SubjectBootstrap(["a"], ["b"]).interval(mean_of(np.array([0.7])))
    assert (found.estimate, found.known) == (0.7, False)


def test_no_case() -> None:
    found = SubjectBootstrap([], []).interval(mean_of(np.zeros(0)))
    assert np.isnan(found.estimate)
    assert not found.known


def test_resamples_without_any_pair_are_counted() -> None:
    fixed, moving = ["a", "b", "c", "d", "e"], ["b", "c", "d", "e", "f"]
    drawn = SubjectBootstrap(fixed, moving, resamples=1000)
    empty = int((drawn.weights.sum(axis=1) == 0).sum())
    assert 0 < empty < 100
    found = drawn.interval(mean_of(np.arange(5.0)))
    assert found.note == f"{empty} of 1000 resamples left out, where it is not defined"


def test_a_statistic_that_is_seldom_defined_has_no_interval() -> None:
    def seldom(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, 1.0, np.nan)

    found = SubjectBootstrap(*RING, resamples=500).interval(seldom)
    assert not found.known
    assert "too few subjects" in found.note


def test_all_resamples_alike() -> None:
    found = SubjectBootstrap(*RING).interval(mean_of(np.full(8, 0.25)))
    assert (found.low, found.high) == (0.25, 0.25)
    assert found.note == "all resamples give the same"


def test_turned_round() -> None:
    turned = Interval(2.0, 1.0, 4.0, 0.95, "BCa").scaled(-1)
    assert (turned.estimate, turned.low, turned.high) == (-2, -4, -1)
    assert turned.excludes_zero
    assert not Interval(2.0, -1.0, 4.0, 0.95, "BCa").excludes_zero
    assert not Interval(2.0).excludes_zero
