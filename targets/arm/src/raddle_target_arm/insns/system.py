# SPDX-License-Identifier: Apache-2.0
"""Status registers, exceptions, hints and barriers."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value, native
from raddle.ir.header import COMMON
from raddle.ir.types import Type
from raddle.ordering import MemoryOrder
from raddle.translate.decode import Fields
from raddle_target_arm.exceptions import (
    CPSR_A,
    CPSR_E,
    CPSR_F,
    CPSR_I,
    CPSR_M_BITS,
    CPSR_MASKS,
    SPSR_ALL,
    call_firmware,
    end_after,
    exception_return,
    read_cpsr,
    read_spsr,
    take_breakpoint,
    take_svc,
    write_cpsr,
    write_spsr,
)
from raddle_target_arm.insns.common import LR, is_privileged, read, set_next, undefined, write
from raddle_target_arm.state import (
    CF,
    GE,
    MASKS,
    MODE_E,
    MODE_IT,
    NF,
    QF,
    VF,
    ZF,
)
from raddle_target_arm.timers import expect_event

# -- status registers --------------------------------------------------------------------------------------------------

_FLAGS, _STATUS, _EXTENSION, _CONTROL = 8, 4, 2, 1
"""Bits of MSR's mask: bytes 3, 2, 1 and 0."""

_WRITABLE: Final = {
    _FLAGS: 0xF800_0000,
    _STATUS: 0x000F_0000,
    _EXTENSION: CPSR_E | CPSR_A,
    _CONTROL: CPSR_I | CPSR_F | CPSR_M_BITS,
}
"""Bits of the CPSR that MSR writes; of the execution state only E (B1.3.3)."""


def _bytes(mask: int) -> int:
    """The bits of the bytes that MSR's mask selects."""
    return sum(0xFF << 8 * byte for byte in range(4) if mask >> byte & 1)


def MRS(b: Builder, f: Fields) -> None:
    """MRS<c> <Rd>, CPSR or SPSR   (A8.8.109, B9.3.8)"""
    if not f.R:
        write(b, f, f.d, read_cpsr(b))
    elif is_privileged(f):
        write(b, f, f.d, read_spsr(b))
    else:
        undefined(b, f)


def _write_status(b: Builder, f: Fields, value: Value) -> None:
    if f.R:
        if is_privileged(f):
            write_spsr(b, value, _bytes(f.k) & SPSR_ALL)
        else:
            undefined(b, f)
        return
    if f.k & (_EXTENSION | _CONTROL):
        write_cpsr(b, value, sum(bits for byte, bits in _WRITABLE.items() if f.k & byte))
        end_after(b, f.length, f.next_it)
        return
    if f.k & _FLAGS:
        for field, place in ((NF, 31), (ZF, 30), (CF, 29), (VF, 28), (QF, 27)):
            b.set(field, b.bit(value, place))
    if f.k & _STATUS:
        b.set(GE, b.extract(value, 16, 4))


def MSR_reg(b: Builder, f: Fields) -> None:
    """MSR<c> <spec_reg>, <Rn>   (A8.8.112, B9.3.12)"""
    _write_status(b, f, read(b, f, f.n))


def MSR_imm(b: Builder, f: Fields) -> None:
    """MSR<c> <spec_reg>, #<const>   (A8.8.111, B9.3.11)"""
    _write_status(b, f, b.const(f.imm))


_DISABLE, _ENABLE = 3, 2


def CPS(b: Builder, f: Fields) -> None:
    """CPS<effect> <iflags>{, #<mode>}: nothing in User mode   (B9.3.2)"""
    if not is_privileged(f):
        return
    masks = (CPSR_A if f.A else 0) | (CPSR_I if f.I else 0) | (CPSR_F if f.F else 0) if f.i & 2 else 0
    if f.i == _DISABLE and not f.M:
        b.set(MASKS, b.or_(b.get(MASKS), masks))
        return
    if f.i == _ENABLE and not f.M:
        b.set(MASKS, b.and_(b.get(MASKS), CPSR_MASKS & ~masks))
    else:
        value = (masks if f.i == _DISABLE else 0) | f.o
        write_cpsr(b, b.const(value, Type.I32), masks | (CPSR_M_BITS if f.M else 0))
    end_after(b, f.length, f.next_it)


def SETEND(b: Builder, f: Fields) -> None:
    """SETEND <endian>   (A8.8.165)"""
    if bool(f.E) == bool(f.mode & MODE_E):
        return
    b.set(COMMON["mode"], (f.mode ^ MODE_E) & ~MODE_IT)
    end_after(b, f.length, f.next_it)


# -- exceptions --------------------------------------------------------------------------------------------------------


def SVC(b: Builder, f: Fields) -> None:
    """SVC<c> #<imm>   (A8.8.228)"""
    take_svc(b, f.length, f.next_it)


def BKPT(b: Builder, f: Fields) -> None:
    """BKPT #<imm>   (A8.8.24)"""
    take_breakpoint(b, f.it)


def UDF(b: Builder, f: Fields) -> None:
    """UDF<c> #<imm>   (A8.8.247)"""
    undefined(b, f)


def HVC(b: Builder, f: Fields) -> None:
    """HVC #<imm>   (B9.3.4)"""
    call_firmware(b, f.length, f.it, f.next_it, f.mode)


def SMC(b: Builder, f: Fields) -> None:
    """SMC<c> #<imm4>, undefined without Security Extensions   (B9.3.14)"""
    undefined(b, f)


def ERET(b: Builder, f: Fields) -> None:
    """ERET<c> of T32: SUBS PC, LR, #0. A32 has it only with the Virtualization Extensions.   (B9.3.3)"""
    if is_privileged(f):
        exception_return(b, read(b, f, LR), read_spsr(b))
    else:
        undefined(b, f)


# -- hints -------------------------------------------------------------------------------------------------------------


def NOP(b: Builder, f: Fields) -> None:
    """NOP<c>, and hints that are not assigned   (A8.8.119)"""


def DBG(b: Builder, f: Fields) -> None:
    """DBG<c> #<option>   (A8.8.42)"""


def PLD(b: Builder, f: Fields) -> None:
    """PLD<c> [<Rn>, …]   (A8.8.126 … A8.8.128)"""


def PLDW(b: Builder, f: Fields) -> None:
    """PLDW<c> [<Rn>, …]   (A8.8.126, A8.8.128)"""


def PLI(b: Builder, f: Fields) -> None:
    """PLI<c> [<Rn>, …]   (A8.8.129, A8.8.130)"""


def SEV(b: Builder, f: Fields) -> None:
    """SEV<c>   (A8.8.164)"""
    b.call(native("sev", pure_state=True))


def _wait(b: Builder, f: Fields, helper: str) -> None:
    set_next(b, f)
    b.call(native(helper, may_exit=True))
    b.exit_main()


def WFE(b: Builder, f: Fields) -> None:
    """WFE<c>   (A8.8.424)"""
    expect_event(b)
    _wait(b, f, "wfe")


def WFI(b: Builder, f: Fields) -> None:
    """WFI<c>   (A8.8.425)"""
    _wait(b, f, "wfi")


def YIELD(b: Builder, f: Fields) -> None:
    """YIELD<c>   (A8.8.426)"""
    _wait(b, f, "yield_")


# -- barriers ----------------------------------------------------------------------------------------------------------


def _order(option: int) -> MemoryOrder:
    """The options …ST (2, 6, 10, 14) wait for stores only; reserved ones are as SY (A8.8.43)."""
    return MemoryOrder.ST_ST if option & 3 == 2 else MemoryOrder.ALL


def DMB(b: Builder, f: Fields) -> None:
    """DMB<c> <option>   (A8.8.43)"""
    b.mb(_order(f.o))


def DSB(b: Builder, f: Fields) -> None:
    """DSB<c> <option>: TLB maintenance is complete after it, on other CPUs too   (A8.8.44)"""
    b.mb(_order(f.o))
    b.call(native("tlb_sync", pure_state=True))


def ISB(b: Builder, f: Fields) -> None:
    """ISB<c> <option>: orders later loads after the loads that an earlier branch depends on   (A8.8.53, A3.8.3)"""
    b.mb(MemoryOrder.LD_LD)  # a CPU gets this order from fetching again, which does not happen here
    if f.next_it:
        set_next(b, f)
        b.exit_main()
    else:
        b.goto(f.length)
