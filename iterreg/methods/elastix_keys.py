"""Whether elastix would follow a parameter file: are its keys known, read, and of the right number and type?

elastix looks up what it wants and passes over the rest: a misspelt key, a pyramid schedule that is too short,
a key of a metric that was not chosen change nothing and stop nothing. Here a file is refused where its author
would get something else than what it says, and noted where a line merely has no effect. What elastix knows is
a table, ``elastix_keys.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from iterreg.errors import InputError
from iterreg.methods.elastix_parameters import ParameterMap, first_value

__all__ = ["Key", "Vocabulary", "effective_count", "idle", "notes", "vocabulary"]

_AXES = 3
_WHATEVER_IS_CHOSEN = "elastix"
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_FEW_SAMPLES = 100
"""So few samples cannot tell a gradient; elastix estimates its steps from them without complaint."""

_DEFAULTS = {
    "Registration": "MultiResolutionRegistration",
    "FixedImagePyramid": "FixedSmoothingImagePyramid",
    "MovingImagePyramid": "MovingSmoothingImagePyramid",
    "Interpolator": "BSplineInterpolator",
    "ResampleInterpolator": "FinalBSplineInterpolator",
    "Resampler": "DefaultResampler",
}
"""What elastix takes where a file names no component of a kind."""

_NEEDED = {"Metric": "AdvancedNormalizedCorrelation", "Optimizer": "AdaptiveStochasticGradientDescent"}
"""Kinds that elastix has no default for, with a usual choice; a file without a Transform is no such file."""

_WORDS = {
    "whole": "a whole number",
    "integer": "a whole number",
    "number": "a number",
    "switch": '"true" or "false"',
}
_PATTERNS = {
    # elastix takes 15.000 for 15, but neither 15.5 nor 1e3.
    "whole": re.compile(r"\+?\d+(\.0*)?"),
    "integer": re.compile(r"[+-]?\d+(\.0*)?"),
    "number": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "switch": re.compile(r"true|false"),
    "text": re.compile(r".*", re.DOTALL),
}


@dataclass(frozen=True)
class Key:
    """A line of a parameter file, as elastix reads it.

    Attributes
    ----------
    value
        ``whole``, ``integer``, ``number``, ``switch``, ``text``, or the values that exist, divided by ``|``.
    counts
        How many of them it can follow to the letter: ``1``, ``3``, ``N`` (resolutions), ``3N`` or ``any``.
    readers
        Components, kinds of component, or ``elastix`` itself.
    """

    value: str
    counts: tuple[str, ...]
    readers: tuple[str, ...]

    def wants(self) -> str:
        """The type of its values in words."""
        return _WORDS.get(self.value) or " or ".join(f'"{one}"' for one in self.value.split("|"))

    def fits(self, value: str) -> bool:
        """Whether elastix would take this text for a value of the key."""
        if self.value in _PATTERNS:
            return _PATTERNS[self.value].fullmatch(value) is not None
        return value in self.value.split("|")

    def lengths(self, resolutions: int) -> tuple[int, ...]:
        """The numbers of values that say something about every resolution and axis; empty for any number."""
        known = {"1": 1, "3": _AXES, "N": resolutions, "3N": _AXES * resolutions}
        return tuple(dict.fromkeys(known[count] for count in self.counts if count in known))


@dataclass(frozen=True)
class Vocabulary:
    """What elastix knows.

    Attributes
    ----------
    components
        Kind of component to the names that the wheels have.
    not_built
        The same, of components that the wheels are built without.
    keys
        Every key; a ``#`` stands for a number.
    unlabelled
        Keys that are not read with a component's label (``Metric1``) in front.
    ignored
        Keys of older versions, with what they were.
    """

    components: Mapping[str, tuple[str, ...]]
    not_built: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, Key]
    unlabelled: frozenset[str]
    ignored: Mapping[str, str]

    def find(self, key: str) -> tuple[Key, tuple[str, int] | None] | None:
        """What a key of a file is, with the component it is meant for by kind and number (None for all)."""
        label = re.fullmatch(rf"({'|'.join(self.components)})(\d+)([A-Za-z]\w*)", key)
        one = (label[1], int(label[2])) if label else None
        if key in self.keys:
            return self.keys[key], None
        numbered = re.sub(r"\d+", "#", key)
        if numbered in self.keys:
            return self.keys[numbered], one
        if label and label[3] in self.keys and label[3] not in self.unlabelled:
            known = self.keys[label[3]]
            if label[1] in known.readers or set(known.readers).intersection(self.components[label[1]]):
                return known, one
        return None

    def words(self, key: str) -> list[str]:
        """The keys that an unknown one may be meant to be, with its own number and label."""
        number = re.search(r"\d+", key)
        known = [one.replace("#", number[0] if number else "0") for one in self.keys] + list(self.components)
        label = re.match(rf"({'|'.join(self.components)})\d+(?=[A-Z])", key)
        if label:
            known += [label[0] + one for one in self.keys if one not in self.unlabelled and "#" not in one]
        return known


@cache
def vocabulary() -> Vocabulary:
    """The table as it is shipped."""
    content = tomllib.loads(files("iterreg.methods").joinpath("elastix_keys.toml").read_text("utf-8"))
    return Vocabulary(
        components={kind: tuple(names) for kind, names in content["components"].items()},
        not_built={kind: tuple(names) for kind, names in content["not_built"].items()},
        keys={
            key: Key(value, tuple(counts.split()), tuple(readers))
            for key, (value, counts, *readers) in content["keys"].items()
        },
        unlabelled=frozenset(content["unlabelled"]["keys"]),
        ignored=content["ignored"],
    )


def notes(stage: ParameterMap, name: str, *, besides: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Check one stage as elastix would read it.

    Parameters
    ----------
    stage
        Key to values.
    name
        What messages call its file.
    besides
        Keys that others than elastix read.

    Returns
    -------
    tuple of str
        Sentences about what the file says without effect.

    Raises
    ------
    InputError
        Naming file, key and value: an unknown component or key, a value of the wrong type, a number of values
        that leaves a resolution or an axis to a default, settings that exclude each other.
    """
    known = vocabulary()
    chosen = _components(stage, name, known)
    resolutions = effective_count(first_value(stage, "NumberOfResolutions", "3"), 3)
    without_effect = idle(stage)
    found: list[str] = []
    for key, values in stage.items():
        if key in known.components or key in besides or key in without_effect:
            continue
        entry = known.find(key)
        if entry is None:
            near = _near(key, (*known.words(key), *besides))
            hint = f"did you mean {near}? Else " if near else ""
            raise InputError(
                f"{name}: elastix knows no ({_line(key, values)}) and would pass over it; "
                f"{hint}take the line away or put // in front"
            )
        what, _ = entry
        _check_values(key, what, values, name)
        found += _check_length(key, what, values, resolutions, name)
    _check_together(stage, chosen, name)
    if without_effect:
        told = ", ".join(f"{key} ({why})" for key, why in without_effect.items())
        found.append(f"{name}: without effect: {told}")
    found += _few_samples(stage, chosen, name)
    return tuple(found)


def idle(stage: ParameterMap) -> dict[str, str]:
    """Keys that elastix knows and that no component of this stage reads, with the reason in a few words."""
    known = vocabulary()
    chosen = _components(stage, "", known)
    reasons = {}
    for key in stage:
        entry = known.find(key)
        why = known.ignored.get(key) or (_not_read(*entry, chosen) if entry else None)
        if why and key not in known.components:
            reasons[key] = why
    return reasons


def effective_count(value: str, default: int) -> int:
    """A value that elastix reads as a whole number (``15`` or ``15.0``), or the default."""
    return int(float(value)) if _PATTERNS["whole"].fullmatch(value) else default


# -- components ---------------------------------------------------------------------------------


def _components(stage: ParameterMap, name: str, known: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The components of every kind that elastix would make."""
    chosen = {}
    for kind, names in known.components.items():
        default = _DEFAULTS.get(kind)
        given = tuple(stage.get(kind, (default,) if default else ()))
        if not given and kind in _NEEDED:
            raise InputError(f'{name}: says no ({kind} …); add for example ({kind} "{_NEEDED[kind]}")')
        for value in given:
            if value in known.not_built.get(kind, ()):
                raise InputError(
                    f'{name}: ({kind} "{value}"): the elastix in itk-elastix is built without it; '
                    f"there are {', '.join(names)}"
                )
            if value not in names:
                near = _near(value, names)
                hint = f'did you mean "{near}"?' if near else f"there are {', '.join(names)}"
                raise InputError(f'{name}: ({kind} "{value}"): elastix has no such {kind}; {hint}')
        chosen[kind] = given
    return chosen


def _not_read(what: Key, one: tuple[str, int] | None, chosen: Mapping[str, tuple[str, ...]]) -> str | None:
    """Why no chosen component reads a key, None if one does."""
    if one is not None and one[1] >= len(chosen[one[0]]):
        return f"there is no {one[0]} {one[1]}, they count from 0"
    made = {component for components in chosen.values() for component in components}
    made |= {kind for kind, components in chosen.items() if components} | {_WHATEVER_IS_CHOSEN}
    if made.intersection(what.readers):
        return None
    first, *others = what.readers
    return f"read by {first}" + (f" and {len(others)} more" if others else "")


# -- values -------------------------------------------------------------------------------------


def _check_values(key: str, what: Key, values: Sequence[str], name: str) -> None:
    for value in values:
        # A dimension may be written 3.000000.
        if what.fits(value) or (what.value.isdecimal() and effective_count(value, -1) == int(what.value)):
            continue
        hint = ""
        if " " in value and all(what.fits(part) for part in value.split()):
            hint = "; take the quotes away, several numbers stand without"
        elif what.value in _WORDS and re.fullmatch(r"[+-]?\d+,\d+", value):
            hint = f"; with a decimal point it is {value.replace(',', '.')}"
        elif what.value == "switch" and value.lower() in ("true", "false"):
            hint = f'; write "{value.lower()}"'
        elif what.value not in _PATTERNS and not what.value.isdecimal():
            near = _near(value, what.value.split("|"))
            hint = f'; did you mean "{near}"?' if near else ""
        elif what.value.isdecimal():
            hint = f"; iterreg registers volumes of {_AXES} dimensions"
        raise InputError(f"{name}: ({_line(key, values)}): {value!r} must be {what.wants()}{hint}")


def _check_length(key: str, what: Key, values: Sequence[str], resolutions: int, name: str) -> list[str]:
    """Refuse what leaves a resolution or an axis to a default; note what is left over."""
    lengths = what.lengths(resolutions)
    if not lengths or len(values) in lengths:
        return []
    if 1 in lengths and len(set(values)) == 1:
        return []  # elastix repeats the first value, which is what the others say too
    line, wanted = _line(key, values), " or ".join(map(str, lengths))
    if lengths == (1,):
        return [f"{name}: ({line}): elastix reads the first value only"]
    per_resolution = "N" in what.counts and "3N" not in what.counts
    if per_resolution and len(values) > resolutions:
        return [
            f"{name}: ({line}): the file has {resolutions} resolutions, the values after those are not read"
        ]
    if len(values) > max(lengths):
        instead = f"the first {max(lengths)}"
    else:
        instead = "the first one for the rest" if 1 in lengths else "defaults of its own"
    levels = "" if "3" in what.counts else f"{resolutions} resolution{'s' if resolutions != 1 else ''}"
    axes = "" if per_resolution else f"{_AXES} axes"
    raise InputError(
        f"{name}: ({line}) has {len(values)} value{'s' if len(values) != 1 else ''} for "
        f"{' and '.join(filter(None, (levels, axes)))}; write {wanted}, elastix would take {instead}"
    )


def _check_together(stage: ParameterMap, chosen: Mapping[str, tuple[str, ...]], name: str) -> None:
    """Refuse settings that need or exclude others."""
    for key in _INITIAL:
        value = first_value(stage, key, "NoInitialTransform")
        if value != "NoInitialTransform":
            raise InputError(
                f'{name}: ({key} "{value}"): elastix heeds this in its result files only, and would start '
                "from the identity; give the stages in sequence instead, -m elastix:first.txt+second.txt"
            )
    if chosen["Registration"] == ("MultiResolutionRegistration",) and len(chosen["Metric"]) > 1:
        raise InputError(
            f'{name}: (Registration "MultiResolutionRegistration") takes one Metric, the file names '
            f'{len(chosen["Metric"])}; write (Registration "MultiMetricMultiResolutionRegistration")'
        )
    grids = [key for key in ("FinalGridSpacingInVoxels", "FinalGridSpacingInPhysicalUnits") if key in stage]
    if len(grids) == 2 and any("BSpline" in transform for transform in chosen["Transform"]):
        raise InputError(
            f"{name}: {' and '.join(f'({_line(key, stage[key])})' for key in grids)} both give the distance "
            "of the control points; keep one of them"
        )


def _few_samples(stage: ParameterMap, chosen: Mapping[str, tuple[str, ...]], name: str) -> list[str]:
    if not any("Random" in sampler for sampler in chosen["ImageSampler"]):
        return []
    for value in stage.get("NumberOfSpatialSamples", ()):
        if effective_count(value, _FEW_SAMPLES) < _FEW_SAMPLES:
            return [f"{name}: (NumberOfSpatialSamples {value}) is too few to go by; 2000 and more are usual"]
    return []


# -- words --------------------------------------------------------------------------------------


def _line(key: str, values: Iterable[str]) -> str:
    text = " ".join([key, *(f'"{value}"' if " " in value else value for value in values)])
    return text if len(text) <= 100 else text[:97] + "…"


def _near(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to one, letters compared without case."""
    folded = {one.lower(): one for one in known}
    close = get_close_matches(word.lower(), folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None
