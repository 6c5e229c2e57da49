"""What a check has to say about a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set (an error), or worth knowing (a note).

    Attributes
    ----------
    severity
        Errors make registration or evaluation fail or lie; notes are handled.
    file
        The file it is about, None when it is about a pair.
    pair
        The pair's name, None when it is about a file whatever the pair.
    what, do
        What was found, and what to do about it (``""`` when there is nothing to do).
    kind
        A few words that findings of one sort share, for grouping.
    """

    severity: Severity
    file: Path | None
    pair: str | None
    what: str
    do: str
    kind: str

    def __str__(self) -> str:
        where = " ".join(
            part
            for part in (
                str(self.file) if self.file else "",
                f"(pair {self.pair})"
                if self.file and self.pair
                else f"pair {self.pair}"
                if self.pair
                else "",
            )
            if part
        )
        said = f"{self.what}; {self.do}" if self.do else self.what
        return f"{where}: {said}" if where else said
