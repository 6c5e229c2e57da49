"""Tries an installed engine on a small pair with a known answer, in a child, as a batch would run it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from iterreg.batch.arms import versions
from iterreg.batch.servers import start_server
from iterreg.errors import InputError
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.supervise import supervise
from iterreg.methods import presets
from iterreg.methods.base import Method, Parameters, Task
from iterreg.methods.registry import available, load
from iterreg.methods.trial import make_trial
from iterreg.words import count

__all__ = ["Diagnosis", "examine"]

GOOD_SHARE = 0.75
"""A share of the initial error below this proves direction, axes and units: wrong conventions leave over 0.8.

Methods whose lengths follow the brain's size leave some 0.6: in so small and smooth an object they do not
reach from one feature to the next.
"""


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about one method.

    Attributes
    ----------
    healthy
        The engine ran, recovered the known motion and kept to its threads.
    message
        One line for people.
    """

    method: str
    healthy: bool
    message: str
    versions: Mapping[str, str]


def trial(payload: Mapping[str, Any]) -> dict[str, float]:
    """Runs in the child: register the trial pair, return the error before and after and the time taken."""
    from iterreg.field import DisplacementField

    pair = make_trial()
    method = load(payload["method"])
    parameters = method.parameters(payload["preset"])
    began = time.perf_counter()
    result = method.register(
        Task(pair.fixed, pair.moving, scratch=Path(payload["scratch"]), threads=payload["threads"]),
        parameters,
    )
    return {
        "seconds": time.perf_counter() - began,
        "before": pair.error(DisplacementField.identity(pair.fixed.grid, pair.moving.grid)),
        "after": pair.error(result.field),
    }


def examine(name: str, *, threads: int, timeout: float) -> Diagnosis:
    """Try a method with one thread and with `threads`, and judge what came back.

    Its cheapest preset is used: the point is whether the engine works here, not how well it registers.
    """
    try:
        method = load(name)
        found = versions(method)
        preset = cheapest_preset(method)
    except InputError as error:
        if name not in available():
            raise
        return Diagnosis(name, False, str(error), {})  # one broken package does not hide the others
    reports = []
    warm_seconds = 0.0
    with tempfile.TemporaryDirectory(prefix="iterreg-doctor-") as folder:
        for count in sorted({1, threads}):
            server = start_server(method, threads=count, log=Path(folder) / "server.txt")
            try:
                scratch = Path(tempfile.mkdtemp(dir=folder))
                payload = {"method": name, "preset": preset, "threads": count, "scratch": str(scratch)}
                report = supervise(
                    server,
                    "iterreg.batch.doctor:trial",
                    payload,
                    log=Path(folder) / "log.txt",
                    timeout=timeout,
                )
                warm_seconds = server.warm_wall_seconds
            finally:
                server.close()
            reports.append((count, report))
    healthy, message = _judge(name, warm_seconds, reports)
    return Diagnosis(name, healthy, message, found)


def cheapest_preset(method: Method) -> str | None:
    """The preset with the lowest estimated time on the trial pair; None for a method without presets."""
    pair = make_trial()

    def seconds(preset: str) -> float:
        parameters: Parameters = method.parameters(preset)
        return method.cost(parameters, pair.fixed.grid, pair.moving.grid).cpu_seconds

    return min(presets.names(method.name), key=seconds, default=None)


def _judge(name: str, warm_seconds: float, reports: list[tuple[int, Report]]) -> tuple[bool, str]:
    for threads, report in reports:
        if report.outcome is not Outcome.OK:
            return False, f"with {count(threads, 'thread')}: {report.outcome}: {report.reason}"
    figures = [(threads, report, cast(Mapping[str, float], report.value)) for threads, report in reports]
    parts = [f"import {warm_seconds:.1f} s"]
    for threads, report, value in figures:
        busy = report.cpu_seconds / max(report.wall_seconds, 1e-3)
        parts.append(f"{count(threads, 'thread')} {value['seconds']:.1f} s ({busy:.1f} cores busy)")
    _, single, value = figures[0]
    parts.append(f"error {value['before']:.2f} -> {value['after']:.2f} mm")
    if single.cpu_seconds > 1.3 * single.wall_seconds + 0.5:
        return False, ", ".join(parts) + "; it does not keep to one thread"
    if name != "identity" and value["after"] > GOOD_SHARE * value["before"]:
        return False, ", ".join(parts) + "; the known motion was not recovered"
    return True, ", ".join(parts)
