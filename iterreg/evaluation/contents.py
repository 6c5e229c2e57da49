"""What a folder holds in which no field was found, and the options by which it would be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from iterreg.dataset.base import Dataset, Pair
from iterreg.errors import InputError
from iterreg.evaluation.storage import PLACEHOLDERS, Storage
from iterreg.io.formats import guess_input
from iterreg.io.sniff import describe
from iterreg.io.unknown import FIELD_SUFFIXES
from iterreg.words import count

__all__ = ["nothing_usable"]

_ENDINGS = (*FIELD_SUFFIXES, ".mat", ".txt", ".tfm", ".h5", ".hdf5", ".xfm")
_SHOWN = 3
_LOOKED_AT = 2000
_PAIRS_TRIED = 20


def nothing_usable(folder: Path, dataset: Dataset, looked_for: str) -> str:
    """A sentence: that no pair has a field, what is there, and the options that would read it.

    Parameters
    ----------
    looked_for
        What is missing of the first pair.
    """
    names = sorted(_names(folder))
    fields = [name for name in names if name.lower().endswith(_ENDINGS)]
    said = f"{folder}: holds no field of the {count(len(dataset.pairs), 'pair')} ({looked_for})"
    if not fields:
        there = f"; it holds {', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}"
        return said + (there if names else "; it is empty") + "; name the folder that holds the fields"
    seen = [(name, *_recognised(folder / name)) for name in fields[:_SHOWN]]
    shown = ", ".join(f"{name} ({what})" for name, what, _ in seen)
    said += f"; it holds {count(len(fields), 'file')} that may be fields: {shown}"
    said += " …" if len(fields) > _SHOWN else ""
    options = []
    pattern, number = _pattern(fields, dataset)
    if pattern:
        options.append(f"--pattern '{pattern}'")
    formats = dict.fromkeys(one for _, _, one in seen if one)
    if formats:
        options.append(f"--from {' or '.join(formats)}")
    if pattern:
        fits = f" (it fits {count(number, 'pair')} if fixed and moving are not the other way round)"
        return f"{said}; add {' '.join(options)}{fits}"
    named = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    return f"{said}; say what they are called with --pattern, where {named} stand for a pair's" + (
        f", and {options[0]}" if options else ""
    )


def _names(folder: Path) -> Iterator[str]:
    """Of the files in a folder and in its folders, a few thousand at most."""
    for pattern in ("*", "*/*", "*/*/*"):
        for number, path in enumerate(folder.glob(pattern)):
            if number >= _LOOKED_AT:
                return
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _recognised(path: Path) -> tuple[str, str]:
    """What a file seems to be, in words, and the format to name where that must be named."""
    try:
        return f"certainly {guess_input([path]).name}", ""
    except InputError:
        pass
    try:
        belief = describe(path)
    except InputError:
        return "not readable as a field", ""
    if not belief.format:
        return f"no format reads it: {belief.reason}", ""
    return f"seems to be {belief.format}, {belief.units}", belief.format


def _pattern(names: list[str], dataset: Dataset) -> tuple[str, int]:
    """The pattern that most pairs have a file by, and their number; ``""`` where none tells them apart."""
    known = set(names)
    tried: dict[str, int] = {}
    for pair in dataset.pairs[:_PAIRS_TRIED]:
        for name in names:
            for pattern in _patterns(name, pair):
                if pattern not in tried:
                    tried[pattern] = _fitting(pattern, dataset, known)
    best = max(tried, key=lambda one: tried[one], default="")
    return (best, tried[best]) if best and tried[best] else ("", 0)


def _patterns(name: str, pair: Pair) -> Iterator[str]:
    """What a file's name may be a case of, the pair's ids taken out of it."""
    fixed, moving = re.escape(pair.fixed.subject), re.escape(pair.moving.subject)
    escaped = name.replace("{", "{{").replace("}", "}}")
    one = re.sub(rf"(?<![A-Za-z0-9]){fixed}(?![A-Za-z0-9])", "{fixed}", escaped)
    both = re.sub(rf"(?<![A-Za-z0-9]){moving}(?![A-Za-z0-9])", "{moving}", one)
    for found in (both, one, re.sub(rf"(?<![A-Za-z0-9]){moving}(?![A-Za-z0-9])", "{moving}", escaped)):
        if found != escaped:
            yield found


def _fitting(pattern: str, dataset: Dataset, known: set[str]) -> int:
    """How many pairs have a file by a pattern; none where it does not tell them apart."""
    storage = Storage("", (pattern,))
    try:
        storage.check(dataset)
    except InputError:
        return 0
    return sum(storage.files(Path(), pair)[0].as_posix() in known for pair in dataset.pairs)
