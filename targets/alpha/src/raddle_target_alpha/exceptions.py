# SPDX-License-Identifier: Apache-2.0
"""How instructions take exceptions: entry points of the operating system and their arguments.

An instruction that takes an exception emits ``exception(b, entry, pc, a0, a1, a2)`` or one of the functions after it.
That calls the IR routine ``take_…`` of the entry point, which ``system`` has; all state is exact when it is called.

Sources: Alpha Architecture Reference Manual, 4th edition, II-B 5 (OSF/1), and 4.7.7 for arithmetic traps.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from raddle.ir.builder import Builder, Operand, Value, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Type


class Entry(IntEnum):
    """Entry points, by the numbers of CALL_PAL WRENT."""

    INT = 0
    ARITH = 1
    MM = 2
    IF = 3
    UNA = 4
    SYS = 5

    @property
    def routine(self) -> str:
        """Name of the IR routine that enters it: its arguments are a0, a1 and a2 of the operating system's handler."""
        return f"take_{self.name.lower()}"


class Fault(IntEnum):
    """a0 of entIF: which instruction fault it is."""

    BPT = 0
    BUGCHK = 1
    GENTRAP = 2
    FEN = 3
    OPCDEC = 4


class Summary(IntFlag):
    """a0 of entArith: the exception summary; a1 is the register write mask (bit n: Rn, bit 32 + n: Fn). The exceptions
    are in the order of the status bits of FPCR, from bit 52 on, and of the common field ``fp_flags``.
    """

    SWC = 1 << 0
    """Software completion: the instruction has /S."""
    INV = 1 << 1
    DZE = 1 << 2
    OVF = 1 << 3
    UNF = 1 << 4
    INE = 1 << 5
    IOV = 1 << 6


INSTRUCTION_BYTES: Final = 4


def exception(b: Builder, entry: Entry, pc: Value, a0: Operand = 0, a1: Operand = 0, a2: Operand = 0) -> None:
    """Emit an exception that goes to ``entry`` with these arguments (I64) and saves ``pc`` (I64). Ends the block."""
    arguments = [b.value(argument, Type.I64) for argument in (a0, a1, a2)]
    b.set(COMMON["pc"], pc)
    b.call(routine(entry.routine), *arguments)
    b.exit_main()


def opcdec(b: Builder) -> None:
    """Emit the fault of an instruction that is none, or is privileged: the pc is that of the next one."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.OPCDEC)


def floating_disabled(b: Builder) -> None:
    """Emit the fault of a floating-point instruction while they are disabled: the pc is its own."""
    exception(b, Entry.IF, b.pc(), Fault.FEN)


def arithmetic(b: Builder, summary: Operand, written: Operand) -> None:
    """Emit an arithmetic trap after an instruction whose result is for register ``written`` (I32, 0 to 63)."""
    mask = b.shl(b.const(1, Type.I64), written)
    exception(b, Entry.ARITH, b.pc(INSTRUCTION_BYTES), summary, mask)
