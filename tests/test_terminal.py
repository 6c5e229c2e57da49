"""What others wrote cannot give a terminal orders."""

from __future__ import annotations

import io
import sys

import pytest

from iterreg.jobs.progress import Progress
from iterreg.terminal import bare, escaped_output, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ü × 脳\n\tindented", "plain – ü × 脳\n\tindented"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J\x7f\b", "\\x9b2J\\x7f\\x08"),
        ("ok\rno", "ok\\rno"),
        ("gnp\u202e.nii", "gnp\\u202e.nii"),
        ("\udce9.nii", "\\udce9.nii"),
    ],
)
def test_orders_are_written_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_all_output_of_a_block_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_output():
        print("a\x1b[2Jb")
        sys.stderr.writelines(["c\x07", "d"])
    print("e\x1bf")
    assert capsys.readouterr() == ("a\\x1b[2Jb\ne\x1bf\n", "c\\x07d")


def test_a_terminal_that_lacks_a_character_shows_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    with escaped_output():
        print("3 × 4 …", flush=True)
    assert ascii_only.buffer.getvalue() == b"3 \\xd7 4 \\u2026\n"


def test_who_draws_gets_the_stream_below() -> None:
    with escaped_output():
        below = bare(sys.stderr)
    assert below is sys.stderr
    assert bare(below) is below


def test_progress_shows_names_and_reasons_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_output():
        progress = Progress(1, parallel=1)
        progress.say("failed \x1b[31m: because\x07")
        progress.close()
    assert capsys.readouterr().err == "failed \\x1b[31m: because\\x07\n"
