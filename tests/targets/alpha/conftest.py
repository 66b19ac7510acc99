# SPDX-License-Identifier: Apache-2.0
"""A CPU in reset state whose IR routines run in the interpreter, over a dictionary of physical quadwords."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.targets.interpreted_cpu import InterpretedCpu

from raddle.ir.interpreter import Leave
from raddle.ir.types import MemOp
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.mmu import KSEG
from raddle_target_alpha.pal import TABLE
from raddle_target_alpha.system_state import WHAMI


class System(InterpretedCpu):
    """CPU 0, with the physical memory ``quads``; guest accesses reach it through KSEG. ``now`` is the machine's clock
    in nanoseconds.
    """

    def __init__(self) -> None:
        self.quads: dict[int, int] = {}
        self.now = 0
        self.stores: list[tuple[int, int]] = []
        """Of PALcode: physical addresses and values, in order."""
        natives: dict[str, Callable[..., int | None]] = {
            "phys_load64": lambda cpu, address: self.quads.get(address, 0),
            "phys_load32": lambda cpu, address: self._half(address),
            "phys_store64": lambda cpu, address, value: self._stored(address, value),
            "phys_store32": lambda cpu, address, value: self._store_half(address, value),
            "clock_ns": lambda cpu: self.now,
            "clock_ticks": lambda cpu, frequency: self.now * frequency // 10**9,
            "exception": lambda cpu, place: 0,
            "interrupt_set": lambda cpu, index, lines: self._lines(lines, 0),
            "interrupt_clear": lambda cpu, index, lines: self._lines(0, lines),
            "wall_time": lambda cpu: 1_700_000_000 * 10**9,
        }
        recorded = (
            "tlb_set", "tlb_flush", "tlb_flush_by_mmuidx", "tlb_flush_local", "tlb_flush_page", "big_lock",
            "big_unlock", "timer_set", "timer_cancel", "icache_sync", "wfi", "halt", "console_callback",
        )  # fmt: skip
        super().__init__(front_end("ev67"), natives, recorded)
        self.memory = self
        self[WHAMI.name] = 0

    def _half(self, address: int) -> int:
        return self.quads.get(address & ~7, 0) >> 8 * (address & 4) & 0xFFFF_FFFF

    def _store_half(self, address: int, value: int) -> None:
        shift = 8 * (address & 4)
        old = self.quads.get(address & ~7, 0)
        self._stored(address & ~7, old & ~(0xFFFF_FFFF << shift) | value << shift)

    def _stored(self, address: int, value: int) -> None:
        self.stores.append((address, value))
        self.quads[address] = value

    def _lines(self, raised: int, lowered: int) -> None:
        self["interrupt_request"] = self["interrupt_request"] & ~lowered | raised

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        """A guest's load."""
        assert address >= KSEG
        return self.quads.get(address - KSEG, 0)

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        """A guest's store."""
        assert address >= KSEG
        self.quads[address - KSEG] = value

    def pal(self, name: str, pc: int = 0x1000) -> int:
        """Run a PALcode function at ``pc``; where it goes on."""
        number = next(number for number, function in TABLE.items() if function.__name__ == name)
        instructions = self.front_end.instruction_set(0)
        pattern = instructions.decode(number, 4)
        outcome = self.emit(lambda b: instructions.translate(b, pattern, number, 0, self["mode"]), pc)
        match outcome.how:
            case Leave.GOTO | Leave.GOTO_INDIRECT:
                assert outcome.value is not None
                return outcome.value
            case Leave.EXIT:
                return self["pc"]
        return pc + 4


@pytest.fixture
def system() -> System:
    return System()
