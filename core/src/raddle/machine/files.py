# SPDX-License-Identifier: Apache-2.0
"""Reads files for a machine, as far as there is room for them, and decompresses them if they are gzip'd.

Any fault of a file is a UsageError that names the file and the fault.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from raddle.errors import UsageError
from raddle.sizes import size_text

__all__ = ["GZIP_MAGIC", "Contents", "gunzip", "read_file"]

FILE_LIMIT: Final = 1 << 30
"""Bytes of the largest file that may be read."""
EXPANSION_LIMIT: Final = 512 << 20
"""Bytes of the largest gzip'd file after decompression."""
PIECE: Final = 1 << 20
"""Bytes that are read, or decompressed, at a time: so memory is taken for what the file has, not for what it might
have."""
FEED: Final = 1 << 16
"""Compressed bytes that the decompressor gets at a time; it copies those that it does not use."""
GZIP_MAGIC: Final = b"\x1f\x8b"

FILE_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""Kinds of files that are not read: they might not end, or make the reader wait for ever."""


def read_file(path: str | Path, what: str, limit: int = FILE_LIMIT, remedy: str = "") -> bytes:
    """The contents of a file of at most `limit` bytes; `remedy` says what to do about a larger one. `what` (the kernel,
    the initrd) is for the message. Never waits for a writer.
    """
    too_large = f"cannot use {what} {path}: it is larger than {size_text(limit)}{remedy and '; '}{remedy}"
    try:
        path = Path(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot read {what} {path}: it is {FILE_KINDS[stat.S_IFMT(status.st_mode)]}, not a file")
        if status.st_size > limit:
            raise UsageError(too_large)
        # In case it has become a FIFO by now: opening it must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            parts: list[bytes] = []
            size = 0
            while size <= limit:
                # One byte more than the size, to see the end. Files in /proc have a size of 0.
                expected = status.st_size + 1 - size
                part = file.read(min(expected if expected > 0 else PIECE, limit + 1 - size))
                if part is None:
                    raise UsageError(f"cannot read {what} {path}: it waits for a writer; give a file with an end")
                if not part:
                    break
                parts.append(part)
                size += len(part)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from None
    if size > limit:
        raise UsageError(too_large)
    if not parts:
        raise UsageError(f"cannot use {what} {path}: it is empty")
    return b"".join(parts)


def _inflate(data: bytes, name: str, limit: int, too_large: str) -> Iterator[bytes]:
    """The contents of the first gzip member, piece by piece. Data after it is ignored, as gzip does."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    compressed = memoryview(data)
    position = size = 0
    while not stream.eof:
        given: bytes | memoryview = stream.unconsumed_tail
        if not given:
            given = compressed[position : position + FEED]
            position += FEED
        try:
            piece = stream.decompress(given, PIECE)
        except zlib.error as error:
            raise UsageError(f"cannot decompress {name}: the gzip data are damaged ({error})") from None
        if not piece and not given:
            raise UsageError(f"cannot decompress {name}: the gzip data are truncated")
        size += len(piece)
        if size > limit:
            raise UsageError(f"cannot use {name}: {too_large}")
        yield piece
    if not size:
        raise UsageError(f"cannot use {name}: it is empty when decompressed")


def gunzip(data: bytes, name: str, limit: int = EXPANSION_LIMIT, remedy: str = "") -> bytes:
    """The contents of the first gzip member, at most `limit` bytes; `remedy` says what to do about more. Takes no
    memory for data over the limit.
    """
    too_large = f"it has more than {size_text(limit)} when decompressed{remedy and '; '}{remedy}"
    return b"".join(_inflate(data, name, limit, too_large))


class Contents:
    """The contents of a file, gzip'd or not: parts can be read without memory for the rest."""

    def __init__(self, data: bytes, name: str) -> None:
        """`data` are the file's bytes; `name` is for the message."""
        self._data = data
        self._name = name
        self._compressed = data.startswith(GZIP_MAGIC)

    def whole(self, limit: int, remedy: str) -> bytes:
        """All contents, at most `limit` bytes; `remedy` says what to do about more."""
        if self._compressed:
            return gunzip(self._data, self._name, limit, remedy)
        if len(self._data) > limit:
            raise UsageError(f"cannot use {self._name}: it is larger than {size_text(limit)}; {remedy}")
        return self._data

    def start(self, size: int) -> bytes:
        """The first `size` bytes, or all if there are fewer."""
        return self.parts([(0, size)], checked=False)[0]

    def parts(self, ranges: Sequence[tuple[int, int]], checked: bool) -> list[bytes]:
        """For each (offset, size) the bytes there; fewer if the file ends. With `checked`, compressed data are
        decompressed to the end, so that any damage is found; otherwise only as far as needed.
        """
        if not self._compressed:
            return [self._data[offset : offset + size] for offset, size in ranges]
        found: list[list[bytes]] = [[] for _ in ranges]
        last = max(offset + size for offset, size in ranges)
        position = 0
        too_large = f"it has more than {size_text(EXPANSION_LIMIT)} when decompressed"
        for piece in _inflate(self._data, self._name, EXPANSION_LIMIT, too_large):
            end = position + len(piece)
            for parts, (offset, size) in zip(found, ranges, strict=True):
                if offset < end and position < offset + size:
                    parts.append(piece[max(0, offset - position) : offset + size - position])
            position = end
            if position >= last and not checked:
                break
        return [b"".join(parts) for parts in found]
