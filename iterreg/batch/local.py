"""The local launcher: joblib threads, each watching one child of a warm engine at a time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from joblib import Parallel, delayed

from iterreg.batch.plan import Plan, PlannedJob
from iterreg.batch.records import write_job_record, write_results
from iterreg.batch.runfolder import RunFolder
from iterreg.batch.scratch import Scratch
from iterreg.batch.servers import start_server
from iterreg.jobs.admission import Admission
from iterreg.jobs.claims import take
from iterreg.jobs.forkserver import ForkServer
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import RETRIES, Outcome, Report
from iterreg.jobs.progress import Progress, format_seconds
from iterreg.jobs.resources import format_bytes
from iterreg.jobs.supervise import supervise

__all__ = ["Summary", "run"]

_MIN_FORECAST = 0.5

Ending = Literal["ok", "failed", "elsewhere", "interrupted"]


@dataclass(frozen=True)
class Summary:
    """How a batch ended.

    Attributes
    ----------
    done, failed, elsewhere, left
        Numbers of jobs: done now, failed, being computed by another process, not begun or cut off.
    """

    done: int
    failed: int
    elsewhere: int
    left: int


def run(plan: Plan, folder: RunFolder, *, digests: FileDigests, progress: Progress) -> Summary:
    """Run every job that is left, record each end, and write ``results.csv``.

    Never raises for what a job does. Ctrl-C and SIGTERM end the children at once and leave a folder
    that the same command resumes.
    """
    batch = _Batch(plan, folder, digests, progress)
    with _stoppable(batch.stop):
        try:
            endings = Parallel(n_jobs=plan.parallel, backend="threading", batch_size=1, pre_dispatch="all")(
                delayed(batch.one)(planned) for planned in plan.todo
            )
        finally:
            batch.close()
    write_results(folder, [arm.name for arm in plan.arms])
    count = {ending: endings.count(ending) for ending in ("ok", "failed", "elsewhere", "interrupted")}
    return Summary(count["ok"], count["failed"], count["elsewhere"], count["interrupted"])


class _Batch:
    """What the threads of one run share."""

    def __init__(self, plan: Plan, folder: RunFolder, digests: FileDigests, progress: Progress) -> None:
        self.plan = plan
        self.folder = folder
        self.digests = digests
        self.progress = progress
        self.stop = threading.Event()
        self.admission = Admission(cores=max(plan.threads, plan.settings.cores), memory=plan.settings.memory)
        self.scratch = Scratch(plan.settings.scratch)
        self._servers: dict[str, ForkServer] = {}
        self._servers_lock = threading.Lock()
        for planned in plan.todo:
            wall = max(planned.cost.cpu_seconds / plan.threads, _MIN_FORECAST)
            progress.expect(planned.job.pair.name, planned.job.arm.name, wall)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self.scratch.close()

    def one(self, planned: PlannedJob) -> Ending:
        """Run one job to a recorded end."""
        name, arm = planned.job.pair.name, planned.job.arm.name
        if self.stop.is_set():
            return "interrupted"
        try:
            claim = take(planned.folder.folder)
            if claim is None:
                self.progress.end(name, arm, f"elsewhere    {arm} {name}: another process is computing it")
                return "elsewhere"
            try:
                return self._claimed(planned)
            finally:
                claim.release()
        except OSError as error:
            # The job may be fine, but the run folder cannot take its record (a full disk, say).
            where = error.filename or self.folder.path
            self.progress.end(
                name, arm, f"not recorded {arm} {name}: {where}: {error.strerror}; free space, run again"
            )
            return "failed"

    def _claimed(self, planned: PlannedJob) -> Ending:
        name, arm = planned.job.pair.name, planned.job.arm.name
        status = planned.folder.read_status()
        if planned.state != "changed" and status and _proves(status, planned):
            self.progress.end(name, arm, f"done already {arm} {name} (by another process)")
            return "ok"
        attempts: list[Report] = []
        while True:
            alone = bool(attempts) and attempts[-1].outcome is Outcome.OUT_OF_MEMORY
            memory = self.plan.settings.memory if alone else planned.cost.memory
            with self.admission(cores=self.plan.threads, memory=memory, stop=self.stop) as admitted:
                if not admitted:
                    return "interrupted"
                self.progress.begin(name, arm)
                report, warm_cpu = self._attempt(planned, number=len(attempts) + 1)
            attempts.append(report)
            if report.outcome is Outcome.INTERRUPTED:
                return "interrupted"
            if len(attempts) > RETRIES[report.outcome]:
                break
            self.progress.say(f"trying again {arm} {name}: {report.outcome}: {report.reason}")
        write_job_record(
            planned, attempts, threads=self.plan.threads, warm_cpu_seconds=warm_cpu, digests=self.digests
        )
        ok = report.outcome is Outcome.OK
        self.progress.end(name, arm, _line(planned, report), measured=report.wall_seconds if ok else None)
        return "ok" if ok else "failed"

    def _attempt(self, planned: PlannedJob, *, number: int) -> tuple[Report, float]:
        job, files, settings = planned.job, planned.folder, self.plan.settings
        files.field.parent.mkdir(parents=True, exist_ok=True)
        _start_log(files.log, planned, number)
        server = self._server(job.arm.method.name)
        with self.scratch.job() as scratch:
            payload: dict[str, Any] = {
                "method": job.arm.method.name,
                "preset": job.arm.parameters.preset,
                "values": dict(job.arm.parameters.values),
                "files": [str(path) for path in job.arm.parameters.files],
                **{role: str(path) for role, path in job.inputs().items()},
                "threads": self.plan.threads,
                "seed": job.seed,
                "scratch": str(scratch),
                "field": str(files.field),
                "inverse": str(files.inverse) if job.inverse else None,
            }
            report = supervise(
                server,
                "iterreg.batch.work:register_pair",
                payload,
                log=files.log,
                timeout=settings.timeout,
                memory_limit=settings.memory,
                expected_memory=planned.cost.memory,
                stop=self.stop,
            )
        if report.outcome is not Outcome.OK:
            for partial in files.field.parent.glob(f".*.partial.{files.field.name}"):
                partial.unlink(missing_ok=True)
        return report, server.warm_cpu_seconds

    def _server(self, method: str) -> ForkServer:
        """The warm parent of an engine; a dead one is replaced."""
        with self._servers_lock:
            server = self._servers.get(method)
            if server is None or not server.alive:
                arm = next(arm for arm in self.plan.arms if arm.method.name == method)
                server = start_server(
                    arm.method,
                    threads=self.plan.threads,
                    log=self.folder.logs / f"{method}.txt",
                    cold=self.plan.settings.cold,
                )
                self._servers[method] = server
            return server


def _proves(status: dict[str, Any], planned: PlannedJob) -> bool:
    return (
        status.get("outcome") == Outcome.OK and status.get("hash") == planned.hash and planned.state == "new"
    )


def _line(planned: PlannedJob, report: Report) -> str:
    name, arm = planned.job.pair.name, planned.job.arm.name
    if report.outcome is not Outcome.OK:
        return f"{report.outcome:12s} {arm} {name}: {report.reason}"
    folding = report.value["folding"] if isinstance(report.value, dict) else {}
    return (
        f"ok           {arm} {name}: {format_seconds(report.wall_seconds)}, "
        f"CPU {format_seconds(report.cpu_seconds)}, {format_bytes(report.peak_bytes)}, "
        f"NDV {folding['ndv_percent']:.4g} %"
    )


def _start_log(log: Path, planned: PlannedJob, number: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mode = "a" if number > 1 else "w"
    with log.open(mode) as stream:
        stream.write(f"# iterreg {planned.job.arm.name} {planned.job.pair.case}, attempt {number}, {now}\n")


@contextmanager
def _stoppable(stop: threading.Event) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `stop` for the block (in the main thread; elsewhere leave them alone)."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous: dict[int, Any] = {}
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for caught, old in previous.items():
            signal.signal(caught, old)
