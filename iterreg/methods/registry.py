"""Finds methods by name through the entry-point group ``iterreg.methods``."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath

from iterreg.errors import InputError
from iterreg.methods import presets
from iterreg.methods.base import Method
from iterreg.methods.foreign import Foreign, said

__all__ = ["available", "load"]

GROUP = "iterreg.methods"


def available() -> tuple[str, ...]:
    """Names of every installed method, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@cache
def load(name: str) -> Method:
    """The method called `name`; its engine is not imported.

    A method of another package is held to the protocol (`iterreg.methods.foreign`).

    Raises
    ------
    InputError
        If no installed package provides it, its package cannot be imported, or it does not follow the
        protocol.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _loaded(entry)
    raise InputError(f"there is no method {name!r}; {_hint(name)}")


def _loaded(entry: EntryPoint) -> Method:
    try:
        method = entry.load()()
    except Exception as error:  # others' code, that may fail in any way
        raise InputError(
            f"the method {entry.name!r} cannot be loaded ({type(error).__name__}: {said(error)}); "
            f"mend or uninstall the package that provides it, {entry.value}"
        ) from error
    if not isinstance(method, Method):
        raise InputError(
            f"the method {entry.name!r} ({entry.value}) does not follow iterreg.methods.base.Method"
        )
    return method if entry.value.startswith("iterreg.") else Foreign(method, entry.name, entry.value)


def _hint(name: str) -> str:
    """What was probably meant: a method, a preset without its method, a file without one."""
    methods = available()
    for method in methods:
        if name in presets.names(method):
            return f"did you mean {method + ':' + name!r}?"
    if PurePath(name).suffix in (".txt", ".toml"):
        return f"a parameter file follows the method it is for, METHOD:{name}, with {', '.join(methods)}"
    close = get_close_matches(name.lower(), methods, n=1)
    installed = f"installed are {', '.join(methods)}"
    return f"did you mean {close[0]!r}? {installed[0].upper()}{installed[1:]}" if close else installed
