"""Tables of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.dataset.csv_pairs import COLUMNS, read_csv
from iterreg.errors import InputError


def write(folder: Path, text: str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_two_columns_are_enough(tmp_path: Path) -> None:
    source = write(
        tmp_path, "fixed,moving\na/T1.nii.gz,b/T1.nii.gz\n\n# later\nimages/X_0001_0000.nii.gz,c.nii\n"
    )
    dataset = read_csv(source)
    assert (dataset.name, dataset.source, dataset.promised_shape) == ("pairs", source, None)
    first, second = dataset.pairs
    assert first.fixed.path == tmp_path / "a/T1.nii.gz"
    assert (first.name, second.name) == ("T1_T1", "0001_c")


def test_every_column(tmp_path: Path) -> None:
    row = {
        "fixed": "f.nii.gz",
        "moving": "m.nii.gz",
        "task": "disease",
        "fixed_id": "sub-01",
        "fixed_modality": "0001",
        "fixed_labels": "fl.nii.gz",
        "fixed_landmarks": "fp.csv",
        "fixed_mask": "fm.nii.gz",
        "moving_id": "sub-02",
        "moving_modality": "0000",
        "moving_labels": str(tmp_path / "elsewhere/ml.nii.gz"),
        "moving_landmarks": "mp.csv",
        "moving_mask": "mm.nii.gz",
    }
    assert set(row) == set(COLUMNS)
    source = write(tmp_path, f"{','.join(row)},age\n{','.join(row.values())},7\n")
    (pair,) = read_csv(source).pairs
    assert (pair.task, pair.name) == ("disease", "sub-01_0001_sub-02_0000")
    fixed, moving = pair.fixed, pair.moving
    assert (fixed.labels, fixed.landmarks, fixed.mask) == tuple(
        tmp_path / n for n in ("fl.nii.gz", "fp.csv", "fm.nii.gz")
    )
    assert (moving.labels, moving.landmarks, moving.mask) == tuple(
        tmp_path / n for n in ("elsewhere/ml.nii.gz", "mp.csv", "mm.nii.gz")
    )


def test_an_empty_cell_means_what_the_path_says(tmp_path: Path) -> None:
    labels = tmp_path / "labels/X_0001_0000.nii.gz"
    labels.parent.mkdir()
    labels.touch()
    text = "fixed,moving,fixed_labels,fixed_id\nimages/X_0001_0000.nii.gz,b.nii,,\n"
    fixed = read_csv(write(tmp_path, text)).pairs[0].fixed
    assert (fixed.labels, fixed.subject) == (labels, "0001")


def test_root_and_other_separators(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ";"), ("b.tsv", "\t")):
        source = write(tmp_path, f"\ufefffixed{separator}moving\na.nii{separator}b.nii\n", name)
        assert read_csv(source, root="/data").pairs[0].fixed.path == Path("/data/a.nii")


def test_modalities_make_tasks_when_there_is_no_task(tmp_path: Path) -> None:
    text = "fixed,moving\nX_0001_0000.nii,X_0002_0000.nii\nX_0001_0000.nii,X_0002_0001.nii\n"
    assert read_csv(write(tmp_path, text)).tasks == ("0000", "0000-0001")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("fixed,moving\n", "lists no pairs"),
        ("fixed,movign\na,b\n", "no column moving"),
        ("fixed,moving,fixed_label\na,b,c\n", "unknown column 'fixed_label'"),
        ("fixed,moving,moving\na,b,c\n", "'moving' twice"),
        ("fixed,moving\na.nii,\n", "line 2: names no moving image"),
        ("fixed,moving\na.nii,b.nii,c.nii\n", "line 2: has 3 cells for 2 columns"),
        ("fixed,moving,fixed_id\na.nii,b.nii,x/y\n", "line 2: 'x/y' cannot be an id"),
        ("fixed,moving,moving_modality\na.nii,b.nii,T2\n", "line 2: 'T2' is not a modality"),
    ],
)
def test_unusable_tables_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csv(write(tmp_path, text))


def test_unreadable_tables_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_csv(tmp_path / "none.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_csv(binary)
