"""The parameter files shipped with iterreg, found by name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from iterreg.errors import InputError
from iterreg.paths import to_path

__all__ = ["find", "names", "summary"]


def folder(method: str) -> Path:
    """Where a method's presets are."""
    return Path(str(files("iterreg.parameter_files"))) / method


def names(method: str) -> tuple[str, ...]:
    """The presets of a method, sorted."""
    where = folder(method)
    return tuple(sorted(path.stem for path in where.iterdir())) if where.is_dir() else ()


def summary(method: str, preset: str) -> str:
    """The first comment line of a preset: what it is, in one sentence."""
    for line in find(method, preset).read_text().splitlines():
        text = line.strip().lstrip("#/").strip()
        if text:
            return text
    return ""


def find(method: str, source: str) -> Path:
    """The parameter file that `source` means: an existing file's path, or a preset's name.

    Raises
    ------
    InputError
        If it is neither.
    """
    path = to_path(source)
    if path.is_file():
        return path
    for preset in sorted(folder(method).glob(f"{source}.*")):
        return preset
    known = names(method)
    close = get_close_matches(source, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"{method}: {source!r} is neither a file nor a preset; {hint}presets are {', '.join(known) or 'none'}"
    )
