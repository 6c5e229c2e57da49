"""Scores pairs in child processes: one that dies takes no other with it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from iterreg.jobs.forkserver import ForkServer
from iterreg.jobs.outcome import RETRIES, Outcome
from iterreg.jobs.supervise import supervise

__all__ = ["Children"]


class Children:
    """A warm parent whose children score a pair each; a context, at whose end they are gone.

    Parameters
    ----------
    log
        File that receives what the children print.
    threads
        Of each child.
    """

    def __init__(self, log: Path, *, threads: int) -> None:
        self._log = log
        self._stop = threading.Event()
        count = str(threads)
        self._server = ForkServer(
            warm="iterreg.evaluation.work:warm",
            environment={"NUMBA_NUM_THREADS": count, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": "1"},
            log=log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._server.close()

    def run(self, payload: Mapping[str, Any], *, expected_memory: int) -> str:
        """Score a pair (`iterreg.evaluation.work.work`); why it could not be, empty when it was."""
        tries = 0
        while True:
            report = supervise(
                self._server,
                "iterreg.evaluation.work:work",
                payload,
                log=self._log,
                expected_memory=expected_memory,
                stop=self._stop,
            )
            tries += 1
            if report.outcome is Outcome.OK:
                return ""
            if tries > RETRIES[report.outcome] or not self._server.alive:
                return report.reason
