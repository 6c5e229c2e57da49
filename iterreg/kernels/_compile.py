"""How kernels are compiled and called: parallel over slabs, cached on disk, safe to fork and to share.

Three traps of numba are closed here, in one place:

* it refuses to compile a cached function where neither the package nor the home directory can be written;
* its cache index is not safe against several processes that compile for the same function at once;
* its threading layers are either unsafe after a fork (GNU OpenMP ends the child) or unsafe under two
  Python threads (workqueue ends the process).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import inspect
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config
from numba.core.caching import NullCache

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange

config: Any = numba.core.config

_OPTIONS: dict[str, Any] = {"parallel": True, "error_model": "numpy"}
"""``fastmath`` stays off: results must not depend on the thread count and NaN must stay visible."""

_PATIENCE = 120.0
"""Seconds to wait for another process that compiles the same kernels, before compiling as well."""

# Batches fork their children, and a parent may have run a kernel before (to evaluate, in a notebook).
# Of numba's layers workqueue alone survives that everywhere; the lock below makes up for its other
# limit, one parallel region at a time. It is slow to start a loop (0.2 ms): whoever does not fork says so by
# NUMBA_THREADING_LAYER_PRIORITY. A user's NUMBA_THREADING_LAYER is obeyed.
if config.THREADING_LAYER == "default" and "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    config.THREADING_LAYER = "workqueue"


class _Turn:
    """One parallel region at a time in a process. A forked child starts with a free lock."""

    def __init__(self) -> None:
        self._free()
        os.register_at_fork(after_in_child=self._free)

    def _free(self) -> None:
        self.lock = threading.Lock()


_turn = _Turn()


def kernel(function: F) -> F:
    """Compile a parallel kernel on its first call for each combination of argument types.

    Kernels may be called from any Python thread and in forked children; they run one at a time,
    each on all of numba's threads (``NUMBA_NUM_THREADS``, read when numba is imported, or
    `numba.set_num_threads`). The numba dispatcher is the result's ``dispatcher`` attribute.

    A helper that a kernel calls must stand in the kernel's own file: numba's disk cache watches
    no other file, and would go on using the old helper after a change.
    """
    compiled = _cached(function)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        types = tuple(numba.typeof(argument) for argument in args)
        with _turn.lock:
            if types not in compiled.overloads:
                _compile(compiled, types)
            return compiled(*args)

    call.__dict__["dispatcher"] = compiled
    return cast(F, call)


def helper(function: F) -> F:
    """Compile a scalar function that kernels of the same file call; the compiler inlines it."""
    return cast(F, numba.njit(error_model="numpy")(function))


def _cached(function: Callable[..., Any]) -> Any:
    """A dispatcher with a disk cache: where numba likes it, else in a temporary directory, else none."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        directory = _private_directory()
    if directory is None:
        return numba.njit(**_OPTIONS)(function)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


def _private_directory() -> Path | None:
    """A directory for compiled code under the temporary one that nobody else can write to, or None."""
    try:
        directory = Path(tempfile.gettempdir()) / f"iterreg-numba-{os.getuid()}"
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except OSError:
        return None
    # Machine code is loaded from here: another user may have made the directory first to plant some.
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return directory if ours else None


def _compile(compiled: Any, types: tuple[Any, ...]) -> None:
    """Compile, or load from the disk cache, one specialisation."""
    with _one_process(compiled.stats.cache_path), _short_vectors():
        try:
            compiled.compile(types)
        except Exception:
            # The cache may be full, damaged or gone since the import. What was compiled but not saved is
            # good enough; otherwise go on without a cache. An error of the kernel's own comes again.
            if types not in compiled.overloads:
                cache, compiled._cache = compiled._cache, NullCache()
                try:
                    compiled.compile(types)
                except BaseException:
                    compiled._cache = cache
                    raise


@contextlib.contextmanager
def _short_vectors() -> Iterator[None]:
    """Let the compiler join what is done alike to neighbouring numbers, the components of a vector.

    numba leaves this pass of LLVM's off for everybody; flows are a third faster with it.
    """
    before = config.SLP_VECTORIZE
    config.SLP_VECTORIZE = 1
    try:
        yield
    finally:
        config.SLP_VECTORIZE = before


@contextlib.contextmanager
def _one_process(cache: str | None) -> Iterator[None]:
    """Let one process at a time compile into `cache`; those who waited load what it wrote.

    numba numbers the files of a function's specialisations without looking at other processes: two
    that compile different ones at once can leave an index that points to the other's machine code.
    Where the file system has no locks, or the holder stalls, go on without.
    """
    if cache is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock = stack.enter_context(Path(cache, "iterreg-kernels.lock").open("a"))
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield
