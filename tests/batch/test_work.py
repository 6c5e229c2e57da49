"""``iterreg work``: a plan made once, any number of workers, each of which may be ended at any moment."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from iterreg.batch.plan import Settings
from iterreg.batch.running import _spec
from iterreg.batch.session import Session
from iterreg.batch.shared import take_plan
from iterreg.batch.walltime import Walltime, granted_until
from iterreg.cli.main import main
from iterreg.cli.work import parse_moment
from iterreg.dataset import open_dataset
from iterreg.errors import InputError
from iterreg.jobs.outcome import Outcome, Report
from iterreg.runs import RunFolder

FOR_EVER = {"SLOW_SECONDS": "100000"}


def worker(lab: Any, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "iterreg", "work", str(lab.out), "--scratch", str(lab.scratch)]
    return subprocess.Popen(
        [*command, "--cores", "1", *arguments], env=lab.environment(**environment), cwd=lab.root, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def planned(lab: Any, *arguments: str | Path) -> None:
    left = lab.run("--plan-only", *arguments)
    assert left.returncode == 0, left.stdout + left.stderr
    assert f"on every node: iterreg work {lab.out}" in left.stdout
    assert lab.counts() == {}


def test_workers_share_a_plan(
    make_lab: Callable[..., Any], plain_subjects: Callable[[int], list[str]]
) -> None:
    lab = make_lab(*plain_subjects(8))
    planned(lab)
    ends = [end(one) for one in [worker(lab), worker(lab)]]
    assert [code for code, _ in ends] == [0, 0], ends
    assert lab.counts() == Counter(lab.subjects)  # each once
    assert len(lab.results()) == 8
    assert any("8 of 8 planned jobs done" in output for _, output in ends)
    assert not any("another process" in output for _, output in ends)
    assert lab.leftovers() == []
    assert lab.survivors() == []
    assert lab.iterreg("status", "--verify", lab.out).returncode == 0
    assert end(worker(lab))[0] == 0
    assert lab.counts() == Counter(lab.subjects)
    again = lab.run()
    assert "8 of 8 done" in again.stdout
    assert lab.counts() == Counter(lab.subjects)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_worker_gives_back_what_it_has_not_ended(make_lab: Callable[..., Any], how: signal.Signals) -> None:
    lab = make_lab("s00", "slow", "s01")
    planned(lab)
    first = worker(lab, **FOR_EVER)
    lab.await_executions("s00", "slow")
    began = time.monotonic()
    first.send_signal(how)
    code, output = end(first)
    assert time.monotonic() - began < 30
    assert code == 0, output
    assert "1 of 3 planned jobs done, 2 left for other workers" in output
    assert lab.leftovers() == []
    assert lab.survivors() == []
    lab.faults(slow="fine")
    assert end(worker(lab))[0] == 0
    assert lab.counts() == {"s00": 1, "slow": 2, "s01": 1}
    assert len(lab.results()) == 3


def test_a_killed_worker_is_taken_over_by_one_that_waits(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("slow", "s00")
    planned(lab)
    first = worker(lab, **FOR_EVER)
    lab.await_executions("slow")
    lab.faults(slow="fine")
    second = worker(lab, "--wait")
    lab.await_executions("s00")
    time.sleep(1)
    assert second.poll() is None
    first.kill()
    first.communicate()
    code, output = end(second)
    assert code == 0, output
    assert "2 of 2 planned jobs done" in output
    assert lab.counts() == {"slow": 2, "s00": 1}
    lab.await_(lambda: lab.survivors() == [])
    assert lab.iterreg("status", lab.out).returncode == 0


def test_no_job_is_begun_that_would_not_end(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "s01")
    long = lab.root / "long.json"
    long.write_text(json.dumps({"seconds": 3000}))
    planned(lab, "--method", f"faulty:{long}")
    soon = {"SLURM_JOB_END_TIME": str(int(time.time()) + 1000)}
    for arguments, environment in ((["--until", "+10m"], {}), ([], soon), ([], {"PBS_WALLTIME": "1000"})):
        code, output = end(worker(lab, *arguments, **environment))
        assert code == 0, output
        assert "0 of 2 planned jobs done, 2 left for other workers" in output
    assert lab.counts() == {}
    code, output = end(worker(lab, "--memory", "30M"))
    assert code == 0, output
    assert "0 of 2 planned jobs done, 2 left for other workers" in output
    assert lab.counts() == {}
    code, output = end(worker(lab, "--until", "+1h", **soon))  # what is said counts, not the scheduler's
    assert code == 0, output
    assert "2 of 2 planned jobs done" in output


def test_what_fails_is_said_once_for_all(make_lab: Callable[..., Any]) -> None:
    """An image changed since it was planned is no image of the plan; a later worker does not try again."""
    lab = make_lab("s00", "s01", "raise")
    planned(lab)
    lab.write_image("s01", seed=50)
    code, output = end(worker(lab))
    assert code == 2, output
    assert "1 of 3 planned jobs done, 2 failed" in output
    assert lab.status("s01")["outcome"] == "bad input"
    assert "was changed while it was registered" in lab.status("s01")["reason"]
    assert lab.status("raise")["outcome"] == "exception"
    assert end(worker(lab))[0] == 2
    assert lab.counts() == {"s00": 1, "s01": 1, "raise": 1}


def test_what_cannot_run_is_recorded_by_the_one_that_plans(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "s01")
    lab.image("s01").unlink()
    refused = lab.run("--plan-only")
    assert refused.returncode == 1
    assert not (lab.out / "plan.json").exists()
    planned(lab, "--keep-going")
    assert lab.status("s01")["outcome"] == "bad input"
    code, output = end(worker(lab))
    assert code == 0, output
    assert "1 of 1 planned jobs done" in output
    assert {key: row["outcome"] for key, row in lab.results().items()} == {
        "faulty/s00_ref": "ok",
        "faulty/s01_ref": "bad input",
    }


# -- the plan as a file --------------------------------------------------------------------------------------


@pytest.fixture
def left(make_lab: Callable[..., Any]) -> Any:
    """A lab whose plan for the identity is left in its run folder."""
    lab = make_lab("s00", "s01")
    planned(lab, "--method", "identity", "--save", "warped,inverse", "--timeout", "2h", "--seed", "3")
    return lab


def test_a_plan_comes_back_as_it_was_and_without_a_look_at_the_images(left: Any, tmp_path: Path) -> None:
    settings = Settings(cores=1, timeout=7200.0, seed=3, extras=("warped",), inverse=True)
    with Session(left.out, settings) as session:
        made = session.plan(open_dataset(left.table), ["identity"])
    for image in (left.root / "images").iterdir():
        image.unlink()
    taken = take_plan(RunFolder(left.out), Settings(cores=1, scratch=tmp_path))
    assert len(taken.jobs) == 2
    for one, other in zip(taken.jobs, made.jobs, strict=True):
        assert replace(one, job=None).__dict__ == replace(other, job=None).__dict__ | {"refusal": one.refusal}
        assert _spec(one, taken) == _spec(other, made)
        assert one.job.pair == other.job.pair
        assert one.job.arm.version(3) == other.job.arm.version(3)
    assert taken.settings.scratch == tmp_path
    assert taken.dataset.name == made.dataset.name


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda plan: plan.clear(), "has no 'settings'"),
        (lambda plan: plan["jobs"][0].pop("hash"), "jobs 1: has no 'hash'"),
        (lambda plan: plan["jobs"][0].update(pair="no_such"), "jobs 1: its arm or pair is not in run.json"),
        (lambda plan: plan["settings"].update(masks="all"), "'masks' is 'all'"),
        (lambda plan: plan["arms"]["identity"].update(method="gone"), "there is no method 'gone'"),
        (lambda plan: plan["arms"]["identity"].update(values={"a": 1}), "was made for another identity"),
        (lambda plan: plan.update(format=99), "'format' is 99"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused(left: Any, spoil: Callable[[Any], Any], said: str) -> None:
    path = left.out / "plan.json"
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        take_plan(RunFolder(left.out), Settings())
    assert said in str(caught.value)


def test_a_run_without_a_plan_is_refused(left: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (left.out / "plan.json").unlink()
    assert main(["work", str(left.out)]) == 1
    assert "no plan was left there; make one with iterreg run … --plan-only" in capsys.readouterr().err
    assert main(["work", str(left.root)]) == 1


# -- time ----------------------------------------------------------------------------------------------------


def test_the_slowest_job_of_an_arm_tells_what_to_expect(left: Any) -> None:
    plan = take_plan(RunFolder(left.out), Settings(cores=1))
    one = replace(plan.jobs[0], cost=replace(plan.jobs[0].cost, cpu_seconds=100.0))
    walltime = Walltime(time.time() + 200, threads=1)
    assert walltime.allows(one)
    assert Walltime(None, threads=1).allows(one)
    assert not Walltime(time.time() + 125, threads=1).allows(one)  # half a minute for what comes after
    assert Walltime(time.time() + 125, threads=2).allows(one)
    walltime.learn(one, Report(Outcome.OK, wall_seconds=180.0))
    walltime.learn(one, Report(Outcome.OK, wall_seconds=90.0))
    assert not walltime.allows(one)
    fast = Walltime(time.time() + 100, threads=1)
    fast.learn(one, Report(Outcome.OK, wall_seconds=50.0))
    assert fast.allows(one)


def test_what_schedulers_say_of_the_end() -> None:
    now = time.time()
    assert granted_until({}) is None
    assert granted_until({"SLURM_JOB_END_TIME": "1790000000"}) == 1790000000.0
    until = granted_until({"PBS_WALLTIME": "3600"})
    assert until is not None
    assert 3599 <= until - now <= 3610
    assert granted_until({"SLURM_JOB_END_TIME": "soon", "PBS_WALLTIME": ""}) is None


def test_moments() -> None:
    now = time.time()
    assert 0 <= parse_moment("+1h30m") - now - 5400 < 10
    assert parse_moment("2190-11-30T06:30") == datetime(2190, 11, 30, 6, 30).timestamp()
    clock = datetime.fromtimestamp(now - 120)
    assert 86400 - 200 < parse_moment(f"{clock:%H:%M}") - now < 86400
    for text, said in (
        ("tomorrow", "is no time such as"),
        ("25:00", "is no time such as"),
        ("2020-01-01T00:00", "is over already"),
        ("+soon", "is not a duration"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            parse_moment(text)
