"""What is tried again, and how: rules for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iterreg.batch.spec import JobSpec
from iterreg.jobs.outcome import RETRIES, Outcome, Report

__all__ = ["Retries"]


class Retries:
    """Draws conclusions from how attempts ended, for the next one and for later jobs of the arm.

    A job that lacked memory is tried once more alone. If it gets through, the later jobs of its arm are
    expected to take as much.
    """

    def __init__(self) -> None:
        self._overrun: dict[str, float] = {}

    def spec(self, arm: str, spec: JobSpec, attempts: Sequence[Report]) -> JobSpec:
        """How the next attempt is made, after these."""
        alone = bool(attempts) and attempts[-1].outcome is Outcome.OUT_OF_MEMORY
        return replace(spec, memory=int(spec.memory * self._overrun.get(arm, 1.0)), alone=alone)

    def again(self, attempts: Sequence[Report]) -> bool:
        """Whether another attempt is made."""
        return len(attempts) <= RETRIES[attempts[-1].outcome]

    def learn(self, arm: str, spec: JobSpec, attempts: Sequence[Report]) -> None:
        """Take note of what a job has taken; `spec` is the one that was planned."""
        if attempts[-1].outcome is Outcome.OK and attempts[0].outcome is Outcome.OUT_OF_MEMORY:
            overrun = attempts[-1].peak_bytes / max(spec.memory, 1)
            self._overrun[arm] = max(overrun, self._overrun.get(arm, 1.0))
