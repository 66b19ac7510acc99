# SPDX-License-Identifier: Apache-2.0
"""Guest memory: the inline software-TLB probe, its slow paths, exclusives, atomics and barriers.

The probe (layout of the TLB: `raddle.runtime.layout`): x16 = the entry's address, x0 = the address reduced to its page
number and the bits that must be zero for the access's alignment; they are compared with the entry's comparator, whose
low bits are flags that no address has. On a hit the entry's addend gives the host address. On a miss the cold part
calls the runtime, which does the whole access, or leaves the block for an exception. NZCV stays what it is on both
ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.runtime_calls import ATOMIC_OPS
from raddle.ir.builder import Instruction, MemAccess
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import MemOp
from raddle.ordering import MemoryOrder
from raddle.runtime.layout import TLB_ENTRIES, TLB_ENTRY_SIZE
from raddle_host_aarch64.emit.integer import is_wide
from raddle_host_aarch64.emitter import ENV, SCRATCH, SCRATCH2, SCRATCH3, TLB, TLB_BIAS, Emitter, emit_constant, emits
from raddle_host_aarch64.fields import COLD19, HOT26

_READ, _WRITE, _ADDEND = 0, 8, 24
_ENTRY_SHIFT: Final = TLB_ENTRY_SIZE.bit_length() - 1
_INDEX_BITS: Final = TLB_ENTRIES.bit_length() - 1
_TLB_SIZE: Final = TLB_ENTRIES * TLB_ENTRY_SIZE


def _access(e: Emitter, op: Instruction) -> MemAccess:
    """How the instruction accesses memory, from a boundary: it may leave the block."""
    e.at_boundary()
    return e.access(op)


def _probe(e: Emitter, op: Instruction, access: MemAccess, comparator: int, align: int) -> None:
    """Emit the probe, which branches to the end of the cold part so far on a miss. On a hit x16 holds the addend."""
    page_bits = e.config.page_bits
    address = e.use(op.args[0], SCRATCH2)
    reach = access.memop.size - align
    tlb, displacement = access.mmu_index * _TLB_SIZE - TLB_BIAS, 0
    if access.mmu_index < 2:
        tlb, displacement = 0, tlb
    (e.UBFX_xxii if e.wide else e.UBFX_wwii)(SCRATCH, address, page_bits, _INDEX_BITS)
    e.ADD_xxx_lsl(SCRATCH, TLB, SCRATCH, _ENTRY_SHIFT)
    if tlb:
        # The first entry of this MMU index, and of it what LDR reaches from there.
        displacement = tlb % 4096
        e.ADD_xxi(SCRATCH, SCRATCH, tlb - displacement)
    page = SCRATCH3
    if reach > 0:
        # An unaligned access is checked by the page of its last byte: one that crosses pages misses.
        (e.ADD_xxi if e.wide else e.ADD_wwi)(page, address, reach)
        address = page
    mask = -(1 << page_bits) | align - 1
    if e.wide:
        e.AND_xxi(page, address, mask & (1 << 64) - 1)
    else:
        e.AND_wwi(page, address, mask & 0xFFFFFFFF)
    e.GET_xxi(SCRATCH2, SCRATCH, displacement + comparator)
    (e.EOR_xxx if e.wide else e.EOR_www)(page, page, SCRATCH2)
    (e.CBNZ_xi if e.wide else e.CBNZ_wi)(page, 0)
    e.last_field(COLD19, len(e.cold))
    e.GET_xxi(SCRATCH, SCRATCH, displacement + _ADDEND)


def _slow_call(e: Emitter, op: Instruction, thunk: str, operation: int = -1) -> None:
    """Emit the arguments and the call of a slow path, whose start is where the caller has aimed its branch."""
    access = op.aux
    assert isinstance(access, MemAccess)
    for index, arg in enumerate(op.args):
        e.PUT_xxi(e.use_or_zero(arg, SCRATCH), ENV, OFFSET[f"arg{index}"])
    emit_constant(e, SCRATCH, access.memop.encode(access.mmu_index))
    if operation >= 0:
        emit_constant(e, SCRATCH3, operation)
    e.GET_xxi(SCRATCH2, ENV, OFFSET[thunk])
    e.BLR_x(SCRATCH2)


def _return_to(e: Emitter, hot_offset: int) -> None:
    e.B_i(0)
    e.last_field(HOT26, hot_offset)


# -- barriers ----------------------------------------------------------------------------------------------------------

_ISHLD, _ISHST, _ISH = 9, 10, 11
"""Of DMB: earlier loads with everything later; earlier stores with later stores; all with all (inner shareable)."""


def barrier_for(order: MemoryOrder) -> int | None:
    """The weakest DMB that keeps these orders; None if there is none to keep."""
    if not order:
        return None
    if not order & ~(MemoryOrder.LD_LD | MemoryOrder.LD_ST):
        return _ISHLD
    return _ISHST if not order & ~MemoryOrder.ST_ST else _ISH


def _fence(e: Emitter, order: MemoryOrder) -> None:
    kind = barrier_for(order) if e.parallel else None
    if kind is not None:
        e.DMB_i(kind)


@emits(Op.MB)
def mb(e: Emitter, op: Instruction) -> None:
    order = op.aux
    assert isinstance(order, MemoryOrder)
    _fence(e, order)


def _orders_of(e: Emitter, memop: MemOp) -> MemoryOrder:
    """The orders that the access itself has to carry."""
    return MemoryOrder(memop.order | e.config.fences) if e.parallel else MemoryOrder.NONE


_ACQUIRE: Final = MemoryOrder.LD_LD | MemoryOrder.LD_ST
_RELEASE: Final = MemoryOrder.LD_ST | MemoryOrder.ST_ST

# -- loads and stores --------------------------------------------------------------------------------------------------

_E = Emitter
_Method = Callable[..., None]
_LOADS: Final[dict[tuple[int, bool, bool], _Method]] = {
    (1, False, False): _E.LDRB_wxx, (1, False, True): _E.LDRB_wxx,
    (1, True, False): _E.LDRSB_wxx, (1, True, True): _E.LDRSB_xxx,
    (2, False, False): _E.LDRH_wxx, (2, False, True): _E.LDRH_wxx,
    (2, True, False): _E.LDRSH_wxx, (2, True, True): _E.LDRSH_xxx,
    (4, False, False): _E.LDR_wxx, (4, False, True): _E.LDR_wxx,
    (4, True, False): _E.LDR_wxx, (4, True, True): _E.LDRSW_xxx,
    (8, False, True): _E.LDR_xxx, (8, True, True): _E.LDR_xxx,
}  # fmt: skip
"""By size, whether sign-extended and whether to 64 bits."""
_STORES: Final[dict[int, _Method]] = {1: _E.STRB_wxx, 2: _E.STRH_wxx, 4: _E.STR_wxx, 8: _E.STR_xxx}
_LOAD_ACQUIRE: Final = {1: _E.LDARB_wx, 2: _E.LDARH_wx, 4: _E.LDAR_wx, 8: _E.LDAR_xx}
_LOAD_ACQUIRE_PC: Final = {1: _E.LDAPRB_wx, 2: _E.LDAPRH_wx, 4: _E.LDAPR_wx, 8: _E.LDAPR_xx}
_STORE_RELEASE: Final = {1: _E.STLRB_wx, 2: _E.STLRH_wx, 4: _E.STLR_wx, 8: _E.STLR_xx}


def _reverse(e: Emitter, target: int, source: int, size: int) -> None:
    """The low `size` bytes the other way round, zero-extended."""
    if size == 8:
        e.REV_xx(target, source)
    elif size == 4:
        e.REV_ww(target, source)
    elif size == 2:
        e.REV_ww(target, source)
        e.LSR_wwi(target, target, 16)
    else:
        e.UXTB_ww(target, source)


def _extend(e: Emitter, target: int, source: int, memop: MemOp, wide: bool) -> None:
    """The zero-extended bytes in `source` as the access's result."""
    if not memop.signed or memop.size == (8 if wide else 4):
        e.copy(target, source)
    elif memop.size == 1:
        (e.SXTB_xw if wide else e.SXTB_ww)(target, source)
    elif memop.size == 2:
        (e.SXTH_xw if wide else e.SXTH_ww)(target, source)
    else:
        (e.SXTW_xw if wide else e.MOV_ww)(target, source)


@emits(Op.LOAD)
def load(e: Emitter, op: Instruction) -> None:
    access = _access(e, op)
    memop = access.memop
    wide = is_wide(op)
    orders = _orders_of(e, memop)
    if orders & MemoryOrder.ST_LD:
        e.DMB_i(_ISH)
    acquire = bool(orders & _ACQUIRE)
    ordered = acquire and memop.align_bytes >= memop.size
    _probe(e, op, access, _READ, memop.align_bytes)
    address = e.use(op.args[0], SCRATCH2)
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_load")
    e.code = hot
    target = e.define(op, op.args)
    if ordered:
        e.ADD_xxx(SCRATCH, SCRATCH, address)
        (_LOAD_ACQUIRE_PC if e.features.lrcpc else _LOAD_ACQUIRE)[memop.size](e, target, SCRATCH)
        if memop.big_endian:
            _reverse(e, target, target, memop.size)
        _extend(e, target, target, memop, wide)
    elif memop.big_endian and memop.size > 1:
        _LOADS[memop.size, False, True](e, target, SCRATCH, address)
        _reverse(e, target, target, memop.size)
        _extend(e, target, target, memop, wide)
    else:
        _LOADS[memop.size, memop.signed, wide](e, target, SCRATCH, address)
    e.code = e.cold
    (e.GET_xxi if wide else e.GET_wxi)(target, ENV, OFFSET["result"])
    _return_to(e, len(hot))
    e.code = hot
    if acquire and not ordered:
        e.DMB_i(_ISHLD)


@emits(Op.STORE)
def store(e: Emitter, op: Instruction) -> None:
    access = _access(e, op)
    memop = access.memop
    orders = _orders_of(e, memop)
    release = bool(orders & MemoryOrder.ST_ST or memop.order & MemoryOrder.LD_ST)
    ordered = release and memop.align_bytes >= memop.size
    if release and not ordered:
        e.DMB_i(_ISH if orders & MemoryOrder.LD_ST else _ISHST)
    _probe(e, op, access, _WRITE, memop.align_bytes)
    address, value = op.args
    register = e.use(address, SCRATCH2)
    if memop.big_endian and memop.size > 1:
        source = SCRATCH3
        _reverse(e, source, e.use_or_zero(value, SCRATCH3), memop.size)
    else:
        source = e.use_or_zero(value, SCRATCH3)
    if ordered:
        e.ADD_xxx(SCRATCH, SCRATCH, register)
        _STORE_RELEASE[memop.size](e, source, SCRATCH)
    else:
        _STORES[memop.size](e, source, SCRATCH, register)
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_store")
    _return_to(e, len(hot))
    e.code = hot


# -- atomics -----------------------------------------------------------------------------------------------------------


def _in_runtime(e: Emitter, op: Instruction) -> None:
    """The whole operation in the runtime; what is left of the block only continues when nothing was raised."""
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    if op.last_use >= 0:
        (e.GET_xxi if is_wide(op) else e.GET_wxi)(e.define(op, op.args), ENV, OFFSET["result"])


def _cold_atomic(e: Emitter, op: Instruction, result: int) -> None:
    """The cold part of an access: it comes back to the end of the hot one with the result in a register."""
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    e.GET_xxi(result, ENV, OFFSET["result"])
    _return_to(e, len(hot))
    e.code = hot


@emits(*(ATOMIC_OPS.keys() - {Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE}))
def atomic(e: Emitter, op: Instruction) -> None:
    _access(e, op)
    _in_runtime(e, op)


@emits(Op.LOAD_EXCLUSIVE)
def load_exclusive(e: Emitter, op: Instruction) -> None:
    """A load, and the reservation: address, value and size, which the store compares with (fast mode)."""
    access = _access(e, op)
    memop = access.memop
    orders = _orders_of(e, memop)
    if orders & MemoryOrder.ST_LD:
        e.DMB_i(_ISH)
    if (memop.big_endian and memop.size > 1) or op.last_use < 0:
        _in_runtime(e, op)
        return
    _probe(e, op, access, _READ, memop.size)
    address = e.use(op.args[0], SCRATCH2)
    # The value is read into a scratch register: the address may die here and leave its own to the result.
    if orders & _ACQUIRE:
        e.ADD_xxx(SCRATCH, SCRATCH, address)
        (_LOAD_ACQUIRE_PC if e.features.lrcpc else _LOAD_ACQUIRE)[memop.size](e, SCRATCH, SCRATCH)
    else:
        _LOADS[memop.size, False, True](e, SCRATCH, SCRATCH, address)
    e.PUT_xxi(address, ENV, OFFSET["exclusive_address"])
    e.PUT_xxi(SCRATCH, ENV, OFFSET["exclusive_value"])
    e.MOVZ_wi(SCRATCH3, memop.size)
    e.PUT_wxi(SCRATCH3, ENV, OFFSET["exclusive_size"])
    _extend(e, SCRATCH, SCRATCH, memop, is_wide(op))
    _cold_atomic(e, op, SCRATCH)
    (e.copy if is_wide(op) else e.MOV_ww)(e.define(op, op.args), SCRATCH)


@emits(Op.STORE_EXCLUSIVE)
def store_exclusive(e: Emitter, op: Instruction) -> None:
    _access(e, op)
    _in_runtime(e, op)


@emits(Op.CLEAR_EXCLUSIVE)
def clear_exclusive(e: Emitter, op: Instruction) -> None:
    e.MOVN_xi(SCRATCH, 0)
    e.PUT_xxi(SCRATCH, ENV, OFFSET["exclusive_address"])
