"""Runs a function over many items in threads: joblib's, or plain ones where joblib has none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

with warnings.catch_warnings():
    # Where no semaphore can be made (a container whose /dev/shm is not writable), joblib says at its import
    # that all will run one after another. Here it will not.
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    from joblib import Parallel, delayed, effective_n_jobs, parallel_config

__all__ = ["in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> list[Result]:
    """The function's results in the order of the items, computed by `threads` threads at once.

    Raises
    ------
    Exception
        What the function raises, when it does so first.
    """
    with parallel_config(backend="threading"):
        crippled = effective_n_jobs(threads) < threads
    if crippled:
        with ThreadPoolExecutor(threads) as plain:
            return list(plain.map(function, items))
    pool = Parallel(n_jobs=threads, backend="threading", batch_size=1, pre_dispatch="all")
    return list(pool(delayed(function)(item) for item in items))
