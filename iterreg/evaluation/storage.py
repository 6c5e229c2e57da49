"""How somebody's fields are stored: what their files are called, and in which format they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from string import Formatter
from typing import Any

from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.errors import InputError
from iterreg.io.formats import named
from iterreg.words import did_you_mean

__all__ = ["PLACEHOLDERS", "Storage"]


def _image(scan: Scan) -> str:
    """An image's file name without its ending."""
    name = scan.path.name
    for ending in (".nii.gz", ".nii", ".mgz", ".mha", ".mhd", ".nrrd"):
        name = name.removesuffix(ending)
    return name


PLACEHOLDERS: Mapping[str, Callable[[Pair], str]] = {
    "fixed": lambda pair: pair.fixed.subject,
    "moving": lambda pair: pair.moving.subject,
    "fixed_modality": lambda pair: pair.fixed.modality,
    "moving_modality": lambda pair: pair.moving.modality,
    "fixed_image": lambda pair: _image(pair.fixed),
    "moving_image": lambda pair: _image(pair.moving),
    "pair": lambda pair: pair.name,
    "case": lambda pair: pair.long_name,
}
"""What may stand in braces in a pattern, and what it is of a pair."""


@dataclass(frozen=True)
class Storage:
    """How a folder's fields are stored.

    Attributes
    ----------
    format
        A name of `iterreg.io.formats`; ``""``: what each file's name, header and numbers make certain.
    patterns
        What a pair's file is called within the folder, with `PLACEHOLDERS` in braces; several, where several
        files make one transform, in the order antsApplyTransforms takes them. None: the challenge's names.
    """

    format: str = ""
    patterns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return bool(self.format or self.patterns)

    @classmethod
    def of(cls, name: str | None, patterns: Sequence[str] | None) -> Storage:
        """What a user asked for.

        Raises
        ------
        InputError
            If there is no such format, a pattern cannot be one, or a format of one file is given several.
        """
        made = cls(named(name).name if name else "", tuple(patterns or ()))
        for pattern in made.patterns:
            _check(pattern)
        if len(made.patterns) > 1 and made.format and not named(made.format).chains:
            raise InputError(
                f"--pattern is given {len(made.patterns)} times, but the format {made.format} takes one "
                "file; lists are of format itk"
            )
        return made

    def files(self, folder: Path, pair: Pair) -> tuple[Path, ...]:
        """The pair's files by the patterns, whether they exist or not."""
        return tuple(folder / _expand(pattern, pair) for pattern in self.patterns)

    def check(self, dataset: Dataset) -> None:
        """Refuse patterns that do not tell the pairs of a data set apart.

        Raises
        ------
        InputError
            If two pairs would have one file.
        """
        seen: dict[tuple[Path, ...], Pair] = {}
        for pair in dataset.pairs if self.patterns else ():
            other = seen.setdefault(self.files(Path(), pair), pair)
            if other.case != pair.case:
                raise InputError(
                    f"--pattern {self.patterns[0]}: gives the pairs {other.case} and {pair.case} one name, "
                    f"{self.files(Path(), pair)[0]}; tell them apart with more of {_listed()}"
                )

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it of again."""
        return {"format": self.format or None, "pattern": list(self.patterns)}

    @classmethod
    def from_json(cls, found: Any) -> Storage:
        """What was recorded; nothing said where there is no record.

        Raises
        ------
        InputError
            As `of`.
        """
        if not isinstance(found, dict):
            return cls()
        return cls.of(found.get("format"), [str(one) for one in found.get("pattern") or ()])


def _check(pattern: str) -> None:
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise InputError(
            f"--pattern {pattern}: its braces do not match ({error}); write for example {_EXAMPLE}"
        ) from error
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS:
            raise InputError(
                f"--pattern {pattern}: there is no {{{name}}}; "
                + " ".join(filter(None, [did_you_mean(name, PLACEHOLDERS), f"known are {_listed()}"]))
            )
        if spec or conversion:
            raise InputError(f"--pattern {pattern}: {{{name}}} takes nothing behind its name in the braces")
    if not names:
        raise InputError(
            f"--pattern {pattern}: names one file for all pairs; put {_listed()} where names differ, "
            f"for example {_EXAMPLE}"
        )
    path = PurePath(pattern)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"--pattern {pattern}: is taken within the folder of fields, so it neither begins with / nor "
            "holds .."
        )


_EXAMPLE = "'{fixed}_to_{moving}.npy'"


def _expand(pattern: str, pair: Pair) -> str:
    return pattern.format_map({name: of(pair) for name, of in PLACEHOLDERS.items()})


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
