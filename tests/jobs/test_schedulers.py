"""What schedulers grant."""

from __future__ import annotations

import os

import pytest

from iterreg.jobs.resources import available_cores, available_memory, total_memory
from iterreg.jobs.schedulers import granted_cores, granted_memory

GIB = 2**30


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({}, None),
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "64"}, 8),
        ({"NSLOTS": "4"}, 4),
        ({"PBS_NCPUS": "12"}, 12),
        ({"LSB_DJOB_NUMPROC": "6"}, 6),
        ({"NSLOTS": "", "PBS_NCPUS": "many", "LSB_DJOB_NUMPROC": "0"}, None),
    ],
)
def test_cores(environment: dict[str, str], cores: int | None) -> None:
    assert granted_cores(environment) == cores


@pytest.mark.parametrize(
    ("environment", "memory"),
    [
        ({}, None),
        ({"SLURM_MEM_PER_NODE": "16384"}, 16 * GIB),
        ({"SLURM_MEM_PER_NODE": "0"}, None),  # --mem=0: all there is
        ({"SLURM_MEM_PER_NODE": "16G"}, 16 * GIB),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "64"}, 16 * GIB),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "3"}, 6 * GIB),
        ({"SLURM_MEM_PER_CPU": "2048"}, 2 * GIB),
        ({"SLURM_MEM_PER_NODE": "plenty"}, None),
    ],
)
def test_memory(environment: dict[str, str], memory: int | None) -> None:
    assert granted_memory(environment) == memory


def test_a_grant_bounds_what_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setitem(os.environ, "SLURM_MEM_PER_CPU", "300")
    assert available_cores() == 1
    assert available_memory() == total_memory() == 300 * 2**20
