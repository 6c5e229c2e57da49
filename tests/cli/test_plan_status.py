"""``iterreg plan`` and ``iterreg status``: they read, tell the truth, and write nothing."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.batch_options import parse_bytes, parse_seconds
from iterreg.cli.main import main


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("data")
    for number in range(3):
        array = np.random.default_rng(number).uniform(1, 200, (12, 10, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"brain_100{number}_0000.nii.gz")
    path = tmp_path / "pairs.csv"
    rows = [f"brain_100{number}_0000.nii.gz,brain_1000_0000.nii.gz" for number in (1, 2)]
    path.write_text("\n".join(["fixed,moving", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def original(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", str(table), "--out", str(out), "--method", "identity", "-q"]) == 0
    return out


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def test_a_plan_names_jobs_costs_and_schedule(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["plan", str(table), "--out", str(out), "--cores", "1", "--memory", "2G"]
    assert main([*command, "--method", "identity", "--method", "syn:cheap"]) == 0
    said = capsys.readouterr().out
    assert "pairs: 2 pairs, from" in said
    assert "  identity: 2 to do; about 150 MiB and 1 s CPU each" in said
    assert "  syn-cheap: 2 to do; about" in said
    assert "4 jobs, 1 at a time with 1 thread each, 2.0 GiB of memory: about" in said
    assert not out.exists()


def test_a_plan_refuses_what_cannot_fit(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", str(table), "--out", str(tmp_path / "run"), "--method", "identity", "--memory"]
    assert main([*command, "100M"]) == 1
    said = capsys.readouterr().out
    assert "identity: 2 cannot run" in said
    assert "cannot run identity 1001_1000: needs about 150 MiB of memory and 100 MiB are allowed; set" in said
    told = said.split("set --memory ")[1].split()[0]
    assert main([*command, told]) == 0


def test_a_plan_of_a_run_says_what_is_missing(
    table: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", str(table), "--out", str(finished), "--method", "identity"]
    before = sorted(finished.rglob("*"))
    assert main(command) == 0
    assert "identity: 2 done\n" in capsys.readouterr().out
    (finished / "identity" / "fields" / "disp_1001_1000.nii.gz").unlink()
    assert main(command) == 0
    assert "identity: 1 done, 1 to do again; about" in capsys.readouterr().out
    assert main([*command, "--seed", "5"]) == 0
    assert "identity: 2 done with other settings, to do again" in capsys.readouterr().out
    assert sorted(finished.rglob("*")) == [
        path for path in before if "disp_1001_1000.nii.gz" not in path.name
    ]


def test_a_plan_does_not_read_again_what_a_run_has_read(
    table: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = json.loads((finished / "inputs.json").read_text())
    (finished / "inputs.json").write_text(json.dumps([[*row[:3], "f" * 64] for row in known]))
    assert main(["plan", str(table), "--out", str(finished), "--method", "identity"]) == 0
    assert "2 done with other settings" in capsys.readouterr().out


def test_status_of_a_finished_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{finished}: pairs, 2 pairs, 1 arm", "  identity  2 done"]


def test_status_of_an_arm(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((finished / "run.json").read_text())
    record["arms"]["later"] = record["arms"]["identity"]
    (finished / "run.json").write_text(json.dumps(record))
    assert main(["status", str(finished)]) == 3
    assert "later     2 missing" in capsys.readouterr().out
    assert main(["status", str(finished / "identity")]) == 0
    assert "2 pairs, 1 arm" in capsys.readouterr().out


def test_status_proves_what_it_says(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields, jobs = finished / "identity" / "fields", finished / "identity" / "jobs"
    content = bytearray((fields / "disp_1001_1000.nii.gz").read_bytes())
    content[-9] ^= 1
    (fields / "disp_1001_1000.nii.gz").write_bytes(content)
    assert main(["status", str(finished)]) == 0  # the size is right
    assert main(["status", "--verify", str(finished)]) == 2
    assert "damaged identity/1001_1000" in capsys.readouterr().out

    (fields / "disp_1001_1000.nii.gz").write_bytes(content[:-1])
    assert main(["status", str(finished)]) == 2
    assert "has another size than was written" in capsys.readouterr().out

    (fields / "disp_1001_1000.nii.gz").unlink()
    assert main(["status", str(finished)]) == 2
    assert "is gone; run the same command again" in capsys.readouterr().out

    (jobs / "1002_1000" / "status.json").unlink()  # a field without a status proves nothing
    assert main(["status", str(finished)]) == 2
    assert "1 damaged, 1 missing" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["fields", "inverse"])
def test_status_verifies_all_that_a_job_left(
    table: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", str(table), "--out", str(out), "-m", "identity", "-q", "--inverse"]) == 0
    assert main(["status", "--verify", str(out)]) == 0
    path = out / "identity" / kind / "disp_1001_1000.nii.gz"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert main(["status", str(out)]) == 0
    capsys.readouterr()
    assert main(["status", "--verify", str(out)]) == 2
    assert f"{path}: has other content than was written" in capsys.readouterr().out
    path.unlink()
    assert main(["status", str(out)]) == 2
    assert f"{path}: is gone" in capsys.readouterr().out


def test_status_counts_missing_and_running(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from iterreg.jobs.claims import take

    jobs = finished / "identity" / "jobs"
    (jobs / "1001_1000" / "status.json").unlink()
    assert main(["status", str(finished)]) == 3
    assert "1 missing, 1 done" in capsys.readouterr().out
    claim = take(jobs / "1001_1000")
    assert claim is not None
    assert main(["status", str(finished)]) == 3
    claim.release()
    assert "1 running, 1 done" in capsys.readouterr().out


def test_status_shows_a_log(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished), "--log", "identity/1001_1000"]) == 0
    assert capsys.readouterr().out.startswith("# iterreg identity 1001_0000<--1000_0000, attempt 1")
    assert main(["status", str(finished), "--log", "identity/nobody"]) == 1
    assert "there is no such log" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "[]", '{"format": 99}'])
def test_status_of_something_else(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert main(["status", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("12G", 12 * 2**30),
        ("800M", 800 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("7000000", 7_000_000),
        ("2048kb", 2**21),
        (".5g", 2**29),
        ("1T", 2**40),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("2", "for 2 GiB write 2G"),
        ("512", "for 512 GiB write 512G"),
        ("1K", "for 1 GiB write 1G"),
        ("1.5", "'1.5' means 2 bytes"),
        ("9" * 400, "more memory than there is"),
        ("1.2.3G", "is not a size"),
        ("12 GB of it", "is not a size"),
    ],
)
def test_sizes_nobody_means_are_refused_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=advice):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600), ("0.5", 0.5), ("90s", 90), ("90m", 5400), ("2h", 7200), ("1.5h", 5400), ("1d", 86400),
        ("2h30m", 9000), ("1:00:00", 3600), ("00:30:00", 1800), ("120:00:05", 432005), ("1-12:00:00", 129600),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("1:30", "may mean minutes or hours; write 1m30s or 1h30m"),
        ("1:90:00", "is not a duration"),
        ("soon", "is not a duration such as 3600, 90m, 2h or 1:00:00"),
        ("0:00:00", "above zero"),
        ("9" * 400, "above zero"),
        ("-5", "is not a duration"),
    ],
)
def test_durations_that_are_none(text: str, advice: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=advice):
        parse_seconds(text)


@pytest.mark.parametrize(
    "options",
    [["--memory", "much"], ["--memory", "1.2.3G"], ["--memory", "0"], ["--timeout", "soon"],
     ["--timeout", "."],
     ["--timeout", "0"], ["--cores", "0"], ["--cores", "two"], ["--threads", "-1"]],
)  # fmt: skip
def test_nonsense_is_refused_by_the_parser(
    options: list[str], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(table), *options])
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err
