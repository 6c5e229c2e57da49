"""``iterreg doctor``: does every engine work here?"""

from __future__ import annotations

import argparse
import sys

from iterreg.cli.commands import Subparsers
from iterreg.terminal import bare, visible

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "doctor",
        help="try every engine on a small phantom",
        description="Registers a small pair with a known answer with every installed method, each in a "
        "child: versions, times, whether the threads are kept to, and whether the answer is right.",
        epilog="Exit code: 0 all healthy, 2 some are not.",
    )
    parser.add_argument("-m", "--method", action="append", help="only this method (repeat for several)")
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads to compare with one (default 2)"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds per trial (default 600)")


def run(args: argparse.Namespace) -> int:
    import platform

    from iterreg.batch.doctor import examine
    from iterreg.jobs.resources import available_cores, available_memory, format_bytes
    from iterreg.methods.registry import available

    print(
        f"Python {platform.python_version()}, {platform.platform()}; "
        f"{available_cores()} cores, {format_bytes(available_memory())} of memory free"
    )
    healthy = True
    for name in args.method or available():
        if sys.stderr.isatty():
            print(f"{visible(name)}: trying ...", end="\r", flush=True, file=bare(sys.stderr))
        diagnosis = examine(name, threads=args.threads, timeout=args.timeout)
        known = ", ".join(f"{key} {value}" for key, value in diagnosis.versions.items() if key != "iterreg")
        verdict = "ok " if diagnosis.healthy else "BAD"
        print(f"{verdict} {name}{f' ({known})' if known else ''}: {diagnosis.message}")
        healthy = healthy and diagnosis.healthy
    return 0 if healthy else 2
