"""Jobs on this machine: each in one child of a warm engine, within budgets of cores and memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iterreg.batch.disks import blame_full_disk
from iterreg.batch.scratch import Scratch
from iterreg.batch.servers import start_server
from iterreg.batch.spec import JobSpec
from iterreg.jobs.admission import Admission
from iterreg.jobs.forkserver import ForkServer
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.supervise import supervise
from iterreg.jobs.threads import in_threads
from iterreg.methods.registry import load
from iterreg.runs import JobFolder

__all__ = ["LocalExecutor"]

_BAD_STARTS = 2
"""An engine that could not be started so many times in a row is not tried for every other job."""


class LocalExecutor:
    """Runs specs in children of warm engines, which stay warm until it is closed.

    Parameters
    ----------
    cores, memory
        The budgets of all jobs together; memory in bytes.
    scratch
        Where temporary folders are made; None for the system's.
    logs
        The folder that the engines' own logs go to.

    Raises
    ------
    InputError
        If no scratch folder can be made.
    """

    def __init__(self, *, cores: int, memory: int, scratch: Path | None, logs: Path) -> None:
        self._admission = Admission(cores=cores, memory=memory)
        self._scratch = Scratch(scratch)
        self._engines = _WarmEngines(logs)

    def run(
        self, spec: JobSpec, folder: JobFolder, *, begin: Callable[[], None], stop: threading.Event
    ) -> Report:
        memory = self._admission.memory if spec.alone else spec.memory
        with self._admission(cores=spec.threads, memory=memory, stop=stop) as share:
            if share is None:
                return Report(Outcome.INTERRUPTED, "stopped by the user")
            begin()
            try:
                with self._engines.of(spec) as server, self._scratch.job() as scratch:
                    report = supervise(
                        server,
                        "iterreg.batch.work:work",
                        {
                            "spec": str(folder.spec.absolute()),
                            "into": str(folder.unfinished.absolute()),
                            "scratch": str(scratch),
                        },
                        log=folder.log.absolute(),
                        timeout=spec.timeout,
                        share=share,
                        expected_memory=share.memory,
                        stop=stop,
                    )
                    return blame_full_disk(report, spec.output_bytes, scratch, folder.folder)
            except _NoEngineError as error:
                return Report(Outcome.EXCEPTION, str(error))

    def close(self) -> None:
        self._engines.close()
        self._scratch.close()


class _NoEngineError(Exception):
    """An engine's parent process could not be started."""


@dataclass
class _Engine:
    """A warm parent, and how many jobs it has now."""

    server: ForkServer
    jobs: int = 0


class _WarmEngines:
    """The warm parents of the methods, each held to a number of threads."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs.absolute()
        self._engines: dict[tuple[str, int, bool], _Engine] = {}
        self._bad_starts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, spec: JobSpec) -> Iterator[ForkServer]:
        """The warm parent of a job's engine, for the block."""
        with self._lock:
            engine = self._engine(spec)
            engine.jobs += 1
        try:
            yield engine.server
        finally:
            with self._lock:
                engine.jobs -= 1

    def _engine(self, spec: JobSpec) -> _Engine:
        """A dead one is replaced, unless it never comes up."""
        method, kind = spec.method, (spec.method, spec.threads, spec.cold)
        engine = self._engines.get(kind)
        if engine is not None and not engine.server.alive:
            self._bad_starts[method] = 0 if engine.server.warmed else self._bad_starts[method] + 1
            if self._bad_starts[method] >= _BAD_STARTS:
                return engine
            self._engines.pop(kind).server.close()
            engine = None
        if engine is None:
            self._close_idle(method)
            try:
                server = start_server(
                    load(method), threads=spec.threads, log=self._logs / f"{method}.txt", cold=spec.cold
                )
            except OSError as error:
                raise _NoEngineError(f"its engine could not be started: {error}") from error
            engine = self._engines[kind] = _Engine(server)
        return engine

    def _close_idle(self, method: str) -> None:
        """An engine takes up to a GiB: one that an earlier plan held to other threads makes room."""
        for kind, engine in list(self._engines.items()):
            if kind[0] == method and not engine.jobs:
                self._engines.pop(kind).server.close()

    def close(self) -> None:
        servers = [engine.server for engine in self._engines.values()]
        self._engines.clear()
        if servers:  # side by side: a scheduler does not wait for one after the other
            in_threads(ForkServer.close, servers, threads=len(servers))
