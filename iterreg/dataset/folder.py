"""The scans of a folder of images, told apart from the label maps and masks that lie among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from iterreg.dataset.base import Scan
from iterreg.dataset.label_maps import Found, of_one_kind
from iterreg.dataset.paths import ScanReader, absolute, check_modality, images_in, stem
from iterreg.errors import InputError

__all__ = ["scans_of_folder"]

_LABELS = re.compile(
    r"[_.-](?:d?seg|segmentation|labels?|labelmap|parc|parcellation|aseg|aparc\+aseg|aparcaseg|wmparc)$", re.I
)
_MASK = re.compile(r"[_.-](?:mask|brain_?mask|desc-brain_mask)$", re.I)
_SEPARATOR = re.compile(r"[_.-]")
_CONTRAST = re.compile(
    r"(?:[a-z]+-[a-z0-9+]+_)*(?:t1w?|t1ce|t1c|t1n|t2w?|t2f|t2starw?|flair|pdw?|mri?|ima?ge?|brain|orig|norm|anat)$",
    re.I,
)
"""What an image's name may have behind the name it shares with its label map."""


def scans_of_folder(
    folder: str | Path,
    *,
    modality: str | None = None,
    suffix: str | None = None,
    labels_suffix: str | None = None,
) -> tuple[list[Scan], tuple[str, ...]]:
    """The scans of a folder (or of its only ``images…`` folder) by file name.

    A file called like an image with ``_seg``, ``_dseg``, ``_labels``, ``_aseg``, ``_mask`` … behind it
    (``s1_seg.nii.gz`` beside ``s1.nii.gz``, ``sub-01_dseg`` beside ``sub-01_T1w``) is no image but that
    image's label map or mask. Labels found by the challenge's rule (``labels…`` for ``images…``) go first.

    Parameters
    ----------
    modality
        Keep only scans of this modality (four digits).
    suffix
        Keep only images whose names end so (``"T1w"``); their ids are what comes before.
    labels_suffix
        How names of label maps end (``"seg"``); those of the other kinds above are passed over.

    Returns
    -------
    The scans, and what to know about them, one sentence each.

    Raises
    ------
    InputError
        If there are no images, none of the modality or suffix, or no label map that ends as asked.
    """
    folder = absolute(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; check the path")
    reader = ScanReader(folder)
    files: dict[str, Path] = {}
    for path in images_in(folder):
        other = files.setdefault(stem(path), path)
        if other != path:
            raise InputError(f"{folder}: {other.name} and {path.name} have one name; remove one of them")
    beginnings = _beginnings(files)
    labels: dict[Path, list[Found]] = {}
    masks: dict[Path, Path] = {}
    kept: list[Path] = []
    orphans: list[Path] = []
    for name, path in files.items():
        kind, owners = _owners(name, beginnings, labels_suffix)
        if kind and not owners and labels_suffix is not None:
            orphans.append(path)
        elif not owners:
            kept.append(path)
        for owner in owners:
            if kind != labels_suffix and _MASK.search(name):
                masks[files[owner]] = path
            elif labels_suffix in (None, kind):  # others are label maps all the same, and no images
                labels.setdefault(files[owner], []).append(Found(path, kind))
    scans = [_called(reader.scan(str(path)), suffix) for path in kept if _ends(path, suffix)]
    if suffix is not None and not scans:
        raise InputError(f"{folder}: holds no image whose name ends with {suffix}; choose with --suffix")
    if modality is not None:
        check_modality(modality, "the modality to choose")
        scans = [scan for scan in scans if scan.modality == modality]
        if not scans:
            raise InputError(
                f"{folder}: holds no image of modality {modality}; leave the choice out to take all"
            )
    chosen, notes = of_one_kind(
        {scan.path: [one for one in labels.get(scan.path, ()) if not scan.labels] for scan in scans},
        asked=labels_suffix if not any(scan.labels for scan in scans) else None,
        where=folder,
        ends=lambda: sorted({found[0] for name in files if (found := _LABELS.search(name))}),
    )
    if orphans:
        many = f"{len(orphans)} label maps belong" if len(orphans) > 1 else "1 label map belongs"
        notes += (f"{many} to no image of the folder, for example {orphans[0].name}",)
    return [
        replace(
            scan,
            labels=scan.labels or chosen.get(scan.path),
            mask=scan.mask or masks.get(scan.path),
        )
        for scan in scans
    ], notes


def _ends(path: Path, suffix: str | None) -> bool:
    return suffix is None or stem(path).endswith(suffix)


def _called(scan: Scan, suffix: str | None) -> Scan:
    """The scan under what its name says before the suffix; the challenge's names say their ids themselves."""
    before = stem(scan.path).removesuffix(suffix or "").rstrip("_.-")
    return replace(scan, subject=before) if suffix and before and scan.subject == stem(scan.path) else scan


def _beginnings(names: Iterable[str]) -> dict[str, list[str]]:
    """Names, and what names begin with before a contrast -> the files called so, label maps left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name, []).append(name)
        if not (_LABELS.search(name) or _MASK.search(name)):
            for separator in _SEPARATOR.finditer(name):
                if _CONTRAST.match(name, separator.end()):
                    found.setdefault(name[: separator.start()], []).append(name)
    return found


def _owners(
    name: str, beginnings: Mapping[str, Sequence[str]], labels_suffix: str | None
) -> tuple[str, Sequence[str]]:
    """How a label map or mask ends, and the images it is of: the one called so, else all that begin so."""
    if labels_suffix is not None and name.endswith(labels_suffix) and name != labels_suffix:
        kind, base = labels_suffix, name.removesuffix(labels_suffix).rstrip("_.-")
    else:
        match = _MASK.search(name) or _LABELS.search(name)
        if match is None:
            return "", []
        kind, base = match[0][1:], name[: match.start()]
    named = beginnings.get(base, [])
    return kind, [base] if base in named else named
