# SPDX-License-Identifier: Apache-2.0
"""System registers: coprocessors 14 (debug, ThumbEE, Jazelle) and 15 as one table (ARM DDI 0406C, B3.17, B4.1, C11).

A row says who may read and write a register, what a read yields, and what a write does. MCR, MRC, MCRR and MRRC look it
up when they are translated; without a row they are undefined. Readers and writers emit IR into the instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Field, FieldArray, Type
from raddle.ordering import MemoryOrder
from raddle_target_arm import mmu, pmu, timers
from raddle_target_arm.cpus import CORTEX_A15
from raddle_target_arm.exceptions import take_data_abort, take_undefined
from raddle_target_arm.state import (
    CBAR,
    CPU_COUNT,
    DBGBCR,
    DBGBVR,
    DBGWCR,
    DBGWVR,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    SYSTEM,
    select_by,
    update_mode,
)

Key = tuple[int, ...]
"""(coprocessor, opc1, CRn, CRm, opc2) of MCR and MRC; (coprocessor, opc1, CRm) of MCRR and MRRC."""

Reader = Callable[[Builder], Value]
Writer = Callable[[Builder, Value], Value | None]
"""May return an I32, which is the fault status of a data abort to take, or 0."""
Allowed = Callable[[Builder], Value]


class End(IntEnum):
    """What must follow the instruction that writes a register."""

    NONE = 0
    BLOCK = 1
    """A new block: what was fetched ahead may be stale."""
    MODE = 2
    """A new block, in a block mode that may have changed."""


class Register(NamedTuple):
    """One row. A 64-bit access has the three-part key; its reader and writer work on I64, all others on I32.

    ``read`` or ``write`` is None where there is no such access; ``user_read`` and ``user_write`` say whether User mode
    may make it: always, never, or if the emitted condition holds. ``reset`` is the value of ``field`` after reset;
    ``field`` is None if another row has it.
    """

    name: str
    key: Key
    read: Reader | None
    write: Writer | None
    user_read: bool | Allowed
    user_write: bool | Allowed
    end: End
    field: Field | None
    reset: int


# -- readers and writers -----------------------------------------------------------------------------------------------


def _read_field(field: Field) -> Reader:
    return lambda b: b.get(field)


def _read_constant(value: int) -> Reader:
    return lambda b: b.const(value, Type.I32)


def _read_low(field: Field) -> Reader:
    return lambda b: b.trunc(b.get(field), Type.I32)


def _write_field(field: Field, mask: int, ones: int) -> Writer:
    everything = (1 << field.type.bits) - 1

    def write(b: Builder, value: Value) -> None:
        if mask != everything:
            value = b.and_(value, mask)
        b.set(field, b.or_(value, ones) if ones else value)

    return write


def _ignore(b: Builder, value: Value) -> None:
    """Data caches and branch predictors are not modelled: there is nothing to maintain."""


def _synchronise_fetches(b: Builder) -> None:
    """Instruction caches are not modelled: a store kills the blocks whose bytes it changes, unless it is in flight when
    they are made. The helper checks all such blocks, so the address does not matter."""
    b.call(native("icache_sync", pure_state=True))


def _write_sctlr(b: Builder, value: Value) -> None:
    fixed = CORTEX_A15.sctlr_reset & ~CORTEX_A15.sctlr_writable
    b.set(SYSTEM["sctlr"], b.or_(b.and_(value, CORTEX_A15.sctlr_writable), fixed))
    mmu.flush_all(b)
    update_mode(b)


def _write_cpacr(b: Builder, value: Value) -> None:
    # cp10 and cp11; ASEDIS is 1, because there is no Advanced SIMD
    b.set(SYSTEM["cpacr"], b.or_(b.and_(value, 0x00F0_0000), 0x8000_0000))
    update_mode(b)


def _write_ttbr_low(field: Field) -> Writer:
    """MCR of a TTBR writes its low word; only long descriptors use the high one."""

    def write(b: Builder, value: Value) -> None:
        old = b.get(field)
        b.set(field, b.or_(b.and_(old, 0xFFFF_FFFF_0000_0000), b.zext(value, Type.I64)))
        b.call(routine("new_address_space"))

    return write


def _write_ttbr(field: Field) -> Writer:
    def write(b: Builder, value: Value) -> None:
        b.set(field, value)
        b.call(routine("new_address_space"))

    return write


def _write_ttbcr(b: Builder, value: Value) -> None:
    # Short descriptors: EAE, PD1, PD0, N; long ones: all defined fields
    long_value = b.and_(value, 0xBFC7_3F87)
    b.set(SYSTEM["ttbcr"], b.select(b.bit(value, 31), long_value, b.and_(value, 0x37)))
    mmu.flush_all(b)


def _write_contextidr(b: Builder, value: Value) -> None:
    changed = b.ne(b.and_(b.xor(b.get(SYSTEM["contextidr"]), value), 0xFF), 0)
    b.set(SYSTEM["contextidr"], value)
    with b.if_(changed):
        b.call(routine("new_address_space"))


def _write_dacr(b: Builder, value: Value) -> None:
    b.call(routine("dacr_write"), value)


def _write_par_low(b: Builder, value: Value) -> None:
    b.set(SYSTEM["par"], b.zext(value, Type.I64))


def _translate(how: int) -> Writer:
    def write(b: Builder, value: Value) -> Value:
        return b.call(routine("address_translation"), value, b.const(how, Type.I32), type=Type.I32)

    return write


def _no_operand(action: Callable[[Builder], None]) -> Writer:
    return lambda b, value: action(b)


def _data_memory_barrier(b: Builder) -> None:
    b.mb(MemoryOrder.ALL)


def _nothing(b: Builder) -> None:
    pass


def _read_mpidr(b: Builder) -> Value:
    """Multiprocessing extensions, clusters of eight CPUs, none of them multi-threaded."""
    index = b.get(COMMON["cpu_index"])
    affinity = b.or_(b.and_(index, 7), b.shl(b.shr(index, 3), 8))
    return b.or_(affinity, 0x8000_0000)


def _read_ccsidr(b: Builder) -> Value:
    sizes = dict(enumerate(CORTEX_A15.cache_sizes))
    return select_by(b, b.get(SYSTEM["csselr"]), sizes, 0)


def _read_l2ctlr(b: Builder) -> Value:
    """The number of CPUs of a cluster less 1, and that there is an interrupt controller."""
    return b.or_(b.shl(b.and_(b.sub(b.get(CPU_COUNT), 1), 3), 24), 1 << 23)


def _read_isr(b: Builder) -> Value:
    lines = b.get(COMMON["interrupt_request"])
    return b.or_(b.shl(b.and_(lines, 1), 7), b.shl(b.and_(lines, 2), 5))


def _write_dbgoslar(b: Builder, value: Value) -> None:
    # OSLM says 0b10: implemented; the key locks, everything else unlocks
    locked = b.zext(b.eq(value, 0xC5AC_CE55), Type.I32)
    b.set(SYSTEM["dbgoslsr"], b.or_(b.shl(locked, 1), 8))


def _write_dbgclaimset(b: Builder, value: Value) -> None:
    claim = SYSTEM["dbgclaim"]
    b.set(claim, b.or_(b.get(claim), b.and_(value, 0xFF)))


def _write_dbgclaimclr(b: Builder, value: Value) -> None:
    claim = SYSTEM["dbgclaim"]
    b.set(claim, b.and_(b.get(claim), b.not_(value)))


def _teehbr_allowed(b: Builder) -> Value:
    """TEECR.XED keeps User mode from TEEHBR."""
    return b.not_(b.bit(b.get(SYSTEM["teecr"]), 0))


def _control(*bits: int) -> Allowed:
    """User mode has access if any of these bits of CNTKCTL is set."""
    mask = sum(1 << bit for bit in bits)
    return lambda b: b.ne(b.and_(b.get(SYSTEM["cntkctl"]), mask), 0)


# -- the table ---------------------------------------------------------------------------------------------------------


def _row(
    name: str,
    key: Key,
    *,
    read: Reader | None = None,
    write: Writer | None = None,
    user_read: bool | Allowed = False,
    user_write: bool | Allowed = False,
    end: End = End.NONE,
    field: Field | None = None,
    reset: int = 0,
) -> Register:
    return Register(name, key, read, write, user_read, user_write, end, field, reset)


def _plain(
    name: str,
    key: Key,
    *,
    reset: int = 0,
    mask: int | None = None,
    ones: int = 0,
    user_read: bool | Allowed = False,
    user_write: bool | Allowed = False,
    field: Field | None = None,
) -> Register:
    """A register that is nothing but a field: readable, and writable in the bits of ``mask``."""
    field = SYSTEM[name.lower()] if field is None else field
    mask = (1 << field.type.bits) - 1 if mask is None else mask
    write = _write_field(field, mask, ones)
    return Register(name, key, _read_field(field), write, user_read, user_write, End.NONE, field, reset)


def _constant(name: str, key: Key, value: int, *, user_read: bool = False) -> Register:
    return _row(name, key, read=_read_constant(value), user_read=user_read)


def _operation(name: str, key: Key, write: Writer, *, user: bool = False, end: End = End.NONE) -> Register:
    return _row(name, key, write=write, user_write=user, end=end)


def _identification() -> Iterator[Register]:
    ids, midr = CORTEX_A15.ids, CORTEX_A15.midr
    for opc2, name in enumerate(("MIDR", "CTR", "TCMTR", "TLBTR", "MIDR", "MPIDR", "REVIDR", "MIDR")):
        if name == "MPIDR":
            yield _row(name, (15, 0, 0, 0, opc2), read=_read_mpidr)
        else:
            yield _constant(name, (15, 0, 0, 0, opc2), midr if name == "MIDR" else ids[name])
    features = (
        ("ID_PFR0", "ID_PFR1", "ID_DFR0", "ID_AFR0", "ID_MMFR0", "ID_MMFR1", "ID_MMFR2", "ID_MMFR3"),
        ("ID_ISAR0", "ID_ISAR1", "ID_ISAR2", "ID_ISAR3", "ID_ISAR4", "ID_ISAR5"),
    )
    for crm in range(1, 8):
        names = features[crm - 1] if crm <= len(features) else ()
        for opc2 in range(8):
            # the rest of the CPUID scheme reads as zero (B7.1.1)
            name = names[opc2] if opc2 < len(names) else f"reserved_c0_c{crm}_{opc2}"
            yield _constant(name, (15, 0, 0, crm, opc2), ids.get(name, 0))
    yield _row("CCSIDR", (15, 1, 0, 0, 0), read=_read_ccsidr)
    yield _constant("CLIDR", (15, 1, 0, 0, 1), ids["CLIDR"])
    yield _constant("AIDR", (15, 1, 0, 0, 7), ids["AIDR"])
    yield _plain("CSSELR", (15, 2, 0, 0, 0), mask=0xF)


def _control_registers() -> Iterator[Register]:
    sctlr, cpacr = SYSTEM["sctlr"], SYSTEM["cpacr"]
    yield _row(
        "SCTLR",
        (15, 0, 1, 0, 0),
        read=_read_field(sctlr),
        write=_write_sctlr,
        end=End.MODE,
        field=sctlr,
        reset=CORTEX_A15.sctlr_reset,
    )
    yield _plain("ACTLR", (15, 0, 1, 0, 1))
    yield _row(
        "CPACR",
        (15, 0, 1, 0, 2),
        read=_read_field(cpacr),
        write=_write_cpacr,
        end=End.MODE,
        field=cpacr,
        reset=0x8000_0000,
    )


def _memory_registers() -> Iterator[Register]:
    for number, name in enumerate(("TTBR0", "TTBR1")):
        field = SYSTEM[name.lower()]
        low, whole = _write_ttbr_low(field), _write_ttbr(field)
        yield _row(name, (15, 0, 2, 0, number), read=_read_low(field), write=low, field=field)
        yield _row(f"{name}_64", (15, number, 2), read=_read_field(field), write=whole)
    ttbcr, dacr, contextidr, par = (SYSTEM[name] for name in ("ttbcr", "dacr", "contextidr", "par"))
    yield _row("TTBCR", (15, 0, 2, 0, 2), read=_read_field(ttbcr), write=_write_ttbcr, field=ttbcr)
    yield _row("DACR", (15, 0, 3, 0, 0), read=_read_field(dacr), write=_write_dacr, end=End.MODE, field=dacr)
    yield _plain("DFSR", (15, 0, 5, 0, 0))
    yield _plain("IFSR", (15, 0, 5, 0, 1))
    yield _plain("ADFSR", (15, 0, 5, 1, 0))
    yield _plain("AIFSR", (15, 0, 5, 1, 1))
    yield _plain("DFAR", (15, 0, 6, 0, 0))
    yield _plain("IFAR", (15, 0, 6, 0, 2))
    yield _row("PAR", (15, 0, 7, 4, 0), read=_read_low(par), write=_write_par_low, field=par)
    yield _row("PAR_64", (15, 0, 7), read=_read_field(par), write=lambda b, value: b.set(par, value))
    yield _plain("PRRR", (15, 0, 10, 2, 0), reset=0x0009_8AA4)
    yield _plain("NMRR", (15, 0, 10, 2, 1), reset=0x44E0_48E0)
    yield _plain("AMAIR0", (15, 0, 10, 3, 0))
    yield _plain("AMAIR1", (15, 0, 10, 3, 1))
    yield _row("FCSEIDR", (15, 0, 13, 0, 0), read=_read_constant(0), write=_ignore)
    yield _row("CONTEXTIDR", (15, 0, 13, 0, 1), read=_read_field(contextidr), write=_write_contextidr, field=contextidr)
    # ATS1C: access and privilege
    for opc2, (name, how) in enumerate((("PR", 0x100), ("PW", 0x101), ("UR", 0x000), ("UW", 0x001))):
        yield _operation(f"ATS1C{name}", (15, 0, 7, 8, opc2), _translate(how))


def _cache_operations() -> Iterator[Register]:
    for name, crm, opc2 in (("ICIALLUIS", 1, 0), ("ICIALLU", 5, 0), ("ICIMVAU", 5, 1)):
        yield _operation(name, (15, 0, 7, crm, opc2), _no_operand(_synchronise_fetches))
    places = (
        ("BPIALLIS", 1, 6), ("BPIALL", 5, 6), ("BPIMVA", 5, 7), ("DCIMVAC", 6, 1), ("DCISW", 6, 2), ("DCCMVAC", 10, 1),
        ("DCCSW", 10, 2), ("DCCMVAU", 11, 1), ("DCCIMVAC", 14, 1), ("DCCISW", 14, 2), ("NOP_wait_for_interrupt", 0, 4),
        ("NOP_prefetch", 13, 1),
    )  # fmt: skip
    for name, crm, opc2 in places:
        yield _operation(name, (15, 0, 7, crm, opc2), _ignore)
    # The barriers' old encodings (B3.17.2)
    yield _operation("CP15ISB", (15, 0, 7, 5, 4), _no_operand(_nothing), user=True, end=End.BLOCK)
    yield _operation("CP15DSB", (15, 0, 7, 10, 4), _no_operand(mmu.synchronise), user=True)
    yield _operation("CP15DMB", (15, 0, 7, 10, 5), _no_operand(_data_memory_barrier), user=True)


def _tlb_operations() -> Iterator[Register]:
    def rows(prefix: str, suffix: str, crm: int, writers: tuple[Writer, ...]) -> Iterator[Register]:
        for opc2, (what, writer) in enumerate(zip(("ALL", "MVA", "ASID", "MVAA"), writers, strict=False)):
            yield _operation(f"{prefix}{what}{suffix}", (15, 0, 8, crm, opc2), writer)

    everything, space = _no_operand(mmu.flush_all), _no_operand(mmu.flush_address_space)
    local = (everything, mmu.flush_page, space, mmu.flush_page)
    everywhere = _no_operand(mmu.flush_all_everywhere)
    broadcast = (everywhere, mmu.flush_page_everywhere, everywhere, mmu.flush_page_everywhere)
    yield from rows("TLBI", "IS", 3, broadcast)
    yield from rows("ITLBI", "", 5, local[:3])
    yield from rows("DTLBI", "", 6, local[:3])
    yield from rows("TLBI", "", 7, local)


def _thread_and_vector_registers() -> Iterator[Register]:
    yield _plain("VBAR", (15, 0, 12, 0, 0), mask=0xFFFF_FFE0)
    yield _row("ISR", (15, 0, 12, 1, 0), read=_read_isr)
    yield _plain("TPIDRURW", (15, 0, 13, 0, 2), user_read=True, user_write=True)
    yield _plain("TPIDRURO", (15, 0, 13, 0, 3), user_read=True)
    yield _plain("TPIDRPRW", (15, 0, 13, 0, 4))
    yield _row("L2CTLR", (15, 1, 9, 0, 2), read=_read_l2ctlr, write=_ignore)
    yield _row("L2ECTLR", (15, 1, 9, 0, 3), read=_read_constant(0), write=_ignore)
    yield _row("CBAR", (15, 4, 15, 0, 0), read=_read_field(CBAR))


def _timer_registers() -> Iterator[Register]:
    yield _plain("CNTFRQ", (15, 0, 14, 0, 0), reset=timers.FREQUENCY, user_read=_control(0, 1))
    control = timers.KERNEL_CONTROL
    write_control = timers.write_kernel_control
    yield _row("CNTKCTL", (15, 0, 14, 1, 0), read=_read_field(control), write=write_control, field=control)
    yield from _timer(timers.PHYSICAL, "P", 2, user=_control(9), user_count=_control(0))
    yield from _timer(timers.VIRTUAL, "V", 3, user=_control(8), user_count=_control(1))


def _timer(timer: int, letter: str, crm: int, *, user: Allowed, user_count: Allowed) -> Iterator[Register]:
    ctl, cval = timers.CTL[timer], timers.CVAL[timer]
    yield _row(
        f"CNT{letter}_TVAL",
        (15, 0, 14, crm, 0),
        read=lambda b: timers.read_tval(b, timer),
        write=lambda b, value: timers.write_tval(b, timer, value),
        user_read=user,
        user_write=user,
    )
    yield _row(
        f"CNT{letter}_CTL",
        (15, 0, 14, crm, 1),
        read=lambda b: timers.read_ctl(b, timer),
        write=lambda b, value: timers.write_ctl(b, timer, value),
        user_read=user,
        user_write=user,
        field=ctl,
    )
    yield _row(
        f"CNT{letter}_CVAL",
        (15, 2 + timer, 14),
        read=_read_field(cval),
        write=lambda b, value: timers.write_cval(b, timer, value),
        user_read=user,
        user_write=user,
        field=cval,
    )
    yield _row(f"CNT{letter}CT", (15, timer, 14), read=timers.counter, user_read=user_count)


def _performance_registers() -> Iterator[Register]:
    user = pmu.user_allowed
    yield _row(
        "PMCR",
        (15, 0, 9, 12, 0),
        read=_read_field(SYSTEM["pmcr"]),
        write=pmu.write_pmcr,
        user_read=user,
        user_write=user,
        field=SYSTEM["pmcr"],
        reset=pmu.PMCR_RESET,
    )
    access: tuple[tuple[str, int, int, Reader | None, Writer | None], ...] = (
        ("PMCNTENSET", 12, 1, pmu.read_pmcnten, pmu.write_pmcntenset),
        ("PMCNTENCLR", 12, 2, pmu.read_pmcnten, pmu.write_pmcntenclr),
        ("PMOVSR", 12, 3, _read_field(SYSTEM["pmovsr"]), pmu.write_pmovsr),
        ("PMSWINC", 12, 4, None, pmu.write_pmswinc),
        ("PMSELR", 12, 5, _read_field(SYSTEM["pmselr"]), _write_field(SYSTEM["pmselr"], 0x1F, 0)),
        ("PMCEID0", 12, 6, _read_constant(CORTEX_A15.ids["PMCEID0"]), None),
        ("PMCEID1", 12, 7, _read_constant(CORTEX_A15.ids["PMCEID1"]), None),
        ("PMCCNTR", 13, 0, pmu.read_cycles, pmu.write_cycles),
        ("PMXEVTYPER", 13, 1, pmu.read_event_type, pmu.write_event_type),
        ("PMXEVCNTR", 13, 2, pmu.read_event_counter, pmu.write_event_counter),
    )
    for name, crm, opc2, read, write in access:
        yield _row(name, (15, 0, 9, crm, opc2), read=read, write=write, user_read=user, user_write=user)
    yield _plain("PMUSERENR", (15, 0, 9, 14, 0), mask=1, user_read=True)
    inten = SYSTEM["pminten"]
    yield _row("PMINTENSET", (15, 0, 9, 14, 1), read=_read_field(inten), write=pmu.write_pmintenset, field=inten)
    yield _row("PMINTENCLR", (15, 0, 9, 14, 2), read=_read_field(inten), write=pmu.write_pmintenclr)
    yield _plain("PMCCFILTR", (15, 0, 14, 15, 7), mask=0xF800_0000, user_read=user, user_write=user)


def _debug_registers() -> Iterator[Register]:
    ids = CORTEX_A15.ids
    yield _constant("DBGDIDR", (14, 0, 0, 0, 0), ids["DBGDIDR"], user_read=True)
    dscr, oslsr = SYSTEM["dbgdscr"], SYSTEM["dbgoslsr"]
    yield _row("DBGDSCRint", (14, 0, 0, 1, 0), read=_read_field(dscr), user_read=True)
    # Of DBGDSCR only UDCCdis and MOE are kept: debug is not enabled from outside, so that MDBGen reads as 0 (C11.11.20)
    yield _plain("DBGDSCRext", (14, 0, 0, 2, 2), field=dscr, mask=0x0000_103C)
    dtr = SYSTEM["dbgdtr"]
    yield _plain("DBGDTRint", (14, 0, 0, 5, 0), field=dtr, user_read=True, user_write=True)
    yield _plain("DBGDTRRXext", (14, 0, 0, 0, 2), field=dtr)
    yield _plain("DBGDTRTXext", (14, 0, 0, 3, 2), field=dtr)
    yield _plain("DBGWFAR", (14, 0, 0, 6, 0))
    yield _plain("DBGVCR", (14, 0, 0, 7, 0))
    banks: tuple[tuple[str, int, FieldArray], ...] = (
        ("DBGBVR", 4, DBGBVR), ("DBGBCR", 5, DBGBCR), ("DBGWVR", 6, DBGWVR), ("DBGWCR", 7, DBGWCR),
    )  # fmt: skip
    for name, opc2, array in banks:
        for number, field in enumerate(array):
            yield _plain(f"{name}{number}", (14, 0, 0, number, opc2), field=field)
    yield _constant("DBGDRAR", (14, 0, 1, 0, 0), 0, user_read=True)
    yield _row("DBGDRAR_64", (14, 0, 1), read=lambda b: b.const(0, Type.I64), user_read=True)
    yield _constant("DBGDSAR", (14, 0, 2, 0, 0), 0, user_read=True)
    yield _row("DBGDSAR_64", (14, 0, 2), read=lambda b: b.const(0, Type.I64), user_read=True)
    yield _operation("DBGOSLAR", (14, 0, 1, 0, 4), _write_dbgoslar)
    yield _row("DBGOSLSR", (14, 0, 1, 1, 4), read=_read_field(oslsr), field=oslsr, reset=0xA)
    yield _plain("DBGOSDLR", (14, 0, 1, 3, 4), mask=1)
    yield _plain("DBGPRCR", (14, 0, 1, 4, 4), mask=1)
    claim = SYSTEM["dbgclaim"]
    yield _row("DBGCLAIMSET", (14, 0, 7, 8, 6), read=_read_constant(0xFF), write=_write_dbgclaimset)
    yield _row("DBGCLAIMCLR", (14, 0, 7, 9, 6), read=_read_field(claim), write=_write_dbgclaimclr, field=claim)
    for name, key in (
        ("DBGAUTHSTATUS", (14, 0, 7, 14, 6)),
        ("DBGDEVID2", (14, 0, 7, 0, 7)),
        ("DBGDEVID1", (14, 0, 7, 1, 7)),
        ("DBGDEVID", (14, 0, 7, 2, 7)),
    ):
        yield _constant(name, key, ids[name])
    yield _plain("TEECR", (14, 6, 0, 0, 0), mask=1, user_read=True)
    yield _plain("TEEHBR", (14, 6, 1, 0, 0), mask=0xFFFF_FFFC, user_read=_teehbr_allowed, user_write=_teehbr_allowed)
    # The trivial implementation of Jazelle (A2.10)
    yield _row("JIDR", (14, 7, 0, 0, 0), read=_read_constant(0), write=_ignore, user_read=True)
    yield _row("JOSCR", (14, 7, 1, 0, 0), read=_read_constant(0), write=_ignore)
    yield _row("JMCR", (14, 7, 2, 0, 0), read=_read_constant(0), write=_ignore, user_write=True)


def _table() -> dict[Key, Register]:
    sections = (
        _identification,
        _control_registers,
        _memory_registers,
        _cache_operations,
        _tlb_operations,
        _thread_and_vector_registers,
        _timer_registers,
        _performance_registers,
        _debug_registers,
    )
    table: dict[Key, Register] = {}
    for section in sections:
        for register in section():
            if register.key in table:
                raise ValueError(f"{register.name} and {table[register.key].name} have one encoding")
            table[register.key] = register
    return table


TABLE: Final[dict[Key, Register]] = _table()
"""Every register and operation, by its encoding."""

# -- what instructions emit --------------------------------------------------------------------------------------------


def _permit(b: Builder, user: bool | Allowed, decode_state: int, mode: int) -> bool:
    """Emit the check of a User mode access; False when it is never permitted."""
    if mode & MODE_PRIVILEGED or user is True:
        return True
    if user is False:
        return False
    allowed, refused = b.label("allowed"), b.label("refused")
    b.brcond(user(b), allowed, refused)
    b.bind(refused)
    take_undefined(b, decode_state, mode)
    b.bind(allowed)
    return True


def read(b: Builder, key: Key, decode_state: int, mode: int) -> Value | None:
    """Emit a read of the register at ``key`` by an instruction with ITSTATE ``decode_state`` in block mode ``mode``.

    I32, or I64 for a three-part key. None when the access is undefined: nothing is emitted then.
    """
    register = TABLE.get(key)
    if register is None or register.read is None or not _permit(b, register.user_read, decode_state, mode):
        return None
    return register.read(b)


def write(b: Builder, key: Key, value: Value, decode_state: int, mode: int) -> End | None:
    """Emit a write of ``value`` (I32, or I64 for a three-part key); returns how to go on (see ``finish``).

    None when the access is undefined: nothing is emitted then.
    """
    register = TABLE.get(key)
    if register is None or register.write is None or not _permit(b, register.user_write, decode_state, mode):
        return None
    status = register.write(b, value)
    if status is not None:
        with b.if_(b.ne(status, 0)):
            take_data_abort(b, value, status, decode_state)
    return register.end


def finish(b: Builder, end: End, size: int, next_decode_state: int) -> bool:
    """Emit what must follow a write, in an instruction of ``size`` bytes; True when the block has ended.

    ``next_decode_state`` is the following instruction's ITSTATE.
    """
    if end is End.NONE:
        return False
    if next_decode_state:
        mode = COMMON["mode"]
        b.set(mode, b.or_(b.get(mode), next_decode_state << MODE_IT_SHIFT))
    if end is End.BLOCK and not next_decode_state:
        b.goto(size)
    else:
        b.goto_indirect(b.pc(size))
    return True


def reset_values() -> Iterator[tuple[Field, int]]:
    """Every field that reset sets, with its value."""
    for register in TABLE.values():
        if register.field is not None:
            yield register.field, register.reset
