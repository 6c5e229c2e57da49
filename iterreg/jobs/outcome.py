"""How a job can end, and what may be tried again."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["RETRIES", "Outcome", "Report", "looks_like_lost_memory", "signal_name"]


class Outcome(StrEnum):
    """The classes of a job's end."""

    OK = "ok"
    BAD_INPUT = "bad input"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    CRASH = "crash"
    INTERRUPTED = "interrupted"


RETRIES: dict[Outcome, int] = {
    Outcome.OK: 0,
    # The same input, exception or time limit would meet the same end.
    Outcome.BAD_INPUT: 0,
    Outcome.EXCEPTION: 0,
    Outcome.TIMEOUT: 0,
    # It may have been squeezed by its neighbours: once more, alone on the machine.
    Outcome.OUT_OF_MEMORY: 1,
    # A segmentation fault of a threaded engine is often a race.
    Outcome.CRASH: 1,
    Outcome.INTERRUPTED: 0,
}
"""How often each outcome is tried again within one run."""


@dataclass(frozen=True)
class Report:
    """What is known of a child after it ended.

    Attributes
    ----------
    outcome, reason
        How it ended; the reason is a sentence, empty when all went well.
    value
        What the target returned (JSON), only when `outcome` is ok.
    wall_seconds, cpu_seconds
        Duration, and user + system time of the child; a warm parent's import is not in it.
    peak_bytes
        Largest resident set of the child, memory shared with its warm parent included.
    peak_threads
        Largest number of threads alive at once.
    warm_cpu_seconds
        What loading the engine took its warm parent, once for all children.
    """

    outcome: Outcome
    reason: str = ""
    value: object = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    peak_threads: int = 0
    warm_cpu_seconds: float = 0.0

    @property
    def compile_seconds(self) -> float:
        """CPU seconds of `cpu_seconds` that went into compiling kernels, as far as the target says.

        It says so under ``"seconds"``, ``"compile"``. They are paid once on a machine: no part of what a
        method costs.
        """
        seconds = self.value.get("seconds") if isinstance(self.value, dict) else None
        compiled = seconds.get("compile") if isinstance(seconds, dict) else None
        return float(compiled) if isinstance(compiled, int | float) else 0.0


_LOST_MEMORY = re.compile(
    r"bad_alloc|failed to allocate memory|cannot allocate memory|unable to allocate|"
    r"memory ?allocation ?error|out of memory",
    re.IGNORECASE,
)


def looks_like_lost_memory(message: str) -> bool:
    """Whether an engine's message says that an allocation failed."""
    return bool(_LOST_MEMORY.search(message))


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
