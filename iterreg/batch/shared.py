"""A plan that is made once and left in the run folder: its workers neither check nor hash images again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from iterreg.batch.arms import Arm
from iterreg.batch.plan import Plan, PlannedJob, Settings, State, arm_record, job_of, scheduled
from iterreg.dataset import Dataset
from iterreg.errors import InputError
from iterreg.jobs.atomic import write_text
from iterreg.methods.base import Cost, Parameters
from iterreg.methods.registry import load
from iterreg.runs import RunFolder, RunRecord
from iterreg.runs.content import FORMAT, Content, read_content

__all__ = ["leave_plan", "take_plan"]

_SHARED = ("threads", "timeout", "seed", "masks", "inverse", "momentum", "extras", "cold")
"""The settings that go with the plan; budgets and scratch are those of each worker."""


def leave_plan(plan: Plan, folder: RunFolder) -> None:
    """Write the jobs of a plan that are left to do; the run's record must hold its data set and arms.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    settings = asdict(plan.settings)
    content = {
        "format": FORMAT,
        "settings": {name: settings[name] for name in _SHARED},
        "arms": {
            arm.name: {
                "method": arm.method.name,
                "preset": arm.parameters.preset,
                "values": dict(arm.parameters.values),
                "files": [str(path.absolute()) for path in arm.parameters.files],
                "notes": list(arm.parameters.notes),
            }
            for arm in plan.arms
        },
        "jobs": list(map(_job, plan.todo)),
    }
    write_text(folder.plan, json.dumps(content))


def _job(planned: PlannedJob) -> dict[str, Any]:
    return {
        "arm": planned.job.arm.name,
        "pair": planned.job.pair.name,
        "state": planned.state,
        "memory": planned.cost.memory,
        "cpu_seconds": planned.cost.cpu_seconds,
        "hash": planned.hash,
        "output_bytes": planned.output_bytes,
        "seen": planned.seen,
        "labels_digest": planned.job.labels_digest,
    }


def take_plan(folder: RunFolder, settings: Settings) -> Plan:
    """The plan that was left in a run folder, with the budgets and the scratch folder of `settings`.

    Raises
    ------
    InputError
        If there is none or it cannot be read, or a method is of another version here than where it was made.
    """
    record = folder.read()
    try:
        content = read_content(folder.plan)
    except FileNotFoundError:
        raise InputError(
            f"{folder.path}: no plan was left there; make one with iterreg run … --plan-only"
        ) from None
    content.known_format()
    settings = _settings(content.inner("settings"), settings).resolved()
    arms = {
        name: _arm(name, content.inner("arms").inner(name), record, settings, folder)
        for name in content.inner("arms")
    }
    jobs = [_planned(one, arms, record, settings, folder) for one in content.objects("jobs")]
    pairs = tuple({job.job.pair.name: job.job.pair for job in jobs}.values())
    one = record.dataset
    dataset = Dataset(one.name, pairs, one.source, one.promised_shape, opened=one.opened)
    return scheduled(dataset, tuple(arms.values()), jobs, settings)


def _settings(content: Content, own: Settings) -> Settings:
    masks = content.need("masks", str)
    if masks not in ("none", "fixed", "moving", "both"):
        raise InputError(f"{content.where}: 'masks' is {masks!r}")
    return Settings(
        cores=own.cores,
        memory=own.memory,
        scratch=own.scratch,
        threads=own.threads or content.get("threads", int),
        timeout=content.get("timeout", float),
        seed=content.need("seed", int),
        masks=cast(Any, masks),
        inverse=content.need("inverse", bool),
        momentum=content.need("momentum", bool),
        extras=tuple(map(str, content.need("extras", list))),
        cold=content.need("cold", bool),
    )


def _arm(name: str, content: Content, record: RunRecord, settings: Settings, folder: RunFolder) -> Arm:
    files = tuple(Path(str(path)) for path in content.need("files", list))
    notes = tuple(map(str, content.need("notes", list)))
    parameters = Parameters(content.text("preset"), content.values("values"), files, notes)
    arm = Arm(name, load(content.need("method", str)), parameters)
    if name not in record.arms:
        raise InputError(f"{folder.plan}: has the arm {name}, which run.json has not; plan again")
    planned, here = record.arms[name], arm_record(arm, settings)
    if planned.version != here.version:
        differences = "; ".join(planned.differs_from(here)) or "other code"
        raise InputError(
            f"{folder.plan}: was made for another {name} ({differences}); install what it was made with "
            "here too, or plan again"
        )
    return arm


def _planned(
    content: Content, arms: dict[str, Arm], record: RunRecord, settings: Settings, folder: RunFolder
) -> PlannedJob:
    arm, pair = arms.get(content.need("arm", str)), record.by_name.get(content.need("pair", str))
    if arm is None or pair is None:
        raise InputError(f"{content.where}: its arm or pair is not in run.json; plan again")
    return PlannedJob(
        job_of(arm, pair, settings, labels_digest=content.text("labels_digest")),
        folder.arm(arm.name).job(pair.name),
        cast(State, content.need("state", str)),
        cost=Cost(content.need("memory", int), content.need("cpu_seconds", float)),
        hash=content.need("hash", str),
        output_bytes=content.need("output_bytes", int),
        seen=content.need("seen", int),
    )
