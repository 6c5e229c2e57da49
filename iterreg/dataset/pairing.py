"""Which scans of a folder are registered to which: all ordered pairs, a ring, or some at random."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from iterreg.dataset.base import Pair, Scan
from iterreg.errors import InputError

__all__ = ["pairs_of_scans"]

DEFAULT_SEED = 1


def pairs_of_scans(scans: Sequence[Scan], which: str = "all", *, limit: int | None = None) -> list[Pair]:
    """Pair scans.

    Parameters
    ----------
    scans
        In an order that any machine finds again, since pairs follow it.
    which
        - ``"all"``: every scan to every other one. Any beginning of the list spreads over all scans: first
          every scan with its successor as moving image, then with the one after that, and so on around;
        - ``"ring"``: every scan with its successor, the last with the first, in each modality by itself;
        - ``"30"`` or ``"30:7"``: so many of all ordered pairs, drawn without replacement by the seed behind
          the colon (default 1). More of one seed begin with the fewer.
    limit
        Stop after so many pairs.

    Raises
    ------
    InputError
        If `which` is none of these, asks for more pairs than there are, or the limit is not positive.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} pairs leaves nothing to do; ask for at least 1")
    return _told_apart(scans, islice(_chosen(scans, which), limit))


def _chosen(scans: Sequence[Scan], which: str) -> Iterator[Pair]:
    if which == "all":
        return _around(scans)
    if which == "ring":
        return _rings(scans)
    match = re.fullmatch(r"(\d+)(?::(\d+))?", which)
    if match is None or int(match[1]) == 0:
        raise InputError(f"--pairs-of {which}: give all, ring, a number of random pairs, or NUMBER:SEED")
    count, total = int(match[1]), len(scans) * (len(scans) - 1)
    if count > total:
        raise InputError(
            f"--pairs-of {which}: {len(scans)} images make {total} ordered pairs only; "
            "ask for fewer, or for all"
        )
    return _random(scans, count, int(match[2] or DEFAULT_SEED))


def _told_apart(scans: Sequence[Scan], pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs with the names they have among all pairs of these scans, however few were chosen."""
    contrasts: dict[str, set[str]] = {}
    for scan in scans:
        contrasts.setdefault(scan.subject, set()).add(scan.modality)

    def has_namesakes(pair: Pair) -> bool:
        fixed, moving = contrasts[pair.fixed.subject], contrasts[pair.moving.subject]
        alike = len(fixed & moving) if pair.fixed.subject != pair.moving.subject else 0
        return pair.name != pair.long_name and alike + ("0000" in fixed and "0001" in moving) > 1

    return [replace(pair, in_full=has_namesakes(pair)) for pair in pairs]


def _around(scans: Sequence[Scan]) -> Iterator[Pair]:
    n = len(scans)
    for step in range(1, n):
        for i in range(n):
            yield Pair(scans[i], scans[(i + step) % n])


def _rings(scans: Sequence[Scan]) -> Iterator[Pair]:
    for modality in dict.fromkeys(scan.modality for scan in scans):
        ring = [scan for scan in scans if scan.modality == modality]
        if len(ring) > 1:
            yield from (Pair(scan, ring[(i + 1) % len(ring)]) for i, scan in enumerate(ring))


def _random(scans: Sequence[Scan], count: int, seed: int) -> Iterator[Pair]:
    """Draw until there are enough different ones; `random` promises the same numbers in every Python."""
    draw, n = random.Random(seed).random, len(scans)
    seen: set[int] = set()
    while len(seen) < count:
        number = int(draw() * n * (n - 1))
        if number not in seen:
            seen.add(number)
            fixed, moving = divmod(number, n - 1)
            yield Pair(scans[fixed], scans[moving + (moving >= fixed)])
