"""The run folder is the database: this module names every file in it.

::

    RUN/
      run.json                      what was asked: data set, arms, versions, command (per invocation)
      plan.json                     on request: the jobs that were left to do, for `iterreg work`
      inputs.json                   digests of the input files, by size and time, so that a resume is instant
      results.csv                   one row per job
      logs/                         one log per warm engine
      <arm>/                        one method with one set of parameters, e.g. syn-cheap
        parameters/                 the parameter files as they were used
        fields/disp_FIX_MOV.nii.gz  in the challenge's format, with a .json sidecar each
        inverse/disp_FIX_MOV.nii.gz on request: moving -> fixed, on the moving grid
        momentum/FIX_MOV.npz        on request: what `iterreg lddmm shoot` makes both fields of again
        warped/warped_FIX_MOV.nii.gz
                                    on request (--save): the moving image on the fixed grid; so labels/,
                                    jacobian/ and logjacobian/
        jobs/FIX_MOV/status.json    how it ended, the only proof that a job is done
        jobs/FIX_MOV/spec.json      what was to be done, for whichever process does it
        jobs/FIX_MOV/log.txt        what the engine printed
        jobs/FIX_MOV/claim-0001     who is working on it now
        jobs/FIX_MOV/unfinished-…/  what the job has written so far, named after its claim; moved to its
                                    place when it is verified
      .lock/                        held for a moment by a process that writes run.json or results.csv

Every job has a folder of its own, so that several processes and hosts can work on one run at once.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterreg.errors import InputError
from iterreg.io.challenge import field_name
from iterreg.jobs.atomic import move, write_json
from iterreg.jobs.claims import hold
from iterreg.runs.content import read_content
from iterreg.runs.record import RunRecord
from iterreg.runs.status import UNREADABLE, JobStatus, Sidecar

__all__ = ["ArmFolder", "JobFolder", "RunFolder", "read_sidecar", "sidecar_of"]


_VOLUMES = ("warped", "labels", "jacobian", "logjacobian")
"""Roles of outputs that are volumes on the fixed grid."""


@dataclass(frozen=True)
class JobFolder:
    """The files of one job.

    Attributes
    ----------
    arm, pair
        Names of the arm's folder and of the pair (``FIX_MOV``).
    claim
        Name of the claim by which this process works on it; only `fence`, `begin` and `finish` need one.

    An owner that was suspended may wake up after another process has taken its job over. So every change is a
    rename into or out of a folder that bears the claim's name: the new owner takes that folder away first
    (`fence`), and whatever the old one still tries fails (FileNotFoundError).
    """

    arm: ArmFolder
    pair: str
    claim: str = ""

    @property
    def folder(self) -> Path:
        """Holds status, log and claims."""
        return self.arm.path / "jobs" / self.pair

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def field(self) -> Path:
        return self.arm.fields / field_name(self.pair)

    @property
    def sidecar(self) -> Path:
        return sidecar_of(self.field)

    @property
    def inverse(self) -> Path:
        return self.arm.path / "inverse" / field_name(self.pair)

    @property
    def momentum(self) -> Path:
        return self.arm.path / "momentum" / f"{self.pair}.npz"

    @property
    def outputs(self) -> dict[str, Path]:
        """Role (see `iterreg.runs.status.OUTPUTS`) -> where that file belongs; the field last."""
        return {
            "inverse": self.inverse,
            "momentum": self.momentum,
            **{role: self.arm.path / role / f"{role}_{self.pair}.nii.gz" for role in _VOLUMES},
            "field": self.field,
        }

    def status_stamp(self) -> int:
        """When the status was written, in ns by the file server's clock; 0 when there is none."""
        try:
            return self.status.stat().st_mtime_ns
        except OSError:
            return 0

    @property
    def unfinished(self) -> Path:
        """Where the job writes; what it leaves there counts for nothing."""
        return self.folder / f"unfinished-{self.claim}"

    def draft(self, target: Path) -> Path:
        """Where the job writes a file of its own until that is verified and moved to `target`."""
        folder = self.unfinished / "inverse" if target == self.inverse else self.unfinished
        return folder / target.name

    def fence(self) -> None:
        """Take the folders of all earlier owners away, and what killed processes left; make one's own.

        Only a status that is read after this tells whether the job is done: from here on nobody else ends it.
        """
        (self.unfinished / "inverse").mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("unfinished*"):
            if path != self.unfinished:
                with suppress(FileNotFoundError):
                    path.rename(self.folder / f".discarded-{secrets.token_hex(4)}")
        for pattern in (".discarded-*", ".*.partial.*", ".clock-*"):
            for path in self.folder.glob(pattern):
                _remove(path)

    def begin(self) -> None:
        """Make room for an attempt.

        The status goes first: from here on nothing claims that the job is done. Then what it proved,
        so that a field in its place always belongs to the status beside it.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        for number, path in enumerate((self.status, self.sidecar, *self.outputs.values())):
            if path.exists() or path.is_symlink():
                path.replace(self.unfinished / f"old-{number}")
        self.extend()

    def extend(self) -> None:
        """Make room for files that are made of the verified field; what it proved stays.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        for path in self.unfinished.iterdir():
            _remove(path)
        (self.unfinished / "inverse").mkdir()

    def ask(self, spec: Mapping[str, Any]) -> None:
        """Put down what is to be done. It proves nothing, so that it need not reach the disk before the work.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        draft = self.draft(self.spec)
        draft.write_text(json.dumps(spec, indent=1))
        draft.replace(self.spec)

    def discard(self) -> None:
        """Remove what this owner has written so far."""
        _remove(self.unfinished)

    def finish(self, status: JobStatus, sidecar: Sidecar | None = None) -> None:
        """Put an end in its place: what was written with its sidecar, a verified field last, if it ended
        well, and then the status that proves it.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        if sidecar is not None:
            write_json(self.draft(self.sidecar), sidecar.to_json())
            others = [path for role, path in self.outputs.items() if role != "field"]
            for target in (*others, self.sidecar, self.field):
                source = self.draft(target)
                if source.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    move(source, target)
        write_json(self.draft(self.status), status.to_json())
        move(self.draft(self.status), self.status)
        self.discard()

    def read_status(self) -> JobStatus | None:
        """How the job ended, as far as is recorded; None when nothing is.

        A status that cannot be read is an end too, with the outcome `UNREADABLE` and the reason why: it
        proves nothing, and costs this job alone.
        """
        try:
            return JobStatus.from_json(read_content(self.status))
        except FileNotFoundError:
            return None
        except InputError as error:
            return JobStatus(UNREADABLE, str(error), pair=self.pair)


@dataclass(frozen=True)
class ArmFolder:
    """The files of one arm: a method with one set of parameters."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def fields(self) -> Path:
        return self.path / "fields"

    @property
    def parameters(self) -> Path:
        return self.path / "parameters"

    def job(self, pair: str) -> JobFolder:
        return JobFolder(self, pair)

    @property
    def scores(self) -> Path:
        """Where the scores of its fields are kept."""
        return self.path / "scores"

    def jobs(self) -> Iterator[JobFolder]:
        """Every job that has a folder, sorted by name."""
        folder = self.path / "jobs"
        if folder.is_dir():
            for entry in sorted(folder.iterdir()):
                if entry.is_dir():
                    yield JobFolder(self, entry.name)

    @property
    def is_begun(self) -> bool:
        """Whether there is a field, or a job that has ended."""
        return any(self.fields.glob("disp_*")) or any(job.status.exists() for job in self.jobs())


class RunFolder:
    """A folder that `iterreg run` fills.

    Parameters
    ----------
    path
        Created by `create`; it need not exist before.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def results(self) -> Path:
        return self.path / "results.csv"

    @property
    def digests(self) -> Path:
        return self.path / "inputs.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing what all of them share: run.json, results.csv, inputs.json.

        Raises
        ------
        OSError
            If it cannot be had: another process does not let go of it for a minute, or the folder cannot be
            written.
        """
        with hold(self.path / ".lock"):
            for path in self.path.glob(".*.partial.*"):
                path.unlink(missing_ok=True)
            yield

    def arm(self, name: str) -> ArmFolder:
        return ArmFolder(self.path / name)

    def check(self) -> None:
        """Accept a place for a new run, or one that an earlier run made; write nothing.

        Raises
        ------
        InputError
            If it is a file, or holds other things than a run.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path}: is a file; name a folder with --out")
            if self.path.is_dir() and not self.record.exists() and any(map(_is_foreign, self.path.iterdir())):
                raise InputError(
                    f"{self.path}: holds files but no run.json, so it is not a run folder; "
                    "name an empty or new folder with --out"
                )
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); choose another --out"
            ) from error

    def check_writable(self) -> None:
        """Accept a place that this user may write to, as `check` and before any work; write nothing.

        Raises
        ------
        InputError
            As `check`, or if it may not be written.
        """
        self.check()
        for path in (self.path, self.logs, self.path / ".lock"):
            there = next(one for one in (path, *path.absolute().parents) if one.exists())
            if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
                raise InputError(f"{there}: nothing can be written there; choose another --out")

    def create(self) -> None:
        """Make the folder, or accept one that an earlier run made.

        Raises
        ------
        InputError
            As `check`, or if it cannot be written.
        """
        self.check()
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be created ({error.strerror}); choose another --out"
            ) from error

    def read(self) -> RunRecord:
        """What ``run.json`` says.

        Raises
        ------
        InputError
            If this is not a run folder or its record cannot be read.
        """
        try:
            return RunRecord.from_json(read_content(self.record))
        except FileNotFoundError:
            raise InputError(f"{self.path}: is not a run folder (it has no run.json)") from None
        except InputError as error:
            raise InputError(
                f"{error}; restore it, or remove it and give the same iterreg run commands again: "
                "what is done is not done twice"
            ) from error

    def write(self, record: RunRecord) -> None:
        """Replace ``run.json``.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        try:
            write_json(self.record, record.to_json())
        except OSError as error:
            raise InputError(
                f"{self.record}: cannot be written ({error.strerror}); free space or choose another --out"
            ) from error


def sidecar_of(field: Path) -> Path:
    """Where the sidecar of a field lies: ``disp_FIX_MOV.json``."""
    return field.with_name(f"{field.name.partition('.nii')[0].removesuffix('.npz')}.json")


def read_sidecar(field: Path) -> Sidecar | None:
    """The provenance beside a field; None when there is none that can be read."""
    try:
        return Sidecar.from_json(read_content(sidecar_of(field)))
    except (FileNotFoundError, InputError):
        return None


def _remove(path: Path) -> None:
    """Make sure that nothing is there, whatever it was."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_foreign(path: Path) -> bool:
    """Whether something cannot come from a run, so that a folder without a run.json is none."""
    own = ("logs", ".lock", "inputs.json", "plan.json", "results.csv")
    return path.name not in own and ".partial." not in path.name and not (path / "jobs").is_dir()
