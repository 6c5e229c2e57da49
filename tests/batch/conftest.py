"""A laboratory: a tiny data set, and a plug-in package whose method fails in every way a real one can."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

PLUGIN = '''
"""Methods that behave as the fixed image's file name says, or as the file FAULTS_JSON maps it."""

import ctypes, json, os, signal, subprocess, sys, tempfile, threading, time
from pathlib import Path

import numpy as np

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.methods.base import Cost, Parameters, Registration
from iterreg.volume import Grid


def sleep(*_):
    time.sleep(100_000)


def hog(task, megabytes):
    kept = []
    while len(kept) < megabytes // 20:
        kept.append(np.ones(20 * 2**20, np.uint8))
        time.sleep(0.005)
    time.sleep(1)
    if megabytes > 1000:
        sleep()


def flaky(task, path):
    if not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGSEGV)


def native(task):
    for _ in range(2000):
        os.write(1, b"native line of an engine\\n" * 40)
    ctypes.CDLL(None).puts(b"said by puts")
    print("said by print")


def segfault(task):
    ctypes.CDLL(None).puts(b"the last words")
    ctypes.string_at(0)


def grandchildren(task):
    subprocess.Popen(["sleep", "100000"])
    subprocess.Popen(["setsid", "sh", "-c", "sleep 100000 & sleep 100000"], start_new_session=True)
    time.sleep(0.5)


def litter(task):
    (task.scratch / "big.bin").write_bytes(bytes(2**20))
    Path("dropped_here.txt").write_text("litter")
    tempfile.mkstemp(prefix="dropped_in_tmp")
    Path(os.environ["TMPDIR"], "native_temporary").write_text("litter")


def threads(task):
    many = [threading.Thread(target=time.sleep, args=(1.0,)) for _ in range(6)]
    for one in many:
        one.start()
    for one in many:
        one.join()


def fork(task):
    os.fork()  # and both go on, as a careless engine does


def nonsense(task):
    for entry in Path("/proc/self/fd").iterdir():
        if os.path.lexists(entry) and "socket" in os.readlink(entry):
            for packet in (b"not json", b'{"event": "ended", "id": 999}', b"[1]"):
                os.write(int(entry.name), packet)


def fill(task):
    """Leave 20 kB on the file system of FULL_DISK."""
    with open(os.path.join(os.environ["FULL_DISK"], "ballast"), "wb") as stream:
        try:
            while True:
                stream.write(bytes(4096))
                stream.flush()
        except OSError:
            pass
    os.truncate(stream.name, os.path.getsize(stream.name) - 20_000)


def fill_scratch(task):
    """Write until nothing fits any more, and misunderstand that as engines do."""
    try:
        with open(task.scratch / "image.nii", "wb") as stream:
            while True:
                stream.write(bytes(4096))
                stream.flush()
    except OSError:
        raise RuntimeError("could the file be damaged?") from None


def vandal(task):
    """Truncate an image of the data set."""
    victim = Path(os.environ["VICTIM"])
    victim.write_bytes(victim.read_bytes()[:200])


def lonely(path):
    """Lack memory once, then look whether the second attempt has the machine to itself."""
    if not os.path.exists(path):
        Path(path).touch()
        raise MemoryError
    for _ in range(20):
        jobs = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
        if jobs != [str(os.getpid())]:
            raise RuntimeError("not alone")
        time.sleep(0.02)


def throw(error):
    raise error


class Faulty:
    name = "faulty"
    distributions = ("faulty-plugin",)

    def parameters(self, source):
        if source is None:
            return Parameters("", {"strength": 1})
        return Parameters(Path(source).stem, json.loads(Path(source).read_text()), (Path(source),))

    def cost(self, parameters, fixed, moving):
        return Cost(parameters.values.get("memory", 50 * 2**20), parameters.values.get("seconds", 0.1))

    def environment(self, threads):
        return {}

    def warm(self):
        pass

    def register(self, task, parameters):
        subject = task.fixed.path.name.partition(".")[0]
        if "EXECUTIONS" in os.environ:
            with open(os.environ["EXECUTIONS"], "a") as stream:
                stream.write(subject + "\\n")
        faults = {}
        if os.path.exists(os.environ.get("FAULTS_JSON", "")):
            faults = json.loads(Path(os.environ["FAULTS_JSON"]).read_text())
        fault = faults.get(subject, subject)
        field = DisplacementField.identity(task.fixed.grid, task.moving.grid)
        details = {"number": np.float32(0.5), "nan": float("nan"), "array": np.arange(3)}
        small = Grid((4, 4, 4), np.eye(4))
        {
            "raise": lambda: throw(RuntimeError("the engine\\nsaid no")),
            "input": lambda: throw(InputError(f"{task.fixed.path}: is not a brain; give a brain")),
            "bad_alloc": lambda: throw(RuntimeError("std::bad_alloc")),
            "nan": lambda: field.vectors.__setitem__((3, 3, 3, 0), np.nan),
            "segfault": lambda: segfault(task),
            "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "abort": lambda: os.abort(),
            "hog": lambda: hog(task, 20_000),
            "greedy": lambda: hog(task, 300),
            "giant": lambda: (hog(task, 300), time.sleep(5)),
            "sleep": sleep,
            "native": lambda: native(task),
            "exit": lambda: os._exit(0),
            "sysexit": lambda: sys.exit(0),
            "grandchildren": lambda: grandchildren(task),
            "litter": lambda: litter(task),
            "threads": lambda: threads(task),
            "flaky": lambda: flaky(task, os.environ["EXECUTIONS"] + ".flaky"),
            "fork": lambda: fork(task),
            "lonely": lambda: lonely(os.environ["EXECUTIONS"] + ".lonely"),
            "fill": lambda: fill(task),
            "fill_scratch": lambda: fill_scratch(task),
            "vandal": lambda: vandal(task),
            "nonsense": lambda: nonsense(task),
            "slow": lambda: time.sleep(float(os.environ.get("SLOW_SECONDS", "0.3"))),
        }.get(fault, lambda: None)()
        if os.environ.get("NOISE"):  # which no compression makes small
            seed = sum(subject.encode())
            field.vectors[:] = np.random.default_rng(seed).uniform(-0.1, 0.1, field.vectors.shape)
        if fault == "shape":
            return Registration(DisplacementField.identity(small, task.moving.grid))
        if fault == "type":
            return field.vectors
        if fault == "array":
            return Registration(field.vectors)
        if fault == "details":
            details["long"] = "x" * 500_000
        return Registration(field, details=details)


class SlowWarm(Faulty):
    name = "slowwarm"

    def warm(self):
        Path(os.environ["EXECUTIONS"] + ".warming").touch()
        time.sleep(float(os.environ.get("WARM_SECONDS", "2")))


class BadWarm(Faulty):
    name = "badwarm"

    def warm(self):
        Path(os.environ["EXECUTIONS"] + ".badwarm").open("a").write("x")
        raise ImportError("libengine.so.4: cannot open shared object file")


class CrashWarm(Faulty):
    name = "crashwarm"

    def warm(self):
        print("an unrelated line")
        os.kill(os.getpid(), signal.SIGSEGV)
'''

ENTRY_POINTS = """[iterreg.methods]
faulty = faulty_plugin:Faulty
slowwarm = faulty_plugin:SlowWarm
badwarm = faulty_plugin:BadWarm
crashwarm = faulty_plugin:CrashWarm
noimport = faulty_plugin_that_is_not_there:Method
"""


@dataclass
class Lab:
    """One data set, one run folder, and the command line to work on them."""

    root: Path
    site: Path
    subjects: Sequence[str]
    mark: str = field(default_factory=lambda: f"iterreg-lab-{uuid.uuid4().hex}")

    @property
    def out(self) -> Path:
        return self.root / "run"

    @property
    def table(self) -> Path:
        return self.root / "pairs.csv"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def executions(self) -> Path:
        return self.root / "executions.txt"

    def image(self, subject: str) -> Path:
        return self.root / "images" / f"{subject}.nii.gz"

    def make(self, size: int = 16) -> None:
        (self.root / "images").mkdir(parents=True)
        self.scratch.mkdir()
        for number, subject in enumerate(["ref", *self.subjects]):
            self.write_image(subject, seed=number, size=size)
        with self.table.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["fixed", "moving", "fixed_id", "moving_id"])
            for subject in self.subjects:
                writer.writerow([self.image(subject), self.image("ref"), subject, "ref"])

    def write_image(self, subject: str, *, seed: int, size: int = 16) -> None:
        noise = np.random.default_rng(seed).standard_normal((size,) * 3)
        array = (100 + 400 * gaussian_filter(noise, 2)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), self.image(subject))

    def await_executions(self, *subjects: str, times: int = 1) -> None:
        """Wait until each of these has begun to be registered so many times."""
        self.await_(lambda: all(self.counts()[subject] >= times for subject in subjects))

    @staticmethod
    def await_(condition: Callable[[], bool], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "what was waited for did not happen"
            time.sleep(0.05)

    def faults(self, **behaviour: str) -> None:
        """Let subjects behave otherwise than they are called."""
        (self.root / "faults.json").write_text(json.dumps(behaviour))

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {
            **os.environ,
            "PYTHONPATH": path,
            "ITERREG_LAB": self.mark,
            "EXECUTIONS": str(self.executions),
            "FAULTS_JSON": str(self.root / "faults.json"),
            **more,
        }

    def command(self, *arguments: str | Path) -> list[str]:
        """``iterreg run`` over the table, with `arguments`."""
        base = ["run", self.table, "--out", self.out, "--scratch", self.scratch, *arguments]
        if not any(str(argument) in ("-m", "--method") for argument in arguments):
            base += ["--method", "faulty"]
        return [sys.executable, "-m", "iterreg", *map(str, base)]

    def run(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.call(self.command(*arguments), **environment)

    def iterreg(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.call([sys.executable, "-m", "iterreg", *map(str, arguments)])

    def call(self, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment(**environment),
            cwd=self.root,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=400,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """The same in the background; its output goes to ``output.txt``."""
        with (self.root / "output.txt").open("ab") as stream:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment(**environment),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def output(self) -> str:
        return (self.root / "output.txt").read_text(errors="replace")

    def status(self, subject: str, arm: str = "faulty") -> dict[str, Any]:
        path = self.out / arm / "jobs" / f"{subject}_ref" / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def log(self, subject: str, arm: str = "faulty") -> str:
        return (self.out / arm / "jobs" / f"{subject}_ref" / "log.txt").read_text(errors="replace")

    def field(self, subject: str, arm: str = "faulty") -> Path:
        return self.out / arm / "fields" / f"disp_{subject}_ref.nii.gz"

    def results(self) -> dict[str, dict[str, str]]:
        with (self.out / "results.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        keyed = {f"{row['arm']}/{row['pair']}": row for row in rows}
        assert len(keyed) == len(rows)
        return keyed

    def counts(self) -> Counter[str]:
        """How often each subject was registered."""
        return Counter(self.executions.read_text().split()) if self.executions.exists() else Counter()

    def survivors(self) -> list[int]:
        """Processes started by this lab that are still alive, however far they have gone."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if self.mark.encode() in (folder / "environ").read_bytes():
                        found.append(int(folder.name))
                except OSError:
                    continue
        return found

    def leftovers(self) -> list[Path]:
        """Files that a run should not leave behind."""
        names = (
            ".partial.",
            ".clock-",
            "claim-",
            "unfinished",
            ".discarded-",
            "iterreg-scratch",
            "dropped",
            "native_temporary",
        )
        return [
            path
            for folder in (self.out, self.scratch, self.root)
            for path in folder.rglob("*")
            if any(name in path.name for name in names)
        ]


@pytest.fixture(scope="session")
def plugin_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with an installed distribution that registers the methods."""
    site = tmp_path_factory.mktemp("site")
    (site / "faulty_plugin.py").write_text(PLUGIN)
    info = site / "faulty_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


@pytest.fixture(scope="session")
def make_lab(plugin_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Lab]:
    """Make a lab whose subjects are called after the faults they show."""

    def make(*subjects: str, size: int = 16) -> Lab:
        lab = Lab(tmp_path_factory.mktemp("lab"), plugin_site, subjects)
        lab.make(size)
        return lab

    return make


@pytest.fixture(scope="session")
def plain_subjects() -> Callable[[int], list[str]]:
    """Names without a fault."""
    return lambda count: [f"s{number:02d}" for number in range(count)]
