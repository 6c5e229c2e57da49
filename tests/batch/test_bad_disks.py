"""Images that break in mid-run, and disks that fill up."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


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
