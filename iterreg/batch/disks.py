"""Full disks are told by name: engines take them for damaged files, or crash."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

from iterreg.batch.scratch import mount_point
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.resources import format_bytes

__all__ = ["blame_full_disk", "refuse_full_disk"]


def refuse_full_disk(folder: Path, output_bytes: int, target: Path) -> None:
    """Refuse to begin a job whose files will not fit: rather now than after an hour of work.

    Raises
    ------
    OSError
        Naming `target`, if fewer than `output_bytes` are free in `folder`.
    """
    free = shutil.disk_usage(folder).free
    if free < output_bytes:
        raise OSError(
            errno.ENOSPC,
            f"{format_bytes(free)} are free, a field may need {format_bytes(output_bytes)}",
            str(target),
        )


def blame_full_disk(report: Report, output_bytes: int, scratch: Path, folder: Path) -> Report:
    """Name the file system that is full where a job failed.

    Parameters
    ----------
    scratch, folder
        The job's scratch folder, and its folder in the run.
    """
    if report.outcome in (Outcome.OK, Outcome.INTERRUPTED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY):
        return report
    for place, what, remedy in (
        (scratch, "the scratch folder", "name another with --scratch"),
        (folder, "the run folder", "run again"),
    ):
        free = shutil.disk_usage(place).free
        if free < output_bytes:
            reason = (
                f"the disk of {what} is full ({format_bytes(free)} free on {mount_point(place)}): free space "
                f"there, or {remedy}; what the job said: {report.reason}"
            )
            return replace(report, outcome=Outcome.EXCEPTION, reason=reason)
    return report
