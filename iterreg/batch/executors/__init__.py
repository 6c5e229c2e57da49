"""Where jobs are run: an executor takes a spec and reports how the job ended."""

from iterreg.batch.executors.base import Executor
from iterreg.batch.executors.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor"]
