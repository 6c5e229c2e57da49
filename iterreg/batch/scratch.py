"""Temporary folders that are always removed, even those of a run that was killed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from iterreg.errors import InputError
from iterreg.jobs.claims import place
from iterreg.jobs.hashing import digest
from iterreg.jobs.resources import process_start

__all__ = ["Scratch", "check_scratch", "mount_point"]

_PREFIX = "iterreg-scratch"


def check_scratch(where: Path | None) -> None:
    """Refuse a place for scratch folders that cannot take any; write nothing.

    Raises
    ------
    InputError
        If it is no folder, or nothing may be written into it.
    """
    parent = _parent(where)
    try:
        if not parent.is_dir():
            what = "is a file" if parent.exists() else "does not exist"
            raise InputError(f"{parent}: {what}; name a folder with --scratch")
    except OSError as error:
        raise InputError(
            f"{parent}: cannot be reached ({error.strerror}); name another folder with --scratch"
        ) from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent}: you may not write there; name another folder with --scratch")


def mount_point(path: Path) -> Path:
    """Where the file system that holds a path is mounted."""
    path = path.resolve()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path


def _parent(where: Path | None) -> Path:
    return (Path(where) if where is not None else Path(tempfile.gettempdir())).absolute()


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
        parent = _parent(where)
        check_scratch(parent)
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


_NAME = re.compile(rf"{_PREFIX}\.(?P<here>[0-9a-f]+)\.(?P<pid>\d{{1,9}})\.(?P<start>\d*)\.\w+", re.ASCII)


def _sweep(parent: Path) -> None:
    """Remove what this user's runs on this host left behind when they were killed.

    Folders of other users stay (their processes may be hidden from us), and so does whatever else is called
    alike.
    """
    if not place():
        return
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is None or name["here"] != _here():
                continue
            with suppress(OSError):
                mine = entry.stat(follow_symlinks=False).st_uid == os.getuid()
                if mine and process_start(int(name["pid"])) != name["start"]:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _here() -> str:
    return digest(place())[:12]
