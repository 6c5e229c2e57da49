"""What runs inside a job's child: read the spec, load, register, write, read back, verify."""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import pkgutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np

from iterreg.batch.extras import EXTRAS, write_extras
from iterreg.batch.spec import JobSpec
from iterreg.errors import EngineError, InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import read_field, write_field
from iterreg.jobs.threads import in_threads
from iterreg.methods.base import Registration, Task
from iterreg.methods.registry import load
from iterreg.volume import Volume, load_image, load_labels, read_grid

__all__ = ["warm", "work"]


def warm(method: str) -> None:
    """Import an engine and what every job needs, before any child is forked."""
    _import_kernels()
    load(method).warm()
    # Whatever is compiled first makes numba load the rest of itself, half a second that each child would
    # pay. Compiling starts no thread; calling a parallel kernel here would.
    cast(Any, numba.njit)(_nothing).compile((numba.float64,))


def _import_kernels() -> None:
    """They choose their cache's folder when they are imported; a job's temporary folder must not be it."""
    import iterreg.kernels

    for module in pkgutil.iter_modules(iterreg.kernels.__path__, "iterreg.kernels."):
        importlib.import_module(module.name)


def _nothing(value: float) -> float:
    return value


def work(message: Mapping[str, str]) -> dict[str, Any]:
    """Do a job and leave verified files behind.

    Parameters
    ----------
    message
        ``spec``: path of the job's `JobSpec`; ``into``: folder that takes its outputs; ``scratch``: an empty
        folder for the engine.

    Returns
    -------
    Facts for the job's status and sidecar: the written files with their digests; where a pair was
    registered, folding of the field as read back from disk, timings, and the method's own details.

    Raises
    ------
    InputError
        If the spec, an image, a mask, a label map or a verified field cannot be used.
    EngineError
        If the engine's field is missing, misplaced or not finite.
    """
    _import_kernels()  # nothing to do in a warm child
    spec = JobSpec.read(Path(message["spec"]))
    targets = {role: Path(message["into"]) / name for role, name in spec.outputs.items()}
    _work_in(message["scratch"])
    if spec.verified_field is not None:
        return _extend(spec, spec.verified_field, targets)
    from iterreg.kernels.first_use import timed

    with timed() as compilation:
        facts = _register(spec, targets, Path(message["scratch"]))
    facts["seconds"]["compile"] = round(compilation.cpu_seconds, 3)
    return facts


def _register(spec: JobSpec, targets: Mapping[str, Path], scratch: Path) -> dict[str, Any]:
    began = time.perf_counter()
    images = (spec.inputs["fixed"], spec.inputs["moving"])
    fixed, moving = in_threads(load_image, images, threads=min(2, spec.threads))
    task = Task(
        fixed=fixed,
        moving=moving,
        fixed_mask=_mask(spec.inputs.get("fixed_mask"), fixed),
        moving_mask=_mask(spec.inputs.get("moving_mask"), moving),
        threads=spec.threads,
        seed=spec.seed,
        scratch=scratch,
        inverse="inverse" in targets,
    )
    for image in (fixed, moving):
        if float(image.array.min()) == float(image.array.max()):
            raise InputError(f"{image.path}: is constant, there is nothing to register; see what made it")
    method = load(spec.method)
    loaded = time.perf_counter()
    result = method.register(task, spec.parameters)
    registered = time.perf_counter()
    _check(result, task)

    facts: dict[str, Any] = {"details": _plain(dict(result.details))}
    path = targets["field"]
    write_field(path, result.field, threads=spec.threads)
    # What counts is what is on the disk: everything below is measured on the file read back.
    field = read_field(path, fixed.grid, moving.grid)
    facts["field"] = _file(path)
    facts["folding"] = _folding(field, fixed)
    if "inverse" in targets:
        facts |= _inverse(targets["inverse"], result, field, spec.threads)
    if "momentum" in targets:
        facts |= _momentum(targets["momentum"], result)
    facts |= _extras(spec, targets, field, moving)
    facts["seconds"] = {
        "load": round(loaded - began, 3),
        "register": round(registered - loaded, 3),
        "write_and_verify": round(time.perf_counter() - registered, 3),
    }
    return facts


def _extend(spec: JobSpec, field: Path, targets: Mapping[str, Path]) -> dict[str, Any]:
    """Make files of a field that is there already."""
    fixed, moving = read_grid(spec.inputs["fixed"]), load_image(spec.inputs["moving"])
    return _extras(spec, targets, read_field(field, fixed, moving.grid), moving)


def _extras(
    spec: JobSpec, targets: Mapping[str, Path], field: DisplacementField, moving: Volume
) -> dict[str, Any]:
    wanted = {role: path for role, path in targets.items() if role in EXTRAS}
    write_extras(wanted, field, moving, spec.labels)
    facts = {role: _file(path) for role, path in wanted.items()}
    if "labels" in facts:
        facts["labels"]["of"] = spec.labels_digest
    return facts


def _work_in(scratch: str) -> None:
    """Have whatever an engine drops (in the current or the temporary folder) land where it is removed."""
    os.chdir(scratch)
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = scratch


def _plain(value: Any) -> Any:
    """A method's details as JSON has them: numpy's numbers and arrays made plain, NaN and infinity None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _mask(path: Path | None, image: Volume) -> Volume | None:
    if path is None:
        return None
    mask = load_labels(path)
    if not mask.grid.matches(image.grid):
        raise InputError(f"{path}: lies on another grid than {image.path}; resample the mask onto its image")
    return mask


def _check(result: Registration, task: Task) -> None:
    """Refuse an engine's answer that is not a finite field on this pair's grids."""
    if not isinstance(result, Registration):
        raise EngineError(f"the method returned {type(result).__name__} instead of a Registration")
    expected = {"field": (result.field, task.fixed, task.moving)}
    if result.inverse is not None:
        expected["inverse field"] = (result.inverse, task.moving, task.fixed)
    for name, (field, start, end) in expected.items():
        if not isinstance(field, DisplacementField):
            raise EngineError(f"the engine's {name} is a {type(field).__name__}, not a DisplacementField")
        if not (field.fixed.matches(start.grid) and field.moving.matches(end.grid)):
            raise EngineError(f"the engine's {name} is {field!r}, not from {start.grid!r} to {end.grid!r}")
        bad = int(np.count_nonzero(~np.isfinite(field.vectors).all(axis=-1)))
        if bad:
            raise EngineError(f"the engine's {name} is not finite in {bad} voxels")


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        value = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": value}


def _folding(field: DisplacementField, fixed: Volume) -> dict[str, Any]:
    folding = field.folding(fixed.array > 0)
    facts = {
        "ndv_percent": folding.ndv_percent,
        "folded_voxels": folding.folded_voxels,
        "lowest_determinant": folding.lowest_determinant,
        "lowest_at": list(folding.lowest_at),
        "mask": "fixed > 0",
    }
    return cast(dict[str, Any], _plain(facts))


def _inverse(path: Path, result: Registration, field: DisplacementField, threads: int) -> dict[str, Any]:
    """Write the inverse field, the engine's own or a numerical one, with the error it leaves."""
    if result.inverse is not None:
        inverse, source = result.inverse, "engine"
    else:
        inverse, source = field.invert().field, "numerical"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_field(path, inverse, threads=threads)
    # How far a moving point ends from itself after inverse and forward, in moving voxels.
    there_and_back = inverse.compose(field)
    origin = DisplacementField.identity(inverse.fixed)
    error = np.linalg.norm(there_and_back.vectors - origin.vectors, axis=-1)
    inner = error[tuple(slice(n // 8, n - n // 8) for n in error.shape)]
    return {
        "inverse": _file(path)
        | {
            "source": source,
            "residual_mean": _plain(inner.mean()),
            "residual_p99.9": _plain(np.percentile(inner, 99.9)),
        }
    }


def _momentum(path: Path, result: Registration) -> dict[str, Any]:
    if result.momentum is None:
        raise EngineError("the method says that it saves its momentum, but its registration has none")
    result.momentum.save(path)
    return {"momentum": _file(path)}
