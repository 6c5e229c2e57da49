"""Says when kernels are compiled, which takes a minute once and then never again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

__all__ = ["announced"]


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Call `say` once, with one sentence, when the first kernel of the block has to be compiled.

    Kernels that numba's disk cache holds are loaded from there without a word.
    """
    with event.install_listener("numba:compile", _Once(say)):
        yield


class _Once(event.Listener):
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said = say, False

    def on_start(self, event: Any) -> None:
        if self._said:
            return
        self._said = True
        place = event.data["dispatcher"].stats.cache_path
        kept = f"kept in {place}" if place else "but no folder to keep them in can be written to"
        self._say(f"compiling kernels once for this machine ({kept}); this takes about a minute")

    def on_end(self, event: Any) -> None:
        return None
