"""The parameter files shipped with iterreg, found by name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from iterreg.errors import InputError

__all__ = ["find", "is_file", "kept_names", "names", "summary"]

_LARGEST = 2**20
"""Bytes; whatever is larger is an image or a data set, not somebody's settings."""


def folder(method: str) -> Path:
    """Where a method's presets are."""
    return Path(str(files("iterreg.parameter_files"))) / method


def names(method: str) -> tuple[str, ...]:
    """The presets of a method, sorted."""
    return tuple(sorted(_presets(method)))


def summary(method: str, preset: str) -> str:
    """The first comment line of a preset: what it is, in one sentence."""
    for line in find(method, preset).read_text().splitlines():
        text = line.strip().lstrip("#/").strip()
        if text:
            return text
    return ""


def is_file(source: str) -> bool:
    """Whether `source` is the path of a file, whatever else it may be."""
    path = _path(source)
    try:
        return path is not None and path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered, a loop of links
        return False


def find(method: str, source: str) -> Path:
    """The parameter file that `source` means: an existing file's path, or a preset's name.

    Raises
    ------
    InputError
        If it is neither.
    """
    path = _path(source)
    shown = repr(source) if len(source) <= 200 else f"{source[:200]!r}…"
    if path is not None and is_file(source):
        size = path.stat().st_size
        if size > _LARGEST:
            raise InputError(
                f"{method}: {path} has {size // 2**20} MiB, which is no parameter file; check the path"
            )
        return path
    presets = _presets(method)
    if source in presets:
        return presets[source]
    close = get_close_matches(source.lower(), presets, n=1)
    if close:
        hint = f"did you mean {close[0]!r}? "
    elif any(character in source for character in "*?["):
        hint = "one file is expected, not a pattern; "
    elif "/" in source or Path(source).suffix in (".txt", ".toml"):
        hint = f"{_why_not(path)}; " if path is not None else "no home folder is known for that user; "
    else:
        hint = ""
    raise InputError(
        f"{method}: {shown} is neither a file nor a preset; {hint}presets are {', '.join(presets) or 'none'}"
    )


def kept_names(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """What parameter files are called where they are kept together: their own names, made different.

    The second file of one name gets its place in the sequence in front, ``2-par.txt``.
    """
    found: list[str] = []
    for number, path in enumerate(paths, start=1):
        name = path.name
        while name in found:
            name = f"{number}-{name}"
        found.append(name)
    return tuple(found)


def _presets(method: str) -> dict[str, Path]:
    where = folder(method)
    return {path.stem: path for path in sorted(where.iterdir())} if where.is_dir() else {}


def _path(source: str) -> Path | None:
    """The path that a source may be; None where its home folder does not exist."""
    try:
        return Path(source).expanduser()
    except RuntimeError:
        return None


def _why_not(path: Path) -> str:
    """Why there is no file at a path, in a few words."""
    try:
        if path.is_dir():
            return "it is a folder"
        path.stat()
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return "it is no ordinary file"
