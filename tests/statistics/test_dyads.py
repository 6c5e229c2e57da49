"""Who is shared by cases, what the design makes of the variance, and when there is an interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from iterreg.statistics.dyads import FEWEST_UNITS, Dyads
from iterreg.statistics.effect_sizes import cohens_dz
from iterreg.statistics.intervals import Interval

RING = [str(i) for i in range(8)], [str((i + 1) % 8) for i in range(8)]


def every_two(count: int) -> tuple[list[str], list[str]]:
    pairs = [(i, j) for i in range(count) for j in range(i)]
    return [str(i) for i, _ in pairs], [str(j) for _, j in pairs]


def mean_of(values: np.ndarray):
    def mean(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return weights @ values / weights.sum(axis=-1)

    return mean


# -- who is shared --------------------------------------------------------------------------------------


def test_subjects_are_in_their_cases() -> None:
    dyads = Dyads(*RING)
    assert (dyads.unit, dyads.units, dyads.shared) == ("subjects", 8, True)
    assert (dyads.membership.sum(axis=0) == 2).all()
    assert dyads.membership[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]


def test_cases_without_a_shared_subject_are_units_themselves() -> None:
    dyads = Dyads(["1", "3", "5", "7"], ["2", "4", "6", "8"])
    assert (dyads.unit, dyads.units, dyads.shared) == ("cases", 4, False)
    assert (dyads.membership == np.eye(4)).all()


def test_an_atlas_is_held_fixed() -> None:
    dyads = Dyads(["atlas"] * 6, list("abcdef"))
    assert (dyads.unit, dyads.units, dyads.shared, dyads.held) == ("cases", 6, False, ("atlas",))


def test_an_atlas_and_shared_subjects() -> None:
    """Two scans of each of three people to an atlas: people are the units, with both of their scans."""
    dyads = Dyads(["atlas"] * 6, ["a", "a", "b", "b", "c", "c"])
    assert (dyads.unit, dyads.units, dyads.shared, dyads.held) == ("subjects", 3, True, ("atlas",))
    assert dyads.membership.tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_two_contrasts_of_one_person_are_one_subject() -> None:
    assert Dyads(["a", "b", "a"], ["a", "b", "b"]).membership.tolist() == [[1, 0, 1], [0, 1, 1]]


# -- intervals ------------------------------------------------------------------------------------------


def test_independent_cases_have_students_interval(rng: np.random.Generator) -> None:
    values = rng.normal(0.3, 1, 12)
    dyads = Dyads([f"f{i}" for i in range(12)], [f"m{i}" for i in range(12)])
    found = dyads.interval(mean_of(values), confidence=0.9)
    theirs = stats.ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.9)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.freedom, found.confidence) == (pytest.approx(11), 0.9)


def test_two_sets_of_independent_cases_have_welchs_freedom(rng: np.random.Generator) -> None:
    """Of equally large sets Welch's test and Student's have the same error; freedom of equal scatter."""
    x, y = rng.normal(0, 1, 9), rng.normal(0, 1, 9)
    dyads = Dyads([f"f{i}" for i in range(18)], [f"m{i}" for i in range(18)])
    coefficients = np.repeat([1 / 9, -1 / 9], 9)

    def difference(weights: np.ndarray) -> np.ndarray:
        return mean_of(x)(weights[..., :9]) - mean_of(y)(weights[..., 9:])

    found = dyads.interval(difference, coefficients=coefficients)
    assert found.freedom == pytest.approx(16)
    exact = stats.ttest_ind(x, y).confidence_interval()
    # Leaving out one case of nine shifts a mean of nine, not one of eighteen.
    assert (found.high - found.low) / (exact.high - exact.low) == pytest.approx((1 - 1 / 18) / (1 - 1 / 9))


def test_every_two_subjects_with_effects_alone_are_students_sample() -> None:
    """A mean over all pairs of subjects' effects is twice the subjects' mean: a sample of N, exactly."""
    effects = np.array([0.3, -1.2, 0.8, 2.1, -0.4, 0.1])
    fixed, moving = every_two(6)
    values = np.array([effects[int(i)] + effects[int(j)] for i, j in zip(fixed, moving, strict=True)])
    found = Dyads(fixed, moving).interval(mean_of(values))
    theirs = stats.ttest_1samp(2 * effects, 0).confidence_interval()
    dyads = Dyads(fixed, moving)
    assert found.freedom == pytest.approx(5)
    # The scale allows for the worst share of subjects, which here is all of the variance.
    assert dyads.calibration(np.full(15, 1 / 15)).scale == pytest.approx(1.875)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("design", ["ring", "every two", "irregular"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_variance_is_not_too_small_on_average(design: str, share: float) -> None:
    """The expected squared standard error, by the covariance itself, is at least the mean's variance."""
    fixed, moving = {
        "ring": RING,
        "every two": every_two(6),
        "irregular": (list("aabbcdefgg"), list("bccdeefgha")),
    }[design]
    dyads, n = Dyads(fixed, moving), len(fixed)
    together = dyads.membership.T @ dyads.membership / 2
    covariance = (1 - share) * np.eye(n) + share * together
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(n))
    # A quadratic form's mean is the sum over the columns of any root of the covariance.
    expected = sum(dyads.interval(mean_of(column)).standard_error ** 2 for column in root.T)
    assert expected >= covariance.sum() / n**2 * (1 - 1e-6)


@pytest.mark.parametrize(("design", "effects"), [("ring", 1.0), ("ring", 0.0), ("every two", 1.0)])
def test_dyads_are_covered(design: str, effects: float) -> None:
    generator = np.random.default_rng(11)
    fixed, moving = RING if design == "ring" else every_two(6)
    dyads, trials, covered = Dyads(fixed, moving), 600, 0
    for _ in range(trials):
        own = effects * generator.normal(0, 1, 8)
        values = np.array([own[int(i)] + own[int(j)] for i, j in zip(fixed, moving, strict=True)])
        found = dyads.interval(mean_of(values + generator.normal(0, 0.3, values.size)))
        covered += found.low <= 0 <= found.high
    assert covered / trials > 0.93


def test_effect_sizes_have_intervals_of_their_own_size(rng: np.random.Generator) -> None:
    """A nearly constant difference: no interval from below zero to hundreds."""
    ours = 0.7 + rng.normal(0, 0.01, 8)
    theirs = ours - 0.1 + rng.normal(0, 0.0005, 8)
    found = Dyads([f"f{i}" for i in range(8)], [f"m{i}" for i in range(8)]).interval(
        lambda weights: cohens_dz(ours, theirs, weights)
    )
    assert found.known
    assert found.high < 3 * found.estimate


def test_equal_arguments_give_equal_intervals(rng: np.random.Generator) -> None:
    values = rng.normal(0, 1, 8)
    assert Dyads(*RING).interval(mean_of(values)) == Dyads(*RING).interval(mean_of(values))


# -- when there is none ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 5])
def test_too_few_subjects(count: int) -> None:
    fixed, moving = (list("abcde")[: count - 1] or ["a"]), (list("bcdef")[: count - 1] or ["b"])
    found = Dyads(fixed, moving).interval(mean_of(np.arange(1.0, len(fixed) + 1)))
    assert not found.known
    assert np.isnan(found.p)
    assert found.estimate == (len(fixed) + 1) / 2
    assert found.note == f"too few {'subjects' if count > 2 else 'cases'} ({count}) for an interval"
    assert FEWEST_UNITS == 6


def test_subjects_of_the_cases_that_enter_are_counted() -> None:
    """Eight subjects, but the mean is over pairs of five of them."""
    fixed, moving = list("abcdefg"), list("bcdefgh")
    coefficients = np.array([0.25] * 4 + [0] * 3)
    found = Dyads(fixed, moving).interval(mean_of(np.arange(7.0)), coefficients=coefficients)
    assert found.note == "too few subjects (5) for an interval"


def test_no_case() -> None:
    found = Dyads([], []).interval(mean_of(np.zeros(0)))
    assert np.isnan(found.estimate)
    assert not found.known


def test_a_statistic_that_rests_on_one_subject_has_no_interval() -> None:
    def resting(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, 1.0, np.nan)

    found = Dyads(*RING).interval(resting)
    assert not found.known
    assert found.note == "not defined without one of the subjects: too few subjects"


def test_all_alike() -> None:
    found = Dyads(*RING).interval(mean_of(np.full(8, 0.25)))
    assert (found.low, found.high, found.p) == (0.25, 0.25, 0.0)
    assert found.note == "the same without any one of the subjects"


def test_turned_round() -> None:
    turned = Interval(2.0, 1.0, 4.0).scaled(-1)
    assert (turned.estimate, turned.low, turned.high) == (-2, -4, -1)
    assert turned.excludes_zero
    assert not Interval(2.0, -1.0, 4.0).excludes_zero
    assert not Interval(2.0).excludes_zero
    clipped = Interval(0.5, -1.0, 4.0).clipped(0, 1)
    assert (clipped.low, clipped.high) == (0, 1)


# -- resamples, for rankings ----------------------------------------------------------------------------


def test_a_pair_counts_as_the_product_of_its_subjects() -> None:
    """Subject draws are recovered from a design where each is also paired with itself."""
    drawn = Dyads(["a", "b", "c", "d", "a", "b"], ["a", "b", "c", "d", "b", "d"]).resampled(300)
    a, b, c, d, ab, bd = drawn.T
    assert (a + b + c + d == 4).all()
    assert (ab == a * b).all()
    assert (bd == b * d).all()
    assert ab.max() > 1


def test_independent_cases_are_drawn_themselves() -> None:
    dyads = Dyads(["atlas"] * 6, list("abcdef"))
    assert (dyads.resampled(50).sum(axis=1) == 6).all()
    assert (dyads.resampled(50, seed=2) == dyads.resampled(50, seed=2)).all()
    assert (dyads.resampled(50, seed=2) != dyads.resampled(50, seed=3)).any()
