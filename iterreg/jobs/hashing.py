"""Digests of files and of JSON values: what "the same job" means."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from iterreg.errors import InputError
from iterreg.jobs.atomic import write_text
from iterreg.text_files import read_json, regular

__all__ = ["FileDigests", "digest"]


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class FileDigests:
    """SHA-256 of files, each read once per size and modification time; safe between threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}
        self._lock = threading.Lock()

    def load(self, path: Path) -> None:
        """Take over digests that `save` wrote; an unreadable file is as good as none."""
        try:
            known = read_json(path)
            taken = {
                (name, size, time): value
                for name, size, time, value in known
                if (type(name), type(size), type(time), type(value)) == (str, int, int, str)
            }
            with self._lock:
                self._known |= taken
        except (InputError, ValueError, TypeError):
            return

    def save(self, path: Path) -> None:
        """Keep the digests for the next run."""
        with self._lock:
            known = [[*key, value] for key, value in sorted(self._known.items())]
        write_text(path, "[\n" + ",\n".join(map(json.dumps, known)) + "\n]\n")

    def __call__(self, path: Path) -> str:
        """The digest of a file.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        with regular(path):
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            with self._lock:
                if key in self._known:
                    return self._known[key]
            with path.open("rb") as stream:
                value = hashlib.file_digest(stream, "sha256").hexdigest()
        with self._lock:
            self._known[key] = value
        return value
