"""What a registration method is to iterreg.

A method is a small adapter: it resolves its parameters without importing its engine, estimates its
cost, and registers one pair inside a child process that `iterreg.batch` starts for it. Others add
theirs through the entry-point group ``iterreg.methods``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume

__all__ = [
    "Cost",
    "Method",
    "Momentum",
    "Parameters",
    "Registration",
    "Task",
    "identity",
    "refusal",
    "saves_momentum",
]


@dataclass(frozen=True)
class Parameters:
    """A method's resolved settings.

    Attributes
    ----------
    preset
        The name they are known by: a preset's, or the stem of the user's file.
    values
        Every setting that shapes the result, JSON-serialisable, defaults filled in. It is what the
        job's hash is made of.
    files
        The files they were read from, in order; copied into the run folder unchanged.
    notes
        What a user should know about them before the work starts, a sentence each: a setting without
        effect, say.
    """

    preset: str
    values: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a job is expected to take.

    Attributes
    ----------
    memory
        Peak resident bytes of the child, engine included.
    cpu_seconds
        User + system seconds on a current core; a rough figure for ETA and planning.
    """

    memory: int
    cpu_seconds: float


@dataclass(frozen=True)
class Task:
    """One pair, loaded, with the conditions to register it under.

    Attributes
    ----------
    fixed, moving
        float32 images; their grids may differ.
    fixed_mask, moving_mask
        Optional masks on the images' grids: voxels above zero take part in the similarity.
    threads
        Number of threads the engine may use. The process was started with it.
    seed
        Seeds every random choice of the engine.
    scratch
        An empty directory of this job's own, removed afterwards whatever happens.
    inverse
        Whether an inverse field is wanted too.
    """

    fixed: Volume
    moving: Volume
    scratch: Path
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    threads: int = 1
    seed: int = 1
    inverse: bool = False


class Momentum(Protocol):
    """What a field was integrated from, where an engine has such a thing."""

    def save(self, path: Path) -> None:
        """Write a ``.npz`` from which the engine makes the same field again."""
        ...


@dataclass(frozen=True)
class Registration:
    """What a method gives back.

    Attributes
    ----------
    field
        On the task's fixed grid.
    inverse
        On the moving grid when the engine computes one itself; otherwise None, and `iterreg`
        inverts `field` numerically where an inverse was asked for.
    details
        JSON-serialisable facts for the sidecar (stopping reasons, final metric …). Its ``warnings``, a
        list of sentences, are told to the user too.
    momentum
        Of a method that `saves_momentum`: saved beside the field where a run asks for it.
    """

    field: DisplacementField
    inverse: DisplacementField | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    momentum: Momentum | None = None


@runtime_checkable
class Method(Protocol):
    """The protocol every adapter follows. Adapters take no constructor arguments."""

    name: str
    """Its name on the command line and in run folders: lower case, no colon."""

    distributions: tuple[str, ...]
    """PyPI distributions whose versions shape its result, whatever the parameters (``("antspyx",)``)."""

    def parameters(self, source: str | None) -> Parameters:
        """Resolve a preset's name, the path of the user's parameter file, or None (the default preset).

        Several files in sequence are joined by ``+`` where a method allows it.

        Raises
        ------
        InputError
            If there is no such preset or file, or a setting is unknown or out of range.
        """
        ...

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        """Estimate a job without importing the engine."""
        ...

    def environment(self, threads: int) -> Mapping[str, str]:
        """Environment variables that hold the engine to `threads`; set before the engine is imported."""
        ...

    def warm(self) -> None:
        """Import the engine (in a parent whose children are forked afterwards).

        It must not start threads: they would not survive the fork.
        """
        ...

    def register(self, task: Task, parameters: Parameters) -> Registration:
        """Register one pair. Runs in a child process; standard output and error go to the job's log."""
        ...


def saves_momentum(method: Method) -> bool:
    """Whether a method's registrations come with a momentum: it says so by an attribute of this name."""
    return bool(getattr(method, "saves_momentum", False))


def identity(method: Method, parameters: Parameters) -> dict[str, str | int | float]:
    """What of code and software, besides its `distributions`, shapes a method's result under some parameters.

    It is a part of each job's hash: once it says something else, what was made before is not what is asked
    for any more. A method says it, without importing its engine, by an optional ``identity(parameters)``.

    Returns
    -------
    Name -> version, digest or number, the same in every process and on every machine with that code: no path,
    no time, no host. Users are told of a change as ``NAME 1.2 instead of 1.3``; a name that begins with
    ``code of`` holds a digest, and they are told ``other code of …``. A method whose result depends on the
    number of threads may say so here too; it is recorded and compared like the rest.
    """
    ask = getattr(method, "identity", None)
    return dict(ask(parameters)) if ask is not None else {}


def refusal(method: Method, parameters: Parameters, fixed: Grid, moving: Grid) -> str:
    """Why a method will not register images on these grids, as a sentence; empty where it will.

    A method says so, before any voxel is read, by an optional ``refusal(parameters, fixed, moving)``.
    """
    ask = getattr(method, "refusal", None)
    return str(ask(parameters, fixed, moving) or "") if ask is not None else ""
