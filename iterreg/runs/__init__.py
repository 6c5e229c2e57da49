"""A run folder as typed data: the one room that reads and writes its records, and says what a path is."""

from iterreg.runs.arm_record import ArmRecord
from iterreg.runs.folder import ArmFolder, JobFolder, RunFolder
from iterreg.runs.opening import MethodResults, OpenedResults, open_results
from iterreg.runs.record import RunRecord
from iterreg.runs.status import JobStatus, Sidecar

__all__ = [
    "ArmFolder",
    "ArmRecord",
    "JobFolder",
    "JobStatus",
    "MethodResults",
    "OpenedResults",
    "RunFolder",
    "RunRecord",
    "Sidecar",
    "open_results",
]
