"""Reads a run folder as it stands: the state of every job, without its data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iterreg.batch.runfolder import JobFolder, RunFolder
from iterreg.jobs.claims import is_claimed
from iterreg.jobs.outcome import Outcome

__all__ = ["Entry", "survey"]


@dataclass(frozen=True)
class Entry:
    """The state of one job.

    Attributes
    ----------
    state
        ``done``; ``failed``; ``running`` (a live process holds it); ``missing`` (never run or cut off);
        ``damaged`` (done once, but its field is not what was written).
    why
        A sentence for failed and damaged jobs.
    status
        What was recorded, empty when nothing was.
    """

    arm: str
    pair: str
    state: Literal["done", "failed", "running", "missing", "damaged"]
    why: str
    status: Mapping[str, Any]


def survey(folder: RunFolder, record: Mapping[str, Any], *, verify: bool = False) -> list[Entry]:
    """The state of every job that was ever asked for, arm by arm.

    Parameters
    ----------
    record
        The content of ``run.json``.
    verify
        Read each field and compare its digest, instead of its size alone.
    """
    return [
        _entry(folder.arm(arm).job(pair["name"]), verify)
        for arm in record["arms"]
        for pair in record["pairs"]
    ]


def _entry(job: JobFolder, verify: bool) -> Entry:
    status = job.read_status() or {}
    if is_claimed(job.folder):
        return Entry(job.arm.name, job.pair, "running", "", status)
    if not status:
        return Entry(job.arm.name, job.pair, "missing", "", status)
    if status.get("outcome") != Outcome.OK:
        why = f"{status.get('outcome')}: {status.get('reason')}"
        return Entry(job.arm.name, job.pair, "failed", why, status)
    damage = _damage(job.field, status.get("field", {}), verify)
    return Entry(job.arm.name, job.pair, "damaged" if damage else "done", damage, status)


def _damage(path: Path, recorded: Mapping[str, Any], verify: bool) -> str:
    if not path.is_file():
        return f"{path}: is gone; run the same command again to make it anew"
    if path.stat().st_size != recorded.get("bytes"):
        return f"{path}: has another size than was written; run the same command again to make it anew"
    if verify:
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != recorded.get("sha256"):
                return f"{path}: has other content than was written; remove it and run the same command again"
    return ""
