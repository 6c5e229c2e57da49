"""Texts, json and tables: read whatever may lie there, written so that they read back."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iterreg.errors import InputError
from iterreg.text_files import read_json, read_table, read_text, table_text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfa \xc3\xbc\r\nb")
    assert read_text(path) == "a ü\nb"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder; name a file"),
        (lambda path: os.mkfifo(path), "is a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (lambda path: path.write_bytes(b"caf\xe9"), "byte 3 is no UTF-8"),
    ],
    ids=["missing", "folder", "pipe", "device", "loop", "latin-1"],
)
def test_what_is_no_text_is_refused(tmp_path: Path, make: Callable[[Path], Any], complaint: str) -> None:
    path = tmp_path / "x.json"
    make(path)
    for read in (read_text, read_json, read_table):
        with pytest.raises(InputError, match=complaint) as refused:
            read(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deep"),
        ('{"a": }', "line 1 column 7"),
        ("9" * 5000, "digits"),
    ],
    ids=["lists", "objects", "syntax", "huge"],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_json(path)


def test_a_cell_larger_than_csv_takes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a,b\n1,{'x' * 200_000}\n")
    with pytest.raises(InputError, match="field larger than field limit"):
        read_table(path)


NAMES = ["=1+1", "+a", "-1_2", "@x", "\tx", "'=1", "''-x", "'plain'", "3454_3455", "a,b", 'a"b', "a\nb", ""]


def test_no_name_is_a_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        table_text([{"name": name, "value": -0.5} for name in NAMES], ["name", "value"]), newline=""
    )
    seen = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    assert not [row["name"] for row in seen if row["name"].startswith(("=", "+", "-", "@", "\t"))]
    assert {row["value"] for row in seen} == {"-0.5"}
    assert [row["name"] for row in read_table(path)] == NAMES


def test_numbers_stay_numbers() -> None:
    rows = [{"a": -1, "b": "-0.25", "c": float("-inf"), "d": "+3"}]
    assert table_text(rows, list("abcd")) == "a,b,c,d\n-1,-0.25,-inf,+3\n"
