"""What is written about a run and its jobs: the request; status, sidecar and row of results of each job."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from iterreg.batch.arms import Job, versions
from iterreg.batch.plan import Plan, PlannedJob, arm_record, refuse_other_dataset
from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.jobs.atomic import write_bytes, write_text
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.resources import available_cores, cpu_model
from iterreg.methods.presets import kept_names
from iterreg.runs import ArmRecord, JobStatus, RunFolder, RunRecord, Sidecar
from iterreg.runs.content import Content, read_content
from iterreg.runs.record import Command, DatasetRecord
from iterreg.runs.status import OUTPUTS, Attempt, Folding, WrittenFile
from iterreg.text_files import table_text

__all__ = ["COLUMNS", "record_request", "result_row", "write_job_record", "write_results"]

COLUMNS = (
    "arm", "method", "preset", "pair", "case", "task", "outcome", "reason", "attempts",
    "ndv_percent", "folded_voxels", "lowest_determinant", "worst_x", "worst_y", "worst_z",
    "cpu_s", "compile_s", "wall_s", "peak_mib", "threads", "threads_seen", "seed", "field", "host",
    "finished", "hash", "made_with",
)  # fmt: skip
"""Columns of ``results.csv``; ``made_with`` says how a result was made otherwise than its arm is now."""


def record_request(plan: Plan, folder: RunFolder, *, command: str) -> None:
    """Make the run folder, write ``run.json``, and keep the parameter files as they are used.

    What earlier commands asked of the same folder stays in the record.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder.create()
    try:
        with folder.lock():
            folder.write(_request(plan, folder, command))
            for arm in plan.arms:
                kept = folder.arm(arm.name).parameters
                kept.mkdir(parents=True, exist_ok=True)
                files = arm.parameters.files
                for name, path in zip(kept_names(files), files, strict=True):
                    write_bytes(kept / name, path.read_bytes())
    except TimeoutError as error:
        raise InputError(f"{error.filename}: {error.strerror}; end that process, or run again") from error
    except OSError as error:
        raise InputError(
            f"{error.filename or folder.path}: cannot be written ({error.strerror}); "
            "free space or choose another --out"
        ) from error


def _request(plan: Plan, folder: RunFolder, command: str) -> RunRecord:
    dataset = DatasetRecord.of(plan.dataset)
    before = RunRecord(dataset)
    if folder.record.exists():
        before = folder.read()
        refuse_other_dataset(before, plan.dataset, folder)
    arms = {arm.name: arm_record(arm, plan.settings, before.arms.get(arm.name)) for arm in plan.arms}
    asked = Command(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        cores=plan.settings.cores,
        threads=plan.threads,
        memory=plan.settings.memory,
    )
    pairs = {**before.by_name, **{pair.name: pair for pair in plan.dataset.pairs}}
    return RunRecord(dataset, tuple(pairs.values()), {**before.arms, **arms}, (*before.commands, asked))


def write_job_record(
    planned: PlannedJob,
    attempts: Sequence[Report],
    *,
    threads: int,
    digests: FileDigests | None = None,
) -> JobStatus:
    """Record how a job ended: its files in their places, then the status that proves it.

    Parameters
    ----------
    attempts
        Every try, the last one decides.
    digests
        Needed for a job that ended well.

    Returns
    -------
    The status.

    Raises
    ------
    OSError
        If the run folder cannot be written; FileNotFoundError also where another owner has taken over.
    """
    job, report = planned.job, attempts[-1]
    if planned.state == "extended":
        return _extend(planned, report)
    status = JobStatus(
        outcome=report.outcome,
        reason=report.reason,
        hash=planned.hash,
        version=job.arm.version(job.seed),
        method=job.arm.method.name,
        preset=job.arm.parameters.preset,
        pair=job.pair.name,
        case=job.pair.case,
        task=job.pair.task,
        seed=job.seed,
        masks=job.masks_used,
        threads=threads,
        threads_seen=report.peak_threads,
        cpu_seconds=round(report.cpu_seconds, 3),
        wall_seconds=round(report.wall_seconds, 3),
        peak_bytes=report.peak_bytes,
        warm_cpu_seconds=round(report.warm_cpu_seconds, 3),
        attempts=tuple(Attempt(one.outcome, one.reason, round(one.wall_seconds, 3)) for one in attempts),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
    )
    if report.outcome is Outcome.OK:
        facts = Content(report.value, f"the result of {job.pair.name}")
        status = replace(
            status,
            files=_files(facts),
            folding=Folding.from_json(facts.inner("folding")) if "folding" in facts else None,
            seconds=facts.values("seconds"),
            cpu_seconds=round(report.cpu_seconds - report.compile_seconds, 3),
        )
        sidecar = _sidecar(job, status, facts.values("details"), digests or FileDigests())
        planned.folder.finish(status, sidecar)
    else:
        planned.folder.finish(status)
    return status


def _files(facts: Content) -> dict[str, WrittenFile]:
    return {role: WrittenFile.from_json(facts.inner(role)) for role in OUTPUTS if role in facts}


def _extend(planned: PlannedJob, report: Report) -> JobStatus:
    """Record files that were made of a verified field; where that failed, the field stays as it was."""
    folder = planned.folder
    before = folder.read_status()
    assert before is not None
    if report.outcome is not Outcome.OK:
        folder.discard()
        return before
    facts = Content(report.value, f"the result of {planned.job.pair.name}")
    status = replace(before, files={**before.files, **_files(facts)})
    folder.finish(status, replace(Sidecar.from_json(read_content(folder.sidecar)), status=status))
    return status


def _sidecar(job: Job, status: JobStatus, details: Mapping[str, Any], digests: FileDigests) -> Sidecar:
    """The provenance that travels with a field."""
    return Sidecar(
        status,
        command=shlex.join(sys.argv),
        parameters=dict(job.arm.parameters.values),
        parameter_files=kept_names(job.arm.parameters.files),
        versions={**versions(job.arm.method), **job.arm.software},
        machine=_machine(),
        inputs={role: {"path": str(path), "sha256": digests(path)} for role, path in job.inputs().items()},
        details=details,
    )


def _machine() -> dict[str, str | int]:
    """What the sidecars record about the host."""
    return {
        "host": platform.node(),
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": available_cores(),
    }


def result_row(arm: str, status: JobStatus, made_with: str = "") -> dict[str, Any]:
    """A job's row in ``results.csv``; empty cells where a failed job has no figure."""
    folding = status.folding or Folding()
    place = folding.lowest_at or ("", "", "")
    field = status.files.get("field")
    row = {
        "arm": arm,
        "method": status.method,
        "preset": status.preset,
        "pair": status.pair,
        "case": status.case,
        "task": status.task,
        "outcome": str(status.outcome),
        "reason": status.reason,
        "attempts": len(status.attempts),
        "ndv_percent": folding.ndv_percent,
        "folded_voxels": folding.folded_voxels,
        "lowest_determinant": folding.lowest_determinant,
        "worst_x": place[0],
        "worst_y": place[1],
        "worst_z": place[2],
        "cpu_s": status.cpu_seconds,
        "compile_s": status.seconds.get("compile"),
        "wall_s": status.wall_seconds,
        "peak_mib": round((status.peak_bytes or 0) / 2**20, 1),
        "threads": status.threads,
        "threads_seen": status.threads_seen,
        "seed": status.seed,
        "field": f"{arm}/fields/{field.name}" if field else "",
        "host": status.host,
        "finished": status.finished,
        "hash": status.hash[:16],
        "made_with": made_with,
    }
    return {name: "" if value is None else value for name, value in row.items()}


def _made_with(arm: ArmRecord, status: JobStatus, pair: Pair | None) -> str:
    if not status.ok:
        return ""
    if arm.keeps(status):
        return f"{arm.differences(status)} (kept)"
    return "" if arm.made(status, pair) else arm.differences(status)


def write_results(folder: RunFolder) -> list[dict[str, Any]]:
    """Write ``results.csv`` anew from the statuses of every job of the run.

    It is derived from the statuses alone, so any process may write it at any time; the last one to do
    so has seen the statuses of all.

    Raises
    ------
    InputError
        If this is not a run folder.
    OSError
        If it cannot be written.
    """
    with folder.lock():
        rows = []
        record = folder.read()
        for arm, request in record.arms.items():
            for job in folder.arm(arm).jobs():
                status = job.read_status()
                if status is not None:
                    made_with = _made_with(request, status, record.by_name.get(job.pair))
                    rows.append(result_row(arm, status, made_with))
        write_text(folder.results, table_text(rows, COLUMNS))
    return rows
