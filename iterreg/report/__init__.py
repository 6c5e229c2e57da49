"""Shows what evaluated runs say: figures, and one self-contained HTML file."""

from __future__ import annotations

from importlib.util import find_spec

from iterreg.errors import InputError

__all__ = ["require_libraries"]


def require_libraries() -> None:
    """Refuse to begin what could not be ended.

    Raises
    ------
    InputError
        If a library is missing that only reports need.
    """
    missing = [name for name, module in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise InputError(f'a report needs {", ".join(missing)}: python3 -m pip install "iterreg[report]"')


_NEEDED = {"jinja2": "jinja2", "matplotlib": "matplotlib", "pillow": "PIL"}
