"""The local launcher: threads (joblib's), each watching one child of a warm engine at a time."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from iterreg.batch.plan import Plan, PlannedJob
from iterreg.batch.plan import progress as progress_of
from iterreg.batch.records import write_job_record, write_results
from iterreg.batch.scratch import Scratch, mount_point
from iterreg.batch.servers import start_server
from iterreg.errors import InputError
from iterreg.jobs.admission import Admission, Share
from iterreg.jobs.claims import Claim, OverruledError, take
from iterreg.jobs.forkserver import ForkServer
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import RETRIES, Outcome, Report
from iterreg.jobs.progress import Progress, format_seconds
from iterreg.jobs.resources import format_bytes
from iterreg.jobs.supervise import supervise
from iterreg.jobs.threads import in_threads
from iterreg.runs import RunFolder
from iterreg.words import count

__all__ = ["Summary", "run"]

_MIN_FORECAST = 0.5
_LOOK_SECONDS = 5.0
"""Between two looks at jobs that other processes hold."""
_BAD_STARTS = 2
"""An engine that could not be started so many times in a row is not tried for every other job."""

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


def run(
    plan: Plan, folder: RunFolder, *, digests: FileDigests, progress: Progress, wait: bool = False
) -> Summary:
    """Run every job that is left, record each end, and write ``results.csv``.

    With `wait`, jobs that other processes hold are waited for, and done here should those processes end.

    Never raises for what a job does. Ctrl-C and SIGTERM end the children at once and leave a folder
    that the same command resumes.

    Raises
    ------
    InputError
        If no scratch folder can be made.
    """
    batch = _Batch(plan, folder, digests, progress)
    with _stoppable(batch.stop):
        try:
            endings = dict(zip(plan.todo, batch.all(plan.todo, patient=True), strict=True))
            while wait and (elsewhere := _elsewhere(endings)) and not batch.stop.wait(_LOOK_SECONDS):
                batch.announce_wait(len(elsewhere))
                endings.update(zip(elsewhere, batch.all(elsewhere, patient=True), strict=True))
            # What another process held may be done by now, or that process may be gone.
            elsewhere = _elsewhere(endings)
            endings.update(zip(elsewhere, batch.all(elsewhere), strict=True))
            batch.record_refusals()
        finally:
            batch.close()
    unrecorded = _write_results(folder, progress)
    ends = Counter(endings.values())
    failed = ends["failed"] + unrecorded
    return Summary(ends["ok"], failed, ends["elsewhere"], ends["interrupted"])


def _elsewhere(endings: Mapping[PlannedJob, Ending]) -> list[PlannedJob]:
    return [planned for planned, ending in endings.items() if ending == "elsewhere"]


def _write_results(folder: RunFolder, progress: Progress) -> int:
    """Write ``results.csv``; the number of files that could not be written, 0 or 1."""
    try:
        write_results(folder)
    except (OSError, InputError) as error:
        progress.say(f"{folder.results}: could not be written ({error}); mend that, run again")
        return 1
    return 0


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
        self._bad_starts: Counter[str] = Counter()
        self._servers_lock = threading.Lock()
        self._told: set[tuple[str, str]] = set()
        self._overrun: dict[str, float] = {}
        self._waiting = False
        for planned in plan.todo:
            wall = max(planned.cost.cpu_seconds / plan.threads, _MIN_FORECAST)
            progress.expect(planned.job.pair.name, planned.job.arm.name, wall)

    def close(self) -> None:
        servers = list(self._servers.values())
        if servers:  # side by side: a scheduler does not wait for one after the other
            in_threads(ForkServer.close, servers, threads=len(servers))
        self.scratch.close()

    def announce_wait(self, jobs: int) -> None:
        """Say once that others are waited for."""
        if not self._waiting:
            self._waiting = True
            self.progress.say(f"waiting for {count(jobs, 'job')} of other processes")

    def all(self, jobs: Sequence[PlannedJob], *, patient: bool = False) -> list[Ending]:
        """Run jobs to their ends; `patient` leaves it to a later call to say who was elsewhere."""
        return in_threads(partial(self.one, patient=patient), jobs, threads=self.plan.parallel)

    def one(self, planned: PlannedJob, *, patient: bool = False) -> Ending:
        """Run one job to a recorded end. Raises nothing, because that would end the others too."""
        name, arm = planned.job.pair.name, planned.job.arm.name
        if self.stop.is_set():
            return "interrupted"
        try:
            claim = take(planned.folder.folder)
            if claim is None:
                if not patient:
                    line = f"elsewhere    {arm} {name}: another process is computing it"
                    self.progress.end(name, arm, line)
                return "elsewhere"
            try:
                held = replace(planned, folder=replace(planned.folder, claim=claim.name))
                try:
                    return self._claimed(held, claim)
                finally:
                    held.folder.discard()
            finally:
                claim.release()
        except OverruledError as error:
            self.progress.leave(name, arm)
            self.progress.say(f"overruled    {arm} {name}: {error}")
            return "elsewhere"
        except OSError as error:
            # The job may be fine, but the run folder cannot take its files (a full disk, say).
            where = error.filename or self.folder.path
            self.progress.end(
                name, arm, f"not recorded {arm} {name}: {where}: {error.strerror}; mend that, run again"
            )
            return "failed"
        except Exception as error:
            self.progress.end(name, arm, f"not recorded {arm} {name}: {type(error).__name__}: {error}")
            return "failed"

    def record_refusals(self) -> None:
        """Give the jobs that could not run a status too, unless an older one says they are done."""
        for planned in self.plan.in_state("refused"):
            status = planned.folder.read_status()
            if (status is not None and status.ok) or self.stop.is_set():
                continue
            with suppress(OSError):
                claim = take(planned.folder.folder)
                if claim is not None:
                    try:
                        held = replace(planned, folder=replace(planned.folder, claim=claim.name))
                        held.folder.fence()
                        report = Report(planned.refusal, planned.why)
                        write_job_record(held, [report], threads=self.plan.threads)
                    finally:
                        claim.release()

    def _claimed(self, planned: PlannedJob, claim: Claim) -> Ending:
        """Run a job that this process holds to a recorded end.

        Raises
        ------
        OverruledError
            If another process has taken it over; then nothing was put in place here.
        OSError
            If the run folder cannot take its files.
        """
        name, arm, files = planned.job.pair.name, planned.job.arm.name, planned.folder
        with claim.fenced():
            files.fence()
            if files.status_stamp() != planned.seen:
                ended = self._ended_meanwhile(planned)
                if ended is not None:
                    return ended
        attempts: list[Report] = []
        while True:
            alone = bool(attempts) and attempts[-1].outcome is Outcome.OUT_OF_MEMORY
            expected = int(planned.cost.memory * self._overrun.get(arm, 1.0))
            memory = self.plan.settings.memory if alone else expected
            with self.admission(cores=self.plan.threads, memory=memory, stop=self.stop) as share:
                if share is None:
                    return "interrupted"
                self.progress.begin(name, arm)
                report, warm_cpu = self._attempt(planned, claim, share, number=len(attempts) + 1)
            attempts.append(report)
            if report.outcome is Outcome.INTERRUPTED:
                return "interrupted"
            if len(attempts) > RETRIES[report.outcome]:
                break
            self.progress.say(f"trying again {arm} {name}: {report.outcome}: {report.reason}")
        if report.outcome is Outcome.OK:
            if attempts[0].outcome is Outcome.OUT_OF_MEMORY:  # the next jobs of the arm will take as much
                overrun = report.peak_bytes / max(planned.cost.memory, 1)
                self._overrun[arm] = max(overrun, self._overrun.get(arm, 1.0))
            report = attempts[-1] = self._with_same_inputs(planned, report)
        with claim.fenced():
            write_job_record(
                planned, attempts, threads=self.plan.threads, warm_cpu_seconds=warm_cpu, digests=self.digests
            )
        ok = report.outcome is Outcome.OK
        self.progress.end(name, arm, _line(planned, report), measured=report.wall_seconds if ok else None)
        self._tell(arm, report)
        return "ok" if ok else "failed"

    def _tell(self, arm: str, report: Report) -> None:
        """Pass on what a method warned of; what it says of every pair is said once."""
        facts = report.value if isinstance(report.value, dict) else {}
        warnings = facts.get("details", {}).get("warnings", ())
        for warning in map(str, warnings if isinstance(warnings, list) else ()):
            if (arm, warning) not in self._told:
                self._told.add((arm, warning))
                self.progress.say(f"note         {arm}: {warning}")

    def _ended_meanwhile(self, planned: PlannedJob) -> Ending | None:
        """How another process ended the job since it was planned, None when it did not."""
        name, arm = planned.job.pair.name, planned.job.arm.name
        state, why = progress_of(planned.folder, planned.hash, planned.job)
        status = planned.folder.read_status()
        if state == "done":
            self.progress.end(name, arm, f"done already {arm} {name} (by another process)")
            return "ok"
        if status is not None and not status.ok and status.hash == planned.hash:
            self.progress.end(name, arm, f"failed       {arm} {name} (in another process): {why}")
            return "failed"
        return None

    def _with_same_inputs(self, planned: PlannedJob, report: Report) -> Report:
        """Refuse a field whose images were replaced between planning and the end of the job."""
        try:
            if planned.job.hash(self.digests) == planned.hash:
                return report
            why = f"an image of {planned.job.pair.case} was changed while it was registered; run again"
        except InputError as error:
            why = str(error)
        return replace(report, outcome=Outcome.BAD_INPUT, reason=why, value=None)

    def _attempt(
        self, planned: PlannedJob, claim: Claim, share: Share, *, number: int
    ) -> tuple[Report, float]:
        job, files, settings = planned.job, planned.folder, self.plan.settings
        free = shutil.disk_usage(files.folder).free
        if free < planned.output_bytes:  # rather now than after an hour of work
            raise OSError(
                errno.ENOSPC,
                f"{format_bytes(free)} are free, a field may need {format_bytes(planned.output_bytes)}",
                str(files.arm.fields),
            )
        extended = planned.state == "extended"
        with claim.fenced():
            if extended:
                files.extend()
            else:
                files.begin()
        _start_log(files.log, planned, number, keep=extended)
        try:
            server = self._server(job.arm.method.name)
        except OSError as error:
            return Report(Outcome.EXCEPTION, f"its engine could not be started: {error}"), 0.0
        with self.scratch.job() as scratch:
            payload: dict[str, Any] = {
                "method": job.arm.method.name,
                "preset": job.arm.parameters.preset,
                "values": dict(job.arm.parameters.values),
                "files": [str(path.absolute()) for path in job.arm.parameters.files],
                **{role: str(path.absolute()) for role, path in job.inputs().items()},
                "threads": self.plan.threads,
                "seed": job.seed,
                "scratch": str(scratch),
                "field": str(files.draft(files.field).absolute()),
                "inverse": str(files.draft(files.inverse).absolute()) if job.inverse else None,
                "momentum": str(files.draft(files.momentum).absolute()) if job.momentum else None,
                "extras": {role: str(files.draft(files.outputs[role]).absolute()) for role in job.extras},
                "labels": str(labels.absolute()) if (labels := job.pair.moving.labels) else None,
                "labels_digest": job.labels_digest,
            }
            if extended:
                payload["field"] = str(files.field.absolute())
            report = supervise(
                server,
                f"iterreg.batch.work:{'extend_pair' if extended else 'register_pair'}",
                payload,
                log=files.log.absolute(),
                timeout=settings.timeout,
                share=share,
                expected_memory=share.memory,
                stop=self.stop,
            )
            report = _with_full_disk(report, planned, scratch)
        return report, server.warm_cpu_seconds

    def _server(self, method: str) -> ForkServer:
        """The warm parent of an engine; a dead one is replaced, unless it never comes up."""
        with self._servers_lock:
            server = self._servers.get(method)
            if server is not None and not server.alive:
                self._bad_starts[method] = 0 if server.warmed else self._bad_starts[method] + 1
                if self._bad_starts[method] >= _BAD_STARTS:
                    return server
                server.close()
                server = None
            if server is None:
                arm = next(arm for arm in self.plan.arms if arm.method.name == method)
                server = start_server(
                    arm.method,
                    threads=self.plan.threads,
                    log=self.folder.logs.absolute() / f"{method}.txt",
                    cold=self.plan.settings.cold,
                )
                self._servers[method] = server
            return server


def _line(planned: PlannedJob, report: Report) -> str:
    name, arm = planned.job.pair.name, planned.job.arm.name
    if report.outcome is not Outcome.OK:
        return f"{report.outcome:12s} {arm} {name}: {report.reason}"
    if planned.state == "extended":
        return f"ok           {arm} {name}: {', '.join(planned.job.extras)} of the field that was there"
    folding = report.value["folding"] if isinstance(report.value, dict) else {}
    ndv = folding.get("ndv_percent")
    return (
        f"ok           {arm} {name}: {format_seconds(report.wall_seconds)}, "
        f"CPU {format_seconds(report.cpu_seconds)}, {format_bytes(report.peak_bytes)}, "
        + ("no NDV (nothing above zero in the fixed image)" if ndv is None else f"NDV {ndv:.4g} %")
    )


def _with_full_disk(report: Report, planned: PlannedJob, scratch: Path) -> Report:
    """Name the file system that is full where a job failed: engines take it for a damaged file, or crash."""
    if report.outcome in (Outcome.OK, Outcome.INTERRUPTED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY):
        return report
    for place, what, remedy in (
        (scratch, "the scratch folder", "name another with --scratch"),
        (planned.folder.folder, "the run folder", "run again"),
    ):
        free = shutil.disk_usage(place).free
        if free < planned.output_bytes:
            reason = (
                f"the disk of {what} is full ({format_bytes(free)} free on {mount_point(place)}): free space "
                f"there, or {remedy}; what the job said: {report.reason}"
            )
            return replace(report, outcome=Outcome.EXCEPTION, reason=reason)
    return report


def _start_log(log: Path, planned: PlannedJob, number: int, *, keep: bool) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if number == 1 and not keep:  # not emptied: an overruled owner's child may still write into the old one
        log.unlink(missing_ok=True)
    with log.open("a") as stream:
        stream.write(f"# iterreg {planned.job.arm.name} {planned.job.pair.case}, attempt {number}, {now}\n")


@contextmanager
def _stoppable(stop: threading.Event) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into `stop` for the block.

    Only the main thread can; in others they are left alone.
    """

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous: dict[int, Any] = {}
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job of a script
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for caught, old in previous.items():
            signal.signal(caught, old)
