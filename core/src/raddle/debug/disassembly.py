# SPDX-License-Identifier: Apache-2.0
"""Machine code as text, by capstone. For logs: what capstone cannot read is shown as bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

__all__ = ["host", "lines", "one"]

_ARCHITECTURES: Final[dict[str, tuple[str, str]]] = {
    "a32": ("CS_ARCH_ARM", "CS_MODE_ARM"),
    "t32": ("CS_ARCH_ARM", "CS_MODE_THUMB"),
    "x86_64": ("CS_ARCH_X86", "CS_MODE_64"),
    "aarch64": ("CS_ARCH_ARM64", "CS_MODE_ARM"),
}
"""capstone's architecture and mode, by the names of its constants."""
_HOSTS: Final = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names of hosts."""

_lock = threading.Lock()
"""A capstone handle is one thread's at a time."""


def _after_fork() -> None:
    """In a child, where the thread is not that may have had it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


@cache
def _engine(architecture: str) -> Any:
    if architecture not in _ARCHITECTURES:
        return None
    import capstone  # late: most runs disassemble nothing

    return capstone.Cs(*(getattr(capstone, constant) for constant in _ARCHITECTURES[architecture]))


def lines(architecture: str, code: bytes, address: int) -> Iterator[tuple[int, bytes, str]]:
    """(address, bytes, text) of each instruction ("a32", "t32", "x86_64", "aarch64"). Any thread."""
    position = 0
    engine = _engine(architecture)
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


def one(architecture: str, code: bytes, address: int) -> str | None:
    """The text of the one instruction that `code` is; None when it is none. Any thread."""
    engine = _engine(architecture)
    if engine is None:
        return None
    with _lock:
        for _, size, mnemonic, operands in engine.disasm_lite(code, address, 1):
            if size == len(code):
                return f"{mnemonic} {operands}".rstrip()
    return None


def host() -> str:
    """The architecture of this host, as `lines` knows it."""
    import platform

    machine = platform.machine().lower()
    return _HOSTS.get(machine, machine)
