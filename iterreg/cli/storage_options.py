"""How commands say what the fields of a foreign folder are called, and in which format they are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from iterreg.io.names import FORMAT_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iterreg.evaluation.storage import Storage
    from iterreg.runs import MethodResults

__all__ = ["add_storage_options", "storages"]


def add_storage_options(parser: argparse.ArgumentParser, *, named: bool) -> None:
    """Add ``--from`` and ``--pattern``; `storages` reads them back.

    Parameters
    ----------
    named
        Whether the command takes several folders, so that ``NAME=`` before a value means one of them.
    """
    of = "[NAME=]" if named else ""
    each = "; NAME= before it means the folder of that name alone" if named else ""
    group = parser.add_argument_group("fields of anyone's")
    group.add_argument(
        "--from", dest="storage_format", action="append", metavar=f"{of}FORMAT",
        help=f"the format of the files, as of iterreg convert: {', '.join(FORMAT_NAMES)} (default: voxels as "
        f"the challenge has them, else what a file makes certain){each}",
    )  # fmt: skip
    group.add_argument(
        "--pattern", dest="storage_pattern", action="append", metavar=f"{of}PATTERN",
        help="what the files are called, e.g. '{fixed}_to_{moving}.npy'; there are also {fixed_modality}, "
        "{moving_modality}, {fixed_image}, {moving_image}, {pair} and {case}; repeat it where several of "
        "ITK's files make one transform, in the order antsApplyTransforms takes them "
        f"(default: disp_FIX_MOV){each}",
    )  # fmt: skip


def storages(args: argparse.Namespace, methods: Sequence[MethodResults]) -> dict[str, Storage]:
    """Name of the method -> how its fields are stored, of those of which the arguments say it.

    Raises
    ------
    InputError
        If an option cannot be meant, or there is no folder that it could be about.
    """
    from iterreg.errors import InputError
    from iterreg.evaluation.storage import Storage

    foreign = [one.name for one in methods if one.run is None and one.fields is not None]
    formats = _by_name(args.storage_format, methods)
    patterns = _by_name(args.storage_pattern, methods)
    for option, given in (("--from", formats), ("--pattern", patterns)):
        for name, values in given.items():
            if name not in ("", *foreign) or not foreign:
                raise InputError(
                    f"{option} {values[0]}: is about a folder of anyone's fields, and "
                    f"{repr(name) if name else 'none of what is named'} is one; leave it out"
                )
            if option == "--from" and len(values) > 1:
                raise InputError(f"--from {values[1]}: is given twice; a folder's fields are of one format")
    found = {}
    for name in foreign:
        own = formats.get(name) or formats.get("")
        storage = Storage.of(own[0] if own else None, patterns.get(name) or patterns.get(""))
        if storage:
            found[name] = storage
    return found


def _by_name(texts: Sequence[str] | None, methods: Sequence[MethodResults]) -> Mapping[str, list[str]]:
    """The values that are for each name, ``""`` for all."""
    names = {one.name for one in methods}
    found: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if equals and name in names:
            found.setdefault(name, []).append(value)
        else:
            found.setdefault("", []).append(text)
    return found
