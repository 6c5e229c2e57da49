"""Every place of the command line where a path stands, with paths that cannot be what is asked for."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import iterreg

IMAGE = "imagesVal/X_0001_0000.nii.gz"
FIELD = "fields/disp_0001_0002.nii.gz"
NOBODY = 65534

READING = (
    "check {}",
    f"check {IMAGE} {{}}",
    "check X_dataset.json --root {}",
    "check imagesVal --atlas {}",
    "plan {} -m identity -o new",
    "run {} -m identity -o new",
    "plan pairs.csv -m syn:{} -o new",
    "evaluate {} --dataset X_dataset.json -o new",
    "evaluate fields --dataset {} -o new",
    "evaluate fields --dataset X_dataset.json --config {} -o new",
    "report {} -o new.html",
    "report fields --dataset {} -o new.html",
    "compare {} other --resamples 100",
    "compare a={} other --resamples 100",
    "compare scores other --label-groups {} --resamples 100",
    f"prepare {{}} --template {IMAGE} -m identity -o new",
    f"prepare {IMAGE} --template {{}} -m identity -o new",
    "package {}",
    "package fields --dataset {}",
    f"warp --field {{}} --moving {IMAGE} --out out.nii.gz",
    f"warp --field [{{}},1] --moving {IMAGE} --out out.nii.gz",
    f"warp --field {FIELD} --moving {{}} --out out.nii.gz",
    f"warp --field {FIELD} --moving {IMAGE} --fixed {{}} --out out.nii.gz",
    f"warp --field {FIELD} --moving {IMAGE} --points {{}} --out out.csv",
    f"convert {{}} disp_1_2.nii.gz --fixed {IMAGE}",
    f"convert {FIELD} out.npz --fixed {{}}",
    "inspect {}",
    f"inspect {FIELD} --fixed {{}} --moving {IMAGE}",
    "lddmm shoot {} --out disp_1_2.nii.gz",
    "methods syn:{}",
    "methods {}",
    "status {}",
    "status run --log {}",
    "status run --log identity/{}",
    "container --root {}",
)

WRITING = (
    "plan X_dataset.json -m identity -o {}",
    "run X_dataset.json -m identity -q --cores 1 -o {}",
    "run X_dataset.json -m identity -q --cores 1 -o new --scratch {}",
    "evaluate fields --dataset X_dataset.json --cores 1 -o {}",
    "report scores -o {}",
    "report scores -o new.html --figures {}",
    "compare scores other --resamples 100 --formats csv -o {}",
    f"prepare {IMAGE} --template imagesVal/X_0002_0000.nii.gz -m identity --cores 1 -o {{}}",
    "package run -o {}",
    f"warp --field {FIELD} --moving {IMAGE} --out {{}}.nii.gz",
    f"warp --field {FIELD} --moving {IMAGE} --points points_0001.csv --out {{}}.csv",
    f"convert {FIELD} {{}}.npz --fixed {IMAGE}",
    f"convert {FIELD} {{}} --to itk --fixed {IMAGE}",
    f"convert {FIELD} {{}} --to elastix --fixed {IMAGE}",
    f"convert {FIELD} {{}} --to torch --fixed {IMAGE}",
    "lddmm shoot momentum.npz --out {}",
    "lddmm shoot momentum.npz --out disp_1_2.nii.gz --inverse-out {}",
)
"""With the ``demo`` alone left out: it makes its data before it writes."""

PATHS = {
    "nothing": "",
    "nul": "a\0b",
    "half a surrogate": "\ud800.nii.gz",
    "no utf-8": "\udce9\udcff.nii.gz",
    "no user": "~nosuchuser/x.nii.gz",
    "long name": "a" * 300 + ".nii.gz",
    "long path": "a/" * 3000 + "x.nii.gz",
    "loop": "loop",
    "in a loop": "loop/x.nii.gz",
    "in a file": "X_dataset.json/x.nii.gz",
    "folder": "imagesVal",
    "fifo": "fifo",
    "absolute": "/nowhere/x.nii.gz",
    "device": "device",
    "escapes": "\x1b[2J\x07\x9b\u202e.nii.gz",
    "dash": "-",
    "formula": "=1+1",
}


@pytest.fixture
def world(world: Path) -> Path:
    """With a pipe, a device, a link to itself and a folder that nobody may search.

    The device is a link: what replaces it, as root may, replaces the link.
    """
    (world / "device").symlink_to("/dev/full")
    os.mkfifo(world / "fifo")
    (world / "loop").symlink_to("loop")
    (world / "closed").mkdir()
    for path in (world / FIELD, world / IMAGE, world / "X_dataset.json"):
        (world / "closed" / path.name).write_bytes(path.read_bytes())
    return world


@pytest.mark.parametrize("place", PATHS)
@pytest.mark.parametrize("command", READING + WRITING)
def test_a_path_that_cannot_be(place: str, command: str, world: Path, politely: Callable[..., Any]) -> None:
    kinds = [(world / name).lstat().st_mode for name in ("fifo", "device", "loop")]
    politely(*(part.replace("{}", PATHS[place]) for part in shlex.split(command)))
    assert [(world / name).lstat().st_mode for name in ("fifo", "device", "loop")] == kinds


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["disp_0001_0002.nii.gz", "X_dataset.json"])
@pytest.mark.parametrize("command", READING + WRITING)
def test_an_unsearchable_folder(
    command: str, name: str, world: Path, open_to_all: None, politely: Callable[..., Any]
) -> None:
    (world / "closed").chmod(0o600)
    politely(*(part.replace("{}", f"closed/{name}") for part in shlex.split(command)), user=NOBODY)


@pytest.fixture
def open_to_all(world: Path) -> Iterator[None]:
    """Let others come as far as the world, and write in it; and to the interpreter, which imports late."""
    closed = []
    needed = (world, Path(sys.prefix) / "lib", Path(iterreg.__file__).parent)
    for folder in dict.fromkeys(above for path in needed for above in [*path.parents][:-1]):
        mode = folder.stat().st_mode & 0o777
        if not mode & 1:
            closed.append((folder, mode))
            folder.chmod(mode | 1)
    world.chmod(0o777)
    yield
    for folder, mode in closed:
        folder.chmod(mode)


@pytest.fixture
def full_disk(world: Path) -> Iterator[Path]:
    """A folder on a disk without a byte left."""
    place = world / "full"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {made.stderr.strip()}")
    try:
        (place / "ballast").write_bytes(bytes(2**16))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("command", WRITING)
@pytest.mark.slow
def test_a_full_disk(command: str, full_disk: Path, politely: Callable[..., Any]) -> None:
    ended = politely(*(part.replace("{}", "full/disp_1_2") for part in shlex.split(command)))
    if not command.startswith("plan"):
        assert ended.code in (1, 2)
        assert "full/" in ended.err or "No space left" in ended.err
    assert [path.name for path in full_disk.rglob("*") if path.is_file() and path.stat().st_size] == [
        "ballast"
    ]


@pytest.mark.parametrize("command", ["methods", f"inspect {FIELD}", "status run"])
def test_a_full_disk_takes_no_output(command: str, world: Path, call: Callable[..., Any]) -> None:
    ended = call(*command.split(), cwd=world, out="/dev/full")
    assert ended.code == 1
    assert "No space left on device" in ended.err
    assert "Traceback" not in ended.err
