"""What is written about a run and its jobs: the request; status, sidecar and row of results of each job."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from iterreg.batch.arms import Job, versions
from iterreg.batch.plan import Plan, PlannedJob
from iterreg.batch.runfolder import RunFolder
from iterreg.errors import InputError
from iterreg.jobs.atomic import write_bytes, write_json, write_text
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.resources import available_cores
from iterreg.text_files import table_text

__all__ = ["COLUMNS", "record_request", "result_row", "write_job_record", "write_results"]

COLUMNS = (
    "arm", "method", "preset", "pair", "case", "task", "outcome", "reason", "attempts",
    "ndv_percent", "folded_voxels", "lowest_determinant", "worst_x", "worst_y", "worst_z",
    "cpu_s", "wall_s", "peak_mib", "threads", "threads_seen", "seed", "field", "host", "finished", "hash",
)  # fmt: skip
"""Columns of ``results.csv``."""


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
                for path in arm.parameters.files:
                    write_bytes(kept / path.name, path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{error.filename or folder.path}: cannot be written ({error.strerror}); "
            "free space or choose another --out"
        ) from error


def _request(plan: Plan, folder: RunFolder, command: str) -> dict[str, Any]:
    before = folder.read() if folder.record.exists() else {}
    arms = dict(before.get("arms", {}))
    for arm in plan.arms:
        arms[arm.name] = {
            "method": arm.method.name,
            "preset": arm.parameters.preset,
            "values": dict(arm.parameters.values),
            "seed": plan.settings.seed,
            "masks": plan.settings.masks,
        }
    pairs = {pair["name"]: pair for pair in before.get("pairs", [])}
    for pair in plan.dataset.pairs:
        pairs[pair.name] = {
            "name": pair.name,
            "case": pair.case,
            "task": pair.task,
            "fixed": str(pair.fixed.path.absolute()),
            "moving": str(pair.moving.path.absolute()),
        }
    asked = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "cores": plan.settings.cores,
        "threads": plan.threads,
        "memory": plan.settings.memory,
    }
    return {
        "dataset": {"name": plan.dataset.name, "source": str(plan.dataset.source.absolute())},
        "arms": arms,
        "commands": [*before.get("commands", []), asked],
        "pairs": list(pairs.values()),
    }


def write_job_record(
    planned: PlannedJob,
    attempts: Sequence[Report],
    *,
    threads: int,
    warm_cpu_seconds: float = 0.0,
    digests: FileDigests | None = None,
) -> dict[str, Any]:
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
        If the run folder cannot be written.
    """
    job, report = planned.job, attempts[-1]
    ok = report.outcome is Outcome.OK
    facts: Mapping[str, Any] = report.value if ok and isinstance(report.value, dict) else {}
    status: dict[str, Any] = {
        "outcome": report.outcome,
        "reason": report.reason,
        "hash": planned.hash,
        "method": job.arm.method.name,
        "preset": job.arm.parameters.preset,
        "pair": job.pair.name,
        "case": job.pair.case,
        "task": job.pair.task,
        "seed": job.seed,
        "threads": threads,
        "threads_seen": report.peak_threads,
        "cpu_seconds": round(report.cpu_seconds, 3),
        "wall_seconds": round(report.wall_seconds, 3),
        "peak_bytes": report.peak_bytes,
        "warm_cpu_seconds": round(warm_cpu_seconds, 3),
        "attempts": [
            {"outcome": one.outcome, "reason": one.reason, "wall_seconds": round(one.wall_seconds, 3)}
            for one in attempts
        ],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        **{key: facts[key] for key in ("field", "inverse", "momentum", "folding", "seconds") if key in facts},
    }
    if ok:
        planned.folder.finish(_sidecar(job, status, facts, digests or FileDigests()))
    else:
        planned.folder.discard()
    write_json(planned.folder.status, status)
    return status


def _sidecar(
    job: Job, status: Mapping[str, Any], facts: Mapping[str, Any], digests: FileDigests
) -> dict[str, Any]:
    """The provenance that travels with a field."""
    return {
        "convention": "u in moving voxels on the fixed grid, components in array-axis order: "
        "moved(p) = moving(p + u(p))",
        "command": shlex.join(sys.argv),
        "parameters": dict(job.arm.parameters.values),
        "parameter_files": [path.name for path in job.arm.parameters.files],
        "versions": versions(job.arm.method),
        "machine": _machine(),
        "inputs": {role: {"path": str(path), "sha256": digests(path)} for role, path in job.inputs().items()},
        "details": facts.get("details", {}),
        **status,
    }


def _machine() -> dict[str, str | int]:
    """What the sidecars record about the host."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": available_cores(),
    }


def result_row(arm: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """A job's row in ``results.csv``; empty cells where a failed job has no figure."""
    folding = status.get("folding") or {}
    place = folding.get("lowest_at") or ["", "", ""]
    field = status.get("field")
    return {
        "arm": arm,
        **{
            key: status.get(key, "")
            for key in ("method", "preset", "pair", "case", "task", "outcome", "reason")
        },
        "attempts": len(status.get("attempts", ())),
        "ndv_percent": folding.get("ndv_percent", ""),
        "folded_voxels": folding.get("folded_voxels", ""),
        "lowest_determinant": folding.get("lowest_determinant", ""),
        "worst_x": place[0],
        "worst_y": place[1],
        "worst_z": place[2],
        "cpu_s": status.get("cpu_seconds", ""),
        "wall_s": status.get("wall_seconds", ""),
        "peak_mib": round(status.get("peak_bytes", 0) / 2**20, 1),
        "threads": status.get("threads", ""),
        "threads_seen": status.get("threads_seen", ""),
        "seed": status.get("seed", ""),
        "field": f"{arm}/fields/{field['name']}" if field else "",
        "host": status.get("host", ""),
        "finished": status.get("finished", ""),
        "hash": status.get("hash", "")[:16],
    }


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
        for arm in folder.read()["arms"]:
            for job in folder.arm(arm).jobs():
                status = job.read_status()
                if status is not None:
                    rows.append(result_row(arm, status))
        write_text(folder.results, table_text(rows, COLUMNS))
    return rows
