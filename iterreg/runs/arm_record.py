"""What ``run.json`` says of an arm: a method with its parameters, what it was before, how two differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from iterreg.dataset import Pair
from iterreg.runs.content import Content
from iterreg.runs.status import JobStatus

__all__ = ["ArmRecord"]

_MASKED = {"none": (), "fixed": ("fixed",), "moving": ("moving",), "both": ("fixed", "moving")}


@dataclass(frozen=True)
class ArmRecord:
    """A method with its parameters, as an arm was last asked for.

    Attributes
    ----------
    values, seed, software
        With the method: what shapes every field of the arm, apart from the images. `software` are versions,
        and digests of code under names that begin with ``code of``.
    masks
        Which of the data set's masks the similarity is confined to.
    files
        Name -> SHA-256 of the parameter files, as they are kept in the arm's ``parameters``.
    notes
        What reading the parameters had to say, one sentence each.
    version
        Names method, values, seed and software; ``""`` in records of before.
    earlier
        What the arm was before, the latest last.
    kept
        Versions of `earlier` whose results the user keeps beside those of this one, though other software
        made them.
    """

    method: str
    preset: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    masks: str = "none"
    software: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: str = ""
    earlier: tuple[ArmRecord, ...] = ()
    kept: tuple[str, ...] = ()

    def after(self, before: ArmRecord | None) -> ArmRecord:
        """This record as it follows an earlier one of the same arm."""
        if before is None or not any(self.differs_from(before)):
            return replace(self, earlier=before.earlier, kept=before.kept) if before else self
        known = (*before.earlier, replace(before, earlier=(), kept=()))
        mine = (self.version, self.masks)
        return replace(self, earlier=tuple(one for one in known if (one.version, one.masks) != mine))

    def keeping(self) -> ArmRecord:
        """This record, with the results kept that an earlier one made of the same parameters and seed."""
        return replace(self, kept=tuple(dict.fromkeys(one.version for one in self.alike() if one.version)))

    def alike(self) -> Iterator[ArmRecord]:
        """What the arm was before that differs from this by its software alone, if at all; masks aside."""
        mine = (self.method, self.seed, _flat(self.values))
        return (one for one in self.earlier if (one.method, one.seed, _flat(one.values)) == mine)

    def keeps(self, status: JobStatus) -> bool:
        """Whether other software made a job's result, which is kept all the same."""
        return bool(status.version) and status.version != self.version and status.version in self.kept

    def made(self, status: JobStatus, pair: Pair | None) -> bool:
        """Whether a job's result is the arm's: of these very parameters and masks, as far as its status says.

        It is of this software too, or one that the arm `keeps`.
        """
        if status.version and self.version and status.version not in (self.version, *self.kept):
            return False
        if status.masks is None or pair is None:
            return True
        return status.masks == self.masks_of(pair)

    def masks_of(self, pair: Pair) -> tuple[str, ...]:
        """The sides of a pair whose masks are used."""
        return tuple(
            side
            for side in _MASKED.get(self.masks, ())
            if (pair.fixed if side == "fixed" else pair.moving).mask is not None
        )

    def differences(self, status: JobStatus) -> str:
        """In words, how what a job was done with differs from this."""
        other = next((one for one in self.earlier if one.version == status.version), None)
        if status.version == self.version or other is None:
            other = replace(self, seed=status.seed, version=status.version)
        return "; ".join(self.differs_from(other)) or (
            f"masks of {' and '.join(status.masks) or 'neither image'} instead of --masks {self.masks}"
            if status.masks is not None and status.version == self.version
            else "other parameters"
        )

    def differs_from(self, other: ArmRecord) -> Iterator[str]:
        """What differs, in words, the other's value first."""
        names = (
            ("masks",)
            if self.version and self.version == other.version
            else ("method", "preset", "seed", "masks")
        )
        for name in names:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                yield f"{name} {theirs} instead of {mine}"
        if self.version and self.version == other.version:
            return
        mine, theirs = _flat(self.values), _flat(other.values)
        changed = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        yield from (
            f"{key} {_short(theirs.get(key))} instead of {_short(mine.get(key))}" for key in changed[:_SHOWN]
        )
        if len(changed) > _SHOWN:
            yield f"{len(changed) - _SHOWN} more parameters"
        yield from _other_software(self.software, other.software)

    @classmethod
    def from_json(cls, content: Content) -> ArmRecord:
        return cls(
            content.need("method", str),
            content.text("preset"),
            content.values("values"),
            content.get("seed", int),
            content.text("masks") or "none",
            content.texts("versions"),
            content.texts("files"),
            tuple(map(str, content.get("notes", list) or ())),
            content.text("version"),
            tuple(map(cls.from_json, content.objects("earlier"))),
            tuple(map(str, content.get("kept", list) or ())),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "preset": self.preset,
            "values": dict(self.values),
            "seed": self.seed,
            "masks": self.masks,
            "versions": dict(self.software),
            "files": dict(self.files),
            "notes": list(self.notes),
            "version": self.version,
            **({"earlier": [one.to_json() for one in self.earlier]} if self.earlier else {}),
            **({"kept": list(self.kept)} if self.kept else {}),
        }


_SHOWN = 3
_CODE = "code of "


def _other_software(mine: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[str]:
    """In words, what of the software of an arm was otherwise."""
    code = [name for name in {**theirs, **mine} if name.startswith(_CODE)]
    if code and not any(name in theirs for name in code):
        yield "code that was not recorded (by an earlier iterreg)"
        code = []
    for name in code:
        if mine.get(name) != theirs.get(name):
            yield f"other {name}"
    for name in {**theirs, **mine}:
        # The version of iterreg itself was recorded before its code was.
        if name.startswith(_CODE) or name == "iterreg" or not theirs or mine.get(name) == theirs.get(name):
            continue
        yield f"{name} {theirs.get(name, '(not recorded)')} instead of {mine.get(name, '(any)')}"


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Every value as JSON under its dotted name: a tuple and the list that is read back are one."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = json.dumps(value, default=str)
    return found


def _short(text: str | None) -> str:
    if text is None:
        return "(none)"
    return text if len(text) <= 40 else f"{text[:37]}..."
