# SPDX-License-Identifier: Apache-2.0
"""Guest memory: the inline software-TLB probe, its slow paths, exclusives, atomics and barriers.

The probe puts the offset of the TLB entry into rcx. Into rdx go the address's page number and those low bits that must
be zero for alignment. rdx is compared with the entry's comparator, whose low bits are flags that no address has. On a
hit, the entry's addend makes the guest address a host address. On a miss, the cold part calls the runtime, which does
the whole access, or leaves the block for an exception. The TLB's layout is in `raddle.runtime.layout`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raddle.codegen.runtime_calls import ATOMIC_OPS
from raddle.ir.builder import Instruction, MemAccess
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, MemOp, Type
from raddle.runtime.layout import (
    GRANULE_BITS,
    GRANULE_LOCK,
    TLB_ADDEND,
    TLB_APART,
    TLB_ENTRIES,
    TLB_ENTRY_SIZE,
    TLB_OFFSET,
    TLB_READ,
    TLB_WRITE,
)
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.emitter import ANY_LITERAL, SAVE_SLOT, Emitter, Sum, emits, float_register_of, register_of
from raddle_host_x86_64.fields import COLD
from raddle_host_x86_64.registers import RAX, RBP, RCX, RDX, RSP

_ENTRY_SHIFT: Final = TLB_ENTRY_SIZE.bit_length() - 1
_INDEX_MASK: Final = (TLB_ENTRIES - 1) << _ENTRY_SHIFT


def _tlb(mmu_index: int) -> int:
    """The offset from env of the TLB."""
    return TLB_OFFSET + mmu_index * TLB_ENTRIES * TLB_ENTRY_SIZE


def _probe(e: Emitter, op: Instruction, access: MemAccess, comparator: int, align: int) -> tuple[int, ...]:
    """Emit the probe. Returns the offsets of its jumps to the slow path, for the caller to aim; none if the cold part
    ends where the slow path must come next. On a hit rcx holds the addend.
    """
    address = op.args[0]
    page_mask = -(1 << e.config.page_bits)
    reach = access.memop.size - align
    tlb = _tlb(access.mmu_index)
    shift = e.config.page_bits - _ENTRY_SHIFT
    if isinstance(address.location, Sum):
        e.move(RDX, address)
        if e.features.bmi2:
            e.RORXQ_rri(RCX, RDX, shift)
        else:
            e.MOVQ_rr(RCX, RDX)
            e.SHRQ_ri(RCX, shift)
    elif e.features.bmi2 and register_of(address) >= 0:
        # The mask below removes the bits that the rotation brings in at the top.
        (e.RORXQ_rri if e.wide else e.RORX_rri)(RCX, register_of(address), shift)
    else:
        e.move(RCX, address)
        (e.SHRQ_ri if e.wide else e.SHR_ri)(RCX, shift)
    e.AND_ri(RCX, _INDEX_MASK)
    if reach > 0:
        # Check the page of an unaligned access's last byte: an access that crosses pages misses.
        register = RDX if isinstance(address.location, Sum) else e.use(address, RDX)
        (e.LEAQ_rm if e.wide else e.LEA_rm)(RDX, register, reach)
    elif not isinstance(address.location, Sum):
        e.move(RDX, address)
    if e.wide:
        e.ANDQ_ri(RDX, page_mask | (align - 1))
        e.CMPQ_rx(RDX, RBP, RCX, 1, tlb + comparator)
    else:
        e.AND_ri(RDX, page_mask | (align - 1))
        e.CMP_rx(RDX, RBP, RCX, 1, tlb + comparator)
    e.Jcc_rel32(cc.NE, 0)
    miss = len(e.code) - 4
    if comparator == TLB_READ and e.config.common_indices >> access.mmu_index & 1:
        _common_addend(e, access.mmu_index, miss)
        return ()
    e.MOVQ_rx(RCX, RBP, RCX, 1, tlb + TLB_ADDEND)
    return (miss,)


def _common_addend(e: Emitter, mmu_index: int, miss: int) -> None:
    """Load the common addend, for which no load of the address's entry is waited for. Where the entry has another one,
    the cold part loads that.
    """
    tlb = _tlb(mmu_index)
    e.MOVQ_rm(RCX, RBP, OFFSET[f"tlb{mmu_index}_addend"])
    hot, slow = e.code, e.label()
    e.code = e.cold
    e.hot_relocs.append((COLD, miss, len(e.cold)))
    (e.ORQ_ri if e.wide else e.OR_ri)(RDX, TLB_APART)
    (e.CMPQ_rx if e.wide else e.CMP_rx)(RDX, RBP, RCX, 1, tlb + TLB_READ)
    e.Jcc_near(cc.NE, slow)
    e.MOVQ_rx(RCX, RBP, RCX, 1, tlb + TLB_ADDEND)
    e.return_to_hot()
    e.bind(slow)
    e.code = hot


class _Index(NamedTuple):
    """What gives the host address when it is added to rcx."""

    register: int
    """-1: nothing, rcx is that address itself."""
    literal: Instruction | None = None
    """What is added besides, if anything."""

    @property
    def displacement(self) -> int:
        return 0 if self.literal is None else ANY_LITERAL

    def fill(self, e: Emitter) -> None:
        """The last four bytes of the code are the displacement."""
        if self.literal is not None:
            e.hole(self.literal)

    def add(self, e: Emitter) -> None:
        """Make rcx the host address."""
        if self.literal is not None:
            e.LEAQ_rx(RCX, RCX, self.register, 1, ANY_LITERAL)
            e.hole(self.literal)
        elif self.register >= 0:
            e.ADDQ_rr(RCX, self.register)


def _host_address(e: Emitter, address: Instruction) -> _Index:
    """Make the host address of rcx, the addend, and the index that it returns."""
    if isinstance(address.location, Sum):
        return _Index(address.location.base, address.location.literal)
    register = register_of(address)
    if register < 0:
        e.move(RDX, address)
        e.ADDQ_rr(RCX, RDX)
    return _Index(register)


def _slow_call(e: Emitter, op: Instruction, thunk: str, operation: int = -1) -> None:
    """Emit a slow path: store the arguments and call the thunk. The caller has aimed its jumps here."""
    access = op.aux
    assert isinstance(access, MemAccess)
    for index, arg in enumerate(op.args):
        e.MOVQ_mr(RBP, OFFSET[f"arg{index}"], e.use(arg, RDX))
    e.MOV_ri(RCX, access.memop.encode(access.mmu_index))
    if operation >= 0:
        e.MOV_ri(RDX, operation)
    e.CALL_m(RBP, OFFSET[thunk])


@emits(Op.MB)
def mb(e: Emitter, op: Instruction) -> None:
    """The emitter puts the barrier before it."""


_LOADS: Final = {
    (1, False, False): (Emitter.MOVZXB_rx, Emitter.MOVZXB_rm),
    (1, True, False): (Emitter.MOVSXB_rx, Emitter.MOVSXB_rm),
    (2, False, False): (Emitter.MOVZXW_rx, Emitter.MOVZXW_rm),
    (2, True, False): (Emitter.MOVSXW_rx, Emitter.MOVSXW_rm),
    (4, False, False): (Emitter.MOV_rx, Emitter.MOV_rm),
    (4, True, False): (Emitter.MOV_rx, Emitter.MOV_rm),
    (1, False, True): (Emitter.MOVZXB_rx, Emitter.MOVZXB_rm),
    (1, True, True): (Emitter.MOVSXBQ_rx, Emitter.MOVSXBQ_rm),
    (2, False, True): (Emitter.MOVZXW_rx, Emitter.MOVZXW_rm),
    (2, True, True): (Emitter.MOVSXWQ_rx, Emitter.MOVSXWQ_rm),
    (4, False, True): (Emitter.MOV_rx, Emitter.MOV_rm),
    (4, True, True): (Emitter.MOVSXD_rx, Emitter.MOVSXD_rm),
    (8, False, True): (Emitter.MOVQ_rx, Emitter.MOVQ_rm),
    (8, True, True): (Emitter.MOVQ_rx, Emitter.MOVQ_rm),
}


@emits(Op.LOAD)
def load(e: Emitter, op: Instruction) -> None:
    access = e.access(op)
    memop = access.memop
    wide = op.type is Type.I64
    misses = _probe(e, op, access, TLB_READ, memop.align_bytes)
    address = op.args[0]
    index = _host_address(e, address)
    hot = e.code
    e.code = e.cold
    e.hot_relocs += [(COLD, miss, len(e.cold)) for miss in misses]
    _slow_call(e, op, "thunk_load")
    e.code = hot
    register = _float_target(e, op)
    if register >= 0:
        if index.register >= 0:
            e.MOVQ_vx(register, RCX, index.register, 1, index.displacement)
            index.fill(e)
        else:
            e.MOVQ_vm(register, RCX, 0)
        e.code = e.cold
        e.MOVQ_vm(register, RBP, OFFSET["result"])
        e.return_to_hot()
        e.code = hot
        e.clobber()
        return
    target = e.define(op, op.args)
    load_x, load_m = _LOADS[memop.size, memop.signed and not memop.big_endian, wide]
    if index.register >= 0:
        load_x(e, target, RCX, index.register, 1, index.displacement)
        index.fill(e)
    else:
        load_m(e, target, RCX, 0)
    if memop.big_endian:
        _swap(e, target, memop.size, memop.signed, wide)
    e.code = e.cold
    (e.MOVQ_rm if wide else e.MOV_rm)(target, RBP, OFFSET["result"])
    e.return_to_hot()
    e.code = hot
    e.clobber()


def _float_target(e: Emitter, op: Instruction) -> int:
    """The xmm register of a pinned field, if what is loaded is stored there right after and used for nothing else; then
    the `BITCAST` and the `SET` are done. Otherwise -1.
    """
    cast, store = e.next_is(Op.BITCAST), e.next_is(Op.SET, 2)
    if cast is None or store is None or op.uses != 1 or cast.uses != 1 or store.args[0] is not cast:
        return -1
    access, field = op.aux, store.aux
    assert isinstance(access, MemAccess)
    assert isinstance(field, Field)
    register = e.pinned.get(field.offset)
    if cast.args[0] is not op or register is None or access.memop.size != 8 or access.memop.big_endian:
        return -1
    e.done.update((cast.position, store.position))
    return register.number


def _swap(e: Emitter, register: int, size: int, signed: bool, wide: bool) -> None:
    """Reverse the bytes of a zero-extended value of `size` bytes, then extend it."""
    if size == 2:
        e.ROLW_ri(register, 8)
        if signed:
            (e.MOVSXWQ_rr if wide else e.MOVSXW_rr)(register, register)
        else:
            e.MOVZXW_rr(register, register)
    elif size == 4:
        e.BSWAP_r(register)
        if signed and wide:
            e.MOVSXD_rr(register, register)
    elif size == 8:
        e.BSWAPQ_r(register)
    elif signed:
        (e.MOVSXBQ_rr if wide else e.MOVSXB_rr)(register, register)


def _store_constant(e: Emitter, value: Instruction, size: int) -> None:
    """Store the low bytes of a constant, at most 4, at the host address in rcx."""
    number = value.aux
    assert isinstance(number, int)
    number &= (1 << 8 * size) - 1
    if size == 1:
        e.MOVB_mi(RCX, 0, number)
    elif size == 2:
        e.MOVW_mi(RCX, 0, number)
    else:
        e.MOV_mi(RCX, 0, number)


@emits(Op.STORE)
def store(e: Emitter, op: Instruction) -> None:
    access = e.access(op)
    memop = access.memop
    if e.config.strict:
        _strict_store(e, op, access)
        return
    misses = _probe(e, op, access, TLB_WRITE, memop.align_bytes)
    address, value = op.args
    index = _host_address(e, address)
    size = memop.size
    float_register = float_register_of(value) if size == 8 and not memop.swaps else -1
    if value.op is Op.CONST and size <= 4 and not memop.big_endian:
        index.add(e)
        _store_constant(e, value, size)
    elif float_register >= 0:
        if index.register >= 0:
            e.MOVQ_xv(RCX, index.register, 1, index.displacement, float_register)
            index.fill(e)
        else:
            e.MOVQ_mv(RCX, 0, float_register)
    else:
        if memop.swaps:
            e.move(RDX, value)
            source = RDX
            _swap(e, source, size, False, True)
        else:
            source = e.use(value, RDX)
        if index.register >= 0:
            store_x = (Emitter.MOVB_xr, Emitter.MOVW_xr, Emitter.MOV_xr, Emitter.MOVQ_xr)[size.bit_length() - 1]
            store_x(e, RCX, index.register, 1, index.displacement, source)
            index.fill(e)
        else:
            (e.MOVB_mr, e.MOVW_mr, e.MOV_mr, e.MOVQ_mr)[size.bit_length() - 1](RCX, 0, source)
    _cold_store(e, op, *misses)
    e.clobber()


def _cold_store(e: Emitter, op: Instruction, *misses: int) -> None:
    hot = e.code
    e.code = e.cold
    e.hot_relocs += [(COLD, miss, len(e.cold)) for miss in misses]
    _slow_call(e, op, "thunk_store")
    e.return_to_hot()
    e.code = hot


def _in_runtime(e: Emitter, op: Instruction) -> None:
    """Let the runtime do the whole operation. The block goes on only if that raised no exception."""
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    if op.last_use >= 0:
        target = e.define(op, op.args)
        (e.MOVQ_rm if op.type is Type.I64 else e.MOV_rm)(target, RBP, OFFSET["result"])
    e.clobber()


@emits(*(ATOMIC_OPS.keys() - {Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE}))
def atomic(e: Emitter, op: Instruction) -> None:
    e.access(op)
    _in_runtime(e, op)


def _cold_exclusive(e: Emitter, op: Instruction, *misses: int) -> None:
    """The cold part of an exclusive access. It returns to the end of the hot part with the result in rcx."""
    hot = e.code
    e.code = e.cold
    e.hot_relocs += [(COLD, miss, len(e.cold)) for miss in misses]
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    e.MOVQ_rm(RCX, RBP, OFFSET["result"])
    e.return_to_hot()
    e.code = hot


@emits(Op.LOAD_EXCLUSIVE)
def load_exclusive(e: Emitter, op: Instruction) -> None:
    """Load, and reserve: address, size and the value, which a store-exclusive compares with if it is not exact."""
    access = e.access(op)
    memop = access.memop
    if memop.swaps or memop.signed or op.last_use < 0:
        _in_runtime(e, op)
        return
    if e.config.strict:
        _strict_load_exclusive(e, op, access)
        return
    misses = _probe(e, op, access, TLB_READ, memop.align_bytes)
    address = op.args[0]
    e.move(RDX, address)
    wide = op.type is Type.I64
    e.ADDQ_rr(RCX, RDX)
    # Load into a scratch register: the address may die here, and the result may get its register.
    _LOADS[memop.size, False, wide][1](e, RCX, RCX, 0)
    e.MOVQ_mr(RBP, OFFSET["exclusive_address"], RDX)
    e.MOVQ_mr(RBP, OFFSET["exclusive_value"], RCX)
    e.MOV_mi(RBP, OFFSET["exclusive_size"], memop.size)
    _cold_exclusive(e, op, *misses)
    (e.MOVQ_rr if wide else e.MOV_rr)(e.define(op, op.args), RCX)
    e.clobber()


_COMPARE_EXCHANGE: Final = {
    (1, True): Emitter.LOCK_CMPXCHGB_mr,
    (2, True): Emitter.LOCK_CMPXCHGW_mr,
    (4, True): Emitter.LOCK_CMPXCHG_mr,
    (8, True): Emitter.LOCK_CMPXCHGQ_mr,
    (1, False): Emitter.CMPXCHGB_mr,
    (2, False): Emitter.CMPXCHGW_mr,
    (4, False): Emitter.CMPXCHG_mr,
    (8, False): Emitter.CMPXCHGQ_mr,
}


@emits(Op.STORE_EXCLUSIVE)
def store_exclusive(e: Emitter, op: Instruction) -> None:
    """If not exact: store if address and size are the reserved ones, and memory still holds the value read."""
    access = e.access(op)
    memop = access.memop
    if memop.swaps:
        _in_runtime(e, op)
        return
    if e.config.strict:
        _strict_store_exclusive(e, op, access)
        return
    misses = _probe(e, op, access, TLB_WRITE, memop.align_bytes)
    address, value = op.args
    e.move(RDX, address)
    e.ADDQ_rr(RCX, RDX)
    fails, ends = e.label(), e.label()
    e.CMPQ_rm(RDX, RBP, OFFSET["exclusive_address"])
    e.MOVQ_mi(RBP, OFFSET["exclusive_address"], -1)
    e.Jcc_near(cc.NE, fails)
    e.CMP_mi(RBP, OFFSET["exclusive_size"], memop.size)
    e.Jcc_near(cc.NE, fails)
    e.move(RDX, value)
    busy = not e.general.is_free(RAX)
    if busy:
        e.MOVQ_mr(RSP, 8 * SAVE_SLOT, RAX)
    e.MOVQ_rm(RAX, RBP, OFFSET["exclusive_value"])
    _COMPARE_EXCHANGE[memop.size, e.parallel](e, RCX, 0, RDX)
    if busy:
        e.MOVQ_rm(RAX, RSP, 8 * SAVE_SLOT)
    e.SETcc_r(cc.NE, RCX)
    e.MOVZXB_rr(RCX, RCX)
    e.JMP_near(ends)
    e.bind(fails)
    e.MOV_ri(RCX, 1)
    e.bind(ends)
    _cold_exclusive(e, op, *misses)
    if op.last_use >= 0:
        e.MOV_rr(e.define(op, op.args), RCX)
    e.clobber()


@emits(Op.CLEAR_EXCLUSIVE)
def clear_exclusive(e: Emitter, op: Instruction) -> None:
    e.MOVQ_mi(RBP, OFFSET["exclusive_address"], -1)


# -- exact reservations: the runtime's granules.c has the rules for a granule's word -----------------------------------


def _lock_granule(e: Emitter) -> int:
    """Lock the granule of the host address in rcx, and put the address of its word into rdx. Returns the offset of the
    jump to the cold part, which is taken if the granule is locked already.
    """
    e.MOVQ_rr(RDX, RCX)
    e.SHRQ_ri(RDX, GRANULE_BITS)
    e.SHLQ_ri(RDX, 2)
    e.ADDQ_rm(RDX, RBP, OFFSET["granules"])
    e.LOCK_BTS_mi(RDX, 0, GRANULE_LOCK)
    e.Jcc_rel32(cc.B, 0)
    return len(e.code) - 4


def _unlock_granule(e: Emitter) -> None:
    """Unlock it and keep all reservations. x86 does not reorder stores, so a plain one will do."""
    e.AND_mi(RDX, 0, (1 << GRANULE_LOCK) - 1)


def _store_at_rcx(e: Emitter, memop: MemOp, value: Instruction) -> None:
    """Store the value at the address in rcx; rcx and rdx stay as they are."""
    size = memop.size
    swaps = memop.swaps
    if value.op is Op.CONST and size <= 4 and not swaps:
        _store_constant(e, value, size)
        return
    store_register = (Emitter.MOVB_mr, Emitter.MOVW_mr, Emitter.MOV_mr, Emitter.MOVQ_mr)[size.bit_length() - 1]
    if register_of(value) >= 0 and not swaps:
        store_register(e, RCX, 0, register_of(value))
        return
    busy = not e.general.is_free(RAX)
    if busy:
        e.MOVQ_mr(RSP, 8 * SAVE_SLOT, RAX)
    e.move(RAX, value)
    if swaps:
        _swap(e, RAX, size, False, True)
    store_register(e, RCX, 0, RAX)
    if busy:
        e.MOVQ_rm(RAX, RSP, 8 * SAVE_SLOT)


def _strict_store(e: Emitter, op: Instruction, access: MemAccess) -> None:
    """A store that ends all reservations of its granule but the vCPU's own. An unaligned one takes the slow path."""
    memop = access.memop
    address, value = op.args
    misses = _probe(e, op, access, TLB_WRITE, max(memop.size, memop.align_bytes))
    _host_address(e, address).add(e)
    taken = _lock_granule(e)
    _store_at_rcx(e, memop, value)
    e.MOV_rm(RCX, RBP, OFFSET["reservation"])
    e.AND_mr(RDX, 0, RCX)
    _cold_store(e, op, *misses, taken)
    e.clobber()


def _strict_load_exclusive(e: Emitter, op: Instruction, access: MemAccess) -> None:
    size, wide = access.memop.size, op.type is Type.I64
    address = op.args[0]
    misses = _probe(e, op, access, TLB_READ, access.memop.align_bytes)
    e.move(RDX, address)
    e.ADDQ_rr(RCX, RDX)
    taken = _lock_granule(e)
    _LOADS[size, False, wide][1](e, RCX, RCX, 0)
    e.MOVQ_mr(RBP, OFFSET["exclusive_value"], RDX)
    e.MOVQ_mr(RBP, OFFSET["result"], RCX)
    e.MOV_rm(RCX, RBP, OFFSET["reservation"])
    e.OR_mr(RDX, 0, RCX)
    _unlock_granule(e)
    e.move(RDX, address)
    e.MOVQ_mr(RBP, OFFSET["exclusive_address"], RDX)
    e.MOV_mi(RBP, OFFSET["exclusive_size"], size)
    e.MOVQ_rm(RCX, RBP, OFFSET["result"])
    _cold_exclusive(e, op, *misses, taken)
    (e.MOVQ_rr if wide else e.MOV_rr)(e.define(op, op.args), RCX)
    e.clobber()


def _strict_store_exclusive(e: Emitter, op: Instruction, access: MemAccess) -> None:
    """Store if address, size and granule are the reserved ones, and nobody else has written to the granule since."""
    memop = access.memop
    address, value = op.args
    misses = _probe(e, op, access, TLB_WRITE, memop.align_bytes)
    e.move(RDX, address)
    e.ADDQ_rr(RCX, RDX)
    fails, lost, ends = e.label(), e.label(), e.label()
    e.CMPQ_rm(RDX, RBP, OFFSET["exclusive_address"])
    e.Jcc_near(cc.NE, fails)
    e.CMP_mi(RBP, OFFSET["exclusive_size"], memop.size)
    e.Jcc_near(cc.NE, fails)
    taken = _lock_granule(e)
    e.CMPQ_rm(RDX, RBP, OFFSET["exclusive_value"])
    e.Jcc_near(cc.NE, lost)
    busy = not e.general.is_free(RAX)
    if busy:
        e.MOVQ_mr(RSP, 8 * SAVE_SLOT, RAX)
    e.MOV_rm(RAX, RBP, OFFSET["reservation"])
    e.AND_rm(RAX, RDX, 0)
    if busy:
        e.MOVQ_rm(RAX, RSP, 8 * SAVE_SLOT)
    e.Jcc_near(cc.E, lost)
    _store_at_rcx(e, memop, value)
    e.MOV_mi(RDX, 0, 0)
    e.MOV_ri(RCX, 0)
    e.JMP_near(ends)
    e.bind(lost)
    _unlock_granule(e)
    e.bind(fails)
    e.MOV_ri(RCX, 1)
    e.bind(ends)
    e.MOVQ_mi(RBP, OFFSET["exclusive_address"], -1)
    _cold_exclusive(e, op, *misses, taken)
    if op.last_use >= 0:
        e.MOV_rr(e.define(op, op.args), RCX)
    e.clobber()
