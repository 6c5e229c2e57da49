"""How a job ended (``status.json``), and the provenance that travels with its field (the sidecar)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iterreg.jobs.outcome import Outcome
from iterreg.runs.content import FORMAT, Content

__all__ = ["OUTPUTS", "UNREADABLE", "Attempt", "Folding", "JobStatus", "Sidecar", "WrittenFile"]

OUTPUTS = ("field", "inverse", "momentum", "warped", "labels", "jacobian", "logjacobian")
"""What a job may leave behind, by role."""

UNREADABLE = "unreadable"
"""The outcome of a job whose ``status.json`` cannot be read: it proves nothing, and says so."""


@dataclass(frozen=True)
class WrittenFile:
    """A file as it was written.

    Attributes
    ----------
    name, bytes, sha256
        Its name, size and digest; the digest is ``""`` when it was not recorded.
    facts
        What else is known of it: where an inverse comes from, the error it leaves.
    """

    name: str
    bytes: int
    sha256: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Content) -> WrittenFile:
        own = ("name", "bytes", "sha256")
        facts = {key: value for key, value in content.items() if key not in own}
        return cls(content.text("name"), content.need("bytes", int), content.text("sha256"), facts)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256, **self.facts}


@dataclass(frozen=True)
class Folding:
    """Folding of the field as it was read back from the disk, over `mask` (NDV, in percent).

    Attributes
    ----------
    lowest_at
        The voxel (i, j, k) of the lowest determinant; empty when the mask is.
    """

    ndv_percent: float | None = None
    folded_voxels: int | None = None
    lowest_determinant: float | None = None
    lowest_at: tuple[int, ...] = ()
    mask: str = ""

    @classmethod
    def from_json(cls, content: Content) -> Folding:
        place = content.get("lowest_at", list) or []
        return cls(
            content.get("ndv_percent", float),
            content.get("folded_voxels", int),
            content.get("lowest_determinant", float),
            tuple(place) if len(place) == 3 else (),
            content.text("mask"),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "ndv_percent": self.ndv_percent,
            "folded_voxels": self.folded_voxels,
            "lowest_determinant": self.lowest_determinant,
            "lowest_at": list(self.lowest_at) or None,
            "mask": self.mask,
        }


@dataclass(frozen=True)
class Attempt:
    """One try of a job."""

    outcome: str
    reason: str = ""
    wall_seconds: float = 0.0

    @classmethod
    def from_json(cls, content: Content) -> Attempt:
        wall = content.get("wall_seconds", float) or 0.0
        return cls(content.need("outcome", str), content.text("reason"), wall)

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "reason": self.reason, "wall_seconds": self.wall_seconds}


_TEXTS = ("reason", "hash", "version", "method", "preset", "pair", "case", "task", "finished", "host")
_WHOLE = ("seed", "threads", "threads_seen", "peak_bytes")
_NUMBERS = ("cpu_seconds", "wall_seconds", "warm_cpu_seconds")


@dataclass(frozen=True)
class JobStatus:
    """How a job ended. What was not recorded is None, or empty.

    Attributes
    ----------
    outcome, reason
        The class of its end, and a sentence where it did not end well.
    hash
        Names the job: method, parameters, seed, versions and the content of its inputs.
    version
        Names the method with its parameters, as ``run.json`` does: what every field of an arm must share.
    masks
        Sides whose masks the similarity was confined to; None in records of before.
    threads, threads_seen
        Threads that were allowed, and the most that were seen.
    cpu_seconds, wall_seconds, peak_bytes
        Of the job's own process; `cpu_seconds` of a job that ended well without those in which kernels were
        compiled, once for this machine, which stand in `seconds` as ``"compile"``.
    warm_cpu_seconds
        What loading the engine took, for all its jobs together.
    attempts
        Every try; the last one decided.
    files
        Role (see `OUTPUTS`) -> what was written.
    seconds
        Step -> wall seconds; of ``"compile"`` CPU seconds.
    """

    outcome: str
    reason: str = ""
    hash: str = ""
    version: str = ""
    method: str = ""
    preset: str = ""
    pair: str = ""
    case: str = ""
    task: str = ""
    seed: int | None = None
    masks: tuple[str, ...] | None = None
    threads: int | None = None
    threads_seen: int | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    peak_bytes: int | None = None
    warm_cpu_seconds: float | None = None
    attempts: tuple[Attempt, ...] = ()
    finished: str = ""
    host: str = ""
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    folding: Folding | None = None
    seconds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the job ended well."""
        return self.outcome == Outcome.OK

    @property
    def why(self) -> str:
        """The end in words, for a job that did not end well."""
        return f"{self.outcome}: {self.reason}"

    @classmethod
    def from_json(cls, content: Content) -> JobStatus:
        """Read what `to_json` made.

        Raises
        ------
        InputError
            Naming the file and the key that is not as it should be, or a version that is not known.
        """
        content.known_format()
        given: dict[str, Any] = {key: content.get(key, str) or "" for key in _TEXTS}
        given |= {key: content.get(key, int) for key in _WHOLE}
        given |= {key: content.get(key, float) for key in _NUMBERS}
        masks = content.get("masks", list)
        return cls(
            content.need("outcome", str),
            masks=None if masks is None else tuple(map(str, masks)),
            attempts=tuple(map(Attempt.from_json, content.objects("attempts"))),
            files={role: WrittenFile.from_json(content.inner(role)) for role in OUTPUTS if role in content},
            folding=Folding.from_json(content.inner("folding")) if "folding" in content else None,
            seconds=content.values("seconds"),
            **given,
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``status.json``."""
        return {
            "format": FORMAT,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "hash": self.hash,
            "version": self.version,
            "method": self.method,
            "preset": self.preset,
            "pair": self.pair,
            "case": self.case,
            "task": self.task,
            "seed": self.seed,
            "masks": None if self.masks is None else list(self.masks),
            "threads": self.threads,
            "threads_seen": self.threads_seen,
            "cpu_seconds": self.cpu_seconds,
            "wall_seconds": self.wall_seconds,
            "peak_bytes": self.peak_bytes,
            "warm_cpu_seconds": self.warm_cpu_seconds,
            "attempts": [one.to_json() for one in self.attempts],
            "finished": self.finished,
            "host": self.host,
            **{role: file.to_json() for role, file in self.files.items()},
            **({"folding": self.folding.to_json()} if self.folding else {}),
            **({"seconds": dict(self.seconds)} if self.seconds else {}),
        }


_CONVENTION = (
    "u in moving voxels on the fixed grid, components in array-axis order: moved(p) = moving(p + u(p))"
)


@dataclass(frozen=True)
class Sidecar:
    """The provenance that travels with a field.

    Attributes
    ----------
    status
        How its job ended.
    command
        The command line.
    parameters, parameter_files
        The values, and the names of the files they come from.
    versions, machine
        Of the code, and where it ran.
    inputs
        Role -> path and digest of each input.
    details
        What the method has to say.
    """

    status: JobStatus
    command: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parameter_files: tuple[str, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Content) -> Sidecar:
        """Read what `to_json` made.

        Raises
        ------
        InputError
            As `JobStatus.from_json`.
        """
        return cls(
            JobStatus.from_json(content),
            content.text("command"),
            content.values("parameters"),
            tuple(map(str, content.get("parameter_files", list) or [])),
            content.values("versions"),
            content.values("machine"),
            content.values("inputs"),
            content.values("details"),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of the sidecar: provenance and status on one level."""
        return {
            "convention": _CONVENTION,
            "command": self.command,
            "parameters": dict(self.parameters),
            "parameter_files": list(self.parameter_files),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
            "inputs": dict(self.inputs),
            "details": dict(self.details),
            **self.status.to_json(),
        }
