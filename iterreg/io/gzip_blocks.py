"""Writes gzip files from blocks that several threads compress at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, TypeVar, cast

from isal import isal_zlib

__all__ = ["write_gzip"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

# RFC 1952: the magic number, deflate, no flags and so no name, no time, the fastest compression, no system.
_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255])
_LAST_BLOCK = bytes([3, 0])  # RFC 1951: empty, and marked as the last one


def write_gzip(stream: IO[bytes], blocks: Iterable[Callable[[], bytes]], *, threads: int = 1) -> None:
    """Write blocks, one after another, as one gzip member.

    Each block is deflated by itself, so that the same blocks give the same bytes for any number of threads.

    Parameters
    ----------
    stream
        Open for writing.
    blocks
        Called in any thread for their content. Below a megabyte compression suffers; a few at a time are in
        memory.
    threads
        How many blocks are made and compressed at once.

    Raises
    ------
    OSError
        If the stream cannot take them.
    """
    stream.write(_HEADER)
    checksum = size = 0
    for content, deflated in _in_order(_deflated, blocks, threads):
        checksum = isal_zlib.crc32(content, checksum)
        size += len(content)
        stream.write(deflated)
    stream.write(_LAST_BLOCK)
    stream.write(checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little"))


def _deflated(block: Callable[[], bytes]) -> tuple[bytes, bytes]:
    """A block's content, and this compressed up to a whole byte, so that another block can follow."""
    content = block()
    compressor = cast(Any, isal_zlib).compressobj(level=1, wbits=-15)
    return content, compressor.compress(content) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)


def _in_order(work: Callable[[_Item], _Made], items: Iterable[_Item], threads: int) -> Iterator[_Made]:
    """`work` on each item, in threads; no more than two results for each thread are kept waiting."""
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
