# SPDX-License-Identifier: Apache-2.0
"""Memory orders: which of them an access keeps by itself, and which need a barrier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from raddle.ir.builder import Instruction, MemAccess
from raddle.ir.opcodes import Op
from raddle.ir.types import MemOp
from raddle.ordering import MemoryOrder

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig

ACQUIRE: Final = MemoryOrder.LD_LD | MemoryOrder.LD_ST
RELEASE: Final = MemoryOrder.LD_ST | MemoryOrder.ST_ST
ISHLD, ISHST, ISH = 9, 10, 11
"""Operands of DMB, inner shareable."""
KEPT: Final[Mapping[int, MemoryOrder]] = {ISHLD: ACQUIRE, ISHST: MemoryOrder.ST_ST, ISH: MemoryOrder.ALL}
"""They order earlier loads with everything later, earlier stores with later stores, and everything with everything."""


def barrier_for(order: MemoryOrder) -> int:
    """The weakest DMB that keeps these orders."""
    return next(kind for kind, kept in KEPT.items() if not order & ~kept)


def orders_of(config: CodegenConfig, memop: MemOp) -> MemoryOrder:
    """The orders that an access must keep."""
    return MemoryOrder(memop.order | config.fences) if config.parallel else MemoryOrder.NONE


def has_ordered(memop: MemOp) -> bool:
    """Whether the access may be one of the instructions that acquire or release, which want aligned addresses."""
    return memop.align_bytes >= memop.size


def released_by(config: CodegenConfig, memop: MemOp) -> MemoryOrder:
    """The orders for which a store must release. It need not keep the guest's LD_ST: each load does."""
    orders = orders_of(config, memop)
    needs = orders and (orders & MemoryOrder.ST_ST or memop.order & MemoryOrder.LD_ST)
    return orders & RELEASE if needs else MemoryOrder.NONE


def order_before(config: CodegenConfig, ins: Instruction) -> MemoryOrder:
    """The orders that need a barrier before ``ins``."""
    access = ins.aux
    if isinstance(access, MemoryOrder):
        return access
    assert isinstance(access, MemAccess)
    if not access.memop.order and not config.fences:
        return MemoryOrder.NONE
    if ins.op is Op.STORE:
        return MemoryOrder.NONE if has_ordered(access.memop) else released_by(config, access.memop)
    return orders_of(config, access.memop) & MemoryOrder.ST_LD
