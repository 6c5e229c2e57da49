"""What a cluster's scheduler has granted to this job, as its environment says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["granted_cores", "granted_memory"]

_CORES = ("SLURM_CPUS_PER_TASK", "NSLOTS", "PBS_NCPUS", "LSB_DJOB_NUMPROC")
"""SLURM's, Grid Engine's, PBS's and LSF's cores of one task."""

_UNITS = {"K": 2**10, "M": 2**20, "": 2**20, "G": 2**30, "T": 2**40}
"""SLURM counts in MiB where it names no unit."""


def granted_cores(environment: Mapping[str, str] = os.environ) -> int | None:
    """Cores of this task, None outside a scheduler's job or where it does not say."""
    found = [int(text) for name in _CORES if (text := environment.get(name, "").strip()).isdecimal()]
    return min((count for count in found if count > 0), default=None)


def granted_memory(environment: Mapping[str, str] = os.environ) -> int | None:
    """Bytes of this task on this node (SLURM's), None where nothing is said; ``--mem=0`` is all there is."""
    limits = []
    if node := _size(environment.get("SLURM_MEM_PER_NODE", "")):
        limits.append(node)
    if each := _size(environment.get("SLURM_MEM_PER_CPU", "")):
        cores = granted_cores(environment)
        if cores is None and (on_node := environment.get("SLURM_CPUS_ON_NODE", "")).isdecimal():
            cores = int(on_node)
        limits.append(each * (cores or 1))
    return min(limits, default=None)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)", text.strip(), re.IGNORECASE | re.ASCII)
    return int(match[1]) * _UNITS[match[2].upper()] if match else 0
