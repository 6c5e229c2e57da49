"""The one way in for texts: json, and tables as csv, which are written here too."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iterreg.errors import InputError

__all__ = ["read_json", "read_table", "read_text", "regular", "table_text", "unguarded"]


def read_text(path: str | Path) -> str:
    """The content of a text file; a byte order mark at its beginning is left out.

    Raises
    ------
    InputError
        If it is missing, may not be read, is no file (a folder, a pipe, a device) or not in UTF-8.
    """
    path = Path(path)
    with regular(path):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: cannot be read as text (byte {error.start} is no UTF-8); save it as UTF-8"
            ) from error


@contextmanager
def regular(path: Path) -> Iterator[None]:
    """Turn whatever keeps the block from reading `path` into one sentence.

    A pipe or a device is refused before the block: reading it may never end.

    Raises
    ------
    InputError
        If it is missing, may not be read, or is no file.
    """
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise InputError(f"{path}: is {what}; name a file")
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def read_json(path: str | Path) -> Any:
    """What a json file holds.

    Raises
    ------
    InputError
        If it cannot be read (see `read_text`), is not json, or nested deeper than Python can follow.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as json ({error}); download or write it again") from error
    except RecursionError as error:
        raise InputError(f"{path}: cannot be read as json (nested too deep); write it again") from error


def read_table(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table that `table_text` wrote, by its columns.

    Raises
    ------
    InputError
        If it cannot be read (see `read_text`), or not as a table.
    """
    text = read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); write it again") from error
    return [
        {name: unguarded(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in rows
    ]


def table_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as csv under a line with the columns; what a row lacks is empty.

    A spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``. A name that begins so gets an
    apostrophe before it, which shows it as it is; `read_table` takes it away again.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _guarded(cell) for name, cell in row.items()} for row in rows)
    return stream.getvalue()


_COMPUTED = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-](\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.IGNORECASE | re.ASCII)


def _guarded(cell: Any) -> Any:
    if not isinstance(cell, str) or not _COMPUTED.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def unguarded(cell: str) -> str:
    """What `table_text` was given for a cell."""
    return cell[1:] if cell.startswith("'") and _COMPUTED.match(cell) else cell
