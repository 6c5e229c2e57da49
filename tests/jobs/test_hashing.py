"""What "the same job" means."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from iterreg.errors import InputError
from iterreg.jobs.hashing import FileDigests, digest


def test_the_order_of_keys_does_not_matter_but_values_do() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_what_json_cannot_hold_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))
    with pytest.raises(TypeError):
        digest({"a": object()})


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    digests = FileDigests()
    assert digests(path) == hashlib.sha256(b"one").hexdigest()
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests(path) == hashlib.sha256(b"one").hexdigest()  # size and time say it is the same
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert digests(path) == hashlib.sha256(b"two").hexdigest()
    path.write_bytes(b"three")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests(path) == hashlib.sha256(b"three").hexdigest()


def test_digests_outlive_the_process(tmp_path: Path) -> None:
    path, kept = tmp_path / "a", tmp_path / "inputs.json"
    path.write_bytes(b"one")
    first = FileDigests()
    value = first(path)
    first.save(kept)
    name, size, modified, known = json.loads(kept.read_text())[0]
    assert (name, size, known) == (str(path), 3, value)
    kept.write_text(json.dumps([[name, size, modified, "remembered"]]))
    second = FileDigests()
    second.load(kept)
    assert second(path) == "remembered"


@pytest.mark.parametrize(
    "content", ["", "{", "5", "[5]", "[[1, 2]]", '[["a", "", 1, "b"], ["a", 1, 1, "b"]]', '{"a": 1}', "null"]
)
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    kept, path = tmp_path / "inputs.json", tmp_path / "a"
    kept.write_text(content)
    path.write_bytes(b"one")
    digests = FileDigests()
    digests.load(kept)
    assert digests(path) == hashlib.sha256(b"one").hexdigest()
    digests.save(kept)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.nii\.gz: there is no such file"):
        FileDigests()(tmp_path / "gone.nii.gz")
