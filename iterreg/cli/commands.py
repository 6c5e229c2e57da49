"""What the commands share: every module has ``add_parser(subparsers)`` and ``run(args)``, its exit code."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from iterreg.errors import InputError
from iterreg.paths import to_path

__all__ = ["Subparsers", "path_argument"]

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command's ``add_parser`` adds its own parser to."""


def path_argument(text: str) -> Path:
    """An argument that names a file or folder, for ``add_argument(type=path_argument)``."""
    try:
        return to_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
