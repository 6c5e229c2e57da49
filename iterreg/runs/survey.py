"""Reads a run folder as it stands: the state of every job, without its data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iterreg.dataset import Pair
from iterreg.errors import InputError
from iterreg.jobs.claims import is_claimed
from iterreg.jobs.hashing import FileDigests
from iterreg.runs.arm_record import ArmRecord
from iterreg.runs.folder import JobFolder, RunFolder
from iterreg.runs.record import RunRecord
from iterreg.runs.status import JobStatus, WrittenFile

__all__ = ["Entry", "State", "damage", "survey"]

State = Literal["done", "failed", "running", "missing", "damaged", "changed", "kept"]


@dataclass(frozen=True)
class Entry:
    """The state of one job.

    Attributes
    ----------
    state
        ``done``; ``failed``; ``running`` (a live process holds it); ``missing`` (never run or cut off);
        ``damaged`` (done once, but a file of it is not what was written); ``changed`` (done with other
        parameters or other software than the arm has now); ``kept`` (done with other software, and kept).
    why
        A sentence for failed, damaged and changed jobs, and what the kept ones were made with.
    status
        What was recorded, None when nothing was.
    """

    arm: str
    pair: str
    state: State
    why: str
    status: JobStatus | None

    @property
    def is_usable(self) -> bool:
        """Whether its field is the arm's."""
        return self.state in ("done", "kept")


def survey(
    folder: RunFolder,
    record: RunRecord,
    *,
    arms: Iterable[str] | None = None,
    pairs: Iterable[str] | None = None,
    verify: bool = False,
) -> list[Entry]:
    """The state of every job that was ever asked for, arm by arm.

    Parameters
    ----------
    record
        The content of ``run.json``.
    arms, pairs
        Look at these alone.
    verify
        Read each file that a job left and compare its digest, instead of its size alone.
    """
    names = list(record.by_name if pairs is None else pairs)
    return [
        _entry(folder.arm(arm).job(name), record.arms.get(arm), record.by_name.get(name), verify)
        for arm in (record.arms if arms is None else arms)
        for name in names
    ]


def _entry(job: JobFolder, arm: ArmRecord | None, pair: Pair | None, verify: bool) -> Entry:
    status = job.read_status()
    state, why = _state(job, status, arm, pair, verify)
    return Entry(job.arm.name, job.pair, state, why, status)


def _state(
    job: JobFolder, status: JobStatus | None, arm: ArmRecord | None, pair: Pair | None, verify: bool
) -> tuple[State, str]:
    if is_claimed(job.folder):
        return "running", ""
    if status is None:
        return "missing", ""
    if not status.ok:
        return "failed", status.why
    if arm is not None and not arm.made(status, pair):
        return "changed", f"{job.field}: was made with {arm.differences(status)}; run the arm over it again"
    found = next(_damages(job, status, verify), "")
    if found:
        return "damaged", found
    if arm is not None and arm.keeps(status):
        return "kept", f"made with {arm.differences(status)}"
    return "done", ""


def _damages(job: JobFolder, status: JobStatus, verify: bool) -> Iterator[str]:
    """What is not as it was written: the field, and whatever else the status says was written."""
    if "field" not in status.files:
        yield f"{job.status}: says ok and names no field; run the same command again"
    for role, written in status.files.items():
        found = damage(job.outputs[role], written, verify=verify)
        if found:
            yield found


def damage(path: Path, written: WrittenFile, *, verify: bool) -> str:
    """How a file is not what was written, ``""`` when it is as far as was looked."""
    try:
        size = path.stat().st_size
    except OSError:
        return f"{path}: is gone; run the same command again to make it anew"
    if size != written.bytes:
        return f"{path}: has another size than was written; run the same command again to make it anew"
    if not verify:
        return ""
    try:
        found = FileDigests()(path)
    except InputError as error:
        return str(error)
    if found != written.sha256:
        return f"{path}: has other content than was written; remove it and run the same command again"
    return ""
