# SPDX-License-Identifier: Apache-2.0
"""Which barriers of a block are superfluous, because a neighbour keeps the same orders.

A barrier puts every earlier access X before every later access Y, for the pairs X_Y that it keeps. After it, a second
one adds a pair X_Y only if there is an X between the two. Within an instruction the emitter leaves out what adds
nothing (`raddle.codegen.emitter.Emitter`). Between instructions the joiner does (runtime/native/join.c), by what
`pack_orders` says of each. It can only leave out code at the start of an instruction's hot part, so the emitter puts
the first barrier there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from raddle.ir.builder import Instruction
from raddle.ir.opcodes import TABLE, Effect, Op
from raddle.ordering import MemoryOrder

_AFTER_LOADS: Final = MemoryOrder.LD_LD | MemoryOrder.LD_ST
_AFTER_STORES: Final = MemoryOrder.ST_LD | MemoryOrder.ST_ST
_ALL: Final = int(MemoryOrder.ALL)
_ACCESSES: Final = Effect.READ_MEMORY | Effect.WRITE_MEMORY

# A helper or a routine may access anything, as the operations' table says of calls.
ENDS_ORDER: Final[Mapping[Op, int]] = {
    op: int(
        (_AFTER_LOADS if info.effects & Effect.READ_MEMORY else MemoryOrder.NONE)
        | (_AFTER_STORES if info.effects & Effect.WRITE_MEMORY else MemoryOrder.NONE)
    )
    for op, info in TABLE.items()
    if info.effects & _ACCESSES and op is not Op.MB
}
"""For each operation that accesses memory, the orders that barriers before it do not keep for what it accesses."""
MAY_LEAVE: Final = frozenset(
    op
    for op, info in TABLE.items()
    if op in ENDS_ORDER or op is Op.LABEL or info.effects & (Effect.FAULT | Effect.END | Effect.EXIT)
)
"""Operations that access memory, may leave the block, or are not certain to run each time."""
MOST_BYTES: Final = 255
"""Longest barrier that the joiner can leave out."""


class HeadBarrier(NamedTuple):
    """The barrier with which an instruction's hot part starts."""

    size: int
    """Bytes."""
    wanted: MemoryOrder
    """Orders that it is there for: where they hold already, the joiner leaves it out."""
    kept: MemoryOrder
    """All orders that it keeps, if it is not left out."""


def pack_orders(code: Sequence[Instruction], barrier: HeadBarrier | None, kept: int) -> int:
    """What the joiner must know about the barriers of a variant, whose IR is ``code``; 0 if nothing is known.

    ``kept`` are the orders that hold at its end between everything before and everything after, whether or not the
    ``barrier`` is left out.
    """
    leaving = MAY_LEAVE.intersection([ins.op for ins in code])
    ended = 0
    for op in leaving:
        ended |= ENDS_ORDER.get(op, 0)
    size, wanted, gives = barrier or (0, 0, 0)
    return size | wanted << 8 | gives << 12 | (_ALL & ~ended) << 16 | kept << 20 | (not leaving) << 24
