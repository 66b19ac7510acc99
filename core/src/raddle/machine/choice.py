# SPDX-License-Identifier: Apache-2.0
"""Which board a name stands for, when several guests have one of that name: the kernel's own, if it says so."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Final

from raddle.machine.elf import ELF_MAGIC
from raddle.machine.files import GZIP_MAGIC
from raddle.plugins import Board, Registry

__all__ = ["choose_board"]

ELF_MACHINE_AT: Final = 18
LOOK: Final = 4096
"""Bytes that the beginning of a file is looked for in, decompressed or not."""


def choose_board(plugins: Registry, name: str, target: str, kernel: str | Path | None) -> Board:
    """The board `name` of `target`. Where that leaves several guests, the one that an ELF `kernel` is for. Raises
    UsageError.
    """
    found = plugins.boards_named(name, target)
    if len(found) > 1 and kernel is not None:
        machine = _elf_machine(kernel)
        fitting = [board for board in found if plugins.target(board.target).elf_machine == machine]
        if machine is not None and len(fitting) == 1:
            return fitting[0]
    return plugins.board(name, target)


def _elf_machine(path: str | Path) -> int | None:
    """`e_machine` of an ELF file, gzip'd or not; None for anything else. What is wrong with it, its loader says."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            beginning = os.read(file, LOOK) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        finally:
            os.close(file)
        if beginning.startswith(GZIP_MAGIC):
            beginning = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(beginning, LOOK)
    except (OSError, ValueError, TypeError, zlib.error):
        return None
    if not beginning.startswith(ELF_MAGIC) or len(beginning) < ELF_MACHINE_AT + 2:
        return None
    order = ">" if beginning[5] == 2 else "<"
    (machine,) = struct.unpack_from(f"{order}H", beginning, ELF_MACHINE_AT)
    return int(machine)
