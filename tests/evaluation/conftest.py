"""Golden numbers and the data they were made on."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def cases() -> ModuleType:
    """The maker of the golden numbers' data."""
    spec = importlib.util.spec_from_file_location("golden_cases", GOLDEN / "cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def golden() -> Callable[[str], Any]:
    """What an official evaluator gave, by name."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text())
