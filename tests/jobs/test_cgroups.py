"""Limits of control groups, in both versions, as containers and schedulers mount them."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.jobs.cgroups import cpu_quota, memory_limits

GIB = 2**30


class Host:
    """A /proc/self and the control groups it names."""

    def __init__(self, root: Path) -> None:
        self.groups, self.process = root / "cgroup", root / "self"
        self.process.mkdir()
        self.groups.mkdir()

    def belongs(self, membership: str, *mounts: str) -> None:
        """A mount is ``ROOT PLACE TYPE OPTIONS``, its place below `groups`."""
        (self.process / "cgroup").write_text(membership + "\n")
        lines = ["22 1 0:5 / /proc rw,nosuid shared:7 - proc proc rw"]
        for number, mount in enumerate(mounts):
            root, place, kind, options = mount.split()
            lines.append(
                f"{30 + number} 22 0:{number} {root} {self.groups / place} rw,relatime shared:9 "
                f"- {kind} {kind} {options}"
            )
        (self.process / "mountinfo").write_text("\n".join(lines) + "\n")

    def has(self, folder: str, **files: str) -> None:
        path = self.groups / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_version_2_with_the_limits_of_all_around(host: Host) -> None:
    host.belongs("0::/slurm/job_7/step_0", "/ . cgroup2 rw,nsdelegate")
    host.has(
        "slurm/job_7/step_0", memory__max="max", memory__current="5", memory__stat="", cpu__max="max 100000"
    )
    host.has(
        "slurm/job_7", memory__max=str(8 * GIB), memory__current=str(3 * GIB),
        memory__stat=f"anon 1\ninactive_file {GIB}", cpu__max="250000 100000",
    )  # fmt: skip
    assert memory_limits(host.process) == [(8 * GIB, 2 * GIB)]
    assert cpu_quota(host.process) == 2.5


def test_version_1_of_a_scheduler(host: Host) -> None:
    host.belongs(
        "9:memory:/slurm/uid_1/job_7\n4:cpu,cpuacct:/slurm/uid_1/job_7\n1:name=systemd:/x\n0::/",
        "/ memory cgroup rw,memory", "/ cpu,cpuacct cgroup rw,cpu,cpuacct", "/ unified cgroup2 rw",
        "/ systemd cgroup rw,xattr,name=systemd",
    )  # fmt: skip
    none = str(2**63 - 4096)
    stat = f"cache 1\ntotal_inactive_file {GIB // 2}"
    host.has("memory", memory__limit_in_bytes=none, memory__usage_in_bytes="7", memory__stat=stat)
    host.has(
        "memory/slurm/uid_1/job_7", memory__limit_in_bytes=str(16 * GIB),
        memory__usage_in_bytes=str(2 * GIB), memory__stat=stat,
    )  # fmt: skip
    host.has("cpu,cpuacct/slurm/uid_1/job_7", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    host.has("cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert memory_limits(host.process) == [(16 * GIB, 3 * GIB // 2)]
    assert cpu_quota(host.process) == 4.0


@pytest.mark.parametrize("root", ["/docker/abc", "/"])
def test_a_container_of_version_1_sees_its_own_part(host: Host, root: str) -> None:
    """The membership names the host's path, of which only the container's part is mounted, if that."""
    host.belongs("4:memory:/docker/abc", f"{root} memory cgroup ro,memory")
    files = {"memory__limit_in_bytes": str(GIB), "memory__usage_in_bytes": "0", "memory__stat": ""}
    host.has("memory", **files)
    assert memory_limits(host.process) == [(GIB, 0)]


def test_where_there_is_nothing_to_read(host: Host) -> None:
    assert memory_limits(host.process) == []
    assert cpu_quota(host.process) is None
    host.belongs("0::/../..", "/ . cgroup2 rw")
    host.has(".", memory__max="much", cpu__max="")
    assert memory_limits(host.process) == []
    assert cpu_quota(host.process) is None
