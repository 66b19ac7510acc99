# SPDX-License-Identifier: Apache-2.0
"""I/O ports: devices at port numbers in one region, in Python and in the routine; PCI configuration space."""

from itertools import product
from typing import ClassVar

import pytest

from raddle.devices import Device, Register
from raddle.devices.pci import EmptyConfiguration
from raddle.devices.ports import PortRange, Ports
from raddle.errors import RaddleError
from raddle.testing.device_bench import Native


class Small(Device):
    NAME = "small"
    SIZE = 4
    REGISTERS: ClassVar = (
        Register(0, "HOT", size=1, reset=0x12, writable=0xFF, hot=True),
        Register(1, "COLD", size=1, reset=0x34, writable=0xFF),
        Register(2, "PAIR", size=1, count=2, reset=0x56, writable=0xFF, hot=True),
    )


@pytest.fixture
def device():
    return Small()


@pytest.fixture
def ports(device):
    return Ports([PortRange(0x20, 2, device), PortRange(0xA0, 2, device, 2)], {0x64: 0})


def test_each_range_shows_its_registers(ports, device):
    assert [ports.read(port, 1) for port in (0x20, 0x21, 0xA0, 0xA1)] == [0x12, 0x34, 0x56, 0x56]
    ports.write(0xA1, 1, 0x99)
    assert device.read(3, 1) == 0x99


def test_ports_without_a_device_read_as_ones_or_as_they_are_said_to(ports):
    assert ports.read(0x60, 1) == 0xFF
    assert ports.read(0x64, 1) == 0
    assert ports.read(0x300, 4) == 0xFFFF_FFFF
    ports.write(0x300, 4, 0)
    ports.write(0x64, 1, 3)
    assert ports.read(0x64, 1) == 0


def test_wide_accesses_go_on_beyond_a_range(ports, device):
    assert ports.read(0x20, 2) == 0x3412
    assert ports.read(0x1F, 4) == 0xFF34_12FF
    ports.write(0x1F, 4, 0x4433_2211)
    assert (device.read(0, 1), device.read(1, 1)) == (0x22, 0x33)


def test_two_devices_cannot_have_a_port_in_common(device):
    with pytest.raises(RaddleError, match="small and small both have port 0x21"):
        Ports([PortRange(0x20, 2, device), PortRange(0x21, 2, device)])


def test_the_routine_serves_hot_registers_and_empty_ports(ports):
    native = Native(ports)
    for port, size in product((0x1E, 0x1F, 0x20, 0x21, 0x22, 0x60, 0x64, 0xA0, 0xA1, 0xA2, 0xFFFF), (1, 2, 4)):
        before = len(native.passed)
        assert native.read(port, size) == ports.read(port, size), (port, size)
        served = size == 1 and port not in (0x21, 0x64)
        assert len(native.passed) - before == (not served), (port, size)
    native.write(0x300, 1, 5)
    assert (0x300, 0x101) not in native.passed
    native.write(0xA0, 1, 7)
    assert ports.read(0xA0, 1) == 7


def test_no_slot_of_an_empty_bus_answers():
    space = EmptyConfiguration()
    native = Native(space)
    for offset, size in product((0, 0x800, 0xFF_FFFC), (1, 2, 4)):
        assert space.read(offset, size) == native.read(offset, size) == (1 << 8 * size) - 1
        space.write(offset, size, 0)
    assert native.passed == []
