"""Reading elastix's classic parameter files, by elastix's own rules.

A file is a list of lines ``(Key value value …)``. Values are separated by blanks; a value that holds
blanks stands between double quotes. ``//`` starts a comment wherever it stands, inside quotes too:
elastix removes comments before it looks for quotes. Nothing is interpreted here: every value stays
the text it was, so that elastix receives exactly what its own reader would have given it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from iterreg.errors import InputError

__all__ = ["ParameterMap", "first_value", "parse_parameter_map", "per_resolution", "read_parameter_map"]

ParameterMap = Mapping[str, list[str]]

_TWO_ENTRIES = re.compile(r"\)\s*\(")
_WHOLE = re.compile(r"\d+(\.0*)?")  # elastix takes 6.000 for 6

# What elastix refuses in a key: a character class of its reader, whose "&-+" is a range.
_FORBIDDEN = frozenset(".,:;!@#$%^|<>?") | frozenset(map(chr, range(ord("&"), ord("+") + 1)))


def read_parameter_map(path: str | Path) -> dict[str, list[str]]:
    """Read one registration stage.

    Parameters
    ----------
    path
        A ``.txt`` file.

    Returns
    -------
    dict
        Key to values, in the file's order, comments and quotes removed.

    Raises
    ------
    InputError
        If the file is missing or not text, if elastix would refuse one of its lines, or if it names
        no transform.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such elastix parameter file; check the path")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return parse_parameter_map(_text(content, path), str(path))


def parse_parameter_map(text: str, name: str) -> dict[str, list[str]]:
    """Parse the text of one registration stage; see `read_parameter_map`.

    Parameters
    ----------
    text
        The file's content.
    name
        What messages call it.

    Raises
    ------
    InputError
        If elastix would refuse one of its lines, or if it names no transform.
    """
    found: dict[str, list[str]] = {}
    first: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.replace("\t", " ").partition("//")[0].strip(" \r")
        if not line:
            continue
        where = f"{name}, line {number}"
        if not (line.startswith("(") and line.endswith(")")):
            raise InputError(
                f'{where}: "{line}" does not stand between ( and ); write one (Key value) to a line, '
                "comments after //"
            )
        key, values = _split(line[1:-1], where)
        if key in found:
            raise InputError(
                f"{where}: {key} is given a second time, it stands in line {first[key]} already; "
                "remove one of the two lines"
            )
        found[key], first[key] = values, number
    _check(found, name)
    return found


def _text(content: bytes, path: Path) -> str:
    """The text of a file: UTF-8, else the Latin-1 in which older comments are written."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if any(ord(character) < 32 and character not in "\t\n\r\f" for character in text):
        raise InputError(
            f"{path}: is not a text file (or one in UTF-16) and so no elastix parameter file; "
            "check the path, or save it as plain UTF-8 text"
        )
    return text


def per_resolution(values: ParameterMap, key: str, default: str, count: int) -> list[str]:
    """One value per resolution, the way elastix reads it: a single value holds for all."""
    given = values.get(key) or [default]
    return [given[level] if level < len(given) else given[0] for level in range(count)]


def first_value(values: ParameterMap, key: str, default: str) -> str:
    """The first value of `key`, or elastix's default."""
    return (values.get(key) or [default])[0]


def _split(content: str, where: str) -> tuple[str, list[str]]:
    """Key and values of what stands between the brackets."""
    if content.count('"') % 2:
        raise InputError(f'{where}: ({content}) has an odd number of quotes; close every " that was opened')
    unquoted = " ".join(content.split('"')[::2])
    if _TWO_ENTRIES.search(unquoted):
        raise InputError(f"{where}: ({content}) holds two entries; write one (Key value) to a line")
    key, values = "", []
    for position, part in enumerate(content.split('"')):
        # Parts with an odd position stood between quotes.
        words = [part] if position % 2 else part.split(" ")
        if position == 0:
            key, *words = words
        values += [word for word in words if word]
    if not key or not (values or '"' in content):
        raise InputError(f"{where}: ({content}) needs a key, a blank and at least one value")
    wrong = sorted(_FORBIDDEN.intersection(key))
    if wrong:
        raise InputError(f"{where}: the key {key!r} holds {''.join(wrong)!r}, which elastix does not allow")
    return key, values


def _check(found: ParameterMap, name: str) -> None:
    """Refuse what elastix would only notice after minutes, or silently run without."""
    if "Transform" not in found:
        what = "it holds no (Key value) line at all" if not found else "it says no (Transform …)"
        raise InputError(
            f"{name}: is not an elastix registration parameter file, {what}; "
            'add for example (Transform "BSplineTransform")'
        )
    if "TransformParameters" in found:
        raise InputError(
            f"{name}: is a transform that elastix wrote as its result; "
            "give the parameter file of the registration instead"
        )
    for key in ("NumberOfResolutions", "RandomSeed"):
        value = first_value(found, key, "1")
        if not _WHOLE.fullmatch(value) or (key == "NumberOfResolutions" and float(value) < 1):
            raise InputError(f"{name}: ({key} {value}) must be a whole number")
