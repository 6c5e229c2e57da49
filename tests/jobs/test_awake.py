"""A clock that stands still while its process does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from signal import SIGCONT, SIGSTOP

CODE = """
import time
from iterreg.jobs.awake import AwakeClock

clock, began = AwakeClock(), time.monotonic()
print("ready", flush=True)
while time.monotonic() - began < 5:
    clock()
    time.sleep(0.05)
print(clock(), time.monotonic() - began)
"""


def test_a_suspension_is_not_counted() -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, SIGSTOP)
    time.sleep(6)
    os.kill(process.pid, SIGCONT)
    awake, passed = map(float, process.communicate(timeout=60)[0].split())
    assert passed > 6
    assert awake <= passed - 3.9
