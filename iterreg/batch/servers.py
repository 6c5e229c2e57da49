"""Starts the warm parent of an engine, held to a number of threads."""

from __future__ import annotations

from pathlib import Path

from iterreg.jobs.forkserver import ForkServer
from iterreg.methods.base import Method

__all__ = ["start_server"]


def start_server(method: Method, *, threads: int, log: Path, cold: bool = False) -> ForkServer:
    """A fork server that has imported the method's engine.

    Parameters
    ----------
    threads
        Enforced through the environment, which engines read when they are imported.
    cold
        Import nothing: each child then imports the engine itself.
    """
    count = str(threads)
    return ForkServer(
        warm=None if cold else "iterreg.batch.work:warm",
        warm_argument=method.name,
        environment={
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count,
            "NUMBA_NUM_THREADS": count,
            "OMP_NUM_THREADS": count,
            # Linear algebra is never the bottleneck, and its pool would not survive the fork.
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            **method.environment(threads),
        },
        log=log,
    )
