# SPDX-License-Identifier: Apache-2.0
"""The state of devices, saved and restored; and that a state that is forgotten is noticed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from raddle.devices.base import MASK
from raddle.devices.cfi_flash import CfiFlash
from raddle.devices.fw_cfg import FwCfg, Item
from raddle.devices.i8254 import I8254
from raddle.devices.i8259 import I8259Pair
from raddle.devices.mc146818 import MC146818
from raddle.devices.pl011 import PL011
from raddle.devices.pl031 import PL031
from raddle.devices.uart16550 import UART16550
from raddle.devices.virtio_mmio import VirtioSlots
from raddle.stateful import Stateful
from raddle.testing.device_contract import Bench, DeviceContract


def writes(device: Any, *accesses: tuple[int, int], size: int = 1) -> Callable[[], None]:
    """An event: these values are written to these offsets."""

    def write() -> None:
        for offset, value in accesses:
            device.write(offset, size, value)

    return write


class TestPl011(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        uart = PL011(bench.console, bench.line(), bench.clock)
        dr, lcr_h, cr, imsc, icr = 0x00, 0x2C, 0x30, 0x38, 0x44
        native = bench.native(uart)
        sends = writes(native, (cr, 0x300), *((dr, byte) for byte in b"abc"), size=4)
        overrun = writes(uart, (lcr_h, 0), (cr, 0x380), (dr, 1), (dr, 2), size=4)
        silenced = writes(uart, (imsc, 0x50), (icr, 0x50), size=4)
        bench.events += [uart.receive, uart.settle, sends, sends, overrun, silenced, lambda: uart.read(dr, 4)]
        return uart


class TestUart16550(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        uart = UART16550(bench.console, bench.line(), bench.clock)
        data, ier, lcr, mcr = 0, 1, 3, 4
        sends = writes(bench.native(uart), (lcr, 3), (ier, 1), (mcr, 0), *((data, byte) for byte in b"abc"))
        interrupts = writes(uart, (lcr, 3), (mcr, 0), (ier, 2), (data, 0x78))
        divides = writes(uart, (lcr, 0x83), (data, 0x12), (ier, 0x34), (lcr, 3))
        shows = writes(uart, (lcr, 0x83))
        bench.events += [uart.receive, uart.settle, sends, sends, interrupts, divides, shows]
        return uart


class TestPl031(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        rtc = PL031(bench.clock, bench.line(), bench.time_of_day)
        dr, mr, imsc, icr = 0x00, 0x04, 0x10, 0x1C
        soon = [lambda n=n: rtc.write(mr, 4, rtc.read(dr, 4) + n & MASK) for n in (1, 2, 3)]
        bench.events += [*soon, writes(rtc, (imsc, 1), size=4), writes(rtc, (icr, 1), size=4)]
        bench.events += [lambda: bench.clock.move(1)] * 2
        return rtc


class TestMc146818(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        def tick(_: object, count: int) -> None:
            bench.cpus[0].lines += count

        rtc = MC146818(bench.clock, bench.line(), bench.time_of_day, "tick")
        bench.clock.routines, bench.clock.callees["tick"] = rtc.routines(), tick
        a, b, alarm = 10, 11, (1, 3, 5)
        for index, values in ((a, (0x26, 0x2F, 0x2F, 0x70)), (b, (0x42, 0x42, 0x42, 0x72, 0x82))):
            bench.events += [writes(rtc, (0, index), (1, value)) for value in values]
        any_time = [(port, value) for index in alarm for port, value in ((0, index), (1, 0xFF))]
        bench.events += [writes(rtc, (0, a), (1, 0x26), *any_time, (0, b), (1, value)) for value in (0x22, 0x12, 0x32)]
        bench.events += [lambda: bench.clock.move(1), lambda: (rtc.write(0, 1, 12), rtc.read(1, 1))] * 3
        return rtc


class TestI8254(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        timer = I8254(bench.clock, bench.line())
        control, port = 3, 4
        counts = [writes(timer, (port, 1), (control, word), (2, 0), (2, 0x40)) for word in (0xB0, 0xB8, 0xB6)]
        bench.events += [
            *counts,
            *[writes(timer, (port, 0))] * 3,
            writes(timer, (port, 1)),
            writes(timer, (control, 0xC8)),
        ]
        return timer


class TestI8259(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        pair = I8259Pair(bench.line())
        bench.inputs += [line for number, line in enumerate(pair.inputs) if number != 2]
        for chip in (0, 2):
            begins = [writes(pair, (chip, 0x11), *((chip + 1, word) for word in (8, 4, last))) for last in (1, 3, 0x11)]
            begins.append(writes(pair, (chip, 0x11)))
            words = [
                writes(pair, (chip, word)) for word in (0x0A, 0x0B, 0x0C, 0x68, 0x48, 0x20, 0x80, 0xA0, 0xC3, 0xE5)
            ]
            bench.events += [*begins, *words, writes(pair, (chip + 1, 0))]

        def serves_the_second() -> int:
            """What is more urgent there interrupts only where the first chip knows that interrupts nest."""
            for chip, last in ((0, 0x11), (2, 1)):
                writes(pair, (chip, 0x11), *((chip + 1, word) for word in (8, 4, last, 0)))()
            for number, line in enumerate(pair.inputs):
                line.set(number == 9)
            return pair.acknowledge()

        bench.events += [*[pair.acknowledge] * 6, *[serves_the_second] * 3, *[partial(pair.inputs[8].set, True)] * 3]
        bench.value = lambda random, size: random.randrange(256) & ~0x10
        return pair


class TestVirtioSlots(DeviceContract):
    rounds = 3

    def make(self, bench: Bench) -> Stateful:
        return VirtioSlots()


class TestFwCfg(DeviceContract):
    """Requests lie at the beginning of RAM."""

    def make(self, bench: Bench) -> Stateful:
        bench.memory.add_ram("RAM", 0, 0x1_0000)
        for number, control in enumerate((2, 4, 8 | 0x11 << 16, 10 | 0x11 << 16)):
            bench.memory.write(0x100 * number, struct.pack(">IIQ", control, 7 + number, 0x1000 + 0x100 * number))
        device = FwCfg(bench.memory, {Item.KERNEL_DATA: bytes(range(256))})
        bench.access(device, [(0, 1), (0, 8), (8, 2), (0x10, 4), (0x14, 4), (0x10, 8)])

        def here() -> None:
            """Done only where the higher half of the address is 0."""
            bench.memory.write(0x200, struct.pack(">I", 8 | 0x11 << 16))
            device.write(0x14, 4, 2 << 16)

        elsewhere = writes(device, (0x10, 1), size=4)
        bench.events += [elsewhere, elsewhere, here, here, lambda: device.read(0, 1)]
        bench.value = lambda random, size: (
            random.choice((0x1100, 0x0100, 0)) if size == 2 else random.randrange(4) << 8 * max(size - 2, 0)
        )
        return device


COMMANDS: Final = (0xFF, 0x90, 0x98, 0x70, 0x50, 0x40, 0x10, 0xE8, 0xE8, 0x20, 0x60, 0xD0, 0xD0, 0, 1, 2)


class SmallFlash(CfiFlash):
    SIZE: ClassVar = 2 * CfiFlash.BLOCK


class TestCfiFlash(DeviceContract):
    rounds = 600

    def make(self, bench: Bench) -> Stateful:
        flash = SmallFlash(bench.memory, "flash", 0)
        bench.memory.write(0, b"\xff" * 0x100)
        bench.memory.write(CfiFlash.BLOCK, b"\xff" * 0x100)
        bench.access(flash, [(4 * n, 4) for n in range(4)] + [(1, 1), (CfiFlash.BLOCK, 4)])
        bench.value = lambda random, size: random.choice(COMMANDS)
        data = [[(0, word), (4, ~word & MASK)] for word in (0x1234, 0xF0F0_F0F0, 0xFFFF_0000)]
        data.append([(CfiFlash.BLOCK + place, word) for place, word in data[0]])
        buffered = [writes(flash, (0, 0xFF), (words[0][0], 0xE8), (0, 1), *words, size=4) for words in data]
        erases = [writes(flash, (place, 0xFF), (place, 0x20), size=4) for place in (0, CfiFlash.BLOCK)]
        confirms = writes(flash, (0, 0xD0), size=4)

        def shows() -> tuple[int, int]:
            flash.write(0, 4, 0xFF)
            return flash.read(0, 8), flash.read(CfiFlash.BLOCK, 8)

        bench.events += [*buffered, *erases, *[confirms] * 3, *[shows] * 3]
        return flash


CONTRACTS = [one for name, one in sorted(globals().items()) if name.startswith("Test")]
CONSTANT: Final = {(I8259Pair, "_memory"), (VirtioSlots, "_memory")}
"""Storage of registers that never changes."""


def parts(value: object) -> set[type[Stateful]]:
    """The classes of an object and of all its parts that are Stateful."""
    if isinstance(value, list | tuple):
        return set().union(*map(parts, value))
    if not isinstance(value, Stateful):
        return set()
    return {type(value)}.union(*(parts(getattr(value, name)) for name in value.state_names()))


def attributes() -> list[tuple[type[DeviceContract], type[Stateful], str]]:
    made = [(contract, contract().make(Bench())) for contract in CONTRACTS]
    return [
        (contract, owner, name)
        for contract, device in made
        for owner in sorted(parts(device), key=lambda one: one.__name__)
        for name in owner.state_names()
        if (owner, name) not in CONSTANT
    ]


@pytest.mark.parametrize(
    ("contract", "owner", "name"), attributes(), ids=lambda value: getattr(value, "__name__", str(value))
)
def test_an_attribute_that_is_forgotten_is_noticed(
    contract: type[DeviceContract], owner: type[Stateful], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, for each attribute of each device."""
    names = tuple(one for one in owner.state_names() if one != name)
    monkeypatch.setattr(owner, "state_names", classmethod(lambda cls: names))
    with pytest.raises(AssertionError, match="seed"):
        contract().test_a_device_that_takes_over_a_state_goes_on_like_the_other_one()
