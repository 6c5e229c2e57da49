"""The unregistered baseline: every point stays where it is in the world."""

from __future__ import annotations

from collections.abc import Mapping

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.methods.base import Cost, Parameters, Registration, Task
from iterreg.methods.code import code_digest
from iterreg.volume import Grid

__all__ = ["Identity"]


class Identity:
    """Zero displacement in the world, the row every table starts with."""

    name = "identity"
    distributions: tuple[str, ...] = ()

    def parameters(self, source: str | None) -> Parameters:
        if source is not None:
            raise InputError(f"the identity takes no parameters, got {source!r}")
        return Parameters(preset="", values={})

    def identity(self, parameters: Parameters) -> Mapping[str, str]:
        return {"code of identity": code_digest("iterreg.methods.identity")}

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        return Cost(memory=100 * 2**20 + 30 * fixed.size + 8 * moving.size, cpu_seconds=1.0)

    def environment(self, threads: int) -> Mapping[str, str]:
        return {}

    def warm(self) -> None:
        return None

    def register(self, task: Task, parameters: Parameters) -> Registration:
        fixed, moving = task.fixed.grid, task.moving.grid
        return Registration(
            field=DisplacementField.identity(fixed, moving),
            inverse=DisplacementField.identity(moving, fixed) if task.inverse else None,
        )
