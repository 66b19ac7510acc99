# SPDX-License-Identifier: Apache-2.0
"""The registers of an ARM CPU in the Python API: their names, for people and type checkers, and the CPSR, which the
state has in pieces (see `raddle_target_arm.state`).

    machine: raddle.Machine[ArmRegisters] = raddle.Machine("virt")
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from raddle.translate.frontend import View
from raddle_target_arm.state import (
    BANK_FIQ,
    BANK_OF_MODE,
    BANKED_LR,
    BANKED_SP,
    FIQ_R8_R12,
    MODE_E,
    MODE_IT,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_T,
    MODE_USR,
    MODE_VFP,
    USR_R8_R12,
    it_state,
)

__all__ = ["VIEWS", "ArmRegisters"]


class ArmRegisters(Protocol):
    """All registers, as unsigned numbers. Exact while the machine is paused. `sp_…`, `lr_…` and `r8_usr` … `r12_fiq`
    are those of modes that are not current; the current mode has `sp`, `lr` and `r8` … `r12`.
    """

    r0: int
    r1: int
    r2: int
    r3: int
    r4: int
    r5: int
    r6: int
    r7: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    sp: int
    lr: int
    pc: int
    cpsr: int
    sp_usr: int
    sp_fiq: int
    sp_irq: int
    sp_svc: int
    sp_abt: int
    sp_und: int
    lr_usr: int
    lr_fiq: int
    lr_irq: int
    lr_svc: int
    lr_abt: int
    lr_und: int
    spsr_usr: int
    spsr_fiq: int
    spsr_irq: int
    spsr_svc: int
    spsr_abt: int
    spsr_und: int
    r8_usr: int
    r9_usr: int
    r10_usr: int
    r11_usr: int
    r12_usr: int
    r8_fiq: int
    r9_fiq: int
    r10_fiq: int
    r11_fiq: int
    r12_fiq: int
    d0: int
    d1: int
    d2: int
    d3: int
    d4: int
    d5: int
    d6: int
    d7: int
    d8: int
    d9: int
    d10: int
    d11: int
    d12: int
    d13: int
    d14: int
    d15: int
    d16: int
    d17: int
    d18: int
    d19: int
    d20: int
    d21: int
    d22: int
    d23: int
    d24: int
    d25: int
    d26: int
    d27: int
    d28: int
    d29: int
    d30: int
    d31: int
    s0: int
    s1: int
    s2: int
    s3: int
    s4: int
    s5: int
    s6: int
    s7: int
    s8: int
    s9: int
    s10: int
    s11: int
    s12: int
    s13: int
    s14: int
    s15: int
    s16: int
    s17: int
    s18: int
    s19: int
    s20: int
    s21: int
    s22: int
    s23: int
    s24: int
    s25: int
    s26: int
    s27: int
    s28: int
    s29: int
    s30: int
    s31: int
    fpexc: int
    ttbr0: int
    ttbr1: int
    par: int
    cntp_cval: int
    cntv_cval: int
    pmccntr: int
    sctlr: int
    actlr: int
    cpacr: int
    ttbcr: int
    dacr: int
    dfsr: int
    ifsr: int
    adfsr: int
    aifsr: int
    dfar: int
    ifar: int
    prrr: int
    nmrr: int
    amair0: int
    amair1: int
    vbar: int
    contextidr: int
    csselr: int
    tpidrurw: int
    tpidruro: int
    tpidrprw: int
    cntfrq: int
    cntkctl: int
    cntp_ctl: int
    cntv_ctl: int
    pmcr: int
    pmcnten: int
    pmovsr: int
    pmselr: int
    pmuserenr: int
    pminten: int
    pmccfiltr: int
    dbgdscr: int
    dbgvcr: int
    dbgwfar: int
    dbgosdlr: int
    dbgprcr: int
    dbgclaim: int
    dbgdtr: int
    dbgoslsr: int
    teecr: int
    teehbr: int


FLAGS: Final = {"nf": 31, "zf": 30, "cf": 29, "vf": 28, "qf": 27}
"""Places of the bits that have fields of their own (B1.3.3)."""
GE_SHIFT: Final = 16
MASKS: Final = 0x1C0
E_BIT: Final = 1 << 9
T_BIT: Final = 1 << 5
MODE: Final = 0x1F
CPACR_CP10_SHIFT: Final = 20


def _get_cpsr(cpu: Any) -> int:
    mode = cpu["mode"]
    it = it_state(mode)
    cpsr = int(cpu["cpsr_m"] | cpu["masks"] | cpu["ge"] << GE_SHIFT | (it & 3) << 25 | it >> 2 << 10)
    cpsr |= (T_BIT if mode & MODE_T else 0) | (E_BIT if mode & MODE_E else 0)
    return cpsr | sum(int(cpu[name]) << place for name, place in FLAGS.items())


def _set_cpsr(cpu: Any, value: int) -> None:
    """Like an exception return: switches to the registers of the new mode."""
    number = value & MODE
    if number not in BANK_OF_MODE:
        raise ValueError(f"CPSR {value:#x}: this CPU has no mode {number:#x}")
    _change_bank(cpu, BANK_OF_MODE[number])
    cpu["cpsr_m"] = number
    cpu["masks"] = value & MASKS
    cpu["ge"] = value >> GE_SHIFT & 0xF
    for name, place in FLAGS.items():
        cpu[name] = value >> place & 1
    it = value >> 25 & 3 | value >> 10 << 2 & 0xFC
    mode = cpu["mode"] & ~(MODE_T | MODE_E | MODE_IT | MODE_PRIVILEGED | MODE_VFP)
    mode |= (MODE_T if value & T_BIT else 0) | (MODE_E if value & E_BIT else 0) | it << MODE_IT_SHIFT
    mode |= MODE_PRIVILEGED if number != MODE_USR else 0
    access = cpu["cpacr"] >> CPACR_CP10_SHIFT & 3  # 0b01 is PL1 only, 0b11 all
    mode |= MODE_VFP if access == 3 or (access == 1 and number != MODE_USR) else 0
    cpu["mode"] = mode


def _change_bank(cpu: Any, new: int) -> None:
    old = cpu["bank"]
    if new == old:
        return
    high = [f"r{n}" for n in range(8, 13)]
    for names, banks in ((["sp"], BANKED_SP), (["lr"], BANKED_LR)):
        cpu[banks[old].name], cpu[names[0]] = cpu[names[0]], cpu[banks[new].name]
    for bank, (kept, taken) in ((new, (USR_R8_R12, FIQ_R8_R12)), (old, (FIQ_R8_R12, USR_R8_R12))):
        if bank == BANK_FIQ:
            for name, keep, take in zip(high, kept, taken, strict=True):
                cpu[keep.name], cpu[name] = cpu[name], cpu[take.name]
    cpu["bank"] = new


VIEWS: Final = {"cpsr": View(_get_cpsr, _set_cpsr, 32)}
