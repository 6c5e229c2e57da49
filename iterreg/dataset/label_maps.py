"""Which label map belongs to an image, where several may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iterreg.errors import InputError

__all__ = ["Found", "of_one_kind"]


@dataclass(frozen=True)
class Found:
    """A label map that may be an image's.

    Attributes
    ----------
    kind
        How its name ends: labels of two kinds number different structures and are not to be compared.
    """

    path: Path
    kind: str


def of_one_kind(
    found: Mapping[Path, Sequence[Found]],
    *,
    asked: str | None,
    where: Path,
    ends: Callable[[], Sequence[str]],
) -> tuple[dict[Path, Path], tuple[str, ...]]:
    """One label map for every image that has any, all of one kind.

    Parameters
    ----------
    found
        Image -> what may be its label map.
    asked
        What the user said that names of label maps end with.
    ends
        Endings there are, for the sentence when nothing ends as asked.

    Returns
    -------
    Image -> label map; empty when there are several kinds to choose from, which the notes then say.

    Raises
    ------
    InputError
        If what was asked for is not there, or does not choose one kind.
    """
    kinds = Counter(one.kind for several in found.values() for one in several)
    if not kinds:
        if asked is None:
            return {}, ()
        there = ", ".join(ends()) or "none"
        raise InputError(
            f"{where}: no label map that ends with {asked} belongs to an image "
            f"(endings that are there: {there}); choose with --labels-suffix"
        )
    if len(kinds) > 1 or any(len(several) > 1 for several in found.values()):
        listed = ", ".join(kinds)
        if asked is not None:
            raise InputError(
                f"{where}: several kinds of label maps end with {asked} ({listed}); "
                "choose one with --labels-suffix"
            )
        # An ending that another kind shares would not choose; of the others the one that most images have.
        choices = [one for one in kinds if not any(one != other and other.endswith(one) for other in kinds)]
        return {}, (
            f"no label map is used, because there are several kinds ({listed}); choose one with "
            f"--labels-suffix, for example --labels-suffix {max(reversed(choices), key=kinds.__getitem__)}",
        )
    return {image: several[0].path for image, several in found.items() if several}, ()
