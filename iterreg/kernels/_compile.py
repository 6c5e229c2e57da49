"""How kernels are compiled: float32-safe, parallel over slabs, cached on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def _cache_directory() -> None:
    """Point numba's cache at a writable place before numba is first imported.

    Numba caches beside the source or in the home directory; on a cluster both may be
    read-only, and then it refuses to compile a cached function at all.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    beside_source = Path(__file__).parent
    if os.access(beside_source, os.W_OK):
        return
    home_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    candidates = [home_cache, home_cache.parent]
    if any(c.is_dir() and os.access(c, os.W_OK) for c in candidates):
        return
    user = os.getuid() if hasattr(os, "getuid") else 0
    os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"iterreg-numba-{user}")


_cache_directory()

import numba  # noqa: E402  (the cache directory must be chosen first)

prange = numba.prange


def kernel(function: F) -> F:
    """Compile a parallel kernel.

    ``fastmath`` stays off: every result must be the same for any thread count and safe for NaN checks.
    """
    return cast(F, numba.njit(parallel=True, cache=True, error_model="numpy")(function))


def inline(function: F) -> F:
    """Compile a helper called from kernels."""
    return cast(F, numba.njit(cache=True, error_model="numpy", inline="always")(function))
