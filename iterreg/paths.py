"""Text that a user wrote, as a path."""

from __future__ import annotations

import os
from pathlib import Path

from iterreg.errors import InputError

__all__ = ["real", "to_path"]

_LONGEST_NAME = 255
"""Bytes that a file's name may have on the file systems of Linux."""


def to_path(text: str | Path) -> Path:
    """The path that `text` means, ``~`` and ``~user`` expanded; it need not exist.

    A name that is no UTF-8 is as good as any other, as long as it came from the file system.

    Raises
    ------
    InputError
        If no file can be called so: it is empty, holds a NUL or half of a surrogate pair, or a name of more
        than 255 bytes; or if there is no such user.
    """
    written = str(text)
    if not written:
        raise InputError("the name of a file is empty; write its path")
    try:
        names = os.fsencode(written).split(b"/")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{written!r} cannot be a path: {written[error.start]!r} is no character; write the name again"
        ) from error
    if "\0" in written:
        raise InputError(f"{written!r} cannot be a path: it holds a NUL character; write the name again")
    longest = max(names, key=len)
    if len(longest) > _LONGEST_NAME:
        raise InputError(
            f"{os.fsdecode(longest)[:40]}… cannot be the name of a file: it has {len(longest)} bytes, "
            f"{_LONGEST_NAME} are the most; shorten it"
        )
    try:
        return Path(written).expanduser()
    except RuntimeError as error:  # no such user
        raise InputError(
            f"{written}: there is no user {written[1:].partition('/')[0]!r} here; write the whole path"
        ) from error


def real(path: Path) -> Path:
    """The absolute path with links followed; one that leads in a circle stays as it is."""
    return Path(os.path.realpath(path))  # resolve() raises RuntimeError on a circle
