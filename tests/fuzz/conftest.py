"""A small world of valid inputs of every kind, and a way to call the command on mutants of them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.field import DisplacementField
from iterreg.io import elastix, itk, npz, torch_grid
from iterreg.lddmm.lattice import Lattice
from iterreg.lddmm.reproducing_kernel import Sobolev
from iterreg.lddmm.transform import Transform
from iterreg.methods.presets import find
from iterreg.volume import Grid

GRID = Grid((14, 12, 16), np.eye(4))
SUBJECTS = ("0001", "0002", "0003")
IMAGE = "imagesVal/X_0001_0000.nii.gz"

CODES = {0, 1, 2, 3}
"""The exit codes the help documents: done, refused, some failed (and argparse's errors), some elsewhere."""

SECONDS = 60.0
MEMORY = 3 * 2**29
"""What a call may take of each: a bound, not a budget; on a quiet machine a call takes half a second."""

_TELLING = ("check", "plan")
"""They end with 1 for what they found, after saying all of it."""

ADDRESS_SPACE = 3 * 2**30
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


KNOWN: dict[str, str] = {}
"""Mutants that end otherwise today, and why; whoever mends one takes it out."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of more than two thousand mutants the everyday suite meets some forty, the slow one some hundreds.

    ``ITERREG_FUZZ=all`` and ``-m "slow or not slow"`` meet all. A mutant's share is told by its own name, so
    that adding one changes nothing for others.
    """
    left_out = []
    for item in items:
        if item.path.parent != Path(__file__).parent or "politely" not in getattr(item, "fixturenames", ()):
            continue
        share = zlib.crc32(item.name.encode()) % 1000
        dear = re.search(r"\b(report|run|prepare)\b(?!/)", item.name.partition("[")[2])
        if item.name in KNOWN:
            item.add_marker(pytest.mark.xfail(reason=KNOWN[item.name], strict=True))
        elif (
            share >= (100 if dear else 300)
            and not item.get_closest_marker("slow")
            and os.environ.get("ITERREG_FUZZ") != "all"
        ):
            left_out.append(item)
        if dear or share >= 20:
            item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit code (negative: the signal that ended it), wall seconds, bytes at its peak."""

    command: str
    code: int
    seconds: float
    peak: int
    out: str
    err: str

    def faults(self) -> list[str]:
        """What is not as a user may expect it, whatever the command was given."""
        said = self.out + self.err
        found = []
        if self.code not in CODES:
            found.append(f"exit code {self.code}")
        if "Traceback (most recent call last)" in said or re.search(r"\.py:\d+: \w*Warning", said):
            found.append("a traceback or a warning of Python's")
        if self.code and len(said.split()) < 4:
            found.append("no sentence")
        if self.code == 1 and self.command not in _TELLING and f"iterreg {self.command}: " not in self.err:
            found.append("no sentence that begins with the command")
        if _CONTROL.search(said):
            found.append("control characters")
        if self.seconds > SECONDS:
            found.append(f"{self.seconds:.0f} s")
        if self.peak > MEMORY:
            found.append(f"{self.peak / 2**20:.0f} MiB")
        return found


class Call:
    """Calls the command: ``call("check", "X_dataset.json", cwd=world)``."""

    def __init__(self, folder: Path) -> None:
        self._said = folder
        self._interpreter = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_interpreter.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )

    def __call__(
        self,
        *arguments: str,
        cwd: Path,
        user: int | None = None,
        memory: int = ADDRESS_SPACE,
        environment: Mapping[str, str] | None = None,
        here: bool = False,
        out: str = "",
    ) -> Ended:
        """Run ``iterreg ARGUMENTS`` in a child, or, to warm it, in the interpreter itself."""
        said = [Path(out) if out else self._said / "out", self._said / "err"]
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "user": user,
            "memory": memory,
            "environment": dict(environment or {}),
            "seconds": 1.5 * SECONDS,
            "out": str(said[0]),
            "err": str(said[1]),
            "here": here,
        }
        assert self._interpreter.stdin
        assert self._interpreter.stdout
        self._interpreter.stdin.write(json.dumps(request) + "\n")
        self._interpreter.stdin.flush()
        answer = json.loads(self._interpreter.stdout.readline())
        texts = ["" if here or not path.is_file() else path.read_bytes().decode() for path in said]
        return Ended(arguments[0], answer["code"], answer["seconds"], answer["peak"], *texts)

    def close(self) -> None:
        assert self._interpreter.stdin
        self._interpreter.stdin.close()
        self._interpreter.wait(60)


def _images(folder: Path, rng: np.random.Generator) -> None:
    for subject in SUBJECTS:
        name = f"X_{subject}_0000.nii.gz"
        image = gaussian_filter(rng.normal(size=GRID.shape), 1.5)
        image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
        blobs = np.zeros(GRID.shape, np.uint8)
        blobs[4:7, 4:7, 4:7], blobs[9:12, 5:8, 6:9] = 1, 2
        for kind, array in (
            ("images", image), ("labels", image // 90), ("landmarks", blobs), ("masks", np.ones_like(image)),
        ):  # fmt: skip
            path = folder / f"{kind}Val" / name
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, GRID.affine), path)


def _fields(folder: Path, rng: np.random.Generator, pairs: Sequence[tuple[str, str]]) -> None:
    from iterreg.io import challenge

    (folder / "fields").mkdir()
    for fixed, moving in pairs:
        vectors = 4 * gaussian_filter(rng.normal(size=(*GRID.shape, 3)), (2, 2, 2, 0)).astype(np.float32)
        field = DisplacementField(vectors, GRID, GRID)
        challenge.write_field(folder / "fields" / f"disp_{fixed}_{moving}.nii.gz", field)
    itk.write_warp(folder / "1Warp.nii.gz", field)
    elastix.write_transform(folder / "TransformParameters.0.txt", field)
    npz.write(folder / "half.npz", field)
    torch_grid.write(folder / "grid.npy", field, align_corners=True)
    (folder / "affine.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1.1 0 0 0 1 1 2 3\nFixedParameters: 0 0 0\n"
    )
    lattice = Lattice((0.0, 0.0, 0.0), (2.0, 2.0, 2.0), (7, 6, 8))
    momentum = np.zeros((3, *lattice.shape), np.float32)
    Transform(momentum, lattice, Sobolev(3.0, 3), True, 4, GRID, GRID).save(folder / "momentum.npz")


def _tables(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    images = {subject: f"./imagesVal/X_{subject}_0000.nii.gz" for subject in SUBJECTS}
    listed = [{"fixed": images[fixed], "moving": images[moving]} for fixed, moving in pairs]
    (folder / "X_dataset.json").write_text(
        json.dumps({"name": "X", "tensorImageShape": {"0": list(GRID.shape)}, "validation": listed})
    )
    methods = [
        {"name": "DSC", "metric": "dice", "labels": [1, 2]},
        {"name": "HD95", "metric": "hd95", "labels": [1, 2]},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        {"name": "SDlogJ", "metric": "sdlogj"},
    ]
    (folder / "config.json").write_text(
        json.dumps(
            {"name": "X", "evaluation_methods": methods, "eval_pairs": listed, "masked_evaluation": True}
        )
    )
    points = "".join(f"{x},{x + 1}.5,{x + 2}\n" for x in range(2, 8))
    for subject in SUBJECTS:
        (folder / f"points_{subject}.csv").write_text(points)
    with (folder / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["fixed", "moving", "task", "fixed_id", "fixed_landmarks", "moving_landmarks"])
        for fixed, moving in pairs:
            writer.writerow(
                [images[fixed], images[moving], "all", fixed, *(f"points_{s}.csv" for s in (fixed, moving))]
            )
    (folder / "groups.csv").write_text("label,name,group\n1,one,inner\n2,two,outer\n")
    for method, preset in (("syn", "cheap"), ("lddmm", "fast"), ("elastix", "affine")):
        source = find(method, preset)
        shutil.copy(source, folder / f"{method}{source.suffix}")


@pytest.fixture(scope="session")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """The command in a warm interpreter."""
    made = Call(tmp_path_factory.mktemp("said"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, call: Call) -> Path:
    """The world: a data set, fields in every format, a run, scores; every command accepts it."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(16)
    pairs = [("0001", "0002"), ("0002", "0003"), ("0003", "0001")]
    _images(folder, rng)
    _fields(folder, rng, pairs)
    _tables(folder, pairs)
    ran = call("run", "X_dataset.json", "-m", "identity", "-o", "run", "-q", "--cores", "1", cwd=folder)
    assert ran.code == 0, ran.err
    for fields, scores in (("fields", "scores"), ("run/identity/fields", "run/identity/scores")):
        evaluated = (
            "evaluate",
            fields,
            "--dataset",
            "X_dataset.json",
            "--config",
            "config.json",
            "-o",
            scores,
        )
        call(*evaluated, cwd=folder, here=True)
    for field in ("1Warp.nii.gz", "TransformParameters.0.txt"):
        call(*f"warp --field {field} --moving {IMAGE} --out warm.nii.gz".split(), cwd=folder, here=True)
    call("lddmm", "shoot", "momentum.npz", "--out", "warm.nii.gz", cwd=folder, here=True)
    (folder / "warm.nii.gz").unlink()
    shutil.copytree(folder / "scores", folder / "other")
    return folder


@pytest.fixture
def world(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the world, to be spoilt. The run's records point into the copy."""
    folder = tmp_path / "world"
    shutil.copytree(pristine, folder)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(str(pristine), str(folder)))
    return folder


@pytest.fixture
def politely(call: Call, world: Path) -> Callable[..., Ended]:
    """Call the command in the world, and check what holds of every call."""

    def check(*arguments: str, **options: object) -> Ended:
        ended = call(*arguments, cwd=world, **options)
        told = ended.out[-3000:] + ended.err[-6000:]
        for report in re.findall(r"\S*/iterreg-bug-\w+\.txt", ended.err):
            told += Path(report).read_text()
        assert not ended.faults(), f"{', '.join(ended.faults())}\n{told}"
        partial = [str(path) for path in world.rglob("*.partial.*")]
        assert not partial, f"left behind: {partial}"
        return ended

    return check
