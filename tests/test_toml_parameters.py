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
    with pytest.raises(InputError, match=r"latin\.toml: is not a text in UTF-8"):
        read_toml(latin, Outer)


def test_a_key_one_level_too_high_is_sent_to_its_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine.toml: unknown key 'share'; it belongs in \[inner\]"):
        read_toml(write(tmp_path, "share = 1"), Outer)


def test_letters_of_another_case_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown key 'Margin'; did you mean 'margin'"):
        read_toml(write(tmp_path, "Margin = 1"), Outer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pair = " + "[" * 5000, "too deep to be settings|not valid TOML"),
        ("count = " + "9" * 5000, "not valid TOML"),
        ("margin = " + "9" * 400, "margin must be finite"),
        ("margin = inf", "margin must be finite"),
        ("margin = 2020-01-01", "margin must be a number"),
        ("kernel = ['box']", "kernel cannot be"),
    ],
)
def test_extreme_values_get_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"mine.toml.*({said})"):
        read_toml(write(tmp_path, text), Outer)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfcount = 2\r\n")
    assert read_toml(tmp_path / "mine.toml", Outer).count == 2
