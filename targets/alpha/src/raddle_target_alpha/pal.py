# SPDX-License-Identifier: Apache-2.0
"""CALL_PAL: which functions there are, by number.

CALL_PAL's 26-bit function number is part of the instruction word, so each function is an instruction of its own: the
decode table gets a line for each row of ``TABLE`` (`raddle_target_alpha.decode`), named as the row's function. Numbers
that have no row are no instructions, and take OPCDEC as such (`exceptions.opcdec`). So do privileged functions, those
below ``PRIVILEGED_END``, in user mode: `insns` looks after that.

A row's function is a semantics function as those of all other instructions: it emits IR, and reads the block mode from
``f.mode`` and the MMU index of accesses from ``f.mmu``. One that changes the mode, or may unmask interrupts, sets
``COMMON["pc"]`` and ends with ``b.exit_main()``. One that takes an exception emits `exceptions.exception`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.ir.builder import Builder
from raddle.translate.decode import Fields
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES, Entry, Fault, exception
from raddle_target_alpha.state import UNIQUE, R

Semantics = Callable[[Builder, Fields], None]

PRIVILEGED_END: Final = 0x40
"""Functions from here on are unprivileged."""

V0, A0 = R[0], R[16]


def BPT(b: Builder, f: Fields) -> None:
    """Breakpoint."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.BPT)


def BUGCHK(b: Builder, f: Fields) -> None:
    """Bugcheck."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.BUGCHK)


def GENTRAP(b: Builder, f: Fields) -> None:
    """Trap that software asks for."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.GENTRAP)


def CALLSYS(b: Builder, f: Fields) -> None:
    """System call."""
    exception(b, Entry.SYS, b.pc(INSTRUCTION_BYTES))


def RDUNIQUE(b: Builder, f: Fields) -> None:
    """v0 = the unique value."""
    b.set(V0, b.get(UNIQUE))


def WRUNIQUE(b: Builder, f: Fields) -> None:
    """The unique value = a0."""
    b.set(UNIQUE, b.get(A0))


TABLE: Final[dict[int, Semantics]] = {
    0x80: BPT,
    0x81: BUGCHK,
    0x83: CALLSYS,
    0x9E: RDUNIQUE,
    0x9F: WRUNIQUE,
    0xAA: GENTRAP,
}
"""Every PALcode function that there is, by its number (Architecture Reference Manual, C.11)."""
