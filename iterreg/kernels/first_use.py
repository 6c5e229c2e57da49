"""Says when kernels are compiled, which takes a minute once and then never again, and what it cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numba.core import event

__all__ = ["Compilation", "announced", "timed"]

_COMPILE = "numba:compile"


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Call `say` once, with one sentence, when the first kernel of the block has to be compiled.

    Kernels that numba's disk cache holds are loaded from there without a word.
    """
    with event.install_listener(_COMPILE, _Once(say)):
        yield


@dataclass
class Compilation:
    """What compiling kernels has cost so far.

    Attributes
    ----------
    cpu_seconds
        Of the threads that compiled.
    """

    cpu_seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Compilation]:
    """Count the CPU seconds that compiling kernels takes in the block, on any of its threads."""
    found = Compilation()
    with event.install_listener(_COMPILE, _Clock(found)):
        yield found


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


class _Clock(event.Listener):
    """A kernel that calls others compiles them within its own compilation: only the outermost counts."""

    def __init__(self, found: Compilation) -> None:
        self._found, self._lock = found, threading.Lock()
        self._thread = threading.local()

    def on_start(self, event: Any) -> None:
        depth = getattr(self._thread, "depth", 0)
        if depth == 0:
            self._thread.began = time.thread_time()
        self._thread.depth = depth + 1

    def on_end(self, event: Any) -> None:
        self._thread.depth -= 1
        if self._thread.depth == 0:
            with self._lock:
                self._found.cpu_seconds += time.thread_time() - self._thread.began
