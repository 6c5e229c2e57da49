"""An atlas registered to, or from, every subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.dataset.paths import ScanReader, absolute
from iterreg.errors import InputError

__all__ = ["ATLAS_TO_SUBJECT", "SUBJECT_TO_ATLAS", "AtlasRole", "pairs_with_atlas", "scans_of_files"]

AtlasRole = Literal["fixed", "moving", "both"]

ATLAS_TO_SUBJECT = "atlas-to-subject"
"""The task in which the atlas is moving: its labels are carried to each subject."""

SUBJECT_TO_ATLAS = "subject-to-atlas"
"""The task in which the atlas is fixed: every subject is brought onto its grid."""


def scans_of_files(images: Sequence[str | Path]) -> list[Scan]:
    """The scans of image files named one by one."""
    reader = ScanReader(Path.cwd())
    return [reader.scan(str(absolute(image))) for image in images]


def pairs_with_atlas(
    atlas: str | Path, subjects: Sequence[Scan], *, role: AtlasRole = "moving", source: Path | None = None
) -> Dataset:
    """One pair (or two) of the atlas with every subject.

    Parameters
    ----------
    atlas
        An image file. When it is among the subjects it is left out there.
    role
        Whether the atlas is the moving image (atlas to subject), the fixed one, or each in turn.
    source
        Where the subjects come from. Default: the atlas.

    Raises
    ------
    InputError
        If there is no subject, or the role is unknown.
    """
    if role not in ("fixed", "moving", "both"):
        raise InputError(f"the atlas cannot be {role!r}; it is fixed, moving or both")
    centre = scans_of_files([atlas])[0]
    others = [scan for scan in subjects if scan.path != centre.path]
    if not others:
        raise InputError(
            f"{source or centre.path}: holds no subject besides the atlas; name images to register to it"
        )
    pairs: list[Pair] = []
    if role in ("moving", "both"):
        pairs += [Pair(scan, centre, ATLAS_TO_SUBJECT) for scan in others]
    if role in ("fixed", "both"):
        pairs += [Pair(centre, scan, SUBJECT_TO_ATLAS) for scan in others]
    return Dataset(f"{centre.subject} atlas", tuple(pairs), source or centre.path)
