"""How kernels are compiled and called: parallel over slabs, cached on disk, safe to fork and to share.

Three traps of numba are closed here, in one place:

* it refuses to compile a cached function where neither the package nor the home directory can be written;
* its cache index is not safe against several processes that compile for the same function at once, and a
  lock around it makes everybody wait for whoever holds it;
* its threading layers are either unsafe after a fork (GNU OpenMP ends the child) or unsafe under two
  Python threads (workqueue ends the process).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import stat
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config
from numba.core.caching import FunctionCache, NullCache, _cache_log
from numba.core.serialize import dumps

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange

config: Any = numba.core.config

_OPTIONS: dict[str, Any] = {"parallel": True, "error_model": "numpy"}
"""``fastmath`` stays off: results must not depend on the thread count and NaN must stay visible."""

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
    compiled: Any = numba.njit(**_OPTIONS)(function)
    try:
        compiled._cache = _Cache(function)
        return compiled
    except RuntimeError:  # "cannot cache function: no locator available"
        directory = _private_directory()
    if directory is None:
        return compiled
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        compiled._cache = _Cache(function)
    finally:
        config.CACHE_DIR = before
    return compiled


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache without its index, so that no process ever waits for another."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file: Any = _OneFileEach(
            Path(self._cache_path), self._impl.filename_base, self._impl.locator.get_source_stamp()
        )


class _OneFileEach:
    """A file for every specialisation of a function, named after it, written whole or not at all.

    numba keeps an index of numbered files: two processes that compile different specialisations at once can
    leave one that points to the other's machine code, and whoever reads between the two writes meets code of
    an older source. Here a file says what it holds, so it needs neither an index nor a lock. Processes that
    start together may compile the same kernel side by side; they write the same file. With NUMBA_DEBUG_CACHE
    it tells what it does, as numba's own does.
    """

    def __init__(self, folder: Path, base: str, source: object) -> None:
        self._folder, self._base = folder, base
        self._content = (numba.__version__, source)

    def load(self, key: tuple[Any, ...]) -> Any:
        """The specialisation `key`, or None where there is none, an older one or a damaged one."""
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                if pickle.load(stream) != self._content:  # before what another numba may not read
                    return None
                found, data = pickle.load(stream)
        except Exception:  # whatever a damaged file makes of pickle
            return None
        if found != key:
            return None
        _cache_log("[cache] data loaded from %r", str(path))
        return data

    def save(self, key: tuple[Any, ...], data: object) -> None:
        """Keep a specialisation.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        path = self._path(key)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
        try:
            with draft.open("wb") as stream:
                pickle.dump(self._content, stream)
                stream.write(dumps((key, data)))
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _cache_log("[cache] data saved to %r", str(path))

    def flush(self) -> None:
        """Forget every specialisation of the function."""
        for path in self._folder.glob(f"{self._base}.*.nbc"):
            path.unlink(missing_ok=True)

    def _path(self, key: tuple[Any, ...]) -> Path:
        signature, machine, _ = key  # the third is of the source: a new one takes the place of the old
        name = hashlib.sha256(repr((signature, machine)).encode()).hexdigest()[:16]
        return self._folder / f"{self._base}.{name}.nbc"


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
    with _short_vectors():
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
