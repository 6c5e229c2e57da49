"""How sentences count things and guess at misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["count", "did_you_mean"]


def count(n: int, what: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'in-domain'?`` where a known name is close to a misspelt one, else nothing."""
    names = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return f"did you mean {names[close[0]]!r}?" if close else ""
