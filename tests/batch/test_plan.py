"""Planning: what is done, what it costs, what cannot run; fast for tens of thousands of jobs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.batch import plan as planning
from iterreg.batch.arms import Arm, parse_arm
from iterreg.batch.plan import Plan, Settings, arm_record, make_plan
from iterreg.batch.records import write_results
from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.errors import InputError
from iterreg.jobs.hashing import FileDigests
from iterreg.methods.base import Cost, Parameters
from iterreg.methods.identity import Identity
from iterreg.runs import JobFolder, RunFolder, RunRecord
from iterreg.runs.record import DatasetRecord
from iterreg.volume import Grid

GIB = 2**30


class Priced(Identity):
    """The identity at a price that its parameters name."""

    name = "priced"

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        return Cost(memory=parameters.values["memory"], cpu_seconds=parameters.values.get("seconds", 10.0))


def arm(memory: int = GIB, name: str = "priced", **values: Any) -> Arm:
    return Arm(name, Priced(), Parameters("", {"memory": memory, **values}))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path, 3)


def make_dataset(folder: Path, scans: int, first: int | None = None) -> Dataset:
    made = []
    for number in range(scans):
        path = folder / f"image{number:03d}.nii.gz"
        array = np.random.default_rng(number).random((6, 5, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        made.append(Scan(path, f"{number:03d}"))
    pairs = [Pair(f, m) for f in made for m in made if f is not m]
    return Dataset("tiny", tuple(pairs[:first]), folder)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 8 cores and 64 GiB, wherever the tests run."""
    monkeypatch.setattr(planning, "available_cores", lambda: 8)
    monkeypatch.setattr(planning, "available_memory", lambda: 60 * GIB)
    monkeypatch.setattr(planning, "total_memory", lambda: 64 * GIB)


def states(plan: Plan) -> list[str]:
    return [planned.state for planned in plan.jobs]


def pretend(plan: Plan, **status: Any) -> None:
    """Leave behind what a run would have: a status and a field for every job."""
    for planned in plan.jobs:
        pretend_one(planned.folder, planned.hash, **status)


def pretend_one(job: JobFolder, digest: str, **status: Any) -> None:
    content = b"a field"
    for path in (job.status, job.field, job.inverse):
        path.parent.mkdir(parents=True, exist_ok=True)
    job.field.write_bytes(content)
    facts = {
        "outcome": "ok",
        "reason": "",
        "hash": digest,
        "field": {"name": job.field.name, "bytes": len(content)},
    }
    job.status.write_text(json.dumps({**facts, **status}))


# -- what is done -----------------------------------------------------------------------------------


def test_done_is_a_status_with_the_same_hash_and_the_field_it_names(
    dataset: Dataset, folder: RunFolder
) -> None:
    plan = make_plan(dataset, [arm()], folder, Settings())
    assert states(plan) == ["new"] * 6
    pretend(plan)
    assert states(make_plan(dataset, [arm()], folder, Settings())) == ["done"] * 6


@pytest.mark.parametrize(
    ("other_arm", "settings"),
    [
        (arm(seconds=11.0), Settings()),
        (arm(), Settings(seed=2)),
    ],
)
def test_changed_parameters_are_done_again(
    dataset: Dataset, folder: RunFolder, other_arm: Arm, settings: Settings
) -> None:
    pretend(make_plan(dataset, [arm()], folder, Settings()))
    plan = make_plan(dataset, [other_arm], folder, settings)
    assert states(plan) == ["changed"] * 6
    assert "other parameters" in plan.jobs[0].why


class Engine(Priced):
    """With an engine that has a version."""

    version = "0.60"

    def identity(self, parameters: Parameters) -> Mapping[str, str]:
        return {"engine": self.version}


def engine_arm(**values: Any) -> Arm:
    return Arm("engine", Engine(), Parameters("", {"memory": GIB, **values}))


def record(folder: RunFolder, dataset: Dataset, arm: Arm, settings: Settings | None = None) -> None:
    """Have run.json say what `iterreg run` would."""
    before = folder.read().arms.get(arm.name) if folder.record.exists() else None
    request = arm_record(arm, settings or Settings(), before)
    folder.write(RunRecord(DatasetRecord.of(dataset), dataset.pairs, {arm.name: request}))


@pytest.fixture
def by_an_older_engine(dataset: Dataset, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six results, and then another engine."""
    record(folder, dataset, engine_arm())
    plan = make_plan(dataset, [engine_arm()], folder, Settings())
    pretend(plan, version=engine_arm().version(1), masks=[], seed=1)
    monkeypatch.setattr(Engine, "version", "0.61")


@pytest.mark.usefixtures("by_an_older_engine")
def test_other_software_is_done_again_or_kept(dataset: Dataset, folder: RunFolder) -> None:
    plan = make_plan(dataset, [engine_arm()], folder, Settings())
    assert states(plan) == ["changed"] * 6
    assert {one.why for one in plan.jobs} == {"it was made with engine 0.60 instead of 0.61"}
    assert all(one.keepable for one in plan.jobs)
    assert len(plan.todo) == 6
    plan = make_plan(dataset, [engine_arm()], folder, Settings(keep_changed=True))
    assert states(plan) == ["kept"] * 6
    assert plan.todo == ()


@pytest.mark.usefixtures("by_an_older_engine")
def test_a_kept_result_lacks_what_any_other_would(dataset: Dataset, folder: RunFolder) -> None:
    """Its field must be there; an inverse is made with the field, by the engine of today."""
    first = make_plan(dataset, [engine_arm()], folder, Settings()).jobs[0]
    first.folder.field.unlink()
    keeping = Settings(keep_changed=True)
    plan = make_plan(dataset, [engine_arm()], folder, keeping)
    assert states(plan) == ["again"] + ["kept"] * 5
    assert "is missing" in plan.jobs[0].why
    assert states(make_plan(dataset, [engine_arm()], folder, replace(keeping, inverse=True))) == ["again"] * 6
    extras = replace(keeping, extras=("warped",))
    assert states(make_plan(dataset, [engine_arm()], folder, extras)) == ["again"] + ["extended"] * 5


@pytest.mark.usefixtures("by_an_older_engine")
@pytest.mark.parametrize(
    ("values", "settings", "why"),
    [
        ({"seconds": 3.0}, Settings(), "seconds (none) instead of 3.0; engine 0.60 instead of 0.61"),
        ({}, Settings(seed=2), "seed 1 instead of 2; engine 0.60 instead of 0.61"),
    ],
)
def test_other_parameters_are_never_kept(
    dataset: Dataset, folder: RunFolder, values: dict[str, Any], settings: Settings, why: str
) -> None:
    plan = make_plan(dataset, [engine_arm(**values)], folder, replace(settings, keep_changed=True))
    assert states(plan) == ["changed"] * 6
    assert {one.why for one in plan.jobs} == {f"it was made with {why}"}
    assert not any(one.keepable for one in plan.jobs)


@pytest.mark.usefixtures("by_an_older_engine")
def test_other_images_are_never_kept(dataset: Dataset, folder: RunFolder) -> None:
    path = dataset.pairs[0].fixed.path
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.float32), np.eye(4)), path)
    plan = make_plan(dataset, [engine_arm()], folder, Settings(keep_changed=True))
    for planned in plan.jobs:
        assert planned.state == ("changed" if path in planned.job.inputs().values() else "kept")
    assert plan.jobs[0].why.endswith("engine 0.60 instead of 0.61; its images or masks had other content")


@pytest.mark.usefixtures("by_an_older_engine")
def test_a_part_is_run_beside_what_is_kept(
    dataset: Dataset, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an arm would silently be of two versions; with other parameters it is refused as ever."""
    part = replace(dataset, pairs=dataset.pairs[:1])
    with pytest.raises(InputError, match=r"5 of its fields.*engine 0.60 instead of 0.61.*--keep-changed"):
        make_plan(part, [engine_arm()], folder, Settings())
    keeping = Settings(keep_changed=True)
    assert states(make_plan(part, [engine_arm()], folder, keeping)) == ["kept"]
    with pytest.raises(InputError, match="5 of its fields") as caught:
        make_plan(part, [engine_arm()], folder, replace(keeping, seed=2))
    assert "--keep-changed" not in str(caught.value)
    record(folder, dataset, engine_arm(), keeping)
    monkeypatch.setattr(Engine, "version", "0.62")
    with pytest.raises(InputError, match=r"5 of its fields.*engine 0.61 instead of 0.62.*--keep-changed"):
        make_plan(part, [engine_arm()], folder, Settings())
    monkeypatch.setattr(Engine, "version", "0.61")
    assert states(make_plan(part, [engine_arm()], folder, Settings())) == ["changed"], "asked for anew"


def test_the_version_of_iterreg_itself_undoes_nothing(
    dataset: Dataset, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is known where it counts."""
    pretend(make_plan(dataset, [arm()], folder, Settings()))
    monkeypatch.setattr("iterreg.__version__", "99")
    assert states(make_plan(dataset, [arm()], folder, Settings())) == ["done"] * 6


def test_results_of_before_the_code_was_recorded_are_changed_once(
    dataset: Dataset, folder: RunFolder
) -> None:
    """They name the versions of iterreg and its engines alone."""
    before = {"iterreg": "0.0.1", "antspyx": "0.6.1"}
    request = replace(arm_record(engine_arm(), Settings()), software=before, version="of-before")
    folder.write(RunRecord(DatasetRecord.of(dataset), dataset.pairs, {"engine": request}))
    for planned in make_plan(dataset, [engine_arm()], folder, Settings()).jobs:
        digest = planned.job.hash(FileDigests(), before)
        pretend_one(planned.folder, digest, version="of-before", masks=[], seed=1)
    plan = make_plan(dataset, [engine_arm()], folder, Settings())
    assert states(plan) == ["changed"] * 6
    assert "code that was not recorded (by an earlier iterreg)" in plan.jobs[0].why
    assert states(make_plan(dataset, [engine_arm()], folder, Settings(keep_changed=True))) == ["kept"] * 6


def test_cores_threads_and_timeout_change_nothing(dataset: Dataset, folder: RunFolder) -> None:
    pretend(make_plan(dataset, [arm()], folder, Settings()))
    settings = Settings(cores=2, threads=2, timeout=5, memory=3 * GIB, cold=True)
    assert states(make_plan(dataset, [arm()], folder, settings)) == ["done"] * 6


def test_changed_bytes_of_an_image_undo_its_pairs_alone(dataset: Dataset, folder: RunFolder) -> None:
    digests = FileDigests()
    pretend(make_plan(dataset, [arm()], folder, Settings(), digests=digests))
    path = dataset.pairs[0].fixed.path
    array = np.asarray(nib.load(path).dataobj) + np.float32(1)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    os.utime(path, (1e9, 1e9))
    plan = make_plan(dataset, [arm()], folder, Settings(), digests=digests)
    for planned in plan.jobs:
        used = path in planned.job.inputs().values()
        assert planned.state == ("changed" if used else "done")
    assert states(plan).count("changed") == 4


def test_a_touched_image_changes_nothing(dataset: Dataset, folder: RunFolder) -> None:
    digests = FileDigests()
    pretend(make_plan(dataset, [arm()], folder, Settings(), digests=digests))
    for scan in dataset.scans():
        os.utime(scan.path, (1e9, 1e9))
    assert states(make_plan(dataset, [arm()], folder, Settings(), digests=digests)) == ["done"] * 6


def test_a_mask_in_use_is_an_input(dataset: Dataset, folder: RunFolder, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(dataset.pairs[0].fixed.path.read_bytes())
    scan = Scan(dataset.pairs[0].fixed.path, "000", mask=mask)
    masked = Dataset("tiny", (Pair(scan, dataset.pairs[0].moving),), tmp_path)
    pretend(make_plan(masked, [arm()], folder, Settings()))
    assert states(make_plan(masked, [arm()], folder, Settings())) == ["done"]
    assert states(make_plan(masked, [arm()], folder, Settings(masks="fixed"))) == ["changed"]
    assert states(make_plan(masked, [arm()], folder, Settings(masks="moving"))) == ["done"]


def spoil_field(job: JobFolder) -> None:
    job.field.write_bytes(b"a fie")


def remove_field(job: JobFolder) -> None:
    job.field.unlink()


def spoil_status(job: JobFolder) -> None:
    job.status.write_text('{"outcome": "o')


def cut_off(job: JobFolder) -> None:
    job.status.unlink()
    job.log.write_text("# iterreg")


def failed(job: JobFolder) -> None:
    job.status.write_text(json.dumps({"outcome": "timeout", "reason": "too slow"}))


def strange_status(job: JobFolder) -> None:
    job.status.write_text("[]")


@pytest.mark.parametrize(
    ("what", "state", "why"),
    [
        (spoil_field, "again", "not the file that was written"),
        (remove_field, "again", "is missing"),
        (cut_off, "again", "never ended"),
        (failed, "again", "timeout: too slow"),
        (spoil_status, "again", "status.json: cannot be read as json"),
        (strange_status, "again", "status.json: is [], not an object"),
    ],
)
def test_what_is_not_proven_is_done_again(
    dataset: Dataset, folder: RunFolder, what: Callable[[JobFolder], None], state: str, why: str
) -> None:
    plan = make_plan(dataset, [arm()], folder, Settings())
    pretend(plan)
    what(plan.jobs[2].folder)
    plan = make_plan(dataset, [arm()], folder, Settings())
    assert states(plan) == ["done", "done", state, "done", "done", "done"]
    assert why in plan.jobs[2].why
    assert [planned.folder.pair for planned in plan.todo] == ["001_000"]


def test_an_inverse_asked_for_later_is_done_again(dataset: Dataset, folder: RunFolder) -> None:
    plan = make_plan(dataset, [arm()], folder, Settings())
    pretend(plan)
    plan = make_plan(dataset, [arm()], folder, Settings(inverse=True))
    assert states(plan) == ["again"] * 6
    assert "inverse" in plan.jobs[0].why
    for planned in plan.jobs:
        planned.folder.inverse.write_bytes(b"inverse")
    pretend(plan, inverse={"bytes": 7})
    assert states(make_plan(dataset, [arm()], folder, Settings(inverse=True))) == ["done"] * 6
    assert states(make_plan(dataset, [arm()], folder, Settings())) == ["done"] * 6


class Shooting(Priced):
    """A method with a momentum to save."""

    saves_momentum = True


def test_a_momentum_asked_for_later_is_done_again(dataset: Dataset, folder: RunFolder) -> None:
    """Of the methods that have one; it is no part of what shapes a field."""
    arms = [
        arm(name="without"),
        Arm("shooting", Shooting(), Parameters("", {"memory": GIB})),
    ]
    pretend(make_plan(dataset, arms, folder, Settings()))
    plan = make_plan(dataset, arms, folder, Settings(momentum=True))
    assert states(plan) == ["done"] * 6 + ["again"] * 6
    assert "momentum" in plan.jobs[-1].why
    for planned in plan.todo:
        planned.folder.momentum.parent.mkdir(exist_ok=True)
        planned.folder.momentum.write_bytes(b"momentum")
    pretend(plan, momentum={"bytes": 8})
    assert states(make_plan(dataset, arms, folder, Settings(momentum=True))) == ["done"] * 12
    assert states(make_plan(dataset, arms, folder, Settings())) == ["done"] * 12


def test_a_momentum_that_no_method_has_is_refused(dataset: Dataset, folder: RunFolder) -> None:
    with pytest.raises(InputError, match=r"no method of priced has a momentum.*--save-momentum"):
        make_plan(dataset, [arm()], folder, Settings(momentum=True))


# -- what cannot run --------------------------------------------------------------------------------


def test_a_missing_image_refuses_its_pairs_only(dataset: Dataset, folder: RunFolder) -> None:
    dataset.pairs[0].fixed.path.unlink()
    plan = make_plan(dataset, [arm()], folder, Settings())
    assert states(plan) == ["refused"] * 3 + ["new"] + ["refused"] + ["new"]
    assert "image000.nii.gz: there is no such file" in plan.jobs[0].why


@pytest.mark.parametrize("memory", [5 * GIB + 1, 5 * GIB // 4 + 7, 200 * 2**20 + 1])
def test_a_job_that_does_not_fit_names_a_memory_that_would_do(
    dataset: Dataset, folder: RunFolder, memory: int
) -> None:
    plan = make_plan(dataset, [arm(memory)], folder, Settings(memory=memory - 1))
    assert states(plan) == ["refused"] * 6
    words = plan.jobs[0].why.split()
    told = words[words.index("--memory") + 1].rstrip(",")
    assert told.endswith("M")
    assert "on a machine that has it" not in plan.jobs[0].why
    enough = int(told[:-1]) * 2**20
    assert states(make_plan(dataset, [arm(memory)], folder, Settings(memory=enough))) == ["new"] * 6


def test_a_job_that_fits_no_such_machine_says_so(dataset: Dataset, folder: RunFolder) -> None:
    plan = make_plan(dataset, [arm(100 * GIB)], folder, Settings(memory=200 * GIB))
    assert states(plan) == ["refused"] * 6
    assert "on a machine that has it" in plan.jobs[0].why


class Dear(Priced):
    """A stand-in for SyN with its presets' names, of which one alone is cheap."""

    name = "syn"

    def parameters(self, source: str | None) -> Parameters:
        return Parameters(source or "", {"memory": GIB if source == "cheap" else 20 * GIB})


def test_presets_that_would_fit_are_named(dataset: Dataset, folder: RunFolder) -> None:
    dear = Arm("syn-strong", Dear(), Dear().parameters("strong"))
    plan = make_plan(dataset, [dear], folder, Settings(memory=2 * GIB))
    assert states(plan) == ["refused"] * 6
    assert plan.jobs[0].why.endswith(", or use syn:cheap (1.0 GiB)")


def test_a_done_job_is_not_refused_for_its_memory(dataset: Dataset, folder: RunFolder) -> None:
    pretend(make_plan(dataset, [arm(5 * GIB)], folder, Settings()))
    assert states(make_plan(dataset, [arm(5 * GIB)], folder, Settings(memory=GIB))) == ["done"] * 6


# -- how it is shared out ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "jobs", "settings", "shared"),
    [
        (GIB, 6, Settings(), (1, 6)),
        (GIB, 20, Settings(), (1, 8)),
        (GIB, 2, Settings(), (4, 2)),
        (GIB, 1, Settings(), (8, 1)),
        (20 * GIB, 20, Settings(), (4, 2)),
        (40 * GIB, 20, Settings(), (8, 1)),
        (GIB, 20, Settings(threads=3), (3, 2)),
        (GIB, 20, Settings(threads=50), (8, 1)),
        (GIB, 20, Settings(cores=2), (1, 2)),
        (GIB, 20, Settings(cores=1000), (1, 8)),
        (GIB, 20, Settings(cores=1000, threads=1000), (8, 1)),
    ],
)
def test_cores_are_never_oversubscribed(
    tmp_path: Path,
    folder: RunFolder,
    memory: int,
    jobs: int,
    settings: Settings,
    shared: tuple[int, int],
) -> None:
    plan = make_plan(make_dataset(tmp_path, 6, first=jobs), [arm(memory)], folder, settings)
    assert (plan.threads, plan.parallel) == shared
    assert plan.threads * plan.parallel <= 8
    assert plan.parallel * memory <= plan.settings.memory


def test_an_inverse_costs_memory(dataset: Dataset, folder: RunFolder) -> None:
    without = make_plan(dataset, [arm(0)], folder, Settings()).jobs[0].cost.memory
    assert make_plan(dataset, [arm(0)], folder, Settings(inverse=True)).jobs[0].cost.memory > without


# -- what is refused outright -----------------------------------------------------------------------


def test_two_arms_in_one_folder_are_refused(dataset: Dataset, folder: RunFolder) -> None:
    with pytest.raises(InputError, match="same folder 'priced'"):
        make_plan(dataset, [arm(), arm(2 * GIB)], folder, Settings())


def test_two_pairs_of_one_name_are_refused(dataset: Dataset, folder: RunFolder) -> None:
    twice = Dataset("tiny", (*dataset.pairs, dataset.pairs[0]), dataset.source)
    with pytest.raises(InputError, match="disp_000_001"):
        make_plan(twice, [arm()], folder, Settings())


def test_an_unknown_method_or_preset_is_refused() -> None:
    with pytest.raises(InputError, match="no method 'nosuch'"):
        parse_arm("nosuch")
    with pytest.raises(InputError, match="takes no parameters"):
        parse_arm("identity:fast")


# -- speed ------------------------------------------------------------------------------------------


def cpu_seconds_of_planning(folder: Path, jobs: int) -> float:
    """CPU time of planning and closing a run whose jobs are all done."""
    folder.mkdir()
    dataset = make_dataset(folder, int(jobs**0.5) + 2, first=jobs)
    run, digests = RunFolder(folder / "run"), FileDigests()
    run.create()
    run.write(RunRecord(DatasetRecord.of(dataset), arms={"priced": arm_record(arm(), Settings())}))
    pretend(make_plan(dataset, [arm()], run, Settings(), digests=digests))
    digests.save(run.digests)
    began = time.process_time()
    again = FileDigests()
    again.load(run.digests)
    plan = make_plan(dataset, [arm()], run, Settings(), digests=again)
    rows: Sequence[Mapping[str, Any]] = write_results(run)
    spent = time.process_time() - began
    assert not plan.todo
    assert len(rows) == jobs
    return spent


def test_a_finished_run_of_2000_jobs_is_instant(tmp_path: Path) -> None:
    """CPU time, because other work on the machine is not ours to answer for; about 0.6 s when idle."""
    assert cpu_seconds_of_planning(tmp_path / "small", 2000) < 3


@pytest.mark.slow
def test_20000_jobs_cost_ten_times_as_much(tmp_path: Path) -> None:
    small = cpu_seconds_of_planning(tmp_path / "small", 2000)
    large = cpu_seconds_of_planning(tmp_path / "large", 20_000)
    assert large < 30 * max(small, 0.3)


# -- what engines refuse ------------------------------------------------------------------------------


def odd_pair(folder: Path, shape: tuple[int, int, int], fixed: Any, moving: Any) -> Dataset:
    scans = []
    for name, affine in (("f", fixed), ("m", moving)):
        array = np.random.default_rng(1).random(shape).astype(np.float32)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
        scans.append(Scan(folder / f"{name}.nii.gz", name))
    return Dataset("odd", (Pair(scans[0], scans[1]),), folder)


SHEARED = np.eye(4) + 0.2 * np.eye(4, k=1) * [[1], [0], [0], [0]]
AWAY = np.eye(4) + 90 * np.eye(4, k=3)


@pytest.mark.parametrize(
    ("shape", "fixed", "moving", "refusals"),
    [
        ((20, 20, 1), np.eye(4), np.eye(4), {"syn": "voxels", "elastix": "voxels", "lddmm": "voxels"}),
        ((20, 20, 20), np.eye(4), SHEARED, {"syn": "shears", "elastix": "shears", "lddmm": ""}),
        (
            (20, 20, 20), np.eye(4), AWAY,
            {
                "syn": "does not meet", "syn:affine": "", "elastix": "does not meet",
                "elastix:affine+bspline-fast": "", "lddmm": "does not meet",
            },
        ),
        ((20, 20, 6), np.eye(4), np.eye(4), {"syn:cheap": "shrinking by 2", "syn:lumir24-script-today": ""}),
        (
            (20, 20, 20), np.diag([1e-3, 1e-3, 1e-3, 1]), np.diag([1e-3, 1e-3, 1e-3, 1]),
            {"lddmm": "is about 0.02 mm across", "elastix": "too far from each other", "syn": ""},
        ),
        (
            (20, 20, 20), np.diag([1e3, 1e3, 1e3, 1]), np.diag([1e3, 1e3, 1e3, 1]),
            {"lddmm": "is about 2e+04 mm across", "elastix": "more than memory can hold", "syn": ""},
        ),
    ],
)  # fmt: skip
def test_what_an_engine_will_refuse_is_refused_before(
    tmp_path: Path, folder: RunFolder, shape: Any, fixed: Any, moving: Any, refusals: Mapping[str, str]
) -> None:
    """By the headers alone, method by method."""
    dataset = odd_pair(tmp_path, shape, fixed, moving)
    for method, words in refusals.items():
        (planned,) = make_plan(dataset, [parse_arm(method)], folder, Settings()).jobs
        assert planned.state == ("refused" if words else "new"), method
        assert words in planned.why
        if words:
            assert planned.why.startswith(f"{tmp_path}/f.nii.gz <- {tmp_path}/m.nii.gz: ")


def test_a_mask_on_another_grid_is_refused_before(tmp_path: Path, folder: RunFolder) -> None:
    dataset = odd_pair(tmp_path, (20, 20, 20), np.eye(4), np.eye(4))
    nib.save(nib.Nifti1Image(np.ones((20, 20, 20), np.uint8), AWAY), tmp_path / "mask.nii.gz")
    (pair,) = dataset.pairs
    masked = replace(pair, fixed=replace(pair.fixed, mask=tmp_path / "mask.nii.gz"))
    for masks, state in (("fixed", "refused"), ("moving", "new"), ("none", "new")):
        plan = make_plan(replace(dataset, pairs=(masked,)), [arm()], folder, Settings(masks=masks))
        assert states(plan) == [state]
        assert ("mask.nii.gz: lies on another grid" in plan.jobs[0].why) == (state == "refused")
