# SPDX-License-Identifier: Apache-2.0
"""Guest memory: the inline software-TLB probe, its slow paths, exclusives, atomics and barriers.

The probe puts the address of the TLB entry into x16. Into x0 go the address's page number and those low bits that must
be zero for alignment. x0 is compared with the entry's comparator, whose low bits are flags that no address has. On a
hit, the entry's addend, which the same instruction has loaded, makes the guest address a host address. On a miss, the
cold part calls the runtime, which does the whole access, or leaves the block for an exception. NZCV stays as it is on
both ways. The TLB's layout is in `raddle.runtime.layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.emitter import is_wide
from raddle.codegen.runtime_calls import ATOMIC_OPS
from raddle.ir.builder import Instruction, MemAccess
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import MemOp
from raddle.runtime.layout import (
    GRANULE_BITS,
    GRANULE_LOCK,
    TLB_ADDEND,
    TLB_ENTRIES,
    TLB_ENTRY_SIZE,
    TLB_READ,
    TLB_WRITE,
)
from raddle_host_aarch64.code_buffer import Label
from raddle_host_aarch64.emitter import (
    ENV,
    FLAG_WORDS,
    SCRATCH,
    SCRATCH2,
    SCRATCH3,
    TLBS,
    Emitter,
    emit_constant,
    emits,
)
from raddle_host_aarch64.fields import COLD19
from raddle_host_aarch64.orders import ACQUIRE, ISHLD, RELEASE, has_ordered, orders_of, released_by
from raddle_host_aarch64.registers import ZR

_ENTRY_SHIFT: Final = TLB_ENTRY_SIZE.bit_length() - 1
_INDEX_BITS: Final = TLB_ENTRIES.bit_length() - 1


def _access(e: Emitter, op: Instruction) -> MemAccess:
    """How the instruction accesses memory. It may leave the block, so NZCV and FPCR are put in order first."""
    e.at_boundary()
    return e.access(op)


def _probe(e: Emitter, op: Instruction, access: MemAccess, comparator: int, align: int) -> None:
    """Emit the probe, which branches to the end of the cold part so far on a miss. On a hit x16 holds the addend."""
    page_bits = e.config.page_bits
    address = e.use(op.args[0], SCRATCH2)
    reach = access.memop.size - align
    (e.UBFX_xxii if e.wide else e.UBFX_wwii)(SCRATCH, address, page_bits, _INDEX_BITS)
    e.ADD_xxx_lsl(SCRATCH, TLBS[access.mmu_index], SCRATCH, _ENTRY_SHIFT)
    page = SCRATCH3
    if reach > 0:
        # Check the page of an unaligned access's last byte: an access that crosses pages misses.
        (e.ADD_xxi if e.wide else e.ADD_wwi)(page, address, reach)
        address = page
    mask = -(1 << page_bits) | align - 1
    if e.wide:
        e.AND_xxi(page, address, mask & (1 << 64) - 1)
    else:
        e.AND_wwi(page, address, mask & 0xFFFFFFFF)
    # The two words may be loaded in any order: other threads change flags of comparators, but no addend.
    if comparator < TLB_ADDEND:
        e.LDP_xxxi(SCRATCH2, SCRATCH, SCRATCH, comparator)
    else:
        e.LDP_xxxi(SCRATCH, SCRATCH2, SCRATCH, TLB_ADDEND)
    (e.EOR_xxx if e.wide else e.EOR_www)(page, page, SCRATCH2)
    (e.CBNZ_xi if e.wide else e.CBNZ_wi)(page, 0)
    e.last_field(COLD19, len(e.cold))


def _slow_call(e: Emitter, op: Instruction, thunk: str, operation: int = -1) -> None:
    """Emit a slow path: store the arguments and call the thunk. The caller has aimed its branches here."""
    access = op.aux
    assert isinstance(access, MemAccess)
    for index, arg in enumerate(op.args):
        e.PUT_xxi(e.use_or_zero(arg, SCRATCH), ENV, OFFSET[f"arg{index}"])
    emit_constant(e, SCRATCH, access.memop.encode(access.mmu_index))
    if operation >= 0:
        emit_constant(e, SCRATCH3, operation)
    e.GET_xxi(SCRATCH2, ENV, OFFSET[thunk])
    e.BLR_x(SCRATCH2)


@emits(Op.MB)
def mb(e: Emitter, op: Instruction) -> None:
    """The emitter puts the barrier before it."""


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


def _reverse(e: Emitter, target: int, source: int, size: int) -> None:
    """The low `size` bytes in reverse order, zero-extended."""
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


def _load_acquire(e: Emitter, size: int, target: int, base: int) -> None:
    (e.LDAPR_zrx if e.features.lrcpc else e.LDAR_zrx)(size, target, base)


@emits(Op.LOAD)
def load(e: Emitter, op: Instruction) -> None:
    access = _access(e, op)
    memop = access.memop
    wide = is_wide(op)
    acquire = bool(orders_of(e.config, memop) & ACQUIRE)
    ordered = acquire and has_ordered(memop)
    _probe(e, op, access, TLB_READ, memop.align_bytes)
    address = e.use(op.args[0], SCRATCH2)
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_load")
    e.code = hot
    target = e.define(op, op.args)
    if ordered:
        e.ADD_xxx(SCRATCH, SCRATCH, address)
        _load_acquire(e, memop.size, target, SCRATCH)
        if memop.big_endian:
            _reverse(e, target, target, memop.size)
        _extend(e, target, target, memop, wide)
    elif memop.swaps:
        _LOADS[memop.size, False, True](e, target, SCRATCH, address)
        _reverse(e, target, target, memop.size)
        _extend(e, target, target, memop, wide)
    else:
        _LOADS[memop.size, memop.signed, wide](e, target, SCRATCH, address)
    e.code = e.cold
    (e.GET_xxi if wide else e.GET_wxi)(target, ENV, OFFSET["result"])
    e.return_to_hot()
    e.code = hot
    if acquire and not ordered:
        e.DMB_i(ISHLD)


@emits(Op.STORE)
def store(e: Emitter, op: Instruction) -> None:
    access = _access(e, op)
    memop = access.memop
    ordered = bool(released_by(e.config, memop)) and has_ordered(memop)
    if e.config.strict:
        _strict_store(e, op, access, ordered)
        return
    _probe(e, op, access, TLB_WRITE, memop.align_bytes)
    address, value = op.args
    register = e.use(address, SCRATCH2)
    if memop.swaps:
        source = SCRATCH3
        _reverse(e, source, e.use_or_zero(value, SCRATCH3), memop.size)
    else:
        source = e.use_or_zero(value, SCRATCH3)
    if ordered:
        e.ADD_xxx(SCRATCH, SCRATCH, register)
        e.STLR_zrx(memop.size, source, SCRATCH)
    else:
        _STORES[memop.size](e, source, SCRATCH, register)
    _cold_store(e, op)


def _cold_store(e: Emitter, op: Instruction) -> None:
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_store")
    e.return_to_hot()
    e.code = hot


# -- atomics -----------------------------------------------------------------------------------------------------------


def _in_runtime(e: Emitter, op: Instruction) -> None:
    """Let the runtime do the whole operation. The block goes on only if that raised no exception."""
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    if op.last_use >= 0:
        (e.GET_xxi if is_wide(op) else e.GET_wxi)(e.define(op, op.args), ENV, OFFSET["result"])


def _cold_atomic(e: Emitter, op: Instruction, result: int) -> None:
    """The cold part of an atomic access. It returns to the end of the hot part with the result in a register."""
    hot = e.code
    e.code = e.cold
    _slow_call(e, op, "thunk_atomic", ATOMIC_OPS[op.op])
    e.GET_xxi(result, ENV, OFFSET["result"])
    e.return_to_hot()
    e.code = hot


_INSTRUCTIONS: Final = {
    Op.ATOMIC_XCHG: _E.SWP_zqlrrx,
    Op.ATOMIC_FETCH_ADD: _E.LDADD_zqlrrx,
    Op.ATOMIC_FETCH_AND: _E.LDCLR_zqlrrx,  # of the complement
    Op.ATOMIC_FETCH_OR: _E.LDSET_zqlrrx,
    Op.ATOMIC_FETCH_XOR: _E.LDEOR_zqlrrx,
    Op.ATOMIC_FETCH_SMIN: _E.LDSMIN_zqlrrx,
    Op.ATOMIC_FETCH_SMAX: _E.LDSMAX_zqlrrx,
    Op.ATOMIC_FETCH_UMIN: _E.LDUMIN_zqlrrx,
    Op.ATOMIC_FETCH_UMAX: _E.LDUMAX_zqlrrx,
}
"""Of FEAT_LSE; CAS is the one for compare-and-exchange."""
_PLAIN_LOADS: Final = {1: _E.LDRB_wxi, 2: _E.LDRH_wxi, 4: _E.LDR_wxi, 8: _E.LDR_xxi}
_PLAIN_STORES: Final = {1: _E.STRB_wxi, 2: _E.STRH_wxi, 4: _E.STR_wxi, 8: _E.STR_xxi}
_NEW_VALUES: Final = {
    Op.ATOMIC_FETCH_ADD: _E.ADD_xxx,
    Op.ATOMIC_FETCH_AND: _E.AND_xxx,
    Op.ATOMIC_FETCH_OR: _E.ORR_xxx,
    Op.ATOMIC_FETCH_XOR: _E.EOR_xxx,
}
"""Operations that one instruction computes without changing the host's flags."""
_BASE, _STATUS, _OPERAND = SCRATCH3, FLAG_WORDS[1], FLAG_WORDS[0]
"""Registers for atomic accesses, besides the first two scratch registers. `FLAG_WORDS` are free, since NZCV holds the
guest's flags."""


def _orders_of_both(e: Emitter, memop: MemOp) -> tuple[bool, bool]:
    """Whether an access that loads and stores acquires, and whether it releases."""
    orders = orders_of(e.config, memop)
    return bool(orders & ACQUIRE), bool(orders & RELEASE)


def _host_address(e: Emitter, op: Instruction, access: MemAccess) -> None:
    """Let `_BASE` be the host address of a naturally aligned access, or branch to the cold part."""
    _probe(e, op, access, TLB_WRITE, access.memop.size)
    e.ADD_xxx(_BASE, SCRATCH, e.use(op.args[0], SCRATCH2))


@emits(*(ATOMIC_OPS.keys() - {Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE}))
def atomic(e: Emitter, op: Instruction) -> None:
    access = _access(e, op)
    memop = access.memop
    has_instruction = e.features.lse and e.parallel
    has_loop = op.op in _NEW_VALUES or op.op in (Op.ATOMIC_XCHG, Op.ATOMIC_CMPXCHG)
    if memop.swaps or not (has_instruction or has_loop):
        _in_runtime(e, op)
        return
    acquires, releases = _orders_of_both(e, memop)
    if e.config.strict:
        _in_runtime(e, op)
        return
    _host_address(e, op, access)
    if not has_instruction:
        _loop(e, op, memop.size, acquires, releases)
    elif op.op is Op.ATOMIC_CMPXCHG:
        e.move(SCRATCH2, op.args[1])
        new = e.use_or_zero(op.args[2], SCRATCH)
        e.CAS_zqlrrx(memop.size, acquires, releases, SCRATCH2, new, _BASE)
    else:
        operand = e.use_or_zero(op.args[1], SCRATCH)
        if op.op is Op.ATOMIC_FETCH_AND:
            e.MVN_xx(SCRATCH, operand)
            operand = SCRATCH
        _INSTRUCTIONS[op.op](e, memop.size, acquires, releases, operand, SCRATCH2, _BASE)
    _extend(e, SCRATCH2, SCRATCH2, memop, is_wide(op))
    _cold_atomic(e, op, SCRATCH2)
    if op.last_use >= 0:
        target = e.define(op, op.args)
        (e.copy if is_wide(op) else e.MOV_ww)(target, SCRATCH2)


def _loop(e: Emitter, op: Instruction, size: int, acquires: bool, releases: bool) -> None:
    """Emit the operation with exclusive accesses, or with plain ones if only one vCPU runs at a time. The old value is
    in x17 afterwards.
    """
    operand = e.use_or_zero(op.args[1], _OPERAND)
    retry, ends = e.label(), e.label()
    e.bind(retry)
    if e.parallel:
        e.LDXR_zqrx(size, acquires, SCRATCH2, _BASE)
    else:
        _PLAIN_LOADS[size](e, SCRATCH2, _BASE, 0)
    if op.op is Op.ATOMIC_CMPXCHG:
        (e.EOR_xxx if size == 8 else e.EOR_www)(SCRATCH, SCRATCH2, operand)
        if size < 4:
            e.UBFX_wwii(SCRATCH, SCRATCH, 0, 8 * size)
        e.CBNZ_x_label(SCRATCH, ends)
        new = e.use_or_zero(op.args[2], SCRATCH)
    elif op.op is Op.ATOMIC_XCHG:
        new = operand
    else:
        _NEW_VALUES[op.op](e, SCRATCH, SCRATCH2, operand)
        new = SCRATCH
    if e.parallel:
        e.STXR_zlwrx(size, releases, _STATUS, new, _BASE)
        e.CBNZ_w_label(_STATUS, retry)
    else:
        _PLAIN_STORES[size](e, new, _BASE, 0)
    e.bind(ends)


@emits(Op.LOAD_EXCLUSIVE)
def load_exclusive(e: Emitter, op: Instruction) -> None:
    """Load, and reserve: address, size and the value, which a store-exclusive compares with if it is not exact."""
    access = _access(e, op)
    memop = access.memop
    acquires = bool(orders_of(e.config, memop) & ACQUIRE)
    if memop.swaps or op.last_use < 0:
        _in_runtime(e, op)
        return
    if e.config.strict:
        _strict_load_exclusive(e, op, access, acquires)
        return
    _probe(e, op, access, TLB_READ, memop.size)
    address = e.use(op.args[0], SCRATCH2)
    # Load into a scratch register: the address may die here, and the result may get its register.
    if acquires:
        e.ADD_xxx(SCRATCH, SCRATCH, address)
        _load_acquire(e, memop.size, SCRATCH, SCRATCH)
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
    """If not exact: store if address and size are the reserved ones, and memory still holds the value read."""
    access = _access(e, op)
    memop = access.memop
    if memop.swaps:
        _in_runtime(e, op)
        return
    _, releases = _orders_of_both(e, memop)
    _host_address(e, op, access)
    if e.config.strict:
        _strict_store_exclusive(e, op, memop, releases)
        return
    address = e.use(op.args[0], SCRATCH2)
    e.GET_xxi(SCRATCH, ENV, OFFSET["exclusive_address"])
    e.EOR_xxx(SCRATCH, SCRATCH, address)
    e.MOVN_xi(SCRATCH2, 0)
    e.PUT_xxi(SCRATCH2, ENV, OFFSET["exclusive_address"])
    fails, ends = e.label(), e.label()
    e.CBNZ_x_label(SCRATCH, fails)
    e.GET_wxi(SCRATCH, ENV, OFFSET["exclusive_size"])
    e.SUB_wwi(SCRATCH, SCRATCH, memop.size)
    e.CBNZ_w_label(SCRATCH, fails)
    value = e.use_or_zero(op.args[1], _OPERAND)
    e.GET_xxi(SCRATCH2, ENV, OFFSET["exclusive_value"])
    _store_if_same(e, memop.size, value, releases, fails)
    # x16 is 0 here.
    e.B_label(ends)
    e.bind(fails)
    e.MOVZ_wi(SCRATCH, 1)
    e.bind(ends)
    _cold_atomic(e, op, SCRATCH)
    if op.last_use >= 0:
        e.MOV_ww(e.define(op, op.args), SCRATCH)


def _store_if_same(e: Emitter, size: int, value: int, releases: bool, fails: Label) -> None:
    """Store `value` if memory at `_BASE` is equal to x17, which is zero-extended; else branch. x16 is 0 after the
    store.
    """
    if e.parallel and e.features.lse:
        e.MOV_xx(SCRATCH, SCRATCH2)
        e.CAS_zqlrrx(size, False, releases, SCRATCH, value, _BASE)
        e.EOR_xxx(SCRATCH, SCRATCH, SCRATCH2)
        e.CBNZ_x_label(SCRATCH, fails)
        return
    retry = e.label()
    e.bind(retry)
    if e.parallel:
        e.LDXR_zqrx(size, False, SCRATCH, _BASE)
    else:
        _PLAIN_LOADS[size](e, SCRATCH, _BASE, 0)
    e.EOR_xxx(SCRATCH, SCRATCH, SCRATCH2)
    e.CBNZ_x_label(SCRATCH, fails)
    if e.parallel:
        e.STXR_zlwrx(size, releases, SCRATCH, value, _BASE)
        e.CBNZ_w_label(SCRATCH, retry)
    else:
        _PLAIN_STORES[size](e, value, _BASE, 0)


@emits(Op.CLEAR_EXCLUSIVE)
def clear_exclusive(e: Emitter, op: Instruction) -> None:
    e.MOVN_xi(SCRATCH, 0)
    e.PUT_xxi(SCRATCH, ENV, OFFSET["exclusive_address"])


# -- exact reservations: the runtime's granules.c has the rules for a granule's word -----------------------------------

_WORD_BYTES: Final = 4
_WORD, _HELD = FLAG_WORDS[1], SCRATCH2
"""The address of a granule's word, and the word's value before it was locked: the reservations."""


def _lock_granule(e: Emitter) -> None:
    """Lock the granule of the host address in `_BASE`, or branch to the cold part if the lock is taken."""
    e.LSR_xxi(SCRATCH, _BASE, GRANULE_BITS)
    e.GET_xxi(_WORD, ENV, OFFSET["granules"])
    e.ADD_xxx_lsl(_WORD, _WORD, SCRATCH, 2)
    if e.features.lse:
        e.MOVZ_wi_16(SCRATCH, 1 << GRANULE_LOCK - 16)
        e.LDSET_zqlrrx(_WORD_BYTES, True, False, SCRATCH, _HELD, _WORD)
    retry = e.label()
    e.bind(retry)
    if not e.features.lse:
        e.LDXR_zqrx(_WORD_BYTES, True, _HELD, _WORD)
    e.LSR_wwi(SCRATCH, _HELD, GRANULE_LOCK)
    e.CBNZ_wi(SCRATCH, 0)
    e.last_field(COLD19, len(e.cold))
    if not e.features.lse:
        e.ORR_wwi(SCRATCH, _HELD, 1 << GRANULE_LOCK)
        e.STXR_zlwrx(_WORD_BYTES, False, _OPERAND, SCRATCH, _WORD)
        e.CBNZ_w_label(_OPERAND, retry)


def _store_at_base(e: Emitter, memop: MemOp, value: Instruction, releases: bool) -> None:
    source = e.use_or_zero(value, _OPERAND)
    if memop.swaps:
        _reverse(e, _OPERAND, source, memop.size)
        source = _OPERAND
    if releases:
        e.STLR_zrx(memop.size, source, _BASE)
    else:
        _PLAIN_STORES[memop.size](e, source, _BASE, 0)


def _strict_store(e: Emitter, op: Instruction, access: MemAccess, releases: bool) -> None:
    """A store that ends all reservations of its granule but the vCPU's own. An unaligned one takes the slow path."""
    memop = access.memop
    _probe(e, op, access, TLB_WRITE, max(memop.size, memop.align_bytes))
    e.ADD_xxx(_BASE, SCRATCH, e.use(op.args[0], SCRATCH2))
    _lock_granule(e)
    _store_at_base(e, memop, op.args[1], releases)
    e.GET_wxi(SCRATCH, ENV, OFFSET["reservation"])
    e.AND_www(SCRATCH, SCRATCH, _HELD)
    e.STLR_zrx(_WORD_BYTES, SCRATCH, _WORD)
    _cold_store(e, op)


def _strict_load_exclusive(e: Emitter, op: Instruction, access: MemAccess, acquires: bool) -> None:
    memop = access.memop
    _probe(e, op, access, TLB_READ, memop.size)
    e.ADD_xxx(_BASE, SCRATCH, e.use(op.args[0], SCRATCH2))
    _lock_granule(e)
    if acquires:
        _load_acquire(e, memop.size, SCRATCH, _BASE)
    else:
        _PLAIN_LOADS[memop.size](e, SCRATCH, _BASE, 0)
    e.GET_wxi(_BASE, ENV, OFFSET["reservation"])
    e.ORR_www(_HELD, _HELD, _BASE)
    e.STLR_zrx(_WORD_BYTES, _HELD, _WORD)
    e.PUT_xxi(_WORD, ENV, OFFSET["exclusive_value"])
    e.PUT_xxi(e.use(op.args[0], SCRATCH2), ENV, OFFSET["exclusive_address"])
    e.MOVZ_wi(_BASE, memop.size)
    e.PUT_wxi(_BASE, ENV, OFFSET["exclusive_size"])
    _extend(e, SCRATCH, SCRATCH, memop, is_wide(op))
    _cold_atomic(e, op, SCRATCH)
    (e.copy if is_wide(op) else e.MOV_ww)(e.define(op, op.args), SCRATCH)


def _strict_store_exclusive(e: Emitter, op: Instruction, memop: MemOp, releases: bool) -> None:
    """Store if address, size and granule are the reserved ones, and nobody else has written to the granule since.

    `_BASE` is the host address.
    """
    fails, lost, ends = e.label(), e.label(), e.label()
    address = e.use(op.args[0], SCRATCH2)
    e.GET_xxi(SCRATCH, ENV, OFFSET["exclusive_address"])
    e.EOR_xxx(SCRATCH, SCRATCH, address)
    e.CBNZ_x_label(SCRATCH, fails)
    e.GET_wxi(SCRATCH, ENV, OFFSET["exclusive_size"])
    e.SUB_wwi(SCRATCH, SCRATCH, memop.size)
    e.CBNZ_w_label(SCRATCH, fails)
    _lock_granule(e)
    e.GET_xxi(SCRATCH, ENV, OFFSET["exclusive_value"])
    e.EOR_xxx(SCRATCH, SCRATCH, _WORD)
    e.CBNZ_x_label(SCRATCH, lost)
    e.GET_wxi(SCRATCH, ENV, OFFSET["reservation"])
    e.AND_www(SCRATCH, SCRATCH, _HELD)
    e.CBZ_w_label(SCRATCH, lost)
    _store_at_base(e, memop, op.args[1], releases)
    e.STLR_zrx(_WORD_BYTES, ZR, _WORD)
    e.MOVZ_wi(SCRATCH, 0)
    e.B_label(ends)
    e.bind(lost)
    e.STLR_zrx(_WORD_BYTES, _HELD, _WORD)
    e.bind(fails)
    e.MOVZ_wi(SCRATCH, 1)
    e.bind(ends)
    e.MOVN_xi(SCRATCH2, 0)
    e.PUT_xxi(SCRATCH2, ENV, OFFSET["exclusive_address"])
    _cold_atomic(e, op, SCRATCH)
    if op.last_use >= 0:
        e.MOV_ww(e.define(op, op.args), SCRATCH)
