"""Job arrays of workers: the script that a scheduler takes in one call."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from iterreg.batch.plan import Plan

__all__ = ["SCHEDULERS", "Array", "Scheduler", "array_for"]

_NOTICE_SECONDS = 60
"""Between a scheduler's notice and the end of a worker."""
_RESERVE = 2**30
"""For the warm engines of a worker beside its jobs."""
_SAFETY = 1.5
"""How much longer than estimated everything may take before workers are too few."""


@dataclass(frozen=True)
class Array:
    """What is asked of a scheduler: so many workers on a run folder, with so much each.

    Attributes
    ----------
    command
        Of a worker.
    logs
        The folder that takes what workers print.
    memory
        Bytes of a worker.
    seconds
        Wall time of a worker.
    extra
        More options, as the scheduler takes them.
    """

    name: str
    command: tuple[str, ...]
    logs: Path
    workers: int
    cores: int
    memory: int
    seconds: int
    extra: tuple[str, ...] = ()

    @property
    def mebibytes(self) -> int:
        return math.ceil(self.memory / 2**20)

    @property
    def clock(self) -> str:
        """The wall time as ``HH:MM:SS``."""
        minutes, seconds = divmod(self.seconds, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


def array_for(
    plan: Plan,
    folder: Path,
    *,
    command: tuple[str, ...],
    cores: int,
    seconds: int,
    workers: int | None = None,
    memory: int = 0,
    extra: tuple[str, ...] = (),
) -> Array:
    """The array that does a plan.

    Parameters
    ----------
    workers
        None: as many as the plan's estimate needs, and no more than there are jobs for.
    memory
        Bytes of a worker; 0: what the largest jobs take that run at once, and the engines.
    """
    threads = min(plan.settings.threads or 1, cores)
    at_once = max(1, cores // threads)
    if not memory:
        largest = max((planned.cost.memory for planned in plan.todo), default=0)
        memory = largest * at_once + _RESERVE * len(plan.arms)
    if workers is None:
        cpu = sum(planned.cost.cpu_seconds for planned in plan.todo)
        needed = math.ceil(_SAFETY * cpu / (cores * seconds))
        workers = max(1, min(needed, math.ceil(len(plan.todo) / at_once)))
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in folder.absolute().name)
    logs = folder.absolute() / "logs"
    return Array(f"iterreg-{name}"[:60], command, logs, workers, cores, memory, seconds, extra)


@dataclass(frozen=True)
class Scheduler:
    """How a scheduler takes arrays.

    Attributes
    ----------
    submit
        The command that takes the script on its standard input.
    mark
        What its options in a script begin with.
    options
        The options of an array.
    says_end
        Whether it tells a worker when it will be ended.
    """

    submit: tuple[str, ...]
    mark: str
    options: Callable[[Array], list[str]]
    says_end: bool = False

    def script(self, array: Array) -> str:
        """The whole script. The shell gives its place to the worker, which thereby gets every signal."""
        command = list(array.command)
        if not self.says_end:
            command += ["--until", f"+{array.seconds}s"]
        lines = [f"{self.mark} {option}" for option in (*self.options(array), *array.extra)]
        return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(command)}", ""])


def _slurm(array: Array) -> list[str]:
    return [
        f"--job-name={array.name}",
        f"--array=1-{array.workers}",
        "--ntasks=1",
        f"--cpus-per-task={array.cores}",
        f"--mem={array.mebibytes}M",
        f"--time={array.clock}",
        f"--signal=B:USR1@{_NOTICE_SECONDS}",
        f"--output={array.logs}/worker-%A-%a.txt",
    ]


def _pbs(array: Array) -> list[str]:
    # PBS knows no array of one.
    several = [f"-J 1-{array.workers}"] if array.workers > 1 else []
    return [
        f"-N {array.name[:15]}",
        *several,
        f"-l select=1:ncpus={array.cores}:mem={array.mebibytes}mb",
        f"-l walltime={array.clock}",
        "-j oe",
        f"-o {array.logs}/",
    ]


def _sge(array: Array) -> list[str]:
    per_slot = math.ceil(array.mebibytes / array.cores)
    return [
        f"-N {array.name}",
        f"-t 1-{array.workers}",
        "-S /bin/sh",
        *([f"-pe smp {array.cores}"] if array.cores > 1 else []),
        # Not h_vmem: it limits addresses, of which engines reserve far more than they use.
        f"-l mem_free={per_slot}M",
        f"-l h_rt={array.clock}",
        "-notify",
        "-j y",
        f"-o {array.logs}/",
    ]


def _lsf(array: Array) -> list[str]:
    minutes = math.ceil(array.seconds / 60)
    return [
        f'-J "{array.name}[1-{array.workers}]"',
        f"-n {array.cores}",
        f'-R "span[hosts=1] rusage[mem={array.mebibytes}MB]"',
        f"-M {array.mebibytes}MB",
        f"-W {minutes // 60:02d}:{minutes % 60:02d}",
        f"-o {array.logs}/worker-%J-%I.txt",
    ]


SCHEDULERS: Mapping[str, Scheduler] = {
    "slurm": Scheduler(("sbatch",), "#SBATCH", _slurm, says_end=True),
    "pbs": Scheduler(("qsub",), "#PBS", _pbs),
    "sge": Scheduler(("qsub",), "#$", _sge),
    "lsf": Scheduler(("bsub",), "#BSUB", _lsf),
}
