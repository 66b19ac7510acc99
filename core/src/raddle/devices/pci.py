# SPDX-License-Identifier: Apache-2.0
"""PCI configuration space (PCI Local Bus Specification 3.0, section 6.1) of a bus without devices."""

from __future__ import annotations

from raddle.ir.builder import Builder
from raddle.ir.header import COMMON
from raddle.ir.types import Type

__all__ = ["EmptyConfiguration"]


class EmptyConfiguration:
    """No slot answers: a read, with which a bus is scanned, is all ones, and a write changes nothing."""

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        pass

    @staticmethod
    def routine(b: Builder) -> None:
        """Build the region's routine. The runtime takes the low bytes of the result."""
        b.get(COMMON["arg0"])
        b.ret(b.const(-1, Type.I64))
