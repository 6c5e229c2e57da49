"""Blocks become one gzip member, the same with any number of threads, and few of them are in memory."""

from __future__ import annotations

import errno
import gzip
import io
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from iterreg.field import DisplacementField
from iterreg.io.challenge import read_field, write_field
from iterreg.io.gzip_blocks import write_gzip
from iterreg.io.nifti import read_vectors, write_array
from iterreg.volume import Grid


def written(blocks: list[bytes], threads: int = 1) -> bytes:
    stream = io.BytesIO()
    write_gzip(stream, [partial(bytes, block) for block in blocks], threads=threads)
    return stream.getvalue()


@pytest.fixture
def blocks() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 9, size, np.uint8).tobytes() for size in (1, 70_000, 0, 300_000, 17, 5000, 123_456)
    ]


def test_any_reader_finds_one_member(blocks: list[bytes]) -> None:
    content = b"".join(blocks)
    data = written(blocks)
    assert len(data) < 0.6 * len(content)
    assert gzip.decompress(data) == content  # which checks the checksum and the size
    member = zlib.decompressobj(wbits=31)
    assert member.decompress(data) == content
    assert member.eof
    assert member.unused_data == b""
    assert gzip.decompress(written([])) == b""


def test_threads_change_no_byte(blocks: list[bytes]) -> None:
    assert written(blocks) == written(blocks, 2) == written(blocks, 5)


@pytest.mark.parametrize("threads", [1, 3])
def test_few_blocks_are_in_memory(threads: int) -> None:
    made = 0

    def block() -> bytes:
        return b"x" * 1000

    def counted() -> Iterator[Callable[[], bytes]]:
        nonlocal made
        for _ in range(50):
            made += 1
            yield block

    class Watched(io.BytesIO):
        writes = 0
        furthest = 0

        def write(self, data: bytes) -> int:
            self.furthest = max(self.furthest, made - self.writes)
            self.writes += 1
            return super().write(data)

    stream = Watched()
    write_gzip(stream, counted(), threads=threads)
    assert stream.furthest <= 2 * threads
    assert gzip.decompress(stream.getvalue()) == b"x" * 50_000


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_come_through_and_threads_end(threads: int, blocks: list[bytes]) -> None:
    def broken() -> bytes:
        raise ZeroDivisionError

    class Full(io.BytesIO):
        def write(self, data: bytes) -> int:
            if len(data) > 10_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        write_gzip(io.BytesIO(), [partial(bytes, b"a"), broken, *[partial(bytes, b"b")] * 9], threads=threads)
    with pytest.raises(OSError, match="No space"):
        write_gzip(Full(), [partial(bytes, block) for block in blocks], threads=threads)
    assert threading.active_count() == before


@pytest.mark.parametrize("shape", [(5,), (4, 7), (30, 40, 50), (90, 80, 70, 3), (6, 5, 4, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_layout(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32), order=order)
    for threads in (1, 2):
        write_array(tmp_path / f"{threads}.nii.gz", array, np.eye(4), threads=threads)
    assert (tmp_path / "1.nii.gz").read_bytes() == (tmp_path / "2.nii.gz").read_bytes()
    np.testing.assert_array_equal(read_vectors(tmp_path / "2.nii.gz").array, array)


def test_a_field_comes_back(tmp_path: Path) -> None:
    grid = Grid((50, 60, 70))
    field = DisplacementField(
        np.random.default_rng(0).normal(size=(50, 60, 70, 3)).astype(np.float32), grid, grid
    )
    write_field(tmp_path / "a.nii.gz", field, threads=2)
    np.testing.assert_array_equal(read_field(tmp_path / "a.nii.gz", grid, grid).vectors, field.vectors)
