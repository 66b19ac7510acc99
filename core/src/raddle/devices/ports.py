# SPDX-License-Identifier: Apache-2.0
"""A space of I/O ports in one region of memory: devices of a few registers each, at port numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from raddle.devices.base import WRITE, Device
from raddle.errors import RaddleError
from raddle.ir.builder import Builder, Value, native
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type

__all__ = ["PortRange", "Ports"]

NOTHING: Final = 0xFF
"""What a read of a port sees at which no device answers."""


class PortRange(NamedTuple):
    """The `ports` ports from `first` on are the registers of `device` from `offset` on."""

    first: int
    ports: int
    device: Device
    offset: int = 0


class Ports:
    """The handler of the region: gives each access to the device at its ports. Called under the big lock.

    Ports without a device read as ones, and ignore what is written. An access that reaches several devices, or that is
    wider than a device's register, is split into bytes.
    """

    def __init__(self, ranges: list[PortRange], values: Mapping[int, int] | None = None) -> None:
        """`values` has what single ports without a device show instead of ones. Raises RaddleError where two devices
        have a port in common.
        """
        self._ranges = ranges
        self._values = dict(values or {})
        self._at: dict[int, PortRange] = {}
        for one in ranges:
            for port in range(one.first, one.first + one.ports):
                if port in self._at:
                    raise RaddleError(f"{one.device.NAME} and {self._at[port].device.NAME} both have port {port:#x}")
                self._at[port] = one

    def read(self, port: int, size: int) -> int:
        """Read `size` bytes at a port, little-endian."""
        one = self._at.get(port)
        if one is not None and port + size <= one.first + one.ports:
            return one.device.read(one.offset + port - one.first, size)
        if size == 1:
            return self._values.get(port, NOTHING)
        return sum(self.read(port + n, 1) << 8 * n for n in range(size))

    def write(self, port: int, size: int, value: int) -> None:
        """Write the low `size` bytes of `value` at a port, little-endian."""
        one = self._at.get(port)
        if one is not None and port + size <= one.first + one.ports:
            one.device.write(one.offset + port - one.first, size, value)
        elif size > 1:
            for n in range(size):
                self.write(port + n, 1, value >> 8 * n & 0xFF)

    def routine(self, b: Builder) -> None:
        """Build the region's routine: what each device serves without Python, and single reads and writes of ports
        without a device.
        """
        arguments = [b.get(COMMON[f"arg{n}"]) for n in range(4)]
        port, how, value = arguments[:3]
        for one in self._ranges:
            place = b.sub(port, one.first)
            size = b.and_(how, WRITE - 1)
            begins, ends = b.icmp(Condition.ULT, place, one.ports), b.icmp(Condition.ULE, b.add(place, size), one.ports)
            with b.if_(b.and_(begins, ends)):
                one.device.serve_natively(b, b.add(place, one.offset), how, value)
                _pass_on(b, arguments)
        for known in self._values:
            with b.if_(b.eq(port, known)):
                _pass_on(b, arguments)
        with b.if_(b.eq(b.and_(how, WRITE - 1), 1)):
            b.ret(b.const(NOTHING, Type.I64))
        _pass_on(b, arguments)


def _pass_on(b: Builder, arguments: list[Value]) -> None:
    b.ret(b.call(native("io_python"), *arguments, type=Type.I64))
