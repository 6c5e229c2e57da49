"""Hundreds of spoilt files, each read by a command that reads it: a sentence and a documented exit code."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

IMAGE = "imagesVal/X_0001_0000.nii.gz"
FIELD = "fields/disp_0001_0002.nii.gz"
OTHER = "imagesVal/X_0002_0000.nii.gz"
_EVALUATE = "evaluate fields --dataset X_dataset.json -o new --cores 1"
_LEARN2REG = "evaluate fields --dataset pairs.csv --protocol learn2reg -o new --cores 1"
_WARP = f"warp --moving {IMAGE} --out out.nii.gz --field "
_INSPECT = f"inspect --fixed {IMAGE} --moving {OTHER} "
_PLAN = "plan X_dataset.json -m identity"
_RUN = "run X_dataset.json -m identity -q --cores 1"
_ARM = f"plan {IMAGE} {OTHER} -o new -m "
_COMPARE = "compare scores other --resamples 100"

READERS: dict[str, tuple[str, ...]] = {
    "X_dataset.json": (
        "check X_dataset.json",
        f"{_PLAN} -o new",
        _EVALUATE,
        "package run --dataset X_dataset.json",
        "report run --dataset X_dataset.json -o new.html",
    ),
    "config.json": (f"{_EVALUATE} --config config.json", "check config.json", "plan config.json -o new"),
    "pairs.csv": ("check pairs.csv", "plan pairs.csv -m identity -o new", _LEARN2REG),
    "points_0001.csv": (
        "check pairs.csv",
        f"warp --points points_0001.csv --field {FIELD} --moving {IMAGE} --out out.csv",
        _LEARN2REG,
    ),
    "groups.csv": (f"{_COMPARE} --label-groups groups.csv",),
    "run/run.json": (
        "status run",
        "package run",
        "report run -o new.html",
        "compare run --resamples 100",
        f"{_PLAN} -o run",
        f"{_RUN} -o run",
    ),
    "run/identity/jobs/0001_0002/status.json": (
        "status run --verify",
        "package run",
        "report run -o new.html",
        f"{_PLAN} -o run",
        f"{_RUN} -o run",
    ),
    "run/identity/fields/disp_0001_0002.json": (
        "status run --verify",
        "package run",
        "report run -o new.html",
    ),
    "run/inputs.json": (f"{_PLAN} -o run", f"{_RUN} -o run"),
    "run/results.csv": ("compare run --resamples 100", "status run", "report run -o new.html"),
    "scores/pairs.csv": (_COMPARE, "report scores other -o new.html"),
    "scores/labels.csv": (_COMPARE, "report scores other -o new.html"),
    "scores/summary.json": (_COMPARE, "report scores other -o new.html"),
    "scores/metrics.json": ("compare scores/metrics.json other --resamples 100",),
    IMAGE: (
        "check X_dataset.json",
        f"{_PLAN} -o new",
        _EVALUATE,
        f"{_INSPECT}{FIELD}",
        f"{_WARP}{FIELD}",
        f"convert {FIELD} out.npz --fixed {IMAGE}",
        f"prepare {IMAGE} --template {OTHER} -m identity -o new --cores 1",
        f"{_RUN} -o new --keep-going",
    ),
    "labelsVal/X_0001_0000.nii.gz": (
        "check X_dataset.json",
        _EVALUATE,
        f"warp --moving labelsVal/X_0001_0000.nii.gz --labels --out out.nii.gz --field {FIELD}",
    ),
    "landmarksVal/X_0001_0000.nii.gz": ("check X_dataset.json", _EVALUATE),
    "masksVal/X_0001_0000.nii.gz": (
        "check X_dataset.json",
        f"{_EVALUATE} --config config.json",
        f"{_PLAN} -o new --masks both",
    ),
    FIELD: (
        _EVALUATE,
        "package fields --dataset X_dataset.json",
        f"{_INSPECT}{FIELD}",
        f"inspect {FIELD}",
        f"{_WARP}{FIELD}",
        f"convert {FIELD} out.npz --fixed {IMAGE}",
        "report fields --dataset X_dataset.json -o new.html",
    ),
    "1Warp.nii.gz": (
        f"{_WARP}1Warp.nii.gz",
        f"{_INSPECT}1Warp.nii.gz",
        f"convert 1Warp.nii.gz disp_1_2.nii.gz --fixed {IMAGE}",
    ),
    "affine.txt": (
        f"{_WARP}affine.txt",
        "inspect affine.txt",
        f"convert affine.txt disp_1_2.nii.gz --fixed {IMAGE}",
    ),
    "TransformParameters.0.txt": (f"{_WARP}TransformParameters.0.txt", "inspect TransformParameters.0.txt"),
    "half.npz": (
        f"{_WARP}half.npz",
        f"{_INSPECT}half.npz",
        f"convert half.npz disp_1_2.nii.gz --fixed {IMAGE}",
    ),
    "grid.npy": (f"{_WARP}grid.npy --from torch", f"{_INSPECT}grid.npy"),
    "momentum.npz": ("lddmm shoot momentum.npz --out disp_1_2.nii.gz",),
    "syn.toml": (f"{_ARM}syn:syn.toml", "methods syn:syn.toml"),
    "lddmm.toml": (f"{_ARM}lddmm:lddmm.toml",),
    "elastix.txt": (f"{_ARM}elastix:elastix.txt",),
}
"""What reads each file of the world. `pristine` accepts all of them."""

Spoil = Callable[[Path], None]

# -- what any file may be instead of itself ----------------------------------------------------------------


def _replaced(make: Spoil) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def _written(content: bytes) -> Spoil:
    return lambda path: path.write_bytes(content) and None


def _changed(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def _noise(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


ANYTHING: dict[str, Spoil] = {
    "missing": lambda path: path.unlink(),
    "empty": _written(b""),
    "folder": _replaced(lambda path: path.mkdir()),
    "fifo": _replaced(lambda path: os.mkfifo(path)),
    "endless": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "loop": _replaced(_loop),
    "dangling": _replaced(lambda path: path.symlink_to("nowhere")),
    "half": _changed(lambda data: data[: len(data) // 2]),
    "noise": _changed(_noise),
    "nuls": _changed(lambda data: bytes(len(data))),
    "a zip": _written(b"PK\x03\x04" + bytes(60)),
    "html": _written(b"<!DOCTYPE html><html><body>404 Not found</body></html>\n"),
}

# -- texts ------------------------------------------------------------------------------------------------

TEXT: dict[str, Spoil] = {
    "latin-1": _changed(lambda data: data.replace(b"1", b"\xe9\xff1", 1)),
    "utf-16": _changed(lambda data: data.decode().encode("utf-16")),
    "bom": _changed(lambda data: b"\xef\xbb\xbf" + data),
    "crlf": _changed(lambda data: data.replace(b"\n", b"\r\n")),
    "cr": _changed(lambda data: data.replace(b"\n", b"\r")),
    "nul inside": _changed(lambda data: data.replace(b"1", b"\x001", 1)),
    "escapes": _changed(lambda data: data.replace(b"X", b"\x1b[31mX\x07", 1)),
    "long line": _changed(lambda data: data.replace(b"1", b"1" * 300_000, 1)),
    "twice": _changed(lambda data: data + data),
}

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**400,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "\0",
    "\ud800",
    "\x1b[2J\x07",
    "x" * 300,
    "~nosuchuser/x",
    "../" * 60 + "dev/zero",
    "/dev/zero/x",
    "=1+1",
    [],
    {},
    [[[]]],
    {"a": 1},
    "١",
)
"""What a value of a json or a cell of a table may be instead."""


def _named(value: Any) -> str:
    return re.sub(r"[^\w.=~+/-]+", "_", ascii(value))[:24]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a json document."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*at, key)
        yield from _places(value[key], (*at, key))


def _json_value(seed: int, value: Any) -> Spoil:
    def spoil(path: Path) -> None:
        document = json.loads(path.read_text())
        *above, last = random.Random(seed).choice(list(_places(document)))
        inside = document
        for key in above:
            inside = inside[key]
        inside[last] = value
        path.write_text(json.dumps(document))

    return spoil


def _json_lacks(seed: int) -> Spoil:
    def spoil(path: Path) -> None:
        document = json.loads(path.read_text())
        *above, last = random.Random(seed).choice(list(_places(document)))
        inside = document
        for key in above:
            inside = inside[key]
        del inside[last]
        path.write_text(json.dumps(document))

    return spoil


JSON: dict[str, Spoil] = {
    "deep lists": _written(b"[" * 100_000 + b"]" * 100_000),
    "deep objects": _written(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep inside": _changed(
        lambda data: data.replace(b"{", b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b",", 1)
    ),
    "huge int": _changed(lambda data: re.sub(rb"(?<=[\s:\[])\d+(?=[,\s\]}])", b"9" * 5000, data, count=1)),
    "1e400": _changed(lambda data: re.sub(rb"(?<=[\s:\[])\d+(?=[,\s\]}])", b"1e400", data, count=1)),
    "a list": _written(b"[1, 2]"),
    "a number": _written(b"1"),
    "key twice": _changed(lambda data: data.replace(b"{", b'{"name": 1, "name": [],', 1)),
    **{f"{_named(value)} at {seed}": _json_value(seed, value) for seed, value in enumerate(VALUES)},
    **{f"{_named(value)} at {seed + 50}": _json_value(seed + 50, value) for seed, value in enumerate(VALUES)},
    **{f"lacks {seed}": _json_lacks(seed) for seed in range(6)},
}


def _cell(seed: int, value: Any) -> Spoil:
    def spoil(path: Path) -> None:
        lines = path.read_text().splitlines()
        chance = random.Random(seed)
        line = chance.randrange(len(lines))
        cells = lines[line].split(",")
        cells[chance.randrange(len(cells))] = str(value)
        lines[line] = ",".join(cells)
        path.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogatepass"))

    return spoil


CSV: dict[str, Spoil] = {
    "huge cell": _changed(lambda data: data + b'"' + b"x" * 200_000 + b'",1,2\n'),
    "open quote": _changed(lambda data: data + b'"never closed\n1,2\n'),
    "header only": _changed(lambda data: data.split(b"\n")[0] + b"\n"),
    "no header": _changed(lambda data: b"\n".join(data.split(b"\n")[1:])),
    "too many cells": _changed(lambda data: data.rstrip(b"\n") + b",1,2,3,4,5,6,7,8,9\n"),
    "semicolons": _changed(lambda data: data.replace(b",", b";")),
    **{f"{_named(value)} at {seed}": _cell(seed, value) for seed, value in enumerate(VALUES)},
}

PARAMETERS: dict[str, Spoil] = {
    "deep": _changed(lambda data: data + b"\nx = " + b"[" * 50_000 + b"]" * 50_000 + b"\n"),
    **{
        f"{text[:24]} for number {seed}": _changed(
            lambda data, text=text, seed=seed: _number_replaced(data, text.encode(), seed)
        )
        for seed, text in enumerate(
            ("nan", "inf", "1e400", "-1", "0", "9" * 400, '"x"', "true", "1,5", "1.5", '"\x1b[2J"', "")
        )
    },
}


def _number_replaced(data: bytes, text: bytes, seed: int) -> bytes:
    found = list(re.finditer(rb"(?<![\w.])\d[\d.]*", data))
    one = random.Random(seed).choice(found)
    return data[: one.start()] + text + data[one.end() :]


# -- volumes and arrays -------------------------------------------------------------------------------------

_HEADER = (
    ("size", 0, "<i", 17),
    ("no dimensions", 40, "<h", 0),
    ("8 dimensions", 40, "<h", 8),
    ("x of 0", 42, "<h", 0),
    ("x of -5", 42, "<h", -5),
    ("x of 15", 42, "<h", 15),
    ("32767 cubed", 42, "<hhh", (32767,) * 3),
    ("complex", 70, "<hh", (32, 64)),
    ("long double", 70, "<hh", (1536, 128)),
    ("rgb", 70, "<hh", (128, 24)),
    ("no datatype", 70, "<h", 9999),
    ("bits", 72, "<h", 7),
    ("spacing 0", 80, "<f", 0.0),
    ("spacing nan", 80, "<f", float("nan")),
    ("spacing negative", 80, "<f", -1.0),
    ("spacing huge", 80, "<f", 1e38),
    ("offset huge", 108, "<f", 1e30),
    ("offset nan", 108, "<f", float("nan")),
    ("offset negative", 108, "<f", -99.0),
    ("slope nan", 112, "<f", float("nan")),
    ("slope 1e38", 112, "<f", 1e38),
    ("units", 123, "<B", 255),
    ("no codes", 252, "<hh", (0, 0)),
    ("sform nan", 280, "<ffff", (float("nan"),) * 4),
    ("sform zero", 280, "<ffff", (0.0,) * 4),
    ("sform huge", 280, "<ffff", (3e38,) * 4),
    ("magic", 344, "<4s", b"nope"),
)


def _header(offset: int, form: str, value: Any) -> Spoil:
    def change(data: bytes) -> bytes:
        content = bytearray(gzip.decompress(data))
        struct.pack_into(form, content, offset, *(value if isinstance(value, tuple) else (value,)))
        return gzip.compress(bytes(content))

    return _changed(change)


def _flipped(seed: int) -> Spoil:
    def change(data: bytes) -> bytes:
        content, chance = bytearray(data), random.Random(seed)
        for _ in range(3):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(content)

    return _changed(change)


def _bomb(path: Path) -> None:
    """2 GiB of zeros behind a sound header."""
    header = gzip.decompress(path.read_bytes())
    with path.open("wb") as stream:
        stream.write(gzip.compress(header))
        block = gzip.compress(bytes(2**26), 9)
        for _ in range(32):
            stream.write(block)


VOLUME: dict[str, Spoil] = {
    "bomb": _bomb,
    "not compressed": _changed(gzip.decompress),
    **{name: _header(offset, form, value) for name, offset, form, value in _HEADER},
    **{f"bits flipped {seed}": _flipped(seed) for seed in range(3)},
}


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


ARRAY: dict[str, Spoil] = {
    "text": _written(b"0.1 0.2 0.3\n"),
    "huge shape": _written(
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 40000, 40000, 40000), }")
    ),
    "objects": _written(_npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 1, 1, 1), }", bytes(24))),
    "no header": _written(_npy("{'descr': ")),
    "negative shape": _written(
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4, 4, 4), }", bytes(64))
    ),
    "complex numbers": _written(
        _npy("{'descr': '<c8', 'fortran_order': False, 'shape': (3, 7, 6, 8), }", bytes(3 * 7 * 6 * 8 * 8))
    ),
    **{f"bits flipped {seed}": _flipped(seed) for seed in range(4)},
}

KINDS: dict[str, dict[str, Spoil]] = {
    ".json": TEXT | JSON,
    ".csv": TEXT | CSV,
    ".toml": TEXT | PARAMETERS,
    ".txt": TEXT | PARAMETERS,
    ".gz": VOLUME,
    ".npz": ARRAY,
    ".npy": ARRAY,
}


@dataclass(frozen=True)
class Mutant:
    """One spoilt file and the command that meets it."""

    file: str
    mutation: str
    command: str

    def __str__(self) -> str:
        verb = self.command.split()[0]
        return f"{Path(self.file).parent.name or '.'}/{Path(self.file).name}-{self.mutation}-{verb}"

    def spoil(self, world: Path) -> None:
        path = world / self.file
        (ANYTHING | KINDS[path.suffix])[self.mutation](path)


def _mutants() -> Iterator[Mutant]:
    """Every mutation of every file, the commands that read it in turn."""
    for file, commands in READERS.items():
        for number, mutation in enumerate(ANYTHING | KINDS[Path(file).suffix]):
            yield Mutant(file, mutation, commands[number % len(commands)])


@pytest.mark.parametrize("command", dict.fromkeys(itertools.chain(*READERS.values())))
@pytest.mark.slow
def test_the_world_itself_is_sound(command: str, politely: Callable[..., Any]) -> None:
    assert politely(*command.split()).code == 0


@pytest.mark.parametrize("mutant", list(_mutants()), ids=str)
def test_a_spoilt_file(mutant: Mutant, world: Path, politely: Callable[..., Any]) -> None:
    mutant.spoil(world)
    politely(*mutant.command.split())
