"""Turns a data set and methods into jobs, and says what they cost and what is already done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from iterreg.batch.arms import Arm, Job, MaskUse
from iterreg.batch.extras import EXTRAS
from iterreg.dataset.base import Dataset, Pair
from iterreg.errors import InputError
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import Outcome
from iterreg.jobs.resources import available_cores, available_memory, format_bytes, total_memory
from iterreg.methods import presets
from iterreg.methods.base import Cost, refusal, saves_momentum
from iterreg.methods.presets import kept_names
from iterreg.runs import ArmRecord, JobFolder, JobStatus, RunFolder, RunRecord
from iterreg.runs.record import DatasetRecord
from iterreg.runs.survey import damage
from iterreg.volume import Grid, read_grid

__all__ = [
    "Plan",
    "PlannedJob",
    "Settings",
    "State",
    "arm_record",
    "job_of",
    "make_plan",
    "progress",
    "refuse_other_dataset",
    "scheduled",
]


@dataclass(frozen=True)
class Settings:
    """How a batch is run.

    Attributes
    ----------
    cores, memory
        The budgets of this process: cores, and bytes shared by all jobs running at once.
    threads
        Threads per job; None lets the plan choose (see `make_plan`).
    timeout
        Wall seconds per job, None for no limit.
    seed
        Given to every engine.
    masks
        Which of the data set's masks the similarity is confined to.
    inverse
        Whether inverse fields are written too.
    momentum
        Whether the methods that have a momentum save it too.
    extras
        What else is saved of every pair: roles of `iterreg.batch.extras.EXTRAS`.
    cold
        Start each job in a fresh interpreter instead of a warm engine (for honest timing of a single run).
    scratch
        Where temporary folders are made; None for the system's.
    keep_changed
        Keep results that differ from what is asked by the software alone that made them.
    """

    cores: int = 0
    memory: int = 0
    threads: int | None = None
    timeout: float | None = None
    seed: int = 1
    masks: MaskUse = "none"
    inverse: bool = False
    momentum: bool = False
    extras: tuple[str, ...] = ()
    cold: bool = False
    scratch: Path | None = None
    keep_changed: bool = False

    def resolved(self) -> Settings:
        """These settings with zero budgets replaced by what is free, and no more than there is."""
        cores = available_cores()
        return replace(
            self,
            cores=min(self.cores or cores, cores),
            memory=min(self.memory or int(0.9 * available_memory()), total_memory()),
        )


State = Literal["done", "kept", "new", "again", "changed", "extended", "refused"]


_NO_COST = Cost(memory=0, cpu_seconds=0.0)
_BYTES_PER_VECTOR = 12
_SECONDS_OF_EXTRAS = 3e-7
"""CPU for each voxel of the fixed grid, measured; they take no more memory than the field's check."""


@dataclass(frozen=True, eq=False)
class PlannedJob:
    """A job with what is known before it runs.

    Attributes
    ----------
    state
        ``done``: its status and hash prove it; ``kept``: done but for the software, and that is allowed;
        ``new``: never run; ``again``: it failed or was cut off; ``changed``: done, but with other parameters,
        software or inputs; ``extended``: done, but files are wanted that are made of its field; ``refused``:
        it cannot run here.
    why
        A sentence for every state but done and new.
    keepable
        Whether a changed job could be kept: other software alone made it.
    output_bytes
        Largest size of the files it writes.
    seen
        Modification time of the status it was planned by, in ns; 0 when there was none.
    refusal
        The class of a refused job's end.
    """

    job: Job
    folder: JobFolder
    state: State
    why: str = ""
    cost: Cost = _NO_COST
    hash: str = ""
    output_bytes: int = 0
    seen: int = 0
    refusal: Outcome = Outcome.BAD_INPUT
    keepable: bool = False


_TODO: tuple[State, ...] = ("new", "again", "changed", "extended")
"""The states of jobs that are left to do."""


@dataclass(frozen=True)
class Plan:
    """Every job of a run, in the order they will be started."""

    dataset: Dataset
    arms: tuple[Arm, ...]
    jobs: tuple[PlannedJob, ...]
    settings: Settings
    threads: int
    parallel: int

    def in_state(self, *states: State) -> tuple[PlannedJob, ...]:
        """The jobs in any of these states."""
        return tuple(job for job in self.jobs if job.state in states)

    @property
    def todo(self) -> tuple[PlannedJob, ...]:
        """The jobs that will run."""
        return self.in_state(*_TODO)

    @property
    def wall_seconds(self) -> float:
        """Rough duration of what is left."""
        cpu = sum(planned.cost.cpu_seconds for planned in self.todo)
        return cpu / max(1, min(self.parallel * self.threads, self.settings.cores))


def make_plan(
    dataset: Dataset,
    arms: Sequence[Arm],
    folder: RunFolder,
    settings: Settings,
    *,
    digests: FileDigests | None = None,
) -> Plan:
    """Plan every pair with every arm.

    Threads per job, unless given: one per job while there are jobs and memory enough to keep all cores busy
    (the best throughput), otherwise the cores are shared out among the jobs that can run at once.

    Raises
    ------
    InputError
        If two arms would share a folder, or two pairs a field's name; if no arm has a momentum, or no pair
        labels, to save; if the run is of another data set, or an arm would hold fields of two versions of
        its parameters.
    """
    settings = settings.resolved()
    _refuse_collisions(arms, dataset.pairs)
    record = None
    if folder.record.exists():
        record = folder.read()
        refuse_other_dataset(record, dataset, folder)
        for arm in arms:
            _refuse_two_versions(arm, record, dataset.pairs, folder, settings)
    if settings.momentum and not any(saves_momentum(arm.method) for arm in arms):
        raise InputError(
            f"no method of {', '.join(arm.name for arm in arms)} has a momentum to save; "
            "leave out --save-momentum, or add --method lddmm"
        )
    if "labels" in settings.extras and not any(pair.moving.labels for pair in dataset.pairs):
        raise InputError(
            f"{dataset.source}: no moving image has a label map to warp; leave out --save labels, or see "
            "with iterreg check why none is found"
        )
    digests = digests or FileDigests()
    look = _Planner(folder, record, settings, digests, dataset.promised_shape)
    planned = [look(job_of(arm, pair, settings)) for arm in arms for pair in dataset.pairs]
    return scheduled(dataset, tuple(arms), planned, settings)


def job_of(arm: Arm, pair: Pair, settings: Settings, *, labels_digest: str = "") -> Job:
    """What the settings ask of an arm and a pair."""
    return Job(
        arm,
        pair,
        settings.seed,
        settings.masks,
        settings.inverse,
        settings.momentum and saves_momentum(arm.method),
        tuple(role for role in settings.extras if role != "labels" or pair.moving.labels),
        labels_digest,
    )


def scheduled(
    dataset: Dataset, arms: tuple[Arm, ...], planned: Sequence[PlannedJob], settings: Settings
) -> Plan:
    """The plan of these jobs with the threads of each, and how many run at a time."""
    todo = [entry for entry in planned if entry.state in _TODO]
    threads, parallel = _share_cores(todo, settings)
    return Plan(dataset, arms, tuple(planned), settings, threads, parallel)


def _refuse_collisions(arms: Sequence[Arm], pairs: Iterable[Pair]) -> None:
    seen: dict[str, Arm] = {}
    for arm in arms:
        if arm.name in seen:
            raise InputError(
                f"two methods would write into the same folder {arm.name!r}; rename a parameter file"
            )
        seen[arm.name] = arm
    names: set[str] = set()
    for pair in pairs:
        if pair.name in names:
            raise InputError(
                f"two pairs would write the same field disp_{pair.name}.nii.gz; "
                "give their images distinct ids (iterreg check names them)"
            )
        names.add(pair.name)


def arm_record(arm: Arm, settings: Settings, before: ArmRecord | None = None) -> ArmRecord:
    """What ``run.json`` will say of an arm, of which it said `before` until now."""
    digests = FileDigests()
    now = ArmRecord(
        method=arm.method.name,
        preset=arm.parameters.preset,
        values=dict(arm.parameters.values),
        seed=settings.seed,
        masks=settings.masks,
        software=arm.software,
        files=dict(zip(kept_names(arm.parameters.files), map(digests, arm.parameters.files), strict=True)),
        notes=arm.parameters.notes,
        version=arm.version(settings.seed),
    ).after(before)
    return now.keeping() if settings.keep_changed else now


def refuse_other_dataset(record: RunRecord, dataset: Dataset, folder: RunFolder) -> None:
    """A run folder takes one data set: fields of another would overwrite those of equal ids.

    Raises
    ------
    InputError
        If the run is of another data set.
    """
    other = DatasetRecord.of(dataset)
    if not record.dataset.is_same(other):
        raise InputError(
            f"{folder.path}: is a run of the data set {record.dataset}, and a run folder takes one; "
            f"name another folder with --out for {other}"
        )


def _refuse_two_versions(
    arm: Arm, record: RunRecord, pairs: Iterable[Pair], folder: RunFolder, settings: Settings
) -> None:
    """An arm is one method: what it is asked for now must leave no field of its other pairs behind."""
    before = record.arms.get(arm.name)
    now = arm_record(arm, settings, before)
    if before is None or not any(now.differs_from(before)):
        return
    asked = {pair.name for pair in pairs}
    kept = [
        job.pair
        for job in folder.arm(arm.name).jobs()
        if job.pair not in asked
        and (status := job.read_status()) is not None
        and status.ok
        and not now.made(
            status if status.version else replace(status, version="unknown"), record.by_name.get(job.pair)
        )
    ]
    if kept:
        others = f"{', '.join(kept[:3])}{' …' if len(kept) > 3 else ''}"
        software_alone = before.version in [one.version for one in now.alike()]
        keep = "keep those with --keep-changed, " if software_alone else ""
        raise InputError(
            f"{folder.arm(arm.name).path}: would hold two versions of {arm.name}: {len(kept)} of its fields "
            f"({others}) were made with {'; '.join(now.differs_from(before))}, and they are not among the "
            f"pairs asked for now. Run all pairs to make them again, {keep}go on as before, or keep both: "
            "give the parameter file another name, or another folder with --out"
        )


@dataclass(frozen=True)
class _Alike:
    """What an arm was before, with the same parameters and seed, and in words how its software differs."""

    version: str
    software: Mapping[str, str]
    words: str


def _alike(record: ArmRecord) -> list[_Alike]:
    return [
        _Alike(one.version, one.software, "; ".join(record.differs_from(replace(one, masks=record.masks))))
        for one in record.alike()
    ]


class _Planner:
    """Looks at one job after another; reads each header, and asks for each arm's identity and costs, once."""

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord | None,
        settings: Settings,
        digests: FileDigests,
        promised_shape: tuple[int, int, int] | None,
    ) -> None:
        self._folder = folder
        self._record = cache(
            lambda arm: arm_record(arm, settings, record.arms.get(arm.name) if record else None)
        )
        self._alike = cache(lambda arm: _alike(self._record(arm)))
        self._promised = Grid(promised_shape) if promised_shape is not None else None
        self._settings = settings
        self._digests = cache(digests)
        self._grid = cache(read_grid)
        self._cost = cache(lambda arm, fixed, moving: arm.method.cost(arm.parameters, fixed, moving))
        self._refusal = cache(lambda arm, fixed, moving: refusal(arm.method, arm.parameters, fixed, moving))
        self._too_large = cache(lambda *job: _does_not_fit(settings, *job))

    def __call__(self, job: Job) -> PlannedJob:
        where = self._folder.arm(job.arm.name).job(job.pair.name)
        try:
            fixed, moving = self._grid(job.pair.fixed.path), self._grid(job.pair.moving.path)
            identity = job.hash(self._digests)
            if "labels" in job.extras and job.pair.moving.labels:
                job = replace(job, labels_digest=self._digests(job.pair.moving.labels))
        except InputError as error:
            # What the images would cost can be told before they are there, if their shape is promised.
            grid = self._promised
            cost = self._cost(job.arm, grid, grid) if grid is not None else _NO_COST
            return PlannedJob(job, where, "refused", str(error), cost)
        cost = self._cost(job.arm, fixed, moving)
        frame = _frame_memory(fixed, moving, job.inverse)
        cost = replace(cost, memory=max(cost.memory, frame))
        seen = where.status_stamp()
        status = where.read_status()
        state, why = _progress(where, status, identity, job)
        keepable = False
        if state == "changed" and status is not None:
            why, keepable = self._otherwise(job, status)
            if keepable and self._settings.keep_changed:
                state, lacking = _left(where, status, job)
                state, why = ("kept", why) if state == "done" else (state, lacking)
        if state == "extended":
            cost = Cost(memory=frame, cpu_seconds=_SECONDS_OF_EXTRAS * fixed.size)
        if state not in ("done", "kept", "extended") and (sentence := self._unsuitable(job, fixed, moving)):
            return PlannedJob(job, where, "refused", sentence)
        if state not in ("done", "kept") and cost.memory > self._settings.memory:
            state, why = "refused", self._too_large(job.arm, cost.memory, fixed, moving)
        files = fixed.size + job.inverse * moving.size + job.momentum * fixed.size
        size = _BYTES_PER_VECTOR * files + 4 * fixed.size * len(job.extras)
        return PlannedJob(job, where, state, why, cost, identity, size, seen, Outcome.OUT_OF_MEMORY, keepable)

    def _otherwise(self, job: Job, status: JobStatus) -> tuple[str, bool]:
        """How a job was done otherwise than is asked now, and whether it was by other software alone."""
        record, content = self._record(job.arm), "its images or masks had other content"
        alike = [one for one in self._alike(job.arm) if status.version in ("", one.version)]
        for one in alike:
            if status.hash == job.hash(self._digests, one.software):
                return f"it was made with {one.words}", True
        if not status.version:
            return "it was done with other parameters, versions or inputs", False
        if status.version == record.version and status.masks in (None, job.masks_used):
            return content, False
        return f"it was made with {record.differences(status)}{f'; {content}' if alike else ''}", False

    def _unsuitable(self, job: Job, fixed: Grid, moving: Grid) -> str:
        """What the headers say against a job, as a sentence; empty where nothing does."""
        for mask, grid in ((job.fixed_mask, fixed), (job.moving_mask, moving)):
            if mask is not None and not self._grid(mask).matches(grid):
                return f"{mask}: lies on another grid than its image; resample the mask onto its image"
        sentence = self._refusal(job.arm, fixed, moving)
        return f"{job.pair.fixed.path} <- {job.pair.moving.path}: {sentence}" if sentence else ""


def progress(where: JobFolder, identity: str, job: Job) -> tuple[State, str]:
    """Whether a job's status proves it done, and why not."""
    return _progress(where, where.read_status(), identity, job)


def _progress(where: JobFolder, status: JobStatus | None, identity: str, job: Job) -> tuple[State, str]:
    if status is None:
        return ("again", "it was begun but never ended") if where.log.exists() else ("new", "")
    if not status.ok:
        return "again", status.why
    if status.hash != identity:
        return "changed", "it was done with other parameters, versions or inputs"
    return _left(where, status, job)


def _left(where: JobFolder, status: JobStatus, job: Job) -> tuple[State, str]:
    """What a job lacks whose field is the one that is asked for."""
    lacking = []
    for role in job.outputs:
        written = status.files.get(role)
        path = where.outputs[role]
        stale = role == "labels" and written is not None and written.facts.get("of") != job.labels_digest
        if stale or written is None or damage(path, written, verify=False):
            if role == "field":
                return "again", f"{path.name} is missing or not the file that was written"
            lacking.append(role)
    if not lacking:
        return "done", ""
    first = {"inverse": "inverse field", **EXTRAS}.get(lacking[0], lacking[0])
    why = f"its {first} is wanted too"
    return ("extended" if all(role in EXTRAS for role in lacking) else "again"), why


def _frame_memory(fixed: Grid, moving: Grid, inverse: bool) -> int:
    """What every job takes to load, write, read back and verify, whatever its method; measured."""
    return 150 * 2**20 + 45 * fixed.size + (60 * moving.size if inverse else 0)


def _does_not_fit(settings: Settings, arm: Arm, memory: int, fixed: Grid, moving: Grid) -> str:
    fitting = []
    for name in presets.names(arm.method.name):
        other = arm.method.cost(arm.method.parameters(name), fixed, moving)
        if other.memory <= settings.memory:
            fitting.append(f"{arm.method.name}:{name} ({format_bytes(other.memory)})")
    instead = f", or use {', '.join(fitting)}" if fitting else ""
    enough = f"--memory {math.ceil(memory / 2**20)}M"
    where = "" if memory <= total_memory() else " on a machine that has it"
    return (
        f"needs about {format_bytes(memory)} of memory and {format_bytes(settings.memory)} are allowed; "
        f"set {enough}{where}{instead}"
    )


def _share_cores(todo: Sequence[PlannedJob], settings: Settings) -> tuple[int, int]:
    largest = max((entry.cost.memory for entry in todo), default=1)
    by_memory = max(1, settings.memory // max(largest, 1))
    if settings.threads:
        threads = min(settings.threads, settings.cores)
        return threads, max(1, min(settings.cores // threads, by_memory, len(todo) or 1))
    parallel = max(1, min(settings.cores, by_memory, len(todo) or 1))
    return settings.cores // parallel, parallel
