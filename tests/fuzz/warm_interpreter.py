"""A warm interpreter that runs commands in forked children, and says of each how it ended.

A line of JSON in, a line of JSON out. A new interpreter for each of hundreds of calls would spend minutes on
imports; a fork costs milliseconds, and a crash, a limit or another user stays in the child.
"""

from __future__ import annotations

import atexit
import codecs
import json
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import iterreg
from iterreg.cli.main import main


def warm() -> None:
    """Import all of iterreg; engines stay out, they are imported by the jobs that use them."""
    for module in pkgutil.walk_packages(iterreg.__path__, "iterreg."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    codecs.lookup("unicode-escape")  # another user may not be able to read the library


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a child; see ``conftest.Call`` for the meaning of both objects."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(request)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    _, status, usage = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "peak": usage.ru_maxrss * 1024,
    }


def _run(request: dict[str, Any]) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        os.chdir(request["cwd"])
        for descriptor, name, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(name, flags), descriptor)
        os.environ |= request["environment"]
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + request["memory"],) * 2)
        if request["user"] is not None:
            os.setgid(request["user"])
            os.setuid(request["user"])
        code = main(request["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    warm()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.pop("here", False):  # so that the children find its kernels loaded
            os.chdir(asked["cwd"])
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            main(asked["arguments"])
            answer = {"code": 0, "seconds": 0, "peak": 0}
        else:
            answer = serve(asked)
        print(json.dumps(answer), file=answers, flush=True)
