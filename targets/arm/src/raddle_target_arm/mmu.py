# SPDX-License-Identifier: Apache-2.0
"""Address translation: page-table walks in both formats, TLB fills, address translation operations, TLB maintenance.

ARM DDI 0406C, B3. Walks are IR routines. A walk's fault code is the fault status register's value in the format in use,
without WnR: FS and domain for short descriptors (B3.13.3), STATUS with bit 9 set for long ones (B3.13.4).

Memory types and cacheability have no effect here: walks ignore TEX remap and MAIR, and the PAR reports attributes
as 0.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.ordering import MemoryOrder
from raddle.translate.frontend import RoutineBuilder
from raddle_target_arm.state import (
    DOMAIN_SLOT,
    DOMAIN_SLOT_BIT,
    DOMAIN_TAGS,
    MODE_DOMAIN_SLOT,
    NONGLOBAL,
    SYSTEM,
    argument,
)

PAGE_MASK: Final = 0xFFFF_F000
PROT_LOCAL_BIT: Final = 3
"""The bit of tlb_set's prot that marks a non-global mapping."""
ALL_INDICES: Final = 0b1111

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4

LONG_FORMAT: Final = 1 << 9
"""FSR.LPAE."""

# Fault status of short descriptors: (first level or section, second level or page)
TRANSLATION, ACCESS_FLAG, DOMAIN, PERMISSION, WALK_ABORT = (0x5, 0x7), (0x3, 0x6), (0x9, 0xB), (0xD, 0xF), (0xC, 0xE)
# Fault status of long descriptors, less the level
LONG_TRANSLATION, LONG_ACCESS_FLAG, LONG_PERMISSION, LONG_WALK_ABORT = 0x204, 0x208, 0x20C, 0x214

# Read and write rights by AP[2:0], two bits each (B3.7.1, table B3-8; 0b100 is reserved, 0b110 deprecated)
_USER_RIGHTS: Final = sum(rights << 2 * ap for ap, rights in enumerate((0, 0, 1, 3, 0, 0, 1, 1)))
_PRIVILEGED_RIGHTS: Final = sum(rights << 2 * ap for ap, rights in enumerate((0, 3, 3, 3, 0, 1, 1, 1)))

_PHYS_LOAD32: Final = native("phys_load32")
_PHYS_LOAD64: Final = native("phys_load64")
_PHYS_IS_MEMORY: Final = native("phys_is_memory")


def _flag(b: Builder, value: Value, bit: int) -> Value:
    """Bit ``bit`` as an I32, 0 or 1."""
    return b.extract(b.trunc(value, Type.I32) if value.type is Type.I64 else value, bit, 1)


class _Walk:
    """Emits one translation of ``address`` for ``access`` (0 read, 1 write, 2 fetch).

    ``privileged`` is an I1; ``dacr`` the domain rights. If the walk finds a translation that allows the access, control
    falls through, and ``physical`` (I64), ``rights`` (I32, PROT bits), ``size_log2`` (I32) and ``nonglobal`` (I32, 0 or
    1) hold it. Otherwise control goes to label ``faulted``, which the caller binds, with ``code`` (I32).
    """

    def __init__(self, b: Builder, address: Value, access: Value, privileged: Value, dacr: Value) -> None:
        self.b = b
        self.address, self.privileged, self.dacr = address, privileged, dacr
        self.sctlr, self.ttbcr = b.get(SYSTEM["sctlr"]), b.get(SYSTEM["ttbcr"])
        self.code = b.local(Type.I32, 0, "code")
        self.physical = b.local(Type.I64, b.zext(address, Type.I64), "physical")
        self.rights = b.local(Type.I32, PROT_READ | PROT_WRITE | PROT_EXEC, "rights")
        self.size_log2 = b.local(Type.I32, 12, "size_log2")
        self.nonglobal = b.local(Type.I32, 0, "nonglobal")
        # Rights at PL1 and at PL0, execute never (from XN or PXN), and the code of a permission fault.
        self.privileged_rights = b.local(Type.I32, 0, "privileged_rights")
        self.user_rights = b.local(Type.I32, 0, "user_rights")
        self.execute_never = b.local(Type.I32, 0, "execute_never")
        self.faulted, self.check, self.done = b.label("faulted"), b.label("check"), b.label("done")

        short, long, on = b.label("short"), b.label("long"), b.label("on")
        b.brcond(b.bit(self.sctlr, 0), on, self.done)
        b.bind(on)
        b.brcond(b.bit(self.ttbcr, 31), long, short)
        b.bind(short)
        self._short()
        b.bind(long)
        self._long()
        b.bind(self.check)
        self._check(access)
        b.bind(self.done)

    def _fail(self, code: Value | int) -> None:
        self.b.assign(self.code, code)
        self.b.br(self.faulted)

    def _fail_if(self, condition: Value, code: Value | int) -> None:
        with self.b.if_(condition):
            self._fail(code)

    def _descriptor32(self, address: Value) -> Value:
        b = self.b
        descriptor = b.call(_PHYS_LOAD32, b.zext(address, Type.I64), type=Type.I32)
        return b.select(b.bit(self.sctlr, 25), b.bswap(descriptor), descriptor)

    def _descriptor64(self, address: Value) -> Value:
        b = self.b
        descriptor = b.call(_PHYS_LOAD64, address, type=Type.I64)
        return b.select(b.bit(self.sctlr, 25), b.bswap(descriptor), descriptor)

    def _invalid_if(
        self, invalid: Value, address: Value, size: int, abort: Value | int, translation: Value | int
    ) -> None:
        """Fail if the descriptor is invalid: with an external abort if it is not in memory, and so was read as 0."""
        b = self.b
        with b.if_(invalid):
            address = address if address.type is Type.I64 else b.zext(address, Type.I64)
            self._fail_if(b.eq(b.call(_PHYS_IS_MEMORY, address, b.const(size), type=Type.I32), 0), abort)
            self._fail(translation)

    # -- short descriptors (B3.5) --------------------------------------------------------------------------------------

    def _short(self) -> None:
        b, address = self.b, self.address
        n = b.extract(self.ttbcr, 0, 3)
        # TTBR1 when any of the address' top N bits is set
        upper = b.ne(b.shr(b.shr(address, 1), b.sub(31, n)), 0)
        # PD0 and PD1 disable walks
        disabled = b.select(upper, b.bit(self.ttbcr, 5), b.bit(self.ttbcr, 4))
        self._fail_if(disabled, TRANSLATION[0])
        n = b.select(upper, 0, n)
        base = b.trunc(b.select(upper, b.get(SYSTEM["ttbr1"]), b.get(SYSTEM["ttbr0"])), Type.I32)
        base = b.and_(base, b.not_(b.shr(b.const(0x3FFF, Type.I32), n)))
        index = b.and_(b.shr(address, 20), b.shr(b.const(0xFFF, Type.I32), n))
        entry = b.or_(base, b.shl(index, 2))
        first = self._descriptor32(entry)
        domain = b.extract(first, 5, 4)
        kind = b.and_(first, 3)
        self._invalid_if(b.eq(kind, 0), entry, 4, WALK_ABORT[0], TRANSLATION[0])
        table, section = b.label("table"), b.label("section")
        b.brcond(b.eq(kind, 1), table, section)

        b.bind(section)
        supersection = b.bit(first, 18)
        domain_number = b.select(supersection, 0, domain)
        # PA[35:32] of a supersection are bits 23:20, PA[39:36] bits 8:5
        high = b.or_(b.extract(first, 20, 4), b.shl(domain, 4))
        large = b.or_(b.shl(b.zext(high, Type.I64), 32), self._join(first, 24))
        b.assign(self.physical, b.select(supersection, large, self._join(first, 20)))
        b.assign(self.size_log2, b.select(supersection, 24, 20, Type.I32))
        b.assign(self.nonglobal, b.extract(first, 17, 1))
        ap = b.or_(b.extract(first, 10, 2), b.shl(b.extract(first, 15, 1), 2))
        privileged = b.zext(self.privileged, Type.I32)
        b.assign(self.execute_never, b.or_(b.extract(first, 4, 1), b.and_(b.and_(first, 1), privileged)))
        self._short_rights(ap, domain_number, 0)

        b.bind(table)
        entry = b.or_(b.and_(first, 0xFFFF_FC00), b.and_(b.shr(address, 10), 0x3FC))
        domain_bits = b.shl(domain, 4)
        second = self._descriptor32(entry)
        kind = b.and_(second, 3)
        abort, translation = b.or_(domain_bits, WALK_ABORT[1]), b.or_(domain_bits, TRANSLATION[1])
        self._invalid_if(b.eq(kind, 0), entry, 4, abort, translation)
        is_large = b.eq(kind, 1)
        b.assign(self.physical, b.select(is_large, self._join(second, 16), self._join(second, 12)))
        b.assign(self.size_log2, b.select(is_large, 16, 12, Type.I32))
        b.assign(self.nonglobal, b.extract(second, 11, 1))
        ap = b.or_(b.extract(second, 4, 2), b.shl(b.extract(second, 9, 1), 2))
        privileged = b.zext(self.privileged, Type.I32)
        never = b.select(is_large, b.extract(second, 15, 1), b.and_(second, 1))
        b.assign(self.execute_never, b.or_(never, b.and_(b.extract(first, 2, 1), privileged)))
        self._short_rights(ap, domain, 1)

    def _join(self, descriptor: Value, bits: int) -> Value:
        """Physical address (I64) from a descriptor's high bits and the virtual address' ``bits`` low ones."""
        b, low = self.b, (1 << bits) - 1
        return b.zext(b.or_(b.and_(descriptor, ~low), b.and_(self.address, low)), Type.I64)

    def _short_rights(self, ap: Value, domain: Value, page: int) -> None:
        """Access flag, domain and rights of a section or page; goes on at ``check``, or at ``done`` for a manager."""
        b = self.b
        domain_bits = b.shl(domain, 4)
        access_flag = b.bit(self.sctlr, 29)
        missing = b.and_(access_flag, b.eq(b.and_(ap, 1), 0))
        self._fail_if(missing, b.or_(domain_bits, ACCESS_FLAG[page]))
        role = b.and_(b.shr(self.dacr, b.shl(domain, 1)), 3)
        # 0 is no access, 2 is reserved; 1 is client, 3 manager
        self._fail_if(b.eq(b.and_(role, 1), 0), b.or_(domain_bits, DOMAIN[page]))
        client = b.label("client")
        b.brcond(b.eq(role, 3), self.done, client)
        b.bind(client)
        shift = b.shl(ap, 1)
        b.assign(self.privileged_rights, b.and_(b.shr(b.const(_PRIVILEGED_RIGHTS, Type.I32), shift), 3))
        b.assign(self.user_rights, b.and_(b.shr(b.const(_USER_RIGHTS, Type.I32), shift), 3))
        b.assign(self.code, b.or_(domain_bits, PERMISSION[page]))
        b.br(self.check)

    # -- long descriptors (B3.6) ---------------------------------------------------------------------------------------

    def _long(self) -> None:
        b, address = self.b, self.address
        t0, t1 = b.extract(self.ttbcr, 0, 3), b.extract(self.ttbcr, 16, 3)
        half = b.shr(address, 1)
        zeros = b.eq(b.shr(half, b.sub(31, t0)), 0)
        ones = b.eq(b.shr(b.shr(b.not_(address), 1), b.sub(31, t1)), 0)
        t0_open, t1_open = b.eq(t0, 0), b.eq(t1, 0)
        lower = b.or_(t0_open, zeros)
        upper = b.select(t1_open, b.not_(lower), ones, Type.I1)
        self._fail_if(b.not_(b.or_(lower, upper)), LONG_TRANSLATION | 1)
        # EPD0 and EPD1 disable walks
        disabled = b.select(upper, b.bit(self.ttbcr, 23), b.bit(self.ttbcr, 7))
        self._fail_if(disabled, LONG_TRANSLATION | 1)
        size = b.select(upper, t1, t0)
        base = b.select(upper, b.get(SYSTEM["ttbr1"]), b.get(SYSTEM["ttbr0"]))
        # Regions of up to 1 GiB start at level 2
        first_level = b.select(b.icmp(Condition.ULT, size, 2), 1, 2, Type.I32)
        level = b.local(Type.I32, first_level, "level")
        offset = b.and_(address, b.shr(b.const(0xFFFF_FFFF, Type.I32), size))
        index = b.shr(offset, b.select(b.eq(first_level, 1), 30, 21, Type.I32))
        align = b.sub(b.select(b.eq(first_level, 1), 5, 14, Type.I32), size)
        base = b.shl(b.shr(b.extract(base, 0, 40), align), align)
        entry = b.local(Type.I64, b.or_(base, b.zext(b.shl(index, 3), Type.I64)), "entry")
        # APTable[1:0], XNTable, PXNTable of the tables on the way, or-ed: bits 62:59
        limits = b.local(Type.I32, 0, "limits")
        descriptor = b.local(Type.I64, 0, "descriptor")

        loop, table, leaf = b.label("loop"), b.label("table"), b.label("leaf")
        b.bind(loop)
        at = b.read(level)
        where = b.read(entry)
        loaded = self._descriptor64(where)
        b.assign(descriptor, loaded)
        low = b.trunc(loaded, Type.I32)
        is_last, more = b.eq(at, 3), b.bit(low, 1)
        # A descriptor with bit 0 clear is invalid; at level 3 a block is, too
        invalid = b.or_(b.eq(b.and_(low, 1), 0), b.and_(is_last, b.not_(more)))
        self._invalid_if(invalid, where, 8, b.or_(at, LONG_WALK_ABORT), b.or_(at, LONG_TRANSLATION))
        b.brcond(b.and_(b.not_(is_last), more), table, leaf)

        b.bind(table)
        b.assign(limits, b.or_(b.read(limits), b.trunc(b.extract(loaded, 59, 4), Type.I32)))
        following = b.add(at, 1)
        index = b.and_(b.shr(address, b.sub(39, b.mul(following, 9))), 0x1FF)
        b.assign(entry, b.or_(b.and_(loaded, 0xFF_FFFF_F000), b.zext(b.shl(index, 3), Type.I64)))
        b.assign(level, following)
        b.br(loop)

        b.bind(leaf)
        found, at, table_limits = b.read(descriptor), b.read(level), b.read(limits)
        self._fail_if(b.eq(_flag(b, found, 10), 0), b.or_(at, LONG_ACCESS_FLAG))
        size_log2 = b.sub(39, b.mul(at, 9))
        b.assign(self.size_log2, size_log2)
        low_mask = b.sub(b.shl(b.const(1, Type.I64), size_log2), 1)
        high_part = b.and_(b.extract(found, 0, 40), b.not_(low_mask))
        b.assign(self.physical, b.or_(high_part, b.and_(b.zext(address, Type.I64), low_mask)))
        b.assign(self.nonglobal, _flag(b, found, 11))
        high = b.trunc(b.shr(found, 32), Type.I32)
        read_only = b.or_(_flag(b, found, 7), b.extract(table_limits, 3, 1))
        user = b.and_(_flag(b, found, 6), b.xor(b.extract(table_limits, 2, 1), 1))
        rights = b.or_(b.shl(b.xor(read_only, 1), 1), PROT_READ)
        b.assign(self.privileged_rights, rights)
        b.assign(self.user_rights, b.and_(rights, b.neg(user)))
        privileged = b.zext(self.privileged, Type.I32)
        # XN is bit 54, PXN bit 53; XNTable and PXNTable bits 1 and 0 of the limits
        never = b.or_(b.extract(high, 22, 1), b.extract(table_limits, 1, 1))
        privileged_never = b.or_(b.extract(high, 21, 1), b.and_(table_limits, 1))
        b.assign(self.execute_never, b.or_(never, b.and_(privileged_never, privileged)))
        b.assign(self.code, b.or_(at, LONG_PERMISSION))
        b.br(self.check)

    # -- rights --------------------------------------------------------------------------------------------------------

    def _check(self, access: Value) -> None:
        """Compute ``rights`` from what the walk found; falls through if they allow the access."""
        b = self.b
        user_rights = b.read(self.user_rights)
        data = b.select(self.privileged, b.read(self.privileged_rights), user_rights)
        privileged = b.zext(self.privileged, Type.I32)
        # WXN: nothing writable is executable; UWXN: nothing that User mode can write is executable at PL1
        never = b.or_(b.read(self.execute_never), b.and_(b.extract(self.sctlr, 19, 1), b.extract(data, 1, 1)))
        user_writable = b.and_(b.extract(user_rights, 1, 1), privileged)
        never = b.or_(never, b.and_(b.extract(self.sctlr, 20, 1), user_writable))
        execute = b.and_(b.and_(data, 1), b.xor(never, 1))
        rights = b.or_(data, b.shl(execute, 2))
        b.assign(self.rights, rights)
        allowed = b.bit(rights, access)
        with b.if_(b.not_(allowed)):
            b.br(self.faulted)


def _tlb_fill(b: Builder) -> None:
    """Routine(address, access | mmu_index << 8, size) -> 0, with the page entered into the TLB, or the fault code."""
    address, how = argument(b, 0), argument(b, 1)
    access, index = b.and_(how, 0xFF), b.extract(how, 8, 8)
    # An index is only in use while DACR has the value for which its slot is tagged.
    dacr = b.get_at(DOMAIN_TAGS, b.shr(index, 1))
    walk = _Walk(b, address, access, b.bit(index, 0), dacr)
    b.set(NONGLOBAL, b.or_(b.get(NONGLOBAL), b.shl(b.read(walk.nonglobal), index)))
    prot = b.or_(b.read(walk.rights), b.shl(b.read(walk.nonglobal), PROT_LOCAL_BIT))
    packed = b.or_(prot, b.shl(b.read(walk.size_log2), 8))
    packed = b.or_(packed, b.shl(index, 16))
    page = b.and_(b.read(walk.physical), ~0xFFF)
    b.call(native("tlb_set"), b.zext(b.and_(address, PAGE_MASK), Type.I64), page, b.zext(packed, Type.I64))
    b.ret(b.const(0, Type.I64))
    b.bind(walk.faulted)
    b.ret(b.zext(b.read(walk.code), Type.I64))


def _address_translation(b: Builder) -> None:
    """Routine(address, access | privileged << 8) -> fault status or 0: ATS1C… (B3.12.7), with the result in the PAR.

    An external abort on the walk is a data abort instead (B4.2.4); only then there is a fault status.
    """
    address, how = argument(b, 0), argument(b, 1)
    walk = _Walk(b, address, b.and_(how, 0xFF), b.bit(how, 8), b.get(SYSTEM["dacr"]))
    long_format = b.bit(b.get(SYSTEM["ttbcr"]), 31)
    physical = b.and_(b.read(walk.physical), 0xFF_FFFF_F000)
    # A supersection (SS, bit 1) shows PA[39:32] in bits 23:16
    high = b.and_(b.shr(physical, 16), 0xFF_0000)
    super_par = b.or_(b.or_(b.and_(physical, 0xFF00_0000), high), 2)
    is_super = b.eq(b.read(walk.size_log2), 24)
    short_par = b.select(is_super, super_par, b.and_(physical, PAGE_MASK))
    # NS (bit 9), and LPAE (bit 11) in the long format
    b.set(SYSTEM["par"], b.select(long_format, b.or_(physical, 0xA00), b.or_(short_par, 0x200)))
    b.ret(b.const(0, Type.I64))
    b.bind(walk.faulted)
    code = b.read(walk.code)
    # FS 0b01100 and 0b01110, or STATUS 0b0101LL
    is_long = b.bit(b.get(SYSTEM["ttbcr"]), 31)
    long_abort = b.eq(b.and_(code, 0x3C), LONG_WALK_ABORT & 0x3C)
    short_abort = b.eq(b.and_(code, 0xD), WALK_ABORT[0])
    with b.if_(b.select(is_long, long_abort, short_abort, Type.I1)):
        b.ret(b.zext(code, Type.I64))
    status = b.and_(code, 0x3F)
    long_fault = b.or_(b.shl(status, 1), 0x801)
    short_fault = b.or_(b.shl(b.and_(code, 0xF), 1), 1)
    fault = b.select(b.bit(b.get(SYSTEM["ttbcr"]), 31), long_fault, short_fault)
    b.set(SYSTEM["par"], b.zext(fault, Type.I64))
    b.ret(b.const(0, Type.I64))


# -- what depends on the address space ---------------------------------------------------------------------------------


def _new_address_space(b: Builder) -> None:
    """Routine(): drop the translations of the old address space, after a change of ASID or translation table."""
    indices = b.get(NONGLOBAL)
    with b.if_(b.ne(indices, 0)):
        b.call(native("tlb_flush_local"), b.zext(indices, Type.I64))
        b.set(NONGLOBAL, 0)
    b.ret()


def _dacr_write(b: Builder) -> None:
    """Routine(value): write DACR and select the slot of MMU indices for its value."""
    value = argument(b, 0)
    slot = b.extract(value, DOMAIN_SLOT_BIT, 1)
    with b.if_(b.ne(value, b.get(SYSTEM["dacr"]))):
        b.set(SYSTEM["dacr"], value)
        with b.if_(b.ne(b.get_at(DOMAIN_TAGS, slot), value)):
            indices = b.shl(b.const(0b11, Type.I32), b.shl(slot, 1))
            b.call(native("tlb_flush_by_mmuidx"), b.zext(indices, Type.I64))
            b.set(NONGLOBAL, b.and_(b.get(NONGLOBAL), b.not_(indices)))
            b.set_at(DOMAIN_TAGS, slot, value)
        b.set(DOMAIN_SLOT, slot)
        mode = COMMON["mode"]
        b.set(mode, b.deposit(b.get(mode), slot, MODE_DOMAIN_SLOT.bit_length() - 1, 1))
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {
    "tlb_fill": _tlb_fill,
    "address_translation": _address_translation,
    "new_address_space": _new_address_space,
    "dacr_write": _dacr_write,
}

# -- TLB maintenance, emitted into instructions and routines -----------------------------------------------------------


def flush_all(b: Builder) -> None:
    """Drop all of this CPU's translations: for TLBIALL, and for changes of the translation regime."""
    b.call(native("tlb_flush"))
    b.set(NONGLOBAL, 0)


def flush_all_everywhere(b: Builder) -> None:
    """TLBIALLIS and TLBIASIDIS; complete at this CPU's next DSB."""
    b.call(native("tlb_flush_all_cpus"))


def flush_page(b: Builder, address: Value) -> None:
    """TLBIMVA and TLBIMVAA: drop all translations of ``address``'s page, of any ASID and global ones."""
    page = b.zext(b.and_(address, PAGE_MASK), Type.I64)
    b.call(native("tlb_flush_page"), page, b.const(ALL_INDICES, Type.I64))


def flush_page_everywhere(b: Builder, address: Value) -> None:
    """TLBIMVAIS and TLBIMVAAIS; complete at this CPU's next DSB."""
    page = b.zext(b.and_(address, PAGE_MASK), Type.I64)
    b.call(native("tlb_flush_page_all_cpus"), page, b.const(ALL_INDICES, Type.I64))


def flush_address_space(b: Builder) -> None:
    """TLBIASID of any ASID: the TLB has non-global translations of the current ASID only."""
    b.call(routine("new_address_space"))


def synchronise(b: Builder) -> None:
    """DSB (A8.8.44): a full barrier that also waits for this CPU's broadcast TLB maintenance."""
    b.mb(MemoryOrder.ALL)
    b.call(native("tlb_sync"))
