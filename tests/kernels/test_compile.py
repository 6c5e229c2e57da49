"""Kernels must start where nothing can be written, and survive forks and threads."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

import iterreg
from iterreg.kernels import _compile

PACKAGE = Path(iterreg.__file__).parent
NOBODY = 54321

SAMPLE = """
import json, sys
import numpy as np
from iterreg.kernels import sampling
points = np.array([[0.5, 0.5, 0.5]])
field = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
value = sampling.sample_field(field, points)
stats = sampling.sample_field.dispatcher.stats
print(json.dumps({
    "file": sampling.__file__,
    "value": value.tolist(),
    "cache": stats.cache_path,
    "hits": sum(stats.cache_hits.values()),
    "misses": sum(stats.cache_misses.values()),
}))
"""


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(PACKAGE.parent), **changes}


@pytest.fixture
def sealed_copy(tmp_path: Path) -> Iterator[Path]:
    """The package where nothing can be written beside it, not even by root, whom permissions do not bind."""
    copy = tmp_path / "site" / "iterreg"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "kernels" / "__pycache__").write_text("a file where numba would make a folder")
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield copy
    for folder in folders:
        folder.chmod(0o755)


def test_four_processes_at_once_without_a_writable_package_or_home(sealed_copy: Path, tmp_path: Path) -> None:
    """One of them compiles into the temporary directory; the others wait for it and load."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = environment(PYTHONPATH=str(sealed_copy.parent), HOME="/dev/null/nonexistent", TMPDIR=str(scratch))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SAMPLE],
            env=env,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    results = []
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    for result in results:
        assert Path(result["file"]).is_relative_to(sealed_copy)
        assert Path(result["cache"]).is_relative_to(scratch)
        assert result["value"] == [[10.5, 11.5, 12.5]]
    assert sorted((r["hits"], r["misses"]) for r in results) == [(0, 1), (1, 0), (1, 0), (1, 0)]
    private = next(scratch.glob("iterreg-numba-*"))
    assert private.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without a name")
def test_as_a_user_without_a_name_or_home() -> None:
    """Containers run as a uid that no passwd file knows; its home directory must not be asked for."""
    folder = Path(tempfile.mkdtemp(prefix="iterreg-test-"))  # pytest's own folder is root's alone
    try:
        os.chown(folder, NOBODY, NOBODY)
        env = environment(TMPDIR=str(folder))
        env.pop("HOME", None)

        def run(code: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", code],
                env=env,
                cwd="/",
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
            )

        try:
            reachable = run(f"import numba; open({_compile.__file__!r})").returncode == 0
        except PermissionError:
            reachable = False
        if not reachable:
            pytest.skip("this interpreter or checkout lies in a folder that other users may not enter")
        done = run(SAMPLE)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["value"] == [[10.5, 11.5, 12.5]]
    finally:
        shutil.rmtree(folder)


def test_nothing_to_write_to_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any place for a cache the kernel is compiled for this process alone."""

    def no_place() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(_compile.tempfile, "gettempdir", no_place)
    monkeypatch.setattr(_compile.config, "CACHE_DIR", "")
    source = tmp_path / "nowhere.py"

    def double(a: np.ndarray) -> np.ndarray:
        return a * 2

    # A function of a file that does not exist has no cache of numba's own either.
    double.__code__ = double.__code__.replace(co_filename=str(source))
    kernel = _compile.kernel(double)
    assert kernel.dispatcher.stats.cache_path is None
    assert kernel(np.ones(3)).tolist() == [2, 2, 2]


def test_a_planted_cache_directory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compiled code is never loaded from a directory that others can write to."""
    monkeypatch.setattr(_compile.tempfile, "gettempdir", lambda: str(tmp_path))
    planted = tmp_path / f"iterreg-numba-{os.getuid()}"
    assert _compile._private_directory() == planted
    assert planted.stat().st_mode & 0o777 == 0o700
    assert _compile._private_directory() == planted, "its own directory is used again"
    planted.chmod(0o777)
    assert _compile._private_directory() is None
    planted.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    planted.symlink_to(tmp_path / "elsewhere")
    assert _compile._private_directory() is None


def test_a_cache_that_cannot_be_written_does_not_stop_a_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk is met when the compiled code is saved: the one in memory is good enough."""
    monkeypatch.setattr(_compile.config, "CACHE_DIR", str(tmp_path / "cache"))

    def triple(a: np.ndarray) -> np.ndarray:
        return a * 3

    kernel = _compile.kernel(triple)
    folder = Path(kernel.dispatcher.stats.cache_path)
    assert folder.is_relative_to(tmp_path)
    shutil.rmtree(folder)
    folder.write_text("a file where the folder should be")
    assert kernel(np.ones(3)).tolist() == [3, 3, 3]


def test_a_damaged_cache_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_compile.config, "CACHE_DIR", str(tmp_path))

    def fourfold(a: np.ndarray) -> np.ndarray:
        return a * 4

    assert _compile.kernel(fourfold)(np.ones(3)).tolist() == [4, 4, 4]
    (index,) = tmp_path.rglob("*.nbi")
    index.write_bytes(index.read_bytes()[:-20])
    assert _compile.kernel(fourfold)(np.ones(3)).tolist() == [4, 4, 4]


def test_a_kernels_own_error_is_told() -> None:
    def wrong(a: np.ndarray) -> np.ndarray:
        return a.no_such_attribute

    with pytest.raises(TypingError, match="no_such_attribute"):
        _compile.kernel(wrong)(np.ones(3))


def test_keywords_reach_the_kernel() -> None:
    from iterreg.kernels.sampling import sample_linear

    image = np.ones((2, 2, 2), np.float32)
    outside = np.full((2, 2, 2, 3), 9, np.float32)
    assert (sample_linear(image, fill=4.0, displacement=outside) == 4).all()


HARSH = """
import os, sys, threading
import numpy as np, numba
from iterreg.kernels.sampling import sample_field
field = np.random.default_rng(0).random((9, 9, 9, 3), dtype=np.float32)
points = np.random.default_rng(1).random((500, 3)) * 8
expected = sample_field(field, points)  # the parent has run a kernel: its threads exist now
wrong = []
def repeat():
    for _ in range(100):
        if not np.array_equal(sample_field(field, points), expected):
            wrong.append(1)
threads = [threading.Thread(target=repeat) for _ in range(4)]
[t.start() for t in threads]
children = []
for _ in range(3):  # forked while other threads are inside kernels
    child = os.fork()
    if child == 0:
        ok = all(np.array_equal(sample_field(field, points), expected) for _ in range(5))
        os._exit(0 if ok else 7)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
[t.join() for t in threads]
print(codes, wrong, numba.threading_layer(), numba.get_num_threads())
"""


def test_kernels_survive_forks_and_threads() -> None:
    """Layers of numba end the process (workqueue, two threads) or the child (OpenMP, after a fork)."""
    done = subprocess.run(
        [sys.executable, "-c", HARSH], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0, 0, 0] [] workqueue ")


def test_the_users_thread_settings_are_obeyed() -> None:
    code = (
        "import numba, iterreg.kernels._compile as c;"
        "print(c.config.THREADING_LAYER, numba.get_num_threads(), c.config.NUMBA_NUM_THREADS)"
    )
    env = environment(NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="omp")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["omp", "1", "1"]


def test_a_process_that_does_not_fork_may_choose_its_layers() -> None:
    code = (
        "from iterreg.kernels._compile import config;"
        "print(config.THREADING_LAYER, *config.THREADING_LAYER_PRIORITY)"
    )
    env = environment(NUMBA_THREADING_LAYER_PRIORITY="omp tbb workqueue")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["default", "omp", "tbb", "workqueue"]


def test_kernel_files_stand_alone() -> None:
    """numba's cache watches a kernel's own file only: a helper elsewhere could go stale unseen."""
    for path in (PACKAGE / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("iterreg"):
                assert node.module == "iterreg.kernels._compile", f"{path.name} imports {node.module}"
