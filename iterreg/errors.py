"""The errors iterreg raises on purpose.

Every message is one sentence a user can act on: what was wrong, in which file, what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class IterregError(Exception):
    """Base of every error that iterreg raises on purpose."""


class InputError(IterregError, ValueError):
    """Something the user handed over (a file, a parameter, a data set) cannot be used.

    Trying again without changing the input fails again: such a job is never retried.
    """


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say before the refusals of the block where the refused thing was read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


class EngineError(IterregError, RuntimeError):
    """A registration engine ran, but what it gave is missing, incomplete or not finite."""


class InputWarning(UserWarning):
    """Something the user handed over can be used, but may not be what was meant."""
