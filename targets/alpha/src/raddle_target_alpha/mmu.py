# SPDX-License-Identifier: Apache-2.0
"""Address translation: walks of the three-level page table, TLB fills, address spaces, TLB invalidation.

Alpha Architecture Reference Manual, 4th edition, II-B 3; 21264 Hardware Reference Manual 5.3.5 for KSEG with 43-bit
virtual addresses. Walks are IR routines.

MMU index 0 is kernel mode. The other indices are user mode, each for one address space that ran lately: so a switch to
one of these drops nothing. Kernel mode, which rarely accesses user memory, has one index: a switch drops its entries of
the old address space.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.frontend import RoutineBuilder
from raddle_target_alpha.state import INDEX_KERNEL, USER_INDEX, USER_INDICES
from raddle_target_alpha.system_state import ADDRESS_SPACES, ASN, KERNEL_LOCAL, LAST_USER_INDEX, PTBR

PAGE_BITS: Final = 13
PAGE_SIZE: Final = 1 << PAGE_BITS
LEVEL_BITS: Final = 10
ADDRESS_BITS: Final = 43
ALL_INDICES: Final = 0b1111

KSEG: Final = 0xFFFF_FC00_0000_0000
KSEG_BITS: Final = 41
"""KSEG is where the bits of an address above these are those of `KSEG`."""
KSEG_IO: Final = 40
"""The bit of a KSEG address that is bit `PHYSICAL_IO` of the physical one."""
PHYSICAL_IO: Final = 43

# Bits of a page table entry (II-B 3.4)
PTE_VALID, PTE_FAULT_READ, PTE_FAULT_WRITE, PTE_FAULT_EXECUTE, PTE_ASM = 1, 2, 4, 8, 0x10
PTE_KRE, PTE_URE, PTE_KWE, PTE_UWE = 0x100, 0x200, 0x1000, 0x2000
PTE_HINT: Final = 5
"""The lower of two bits: the granularity hint."""
PTE_PFN: Final = 32

PROT_READ, PROT_WRITE, PROT_EXECUTE, PROT_LOCAL = 1, 2, 4, 8
RIGHTS: Final = PROT_READ | PROT_WRITE | PROT_EXECUTE

TNV, ACV, FOR, FOE, FOW = range(5)
"""The kinds of faults as the operating system is told of them (II-B 5.4): translation not valid, access violation,
fault on read, on execute, on write."""
FAULT: Final = 1
"""What `tlb_fill` adds to a kind to make a code, which is never 0."""

NOT_TRANSLATED: Final = (1 << 64) - 1

_LOAD: Final = native("phys_load64")


def is_kseg(b: Builder, address: Value) -> Value:
    """Whether an address is in KSEG: I1."""
    return b.eq(b.sar(address, KSEG_BITS), KSEG - (1 << 64) >> KSEG_BITS)


def kseg_physical(b: Builder, address: Value) -> Value:
    """The physical address of one in KSEG."""
    io = b.shl(b.extract(address, KSEG_IO, 1), PHYSICAL_IO)
    return b.or_(b.extract(address, 0, KSEG_IO), io)


def _entry_at(b: Builder, table: Value, address: Value, level: int) -> Value:
    """The page table entry of an address in the table of page number `table`; 0 where there is no memory."""
    index = b.extract(address, PAGE_BITS + LEVEL_BITS * (3 - level), LEVEL_BITS)
    place = b.or_(b.shl(table, PAGE_BITS), b.shl(index, 3))
    return b.call(_LOAD, place, type=Type.I64)


def _is_canonical(b: Builder, address: Value) -> Value:
    """Whether the bits above an address' most significant one are copies of it (II-B 3.2)."""
    return b.eq(b.sextract(address, 0, ADDRESS_BITS), address)


def _tlb_fill(b: Builder) -> None:
    """Routine(address, access | mmu_index << 8, size): enter the page into the TLB; 0, or the fault's code."""
    address, how = (b.get(COMMON[f"arg{n}"]) for n in range(2))
    access, index = b.and_(how, 0xFF), b.extract(how, 8, 8)
    kernel = b.eq(index, INDEX_KERNEL)
    page = b.and_(address, -PAGE_SIZE)
    packed_index = b.shl(index, 16)

    def fail(kind: Value | int) -> None:
        b.ret(b.add(b.value(kind, Type.I64), FAULT))

    with b.if_(is_kseg(b, address)):
        with b.if_(kernel):
            b.call(native("tlb_set"), page, kseg_physical(b, page), b.or_(packed_index, RIGHTS))
            b.ret(b.const(0, Type.I64))
        fail(ACV)
    with b.if_(b.not_(_is_canonical(b, address))):
        fail(ACV)
    table = b.get(PTBR)
    for level in (1, 2):
        entry = _entry_at(b, table, address, level)
        with b.if_(b.eq(b.and_(entry, PTE_VALID), 0)):
            fail(b.select(b.eq(b.and_(entry, PTE_KRE), 0), ACV, TNV, Type.I64))
        table = b.shr(entry, PTE_PFN)
    entry = _entry_at(b, table, address, 3)
    # Bit n of the rights is right to access n; a write needs no right to read.
    read = b.select(kernel, b.extract(entry, 8, 1), b.extract(entry, 9, 1))
    write = b.select(kernel, b.extract(entry, 12, 1), b.extract(entry, 13, 1))
    rights = b.or_(b.or_(read, b.shl(read, 2)), b.shl(write, 1))
    number = b.trunc(access, Type.I32)
    with b.if_(b.not_(b.bit(rights, number))):
        fail(ACV)
    with b.if_(b.eq(b.and_(entry, PTE_VALID), 0)):
        fail(TNV)
    faulting = b.extract(entry, 1, 3)
    with b.if_(b.bit(faulting, number)):
        # by access: read, write, execute
        fail(b.and_(b.shr(b.const(FOR | FOW << 4 | FOE << 8, Type.I64), b.shl(number, 2)), 0xF))
    rights = b.and_(rights, b.not_(faulting))
    local = b.xor(b.extract(entry, 4, 1), 1)
    with b.if_(b.and_(kernel, b.ne(local, 0))):
        b.set(KERNEL_LOCAL, 1)
    size_log2 = b.add(b.mul(b.extract(entry, PTE_HINT, 2), 3), PAGE_BITS)
    packed = b.or_(b.or_(b.or_(rights, b.shl(local, 3)), b.shl(size_log2, 8)), packed_index)
    b.call(native("tlb_set"), page, b.shl(b.shr(entry, PTE_PFN), PAGE_BITS), packed)
    b.ret(b.const(0, Type.I64))


def _translate(b: Builder) -> None:
    """Routine(address): its physical address, whatever the rights; NOT_TRANSLATED where there is none."""
    address = b.get(COMMON["arg0"])
    with b.if_(is_kseg(b, address)):
        b.ret(kseg_physical(b, address))
    with b.if_(b.not_(_is_canonical(b, address))):
        b.ret(b.const(NOT_TRANSLATED, Type.I64))
    table = b.get(PTBR)
    for level in (1, 2, 3):
        entry = _entry_at(b, table, address, level)
        with b.if_(b.eq(b.and_(entry, PTE_VALID), 0)):
            b.ret(b.const(NOT_TRANSLATED, Type.I64))
        table = b.shr(entry, PTE_PFN)
    b.ret(b.or_(b.shl(table, PAGE_BITS), b.extract(address, 0, PAGE_BITS)))


def translate(b: Builder, address: Value) -> Value:
    """Emit a translation that looks at no rights, as PALcode's own accesses do: see `_translate`."""
    return b.call(routine("translate"), address, type=Type.I64)


def _switch_address_space(b: Builder) -> None:
    """Routine(): the page table base or the address space number has changed: turn to the address space's MMU index,
    or give it the one that was given first; drop what kernel mode knows of the old one. The block mode is stale after
    it.
    """
    space = b.or_(b.shl(b.get(PTBR), 16), b.or_(b.shl(b.get(ASN), 1), 1))
    with b.if_(b.ne(b.get_at(ADDRESS_SPACES, b.get(USER_INDEX)), space)):
        with b.if_(b.ne(b.get(KERNEL_LOCAL), 0)):
            b.call(native("tlb_flush_local"), b.const(1 << INDEX_KERNEL, Type.I64))
            b.set(KERNEL_LOCAL, 0)
        for index in USER_INDICES:
            with b.if_(b.eq(b.get_at(ADDRESS_SPACES, index), space)):
                b.set(USER_INDEX, index)
                b.ret()
        last = b.get(LAST_USER_INDEX)
        following = b.select(b.icmp(Condition.ULT, last, USER_INDICES[-1]), b.add(last, 1), USER_INDICES[0])
        b.set(LAST_USER_INDEX, following)
        b.set(USER_INDEX, following)
        b.set_at(ADDRESS_SPACES, following, space)
        b.call(native("tlb_flush_by_mmuidx"), b.zext(b.shl(b.const(1, Type.I32), following), Type.I64))
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {
    "tlb_fill": _tlb_fill,
    "translate": _translate,
    "switch_address_space": _switch_address_space,
}


# -- invalidation, emitted into CALL_PAL TBI (II-B 2.2.14) -------------------------------------------------------------


def flush_all(b: Builder) -> None:
    """Drop all translations of this CPU."""
    b.call(native("tlb_flush"))
    b.set(KERNEL_LOCAL, 0)


def flush_processes(b: Builder) -> None:
    """Drop those that belong to an address space each, of all address spaces."""
    b.call(native("tlb_flush_local"), b.const(ALL_INDICES, Type.I64))
    b.set(KERNEL_LOCAL, 0)


def flush_page(b: Builder, address: Value) -> None:
    """Drop that of the page of an address, for instructions and data, in all address spaces."""
    b.call(native("tlb_flush_page"), b.and_(address, -PAGE_SIZE), b.const(ALL_INDICES, Type.I64))
