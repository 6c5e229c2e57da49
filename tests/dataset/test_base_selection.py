"""Names of pairs after the official evaluators, and the choice among pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.dataset import Dataset, Pair, Scan
from iterreg.errors import InputError


def scan(subject: str, modality: str = "0000") -> Scan:
    return Scan(Path(f"/d/imagesVal/X_{subject}_{modality}.nii.gz"), subject, modality)


def evaluator_field_name(fixed: str, moving: str) -> str:
    """LUMIR's evaluation.py retold: ids are cut out of the paths by position."""
    f_id, f_mod, m_id, m_mod = fixed[-16:-12], fixed[-11:-7], moving[-16:-12], moving[-11:-7]
    if f_mod == m_mod or (f_mod == "0000" and m_mod == "0001"):
        return f"disp_{f_id}_{m_id}"
    return f"disp_{f_id}_{f_mod}_{m_id}_{m_mod}"


@pytest.mark.parametrize("fixed", ["0000", "0001", "0002"])
@pytest.mark.parametrize("moving", ["0000", "0001", "0002"])
def test_a_pair_is_named_as_the_evaluator_looks_for_it(fixed: str, moving: str) -> None:
    pair = Pair(scan("4024", fixed), scan("4033", moving))
    assert f"disp_{pair.name}" == evaluator_field_name(str(pair.fixed.path), str(pair.moving.path))
    assert pair.long_name == f"4024_{fixed}_4033_{moving}"
    assert pair.case == f"4024_{fixed}<--4033_{moving}"


@pytest.fixture
def dataset() -> Dataset:
    pairs = (
        Pair(scan("1000"), scan("1001"), "near"),
        Pair(scan("1001"), scan("1002"), "near"),
        Pair(scan("1000"), scan("1002", "0002"), "far"),
        Pair(scan("1002"), scan("1000"), "near"),
    )
    return Dataset("d", pairs, Path("/d/d.json"), promised_shape=(4, 5, 6), notes=("so",))


def names(dataset: Dataset) -> list[str]:
    return [pair.name for pair in dataset.pairs]


def test_nothing_asked_keeps_everything(dataset: Dataset) -> None:
    assert dataset.select() == dataset


def test_select_by_task_keeps_the_order_and_the_promises(dataset: Dataset) -> None:
    chosen = dataset.select(tasks=["near"])
    assert names(chosen) == ["1000_1001", "1001_1002", "1002_1000"]
    assert (chosen.name, chosen.source, chosen.promised_shape, chosen.notes) == (
        dataset.name,
        dataset.source,
        dataset.promised_shape,
        dataset.notes,
    )
    assert names(dataset.select(tasks=["far", "near"])) == names(dataset)


@pytest.mark.parametrize("name", ["1000_0000_1002_0002", "1000_0000<--1002_0002"])
def test_select_by_any_form_of_the_name(dataset: Dataset, name: str) -> None:
    assert names(dataset.select(pairs=[name, "1000_1001"])) == ["1000_1001", "1000_0000_1002_0002"]
    assert names(dataset.select(pairs=["1000_0000_1001_0000"])) == ["1000_1001"]


def test_first_counts_what_the_other_choices_leave(dataset: Dataset) -> None:
    assert names(dataset.select(first=2)) == ["1000_1001", "1001_1002"]
    assert names(dataset.select(tasks=["far"], first=2)) == ["1000_0000_1002_0002"]


def test_wrong_choices_are_told_with_the_right_ones(dataset: Dataset) -> None:
    with pytest.raises(
        InputError, match=r"no task 'nera'; did you mean 'near'\? its tasks are 'near', 'far'$"
    ):
        dataset.select(tasks=["nera"])
    with pytest.raises(InputError, match=r"no task 'x'; its tasks are 'near', 'far'$"):
        dataset.select(tasks=["x"])
    unnamed = Dataset("d", (Pair(scan("1"), scan("2")),), Path("/d"))
    with pytest.raises(InputError, match="its pairs belong to no tasks; leave --task out"):
        unnamed.select(tasks=["near"])
    with pytest.raises(InputError, match=r"no pair '2_1'; did you mean '1_2'\?"):
        unnamed.select(pairs=["2_1"])
    with pytest.raises(InputError, match=r"did you mean '1000_1001'\?"):
        dataset.select(pairs=["disp_1000_1011.nii.gz"])
    with pytest.raises(InputError, match=r"no pair '1000_1003'.*1000_1001"):
        dataset.select(pairs=["1000_1001", "1000_1003"])
    with pytest.raises(InputError, match=r"no pair '1000_1001' in task far; it belongs to task near"):
        dataset.select(tasks=["far"], pairs=["1000_1001"])
    with pytest.raises(InputError, match="at least 1"):
        dataset.select(first=0)
    with pytest.raises(InputError, match="no pair is left"):
        dataset.select(pairs=[])


def test_scans_and_tasks_come_once_in_order_of_use(dataset: Dataset) -> None:
    assert [(s.subject, s.modality) for s in dataset.scans()] == [
        ("1000", "0000"),
        ("1001", "0000"),
        ("1002", "0000"),
        ("1002", "0002"),
    ]
    assert dataset.tasks == ("near", "far")


def test_pairs_that_would_have_one_name_are_named_in_full_whatever_is_chosen() -> None:
    pairs = tuple(Pair(scan("1", f), scan("2", m), f + m) for f, m in CONTRASTS)
    whole = Dataset("d", (*pairs, Pair(scan("2"), scan("1"), "back")), Path("/d/d.json"))
    long = ["1_0000_2_0000", "1_0001_2_0001", "1_0000_2_0001", "1_0000_2_0002"]
    assert names(whole) == [*long, "2_1"]
    for pair in whole.pairs:
        assert names(whole.select(tasks=[pair.task])) == [pair.name]
        assert names(whole.select(pairs=[pair.case])) == [pair.name]
    with pytest.raises(InputError, match=r"no pair '1_2'.* 1_0000_2_0000"):
        whole.select(pairs=["1_2"])
    assert names(Dataset("d", pairs[2:], Path("/d/d.json"))) == ["1_2", "1_0000_2_0002"]


CONTRASTS = (("0000", "0000"), ("0001", "0001"), ("0000", "0001"), ("0000", "0002"))


def test_one_pair_listed_twice_keeps_its_short_name() -> None:
    pair = Pair(scan("1"), scan("2"))
    assert names(Dataset("d", (pair, pair), Path("/d/d.json"))) == ["1_2", "1_2"]
