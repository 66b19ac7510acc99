# SPDX-License-Identifier: Apache-2.0
"""The ARM CPU state: its fields, its block mode, and how the parts of the CPSR are kept.

Where the CPSR lives (ARM DDI 0406C, B1.3.3):

======================  ================================================================================
N Z C V Q               fields ``nf zf cf vf qf``, an I1 each
GE                      field ``ge``, I32, bits 3:0
A I F                   field ``masks``, I32, in their CPSR places (bits 8, 7, 6)
M                       field ``cpsr_m``, I32, the five mode bits; ``bank`` follows it
E T                     bits of the block mode ``COMMON["mode"]`` and nowhere else
IT                      the decode state of the instruction; in the block mode for a block's first one
J                       always 0
======================  ================================================================================

The pc is not one of the fields: inside a block it is symbolic (``b.pc()``), outside it is ``COMMON["pc"]``.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Field, StateLayout, Type

STATE: Final = StateLayout()

# -- core registers ----------------------------------------------------------------------------------------------------

_HOT: Final = {f"r{n}": n for n in range(8)} | {"sp": 8, "lr": 9} | {f"r{n}": n + 2 for n in range(8, 13)}

REGISTERS: Final[tuple[Field, ...]] = tuple(
    STATE.field(name, Type.I32, hot=_HOT[name]) for name in [f"r{n}" for n in range(13)] + ["sp", "lr"]
)
"""r0 … r12, sp and lr of the current mode, by register number (there is no 15)."""

NF: Final = STATE.field("nf", Type.I1)
ZF: Final = STATE.field("zf", Type.I1)
CF: Final = STATE.field("cf", Type.I1)
VF: Final = STATE.field("vf", Type.I1)
QF: Final = STATE.field("qf", Type.I1)
STATE.nzcv = (NF, ZF, CF, VF)

GE: Final = STATE.field("ge", Type.I32)
MASKS: Final = STATE.field("masks", Type.I32)
CPSR_M: Final = STATE.field("cpsr_m", Type.I32)
BANK: Final = STATE.field("bank", Type.I32)
"""Number of the current mode's bank: an index into ``BANKED_SP``, ``BANKED_LR`` and ``SPSR``."""

# -- processor modes and banks -----------------------------------------------------------------------------------------

MODE_USR, MODE_FIQ, MODE_IRQ, MODE_SVC, MODE_ABT, MODE_UND, MODE_SYS = 0x10, 0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F
BANK_USR, BANK_FIQ, BANK_IRQ, BANK_SVC, BANK_ABT, BANK_UND = range(6)

BANK_OF_MODE: Final[dict[int, int]] = {
    MODE_USR: BANK_USR,
    MODE_FIQ: BANK_FIQ,
    MODE_IRQ: BANK_IRQ,
    MODE_SVC: BANK_SVC,
    MODE_ABT: BANK_ABT,
    MODE_UND: BANK_UND,
    MODE_SYS: BANK_USR,
}
"""The implemented processor modes; System mode shares User's bank. Writes of other values to CPSR.M are ignored."""

_BANK_NAMES: Final = ("usr", "fiq", "irq", "svc", "abt", "und")

BANKED_SP: Final = STATE.array("banked_sp", Type.I32, 6, tuple(f"sp_{bank}" for bank in _BANK_NAMES))
BANKED_LR: Final = STATE.array("banked_lr", Type.I32, 6, tuple(f"lr_{bank}" for bank in _BANK_NAMES))
"""sp and lr of the modes that are not current; the current bank's elements are stale."""
SPSR: Final = STATE.array("spsr", Type.I32, 6, tuple(f"spsr_{bank}" for bank in _BANK_NAMES))
"""Always up to date. ``spsr_usr`` is what the UNPREDICTABLE accesses from User and System mode reach."""
USR_R8_R12: Final = STATE.array("usr_high", Type.I32, 5, tuple(f"r{n}_usr" for n in range(8, 13)))
"""r8 … r12 of all modes but FIQ, while FIQ mode is current."""
FIQ_R8_R12: Final = STATE.array("fiq_high", Type.I32, 5, tuple(f"r{n}_fiq" for n in range(8, 13)))
"""r8 … r12 of FIQ mode, while another mode is current."""

# -- floating point ----------------------------------------------------------------------------------------------------

D: Final = STATE.array("d", Type.I64, 32)
"""d0 … d31 as bit patterns."""


def _views(prefix: str, type: Type, size: int, count: int) -> tuple[Field, ...]:
    fields = tuple(Field(f"{prefix}{n}", type, D.offset + n * size) for n in range(count))
    STATE.fields.update((field.name, field) for field in fields)
    return fields


S: Final = _views("s", Type.I32, 4, 32)
"""s0 … s31 as bit patterns: the halves of d0 … d15."""
DF: Final = _views("df", Type.F64, 8, 32)
"""d0 … d31 as doubles: the same bytes as ``D``."""
SF: Final = _views("sf", Type.F32, 4, 32)
"""s0 … s31 as singles: the same bytes as ``S``."""

FPSCR_NZCV: Final = STATE.field("fpscr_nzcv", Type.I32)
"""FPSCR's N, Z, C and V in bits 31:28, the rest 0. DN, FZ, RMode and the sticky flags are common ``fp_…`` fields."""
FPSCR_VECTOR: Final = STATE.field("fpscr_vector", Type.I32)
"""FPSCR's Stride (21:20) and Len (18:16) in place; call ``update_mode`` after a write."""
FPSCR_AHP: Final = STATE.field("fpscr_ahp", Type.I32)
"""FPSCR's AHP in bit 26, the rest 0."""
FPSCR_QC: Final = STATE.field("fpscr_qc", Type.I32)
"""FPSCR's QC in bit 27, the rest 0."""
FPEXC: Final = STATE.field("fpexc", Type.I32)
"""FPEXC; only EN (bit 30) is kept. VFP instructions test it when they run, so that Linux, which changes it at every
thread switch, causes no new translations."""
FPEXC_EN: Final = 1 << 30

# -- system registers --------------------------------------------------------------------------------------------------

# fmt: off
_SYSTEM_32: Final = (
    "sctlr", "actlr", "cpacr", "ttbcr", "dacr", "dfsr", "ifsr", "adfsr", "aifsr", "dfar", "ifar",
    "prrr", "nmrr", "amair0", "amair1", "vbar", "contextidr", "csselr", "tpidrurw", "tpidruro", "tpidrprw",
    "cntfrq", "cntkctl", "cntp_ctl", "cntv_ctl",
    "pmcr", "pmcnten", "pmovsr", "pmselr", "pmuserenr", "pminten", "pmccfiltr",
    "dbgdscr", "dbgvcr", "dbgwfar", "dbgosdlr", "dbgprcr", "dbgclaim", "dbgdtr", "dbgoslsr", "teecr", "teehbr",
)
_SYSTEM_64: Final = ("ttbr0", "ttbr1", "par", "cntp_cval", "cntv_cval", "pmccntr")
# fmt: on

SYSTEM: Final[dict[str, Field]] = {name: STATE.field(name, Type.I64) for name in _SYSTEM_64} | {
    name: STATE.field(name, Type.I32) for name in _SYSTEM_32
}
"""Storage of system registers, by register name; ``sysregs.TABLE`` says how instructions reach it."""

PMEVTYPER: Final = STATE.array("pmevtyper", Type.I32, 6)
PMEVCNTR: Final = STATE.array("pmevcntr", Type.I32, 6)
DBGBVR: Final = STATE.array("dbgbvr", Type.I32, 6)
DBGBCR: Final = STATE.array("dbgbcr", Type.I32, 6)
DBGWVR: Final = STATE.array("dbgwvr", Type.I32, 4)
DBGWCR: Final = STATE.array("dbgwcr", Type.I32, 4)

CPU_COUNT: Final = STATE.field("cpu_count", Type.I32)
"""Number of CPUs of the machine. The front end's ``connect`` sets this and the next three, and reset keeps them."""
CBAR: Final = STATE.field("cbar", Type.I32)
"""Base address of the CPUs' private peripherals."""
TIMER_NUMBERS: Final = STATE.array("timer_number", Type.I32, 2, ("timer_number_physical", "timer_number_virtual"))
"""The runtime's numbers of this CPU's physical and virtual timer."""
EVENT_TIMER: Final = STATE.field("timer_number_event", Type.I32)
"""The same for the event stream."""
TIMER_LINES: Final = STATE.field("timer_lines", Type.I32)
"""Bit 0: the physical timer's interrupt line is up; bit 1: the virtual one's. Changed under the big lock."""

DOMAIN_SLOT: Final = STATE.field("domain_slot", Type.I32)
"""Which pair of MMU indices the current DACR value uses: 0 or 1 (see ``mmu_index``)."""
DOMAIN_SLOT_BIT: Final = 2
"""The bit of DACR that chooses the slot: it differs between the two values that Linux uses, on every vCPU in the same
way, so that code translated for one slot serves all."""
DOMAIN_TAGS: Final = STATE.array("domain_tag", Type.I32, 2)
"""The DACR value for which each slot's TLB entries were made."""
NONGLOBAL: Final = STATE.field("nonglobal", Type.I32)
"""Bit set of the MMU indices that may hold non-global translations; a new ASID flushes just these."""

EVENTS_SEEN: Final = STATE.field("events_seen", Type.I64)
"""How many events of the stream, since the counter was 0, a WFE has seen or armed a timer for (see ``timers``)."""

# -- block mode --------------------------------------------------------------------------------------------------------

MODE_T: Final = 1 << 0
"""Thumb state."""
MODE_PRIVILEGED: Final = 1 << 1
"""PL1 (any mode but User)."""
MODE_E: Final = 1 << 16
"""Data accesses are big-endian."""
MODE_ALIGN: Final = 1 << 3
"""SCTLR.A: every unaligned data access faults."""
MODE_VFP: Final = 1 << 4
"""CPACR lets this privilege level use cp10 and cp11."""
MODE_VECTOR: Final = 1 << 6
"""FPSCR.Len or Stride is not 0: data-processing VFP instructions are undefined on this CPU."""
MODE_SWP: Final = 1 << 7
"""SCTLR.SW: SWP and SWPB are enabled."""
MODE_IT_SHIFT: Final = 8
"""Bits 15:8: ITSTATE of the first instruction."""
MODE_IT: Final = 0xFF << MODE_IT_SHIFT
MODE_DOMAIN_SLOT: Final = 1 << 2
"""Which pair of MMU indices is in use."""

MODE_MASKS: Final = (~(MODE_VFP | MODE_VECTOR | MODE_SWP), MODE_T)
"""The bits that matter to an instruction which does not write the pc and is never undefined: if it accesses data, and
if it does not."""

MODE_EXECUTION: Final = MODE_T | MODE_E | MODE_IT
"""The bits that are only in the block mode; ``compute_mode`` makes the others from the state."""

SCTLR_M, SCTLR_A, SCTLR_C, SCTLR_SW, SCTLR_Z, SCTLR_I, SCTLR_V = (1 << n for n in (0, 1, 2, 10, 11, 12, 13))
SCTLR_WXN, SCTLR_UWXN, SCTLR_EE, SCTLR_TRE, SCTLR_AFE, SCTLR_TE = (1 << n for n in (19, 20, 25, 28, 29, 30))


def it_state(mode: int) -> int:
    """The ITSTATE that blocks of this mode start with."""
    return mode >> MODE_IT_SHIFT & 0xFF


def mmu_index(mode: int) -> int:
    """MMU index of ordinary accesses in this block mode: 1 or 3 at PL1, 0 or 2 in User mode.

    DACR decides permissions, and Linux switches it between two values on every access to user memory. So there are
    two slots of one unprivileged and one privileged index, each valid for one value of DACR. A bit of the value written
    to DACR selects the slot, which is flushed only if it was filled for another value.
    """
    return user_mmu_index(mode) | bool(mode & MODE_PRIVILEGED)


def user_mmu_index(mode: int) -> int:
    """MMU index of accesses as if unprivileged (LDRT, STRT …) in this block mode."""
    return 2 if mode & MODE_DOMAIN_SLOT else 0


def compute_mode(b: Builder, execution: Value | None = None) -> Value:
    """Emit IR that makes the block mode (I32) from the state.

    T, E and IT come from ``execution``, an I32 that has only ``MODE_EXECUTION`` bits, or from the old block mode.
    """
    if execution is None:
        execution = b.and_(b.get(COMMON["mode"]), MODE_EXECUTION)
    sctlr = b.get(SYSTEM["sctlr"])
    privileged = b.ne(b.get(CPSR_M), MODE_USR)
    # CPACR.cp10 (bits 21:20): 0b01 is PL1 only, 0b11 all
    access = b.extract(b.get(SYSTEM["cpacr"]), 20, 2)
    vfp = b.or_(b.eq(access, 3), b.and_(privileged, b.eq(access, 1)))
    parts = (
        (privileged, MODE_PRIVILEGED),
        (b.bit(sctlr, 1), MODE_ALIGN),
        (vfp, MODE_VFP),
        (b.ne(b.get(FPSCR_VECTOR), 0), MODE_VECTOR),
        (b.bit(sctlr, 10), MODE_SWP),
        (b.ne(b.get(DOMAIN_SLOT), 0), MODE_DOMAIN_SLOT),
    )
    mode = execution
    for truth, flag in parts:
        mode = b.or_(mode, b.shl(b.zext(truth, Type.I32), flag.bit_length() - 1))
    return mode


def update_mode(b: Builder) -> None:
    """Emit IR that brings the block mode up to date; the block must end after it."""
    b.set(COMMON["mode"], compute_mode(b))


def set_thumb(b: Builder, thumb: Value) -> None:
    """Emit IR that selects T32 (true) or A32 for the next block, outside an IT block (BX, BLX, LDR pc …)."""
    kept = b.and_(b.get(COMMON["mode"]), ~(MODE_T | MODE_IT))
    b.set(COMMON["mode"], b.or_(kept, b.zext(thumb, Type.I32)))


def argument(b: Builder, number: int, type: Type = Type.I32) -> Value:
    """Emit IR that reads argument ``number`` of a routine as I32 or I64."""
    value = b.get(COMMON[f"arg{number}"])
    return value if type is Type.I64 else b.trunc(value, type)


def select_by(b: Builder, key: Value, table: dict[int, int], default: int) -> Value:
    """Emit IR that yields ``table[key]``, or ``default``; all I32."""
    result = b.const(default, Type.I32)
    for match, value in table.items():
        result = b.select(b.icmp(Condition.EQ, key, match), value, result, Type.I32)
    return result
