"""All ordered pairs, a ring, or some at random."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from iterreg.dataset.base import Scan
from iterreg.dataset.pairing import pairs_of_scans
from iterreg.errors import InputError


def scans(count: int, modality: str = "0000") -> list[Scan]:
    return [Scan(Path(f"/d/{i:04d}_{modality}.nii.gz"), f"{i:04d}", modality) for i in range(count)]


def names(which: str, count: int = 5) -> list[str]:
    return [pair.name for pair in pairs_of_scans(scans(count), which)]


def test_all_and_ring() -> None:
    assert len(set(names("all"))) == 20
    assert names("ring") == ["0000_0001", "0001_0002", "0002_0003", "0003_0004", "0004_0000"]
    assert names("ring", 2) == ["0000_0001", "0001_0000"]


def test_a_ring_stays_within_a_contrast() -> None:
    pairs = pairs_of_scans([*scans(3), *scans(2, "0001"), *scans(1, "0002")], "ring")
    assert [pair.name for pair in pairs] == [
        "0000_0000_0001_0000", "0001_0002", "0002_0000_0000_0000",
        "0000_0001_0001_0001", "0001_0001_0000_0001",
    ]  # fmt: skip


def test_random_pairs_are_the_same_everywhere() -> None:
    """The very pairs, as any machine and any Python must draw them."""
    assert names("4") == names("4:1") == ["0000_0003", "0004_0000", "0003_0004", "0001_0002"]
    assert names("4:2") == ["0004_0003", "0004_0002", "0000_0002", "0004_0000"]


def test_more_random_pairs_begin_with_the_fewer_and_at_last_all_are_drawn() -> None:
    for count in range(1, 21):
        drawn = names(f"{count}:9")
        assert len(set(drawn)) == count
        assert drawn == names("20:9")[:count]
    assert set(names("20")) == set(names("all"))


def test_random_pairs_are_drawn_evenly() -> None:
    counts = Counter(name for seed in range(2000) for name in names(f"1:{seed}", 4))
    assert len(counts) == 12
    assert max(abs(count - 2000 / 12) for count in counts.values()) < 5 * (2000 / 12) ** 0.5


def test_what_is_no_choice_of_pairs() -> None:
    for which in ("rign", "0", "-3", "1.5", "3:", ""):
        with pytest.raises(InputError, match="give all, ring, a number of random pairs, or NUMBER:SEED"):
            names(which)
    with pytest.raises(InputError, match="5 images make 20 ordered pairs only"):
        names("21")
