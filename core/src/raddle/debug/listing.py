# SPDX-License-Identifier: Apache-2.0
"""The instructions around a vCPU's pc, for people who look why their guest went wrong."""

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
    """Some instructions before a pc, by default that of `cpu`, the one there, marked, and some after it, a line each.

    While the machine stands, that is paused or stopped and not yet closed.
    """
    if cpu.engine.closed:
        return []
    pc = cpu.pc if pc is None else pc
    before = _before(cpu, pc)
    return [f"{'=>' if at == pc else '  '} {text}" for at, text in (*before, *_decode(cpu, pc, INSTRUCTIONS_AFTER + 1))]


def _before(cpu: VCpu, pc: int) -> list[tuple[int, str]]:
    """The longest run of instructions in the units before `pc` that ends there: which unit begins one is not known."""
    unit = cpu.engine.frontend.instruction_set(cpu["mode"]).unit
    for count in range(UNITS_BEFORE, 0, -1):
        start = pc - count * unit
        lines = list(_decode(cpu, start, count, pc)) if start >= 0 else []
        if lines and lines[-1][0] == pc:
            return lines[:-1]
    return []


def _decode(cpu: VCpu, at: int, count: int, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Address and text of `count` instructions from `at` on, as far as there is memory. With `end`, those before it,
    and an empty text for it when one begins there.
    """
    instructions = cpu.engine.frontend.instruction_set(cpu["mode"])
    for _ in range(count):
        data = _read(cpu, at, instructions.unit)
        found = instructions.word_at(data)
        if found is None and data:
            # It may go on in the next page, which lies elsewhere.
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
    """What the vCPU would fetch at a virtual address; empty where it cannot, or only from a device."""
    frontend = cpu.engine.frontend
    mmu_index = cpu["mode"] >> frontend.fetch_index_shift & 3
    physical = lib.raddle_debug_translate(cpu.env, address, mmu_index)
    if physical == UNMAPPED:
        return b""
    try:
        return cpu.engine.memory.read(physical, size)
    except RaddleError:
        return b""
