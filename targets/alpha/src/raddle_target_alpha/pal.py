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

from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Align, Condition, Field, MemOp, Type
from raddle.ordering import MemoryOrder
from raddle.translate.decode import Fields
from raddle_target_alpha import tsunami
from raddle_target_alpha.delivery import ARGUMENTS, FRAME_BYTES, GP, IPL_ERROR, SP, halt, unmasked
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES, Entry, Fault, exception
from raddle_target_alpha.mmu import flush_all, flush_page, flush_processes
from raddle_target_alpha.state import INDEX_KERNEL, INTR_FLAG, PS, PS_IPL, PS_USER, UNIQUE, R, is_user, update_mode
from raddle_target_alpha.system_state import ENTRY_POINTS, KGP, KSP, MCES, SYSVAL, USP, VPTB
from raddle_target_alpha.system_state import WHAMI as CPU_NUMBER

Semantics = Callable[[Builder, Fields], None]

PRIVILEGED_END: Final = 0x40
"""Functions from here on are unprivileged."""

V0 = R[0]
A0, A1, A2, A3 = R[16:20]

QUAD: Final = MemOp(8, align=Align.NATURAL)

HALT_INSTRUCTION: Final = 5
"""The reason of a halt: the instruction, in kernel mode (III 3.5)."""
PAL_OSF: Final = 2
"""The variant of PALcode that this is (II-B 2.2.13)."""


def BPT(b: Builder, f: Fields) -> None:
    """Breakpoint."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.BPT)


def BUGCHK(b: Builder, f: Fields) -> None:
    """Bugcheck."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.BUGCHK)


def GENTRAP(b: Builder, f: Fields) -> None:
    """Trap that software asks for."""
    exception(b, Entry.IF, b.pc(INSTRUCTION_BYTES), Fault.GENTRAP)


def RDUNIQUE(b: Builder, f: Fields) -> None:
    """v0 = the unique value."""
    b.set(V0, b.get(UNIQUE))


def WRUNIQUE(b: Builder, f: Fields) -> None:
    """The unique value = a0."""
    b.set(UNIQUE, b.get(A0))


def _next(b: Builder) -> None:
    """Emit the end of a block after a change of the block mode: on to the next instruction."""
    b.goto_indirect(b.pc(INSTRUCTION_BYTES))


def _resume(b: Builder, address: Value) -> None:
    """Emit the end of a block: on to ``address``, unless the priority level lets a pending interrupt in now."""
    b.set(COMMON["pc"], address)
    with b.if_(b.ne(unmasked(b), 0)):
        b.exit_main()
    b.goto_indirect(address)


# -- processor status, exceptions (II-B 2.2) ---------------------------------------------------------------------------


def SWPIPL(b: Builder, f: Fields) -> None:
    """v0 = the priority level, which becomes a0."""
    old = b.get(PS)
    b.set(V0, b.zext(b.and_(old, PS_IPL), Type.I64))
    b.set(PS, b.deposit(old, b.trunc(b.get(A0), Type.I32), 0, 3))
    with b.if_(b.ne(unmasked(b), 0)):
        b.set(COMMON["pc"], b.pc(INSTRUCTION_BYTES))
        b.exit_main()


def RDPS(b: Builder, f: Fields) -> None:
    """v0 = the processor status."""
    b.set(V0, b.zext(b.get(PS), Type.I64))


def CALLSYS(b: Builder, f: Fields) -> None:
    """System call. The frame has no arguments: r16 to r18 are the system call's own."""
    user = is_user(f.mode)
    stack = b.sub(b.get(KSP if user else SP), FRAME_BYTES)
    ps = b.get(PS)
    for place, value in ((0, b.zext(ps, Type.I64)), (8, b.pc(INSTRUCTION_BYTES)), (16, b.get(GP))):
        b.store(b.add(stack, place), value, QUAD, INDEX_KERNEL)
    if user:
        b.set(USP, b.get(SP))
    b.set(SP, stack)
    b.set(GP, b.get(KGP))
    b.set(PS, b.and_(ps, PS_IPL))
    update_mode(b)
    b.goto_indirect(b.and_(b.get(ENTRY_POINTS.elements[Entry.SYS]), ~3))


def _returned(b: Builder) -> None:
    """Emit what all returns from exceptions have in common."""
    update_mode(b)
    b.clear_exclusive()
    b.set(INTR_FLAG, 0)
    b.set(COMMON["exception_place"], b.const(-1, Type.I64))


def RETSYS(b: Builder, f: Fields) -> None:
    """Return from a system call to user mode."""
    stack = b.get(SP)
    pc, gp = (b.load(b.add(stack, place), QUAD, f.mmu, Type.I64) for place in (8, 16))
    b.set(KSP, b.add(stack, FRAME_BYTES))
    b.set(SP, b.get(USP))
    b.set(GP, gp)
    b.set(PS, PS_USER)
    _returned(b)
    _resume(b, b.and_(pc, ~3))


def RTI(b: Builder, f: Fields) -> None:
    """Return from an exception."""
    stack = b.get(SP)
    ps, pc, *registers = (b.load(b.add(stack, 8 * number), QUAD, f.mmu, Type.I64) for number in range(6))
    for register, value in zip((GP, *ARGUMENTS), registers, strict=True):
        b.set(register, value)
    above = b.add(stack, FRAME_BYTES)
    new = b.trunc(ps, Type.I32)
    user = b.ne(b.and_(new, PS_USER), 0)
    b.set(KSP, b.select(user, above, b.get(KSP)))
    b.set(SP, b.select(user, b.get(USP), above))
    b.set(PS, b.select(user, PS_USER, b.and_(new, PS_IPL)))
    _returned(b)
    _resume(b, b.and_(pc, ~3))


def WRENT(b: Builder, f: Fields) -> None:
    """The entry point of number a1 = a0."""
    number = b.get(A1)
    with b.if_(b.icmp(Condition.ULT, number, len(Entry))):
        b.set_at(ENTRY_POINTS, b.trunc(number, Type.I32), b.get(A0))


def _reader(name: str, meaning: str, field: Field) -> Semantics:
    def read(b: Builder, f: Fields) -> None:
        b.set(V0, b.get(field))

    return _named(read, name, f"v0 = {meaning}.")


def _writer(name: str, meaning: str, field: Field) -> Semantics:
    def write(b: Builder, f: Fields) -> None:
        b.set(field, b.get(A0))

    return _named(write, name, f"{meaning} = a0.")


def _named(function: Semantics, name: str, description: str) -> Semantics:
    function.__name__, function.__doc__ = name, description
    return function


def WRMCES(b: Builder, f: Fields) -> None:
    """The machine check error summary: a0's bits 2:0 written with 1 clear pending errors, bits 4:3 disable reports."""
    written = b.get(A0)
    kept = b.and_(b.and_(b.get(MCES), 7), b.not_(written))
    b.set(MCES, b.or_(kept, b.and_(written, 0x18)))


# -- processes ---------------------------------------------------------------------------------------------------------


def SWPCTX(b: Builder, f: Fields) -> None:
    """Save the context in its process control block, and load that of the block at physical address a0; v0 = the old
    block's.
    """
    b.call(routine("swap_context"), b.get(A0))
    _next(b)


def WRFEN(b: Builder, f: Fields) -> None:
    """Enable floating-point instructions: a0 bit 0."""
    _set_fen(b, b.and_(b.trunc(b.get(A0), Type.I32), 1))


def CLRFEN(b: Builder, f: Fields) -> None:
    """Disable floating-point instructions."""
    _set_fen(b, b.const(0, Type.I32))


def _set_fen(b: Builder, value: Value) -> None:
    b.call(routine("write_fen"), b.zext(value, Type.I64))
    _next(b)


# -- memory ------------------------------------------------------------------------------------------------------------

TBIS, TBISD, TBISI = 3, 2, 1
TBIAP, TBIA = -1, -2


def TBI(b: Builder, f: Fields) -> None:
    """Invalidate translations: a0 says which, a1 is an address."""
    what = b.get(A0)
    with b.if_(b.eq(what, TBIA)):
        flush_all(b)
    with b.if_(b.eq(what, TBIAP)):
        flush_processes(b)
    with b.if_(b.icmp(Condition.ULT, b.sub(what, TBISI), 3)):
        flush_page(b, b.get(A1))
    _next(b)


def IMB(b: Builder, f: Fields) -> None:
    """Instruction memory barrier: fetches from here on see what was stored before."""
    b.mb(MemoryOrder.ALL)
    b.call(native("icache_sync"))
    _next(b)


def DRAINA(b: Builder, f: Fields) -> None:
    """Wait until all accesses are done that may end in a machine check: they all are."""


def CFLUSH(b: Builder, f: Fields) -> None:
    """Flush a page from the data cache: there is none."""


# -- the machine -------------------------------------------------------------------------------------------------------


def WTINT(b: Builder, f: Fields) -> None:
    """Wait for an interrupt, be it masked or not; v0 = how many clock ticks were skipped: none."""
    b.set(V0, 0)
    b.set(COMMON["pc"], b.pc(INSTRUCTION_BYTES))
    b.call(native("wfi", may_exit=True))
    b.exit_main()


def WRIPIR(b: Builder, f: Fields) -> None:
    """Interrupt CPU number a0."""
    cpu = b.get(A0)
    with b.if_(b.icmp(Condition.ULT, cpu, tsunami.MAX_CPUS)):
        bit = b.shl(b.const(1 << tsunami.MISC_IPI_REQUEST, Type.I64), b.trunc(cpu, Type.I32))
        b.mb(MemoryOrder.ALL)
        b.call(native("phys_store64"), b.const(tsunami.CCHIP + tsunami.MISC, Type.I64), bit)


def HALT(b: Builder, f: Fields) -> None:
    """Give the CPU back to the console, which does what the CPU's slot says."""
    b.set(COMMON["pc"], b.pc(INSTRUCTION_BYTES))
    halt(b, HALT_INSTRUCTION)
    b.exit_main()


def CSERVE(b: Builder, f: Fields) -> None:
    """Console service number a0."""
    b.call(routine("console_service"))


def SWPPAL(b: Builder, f: Fields) -> None:
    """Switch to other PALcode: v0 = 1, it is unknown, but for OSF/1's own, which begins anew: at pc a1 with the process
    control block at physical address a2 and the page tables at a3.
    """
    with b.if_(b.ne(b.get(A0), PAL_OSF)):
        b.set(V0, 1)
        _next(b)
    b.set(PS, IPL_ERROR)
    b.set(VPTB, b.get(A3))
    b.call(routine("load_context"), b.get(A2))
    b.set(V0, 0)
    b.goto_indirect(b.and_(b.get(A1), ~3))


def WRPERFMON(b: Builder, f: Fields) -> None:
    """Performance counters: v0 = 0, there are none."""
    b.set(V0, 0)


TABLE: Final[dict[int, Semantics]] = {
    0x00: HALT,
    0x01: CFLUSH,
    0x02: DRAINA,
    0x09: CSERVE,
    0x0A: SWPPAL,
    0x0D: WRIPIR,
    0x10: _reader("RDMCES", "the machine check error summary", MCES),
    0x11: WRMCES,
    0x2B: WRFEN,
    0x2D: _writer("WRVPTPTR", "The page tables' virtual address", VPTB),
    0x30: SWPCTX,
    0x31: _writer("WRVAL", "The operating system's value", SYSVAL),
    0x32: _reader("RDVAL", "the operating system's value", SYSVAL),
    0x33: TBI,
    0x34: WRENT,
    0x35: SWPIPL,
    0x36: RDPS,
    0x37: _writer("WRKGP", "The kernel's global pointer", KGP),
    0x38: _writer("WRUSP", "The user stack pointer", USP),
    0x39: WRPERFMON,
    0x3A: _reader("RDUSP", "the user stack pointer", USP),
    0x3C: _reader("WHAMI", "the number of this CPU", CPU_NUMBER),
    0x3D: RETSYS,
    0x3E: WTINT,
    0x3F: RTI,
    0x80: BPT,
    0x81: BUGCHK,
    0x83: CALLSYS,
    0x86: IMB,
    0x9E: RDUNIQUE,
    0x9F: WRUNIQUE,
    0xAA: GENTRAP,
    0xAE: CLRFEN,
}
"""Every PALcode function that there is, by its number (Architecture Reference Manual, C.11)."""
