"""What the processor is called."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from iterreg.jobs.resources import cpu_model

X86 = "processor\t: 0\nmodel\t\t: 207\nmodel name\t: AMD EPYC 7763 64-Core Processor\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n"
PI = "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
POWER = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 2300MHz\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (X86, "AMD EPYC 7763 64-Core Processor"),
        (ARM, "{} (cpu implementer 0x41, cpu part 0xd0c)"),
        (PI, "Raspberry Pi 4 Model B Rev 1.4"),
        (POWER, "POWER9, altivec supported"),
        ("", "{}"),
    ],
)
def test_cpu_model(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == name.format(platform.processor() or platform.machine())


def test_cpu_model_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert cpu_model(tmp_path / "nothing") == (platform.processor() or platform.machine())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere the system may not know a name")
def test_cpu_model_of_this_machine() -> None:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    assert named[0].endswith(f": {cpu_model()}")
