"""What is to be done: arms (a method with one set of parameters) and jobs (an arm on a pair)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import iterreg
from iterreg.dataset.base import Pair
from iterreg.jobs.hashing import digest
from iterreg.methods.base import Method, Parameters, identity
from iterreg.methods.code import shared_digest
from iterreg.methods.registry import load

__all__ = ["Arm", "Job", "MaskUse", "parse_arm", "versions"]

MaskUse = Literal["none", "fixed", "moving", "both"]


@dataclass(frozen=True, eq=False)
class Arm:
    """A method with one set of parameters.

    Attributes
    ----------
    name
        Its folder in the run: ``method`` or ``method-preset``.
    """

    name: str
    method: Method
    parameters: Parameters

    @cached_property
    def software(self) -> Mapping[str, str]:
        """Code and versions that shape this arm's results: name -> digest or version.

        iterreg's own version is none of them: its code is digested where it counts.
        """
        said = identity(self.method, self.parameters)
        return {
            "code of images and fields": shared_digest(),
            **{name: _version(name) for name in self.method.distributions},
            **{name: str(value) for name, value in said.items()},
        }

    def identity(self, software: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What shapes this arm's results, apart from the images and the seed.

        Parameters
        ----------
        software
            In place of its own: what it would be with other code.
        """
        return {
            "method": self.method.name,
            "values": dict(self.parameters.values),
            "versions": dict(self.software if software is None else software),
        }

    def version(self, seed: int) -> str:
        """Names what every field of the arm must share: method, values, software and seed."""
        return digest({**self.identity(), "seed": seed})


def parse_arm(text: str) -> Arm:
    """Read ``method``, ``method:preset`` or ``method:path/to/file`` (files in sequence joined by ``+``).

    Raises
    ------
    InputError
        If there is no such method, preset or file, a parameter is wrong, or the package that provides the
        method is broken.
    """
    name, _, source = text.partition(":")
    method = load(name)
    parameters = method.parameters(source or None)
    label = f"{name}-{parameters.preset}" if parameters.preset else name
    safe = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in label)
    return Arm(safe, method, parameters)


def versions(method: Method) -> dict[str, str]:
    """Versions of iterreg and of the distributions whose code shapes the method's result."""
    return {"iterreg": iterreg.__version__} | {name: _version(name) for name in method.distributions}


@cache
def _version(distribution: str) -> str:
    return version(distribution)


@dataclass(frozen=True)
class Job:
    """One pair to be registered by one arm.

    Attributes
    ----------
    inverse, momentum
        Whether these are written beside the field.
    extras
        What else is (see `iterreg.batch.extras.EXTRAS`): as far as the pair has what they are made of.
    labels_digest
        Names the content of the moving label map, where it is warped.
    """

    arm: Arm
    pair: Pair
    seed: int
    masks: MaskUse
    inverse: bool
    momentum: bool = False
    extras: tuple[str, ...] = ()
    labels_digest: str = ""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Roles of the files it leaves behind (see `iterreg.runs.status.OUTPUTS`)."""
        beside = {"inverse": self.inverse, "momentum": self.momentum}
        return ("field", *(role for role, wanted in beside.items() if wanted), *self.extras)

    @property
    def fixed_mask(self) -> Path | None:
        return self.pair.fixed.mask if self.masks in ("fixed", "both") else None

    @property
    def moving_mask(self) -> Path | None:
        return self.pair.moving.mask if self.masks in ("moving", "both") else None

    @property
    def masks_used(self) -> tuple[str, ...]:
        """The sides whose masks the similarity is confined to."""
        sides = {"fixed": self.fixed_mask, "moving": self.moving_mask}
        return tuple(side for side, mask in sides.items() if mask is not None)

    def inputs(self) -> dict[str, Path]:
        """The files whose content shapes the result."""
        named = {
            "fixed": self.pair.fixed.path,
            "moving": self.pair.moving.path,
            "fixed_mask": self.fixed_mask,
            "moving_mask": self.moving_mask,
        }
        return {role: path for role, path in named.items() if path is not None}

    def hash(self, digests: Callable[[Path], str], software: Mapping[str, str] | None = None) -> str:
        """Names this very job: method, parameters, software, seed and the content of its inputs.

        Parameters
        ----------
        software
            See `Arm.identity`.
        """
        inputs = {role: digests(path) for role, path in self.inputs().items()}
        return digest({**self.arm.identity(software), "seed": self.seed, "inputs": inputs})
