"""iterreg: classical baselines for deformable brain registration.

The public names are loaded on first use, so that ``import iterreg`` costs nothing
and no registration engine is touched before it runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "DisplacementField": "iterreg.field",
    "Grid": "iterreg.volume",
    "Volume": "iterreg.volume",
    "evaluate": "iterreg.evaluation.api",
    "InputError": "iterreg.errors",
    "IterregError": "iterreg.errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'iterreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
