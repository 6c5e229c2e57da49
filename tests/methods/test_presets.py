"""Parameter files are found by name or path, and whatever else is typed there gets one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iterreg.batch.arms import parse_arm
from iterreg.errors import InputError
from iterreg.methods import presets


def test_a_preset_and_a_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert presets.find("syn", "cheap") == presets.folder("syn") / "cheap.toml"
    own = tmp_path / "own.toml"
    own.write_text("")
    assert presets.find("syn", str(own)) == own
    monkeypatch.setenv("HOME", str(tmp_path))
    assert presets.find("syn", "~/own.toml") == own


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("bspline-lumri", "did you mean 'bspline-lumir'"),
        ("BSpline-Fast", "did you mean 'bspline-fast'"),
        (
            "/no/such/par.txt",
            "'/no/such/par.txt' is neither a file nor a preset; there is no such file; presets",
        ),
        ("*.txt", "one file is expected, not a pattern"),
        ("*", "one file is expected, not a pattern"),
        ("bspline-[fl]*", "neither a file nor a preset"),
        ("par\0.txt", r"'par\\x00.txt' is neither.*cannot be read"),
        ("p" * 5000 + ".txt", "cannot be read .File name too long"),
        ("~nosuchuser/par.txt", "no home folder is known for that user"),
        ("..", "neither a file nor a preset"),
        ("../elastix/affine", "neither a file nor a preset; there is no such file"),
        ("/", "it is a folder"),
    ],
)
@pytest.mark.parametrize("method", ["elastix", "syn", "lddmm"])
def test_what_is_neither_gets_one_sentence(method: str, source: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_arm(f"{method}:{source}")
    text = str(caught.value)
    assert text.count("\n") == 0
    assert len(text) < 1000
    if method == "elastix":
        with pytest.raises(InputError, match=said):
            parse_arm(f"{method}:{source}")


def test_a_folder_a_loop_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    for name, said in (
        ("loop.txt", "cannot be read"),
        ("pipe.txt", "no ordinary file"),
        (".", "is a folder"),
    ):
        with pytest.raises(InputError, match=said):
            presets.find("elastix", str(tmp_path / name) + ("/" if name == "." else ""))


@pytest.mark.parametrize("method", ["elastix:{}", "syn:{}", "lddmm:{}"])
@pytest.mark.parametrize(
    "content",
    [b"\x00\x01\x02\xff", '(Transform "x")\n'.encode("utf-16"), b"\xff\xfe\x00", b"\x1f\x8b\x08\x00" * 50],
)
def test_a_binary_file_gets_one_sentence(tmp_path: Path, method: str, content: bytes) -> None:
    own = tmp_path / ("own.txt" if method.startswith("elastix") else "own.toml")
    own.write_bytes(content)
    with pytest.raises(InputError, match=r"own\.(txt|toml).*(not a text|TOML)") as caught:
        parse_arm(method.format(own))
    assert "\n" not in str(caught.value)


def test_an_image_is_no_parameter_file(tmp_path: Path) -> None:
    own = tmp_path / "brain.toml"
    with own.open("wb") as stream:
        stream.truncate(3 * 2**20)
    with pytest.raises(InputError, match="3 MiB, which is no parameter file"):
        parse_arm(f"syn:{own}")


def test_files_of_one_name_are_kept_apart() -> None:
    paths = (Path("a/par.txt"), Path("b/par.txt"), Path("b/other.txt"), Path("c/par.txt"))
    assert presets.kept_names(paths) == ("par.txt", "2-par.txt", "other.txt", "4-par.txt")
    assert presets.kept_names((Path("2-par.txt"), Path("par.txt"), Path("x/par.txt"))) == (
        "2-par.txt",
        "par.txt",
        "3-par.txt",
    )
    # A name that the numbering would give is somebody's own.
    names = presets.kept_names((Path("par.txt"), Path("a/par.txt"), Path("2-par.txt")))
    assert len(set(names)) == 3
