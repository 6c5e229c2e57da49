"""What elastix's log says about a run: how every resolution ended, what was ignored, what went wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LogSummary", "read_log"]

_ERROR = re.compile(r"ITK ERROR: (?:\w+\(0x[0-9a-f]+\): )?(?P<said>.+)|^ERROR: (?P<plain>.+)")
# A component's name in a parameter file, its number, and the key meant for it alone.
_ONE_OF_SEVERAL = re.compile(
    r"(Registration|Transform|ImageSampler|Metric|Interpolator|Optimizer|FixedImagePyramid|MovingImagePyramid"
    r"|ResampleInterpolator|Resampler)\d+[A-Z]"
)
# A warning goes on in lines that are set in, or after a line that ends with a comma.
_WARNING = re.compile(r"^WARNING: (?P<said>.*(?:(?:\n[ \t]+\S.*)|(?:(?<=,)\n.*))*)", re.MULTILINE)
_DEFAULT = re.compile(
    r'The parameter "(?P<key>\w+)".* does not exist .*'
    r'The default values? (?:"(?P<value>.*)" is|are) used instead'
)
# Unused keys have their own place; that a schedule nobody gave is not specified goes without saying.
_TOLD_ELSEWHERE = re.compile(r"unused parameter|schedule is not fully specified")


@dataclass(frozen=True)
class LogSummary:
    """A run in numbers.

    Attributes
    ----------
    resolutions
        In the order they ran, over all stages: ``stage`` and ``resolution`` (from 0), ``iterations``,
        ``metric`` (the last value; of the last samples where every iteration draws new ones),
        ``stop`` and ``seconds`` of wall time. What the log does not say is None.
    unused
        Keys of the parameter files that no component of elastix asked for. Keys meant for one component of
        several (``ImageSampler1NumberOfSpatialSamples``) are left out: elastix reports them even when it
        has used them.
    errors
        What elastix called an error, in its own words.
    defaults
        Keys that no file gave, with the value elastix took.
    warnings
        What elastix called a warning, in its own words, besides those about unused keys and defaults.
    """

    resolutions: tuple[dict[str, Any], ...]
    unused: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_log(text: str) -> LogSummary:
    """Summarise the text of an ``elastix.log``, complete or broken off anywhere."""
    resolutions: list[dict[str, Any]] = []
    unused: list[str] = []
    errors: list[str] = []
    columns: list[str] = []
    stage = -1
    defaults, warnings = _warnings(text)
    for line in text.splitlines():
        if line.startswith("Resolution:"):
            number = int(line.partition(":")[2])
            stage += number == 0
            columns = []
            nothing_yet = {"metric": None, "stop": None, "seconds": None}
            resolutions.append({"stage": stage, "resolution": number, "iterations": 0, **nothing_yet})
        elif line.startswith("1:ItNr"):
            columns = line.split("\t")
        elif columns and line[:1].isdigit():
            row = dict(zip(columns, line.split("\t"), strict=False))
            resolutions[-1]["iterations"] += 1
            resolutions[-1]["metric"] = _number(row.get("2:Metric", ""))
        elif line.startswith("Stopping condition:") and resolutions:
            resolutions[-1]["stop"] = line.partition(":")[2].strip(" .")
        elif line.startswith("Time spent in resolution") and resolutions:
            resolutions[-1]["seconds"] = _number(line.rpartition(":")[2])
            columns = []
        elif line.strip().startswith("Unused parameter:"):
            key = line.partition(":")[2].strip()
            if not _ONE_OF_SEVERAL.match(key):
                unused.append(key)
        elif found := _ERROR.search(line):
            errors.append((found["said"] or found["plain"]).strip())
    return LogSummary(
        tuple(resolutions),
        tuple(dict.fromkeys(unused)),
        tuple(dict.fromkeys(errors)),
        defaults,
        tuple(dict.fromkeys(warnings)),
    )


def _warnings(text: str) -> tuple[dict[str, str], list[str]]:
    """Keys that no file gave with the values taken instead, and the other warnings."""
    defaults: dict[str, str] = {}
    warnings: list[str] = []
    for found in _WARNING.finditer(text):
        said = " ".join(found["said"].split())
        if default := _DEFAULT.match(said):
            defaults.setdefault(default["key"], default["value"])
        elif not _TOLD_ELSEWHERE.search(said):
            warnings.append(said)
    return defaults, warnings


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
