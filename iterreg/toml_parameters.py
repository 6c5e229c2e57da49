"""Reads a TOML parameter file into a frozen dataclass, strictly.

A dataclass describes a file: each field is a key, its annotation the type, `setting` its range; a field whose
type is itself a dataclass is a table. What the file leaves out keeps its default, what the dataclass does
not know is an error that names the nearest key it knows.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

from iterreg.errors import InputError

__all__ = ["from_mapping", "plain", "read_toml", "setting"]

T = TypeVar("T")


def setting(
    default: Any, *, minimum: float | None = None, maximum: float | None = None, above: float | None = None
) -> Any:
    """A dataclass field with a default and a range (for a list: of every element).

    Parameters
    ----------
    default
        Immutable.
    minimum, maximum
        Closed bounds.
    above
        Open lower bound.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(default=default, metadata={k: v for k, v in limits.items() if v is not None})


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a parameter file.

    Parameters
    ----------
    path
        The TOML file.
    kind
        A frozen dataclass; its ``__post_init__`` may raise `InputError` about settings that contradict each
        other.

    Raises
    ------
    InputError
        Naming the file and the key: unreadable, not TOML, an unknown key, a value of the wrong type or out of
        range.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not a text in UTF-8 ({error.reason} at byte {error.start}); check the path, or save "
            "it as UTF-8"
        ) from error
    except ValueError as error:  # TOMLDecodeError, or Python's own about a number of thousands of digits
        raise InputError(f"{path}: is not valid TOML ({error}); correct the line it names") from error
    except RecursionError as error:
        raise InputError(f"{path}: holds lists or tables in each other too deep to be settings") from error
    return from_mapping(content, kind, source=str(path))


def from_mapping(content: Mapping[str, Any], kind: type[T], *, source: str) -> T:
    """Build `kind` from nested mappings as `tomllib` or `plain` gives them.

    Parameters
    ----------
    source
        What to call the origin in messages: a file's path.

    Raises
    ------
    InputError
        As `read_toml`.
    """
    return cast(T, _table(content, kind, source, ""))


def plain(settings: Any) -> dict[str, Any]:
    """Every setting as JSON-serialisable nested dictionaries, defaults filled in."""
    return cast(dict[str, Any], _unfrozen(dataclasses.asdict(settings)))


def _unfrozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unfrozen(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_unfrozen(item) for item in value]
    return value


def _table(content: Any, kind: Any, source: str, prefix: str) -> Any:
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: {prefix.rstrip('.')} must be a table, write [{prefix.rstrip('.')}]")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            hint = _elsewhere(key, kind, prefix) or _nearest(key, fields, prefix)
            raise InputError(f"{source}: unknown key {prefix + key!r}; {hint}")
    values = {}
    for key, value in content.items():
        annotation = hints[key]
        if dataclasses.is_dataclass(annotation):
            values[key] = _table(value, annotation, source, f"{prefix}{key}.")
        else:
            values[key] = _value(value, annotation, fields[key].metadata, f"{source}: {prefix}{key}")
    try:
        return kind(**values)
    except InputError as error:
        where = f"{source}: [{prefix.rstrip('.')}]" if prefix else f"{source}:"
        raise InputError(f"{where} {error}") from error


def _elsewhere(key: str, kind: Any, prefix: str) -> str | None:
    """The table below this one where an unknown key belongs: it was written a level too high."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner) and key in {one.name for one in dataclasses.fields(inner)}:
            return f"it belongs in [{prefix}{field.name}]"
    return None


def _nearest(key: str, fields: Mapping[str, Any], prefix: str) -> str:
    close = get_close_matches(key.lower(), fields, n=1, cutoff=0.4)
    if close:
        return f"did you mean {prefix + close[0]!r}?"
    return f"valid are {', '.join(prefix + name for name in fields)}"


def _value(value: Any, annotation: Any, limits: Mapping[str, float], where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        if value not in arguments or type(value) not in {type(a) for a in arguments}:
            close = get_close_matches(str(value), [str(a) for a in arguments], n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"{where} cannot be {value!r}; {hint}valid are {', '.join(map(repr, arguments))}"
            )
        return value
    if origin in (types.UnionType, typing.Union):
        # TOML has no null: an optional setting is either left out or has the other type.
        (inner,) = (a for a in arguments if a is not type(None))
        return None if value is None else _value(value, inner, limits, where)
    if origin is tuple:
        return _list(value, arguments, limits, where)
    return _scalar(value, annotation, limits, where)


def _list(value: Any, arguments: tuple[Any, ...], limits: Mapping[str, float], where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{where} must be a list, got {value!r}")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise InputError(f"{where} must be a list of {len(arguments)} values, got {list(value)!r}")
    return tuple(_value(item, arguments[0], limits, f"{where}[{i}]") for i, item in enumerate(value))


def _scalar(value: Any, kind: Any, limits: Mapping[str, float], where: str) -> Any:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise InputError(f"{where} must be finite, got a number too large for that") from None
    if type(value) is not kind:
        raise InputError(f"{where} must be {names[kind]}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{where} must be finite, got {value!r}")
    if "minimum" in limits and value < limits["minimum"]:
        raise InputError(f"{where} must be at least {limits['minimum']:g}, got {value!r}")
    if "above" in limits and value <= limits["above"]:
        raise InputError(f"{where} must be above {limits['above']:g}, got {value!r}")
    if "maximum" in limits and value > limits["maximum"]:
        raise InputError(f"{where} must be at most {limits['maximum']:g}, got {value!r}")
    return value
