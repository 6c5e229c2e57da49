"""Finds methods by name through the entry-point group ``iterreg.methods``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from iterreg.errors import InputError
from iterreg.methods.base import Method

__all__ = ["available", "load"]

GROUP = "iterreg.methods"


def available() -> tuple[str, ...]:
    """Names of every installed method, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@cache
def load(name: str) -> Method:
    """The method called `name`; its engine is not imported.

    Raises
    ------
    InputError
        If no installed package provides it, or it does not follow the protocol.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            method = entry.load()()
            if not isinstance(method, Method):
                raise InputError(
                    f"the method {name!r} ({entry.value}) does not follow iterreg.methods.base.Method"
                )
            return method
    raise InputError(f"there is no method {name!r}; installed are {', '.join(available())}")
