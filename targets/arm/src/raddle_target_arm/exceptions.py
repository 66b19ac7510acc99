# SPDX-License-Identifier: Apache-2.0
"""Taking exceptions, returning from them, and reading and writing the CPSR (ARM DDI 0406C, B1.8 and B1.9).

``ROUTINES`` are IR routines for the front end's table. The functions after them emit the IR that calls them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raddle.ir.builder import Builder, Value, native, python, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.frontend import ACCESS_FETCH, ACCESS_WRITE, FAULT_ALIGNMENT, FAULT_BUS, RoutineBuilder
from raddle_target_arm.state import (
    BANK,
    BANK_FIQ,
    BANK_OF_MODE,
    BANK_USR,
    BANKED_LR,
    BANKED_SP,
    CF,
    CPSR_M,
    FIQ_R8_R12,
    GE,
    MASKS,
    MODE_ABT,
    MODE_E,
    MODE_FIQ,
    MODE_IRQ,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_SVC,
    MODE_T,
    MODE_UND,
    MODE_USR,
    NF,
    QF,
    REGISTERS,
    SPSR,
    SYSTEM,
    USR_R8_R12,
    VF,
    ZF,
    argument,
    compute_mode,
    select_by,
)

SP, LR = REGISTERS[13], REGISTERS[14]

_E_BIT: Final = MODE_E.bit_length() - 1

CPSR_A, CPSR_I, CPSR_F = 1 << 8, 1 << 7, 1 << 6
CPSR_MASKS: Final = CPSR_A | CPSR_I | CPSR_F
CPSR_T, CPSR_E, CPSR_M_BITS = 1 << 5, 1 << 9, 0x1F
CPSR_IT: Final = 0x0600_FC00
CPSR_PRIVILEGED: Final = CPSR_MASKS | CPSR_M_BITS
"""Bits that a write in User mode does not change."""
CPSR_ALL: Final = 0xF80F_0000 | CPSR_IT | CPSR_E | CPSR_T | CPSR_PRIVILEGED
"""Every bit that is kept; J is not."""
SPSR_ALL: Final = CPSR_ALL | 1 << 24
"""Bits of an SPSR that MSR writes (SPSRWriteByInstr, B1.3.3): also J, which a return from an exception ignores."""

LINE_IRQ, LINE_FIQ = 1, 2
"""Bits of the common field ``interrupt_request``."""


class Entry(NamedTuple):
    """How one kind of exception is entered: vector offset, mode, and the masks that are set."""

    vector: int
    mode: int
    masks: int


UNDEFINED: Final = Entry(0x04, MODE_UND, CPSR_I)
SUPERVISOR_CALL: Final = Entry(0x08, MODE_SVC, CPSR_I)
PREFETCH_ABORT: Final = Entry(0x0C, MODE_ABT, CPSR_A | CPSR_I)
DATA_ABORT: Final = Entry(0x10, MODE_ABT, CPSR_A | CPSR_I)
IRQ: Final = Entry(0x18, MODE_IRQ, CPSR_A | CPSR_I)
FIQ: Final = Entry(0x1C, MODE_FIQ, CPSR_A | CPSR_I | CPSR_F)

# -- the CPSR ----------------------------------------------------------------------------------------------------------


def _flags(b: Builder) -> Value:
    """N, Z, C, V, Q, GE, A, I, F and M in their CPSR places."""
    cpsr = b.or_(b.get(CPSR_M), b.get(MASKS))
    cpsr = b.or_(cpsr, b.shl(b.get(GE), 16))
    for field, place in ((NF, 31), (ZF, 30), (CF, 29), (VF, 28), (QF, 27)):
        cpsr = b.or_(cpsr, b.shl(b.zext(b.get(field), Type.I32), place))
    return cpsr


def _pack_it(b: Builder, it: Value) -> Value:
    """ITSTATE to CPSR bits: 1:0 to 26:25, 7:2 to 15:10."""
    return b.or_(b.shl(b.and_(it, 3), 25), b.shl(b.extract(it, 2, 6), 10))


def _whole_cpsr(b: Builder, it: Value) -> Value:
    """The CPSR with the execution state bits: T and E as the block mode has them, IT as given (I32)."""
    mode = b.get(COMMON["mode"])
    cpsr = b.or_(_flags(b), _pack_it(b, it))
    cpsr = b.or_(cpsr, b.shl(b.and_(mode, MODE_T), 5))
    return b.or_(cpsr, b.shl(b.extract(mode, _E_BIT, 1), 9))


def _mode_it(b: Builder) -> Value:
    """ITSTATE in the block mode; valid only between blocks."""
    return b.extract(b.get(COMMON["mode"]), MODE_IT_SHIFT, 8)


def read_cpsr(b: Builder) -> Value:
    """Emit IR for what MRS reads: the CPSR with IT, J and T as 0."""
    endian = b.shl(b.extract(b.get(COMMON["mode"]), _E_BIT, 1), 9)
    return b.or_(_flags(b), endian)


# -- banks -------------------------------------------------------------------------------------------------------------


def _switch_bank(b: Builder, new: Value) -> None:
    """Exchange the banked registers of the current bank for those of bank ``new``."""
    old = b.get(BANK)
    with b.if_(b.ne(old, new)):
        b.set_at(BANKED_SP, old, b.get(SP))
        b.set_at(BANKED_LR, old, b.get(LR))
        b.set(SP, b.get_at(BANKED_SP, new))
        b.set(LR, b.get_at(BANKED_LR, new))
        b.set(BANK, new)
        with b.if_(b.eq(old, BANK_FIQ)):
            for high, fiq, usr in zip(REGISTERS[8:13], FIQ_R8_R12, USR_R8_R12, strict=True):
                b.set(fiq, b.get(high))
                b.set(high, b.get(usr))
        with b.if_(b.eq(new, BANK_FIQ)):
            for high, fiq, usr in zip(REGISTERS[8:13], FIQ_R8_R12, USR_R8_R12, strict=True):
                b.set(usr, b.get(high))
                b.set(high, b.get(fiq))


def read_user_register(b: Builder, number: int) -> Value:
    """Emit IR that reads User mode's r0 … r14 in any mode (STM of user registers, B9.3.20)."""
    current = b.get(REGISTERS[number])
    if number < 8:
        return current
    bank = b.get(BANK)
    if number < 13:
        return b.select(b.eq(bank, BANK_FIQ), b.get(USR_R8_R12[number - 8]), current)
    banked = (BANKED_SP if number == 13 else BANKED_LR)[BANK_USR]
    return b.select(b.eq(bank, BANK_USR), current, b.get(banked))


def write_user_register(b: Builder, number: int, value: Value) -> None:
    """Emit IR that writes User mode's r0 … r14 in any mode (LDM of user registers, B9.3.6)."""
    register = REGISTERS[number]
    if number < 8:
        b.set(register, value)
        return
    bank = b.get(BANK)
    if number < 13:
        elsewhere, banked = b.eq(bank, BANK_FIQ), USR_R8_R12[number - 8]
    else:
        elsewhere, banked = b.ne(bank, BANK_USR), (BANKED_SP if number == 13 else BANKED_LR)[BANK_USR]
    b.set(banked, b.select(elsewhere, value, b.get(banked)))
    b.set(register, b.select(elsewhere, b.get(register), value))


def read_banked_sp(b: Builder, mode: int) -> Value:
    """Emit IR that reads the sp of processor mode ``mode``, an implemented one (SRS, B9.3.15)."""
    bank = BANK_OF_MODE[mode]
    return b.select(b.eq(b.get(BANK), bank), b.get(SP), b.get(BANKED_SP[bank]))


def write_banked_sp(b: Builder, mode: int, value: Value) -> None:
    """Emit IR that writes the sp of processor mode ``mode``, an implemented one."""
    bank = BANK_OF_MODE[mode]
    current = b.eq(b.get(BANK), bank)
    b.set(BANKED_SP[bank], b.select(current, b.get(BANKED_SP[bank]), value))
    b.set(SP, b.select(current, value, b.get(SP)))


def read_spsr(b: Builder) -> Value:
    """Emit IR that reads the current mode's SPSR."""
    return b.get_at(SPSR, b.get(BANK))


def write_spsr(b: Builder, value: Value, mask: int) -> None:
    """Emit IR that writes the bits of ``mask`` of the current mode's SPSR."""
    bank = b.get(BANK)
    kept = b.and_(b.get_at(SPSR, bank), ~mask)
    b.set_at(SPSR, bank, b.or_(kept, b.and_(value, mask)))


# -- entry -------------------------------------------------------------------------------------------------------------


def _enter(b: Builder, kind: Entry, return_address: Value, it: Value) -> None:
    """Enter an exception: sets LR, SPSR, CPSR, block mode and pc. ``it`` is the ITSTATE to return to."""
    saved = _whole_cpsr(b, it)
    b.clear_exclusive()
    new = b.const(BANK_OF_MODE[kind.mode], Type.I32)
    _switch_bank(b, new)
    b.set_at(SPSR, new, saved)
    b.set(LR, return_address)
    b.set(CPSR_M, kind.mode)
    b.set(MASKS, b.or_(b.get(MASKS), kind.masks))
    sctlr = b.get(SYSTEM["sctlr"])
    # T from SCTLR.TE (30), E from SCTLR.EE (25); IT becomes 0
    execution = b.or_(b.extract(sctlr, 30, 1), b.shl(b.extract(sctlr, 25, 1), _E_BIT))
    b.set(COMMON["mode"], compute_mode(b, execution))
    base = b.select(b.bit(sctlr, 13), 0xFFFF_0000, b.get(SYSTEM["vbar"]), Type.I32)
    b.set(COMMON["pc"], b.zext(b.add(base, kind.vector), Type.I64))


def _pc(b: Builder) -> Value:
    return b.trunc(b.get(COMMON["pc"]), Type.I32)


def _count(b: Builder, place: Value) -> None:
    """Count an exception that an instruction raises; the runtime counts those that it delivers."""
    b.call(native("exception"), b.zext(place, Type.I64))


def _raise(kind: Entry) -> RoutineBuilder:
    """Routine(return address, ITSTATE): enter the exception."""

    def build(b: Builder) -> None:
        return_address, it = argument(b, 0), argument(b, 1)
        _count(b, return_address)
        _enter(b, kind, return_address, it)
        b.ret()

    return build


def _breakpoint(b: Builder) -> None:
    """Routine(return address, ITSTATE): the prefetch abort of BKPT, with the debug event's status."""
    return_address, it = argument(b, 0), argument(b, 1)
    long_format = b.bit(b.get(SYSTEM["ttbcr"]), 31)
    b.set(SYSTEM["ifsr"], b.select(long_format, 0x222, 0x002, Type.I32))
    _count(b, return_address)
    _enter(b, PREFETCH_ABORT, return_address, it)
    b.ret()


def _interrupt(b: Builder) -> None:
    """Routine(pending lines) -> 1 if it has entered FIQ or IRQ, else 0: enters one that is pending and not masked."""
    pending, masks = argument(b, 0), b.get(MASKS)
    for kind, line, mask in ((FIQ, LINE_FIQ, CPSR_F), (IRQ, LINE_IRQ, CPSR_I)):
        taken = b.and_(b.ne(b.and_(pending, line), 0), b.eq(b.and_(masks, mask), 0))
        with b.if_(taken):
            _enter(b, kind, b.add(_pc(b), 4), _mode_it(b))
            b.ret(b.const(1, Type.I64))
    b.ret(b.const(0, Type.I64))


# Fault status: tlb_fill returns the low part of the FSR (mmu.py); the runtime has two codes of its own.
_RUNTIME_FAULTS: Final = ((FAULT_ALIGNMENT, 0x001, 0x221), (FAULT_BUS, 0x008, 0x210))
"""(code, short-descriptor FSR, long-descriptor FSR): B3.13.3, B3.13.4; a bus fault is a synchronous external abort."""

FSR_WNR: Final = 1 << 11


def _fault(b: Builder) -> None:
    """Routine(address, access | mmu_index << 8, code): enter the data or prefetch abort of the instruction at pc."""
    address, access, code = argument(b, 0), b.and_(argument(b, 1), 0xFF), argument(b, 2)
    long_format = b.bit(b.get(SYSTEM["ttbcr"]), 31)
    status = code
    for runtime_code, short, long in _RUNTIME_FAULTS:
        status = b.select(b.eq(code, runtime_code), b.select(long_format, long, short, Type.I32), status)
    with b.if_(b.eq(access, ACCESS_FETCH)):
        # The status has the domain, too: those bits of IFSR are UNKNOWN
        b.set(SYSTEM["ifsr"], status)
        b.set(SYSTEM["ifar"], address)
        # A fetch faults only where a block would start, so the block mode has ITSTATE
        _enter(b, PREFETCH_ABORT, b.add(_pc(b), 4), _mode_it(b))
        b.ret()
    write = b.shl(b.zext(b.eq(access, ACCESS_WRITE), Type.I32), FSR_WNR.bit_length() - 1)
    b.set(SYSTEM["dfsr"], b.or_(status, write))
    b.set(SYSTEM["dfar"], address)
    _enter(b, DATA_ABORT, b.add(_pc(b), 8), b.and_(b.get(COMMON["insn_extra"]), 0xFF))
    b.ret()


def _data_abort(b: Builder) -> None:
    """Routine(address, fault status, ITSTATE): the data abort of an operation at pc that counts as a write."""
    address, status, it = argument(b, 0), argument(b, 1), argument(b, 2)
    b.set(SYSTEM["dfsr"], b.or_(status, FSR_WNR))
    b.set(SYSTEM["dfar"], address)
    _count(b, _pc(b))
    _enter(b, DATA_ABORT, b.add(_pc(b), 8), it)
    b.ret()


# -- writing the CPSR --------------------------------------------------------------------------------------------------


def _cpsr_write(b: Builder) -> None:
    """Routine(value, mask): write the bits of ``mask`` of the CPSR, execution state and mode switch included.

    In User mode the privileged bits stay. A mode that is not implemented leaves M as it is. Updates the block mode,
    where ITSTATE goes.
    """
    value, mask = argument(b, 0), b.and_(argument(b, 1), CPSR_ALL)
    user = b.eq(b.get(CPSR_M), MODE_USR)
    mask = b.and_(mask, b.select(user, ~CPSR_PRIVILEGED, 0xFFFF_FFFF, Type.I32))
    old = _whole_cpsr(b, _mode_it(b))
    new = b.or_(b.and_(old, b.not_(mask)), b.and_(value, mask))
    for field, place in ((NF, 31), (ZF, 30), (CF, 29), (VF, 28), (QF, 27)):
        b.set(field, b.bit(new, place))
    b.set(GE, b.extract(new, 16, 4))
    b.set(MASKS, b.and_(new, CPSR_MASKS))
    new_m = b.and_(new, CPSR_M_BITS)
    new_bank = select_by(b, new_m, BANK_OF_MODE, -1)
    with b.if_(b.icmp(Condition.SGE, new_bank, 0)):
        _switch_bank(b, new_bank)
        b.set(CPSR_M, new_m)
    it = b.or_(b.extract(new, 25, 2), b.shl(b.extract(new, 10, 6), 2))
    execution = b.or_(b.extract(new, 5, 1), b.shl(b.extract(new, 9, 1), _E_BIT))
    execution = b.or_(execution, b.shl(it, MODE_IT_SHIFT))
    b.set(COMMON["mode"], compute_mode(b, execution))
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {
    "undefined": _raise(UNDEFINED),
    "svc": _raise(SUPERVISOR_CALL),
    "breakpoint": _breakpoint,
    "fault": _fault,
    "data_abort": _data_abort,
    "interrupt": _interrupt,
    "cpsr_write": _cpsr_write,
}

# -- what instructions emit --------------------------------------------------------------------------------------------


def _leave(b: Builder) -> None:
    b.goto_indirect(_pc(b))


def take_undefined(b: Builder, decode_state: int, mode: int) -> None:
    """Emit this instruction's Undefined Instruction exception; ``decode_state`` is its ITSTATE. Ends the block."""
    b.call(routine("undefined"), b.pc(2 if mode & MODE_T else 4), b.const(decode_state, Type.I32))
    _leave(b)


def take_svc(b: Builder, size: int, next_decode_state: int) -> None:
    """Emit SVC (A8.8.228) of ``size`` bytes; ``next_decode_state`` is the next ITSTATE. Ends the block."""
    b.call(routine("svc"), b.pc(size), b.const(next_decode_state, Type.I32))
    _leave(b)


def take_breakpoint(b: Builder, decode_state: int) -> None:
    """Emit BKPT (A8.8.24); ends the block."""
    b.call(routine("breakpoint"), b.pc(4), b.const(decode_state, Type.I32))
    _leave(b)


def take_data_abort(b: Builder, address: Value, status: Value, decode_state: int) -> None:
    """Emit the data abort of a CP15 operation on ``address`` with a fault status (I32); DFSR.WnR is 1, as for all of
    them (B4.1.52). ``decode_state`` is this instruction's ITSTATE. Ends the block.
    """
    b.set(COMMON["pc"], b.zext(b.pc(0), Type.I64))
    b.call(routine("data_abort"), address, status, b.const(decode_state, Type.I32))
    _leave(b)


def call_firmware(b: Builder, size: int, decode_state: int, next_decode_state: int, mode: int) -> None:
    """Emit HVC of ``size`` bytes: a PSCI call at PL1, undefined in User mode. Ends the block."""
    if not mode & MODE_PRIVILEGED:
        take_undefined(b, decode_state, mode)
        return
    _set_next(b, size, next_decode_state)
    b.call(native("big_lock"))
    b.call(python("psci", may_exit=False))
    b.call(native("big_unlock"))
    b.exit_main()


def write_cpsr(b: Builder, value: Value, mask: int) -> None:
    """Emit IR that writes the bits of ``mask`` of the CPSR (MSR, CPS); end the instruction with ``end_after``."""
    b.call(routine("cpsr_write"), value, b.const(mask, Type.I32))


def exception_return(b: Builder, address: Value, cpsr: Value) -> None:
    """Emit a return to ``address`` with the whole CPSR written (SUBS pc, LDM with pc and ^, RFE); ends the block.

    The code that it returns to must not inherit the handler's reservation.
    """
    write_cpsr(b, cpsr, CPSR_ALL)
    b.clear_exclusive()
    thumb = b.and_(b.get(COMMON["mode"]), MODE_T)
    # A32 ignores address bits 1:0, T32 bit 0
    align = b.or_(b.shl(thumb, 1), ~3 & 0xFFFF_FFFF)
    b.set(COMMON["pc"], b.zext(b.and_(address, align), Type.I64))
    b.set(COMMON["event"], 1)
    b.set(COMMON["exception_place"], b.const(-1, Type.I64))
    b.exit_main()


def _set_next(b: Builder, size: int, next_decode_state: int) -> None:
    b.set(COMMON["pc"], b.zext(b.pc(size), Type.I64))
    if next_decode_state:
        mode = COMMON["mode"]
        b.set(mode, b.or_(b.get(mode), next_decode_state << MODE_IT_SHIFT))


def end_after(b: Builder, size: int, next_decode_state: int) -> None:
    """Emit an exit to the execution loop after this instruction of ``size`` bytes; ends the block.

    For every instruction that may unmask an interrupt or change the block mode. ``next_decode_state`` is the next
    instruction's ITSTATE.
    """
    _set_next(b, size, next_decode_state)
    b.exit_main()
