"""Values of a known type out of JSON that anyone may have written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from iterreg.errors import InputError
from iterreg.text_files import read_json

__all__ = ["FORMAT", "Content", "read_content"]

FORMAT = 2
"""Of ``run.json``, ``status.json`` and sidecars; 1 and none are of before and are read too."""

_T = TypeVar("_T")
_WORDS: Mapping[type, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object",
    list: "a list",
}  # fmt: skip


class Content:
    """A JSON object with the words for where it stands.

    Parameters
    ----------
    value
        What was found there.
    where
        The file, and the place in it: sentences begin with it.

    Raises
    ------
    InputError
        If it is no object.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: is {_shown(value)}, not an object")
        self._values: Mapping[str, Any] = value
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def need(self, key: str, kind: type[_T]) -> _T:
        """The value of a key that must be there.

        Raises
        ------
        InputError
            If it is missing or of another type.
        """
        value = self.get(key, kind)
        if value is None:
            raise InputError(f"{self.where}: has no {key!r}")
        return value

    def get(self, key: str, kind: type[_T]) -> _T | None:
        """The value of a key; None when it is missing or null.

        Raises
        ------
        InputError
            If it is of another type.
        """
        value: Any = self._values.get(key)
        if value is None or type(value) is kind:  # as good as always, and a run has thousands of statuses
            return value
        if isinstance(value, int) and kind is float and not isinstance(value, bool):
            return cast(_T, value)
        raise InputError(f"{self.where}: {key!r} is {_shown(value)}, not {_WORDS[kind]}")

    def text(self, key: str) -> str:
        """A text, ``""`` when it is missing."""
        return self.get(key, str) or ""

    def path(self, key: str) -> Path | None:
        """A path; None when it is missing.

        Raises
        ------
        InputError
            If it is no text, or none that can be a path.
        """
        found = self.get(key, str)
        if found is not None and "\0" in found:
            raise InputError(f"{self.where}: {key!r} is {found!r}, which no path can be")
        return None if found is None else Path(found)

    def inner(self, key: str) -> Content:
        """The object under a key that must be there."""
        return Content(self.need(key, dict), f"{self.where}: {key}")

    def values(self, key: str) -> Mapping[str, Any]:
        """The object under a key as it is, empty when it is missing."""
        return self.get(key, dict) or {}

    def texts(self, key: str) -> dict[str, str]:
        """An object of texts, empty when it is missing."""
        inner = Content(self.values(key), f"{self.where}: {key}")
        return {name: inner.need(name, str) for name in inner}

    def get_any(self, key: str) -> object:
        """The value of a key as it is."""
        return self._values.get(key)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every key with its value as it is."""
        return iter(self._values.items())

    def objects(self, key: str) -> list[Content]:
        """A list of objects, empty when it is missing."""
        found = self.get(key, list) or []
        return [Content(one, f"{self.where}: {key} {i}") for i, one in enumerate(found, start=1)]

    def known_format(self) -> int:
        """The version of what was written; 1 where it says none.

        Raises
        ------
        InputError
            If it is of a version that this iterreg does not know.
        """
        found = self.get("format", int) or 1
        if found > FORMAT:
            raise InputError(
                f"{self.where}: 'format' is {found} and this iterreg reads up to {FORMAT}; "
                "use the iterreg that wrote it, or start a new run"
            )
        return found


def read_content(path: Path) -> Content:
    """The JSON object in a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it cannot be read (see `read_json`) or is no object.
    """
    try:
        return Content(read_json(path), str(path))
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # no record is no fault
            raise error.__cause__ from None
        raise


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
