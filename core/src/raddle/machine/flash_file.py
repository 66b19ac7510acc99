# SPDX-License-Identifier: Apache-2.0
"""Files with the contents of flash banks.

When the guest programs or erases flash, the file is changed before the bank, in place, and only there: at any moment it
holds what a real flash would hold if its power failed then. When a machine pauses or ends, the host writes the file to
disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raddle.errors import OutputError, UsageError
from raddle.machine.files import FILE_KINDS
from raddle.sizes import size_text

__all__ = ["FlashFile", "FlashImage", "flash_files"]

PIECE: Final = 1 << 20
"""Bytes that are read at a time; blocks of zeros take no memory."""

NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of locking on a file system without locks."""


@dataclass(frozen=True, slots=True)
class FlashFile:
    """A flash bank's file. The guest's changes go to it, unless it is `readonly`: then the bank refuses them; or
    `snapshot`: then they are discarded at the end.
    """

    path: str | Path
    readonly: bool = False
    snapshot: bool = False


Given = str | Path | FlashFile


def flash_files(given: Given | Sequence[Given | None] | None) -> tuple[FlashFile | None, ...]:
    """An entry for each bank, from what a user gives: the first bank's file, or a sequence with None for banks without
    a file.
    """
    if given is None:
        return ()
    several = [given] if isinstance(given, Given) else given
    return tuple(FlashFile(one) if isinstance(one, str | Path) else one for one in several)


class FlashImage:
    """An open flash file of exactly `size` bytes. Raises UsageError for a file that cannot be used. Under the big
    lock.
    """

    def __init__(self, file: FlashFile, size: int) -> None:
        self.file: Final = file
        self.name: Final = f"flash file {file.path}"
        self.writes: Final = not (file.readonly or file.snapshot)
        """Whether changes go to the file."""
        self._unsynced = False
        self._size = size
        try:
            path = Path(file.path)
            kind = stat.S_IFMT(path.stat().st_mode)
            if kind != stat.S_IFREG:
                raise UsageError(f"cannot use {self.name}: it is {FILE_KINDS[kind]}, not a file")
            # Should it have become a FIFO by now: to open it waits for nobody.
            flags = (os.O_RDWR if self.writes else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except (OSError, TypeError, ValueError) as error:
            hint = ""
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and self.writes:
                hint = "; readonly=on or snapshot=on leaves the file as it is"
            raise UsageError(f"cannot open {self.name}: {getattr(error, 'strerror', None) or error}{hint}") from None
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        found = os.fstat(self._descriptor).st_size
        if found != self._size:
            if not found:  # files of /proc and /sys have this size, too, whatever they contain
                remedy = f"`truncate -s {self._size} FILE` makes one of zeros"
            elif found < self._size:
                remedy = f"make a copy and `truncate -s {self._size}` it"
            else:
                remedy = f"give what is for this bank alone: `head -c {self._size}` copies what the file begins with"
            has = size_text(found) if found else "no contents"
            raise UsageError(
                f"cannot use {self.name}: it has {has}, and the flash bank {size_text(self._size)}; {remedy}"
            )
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if self.writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise UsageError(
                    f"cannot use {self.name}: another flash bank, of this machine or another, has it; "
                    "snapshot=on for all of them shares it"
                ) from None

    def load(self, memory: memoryview) -> None:
        """Copy the file into `memory`, which is zeroed."""
        zeros = bytes(PIECE)
        try:
            for offset in range(0, self._size, PIECE):
                data = os.pread(self._descriptor, min(PIECE, self._size - offset), offset)
                if data != zeros[: len(data)]:
                    memory[offset : offset + len(data)] = data
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror}") from None

    def save(self, offset: int, data: bytes) -> None:
        """Write `data` to the file, if changes go to it. Raises OutputError."""
        if not self.writes:
            return
        try:
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._descriptor, rest, offset)
                self._unsynced = True
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise OutputError(self.name, error.strerror) from None

    def sync(self) -> None:
        """Have the changes written to disk. Raises OutputError."""
        if not self._unsynced:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(self.name, error.strerror) from None
        self._unsynced = False

    def close(self) -> None:
        os.close(self._descriptor)
