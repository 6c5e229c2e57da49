"""The run folder is the database: this module names every file in it.

::

    RUN/
      run.json                      what was asked: data set, arms, versions, command (per invocation)
      inputs.json                   digests of the input files, by size and time, so that a resume is instant
      results.csv                   one row per job
      logs/                         one log per warm engine
      <arm>/                        one method with one set of parameters, e.g. syn-cheap
        parameters/                 the parameter files as they were used
        fields/disp_FIX_MOV.nii.gz  in the challenge's format, with a .json sidecar each
        inverse/disp_FIX_MOV.nii.gz on request: moving -> fixed, on the moving grid
        momentum/FIX_MOV.npz        on request: what `iterreg lddmm shoot` makes both fields of again
        jobs/FIX_MOV/status.json    how it ended, the only proof that a job is done
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
from iterreg.jobs.atomic import move, write_json
from iterreg.jobs.claims import hold

__all__ = ["ArmFolder", "JobFolder", "RunFolder"]

_FORMAT = 1


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
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def field(self) -> Path:
        return self.arm.fields / f"disp_{self.pair}.nii.gz"

    @property
    def sidecar(self) -> Path:
        return self.arm.fields / f"disp_{self.pair}.json"

    @property
    def inverse(self) -> Path:
        return self.arm.path / "inverse" / f"disp_{self.pair}.nii.gz"

    @property
    def momentum(self) -> Path:
        return self.arm.path / "momentum" / f"{self.pair}.npz"

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
        for path in self.folder.glob(".discarded-*"):
            shutil.rmtree(path, ignore_errors=True)
        for pattern in (".*.partial.*", ".clock-*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def begin(self) -> None:
        """Make room for an attempt.

        The status goes first: from here on nothing claims that the job is done. Then what it proved,
        so that a field in its place always belongs to the status beside it.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        for path in (self.status, self.sidecar, self.field, self.inverse, self.momentum):
            if path.exists():
                path.replace(self.unfinished / "old")
        for path in self.unfinished.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (self.unfinished / "inverse").mkdir()

    def discard(self) -> None:
        """Remove what this owner has written so far."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def finish(self, status: Mapping[str, Any], sidecar: Mapping[str, Any] | None) -> None:
        """Put an end in its place: a verified field with its sidecar and what was asked for beside it, if it
        ended well, and then the status that proves it.

        Raises
        ------
        FileNotFoundError
            If another owner has fenced this one off.
        """
        if sidecar is not None:
            write_json(self.draft(self.sidecar), sidecar)
            for target in (self.inverse, self.momentum, self.sidecar, self.field):
                source = self.draft(target)
                if source.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    move(source, target)
        write_json(self.draft(self.status), status)
        move(self.draft(self.status), self.status)
        self.discard()

    def read_status(self) -> dict[str, Any] | None:
        """The job's last recorded end, None when there is none or it cannot be read."""
        try:
            status = json.loads(self.status.read_text())
        except (OSError, ValueError):
            return None
        return status if isinstance(status, dict) else None


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

    def jobs(self) -> Iterator[JobFolder]:
        """Every job that has a folder, sorted by name."""
        folder = self.path / "jobs"
        if folder.is_dir():
            for entry in sorted(folder.iterdir()):
                if entry.is_dir():
                    yield JobFolder(self, entry.name)


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

    def read(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises
        ------
        InputError
            If this is not a run folder or its record cannot be read.
        """
        try:
            record = json.loads(self.record.read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path}: is not a run folder (it has no run.json)") from None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.record}: cannot be read ({error}); restore it or start a new run"
            ) from error
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise InputError(f"{self.record}: was written by another version of iterreg; start a new run")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace ``run.json``.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        try:
            write_json(self.record, {"format": _FORMAT, **record})
        except OSError as error:
            raise InputError(
                f"{self.record}: cannot be written ({error.strerror}); free space or choose another --out"
            ) from error


def _is_foreign(path: Path) -> bool:
    """Whether a file cannot come from a run that ended before it had written its run.json."""
    return path.name not in ("logs", ".lock") and ".partial." not in path.name
