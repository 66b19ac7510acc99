# SPDX-License-Identifier: Apache-2.0
"""The instructions around a vCPU's pc, to help find out why a guest went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from raddle.errors import RaddleError
from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.threads.vcpu import VCpu

__all__ = ["around"]

UNITS_BEFORE: Final = 4
INSTRUCTIONS_AFTER: Final = 3
UNMAPPED: Final = (1 << 64) - 1


def around(cpu: VCpu, pc: int | None = None) -> list[str]:
    """The instructions around a pc, by default `cpu`'s, a line each; the one at the pc is marked.

    Only while the machine is paused, or stopped and not yet closed.
    """
    if cpu.engine.closed:
        return []
    pc = cpu.pc if pc is None else pc
    before = _before(cpu, pc)
    return [f"{'=>' if at == pc else '  '} {text}" for at, text in (*before, *_decode(cpu, pc, INSTRUCTIONS_AFTER + 1))]


def _before(cpu: VCpu, pc: int) -> list[tuple[int, str]]:
    """The longest run of instructions in the units before `pc` that ends there: it is not known which units begin an
    instruction.
    """
    unit = cpu.engine.frontend.instruction_set(cpu["mode"]).unit
    for count in range(UNITS_BEFORE, 0, -1):
        start = pc - count * unit
        lines = list(_decode(cpu, start, count, pc)) if start >= 0 else []
        if lines and lines[-1][0] == pc:
            return lines[:-1]
    return []


def _decode(cpu: VCpu, at: int, count: int, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Address and text of `count` instructions from `at` on, as far as there is memory. With `end`, only those before
    it, and an entry with an empty text for `end` if an instruction begins there.
    """
    instructions = cpu.engine.frontend.instruction_set(cpu["mode"])
    for _ in range(count):
        data = _read(cpu, at, instructions.unit)
        found = instructions.word_at(data)
        if found is None and data:
            # It may continue in the next page, which may be mapped elsewhere.
            found = instructions.word_at(data + _read(cpu, at + instructions.unit, instructions.unit))
        if found is None:
            if end is None:
                yield at, f"{at:#010x}: there is no memory"
            return
        word, size = found
        yield at, f"{at:#010x}: {word:0{2 * size}x}{' ' * (8 - 2 * size)}  {instructions.disassemble(word, size, at)}"
        at += size
        if end is not None and at >= end:
            yield at, ""
            return


def _read(cpu: VCpu, address: int, size: int) -> bytes:
    """The bytes that the vCPU would fetch at a virtual address; empty if it cannot, or only from a device."""
    frontend = cpu.engine.frontend
    mmu_index = cpu["mode"] >> frontend.fetch_index_shift & 3
    physical = lib.raddle_debug_translate(cpu.env, address, mmu_index)
    if physical == UNMAPPED:
        return b""
    try:
        return cpu.engine.memory.read(physical, size)
    except RaddleError:
        return b""
