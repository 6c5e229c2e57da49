"""A job as a file: all that a process needs to know to do it, wherever that process runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iterreg.methods.base import Parameters
from iterreg.runs.content import FORMAT, Content, read_content

__all__ = ["JobSpec"]


@dataclass(frozen=True)
class JobSpec:
    """The content of ``spec.json``: what is to be made of a pair, and what that may take.

    Attributes
    ----------
    method, preset, values, files
        The method and its parameters.
    inputs
        Role (``fixed``, ``moving``, ``fixed_mask``, ``moving_mask``) -> image.
    seed, threads
        Given to the engine.
    outputs
        Role (see `iterreg.runs.status.OUTPUTS`) -> file to be written, relative to the folder of the attempt.
    verified_field
        The verified field that the outputs are made of; None where the pair is to be registered.
    labels, labels_digest
        The moving label map, and the digest of its content where it is warped.
    memory
        Bytes it is expected to take.
    alone
        Whether it gets the whole machine: it lacked memory once.
    output_bytes
        Largest size of what it writes.
    timeout
        Wall seconds, None for no limit.
    cold
        Whether it starts in a fresh interpreter instead of a warm engine.
    """

    method: str
    inputs: Mapping[str, Path]
    outputs: Mapping[str, str]
    preset: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    seed: int = 1
    threads: int = 1
    verified_field: Path | None = None
    labels: Path | None = None
    labels_digest: str = ""
    memory: int = 0
    alone: bool = False
    output_bytes: int = 0
    timeout: float | None = None
    cold: bool = False

    @property
    def parameters(self) -> Parameters:
        """The method's parameters."""
        return Parameters(self.preset, self.values, self.files)

    @classmethod
    def read(cls, path: Path) -> JobSpec:
        """Read a ``spec.json``.

        Raises
        ------
        FileNotFoundError
            If there is none.
        InputError
            If it cannot be read, naming the key that is not as it should be.
        """
        return cls.from_json(read_content(path))

    @classmethod
    def from_json(cls, content: Content) -> JobSpec:
        content.known_format()
        return cls(
            content.need("method", str),
            {role: Path(path) for role, path in content.texts("inputs").items()},
            content.texts("outputs"),
            content.text("preset"),
            content.values("values"),
            tuple(Path(str(name)) for name in content.get("files", list) or ()),
            content.need("seed", int),
            content.need("threads", int),
            content.path("verified_field"),
            content.path("labels"),
            content.text("labels_digest"),
            content.get("memory", int) or 0,
            content.get("alone", bool) or False,
            content.get("output_bytes", int) or 0,
            content.get("timeout", float),
            content.get("cold", bool) or False,
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``spec.json``; every path is absolute."""

        def path(one: Path | None) -> str | None:
            return None if one is None else str(one.absolute())

        return {
            "format": FORMAT,
            "method": self.method,
            "preset": self.preset,
            "values": dict(self.values),
            "files": [path(one) for one in self.files],
            "inputs": {role: path(one) for role, one in self.inputs.items()},
            "outputs": dict(self.outputs),
            "seed": self.seed,
            "threads": self.threads,
            "verified_field": path(self.verified_field),
            "labels": path(self.labels),
            "labels_digest": self.labels_digest,
            "memory": self.memory,
            "alone": self.alone,
            "output_bytes": self.output_bytes,
            "timeout": self.timeout,
            "cold": self.cold,
        }
