"""Texts that become paths, and those that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.errors import InputError
from iterreg.paths import real, to_path


@pytest.mark.parametrize(
    "text", ["a/b.nii.gz", "a~b", "/a", "a b", "x" * 255, "a/" * 200 + "x", "\udce9.nii"]
)
def test_any_name_of_a_file_is_as_it_is(text: str) -> None:
    assert to_path(text) == Path(text)


def test_the_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert to_path("~/x") == tmp_path / "x"
    assert to_path(Path("~")) == tmp_path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("a\0b", "NUL"),
        ("x\ud800.nii", "is no character"),
        ("~nosuchuser/x.nii", "there is no user 'nosuchuser' here"),
        ("folder/" + "x" * 256, "it has 256 bytes, 255 are the most"),
        ("ü" * 128, "it has 256 bytes"),
    ],
)
def test_what_no_file_can_be_called_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        to_path(text)


def test_links_are_followed_as_far_as_they_lead(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    assert real(tmp_path / "link") == (tmp_path / "file").resolve()
    assert real(tmp_path / "loop" / "x") == tmp_path.resolve() / "loop" / "x"
