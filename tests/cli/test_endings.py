"""What a command says, and with which code it ends, when it cannot go on."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from iterreg.cli import methods
from iterreg.cli.endings import BUG, INTERRUPTED, REFUSED, ending
from iterreg.cli.main import main
from iterreg.errors import EngineError, InputError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("x.nii: is empty"), "x.nii: is empty"),
        (EngineError("elastix gave nothing"), "elastix gave nothing"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"),
            "/data/x: No space left on device; free space, or write elsewhere",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data"),
            "/data: Permission denied; ask the owner for access, or choose another place",
        ),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; the disk may be failing"),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "a and b: Invalid link; check the path"),
        (MemoryError(), "there is not enough memory; free some, or use a larger machine"),
        (MemoryError("Unable to allocate 5 GiB"), "not enough memory (Unable to allocate 5 GiB); free some"),
    ],
)
def test_what_the_machine_says_is_a_sentence(error: Exception, sentence: str) -> None:
    said, code = ending(error)
    assert sentence in said
    assert code == REFUSED


def test_an_interruption_is_none() -> None:
    assert ending(KeyboardInterrupt()) == ("interrupted", INTERRUPTED)


@pytest.mark.parametrize(
    "mistake", [KeyError("x"), RecursionError("deep"), OSError("no number"), AssertionError()]
)
def test_a_mistake_of_ours_is_not_hidden(
    mistake: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(args: object) -> int:
        raise mistake

    monkeypatch.setattr(methods, "run", run)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["methods"]) == BUG == 70
    (sentence,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        rf"iterreg methods: this is a mistake in iterreg, not in what it was given "
        rf"\({type(mistake).__name__} in test_endings.py, line \d+\); please report it, with (\S+)",
        sentence,
    )
    assert found
    assert Path(found[1]).parent == tmp_path
    report = Path(found[1]).read_text()
    assert "Traceback (most recent call last)" in report
    assert "raise mistake" in report
    assert report.startswith("iterreg ")


def test_a_mistake_is_told_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(methods, "run", lambda args: 1 / 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert main(["methods"]) == BUG
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_names_of_others_cannot_give_the_terminal_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "\x1b[2Jx.json"]) == 1
    assert "\\x1b[2Jx.json: there is no such file" in capsys.readouterr().err


def test_a_path_that_cannot_be_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "~nosuchuser/run"])
    assert ended.value.code == 2
    assert "there is no user 'nosuchuser' here" in capsys.readouterr().err
