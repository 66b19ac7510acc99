# SPDX-License-Identifier: Apache-2.0
"""Host memory at a fixed address, which Python, the native runtime and generated code share."""

from __future__ import annotations

import contextlib
import mmap
from typing import Final

from raddle import kinds
from raddle.errors import UsageError
from raddle.runtime._native import ffi

__all__ = ["HostMemory"]

MAP_NORESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Linux: RAM that the guest never touches counts against no limit (the module names it from Python 3.13 on)."""


class HostMemory:
    """Zeroed, page-aligned memory that stays where it is until `close`. Only touched pages take up host memory.

    `bytes` and `words` (host-endian, 32 bits) are views of the same memory. Thread-safe as plain memory is.
    """

    def __init__(self, size: int, what: str = "memory") -> None:
        """Allocate `size` bytes. Raises UsageError when the host does not have that much address space."""
        kinds.number(f"the size of {what}", size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        try:
            self._map = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, OverflowError, ValueError) as error:
            raise UsageError(f"cannot allocate {size >> 20} MiB for {what}: {error}") from None
        self._exported = ffi.from_buffer(self._map)
        self.size: Final = size
        self.address: Final = int(ffi.cast("uintptr_t", self._exported))
        """Host address of the first byte."""
        self.bytes: Final = memoryview(self._map)
        self.words: Final = self.bytes[: size & ~3].cast("I")

    def prefer_huge_pages(self) -> None:
        """Ask the host for huge pages, if it has them: accesses to guest RAM then miss the host's TLB less often."""
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self._map.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                return  # a kernel without transparent huge pages

    def clear(self, offset: int, size: int) -> None:
        """Zero `size` bytes; whole pages among them return to the host until they are touched again."""
        first = min(offset + mmap.PAGESIZE - 1 & -mmap.PAGESIZE, offset + size)
        last = max(offset + size & -mmap.PAGESIZE, first)
        self.bytes[offset:first] = bytes(first - offset)
        self.bytes[last : offset + size] = bytes(offset + size - last)
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def save(self) -> bytes:
        """A copy of the contents."""
        return bytes(self.bytes)

    def restore(self, contents: bytes) -> None:
        """Take over contents that `save` has returned. Raises ValueError if they are not as long as the memory."""
        if type(contents) is not bytes or len(contents) != self.size:
            raise ValueError(f"it is {self.size} bytes")
        self.bytes[:] = contents

    def close(self) -> None:
        """Free the memory. Nothing may use `address` any more."""
        ffi.release(self._exported)
        self.words.release()
        self.bytes.release()
        with contextlib.suppress(BufferError):  # a view still exists; the end of the last one frees the memory
            self._map.close()
