# SPDX-License-Identifier: Apache-2.0
"""A CPU in reset state whose IR routines run in the interpreter, over a dictionary of physical words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Outcome, interpret
from raddle.ir.types import MemOp, Type
from raddle.ir.verifier import verify
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import STATE

NOTHING = 0xBAD0_0000
"""Physical addresses from here on answer nothing."""


class NoMemory:
    """Routines of the system part make no guest accesses."""

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        raise AssertionError(f"load from {address:#x}")

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        raise AssertionError(f"store to {address:#x}")


ROUTINES: dict[str, Builder] = {}


def routines() -> dict[str, Builder]:
    if not ROUTINES:
        for name, build in FRONT_END.routines.items():
            b = Builder(FRONT_END.word, STATE.nzcv)
            build(b)
            verify(b, routine=True, layout=STATE)
            ROUTINES[name] = b
    return ROUTINES


class System:
    """One CPU. ``system["field"]`` reads and writes the state; ``calls`` lists the native calls that were made."""

    def __init__(self) -> None:
        self.cpu = CpuState(bytearray(STATE.size))
        self.words: dict[int, int] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.ticks = 0
        natives: dict[str, Callable[..., int | None]] = {
            "phys_load32": lambda cpu, address: self.words.get(address, 0),
            "phys_load64": lambda cpu, address: self.words.get(address, 0) | self.words.get(address + 4, 0) << 32,
            "phys_is_memory": lambda cpu, address, size: int(address < NOTHING),
            "clock_ticks": lambda cpu, frequency: self.ticks,
            "ticks_to_ns": lambda cpu, ticks, frequency: ticks * 16,
            "exception": lambda cpu, place: 0,
        }
        recorded = (
            "tlb_set", "tlb_flush", "tlb_flush_by_mmuidx", "tlb_flush_local", "tlb_flush_page", "tlb_flush_all_cpus",
            "tlb_flush_page_all_cpus", "tlb_sync", "big_lock", "big_unlock", "timer_set", "timer_cancel",
            "board_timer_line", "psci", "icache_sync",
        )  # fmt: skip
        self.callees: dict[str, Any] = {**routines(), **natives, **{name: self._recorder(name) for name in recorded}}
        FRONT_END.reset(self, 0, 0)

    def _recorder(self, name: str) -> Callable[..., int]:
        def record(cpu: CpuState, *arguments: int) -> int:
            self.calls.append((name, *arguments))
            return 0

        return record

    def __getitem__(self, name: str) -> int:
        return self.cpu.read(STATE.fields.get(name) or COMMON[name])

    def __setitem__(self, name: str, value: int) -> None:
        self.cpu.write(STATE.fields.get(name) or COMMON[name], value)

    def update(self, **fields: int) -> None:
        for name, value in fields.items():
            self[name] = value

    def call(self, name: str, *arguments: int) -> int | None:
        """Run a routine; its result."""
        self.cpu.header.update({f"arg{n}": value for n, value in enumerate(arguments)})
        return interpret(routines()[name], self.cpu, NoMemory(), callees=self.callees).value

    def emit(self, build: Callable[[Builder], object], pc: int = 0) -> Outcome:
        """Run the IR of one instruction at ``pc``."""
        b = Builder(FRONT_END.word, STATE.nzcv)
        build(b)
        verify(b, layout=STATE)
        return interpret(b, self.cpu, NoMemory(), pc=pc, callees=self.callees)

    def value(self, build: Callable[[Builder], Value]) -> int:
        """What the IR yields: I32 or I64."""

        def keep(b: Builder) -> None:
            value = build(b)
            b.set(COMMON["result"], value if value.type is Type.I64 else b.zext(value, Type.I64))

        self.emit(keep)
        return self["result"]


@pytest.fixture
def system() -> System:
    return System()
