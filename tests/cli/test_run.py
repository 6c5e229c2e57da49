"""``iterreg run``: what it says, refuses, writes and answers, on a data set of three tiny pairs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.main import main
from iterreg.cli.run import close


def write_image(path: Path, seed: int, shape: tuple[int, int, int] = (12, 10, 8)) -> None:
    array = np.random.default_rng(seed).uniform(1, 200, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(4):
        write_image(tmp_path / f"brain_100{number}_0000.nii.gz", number)
    path = tmp_path / "pairs.csv"
    rows = [
        f"brain_100{number}_0000.nii.gz,brain_1000_0000.nii.gz,{'easy' if number < 3 else 'hard'}"
        for number in (1, 2, 3)
    ]
    path.write_text("\n".join(["fixed,moving,task", *rows]) + "\n")
    return path


@pytest.fixture
def run(table: Path, tmp_path: Path) -> Callable[..., int]:
    """Run the identity over the table in this process."""

    def call(*arguments: str | Path) -> int:
        base = ["run", table, "--out", tmp_path / "run", "--method", "identity", *arguments]
        return main([str(argument) for argument in base])

    return call


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_fields_sidecars_results_and_the_second_run(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("--inverse", "--seed", "7") == 0
    said = capsys.readouterr()
    assert "3 of 3 done; results in" in said.out
    assert "[3/3] ok           identity 100" in said.err
    names = sorted(path.name for path in (out / "identity" / "fields").iterdir())
    assert names == [f"disp_100{n}_1000{suffix}" for n in (1, 2, 3) for suffix in (".json", ".nii.gz")]

    image: Any = nib.load(out / "identity" / "fields" / "disp_1001_1000.nii.gz")
    assert image.shape == (12, 10, 8, 3)
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(image.affine, np.eye(4))
    assert not np.asarray(image.dataobj).any()
    assert (out / "identity" / "inverse" / "disp_1001_1000.nii.gz").is_file()

    sidecar = json.loads((out / "identity" / "fields" / "disp_1001_1000.json").read_text())
    assert sidecar["outcome"] == "ok"
    assert sidecar["seed"] == 7
    assert sidecar["threads"] == json.loads((out / "run.json").read_text())["commands"][0]["threads"]
    assert "moved(p) = moving(p + u(p))" in sidecar["convention"]
    assert sidecar["machine"]["host"]
    assert set(sidecar["inputs"]) == {"fixed", "moving"}
    assert all(len(one["sha256"]) == 64 for one in sidecar["inputs"].values())
    assert sidecar["folding"]["ndv_percent"] == 0
    assert len(sidecar["folding"]["lowest_at"]) == 3
    assert sidecar["cpu_seconds"] > 0
    assert sidecar["peak_bytes"] > 0

    rows = results(out)
    assert [(row["pair"], row["task"], row["outcome"]) for row in rows] == [
        ("1001_1000", "easy", "ok"),
        ("1002_1000", "easy", "ok"),
        ("1003_1000", "hard", "ok"),
    ]
    assert {row["ndv_percent"] for row in rows} == {"0.0"}

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert run("--inverse", "--seed", "7") == 0
    said = capsys.readouterr()
    assert "identity: 3 done" in said.out
    assert said.err == ""
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")} == before


def test_the_same_job_gives_the_same_bytes(run: Callable[..., int], tmp_path: Path, table: Path) -> None:
    assert run("--first", "1", "--inverse") == 0
    again = ["run", table, "--out", tmp_path / "again", "--method", "identity", "--first", "1", "--inverse"]
    assert main([str(argument) for argument in again]) == 0
    for kind in ("fields", "inverse"):
        one, two = (
            (tmp_path / place / "identity" / kind / "disp_1001_1000.nii.gz").read_bytes()
            for place in ("run", "again")
        )
        assert one == two


def test_a_part_first_and_the_rest_later(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("--task", "hard", "-q") == 0
    assert [row["pair"] for row in results(tmp_path / "run")] == ["1003_1000"]
    assert run("-q") == 0
    assert len(results(tmp_path / "run")) == 3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [pair["name"] for pair in record["pairs"]] == ["1003_1000", "1001_1000", "1002_1000"]
    assert len(record["commands"]) == 2


def test_a_changed_image_is_registered_again(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("-q") == 0
    statuses = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("status.json")}
    write_image(tmp_path / "brain_1002_0000.nii.gz", 99)
    assert run("-q") == 0
    changed = {
        path.parent.name
        for path in (tmp_path / "run").rglob("status.json")
        if path.stat().st_mtime_ns != statuses[path.parent.name]
    }
    assert changed == {"1002_1000"}


def test_two_images_and_nothing_else_chooses_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the plan: a registration follows, of which the budget here leaves nothing."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        write_image(tmp_path / f"brain{number}.nii.gz", number)
    assert main(["run", "brain1.nii.gz", "brain2.nii.gz", "--memory", "1M"]) == 1
    said = capsys.readouterr()
    assert "no --method given: using syn with its preset 'cheap'" in said.out
    assert "set --memory" in said.err


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated"),
    ],
)
def test_a_bad_image_is_refused_before_any_work_and_mended_later(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    path = tmp_path / "brain_1002_0000.nii.gz"
    whole = path.read_bytes()
    spoil(path)
    assert run() == 1
    said = capsys.readouterr().err
    assert words in said
    assert path.name in said
    assert not (tmp_path / "run").exists()
    path.write_bytes(whole)
    assert main(["plan", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "run"), "-m", "identity"]) == 0


def test_keep_going_runs_the_others(run: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "brain_1002_0000.nii.gz").unlink()
    assert run("-q", "--keep-going") == 2
    outcomes = {row["pair"]: row["outcome"] for row in results(tmp_path / "run")}
    assert outcomes == {"1001_1000": "ok", "1002_1000": "bad input", "1003_1000": "ok"}


def test_a_folder_that_is_no_run_is_left_alone(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("all of it")
    assert run() == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_file_as_the_folder_is_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file")
    assert run() == 1
    assert "is a file" in capsys.readouterr().err


def test_a_scratch_folder_that_does_not_exist_is_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--scratch", tmp_path / "nowhere") == 1
    assert "nowhere: does not exist; name a folder with --scratch" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # before any work
    assert run("-q") == 0


def test_threads_are_recorded_and_cores_not_exceeded(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("-q", "--first", "1", "--threads", "1000", "--cores", "1000") == 0
    status = json.loads((tmp_path / "run" / "identity" / "jobs" / "1001_1000" / "status.json").read_text())
    assert status["threads"] <= len(os.sched_getaffinity(0))


def test_a_reader_that_goes_away_does_not_stop_the_work(table: Path, tmp_path: Path) -> None:
    """``iterreg run … | head -0``: that nobody reads it does not make it stop."""
    command = [sys.executable, "-m", "iterreg", "run", table, "--out", tmp_path / "run"]
    command += ["--method", "identity", "--first", "1"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            [str(part) for part in command], stdout=gone, stderr=gone, check=False, timeout=300
        )
    assert ended.returncode == 0
    assert (tmp_path / "run" / "identity" / "fields" / "disp_1001_1000.nii.gz").is_file()


@pytest.mark.parametrize(
    ("done", "failed", "elsewhere", "left", "code"),
    [(2, 0, 0, 0, 0), (1, 1, 0, 0, 2), (1, 0, 1, 0, 0), (0, 1, 1, 0, 2), (0, 1, 0, 1, 130)],
)
def test_exit_codes(
    done: int, failed: int, elsewhere: int, left: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from iterreg.batch.local import Summary
    from iterreg.batch.runfolder import RunFolder

    class Nothing:
        jobs = (1, 2)

        def in_state(self, *_: str) -> tuple[()]:
            return ()

    plan: Any = Nothing()
    assert close(plan, RunFolder("run"), Summary(done, failed, elsewhere, left)) == code
    assert f"{done} of 2 done" in capsys.readouterr().out
