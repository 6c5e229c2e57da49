"""What the commands that write single files say when the disk does not take them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iterreg.errors import InputError

__all__ = ["writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full, read-only or broken disk makes the block raise into one sentence.

    Only at the command line: within a job a full disk is a matter of the run, not of its input.

    Raises
    ------
    InputError
        Instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}) and was not; see that the disk has "
            "space, the quota is not used up and the folder is yours to write"
        ) from error
