# SPDX-License-Identifier: Apache-2.0
"""Machine code as text, by capstone. For logs: code that capstone cannot disassemble is shown as bytes."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

__all__ = ["Language", "lines", "one"]

Language = tuple[str, str]
"""An instruction set: capstone's architecture and mode, by the names of its constants."""

_lock = threading.Lock()
"""One thread at a time may use a capstone handle."""


def _after_fork() -> None:
    """In a forked child, where the thread that may have the lock does not exist."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


_IMPORT_BYTES: Final = 64 << 20
"""Address space that the import of capstone takes at most."""


@cache
def _engine(language: Language | None) -> Any:
    if language is None:
        return None
    # Errors are described when memory is out, too. Then the import would fail midway, and parts of it say so at length.
    mmap.mmap(-1, _IMPORT_BYTES).close()
    import capstone  # late: most runs disassemble nothing

    if not all(hasattr(capstone, constant) for constant in language):  # names of a later capstone
        return None
    return capstone.Cs(*(getattr(capstone, constant) for constant in language))


def lines(language: Language | None, code: bytes, address: int) -> Iterator[tuple[int, bytes, str]]:
    """(address, bytes, text) of each instruction; of each byte if capstone does not know the instruction set, or it is
    None. Any thread.
    """
    position = 0
    engine = _engine(language)
    while position < len(code):
        with _lock:
            rest = code[position:]
            found = list(engine.disasm_lite(rest, address + position)) if engine is not None else []
        for at, size, mnemonic, operands in found:
            yield at, code[position : position + size], f"{mnemonic} {operands}".rstrip()
            position += size
        if position < len(code):
            yield address + position, code[position : position + 1], f".byte {code[position]:#04x}"
            position += 1


def one(language: Language | None, code: bytes, address: int) -> str | None:
    """The text of `code`, a single instruction; None if it is none. Any thread."""
    engine = _engine(language)
    if engine is None:
        return None
    with _lock:
        for _, size, mnemonic, operands in engine.disasm_lite(code, address, 1):
            if size == len(code):
                return f"{mnemonic} {operands}".rstrip()
    return None
