"""All ordered pairs of a folder's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.dataset.paths import ScanReader, absolute, check_modality, images_in
from iterreg.dataset.tasks import by_modality
from iterreg.errors import InputError

__all__ = ["pairs_of_folder", "scans_of_folder"]


def scans_of_folder(folder: str | Path, *, modality: str | None = None) -> list[Scan]:
    """The scans of a folder (or of its only ``images…`` folder) by file name.

    Parameters
    ----------
    modality
        Keep only scans of this modality (four digits).

    Raises
    ------
    InputError
        If there are no images, or none of the modality.
    """
    folder = absolute(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; check the path")
    reader = ScanReader(folder)
    scans = [reader.scan(str(path)) for path in images_in(folder)]
    if modality is not None:
        check_modality(modality, "the modality to choose")
        scans = [scan for scan in scans if scan.modality == modality]
        if not scans:
            raise InputError(
                f"{folder}: holds no image of modality {modality}; leave the choice out to take all"
            )
    return scans


def pairs_of_folder(folder: str | Path, *, modality: str | None = None, limit: int | None = None) -> Dataset:
    """Every scan of a folder registered to every other one.

    The order makes any beginning of the list spread over all scans: first every scan with its successor
    by name as moving image, then with the one after that, and so on around.

    Parameters
    ----------
    modality
        Keep only scans of this modality (four digits).
    limit
        Stop after so many pairs.

    Raises
    ------
    InputError
        If there are fewer than two images, or the limit is not positive.
    """
    scans = scans_of_folder(folder, modality=modality)
    folder = absolute(folder)
    if len(scans) < 2:
        raise InputError(f"{folder}: holds one image only, {scans[0].path.name}; a pair needs two")
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} pairs leaves nothing to do; ask for at least 1")
    name = folder.parent.name if folder.name.startswith("images") else folder.name
    return Dataset(name, tuple(by_modality(list(islice(_around(scans), limit)))), folder)


def _around(scans: Sequence[Scan]) -> Iterator[Pair]:
    n = len(scans)
    for step in range(1, n):
        for i in range(n):
            yield Pair(scans[i], scans[(i + step) % n])
