"""Files appear whole or not at all, and are on the disk before their name is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from iterreg.errors import InputError
from iterreg.jobs import atomic


def test_the_name_keeps_its_suffixes_and_is_hidden(tmp_path: Path) -> None:
    with atomic.atomic_path(tmp_path / "disp_1_2.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith("disp_1_2.nii.gz")
        temporary.write_bytes(b"field")
        assert not (tmp_path / "disp_1_2.nii.gz").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["disp_1_2.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write() -> None:
        with atomic.atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_content_is_flushed_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def see_fsync(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        events.append("folder" if name == str(tmp_path) else "file")
        fsync(descriptor)

    def see_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", see_fsync)
    monkeypatch.setattr(Path, "replace", see_replace)
    atomic.write_bytes(tmp_path / "a.bin", b"content")
    assert events == ["file", "rename", "folder"]
    events.clear()
    atomic.move(tmp_path / "a.bin", tmp_path / "b.bin")
    assert events == ["rename", "folder", "folder"]
    assert (tmp_path / "b.bin").read_bytes() == b"content"


def test_a_flush_that_fails_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        atomic.write_text(tmp_path / "a.txt", "content")
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_order_and_its_letters(tmp_path: Path) -> None:
    value = {"z": 1, "a": "Größe", "list": [1.5, None]}
    atomic.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert text.index('"z"') < text.index('"a"')
    assert "Größe" in text


def test_a_name_that_is_no_utf8_comes_back(tmp_path: Path) -> None:
    """As Linux allows, and as scanners' exports have it."""
    name = os.fsdecode(b"donn\xe9es/\xff.nii.gz")
    atomic.write_json(tmp_path / "x.json", {"fixed": name, "über": "ü"})
    assert json.loads((tmp_path / "x.json").read_text()) == {"fixed": name, "über": "ü"}
    assert "ü" in (tmp_path / "x.json").read_text()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """Root may rename a file over anything; a link stands for the device here."""
    path = tmp_path / kind
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda at: at.symlink_to("/dev/full")}[kind](path)
    before = path.lstat().st_mode
    with pytest.raises(InputError, match="nothing is written over it"):
        atomic.write_text(path, "text")
    assert path.lstat().st_mode == before
    assert [one.name for one in tmp_path.iterdir()] == [kind]
