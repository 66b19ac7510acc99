# SPDX-License-Identifier: Apache-2.0
"""A bench for devices without a machine: a clock that a test moves, CPUs with lines, and a device's routine, run by the
IR interpreter beside the device that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from raddle.devices.base import WRITE
from raddle.ir.builder import Builder
from raddle.ir.interpreter import READ, CpuState, MemoryFault, interpret
from raddle.ir.interpreter import WRITE as WRITE_ACCESS
from raddle.ir.types import MemOp
from raddle.ir.verifier import verify
from raddle.runtime._native import ffi

if TYPE_CHECKING:
    from raddle.translate.frontend import RoutineBuilder

__all__ = ["BenchCpu", "HandClock", "HandTimer", "Native"]


class HandClock:
    """A clock that a test moves, with its timers."""

    def __init__(self) -> None:
        self.now = 0
        self.timers: list[HandTimer] = []
        self.routines: dict[str, RoutineBuilder] = {}
        """Those of the machine: what native timers run."""
        self.callees: dict[str, Builder | Callable[..., int | None]] = {
            "clock_ns": lambda _: self.now,
            "clock_ticks": lambda _, hertz: self.now * hertz // 1_000_000_000,
            "ticks_to_ns": lambda _, ticks, hertz: -(-ticks * 1_000_000_000 // hertz),
            "timer_set": lambda _, number, deadline: self.timers[number].set(deadline),
            "timer_cancel": lambda _, number: self.timers[number].cancel(),
            **_HOST_MEMORY,
        }
        """What they call besides: of the runtime's helpers those that are here, and what a test adds."""

    def clock_ns(self) -> int:
        return self.now

    def timer(self, callback: Callable[[], None]) -> HandTimer:
        timer = HandTimer(callback, len(self.timers))
        self.timers.append(timer)
        return timer

    def native_timer(self, routine: str) -> HandTimer:
        """A timer whose routine the IR interpreter runs."""
        timer = self.timer(lambda: self.run(routine, timer.number))
        return timer

    def run(self, name: str, *arguments: int) -> None:
        """Run one of `routines`, as its timer or other native code does."""
        built = {name: _built(routine) for name, routine in self.routines.items()}
        cpu = CpuState(bytearray(), {f"arg{n}": value for n, value in enumerate(arguments)})
        interpret(built[name], cpu, _NoMemory(), callees={**self.callees, **built})

    def move(self, seconds: float) -> None:
        """Let time pass, and call the timers that are due then."""
        self.now += round(seconds * 1_000_000_000)
        for timer in self.timers:
            if timer.deadline is not None and timer.deadline <= self.now:
                timer.deadline = None
                timer.callback()


class HandTimer:
    def __init__(self, callback: Callable[[], None], number: int) -> None:
        self.callback = callback
        self.number = number
        self.deadline: int | None = None

    def set(self, deadline_ns: int) -> None:
        self.deadline = deadline_ns

    def cancel(self) -> None:
        self.deadline = None

    def save(self) -> int | None:
        return self.deadline

    def restore(self, deadline_ns: int | None) -> None:
        self.deadline = deadline_ns


class BenchCpu:
    """A CPU that has nothing but interrupt lines."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.lines = 0

    def interrupt_set(self, bits: int) -> None:
        self.lines |= bits

    def interrupt_clear(self, bits: int) -> None:
        self.lines &= ~bits


class _Handler(Protocol):
    """A region's handler that has a routine, a `Device` for example."""

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...

    def routine(self, b: Builder) -> None: ...


class _NoMemory:
    """Guest memory, which routines of devices do not access."""

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        raise MemoryFault(address, READ)

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        raise MemoryFault(address, WRITE_ACCESS)


class Native:
    """Accesses a handler through its routine; `passed` has what the routine left to Python, `header` the fields of the
    CPU that accesses it.
    """

    def __init__(self, handler: _Handler, callees: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.builder = _built(handler.routine)
        self.passed: list[tuple[int, int]] = []
        self.header: dict[str, int] = {}
        self.handler = handler
        self.callees = dict(callees or {})

    def read(self, offset: int, size: int) -> int:
        return self._access(offset, size, 0) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self._access(offset, size | WRITE, value)

    def _access(self, offset: int, how: int, value: int) -> int:
        def io_python(cpu: Any, offset: int, how: int, value: int, number: int) -> int:
            self.passed.append((offset, how))
            if how & WRITE:
                self.handler.write(offset, how & ~WRITE, value)
                return 0
            return self.handler.read(offset, how)

        callees: dict[str, Builder | Callable[..., int | None]] = {
            **self.callees,
            "io_python": io_python,
            **_HOST_MEMORY,
        }
        cpu = CpuState(bytearray(), {**self.header, "arg0": offset, "arg1": how, "arg2": value, "arg3": 7})
        result = interpret(self.builder, cpu, _NoMemory(), callees=callees).value
        return 0 if result is None else result


def _built(routine: RoutineBuilder) -> Builder:
    """The routine's IR, verified."""
    b = Builder()
    routine(b)
    verify(b, routine=True)
    return b


_HOST_MEMORY: Final[Mapping[str, Callable[..., int | None]]] = {
    "host_load8": lambda cpu, address: ffi.cast("uint8_t *", address)[0],
    "host_load32": lambda cpu, address: ffi.cast("uint32_t *", address)[0],
    "host_store8": lambda cpu, address, value: _store("uint8_t *", address, value),
    "host_store32": lambda cpu, address, value: _store("uint32_t *", address, value),
}


def _store(kind: str, address: int, value: int) -> int:
    pointer = ffi.cast(kind, address)
    pointer[0] = value & (1 << 8 * ffi.sizeof(ffi.typeof(kind).item)) - 1
    return 0
