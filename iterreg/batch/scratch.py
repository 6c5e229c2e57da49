"""Temporary folders that are always removed, even those of a run that was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iterreg.errors import InputError
from iterreg.jobs.claims import place
from iterreg.jobs.hashing import digest
from iterreg.jobs.resources import process_start

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
        parent = (Path(where) if where is not None else Path(tempfile.gettempdir())).absolute()
        _sweep(parent)
        me = f"{_here()}.{os.getpid()}.{process_start(os.getpid()) or ''}"
        try:
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}.{me}.", dir=parent))
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
    for folder in parent.glob(f"{_PREFIX}.{_here()}.*"):
        _, _, pid, start, _ = folder.name.split(".")
        if process_start(int(pid)) != start:
            shutil.rmtree(folder, ignore_errors=True)


def _here() -> str:
    return digest(place())[:12]
