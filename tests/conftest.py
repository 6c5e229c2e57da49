"""Fixtures that any test may ask for."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.volume import Grid

ORIENTATIONS = [
    "".join(letters)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*order)
]
AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def pytest_configure() -> None:
    """Give the commands under test the signals a terminal gives them.

    A suite started in the background or under nohup inherits ignored signals, and hands them on.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The development data, never part of the project: ITERREG_DATA, else beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ITERREG_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}: set ITERREG_DATA to their folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random but the same in every run."""
    return np.random.default_rng(20240731)


@pytest.fixture
def random_field(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Make (X, Y, Z, 3) float32 voxel displacements: smoothed noise, `amplitude` its largest component."""

    def make(shape: tuple[int, int, int], amplitude: float = 2.0, smoothness: float = 2.0) -> np.ndarray:
        noise = rng.standard_normal((*shape, 3))
        smooth = gaussian_filter(noise, (smoothness, smoothness, smoothness, 0), mode="nearest")
        return (amplitude * smooth / np.abs(smooth).max()).astype(np.float32)

    return make


@pytest.fixture
def random_grid(rng: np.random.Generator) -> Callable[..., Grid]:
    """Make a grid centred within a millimetre of the world's origin, its axes along an orientation's."""

    def make(
        orientation: str = "RAS",
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        oblique: float = 0.0,
        shape: tuple[int, int, int] = (9, 8, 7),
    ) -> Grid:
        """`oblique` is the angle, in degrees, of a rotation about a random axis."""
        linear = np.array([AXES[letter] for letter in orientation], float).T
        if oblique:
            axis = rng.standard_normal(3)
            x, y, z = axis / np.linalg.norm(axis)
            cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            angle = np.deg2rad(oblique)
            linear = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ linear
        affine = np.eye(4)
        affine[:3, :3] = linear * spacing
        affine[:3, 3] = rng.uniform(-1, 1, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Grid(shape, affine)

    return make


@pytest.fixture(params=ORIENTATIONS)
def orientation(request: Any) -> str:
    """Each of the 48 orientations a volume can be stored in."""
    return str(request.param)


@pytest.fixture
def same_bits() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Check that a call gives the same bits on one and on two numba threads."""
    import numba

    before = numba.get_num_threads()

    def check(call: Callable[[], Any]) -> None:
        if numba.config.NUMBA_NUM_THREADS < 2:
            pytest.skip("numba has one thread on this machine; set NUMBA_NUM_THREADS=2 to compare")
        results = []
        for threads in (1, 2):
            numba.set_num_threads(threads)
            result = call()
            results.append(result if isinstance(result, tuple) else (result,))
        for one, two in zip(*results, strict=True):
            assert one.dtype == two.dtype
            assert one.tobytes() == two.tobytes()

    yield check
    numba.set_num_threads(before)
