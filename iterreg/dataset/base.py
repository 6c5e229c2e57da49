"""What every data set gives: its pairs, with the files the challenge's path rule finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Dataset", "Kind", "Pair", "Scan"]

Kind = Literal["labels", "landmarks", "masks"]


@dataclass(frozen=True)
class Scan:
    """One image of a data set.

    Attributes
    ----------
    path
        The image file.
    subject
        Its id as it appears in field names (``"3455"`` for ``LUMIRMRI_3455_0000.nii.gz``).
    modality
        Its four-digit modality (``"0000"``), as the challenge numbers contrasts.
    labels, landmarks, mask
        Companion files where they exist.
    """

    path: Path
    subject: str
    modality: str = "0000"
    labels: Path | None = None
    landmarks: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving scan to be registered.

    Attributes
    ----------
    fixed, moving
        The field lives on the fixed scan's grid and points into the moving scan.
    task
        The named group it belongs to (``"in-domain"``, ``"multi-modal"`` …), ``""`` when there is one.
    """

    fixed: Scan
    moving: Scan
    task: str = ""

    @property
    def name(self) -> str:
        """The challenge's short name for it: ``FIX_MOV``, or ``FIX_FMOD_MOV_MMOD`` where it needs the long form.

        Short when both modalities are equal or fixed is 0000 and moving 0001; long otherwise.
        """
        f, m = self.fixed, self.moving
        if f.modality == m.modality or (f.modality, m.modality) == ("0000", "0001"):
            return f"{f.subject}_{m.subject}"
        return f"{f.subject}_{f.modality}_{m.subject}_{m.modality}"

    @property
    def case(self) -> str:
        """The official evaluator's key of the case: ``3455_0000<--3454_0000``."""
        f, m = self.fixed, self.moving
        return f"{f.subject}_{f.modality}<--{m.subject}_{m.modality}"


@dataclass(frozen=True)
class Dataset:
    """A list of pairs with what the data set promises about them.

    Attributes
    ----------
    name
        For titles and result rows.
    pairs
        In the data set's own order.
    source
        The file or folder it was read from.
    promised_shape
        Shape every volume has, when the data set states it; then one grid is promised for all.
    """

    name: str
    pairs: tuple[Pair, ...]
    source: Path
    promised_shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = field(default=())

    def scans(self) -> Iterator[Scan]:
        """Every scan once, in order of first use."""
        seen: set[Path] = set()
        for pair in self.pairs:
            for scan in (pair.fixed, pair.moving):
                if scan.path not in seen:
                    seen.add(scan.path)
                    yield scan

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task names in order of first appearance."""
        return tuple(dict.fromkeys(pair.task for pair in self.pairs))
