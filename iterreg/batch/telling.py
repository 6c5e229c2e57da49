"""What people are told while jobs run: one line for each end, and the little there is between."""

from __future__ import annotations

from collections.abc import Iterable

from iterreg.batch.plan import Plan, PlannedJob
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.progress import Progress, format_seconds
from iterreg.jobs.resources import format_bytes
from iterreg.words import count

__all__ = ["Teller"]

_MIN_FORECAST = 0.5


class Teller:
    """Turns what happens to jobs into lines of `Progress`.

    Parameters
    ----------
    others
        Whether what other processes do is told too.
    """

    def __init__(self, progress: Progress, *, others: bool = True) -> None:
        self._progress = progress
        self._others = others
        self._told: set[tuple[str, str]] = set()
        self._waiting = False

    def expect(self, plan: Plan) -> None:
        """Announce what a plan will do."""
        for planned in plan.todo:
            wall = max(planned.cost.cpu_seconds / plan.threads, _MIN_FORECAST)
            self._progress.expect(*_names(planned), wall)

    def begun(self, planned: PlannedJob) -> None:
        self._progress.begin(*_names(planned))

    def ended(self, planned: PlannedJob, report: Report) -> None:
        """A job has ended and is recorded."""
        ok = report.outcome is Outcome.OK
        self._end(
            planned,
            _line(planned, report),
            measured=report.wall_seconds - report.compile_seconds if ok else None,
        )
        facts = report.value if isinstance(report.value, dict) else {}
        warnings = facts.get("details", {}).get("warnings", ())
        self._warn(planned.job.arm.name, map(str, warnings if isinstance(warnings, list) else ()))

    def again(self, planned: PlannedJob, report: Report) -> None:
        """An attempt has ended, and another one is made."""
        self._progress.say(f"trying again {_called(planned)}: {report.outcome}: {report.reason}")

    def elsewhere(self, planned: PlannedJob) -> None:
        self._theirs(planned, f"elsewhere    {_called(planned)}: another process is computing it")

    def done_elsewhere(self, planned: PlannedJob) -> None:
        self._theirs(planned, f"done already {_called(planned)} (by another process)")

    def failed_elsewhere(self, planned: PlannedJob, why: str) -> None:
        self._theirs(planned, f"failed       {_called(planned)} (in another process): {why}")

    def overruled(self, planned: PlannedJob, error: Exception) -> None:
        self._progress.leave(*_names(planned))
        self._progress.say(f"overruled    {_called(planned)}: {error}")

    def not_recorded(self, planned: PlannedJob, why: str) -> None:
        self._end(planned, f"not recorded {_called(planned)}: {why}")

    def waits_for(self, jobs: int) -> None:
        """Others are waited for; it is said once."""
        if not self._waiting:
            self._waiting = True
            self._progress.say(f"waiting for {count(jobs, 'job')} of other processes")

    def no_results(self, path: object, error: Exception) -> None:
        self._progress.say(f"{path}: could not be written ({error}); mend that, run again")

    def _theirs(self, planned: PlannedJob, line: str) -> None:
        self._end(planned, line if self._others else "")

    def _end(self, planned: PlannedJob, line: str, *, measured: float | None = None) -> None:
        self._progress.end(*_names(planned), line, measured=measured)

    def _warn(self, arm: str, warnings: Iterable[str]) -> None:
        """Pass on what a method warned of; what it says of every pair is said once."""
        for warning in warnings:
            if (arm, warning) not in self._told:
                self._told.add((arm, warning))
                self._progress.say(f"note         {arm}: {warning}")


def _names(planned: PlannedJob) -> tuple[str, str]:
    return planned.job.pair.name, planned.job.arm.name


def _called(planned: PlannedJob) -> str:
    return f"{planned.job.arm.name} {planned.job.pair.name}"


def _line(planned: PlannedJob, report: Report) -> str:
    if report.outcome is not Outcome.OK:
        return f"{report.outcome:12s} {_called(planned)}: {report.reason}"
    if planned.state == "extended":
        return f"ok           {_called(planned)}: {', '.join(planned.job.extras)} of the field that was there"
    folding = report.value["folding"] if isinstance(report.value, dict) else {}
    ndv = folding.get("ndv_percent")
    compiled = (
        f" (and {format_seconds(report.compile_seconds)} once, for compiling kernels)"
        if report.compile_seconds >= 1
        else ""
    )
    return (
        f"ok           {_called(planned)}: {format_seconds(report.wall_seconds)}, "
        f"CPU {format_seconds(report.cpu_seconds - report.compile_seconds)}{compiled}, "
        f"{format_bytes(report.peak_bytes)}, "
        + ("no NDV (nothing above zero in the fixed image)" if ndv is None else f"NDV {ndv:.4g} %")
    )
