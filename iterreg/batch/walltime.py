"""A process that must end at a known time begins no job that would be cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from iterreg.batch.plan import PlannedJob
from iterreg.jobs.outcome import Report

__all__ = ["Walltime", "granted_until"]

_MARGIN_SECONDS = 30.0
"""For what comes after the last job: its record, the end of the engines."""


def granted_until(environment: Mapping[str, str] = os.environ) -> float | None:
    """When the scheduler will end this job, in seconds since 1970; None where it does not say.

    PBS says for how long only: it is taken to have begun just now.
    """
    end, length = environment.get("SLURM_JOB_END_TIME", ""), environment.get("PBS_WALLTIME", "")
    if end.isascii() and end.isdigit():
        return float(end)
    if length.isascii() and length.isdigit():
        return time.time() + float(length)
    return None


class Walltime:
    """Whether a job will end in time, by its estimate and by how the estimates of its arm have turned out.

    Parameters
    ----------
    until
        Seconds since 1970; None for no end.
    threads
        Of each job.
    """

    def __init__(self, until: float | None, *, threads: int) -> None:
        self._until = until
        self._threads = threads
        self._factor: dict[str, float] = {}

    def allows(self, planned: PlannedJob) -> bool:
        """Whether a job that begins now ends in time."""
        if self._until is None:
            return True
        seconds = self._expected(planned) * self._factor.get(planned.job.arm.name, 1.0)
        return time.time() + seconds + _MARGIN_SECONDS < self._until

    def learn(self, planned: PlannedJob, report: Report) -> None:
        """Take note of what a job has taken: the slowest of an arm tells what to expect."""
        arm, factor = planned.job.arm.name, report.wall_seconds / max(self._expected(planned), 0.1)
        self._factor[arm] = max(factor, self._factor.get(arm, 0.0))

    def _expected(self, planned: PlannedJob) -> float:
        return planned.cost.cpu_seconds / self._threads
