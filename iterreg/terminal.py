"""What a terminal is shown: text of others (names, reasons, logs) cannot give it orders."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any, cast

__all__ = ["bare", "escaped_output", "visible"]

_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline; what turns the direction of writing; what cannot be encoded."""


def visible(text: str) -> str:
    r"""`text` with every control character written as an escape: the bell as ``\x07``."""
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Escaping:
    """A text stream that writes what is `visible` of a text, and is the stream itself in all else."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Let all that the block prints go through `visible`.

    Characters that the terminal's encoding lacks are written as escapes too.
    """
    with (
        redirect_stdout(cast(Any, _Escaping(_forgiving(sys.stdout)))),
        redirect_stderr(cast(Any, _Escaping(_forgiving(sys.stderr)))),
    ):
        yield


def bare(stream: IO[str]) -> IO[str]:
    """The stream below `escaped_output`, for whoever draws on a terminal and shows others' text `visible`."""
    return stream.stream if isinstance(stream, _Escaping) else stream


def _forgiving(stream: Any) -> IO[str]:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return cast(IO[str], stream)
