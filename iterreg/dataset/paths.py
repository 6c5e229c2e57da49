"""The challenge's rules about paths: ids in file names, companions beside images."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from iterreg.dataset.base import Kind, Scan
from iterreg.errors import InputError
from iterreg.itk_files import ITK_SUFFIXES
from iterreg.paths import to_path

__all__ = [
    "ScanReader",
    "absolute",
    "check_identifier",
    "check_modality",
    "identity",
    "images_in",
    "is_image",
    "is_readable",
    "stem",
]

_SUFFIXES = (".nii.gz", ".nii")
_READABLE = (*_SUFFIXES, ".mgz", ".mgh", *ITK_SUFFIXES)
_CHALLENGE_NAME = re.compile(r"(?:^|_)(\d{4})_(\d{4})\.nii(?:\.gz)?$", re.IGNORECASE)


def absolute(path: str | Path) -> Path:
    """An absolute path without ``.`` and ``..``; links are kept, since users know files by them.

    Raises
    ------
    InputError
        If no file can be called so (see `iterreg.paths.to_path`).
    """
    return Path(os.path.abspath(to_path(path)))  # noqa: PTH100 - resolve() would follow links


def is_image(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")


def is_readable(path: Path) -> bool:
    """Whether the name is that of an image that can be read: NIfTI, or what nibabel or SimpleITK reads.

    Of a folder only its NIfTI files are taken; what is named by itself may be of the other kinds.
    """
    return path.name.lower().endswith(_READABLE) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """An image's name without ``.nii.gz``, ``.mgz`` or how else it ends."""
    for suffix in _READABLE:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def identity(path: Path) -> tuple[str, str]:
    """The id and the modality an image's name says.

    ``LUMIRMRI_3455_0000.nii.gz`` has id ``3455`` and modality ``0000``, which the official evaluators cut
    out as ``path[-16:-12]`` and ``path[-11:-7]``. Any other name is its own id, with modality ``0000``.
    """
    match = _CHALLENGE_NAME.search(path.name)
    if match:
        return match[1], match[2]
    return stem(path), "0000"


def check_identifier(value: str, where: str) -> str:
    """`value` when it can be a part of a file name.

    Raises
    ------
    InputError
        If it is empty, or holds a path separator or a control character.
    """
    if not value or value in (".", "..") or re.search(r"[/\\\x00-\x1f\x7f-\x9f]", value):
        raise InputError(
            f"{where}: {value!r} cannot be an id, it becomes a part of file names; use letters and digits"
        )
    return value


def check_modality(value: str, where: str) -> str:
    """`value` when it is a modality as the challenge writes it.

    Raises
    ------
    InputError
        If it is not four digits.
    """
    if not re.fullmatch(r"\d{4}", value):
        raise InputError(
            f"{where}: {value!r} is not a modality; use four digits, 0000 for the first contrast"
        )
    return value


def images_in(folder: Path) -> list[Path]:
    """The NIfTI files of a folder by name, or of its only ``images…`` folder when it has none itself.

    Raises
    ------
    InputError
        If there are none, or several ``images…`` folders to choose from.
    """
    here = sorted(path for path in folder.iterdir() if is_image(path))
    if here:
        return here
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.startswith("images"))
    if len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise InputError(f"{folder}: holds several image folders ({names}); name the one to use")
    found = sorted(path for path in below[0].iterdir() if is_image(path)) if below else []
    if not found:
        raise InputError(f"{folder}: holds no .nii or .nii.gz file; name the folder with the images")
    return found


@dataclass
class ScanReader:
    """Turns image paths into scans, asking the file system once for each.

    Parameters
    ----------
    root
        The folder that relative paths start from.
    """

    root: Path
    _seen: dict[tuple[str, str], Scan] = field(default_factory=dict, repr=False)

    def scan(self, image: str, *, keypoints: str = "keypoints") -> Scan:
        """The scan at `image`, with the companions that exist.

        The rule is the evaluators': ``images`` is replaced by ``labels``, ``landmarks`` (a volume, or a
        ``.csv``), ``masks`` in the path as the data set writes it, never in the root above it.

        Parameters
        ----------
        image
            Relative to the root, or absolute; then the last folder's name and the file's name count.
        keypoints
            Where to look for points when there are no landmarks; it depends on the pair (see
            `iterreg.dataset.learn2reg`).

        Raises
        ------
        InputError
            If no file can be called `image`.
        """
        key = (image, keypoints)
        if key not in self._seen:
            self._seen[key] = self._read(image, keypoints)
        return self._seen[key]

    def _read(self, image: str, keypoints: str) -> Scan:
        named = to_path(image)
        path = absolute(self.root / named)
        base, written = self.root, image
        if named.is_absolute():
            base, written = path.parent.parent, f"{path.parent.name}/{path.name}"
        subject, modality = identity(path)
        landmarks = _companion(base, written, "landmarks", (*_SUFFIXES, ".csv"))
        return Scan(
            path,
            subject,
            modality,
            labels=_companion(base, written, "labels", _SUFFIXES),
            landmarks=landmarks or _companion(base, written, keypoints, (".csv",)),
            mask=_companion(base, written, "masks", _SUFFIXES),
        )


def _companion(base: Path, image: str, kind: Kind | str, suffixes: tuple[str, ...]) -> Path | None:
    if "images" not in image:
        return None
    same = base / image.replace("images", kind)
    for candidate in (same, *(same.with_name(stem(same) + suffix) for suffix in suffixes)):
        if candidate.name.endswith(suffixes) and candidate.is_file():
            return absolute(candidate)
    return None
