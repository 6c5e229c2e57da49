"""Strict TOML parameter files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from iterreg.errors import InputError
from iterreg.toml_parameters import from_mapping, plain, read_toml, setting


@dataclass(frozen=True)
class Inner:
    steps: tuple[int, ...] = setting((3, 2), minimum=0)
    share: float = setting(0.5, above=0, maximum=1)

    def __post_init__(self) -> None:
        if len(self.steps) > 3:
            raise InputError("steps are three at most")


@dataclass(frozen=True)
class Outer:
    kernel: Literal["box", "gauss"] = "box"
    count: int = setting(4, minimum=1, maximum=9)
    flag: bool = False
    margin: float | None = setting(None, minimum=0)
    pair: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=Inner)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_defaults_and_values(tmp_path: Path) -> None:
    assert read_toml(write(tmp_path, ""), Outer) == Outer()
    text = 'kernel = "gauss"\ncount = 9\nflag = true\nmargin = 3\npair = [1, 2.5]\n'
    text += "[inner]\nsteps = []\nshare = 1"
    expected = Outer("gauss", 9, True, 3.0, (1.0, 2.5), Inner((), 1.0))
    got = read_toml(write(tmp_path, text), Outer)
    assert got == expected
    assert isinstance(got.margin, float)


def test_plain_is_json_and_comes_back() -> None:
    import json

    settings = Outer(margin=2.0, inner=Inner((1, 2, 3), 0.25))
    values = json.loads(json.dumps(plain(settings)))
    assert values["inner"] == {"steps": [1, 2, 3], "share": 0.25}
    assert from_mapping(values, Outer, source="values") == settings
    assert from_mapping(plain(Outer()), Outer, source="values") == Outer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuont = 3", ["'cuont'", "'count'"]),
        ("[inner]\nshar = 0.3", ["'inner.shar'", "'inner.share'"]),
        ("zzzz = 3", ["'zzzz'", "kernel, count, flag"]),
        ("count = 0", ["count", "at least 1", "0"]),
        ("count = 10", ["count", "at most 9"]),
        ("count = 2.0", ["count", "whole number"]),
        ("count = true", ["count", "whole number"]),
        ("flag = 1", ["flag", "true or false"]),
        ("margin = 'wide'", ["margin", "a number"]),
        ("margin = inf", ["margin", "finite"]),
        ("pair = [1.0]", ["pair", "2 values"]),
        ("kernel = 'gaus'", ["kernel", "did you mean 'gauss'"]),
        ("inner = 3", ["inner", "table"]),
        ("[inner]\nsteps = 3", ["inner.steps", "list"]),
        ("[inner]\nsteps = [1, -2]", ["inner.steps[1]", "at least 0", "-2"]),
        ("[inner]\nshare = 0", ["inner.share", "above 0"]),
        ("[inner]\nsteps = [1, 2, 3, 4]", ["[inner] steps", "three at most"]),
        ("count = = 3", ["not valid TOML"]),
    ],
)
def test_errors_name_file_key_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_toml(path, Outer)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        read_toml(tmp_path / "nowhere.toml", Outer)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe9t\xe9\n")
    with pytest.raises(InputError, match=r"latin\.toml: cannot be read"):
        read_toml(latin, Outer)
