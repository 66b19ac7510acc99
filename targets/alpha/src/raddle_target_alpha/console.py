# SPDX-License-Identifier: Apache-2.0
"""The console while an operating system runs: services of CALL_PAL CSERVE, callbacks, and halts.

Services 3 to 7 are those that kernels for emulated machines use: the time of day, an alarm of each CPU, and the
machine's clock, all in nanoseconds. Callbacks are those of the console interface (Alpha Architecture Reference Manual,
III 2.3), for which the console's code in guest memory (`hwrpb`) asks by a service of its own.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from raddle.errors import MachineError
from raddle.ir.builder import Builder, Value, native, python, routine
from raddle.ir.types import Type
from raddle.machine.board import board_of
from raddle.memory import AddressSpace
from raddle.translate.frontend import PythonHelper, RoutineBuilder
from raddle_target_alpha import mmu
from raddle_target_alpha.delivery import KERNEL_STACK_INVALID
from raddle_target_alpha.state import R
from raddle_target_alpha.system_state import ALARM, PTBR

V0 = R[0]
A0, A1 = R[16:18]

GET_TIME, GET_ALARM, SET_ALARM_RELATIVE, SET_ALARM_ABSOLUTE, GET_CLOCK = range(3, 8)
CALLBACK: Final = 0x7AD1
"""Of this console's own: the callback that r0, r17, r18 and r19 describe; its result goes to r0."""

GETC, PUTS, RESET_TERM, SET_TERM_INT, SET_TERM_CTL, PROCESS_KEYCODE, OPEN_CONSOLE, CLOSE_CONSOLE = range(1, 9)
FIXUP: Final = 0x7AD2
"""Not by DISPATCH: the operating system has mapped the console at virtual address r17."""
SUCCEEDS: Final = frozenset({RESET_TERM, SET_TERM_INT, SET_TERM_CTL, OPEN_CONSOLE, CLOSE_CONSOLE})
"""Callbacks that have nothing to do."""
FAILED: Final = 6 << 61
NO_CHARACTER: Final = 4 << 61
LONGEST_PUTS: Final = 4096
"""Bytes that one PUTS writes; its caller asks again for the rest."""


class Board(Protocol):
    """What the console asks of its board. All of it is called under the big lock."""

    @property
    def memory(self) -> AddressSpace: ...

    def halt(self, cpu: int) -> None:
        """A CPU has halted."""

    def wall_time(self) -> int:
        """Nanoseconds since 1970."""

    def console_write(self, data: bytes) -> None:
        """Write to the operator's terminal."""

    def console_read(self) -> bytes:
        """At most one byte from there."""

    def console_remap(self, address: int) -> None:
        """The operating system has mapped the console's pages at a virtual address."""


def _service(b: Builder) -> None:
    """Routine(): CSERVE; v0 = 0 for services that there are not."""
    what, value = b.get(A0), b.get(A1)

    def answer(service: int, result: Value) -> None:
        with b.if_(b.eq(what, service)):
            b.set(V0, result)
            b.ret()

    def ask(name: str) -> None:
        b.call(native("big_lock"))
        result = b.call(python(name, may_exit=False), type=Type.I64)
        b.call(native("big_unlock"))
        b.set(V0, result)
        b.ret()

    now = b.call(native("clock_ns"), type=Type.I64)
    answer(GET_CLOCK, now)
    answer(GET_ALARM, b.get(ALARM))
    with b.if_(b.eq(what, SET_ALARM_RELATIVE)):
        then = b.add(now, value)
        b.call(routine("alarm_set"), b.select(b.carry_of(then), -1, then))
        b.ret()
    with b.if_(b.eq(what, SET_ALARM_ABSOLUTE)):
        b.call(routine("alarm_set"), value)
        b.ret()
    with b.if_(b.eq(what, GET_TIME)):
        ask("wall_time")
    with b.if_(b.eq(what, CALLBACK)):
        ask("console_callback")
    b.set(V0, 0)
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {"console_service": _service}


# -- in Python ---------------------------------------------------------------------------------------------------------


def _halt(cpu: Any, reason: int) -> None:
    if reason == KERNEL_STACK_INVALID:
        raise MachineError(f"CPU {cpu.index} has halted: its kernel stack is not valid (pc {cpu['pc']:#x})")
    board: Board | None = board_of(cpu)
    if board is None:
        cpu.power_off()
    else:
        board.halt(cpu.index)


def _wall_time(cpu: Any) -> int:
    board: Board | None = board_of(cpu)
    return 0 if board is None else board.wall_time()


def _callback(cpu: Any) -> int:
    board: Board | None = board_of(cpu)
    if board is None:
        return FAILED
    function, address, length = cpu["r0"], cpu["r18"], cpu["r19"]
    if function == FIXUP:
        board.console_remap(cpu["r17"])
        return 0
    if function == PUTS:
        data = read_virtual(board.memory, cpu[PTBR.name], address, min(length, LONGEST_PUTS))
        board.console_write(data)
        return len(data)
    if function == GETC:
        read = board.console_read()
        return read[0] if read else NO_CHARACTER
    return 0 if function in SUCCEEDS else FAILED


def read_virtual(memory: AddressSpace, table: int, address: int, size: int) -> bytes:
    """Up to `size` bytes from a virtual address, as far as they are mapped. Takes page tables as `mmu.translate`."""
    data = b""
    while len(data) < size:
        physical = _physical(memory, table, address + len(data))
        piece = min(size - len(data), mmu.PAGE_SIZE - (address + len(data)) % mmu.PAGE_SIZE)
        if physical is None or physical not in memory:
            break
        data += memory.read(physical, piece)
    return data


def _physical(memory: AddressSpace, table: int, address: int) -> int | None:
    if address >> mmu.KSEG_BITS == mmu.KSEG >> mmu.KSEG_BITS:
        return address & (1 << mmu.KSEG_IO) - 1
    for level in (1, 2, 3):
        index = address >> mmu.PAGE_BITS + mmu.LEVEL_BITS * (3 - level) & (1 << mmu.LEVEL_BITS) - 1
        place = (table << mmu.PAGE_BITS) + 8 * index
        if place not in memory:
            return None
        entry = int.from_bytes(memory.read(place, 8), "little")
        if not entry & mmu.PTE_VALID:
            return None
        table = entry >> mmu.PTE_PFN
    return table << mmu.PAGE_BITS | address & mmu.PAGE_SIZE - 1


PYTHON_HELPERS: Final[dict[str, PythonHelper]] = {
    "halt": _halt,
    "wall_time": _wall_time,
    "console_callback": _callback,
}
