"""Packs vetted fields for submission: ``folder.zip/folder/disp_*.nii.gz``."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from iterreg.batch.vetting import Member
from iterreg.errors import InputError
from iterreg.io.nifti import check_folder
from iterreg.jobs.atomic import atomic_path
from iterreg.jobs.resources import format_bytes

__all__ = ["FOLDER", "Packed", "pack"]

FOLDER = "folder"
"""The name the challenge gives to the one folder inside the zip."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the same fields give the same bytes
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A written zip: its path, number of fields, size in bytes and SHA-256."""

    path: Path
    fields: int
    size: int
    sha256: str


def pack(members: Sequence[Member], out: str | Path) -> Packed:
    """Write the zip, whole or not at all; the same fields give the same bytes.

    The fields are compressed already and are stored as they are.

    Raises
    ------
    InputError
        If there is nothing to pack, a field is no longer what was inspected, or the zip cannot be written.
    """
    out = Path(out)
    if not members:
        raise InputError(f"{out}: there is no field to pack")
    if out.suffix != ".zip" or out.is_dir():
        raise InputError(f"{out}: is not the name of a zip file; end --out in .zip")
    check_folder(out)
    need, free = sum(member.size for member in members), shutil.disk_usage(out.parent).free
    if need > free:
        raise InputError(
            f"{out}: {format_bytes(need)} are needed and {format_bytes(free)} are free; choose another --out"
        )
    try:
        with atomic_path(out) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
            for member in sorted(members, key=lambda member: member.path.name):
                _store(archive, member)
        with out.open("rb") as stream:
            value = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    return Packed(out, len(members), out.stat().st_size, value)


def _store(archive: ZipFile, member: Member) -> None:
    entry = ZipInfo(f"{FOLDER}/{member.path.name}", _EPOCH)
    entry.create_system = 3  # Unix, wherever it is packed
    entry.external_attr = 0o100644 << 16
    entry.file_size = member.size
    seen = hashlib.sha256()
    with member.path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK):
            seen.update(chunk)
            target.write(chunk)
    if seen.hexdigest() != member.sha256:
        raise InputError(f"{member.path}: changed while it was packed; pack again when nothing writes to it")
