"""``iterreg submit``: the scripts, line by line, and what a scheduler is handed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iterreg.batch.arrays import SCHEDULERS, Array, array_for
from iterreg.batch.plan import Settings
from iterreg.batch.shared import take_plan
from iterreg.cli.main import main
from iterreg.runs import RunFolder

ARRAY = Array(
    name="iterreg-oasis", command=("python", "-m", "iterreg", "work", "/data/run"),
    logs=Path("/data/run/logs"), workers=12, cores=4, memory=6 * 2**30, seconds=5400, extra=("-q long",),
)  # fmt: skip

SCRIPTS = {
    "slurm": """\
#!/bin/sh
#SBATCH --job-name=iterreg-oasis
#SBATCH --array=1-12
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=6144M
#SBATCH --time=01:30:00
#SBATCH --signal=B:USR1@60
#SBATCH --output=/data/run/logs/worker-%A-%a.txt
#SBATCH -q long
exec python -m iterreg work /data/run
""",
    "pbs": """\
#!/bin/sh
#PBS -N iterreg-oasis
#PBS -J 1-12
#PBS -l select=1:ncpus=4:mem=6144mb
#PBS -l walltime=01:30:00
#PBS -j oe
#PBS -o /data/run/logs/
#PBS -q long
exec python -m iterreg work /data/run --until +5400s
""",
    "sge": """\
#!/bin/sh
#$ -N iterreg-oasis
#$ -t 1-12
#$ -S /bin/sh
#$ -pe smp 4
#$ -l mem_free=1536M
#$ -l h_rt=01:30:00
#$ -notify
#$ -j y
#$ -o /data/run/logs/
#$ -q long
exec python -m iterreg work /data/run --until +5400s
""",
    "lsf": """\
#!/bin/sh
#BSUB -J "iterreg-oasis[1-12]"
#BSUB -n 4
#BSUB -R "span[hosts=1] rusage[mem=6144MB]"
#BSUB -M 6144MB
#BSUB -W 01:30
#BSUB -o /data/run/logs/worker-%J-%I.txt
#BSUB -q long
exec python -m iterreg work /data/run --until +5400s
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_line_by_line(name: str) -> None:
    assert SCHEDULERS[name].script(ARRAY) == SCRIPTS[name]


def test_one_worker_is_no_array_to_pbs() -> None:
    assert "-J" not in SCHEDULERS["pbs"].script(replace(ARRAY, workers=1))
    assert "-pe" not in SCHEDULERS["sge"].script(replace(ARRAY, cores=1))
    assert "--time=100:00:01" in SCHEDULERS["slurm"].script(replace(ARRAY, seconds=360001))


@pytest.fixture
def run(make_lab: Callable[..., Any]) -> Path:
    lab = make_lab(*(f"s{number}" for number in range(6)))
    ended = lab.run("--plan-only", "--method", "identity")
    assert ended.returncode == 0, ended.stderr
    return Path(lab.out)


def test_workers_and_memory_by_the_plan(run: Path) -> None:
    plan = take_plan(RunFolder(run), Settings())  # six jobs of 1 s
    largest = max(planned.cost.memory for planned in plan.jobs)
    asked = array_for(plan, run, command=("work",), cores=2, seconds=3600)
    assert (asked.workers, asked.memory) == (1, 2 * largest + 2**30)
    assert (
        array_for(plan, run, command=("work",), cores=1, seconds=3).workers == 3
    )  # 6 s and half as much again
    assert array_for(plan, run, command=("work",), cores=4, seconds=1).workers == 2  # four jobs at a time
    asked = array_for(plan, run, command=("work",), cores=2, seconds=60, workers=7, memory=5)
    assert (asked.workers, asked.memory) == (7, 5)


def test_a_scheduler_gets_one_script_that_does_the_plan(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """This sbatch runs what it is handed, once for every worker, as a scheduler would."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        f"#!/bin/sh\necho called >> {tmp_path}/calls\ncat > {tmp_path}/script\n"
        f"for n in 1 2; do sh {tmp_path}/script > {tmp_path}/worker$n 2>&1; done\n"
        "echo Submitted batch job 7\n"
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = ["submit", str(run), "--scheduler", "slurm", "--cores", "1", "--workers", "2"]
    assert main([*command, "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert not (tmp_path / "calls").exists()
    assert shown.splitlines()[-1] == f"exec {sys.executable} -m iterreg work {run} --cores 1"
    assert main(command) == 0
    assert capfd.readouterr().out == "2 workers submitted: Submitted batch job 7\n"
    assert (tmp_path / "script").read_text() == shown
    assert (tmp_path / "calls").read_text() == "called\n"
    for number in (1, 2):
        assert "6 of 6 planned jobs done" in (tmp_path / f"worker{number}").read_text()


def test_what_cannot_be_submitted_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main(["submit", *arguments]) == 1
        return capsys.readouterr().err

    monkeypatch.setenv("PATH", str(tmp_path))
    assert "qsub: cannot be started" in said(str(run), "--scheduler", "sge")
    refusing = tmp_path / "bsub"
    refusing.write_text("#!/bin/sh\necho 'No such queue' >&2\nexit 255\n")
    refusing.chmod(0o755)
    assert "bsub refused the array: No such queue" in said(str(run), "--scheduler", "lsf")
    spaced = run.rename(run.with_name("my run"))
    assert "do not take such a path" in said(str(spaced), "--scheduler", "lsf")
    assert "line break" in said(str(spaced), "--scheduler", "lsf", "--option=-q long\nrm -r x")
    assert "is not a run folder" in said(str(tmp_path), "--scheduler", "slurm")
