"""The ``iterreg`` command. Importing it costs nothing: each command loads what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from iterreg import __version__
from iterreg.cli.endings import INTERRUPTED, REFUSED, ending
from iterreg.terminal import escaped_output

__all__ = ["main"]


COMMANDS = (
    "demo",
    "run",
    "work",
    "submit",
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
        epilog="Every command explains itself: iterreg run --help. "
        "Exit code 70: a mistake in iterreg, with a file to report.",
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
    70 a mistake in iterreg, 130 interrupted.
    """
    with escaped_output():
        try:
            try:
                return _run(build_parser().parse_args(arguments))
            finally:
                sys.stdout.flush()  # here, not at exit, where a closed pipe would be reported
        except BrokenPipeError:  # the reader, such as head, has seen enough
            _give_up(sys.stdout)
            return 0
        except OSError as error:  # a full disk takes no more of what is printed
            _give_up(sys.stdout)
            print(f"iterreg: the output cannot be written: {ending(error)[0]}", file=sys.stderr)
            return REFUSED


def _run(args: argparse.Namespace) -> int:
    try:
        return int(import_module(f"iterreg.cli.{args.command}").run(args))
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = ending(error)
        print(sentence if code == INTERRUPTED else f"iterreg {args.command}: {sentence}", file=sys.stderr)
        return code


def _give_up(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, or Python would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
