"""The ``iterreg`` command. Importing it costs nothing: each command loads what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from iterreg import __version__
from iterreg.errors import IterregError

__all__ = ["main"]


COMMANDS = (
    "demo",
    "run",
    "plan",
    "status",
    "check",
    "evaluate",
    "report",
    "compare",
    "prepare",
    "package",
    "warp",
    "convert",
    "inspect",
    "lddmm",
    "methods",
    "doctor",
    "container",
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="iterreg",
        description="Classical baselines for deformable brain registration, over whole challenge data sets.",
        epilog="Every command explains itself: iterreg run --help.",
    )
    parser.add_argument("--version", action="version", version=f"iterreg {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"iterreg.cli.{name}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    The exit code: 0 all done, 1 the request cannot be carried out as it stands, 2 some pairs failed
    (argparse's own errors are 2 as well), 3 some pairs are being computed by another process,
    130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what no text can
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(build_parser().parse_args(arguments))
        finally:
            sys.stdout.flush()  # here, not at exit, where a closed pipe would be reported
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(args: argparse.Namespace) -> int:
    try:
        return int(import_module(f"iterreg.cli.{args.command}").run(args))
    except IterregError as error:
        print(f"iterreg {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
