"""Images that break in mid-run, and disks that fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from iterreg.batch.scratch import Scratch, check_scratch
from iterreg.runs import RunFolder


def test_a_truncated_image_costs_its_pair(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "broken", "s01")
    whole = lab.image("broken").read_bytes()
    lab.image("broken").write_bytes(whole[: len(whole) // 2])
    refused = lab.run()
    assert refused.returncode == 1
    assert "broken.nii.gz" in refused.stderr
    assert not lab.out.exists()  # refused before any work

    ended = lab.run("--no-check")
    assert ended.returncode == 2
    status = lab.status("broken")
    assert status["outcome"] == "bad input"
    assert str(lab.image("broken")) in status["reason"]
    assert "truncated" in status["reason"]
    assert lab.status("s00")["outcome"] == lab.status("s01")["outcome"] == "ok"
    assert "broken" not in lab.counts()

    lab.image("broken").write_bytes(whole)
    before = lab.counts()
    assert lab.run().returncode == 0
    assert lab.counts() - before == {"broken": 1}


@pytest.mark.slow
def test_images_replaced_after_the_start(make_lab: Callable[..., Any]) -> None:
    """One before its job begins, one while its own job runs: neither result may count."""
    lab = make_lab("vandal", "s00", "victim")
    whole = lab.image("victim").read_bytes()
    ended = lab.run("--cores", "1", VICTIM=str(lab.image("victim")))
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert lab.status("victim")["outcome"] == "bad input"
    assert lab.status("s00")["outcome"] == "ok"
    lab.image("victim").write_bytes(whole)

    lab.faults(s00="vandal", victim="fine", vandal="fine")
    lab.field("s00").unlink()
    own = lab.image("s00").read_bytes()
    ended = lab.run("--cores", "1", VICTIM=str(lab.image("s00")))
    assert ended.returncode == 2
    assert "was changed while it was registered" in lab.status("s00")["reason"]
    assert not lab.field("s00").exists()
    assert lab.status("victim")["outcome"] == "ok"

    lab.image("s00").write_bytes(own)
    lab.faults()
    before = lab.counts()
    assert lab.run().returncode == 0
    assert lab.counts() - before == {"s00": 1}


def test_an_unreadable_header_is_on_record_too(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "headless")
    lab.image("headless").write_bytes(b"no image at all")
    refused = lab.run("--no-check")
    assert refused.returncode == 1
    assert "--keep-going runs the others" in refused.stderr
    ended = lab.run("--keep-going")
    assert ended.returncode == 2
    assert lab.status("headless")["outcome"] == "bad input"
    assert lab.results()["faulty/headless_ref"]["outcome"] == "bad input"
    told = lab.iterreg("status", lab.out)
    assert "headless.nii.gz: cannot be read as NIfTI" in told.stdout
    assert "1 done, 1 failed" in told.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(make_lab: Callable[..., Any], small_disk: Path) -> None:
    """It fills while the third of eight pairs is registered; freeing space and running again finishes."""
    subjects = ["s00", "s01", "fill", *(f"s{number:02d}" for number in range(2, 7))]
    lab = make_lab(*subjects)
    (small_disk / "run").mkdir()
    lab.out.symlink_to(small_disk / "run")
    ended = lab.run("--cores", "1", FULL_DISK=str(small_disk), NOISE="1")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "No space left on device" in ended.stdout + ended.stderr
    assert lab.status("s00")["outcome"] == lab.status("s01")["outcome"] == "ok"
    done = {subject for subject in subjects if lab.status(subject).get("outcome") == "ok"}
    assert done == {"s00", "s01"}
    assert lab.counts() == {"s00": 1, "s01": 1, "fill": 1}  # no work that could not be kept
    assert ended.stderr.count("are free, a field may need") == 5
    assert lab.iterreg("status", lab.out).returncode in (2, 3)

    (small_disk / "ballast").unlink()
    lab.faults(fill="fine")
    before = lab.counts()
    ended = lab.run("--cores", "1", NOISE="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lab.counts() - before == dict.fromkeys(set(subjects) - done, 1)
    assert lab.leftovers() == []
    assert lab.iterreg("status", "--verify", lab.out).returncode == 0


@pytest.mark.slow
def test_a_disk_with_no_room_for_the_first_file(make_lab: Callable[..., Any], small_disk: Path) -> None:
    lab = make_lab("s00")
    (small_disk / "run").mkdir()
    lab.out.symlink_to(small_disk / "run")
    (small_disk / "ballast").write_bytes(bytes(700 * 1024))
    ended = lab.run()
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    (small_disk / "ballast").unlink()
    assert lab.run().returncode == 0


def test_a_full_scratch_is_named_instead_of_what_the_engine_made_of_it(
    make_lab: Callable[..., Any], small_disk: Path
) -> None:
    """An engine that cannot write its images there takes them for damaged when it reads them."""
    lab = make_lab("fill_scratch", "s00")
    ended = lab.run("--cores", "1", "--scratch", str(small_disk))
    assert ended.returncode == 2, ended.stdout + ended.stderr
    status = lab.status("fill_scratch")
    assert status["outcome"] == "exception"
    assert status["reason"].startswith("the disk of the scratch folder is full (0 B free on ")
    assert f"free on {small_disk})" in status["reason"]
    assert "name another with --scratch" in status["reason"]
    assert status["reason"].endswith("what the job said: RuntimeError: could the file be damaged?")
    assert lab.status("s00")["outcome"] == "ok"  # its scratch was emptied
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_the_runs_own_files_on_a_disk_that_fills_up(make_lab: Callable[..., Any], small_disk: Path) -> None:
    """Logs, claims, statuses and results.csv: a sentence each, no traceback, and the run goes on later."""
    lab = make_lab("s00", "s01")
    (small_disk / "run").mkdir()
    lab.out.symlink_to(small_disk / "run")
    assert lab.run().returncode == 0
    lab.field("s01").unlink()
    (small_disk / "ballast").write_bytes(b"")
    with (small_disk / "ballast").open("r+b") as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
            stream.flush()
    ended = lab.run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "No space left on device" in ended.stderr
    assert "free space or choose another --out" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    (small_disk / "ballast").unlink()
    assert lab.run().returncode == 0
    assert lab.leftovers() == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter; pytest's own is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="iterreg-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def refusal(check: Callable[[], None]) -> str:
    """What a user who owns nothing is told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
        try:
            check()
            told = ""
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    os.waitpid(pid, 0)
    return told


@pytest.mark.parametrize(
    ("fault", "scratch", "out"),
    [
        ("missing", "place/inside: does not exist; name a folder with --scratch", ""),
        ("file", "place/inside: is a file; name a folder with --scratch",
         "place/inside: is a file; name a folder with --out"),
        ("unwritable", "place/inside: you may not write there; name another folder with --scratch",
         "place/inside: nothing can be written there; choose another --out"),
        ("closed logs", "", "place/inside/logs: nothing can be written there; choose another --out"),
        ("unsearchable", "place/inside: cannot be reached (Permission denied); name another folder",
         "place/inside: cannot be read (Permission denied); choose another --out"),
    ],
)  # fmt: skip
def test_folders_that_take_nothing_are_refused_by_a_sentence(
    open_folder: Path, fault: str, scratch: str, out: str
) -> None:
    place = open_folder / "place"
    inside = place / "inside"
    place.mkdir()
    place.chmod(0o777)
    if fault == "file":
        inside.write_text("a file")
    elif fault != "missing":
        inside.mkdir()
        inside.chmod(0o555 if fault == "unwritable" else 0o777)
    if fault == "closed logs":
        (inside / "logs").mkdir(mode=0o555)
    if fault == "unsearchable":
        place.chmod(0o666)
    for expected, check in (
        (scratch, lambda: check_scratch(inside)),
        (scratch, lambda: Scratch(inside).close()),
        (out, RunFolder(inside).check_writable),
    ):
        told = refusal(check)
        if expected:
            assert told.startswith(f"InputError: {open_folder}/{expected}")
        else:
            assert told == ""


def test_a_scratch_that_is_not_there_is_refused_before_any_work(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00")
    for command in ("run", "plan"):
        told = lab.iterreg(
            command, lab.table, "-m", "faulty", "-o", lab.out, "--scratch", lab.root / "nowhere"
        )
        assert told.returncode == 1
        assert "nowhere: does not exist; name a folder with --scratch" in told.stderr
    assert not lab.out.exists()
