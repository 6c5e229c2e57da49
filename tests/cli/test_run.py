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
    from iterreg.batch.running import Summary
    from iterreg.runs import RunFolder

    class Nothing:
        jobs = (1, 2)

        def in_state(self, *_: str) -> tuple[()]:
            return ()

    plan: Any = Nothing()
    assert close(plan, RunFolder("run"), Summary(done, failed, elsewhere, left)) == code
    assert f"{done} of 2 done" in capsys.readouterr().out


# -- one run, one data set; one arm, one method --------------------------------------------------------------


def test_another_data_set_is_refused_with_both_named(
    run: Callable[..., int], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one has images of the same ids: its fields would take the places of these."""
    assert run("-q") == 0
    other = tmp_path / "other"
    other.mkdir()
    for path in tmp_path.glob("brain_*.nii.gz"):
        write_image(other / path.name, 50)
    (other / "pairs.csv").write_text(table.read_text())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.nii.gz")}
    command = [str(other / "pairs.csv"), "--out", str(tmp_path / "run"), "-m", "identity"]
    for name in ("plan", "run"):
        assert main([name, *command]) == 1
        said = capsys.readouterr().err
        assert f"is a run of the data set pairs ({table})" in said
        assert f"--out for pairs ({other / 'pairs.csv'})" in said
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.nii.gz")} == before


def test_a_data_set_that_has_moved_is_gone_on_with(
    run: Callable[..., int], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-q", "--first", "1") == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (table, *tmp_path.glob("brain_*.nii.gz")):
        path.rename(moved / path.name)
    capsys.readouterr()
    assert main(["run", str(moved / "pairs.csv"), "--out", str(tmp_path / "run"), "-m", "identity"]) == 0
    assert "identity: 1 done, 2 to do" in capsys.readouterr().out


def test_the_default_folder_is_called_after_the_data_set(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = table.rename(table.with_name("my pairs.csv"))
    assert main(["run", str(named), "-m", "identity", "-q", "--first", "1"]) == 0
    assert (tmp_path / "iterreg-run-my_pairs" / "run.json").is_file()


def test_a_part_with_other_parameters_is_refused_and_the_whole_is_made_again(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-q") == 0
    capsys.readouterr()
    assert run("--seed", "5", "--pairs", "1001_1000") == 1
    said = capsys.readouterr().err
    assert "would hold two versions of identity: 2 of its fields (1002_1000, 1003_1000)" in said
    assert "made with seed 1 instead of 5" in said
    assert "--out" in said
    seeds = {row["seed"] for row in results(tmp_path / "run")}
    assert seeds == {"1"}
    assert run("-q", "--masks", "both", "--pairs", "1001_1000") == 0, "no pair has a mask: nothing differs"
    assert run("-q", "--seed", "5") == 0
    assert {row["seed"] for row in results(tmp_path / "run")} == {"5"}
    assert run("-q", "--seed", "5", "--pairs", "1001_1000") == 0


def test_another_mask_option_is_another_version_where_there_are_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        write_image(tmp_path / f"brain{number}.nii.gz", number)
    nib.save(
        nib.Nifti1Image(np.ones((12, 10, 8), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])),
        tmp_path / "mask.nii.gz",
    )
    table = tmp_path / "masked.csv"
    table.write_text(
        "fixed,moving,fixed_mask\n"
        "brain1.nii.gz,brain2.nii.gz,mask.nii.gz\nbrain2.nii.gz,brain3.nii.gz,mask.nii.gz\n"
    )
    command = ["run", str(table), "--out", str(tmp_path / "run"), "-m", "identity", "-q"]
    assert main(command) == 0
    assert main([*command, "--masks", "fixed", "--first", "1"]) == 1
    assert "masks none instead of fixed" in capsys.readouterr().err


def spoil_arm(out: Path, *pairs: str) -> None:
    """What an interrupted `run --seed 5` leaves: the arm is of seed 5, these pairs are still of seed 1."""
    for pair in pairs:
        path = out / "identity" / "jobs" / pair / "status.json"
        status = json.loads(path.read_text())
        path.write_text(json.dumps({**status, "version": "of-before", "seed": 1}))


def test_two_versions_are_never_taken_for_one_method(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-q", "--seed", "5") == 0
    out = tmp_path / "run"
    spoil_arm(out, "1002_1000")
    capsys.readouterr()
    assert main(["status", str(out)]) == 2
    said = capsys.readouterr().out
    assert "2 done, 1 changed" in said
    assert "changed identity/1002_1000" in said
    assert "made with seed 1 instead of 5" in said
    assert main(["package", str(out)]) == 1
    assert "disp_1002_1000.nii.gz: was made with seed 1 instead of 5" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--cores", "1"]) == 2
    assert "not scored: 1002_1000" in capsys.readouterr().out
    with (out / "identity" / "scores" / "pairs.csv").open(newline="") as stream:
        outcomes = {row["pair"]: row["outcome"] for row in csv.DictReader(stream)}
    assert outcomes == {"1001_1000": "ok", "1002_1000": "failed", "1003_1000": "ok"}


# -- one bad entry costs one entry ---------------------------------------------------------------------------


def test_junk_in_a_run_folder_costs_nothing_but_itself(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("-q") == 0
    jobs = out / "identity" / "jobs"
    (jobs / "1001_1000" / "status.json").write_text(json.dumps({"outcome": 7}))
    (jobs / "1001_1000" / "unfinished").write_text("a file")
    (jobs / "1002_1000" / "claim-0001~").touch()
    (jobs / "1003_1000" / "status.json").unlink()
    (jobs / "1003_1000" / "status.json").mkdir()
    (jobs / "a file").touch()
    (jobs / os.fsdecode(b"\xff\xfe")).mkdir()
    (out / "identity" / "fields" / os.fsdecode(b"disp_\xff.nii.gz")).touch()
    capsys.readouterr()
    assert main(["status", str(out)]) == 2
    said = capsys.readouterr().out
    assert "failed identity/1001_1000: unreadable" in said
    assert "'outcome' is 7, not a text" in said
    assert "identity  2 failed, 1 done" in said
    assert main(["package", str(out)]) == 1
    assert run("-q") == 0
    assert main(["status", str(out)]) == 0
    assert len(results(out)) == 3


def test_an_entry_of_wrong_types_in_the_record_is_left_out_and_healed_by_the_next_run(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("-q") == 0
    record = json.loads((out / "run.json").read_text())
    record["pairs"][1] = 5
    record["arms"]["broken"] = []
    (out / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["status", str(out)]) == 2
    said = capsys.readouterr().out
    assert "2 pairs, 1 arm" in said
    assert "run.json: pair 2: is 5, not an object; it is left out" in said
    assert "run.json: arm broken: is [], not an object; it is left out" in said
    assert run("-q") == 0
    assert main(["status", str(out)]) == 0
    assert "3 pairs" in capsys.readouterr().out


def test_a_lost_record_is_made_anew_from_what_is_done(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("-q") == 0
    (out / "run.json").write_text("{")
    assert main(["status", str(out)]) == 1
    assert "remove it and give the same iterreg run commands again" in capsys.readouterr().err
    (out / "run.json").unlink()
    assert run() == 0
    assert "identity: 3 done" in capsys.readouterr().out


def test_a_data_set_in_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"im\xff")
    folder.mkdir()
    for number in (1, 2):
        write_image(folder / f"brain{number}.nii.gz", number)
    images = [str(folder / f"brain{number}.nii.gz") for number in (1, 2)]
    assert main(["run", *images, "--out", str(tmp_path / "run"), "-m", "identity", "-q"]) == 0
    assert main(["status", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--cores", "1"]) in (0, 2)
