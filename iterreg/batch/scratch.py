"""Temporary folders that are always removed, even those of a run that was killed."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iterreg.errors import InputError
from iterreg.jobs.claims import process_start

__all__ = ["Scratch"]

_PREFIX = "iterreg-scratch"


class Scratch:
    """A run's temporary folder; each job gets an empty one inside it.

    Parameters
    ----------
    where
        The folder to make it in; None for the system's temporary folder.

    Raises
    ------
    InputError
        If nothing can be written there.
    """

    def __init__(self, where: Path | None = None) -> None:
        parent = Path(where) if where is not None else Path(tempfile.gettempdir())
        _sweep(parent)
        start = (process_start(os.getpid()) or "").rpartition(":")[2]
        try:
            self.path = Path(
                tempfile.mkdtemp(
                    prefix=f"{_PREFIX}.{socket.gethostname()}.{os.getpid()}.{start}.", dir=parent
                )
            )
        except OSError as error:
            raise InputError(
                f"{parent}: no scratch folder can be made ({error.strerror}); set --scratch"
            ) from error

    @contextmanager
    def job(self) -> Iterator[Path]:
        """An empty folder for one job, removed afterwards whatever happened."""
        folder = Path(tempfile.mkdtemp(dir=self.path))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what runs on this host left behind when they were killed."""
    for folder in parent.glob(f"{_PREFIX}.*"):
        host, _, rest = folder.name[len(_PREFIX) + 1 :].rpartition(".")[0].rpartition(".")[0].rpartition(".")
        pid, start = rest, folder.name.split(".")[-2]
        if host != socket.gethostname() or not pid.isdigit():
            continue
        alive = process_start(int(pid))
        if alive is None or alive.rpartition(":")[2] != start:
            shutil.rmtree(folder, ignore_errors=True)
