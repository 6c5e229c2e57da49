"""Reordering memory against numpy's copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iterreg.kernels.layout import components_last


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 3, 32), (17, 5, 33), (40, 2, 7)])
def test_equals_numpy(rng: np.random.Generator, shape: tuple[int, int, int], dtype: type) -> None:
    planes = rng.random((3, *shape[::-1])).astype(dtype)
    turned = components_last(planes)
    assert turned.dtype == dtype
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, planes.T)


def test_same_bits_for_any_thread_count(rng: np.random.Generator, same_bits: Callable[..., None]) -> None:
    planes = rng.random((3, 9, 8, 70))
    same_bits(lambda: components_last(planes))
