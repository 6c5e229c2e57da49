"""Pictures as bytes inside the page: lossy WebP for what is smooth, lossless WebP for drawn overlays."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["overlay", "photo"]


def photo(pixels: NDArray[Any], *, quality: int, longest: int) -> str:
    """A grey (rows, columns) or RGB (rows, columns, 3) picture as a data URI.

    Parameters
    ----------
    quality
        Of WebP, 1 to 100.
    longest
        Larger pictures are reduced until their longer side has so many pixels.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((longest, longest), Image.Resampling.BOX, reducing_gap=None)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=4)
    return _uri(stream)


def overlay(indices: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]) -> str:
    """(rows, columns) palette indices as a data URI, index 0 transparent."""
    table = np.array([(*colour, 255 if index else 0) for index, colour in enumerate(colours)], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(table[indices]).save(stream, "WEBP", lossless=True, quality=70, method=4)
    return _uri(stream)


def _uri(stream: io.BytesIO) -> str:
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
