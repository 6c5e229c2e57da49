"""Planning and running from Python; specs that any process can run; what is tried again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.batch.executors import LocalExecutor
from iterreg.batch.plan import Settings
from iterreg.batch.retries import Retries
from iterreg.batch.running import Summary
from iterreg.batch.session import Session
from iterreg.batch.spec import JobSpec
from iterreg.dataset import Dataset, open_dataset
from iterreg.errors import InputError
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.outcome import Outcome, Report
from iterreg.runs import JobStatus
from iterreg.runs.content import Content

ONE = Settings(cores=1)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three brains of ten voxels, two pairs."""
    for number in range(3):
        array = np.random.default_rng(number).uniform(1, 200, (10, 12, 11)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / f"{number}.nii.gz")
    path = tmp_path / "pairs.csv"
    path.write_text("fixed,moving,fixed_id,moving_id\n0.nii.gz,1.nii.gz,a,b\n1.nii.gz,2.nii.gz,b,c\n")
    return open_dataset(path)


def statuses(session: Session) -> list[JobStatus]:
    (method,) = session.results().methods
    return [status for name in ("a_b", "b_c") if (status := method.status(name)) is not None]


def test_engines_outlive_a_plan(dataset: Dataset, tmp_path: Path) -> None:
    """One warm parent serves both plans, and goes with the session."""
    with Session(tmp_path / "run", ONE) as session:
        assert not (tmp_path / "run").exists()
        first = session.plan(dataset.select(first=1), ["identity"])
        assert session.run(first, quiet=True) == Summary(1, 0, 0, 0)
        warm = _children(b"warm_parent")
        assert len(warm) == 1
        plan = session.plan(dataset, ["identity"])
        assert [planned.state for planned in plan.jobs] == ["done", "new"]
        assert session.run(plan, quiet=True) == Summary(1, 0, 0, 0)
        assert _children(b"warm_parent") == warm
        one, other = statuses(session)
    assert one.ok
    assert other.ok
    assert one.warm_cpu_seconds == other.warm_cpu_seconds
    assert _children(b"warm_parent") == []


def test_sessions_share_an_executor_that_they_do_not_close(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    executor = LocalExecutor(cores=1, memory=2**31, scratch=tmp_path, logs=tmp_path / "logs")
    try:
        found = []
        for name in ("first", "second"):
            with Session(tmp_path / name, ONE, executor=executor) as session:
                session.run(session.plan(dataset, ["identity"]), quiet=True)
                found += statuses(session)
    finally:
        executor.close()
    assert len({status.warm_cpu_seconds for status in found}) == 1
    assert len(found) == 4
    assert not list(tmp_path.glob("iterreg-scratch*"))


def test_an_engine_held_to_other_threads_makes_room(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    executor = LocalExecutor(cores=2, memory=2**31, scratch=tmp_path, logs=tmp_path / "logs")
    try:
        for threads in (1, 2):
            settings = Settings(cores=2, threads=threads)
            with Session(tmp_path / f"run{threads}", settings, executor=executor) as session:
                session.run(session.plan(dataset.select(first=1), ["identity"]), quiet=True)
                assert statuses(session)[0].threads == threads
        assert len(_children(b"iterreg.jobs.warm_parent")) == 1
    finally:
        executor.close()
    assert _children(b"iterreg.jobs.warm_parent") == []


def _children(text: bytes) -> list[int]:
    """Living children of this process with a text in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and text in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def test_ctrl_c_in_a_script_leaves_a_folder_to_go_on_with(dataset: Dataset, tmp_path: Path) -> None:
    """The signal comes while the engine is imported; the engine goes at once, not when the session ends."""
    with Session(tmp_path / "run", ONE) as session:
        plan = session.plan(dataset, ["identity"])
        killer = threading.Thread(target=_interrupt_when, args=(lambda: _children(b"warm_parent"),))
        killer.start()
        summary = session.run(plan, quiet=True)
        killer.join()
        assert summary.left == 2
        assert _children(b"warm_parent") == []
        assert session.run(session.plan(dataset, ["identity"]), quiet=True) == Summary(2, 0, 0, 0)


def _interrupt_when(condition: Callable[[], Any]) -> None:
    while not condition():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_what_a_session_refuses_it_refuses_before_it_writes(dataset: Dataset, tmp_path: Path) -> None:
    with Session(tmp_path / "run", ONE) as session:
        with pytest.raises(InputError, match="no method 'nothing'"):
            session.plan(dataset, ["nothing"])
        with pytest.raises(InputError, match="there is no such file or folder"):
            session.results()
    with pytest.raises(InputError, match="not a run folder"):
        Session(tmp_path)
    assert not (tmp_path / "run").exists()


# -- a job is a file -----------------------------------------------------------------------------------------


def test_any_process_can_run_a_spec(dataset: Dataset, tmp_path: Path) -> None:
    with Session(tmp_path / "run", replace(ONE, extras=("warped",), inverse=True)) as session:
        session.run(session.plan(dataset.select(first=1), ["identity"]), quiet=True)
        job = session.folder.arm("identity").job("a_b")
    spec = JobSpec.read(job.spec)
    assert spec.method == "identity"
    assert spec.inputs == {"fixed": tmp_path / "0.nii.gz", "moving": tmp_path / "1.nii.gz"}
    assert set(spec.outputs) == {"field", "inverse", "warped"}
    into = tmp_path / "elsewhere"
    (into / "inverse").mkdir(parents=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    message = {"spec": str(job.spec), "into": str(into), "scratch": str(scratch)}
    code = (
        "import json, sys; from iterreg.batch.work import work; "
        "print(json.dumps(work(json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(message)], capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout)
    status = job.read_status()
    assert status is not None
    for role, name in spec.outputs.items():
        assert facts[role]["sha256"] == status.files[role].sha256
        assert FileDigests()(into / name) == FileDigests()(job.outputs[role])


def test_a_spec_comes_back_as_it_was() -> None:
    spec = JobSpec(
        method="syn",
        inputs={"fixed": Path("/f.nii"), "moving": Path("/m.nii")},
        outputs={"field": "disp_f_m.nii.gz"},
        preset="cheap",
        values={"iterations": [3, 2]},
        files=(Path("/one.toml"),),
        seed=4,
        threads=2,
        verified_field=Path("/run/disp.nii.gz"),
        labels=Path("/l.nii"),
        labels_digest="d",
        memory=5,
        alone=True,
        output_bytes=6,
        timeout=7.5,
        cold=True,
    )
    text = json.dumps(spec.to_json())
    assert JobSpec.from_json(Content(json.loads(text), "spec.json")) == spec
    bare = JobSpec(method="syn", inputs={}, outputs={})
    assert JobSpec.from_json(Content(bare.to_json(), "spec.json")) == bare


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", "one", "'seed' is \"one\", not a whole number"),
        ("alone", 1, "'alone' is 1, not true or false"),
        ("outputs", [], "'outputs' is \\[\\], not an object"),
        ("method", None, "has no 'method'"),
        ("format", 99, "'format' is 99"),
    ],
)
def test_a_spec_of_wrong_types_is_refused(key: str, value: object, said: str) -> None:
    content = {**JobSpec(method="syn", inputs={}, outputs={}).to_json(), key: value}
    with pytest.raises(InputError, match=f"spec.json: {said}"):
        JobSpec.from_json(Content(content, "spec.json"))


# -- what is tried again -------------------------------------------------------------------------------------


def test_what_is_tried_again() -> None:
    rules = Retries()
    for outcome in Outcome:
        once = outcome in (Outcome.CRASH, Outcome.OUT_OF_MEMORY)
        assert rules.again([Report(outcome)]) is once
        assert not rules.again([Report(outcome), Report(outcome)])


def test_an_arm_that_lacked_memory_once_is_expected_to_take_as_much() -> None:
    rules, spec = Retries(), JobSpec(method="syn", inputs={}, outputs={}, memory=100)
    lacked, ended = Report(Outcome.OUT_OF_MEMORY), Report(Outcome.OK, peak_bytes=150)
    assert rules.spec("arm", spec, []) == spec
    assert rules.spec("arm", spec, [lacked]) == replace(spec, alone=True)
    rules.learn("arm", spec, [lacked, lacked])
    rules.learn("arm", spec, [ended])
    assert rules.spec("arm", spec, []) == spec
    rules.learn("arm", spec, [lacked, ended])
    assert rules.spec("arm", spec, []) == replace(spec, memory=150)
    rules.learn("arm", spec, [lacked, replace(ended, peak_bytes=120)])
    assert rules.spec("arm", spec, []).memory == 150
    assert rules.spec("another", spec, []).memory == 100
