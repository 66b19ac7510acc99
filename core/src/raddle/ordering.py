# SPDX-License-Identifier: Apache-2.0
"""Memory order: what a guest may count on, what a host keeps, and the barriers that make up the difference."""

from __future__ import annotations

from enum import IntFlag

__all__ = ["MemoryOrder", "missing", "names"]


class MemoryOrder(IntFlag):
    """Pairs of accesses that stay in program order as every other CPU sees them.

    `X_Y` means that an earlier X is ordered before a later Y. So ST_LD, the pair that a store buffer breaks, is an
    earlier store before a later load. NONE is a weakly ordered machine, ALL a sequentially consistent one. As the
    operand of the IR's `mb` it says which pairs the barrier orders.
    """

    NONE = 0
    LD_LD = 1
    LD_ST = 2
    ST_LD = 4
    ST_ST = 8
    ALL = LD_LD | LD_ST | ST_LD | ST_ST


def missing(guest: MemoryOrder, host: MemoryOrder) -> MemoryOrder:
    """The orders that `guest` requires and `host` does not keep by itself.

    `guest` is a guest's default order, or the strength of one barrier of its program. Host code must add barriers for
    the result; NONE means that none is needed.
    """
    return guest & ~host


def names(orders: MemoryOrder) -> tuple[str, ...]:
    """The single orders in `orders` by name, in the order of their declaration."""
    return tuple(order.name for order in MemoryOrder if order in orders and order.name is not None)
