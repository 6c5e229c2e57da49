"""Protocols and evaluation configs: what is measured on which pair, and what its field is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.evaluate import PROTOCOL_NAMES
from iterreg.dataset import open_dataset
from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.errors import InputError
from iterreg.evaluation.fields import find_field, find_reverse
from iterreg.evaluation.folder import evaluate_folder
from iterreg.evaluation.protocols import PROTOCOLS, protocol_named
from iterreg.evaluation.protocols.config import configs_beside, measures_by_configs, read_config
from iterreg.evaluation.rules import choose_rules
from iterreg.runs.opening import MethodResults


def pair(fixed: str, moving: str, **companions: Any) -> Pair:
    ends = [Scan(Path(f"{s}_{m}"), s, m, **companions) for s, m in (fixed.split("_"), moving.split("_"))]
    return Pair(*ends)


def test_the_command_knows_every_protocol() -> None:
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("protocol", "fixed", "moving", "expected"),
    [
        ("lumir25", "0002_0000", "0001_0000", ["disp_0002_0001.nii.gz"]),
        ("lumir25", "0002_0000", "0001_0001", ["disp_0002_0001.nii.gz"]),
        ("lumir25", "0002_0001", "0001_0000", ["disp_0002_0001_0001_0000.nii.gz"]),
        ("learn2reg", "0001_0000", "0001_0001", ["disp_0001_0001.npz", "disp_0001_0000_0001_0001.nii.gz"]),
        ("learn2reg", "0002_0000", "0001_0000", ["disp_0002_0000_0001_0000.npz"]),
    ],
)
def test_field_names_are_the_evaluators(
    tmp_path: Path, protocol: str, fixed: str, moving: str, expected: list[str]
) -> None:
    rules, one = protocol_named(protocol), pair(fixed, moving)
    missing = find_field(tmp_path, one, rules)
    assert missing.path is None
    assert "is missing" in missing.note
    for name in reversed(expected):  # the first is the evaluator's favourite
        (tmp_path / name).touch()
        found = find_field(tmp_path, one, rules)
        assert found.path == tmp_path / name
        assert not found.note


def test_an_image_is_not_its_own_opposite(tmp_path: Path) -> None:
    (tmp_path / "disp_0001_0001.nii.gz").touch()
    assert find_reverse(tmp_path, pair("0001_0000", "0001_0000"), protocol_named("lumir25")) == ()
    other = pair("0001_0000", "0001_0001")
    assert find_reverse(tmp_path, other, protocol_named("lumir25")) == (), "0001 <- 0000 has its long name"
    (tmp_path / "disp_0001_0001_0001_0000.nii.gz").touch()
    assert find_reverse(tmp_path, other, protocol_named("lumir25")) != ()


def test_defaults_follow_the_files() -> None:
    labelled = pair("0002_0000", "0001_0000", labels=Path("l"))
    marked = pair("0002_0000", "0001_0000", landmarks=Path("l"))
    for name, kinds in (("lumir24", ["ndv", "dice", "hd95"]), ("learn2reg", ["sdlogj", "dice", "hd95"])):
        assert [m.kind for m in protocol_named(name).measures_of(labelled)] == kinds
    assert [m.kind for m in protocol_named("lumir25").measures_of(marked)] == ["ndv", "tre"]
    assert protocol_named("lumirage").measures_of(marked) == ()


def test_lumir25s_own_configs(data_dir: Path) -> None:
    folder = data_dir / "lumir25_json"
    dataset = open_dataset(folder / "LUMIR25_dataset.json")
    configs = configs_beside(dataset)
    assert len(configs) == 4
    by_task: dict[str, set[tuple[str, int]]] = {}
    for one in dataset.pairs:
        measures = measures_by_configs(configs, one)
        by_task.setdefault(one.task, set()).update((m.kind, len(m.labels or ())) for m in measures)
    scored = {("ndv", 0), ("dice", 133), ("hd95", 133)}
    assert by_task["landmarks"] == {("ndv", 0), ("tre", 0)}
    assert by_task["in-domain"] == by_task["high-field"] == by_task["multi-modal"] == scored


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


ENTRY = {"fixed": "./imagesVal/A_0002_0000.nii.gz", "moving": "./imagesVal/A_0001_0000.nii.gz"}
DICE = {"name": "DSC", "metric": "dice", "labels": [1, "2"]}


def test_a_config(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.json",
        task_name="T",
        eval_pairs=[ENTRY],
        evaluation_methods=[DICE],
        masked_evaluation=True,
    )
    config = read_config(path)
    assert (config.name, config.generic, config.masked) == ("T", True, True)
    assert config.measures[0].labels == (1, 2)
    assert config.covers(pair("0002_0000", "0001_0000"))
    assert not config.covers(pair("0001_0000", "0002_0000"))


@pytest.mark.parametrize(
    ("methods", "pairs", "message"),
    [
        ([{"name": "X", "metric": "ssim"}], [ENTRY], "metric"),
        ([{"name": "X", "metric": "dice"}], [ENTRY], "list of labels"),
        ([{"name": "X", "metric": "dice", "labels": ["a"]}], [ENTRY], "whole numbers"),
        ([DICE, DICE], [ENTRY], "twice"),
        ([DICE], [{"fixed": "a"}], "fixed and moving"),
        ([DICE], None, "no eval_pairs"),
    ],
)
def test_configs_that_are_none(tmp_path: Path, methods: Any, pairs: Any, message: str) -> None:
    path = write(tmp_path / "c.json", name="C", eval_pairs=pairs, evaluation_methods=methods)
    with pytest.raises(InputError, match=message):
        read_config(path)


def test_a_short_name_that_several_pairs_share_means_the_one_that_is_scored(tmp_path: Path) -> None:
    """Fields of one contrast, by someone who scores one contrast at a time."""
    scans = [
        Scan(tmp_path / f"imagesVal/X_{s}_{m}.nii.gz", s, m) for m in ("0000", "0001") for s in ("1", "2")
    ]
    dataset = Dataset("d", (Pair(*scans[:2], "T1w"), Pair(*scans[2:], "T2w")), tmp_path)
    rules = protocol_named("lumir25")
    (tmp_path / "disp_1_2.nii.gz").touch()
    t2w = dataset.pairs[1]
    assert find_field(tmp_path, t2w, rules).path is None
    found = find_field(tmp_path, t2w, rules, also=[t2w.short_name])
    assert found.path == tmp_path / "disp_1_2.nii.gz"
    assert "looks for disp_1_0001_2_0001.nii.gz; rename it" in found.note
    (tmp_path / "disp_2_1.nii.gz").touch()
    assert find_reverse(tmp_path, t2w, rules) == ()
    for image in scans:
        image.path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.eye(4, dtype=np.uint8)[..., None].repeat(4, 2), np.eye(4)), image.path)
    for name in ("disp_1_2", "disp_2_1"):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    theirs = MethodResults("theirs", tmp_path / "scores", tmp_path)
    whole = evaluate_folder(theirs, dataset, choose_rules(dataset), tmp_path / "whole", workers=1)
    assert [record.field for record in whole] == [None, None]
    t2w_alone = dataset.select(tasks=["T2w"])
    one = evaluate_folder(theirs, t2w_alone, choose_rules(t2w_alone), tmp_path / "one", workers=1)
    assert [record.field for record in one] == [tmp_path / "disp_1_2.nii.gz"]
