"""Takes the jobs of a plan to recorded ends: claim, attempts, status; a thread watches one job at a time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from iterreg.batch.disks import refuse_full_disk
from iterreg.batch.executors.base import Executor
from iterreg.batch.plan import Plan, PlannedJob
from iterreg.batch.plan import progress as progress_of
from iterreg.batch.records import write_job_record
from iterreg.batch.retries import Retries
from iterreg.batch.spec import JobSpec
from iterreg.batch.telling import Teller
from iterreg.batch.walltime import Walltime
from iterreg.errors import InputError
from iterreg.jobs.claims import Claim, OverruledError, take
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.threads import in_threads

__all__ = ["Summary", "run_plan"]

_LOOK_SECONDS = 5.0
"""Between two looks at jobs that other processes hold."""

Ending = Literal["ok", "failed", "elsewhere", "left"]


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


def run_plan(
    plan: Plan,
    executor: Executor,
    *,
    digests: FileDigests,
    tell: Teller,
    stop: threading.Event,
    wait: bool = False,
    until: float | None = None,
) -> Summary:
    """Run every job that is left and record each end. Never raises for what a job does.

    Parameters
    ----------
    stop
        When set, the jobs that run are cut off, and nothing more is begun; the folder can be gone on with.
    wait
        Wait for jobs that other processes hold, and do them should those processes end.
    until
        Begin nothing that will not have ended by then, in seconds since 1970.
    """
    run = _Run(plan, executor, digests, tell, stop, Walltime(until, threads=plan.threads))
    tell.expect(plan)
    endings = dict(zip(plan.todo, run.all(plan.todo, patient=True), strict=True))
    while wait and (elsewhere := _elsewhere(endings)) and not stop.wait(_LOOK_SECONDS):
        tell.waits_for(len(elsewhere))
        endings.update(zip(elsewhere, run.all(elsewhere, patient=True), strict=True))
    # What another process held may be done by now, or that process may be gone.
    elsewhere = _elsewhere(endings)
    endings.update(zip(elsewhere, run.all(elsewhere), strict=True))
    run.record_refusals()
    ends = Counter(endings.values())
    return Summary(ends["ok"], ends["failed"], ends["elsewhere"], ends["left"])


def _elsewhere(endings: Mapping[PlannedJob, Ending]) -> list[PlannedJob]:
    return [planned for planned, ending in endings.items() if ending == "elsewhere"]


class _Run:
    """What the threads of one run share."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        digests: FileDigests,
        tell: Teller,
        stop: threading.Event,
        walltime: Walltime,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._digests = digests
        self._tell = tell
        self._stop = stop
        self._walltime = walltime
        self._retries = Retries()

    def all(self, jobs: Sequence[PlannedJob], *, patient: bool = False) -> list[Ending]:
        """Run jobs to their ends; `patient` leaves it to a later call to say who was elsewhere."""
        return in_threads(partial(self._one, patient=patient), jobs, threads=self._plan.parallel)

    def _one(self, planned: PlannedJob, *, patient: bool = False) -> Ending:
        """Run one job to a recorded end. Raises nothing, because that would end the others too."""
        if self._stop.is_set() or not self._suits(planned):
            return "left"
        try:
            # Before the claim too: many workers must not claim what is done.
            if ended := self._ended_meanwhile(planned):
                return ended
            claim = take(planned.folder.folder)
            if claim is None:
                if not patient:
                    self._tell.elsewhere(planned)
                return "elsewhere"
            try:
                held = _held(planned, claim)
                try:
                    return self._claimed(held, claim)
                finally:
                    held.folder.discard()
            finally:
                claim.release()
        except OverruledError as error:
            self._tell.overruled(planned, error)
            return "elsewhere"
        except OSError as error:
            # The job may be fine, but the run folder cannot take its files (a full disk, say).
            where = error.filename or planned.folder.folder
            self._tell.not_recorded(planned, f"{where}: {error.strerror}; mend that, run again")
            return "failed"
        except Exception as error:
            self._tell.not_recorded(planned, f"{type(error).__name__}: {error}")
            return "failed"

    def _suits(self, planned: PlannedJob) -> bool:
        """Whether a job has memory and time enough here; the plan may be of a larger machine."""
        return planned.cost.memory <= self._plan.settings.memory and self._walltime.allows(planned)

    def record_refusals(self) -> None:
        """Give the jobs that could not run a status too, unless an older one says they are done."""
        for planned in self._plan.in_state("refused"):
            status = planned.folder.read_status()
            if (status is not None and status.ok) or self._stop.is_set():
                continue
            with suppress(OSError):
                claim = take(planned.folder.folder)
                if claim is not None:
                    try:
                        held = _held(planned, claim)
                        held.folder.fence()
                        report = Report(planned.refusal, planned.why)
                        write_job_record(held, [report], threads=self._plan.threads)
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
        arm, files = planned.job.arm.name, planned.folder
        with claim.fenced():
            files.fence()
            if ended := self._ended_meanwhile(planned):
                return ended
        asked, attempts = _spec(planned, self._plan), list[Report]()
        while True:
            spec = self._retries.spec(arm, asked, attempts)
            begin = partial(self._begin, planned, claim, spec, number=len(attempts) + 1)
            report = self._executor.run(spec, files, begin=begin, stop=self._stop)
            attempts.append(report)
            if report.outcome is Outcome.INTERRUPTED:
                return "left"
            if not self._retries.again(attempts):
                break
            self._tell.again(planned, report)
        self._retries.learn(arm, asked, attempts)
        self._walltime.learn(planned, report)
        if report.outcome is Outcome.OK:
            report = attempts[-1] = self._with_same_inputs(planned, report)
        with claim.fenced():
            write_job_record(planned, attempts, threads=self._plan.threads, digests=self._digests)
        self._tell.ended(planned, report)
        return "ok" if report.outcome is Outcome.OK else "failed"

    def _begin(self, planned: PlannedJob, claim: Claim, spec: JobSpec, *, number: int) -> None:
        """Make a job's folder ready for an attempt."""
        self._tell.begun(planned)
        files, extended = planned.folder, planned.state == "extended"
        refuse_full_disk(files.folder, spec.output_bytes, files.arm.fields)
        with claim.fenced():
            if extended:
                files.extend()
            else:
                files.begin()
            files.ask(spec.to_json())
        _start_log(files.log, planned, number, keep=extended)

    def _ended_meanwhile(self, planned: PlannedJob) -> Ending | None:
        """How another process ended the job since it was planned, None when it did not."""
        if planned.folder.status_stamp() == planned.seen:
            return None
        state, why = progress_of(planned.folder, planned.hash, planned.job)
        status = planned.folder.read_status()
        if state == "done":
            self._tell.done_elsewhere(planned)
            return "ok"
        if status is not None and not status.ok and status.hash == planned.hash:
            self._tell.failed_elsewhere(planned, why)
            return "failed"
        return None

    def _with_same_inputs(self, planned: PlannedJob, report: Report) -> Report:
        """Refuse a field whose images were replaced between planning and the end of the job."""
        try:
            if planned.job.hash(self._digests) == planned.hash:
                return report
            why = f"an image of {planned.job.pair.case} was changed while it was registered; run again"
        except InputError as error:
            why = str(error)
        return replace(report, outcome=Outcome.BAD_INPUT, reason=why, value=None)


def _held(planned: PlannedJob, claim: Claim) -> PlannedJob:
    return replace(planned, folder=replace(planned.folder, claim=claim.name))


def _spec(planned: PlannedJob, plan: Plan) -> JobSpec:
    """What is to be done, for whichever process does it."""
    job, files, extended = planned.job, planned.folder, planned.state == "extended"
    return JobSpec(
        method=job.arm.method.name,
        preset=job.arm.parameters.preset,
        values=job.arm.parameters.values,
        files=job.arm.parameters.files,
        inputs=job.inputs(),
        outputs={
            role: str(files.draft(files.outputs[role]).relative_to(files.unfinished))
            for role in (job.extras if extended else job.outputs)
        },
        seed=job.seed,
        threads=plan.threads,
        verified_field=files.field if extended else None,
        labels=job.pair.moving.labels,
        labels_digest=job.labels_digest,
        memory=planned.cost.memory,
        output_bytes=planned.output_bytes,
        timeout=plan.settings.timeout,
        cold=plan.settings.cold,
    )


def _start_log(log: Path, planned: PlannedJob, number: int, *, keep: bool) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if number == 1 and not keep:  # not emptied: an overruled owner's child may still write into the old one
        log.unlink(missing_ok=True)
    with log.open("a") as stream:
        stream.write(f"# iterreg {planned.job.arm.name} {planned.job.pair.case}, attempt {number}, {now}\n")
