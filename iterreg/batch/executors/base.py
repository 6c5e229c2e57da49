"""What every executor does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from iterreg.batch.spec import JobSpec
from iterreg.jobs.outcome import Report
from iterreg.runs import JobFolder

__all__ = ["Executor"]


class Executor(Protocol):
    """Runs specs, and says how each ended. Many threads may ask it at once; what fits runs."""

    def run(
        self, spec: JobSpec, folder: JobFolder, *, begin: Callable[[], None], stop: threading.Event
    ) -> Report:
        """Run one attempt at a job to its end.

        Parameters
        ----------
        folder
            The job's, claimed: its ``spec.json`` is read there, and `JobFolder.unfinished` takes what is
            written.
        begin
            Called once there is room for the job and before anything of it starts; it makes the folder ready
            and puts the spec there. What it raises is passed on.
        stop
            When set, the attempt is ended with the outcome ``interrupted``.
        """
        ...

    def close(self) -> None:
        """End all that was started, within a scheduler's grace period."""
        ...
