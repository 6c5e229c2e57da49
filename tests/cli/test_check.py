"""``iterreg check`` and the options by which every command names a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli import check as command
from iterreg.cli.dataset_options import add_dataset_arguments, dataset_from
from iterreg.errors import InputError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound data set of eight pairs in two tasks, over nine images."""
    random = np.random.default_rng(0)
    (tmp_path / "imagesVal").mkdir()
    names = [f"./imagesVal/X_{i:04d}_0000.nii.gz" for i in range(9)]
    for name in names:
        image = random.integers(0, 255, (4, 5, 6)).astype(np.uint8)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / name)
    pairs = [
        {"fixed": names[i], "moving": names[i + 1], "task": "even" if i % 2 == 0 else "odd"} for i in range(8)
    ]
    path = tmp_path / "X_dataset.json"
    path.write_text(json.dumps({"name": "X", "tensorImageShape": {"0": [4, 5, 6]}, "validation": pairs}))
    return path


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["check", *map(str, arguments)]))


def test_a_sound_data_set(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(source) == 0
    said = capsys.readouterr().out
    assert "X: 8 pairs, 9 images (tasks: even, odd)" in said
    assert said.endswith("No errors: the data set can be registered.\n")


def test_notes_alone_exit_with_zero(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = source.parent / "imagesVal/X_0000_0000.nii.gz"
    assert run(image, image) == 0
    said = capsys.readouterr().out
    assert "note: image paired with itself (1)" in said
    assert "No errors, 1 note" in said


def test_errors_are_grouped_and_exit_with_one(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = sorted((source.parent / "imagesVal").iterdir())
    for path in images[:7]:
        path.unlink()
    images[7].write_bytes(images[7].read_bytes()[:-20])
    assert run(source) == 1
    said = capsys.readouterr().out
    assert "error: missing file (7)" in said
    assert "error: unreadable file (1)" in said
    assert said.count("does not exist") == 5
    assert "… and 2 more" in said
    assert "8 errors: mend" in said
    assert run(source, "--all") == 1
    assert capsys.readouterr().out.count("does not exist") == 7


def test_headers_only_does_not_read_voxels(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source.parent / "imagesVal/X_0000_0000.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), 9, np.uint8), np.eye(4)), path)
    assert run(source, "--headers-only") == 0
    assert "Only headers were read." in capsys.readouterr().out
    assert run(source) == 1


def test_only_what_was_chosen_is_checked(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source.parent / "imagesVal/X_0008_0000.nii.gz").unlink()
    assert run(source) == 1
    assert run(source, "--first", 7) == 0
    assert run(source, "--task", "even") == 0
    assert "X: 4 pairs, 8 images" in capsys.readouterr().out


def chosen(*arguments: object) -> list[str]:
    parser = argparse.ArgumentParser()
    add_dataset_arguments(parser)
    return [pair.name for pair in dataset_from(parser.parse_args(list(map(str, arguments)))).pairs]


def test_options_choose_pairs(source: Path) -> None:
    assert chosen(source, "--first", 2) == ["0000_0001", "0001_0002"]
    assert chosen(source, "--task", "odd", "--first", 1) == ["0001_0002"]
    assert (
        len(chosen(source, "--task", "odd,even"))
        == len(chosen(source, "--task", "odd", "--task", "even"))
        == 8
    )
    assert chosen(source, "--pairs", "0003_0004,0001_0002") == ["0001_0002", "0003_0004"]
    with pytest.raises(InputError, match="no pair '0003_0009'"):
        chosen(source, "--pairs", "0003_0009")


def test_options_open_every_kind(source: Path, tmp_path: Path) -> None:
    images = sorted((tmp_path / "imagesVal").iterdir())
    assert chosen(images[3], images[1]) == ["0003_0001"]
    assert len(chosen(tmp_path / "imagesVal", "--modality", "0000")) == 72
    assert chosen(*images[1:3], "--atlas", images[0]) == ["0001_0000", "0002_0000"]
    assert chosen(images[1], "--atlas", images[0], "--atlas-role", "both") == ["0001_0000", "0000_0001"]
    with pytest.raises(InputError, match="give one with --atlas"):
        chosen(source, "--atlas-role", "fixed")
    with pytest.raises(InputError, match="lists no pairs"):
        chosen(source, "--split", "test")
    parser = argparse.ArgumentParser()
    add_dataset_arguments(parser)
    moved = dataset_from(parser.parse_args([str(source), "--root", "/elsewhere"]))
    assert moved.pairs[0].fixed.path == Path("/elsewhere/imagesVal/X_0000_0000.nii.gz")
