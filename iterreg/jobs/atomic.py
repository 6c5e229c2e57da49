"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iterreg.errors import InputError

__all__ = ["atomic_path", "move", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success flush it to disk and rename it to `path`.

    The temporary name is hidden, unique and keeps the suffixes (``.nii.gz``), because many writers
    choose their format by them. It is removed when the block raises.

    Raises
    ------
    InputError
        Before the block, if `path` is a folder, a pipe or a device, which renaming would replace by a file:
        root would be left without ``/dev/null``.
    OSError
        If it cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path}: is {what}, nothing is written over it; name a file")
    temporary = path.with_name(f".{secrets.token_hex(4)}.partial.{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a write that finds the disk full does not know whose it is
        raise
    _flush(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a flushed file over `target`, on one file system, and flush both folders."""
    source.replace(target)
    _flush(target.parent)
    _flush(source.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a small file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a small UTF-8 text file atomically.

    A file's name that is no UTF-8 is written with escapes, which json reads back as the same name.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON atomically, keys in their own order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _flush(path: Path) -> None:
    """Push a file's or folder's content to the disk (a rename alone may survive a crash empty)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)
