# SPDX-License-Identifier: Apache-2.0
"""Barriers of a block, and which of them are superfluous, because a neighbour keeps the same orders.

A barrier puts every earlier access X before every later access Y, for the pairs X_Y that it keeps. After it, a second
one adds a pair X_Y only if there is an X between the two. Within an instruction the emitter leaves out what adds
nothing (`BarrierMerging`). Between instructions the joiner does (runtime/native/join.c), by what `pack_orders` says of
each. It can only leave out code at the start of an instruction's hot part, so the emitter puts the first barrier there.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, NamedTuple

from raddle.codegen.code_parts import CodeParts, L
from raddle.codegen.flag_capture import FlagCapture
from raddle.ir.opcodes import Effect, Op, operations_with
from raddle.ordering import MemoryOrder

if TYPE_CHECKING:
    from raddle.ir.builder import Instruction

_AFTER_LOADS: Final = int(MemoryOrder.LD_LD | MemoryOrder.LD_ST)
_AFTER_STORES: Final = int(MemoryOrder.ST_LD | MemoryOrder.ST_ST)
_ALL: Final = int(MemoryOrder.ALL)
# A helper or a routine may access anything, as the operations' table says of calls.
_LOADS: Final = operations_with(Effect.READ_MEMORY) - {Op.MB}
_STORES: Final = operations_with(Effect.WRITE_MEMORY) - {Op.MB}

ENDS_ORDER: Final[Mapping[Op, int]] = {
    op: (_AFTER_LOADS if op in _LOADS else 0) | (_AFTER_STORES if op in _STORES else 0) for op in _LOADS | _STORES
}
"""For each operation that accesses memory, the orders that barriers before it do not keep for what it accesses."""
ACTIVE: Final = _LOADS | _STORES | {Op.LABEL} | operations_with(Effect.FAULT | Effect.END | Effect.EXIT)
"""Operations that access memory, may leave the block, or are not certain to run each time. All others are inert: it is
the same whether a barrier stands before or behind them.
"""
MOST_BYTES: Final = 255
"""Longest barrier that the joiner can leave out."""
_NOTHING: Final[frozenset[Op]] = frozenset()


class HeadBarrier(NamedTuple):
    """The barrier with which an instruction's hot part starts."""

    size: int
    """Bytes."""
    wanted: MemoryOrder
    """Orders that it is there for: where they hold already, the joiner leaves it out."""
    keeps: MemoryOrder
    """All orders that it keeps, if it is not left out."""


class BarrierMerging(CodeParts[L], FlagCapture):
    """Emits the barriers of a function, but for those that another one makes superfluous. A mixin."""

    behind_barriers: frozenset[Op] = _NOTHING
    """Operations before which `keep_order` emits the barriers that `order_before` asks for. `Op.MB` is one of them, and
    its handler emits nothing. A host that leaves this empty emits all barriers in its handlers."""
    orders_kept: int
    """MemoryOrder bits: the orders that barriers of this function keep between all accesses before this place and all
    after it."""
    head_barrier: HeadBarrier | None
    """The barrier at the start of the hot part."""

    def order_before(self, ins: Instruction) -> MemoryOrder:
        """The orders that a barrier must keep before ``ins``, which is one of `behind_barriers`; of an `MB`, those that
        it names. Without orders that the host keeps by itself.
        """
        return MemoryOrder.NONE

    def fence(self, order: MemoryOrder) -> MemoryOrder:
        """Emit the weakest barrier that keeps ``order``, which is not empty; returns all orders that it keeps."""
        raise NotImplementedError

    def begin_barriers(self, operations: AbstractSet[Op]) -> frozenset[Op]:
        """Call this before emitting a function that has these operations. Returns those before which `keep_order` is to
        be called.
        """
        self.orders_kept, self.head_barrier = 0, None
        if self.behind_barriers.isdisjoint(operations):
            return _NOTHING
        if not self.routine:
            self._start_with_barrier()
        return self.behind_barriers | ACTIVE

    def keep_order(self, ins: Instruction) -> None:
        """Emit the barrier that the operation at hand needs before it, unless others keep its orders, and note what it
        does to orders that are kept.
        """
        order = self._order_at(self.position) if ins.op in self.behind_barriers else MemoryOrder.NONE
        # On its way out of the block, or rare code: then nothing is kept since its label, which the hot part has met.
        if self.in_cold:
            if order:
                self.fence(order)
            return
        if order & ~self.orders_kept:
            self.orders_kept |= self.fence(order)
        # Other paths lead to a label; what they have done is not followed.
        self.orders_kept = 0 if ins.op is Op.LABEL else self.orders_kept & ~ENDS_ORDER.get(ins.op, 0)

    def _order_at(self, position: int) -> MemoryOrder:
        """`order_before` the operation there; none if it is an `MB`, and the next one names all of its orders."""
        ins = self.function[position]
        order = self.order_before(ins)
        if order and ins.op is Op.MB and position + 1 < len(self.function):
            following = self.function[position + 1]
            if following.op is Op.MB and not order & ~self.order_before(following):
                return MemoryOrder.NONE
        return order

    def _start_with_barrier(self) -> None:
        """Emit the first barrier before all else, where the joiner can leave it out. It may precede what is inert, but
        only where it is certain to come.
        """
        behind_barriers = self.behind_barriers
        for position, ins in enumerate(self.function):
            if ins.op in behind_barriers and (order := self._order_at(position)):
                keeps = self.fence(order)
                # The joiner leaves out bytes, and not what is filled in there.
                has_fields = self.hot_relocs or self.hot_holes or self.jumps or self.cold
                if len(self.code) <= MOST_BYTES and not has_fields:
                    self.head_barrier = HeadBarrier(len(self.code), order, keeps)
                # No more than `order`: where the joiner leaves the barrier out, nothing else may hold.
                self.orders_kept = int(order)
                return
            if ins.op in ACTIVE:
                return


def pack_orders(operations: AbstractSet[Op], barrier: HeadBarrier | None, kept: int) -> int:
    """What the joiner must know about the barriers of a variant that has these operations (api.h has the bits).

    ``kept`` are the orders that hold at its end between everything before and everything after, whether or not the
    ``barrier`` is left out.
    """
    ended = 0
    for op in operations & ENDS_ORDER.keys():
        ended |= ENDS_ORDER[op]
    size, wanted, keeps = barrier or (0, 0, 0)
    inert = ACTIVE.isdisjoint(operations)
    return size | wanted << 8 | keeps << 12 | (_ALL & ~ended) << 16 | kept << 20 | inert << 24
