"""Sensitivity arms: effects and interactions that were put in come out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.statistics.comparison import compare
from iterreg.statistics.scores import load_scores

LOSS = {"syn": 0.01, "lddmm": 0.012, "vfa": 0.08, "transmorph": 0.07}
QUICK = {"measures": ["DSC"], "scopes": ["all"], "resamples": 10}


@pytest.fixture
def arms(write_run, rng: np.random.Generator):
    """Runs METHOD@LEVEL on a ring of 12 subjects; the level costs each method what `LOSS` says."""

    def make(loss=LOSS, levels=("plain", "cropped"), key="{fixed}_0000<--{moving}_0000"):
        texts = []
        base = rng.uniform(0.6, 0.8, 12)
        for method in loss:
            own = base + rng.normal(0, 0.01, 12)
            for level in levels:
                cases = {}
                for i in range(12):
                    case = key.format(fixed=i, moving=(i + 1) % 12, level=level)
                    shift = -loss[method] if level == levels[-1] else 0.0
                    cases[case] = {"DSC": own[i] + shift + rng.normal(0, 0.003)}
                texts.append(f"{method}@{level}={write_run(f'{method}-{level}', cases)}")
        return load_scores(texts)

    return make


def test_what_was_put_in_comes_out(arms) -> None:
    found = compare(arms(), factor="preprocessing", **QUICK).factor
    assert found is not None
    assert (found.levels, found.pairing) == (("plain", "cropped"), "cases")
    for effect in found.effects:
        assert effect.effect.estimate == pytest.approx(-LOSS[effect.method], abs=0.004)
        assert effect.effect.low < effect.effect.estimate < effect.effect.high < 0
        assert effect.cases == (12, 12)
        assert effect.cohens_dz < effect.cohens_d < 0
        assert effect.effect.estimate == pytest.approx(effect.mean_level - effect.mean_baseline)
    verdicts = {(one.first, one.second): one.verdict for one in found.interactions}
    assert verdicts["syn", "lddmm"] == "no interaction shown"
    assert verdicts["syn", "vfa"] == verdicts["lddmm", "transmorph"] == "second suffers more"
    assert {round(one.difference.confidence, 6) for one in found.interactions} == {round(1 - 0.05 / 6, 6)}


def test_classes_of_methods(arms) -> None:
    classes = {"deep": ["vfa", "transmorph"], "classical": ["syn", "lddmm"]}
    found = compare(arms(), factor="preprocessing", classes=classes, **QUICK).factor
    assert found is not None
    (one,) = found.interactions
    assert (one.first, one.second, one.words) == ("deep", "classical", "deep suffers more")
    assert one.difference.estimate == pytest.approx(-0.075 + 0.011, abs=0.004)
    deep = next(effect for effect in found.effects if effect.method == "deep")
    assert deep.members == ("vfa", "transmorph")


def test_the_baseline_can_be_chosen(arms) -> None:
    found = compare(arms(), factor="preprocessing", baseline="cropped", **QUICK).factor
    assert found is not None
    assert found.levels == ("cropped", "plain")
    assert all(effect.effect.estimate > 0 for effect in found.effects)
    assert {one.verdict for one in found.interactions if one.first == "syn" and one.second == "vfa"} == {
        "first suffers more"  # gains less
    }


def test_lower_is_better(write_run, rng: np.random.Generator) -> None:
    texts = []
    for method, loss in (("syn", 0.1), ("vfa", 1.0)):
        for level in ("plain", "cropped"):
            values = 3 + loss * (level == "cropped") + rng.normal(0, 0.05, 10)
            texts.append(f"{method}@{level}={write_run(method + level, values, measure='HD95')}")
    found = compare(load_scores(texts), factor="p", **QUICK | {"measures": ["HD95"]}).factor
    assert found is not None
    (one,) = found.interactions
    assert one.words == "vfa suffers more"
    assert all(effect.effect.estimate > 0 > effect.cohens_d for effect in found.effects)


def test_another_contrast_of_the_same_people_is_paired_by_subjects(arms) -> None:
    scores = arms(levels=("0000", "0001"), key="{fixed}_{level}<--{moving}_{level}")
    found = compare(scores, factor="contrast", **QUICK).factor
    assert found is not None
    assert found.pairing == "subjects"
    vfa = next(effect for effect in found.effects if effect.method == "vfa")
    assert vfa.effect.estimate == pytest.approx(-0.08, abs=0.004)
    assert vfa.p < 0.01


def test_tasks_are_levels_of_their_own(write_run, rng: np.random.Generator) -> None:
    """Different subjects: no test, but an interval, and it knows that both methods had the same cases."""
    texts = []
    base = rng.uniform(0.4, 0.9, 24)
    for method, loss in (("syn", 0.0), ("vfa", 0.05)):
        cases = {
            f"{i}<--m{i}": {
                "task": "macaque" if i >= 12 else "in-domain",
                "DSC": base[i] - loss * (i >= 12) + rng.normal(0, 0.002),
            }
            for i in range(24)
        }
        texts.append(f"{method}={write_run(method, cases)}")
    found = compare(load_scores(texts), factor="task", **QUICK).factor
    assert found is not None
    assert (found.pairing, found.levels) == ("none", ("in-domain", "macaque"))
    assert all(np.isnan(effect.p) and np.isnan(effect.cohens_dz) for effect in found.effects)
    (one,) = found.interactions
    assert one.verdict == "second suffers more"
    assert one.difference.estimate == pytest.approx(0.05, abs=0.003)
    spread = found.effects[0].effect.high - found.effects[0].effect.low
    assert one.difference.high - one.difference.low < spread / 10
    assert "nothing is paired" in found.notes[0]


def test_too_few_cases_for_an_interaction(write_run) -> None:
    texts = []
    for method, loss in (("syn", 0.0), ("vfa", 0.3)):
        for level in ("plain", "cropped"):
            values = np.array([0.6, 0.65, 0.7]) - loss * (level == "cropped")
            texts.append(f"{method}@{level}={write_run(method + level, values)}")
    found = compare(load_scores(texts), factor="p", **QUICK).factor
    assert found is not None
    assert [one.verdict for one in found.interactions] == ["too few cases"]
    assert found.effects[0].smallest_p == 1.0  # the same at both levels


def test_a_level_that_a_method_lacks_is_left_out(arms) -> None:
    scores = arms({"syn": 0.01, "vfa": 0.08})
    kept = [run for run in scores.runs if run.name != "vfa@cropped"]
    texts = [f"{run.name}={run.path}" for run in kept]
    found = compare(load_scores(texts), factor="preprocessing", **QUICK).factor
    assert found is not None
    assert [effect.method for effect in found.effects] == ["syn"]
    assert found.interactions == ()


def test_refusals(arms, write_run) -> None:
    scores = arms()
    for options, sentence in [
        ({"factor": "p", "baseline": "x"}, "p has no level 'x'; its levels are plain, cropped"),
        ({"factor": "p", "classes": {"deep": ["x"]}}, "class deep: there is no method 'x'"),
        ({"factor": "p", "classes": {"syn": ["vfa"]}}, "a method has that name already"),
    ]:
        with pytest.raises(InputError, match=sentence):
            compare(scores, **QUICK, **options)
    single = load_scores([f"a={write_run('a', [0.5, 0.6])}"])
    for factor in ("preprocessing", "task"):
        with pytest.raises(InputError, match="has not two levels to compare"):
            compare(single, factor=factor, **QUICK)
