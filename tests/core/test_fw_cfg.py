# SPDX-License-Identifier: Apache-2.0
"""The firmware configuration device: items as streams, requests, whatever a guest asks for, and against QEMU."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.qtest import Qtest

from raddle.devices.fw_cfg import FwCfg, Item
from raddle.memory import AddressSpace

RAM, RAM_SIZE, FLASH = 0x4000_0000, 0x40_0000, 0x400_0000
SELECTOR, REQUEST = 8, 0x10
FAILED, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16
KERNEL = bytes(range(256)) * 0x2001


class Nothing:
    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        raise AssertionError("no request stores to flash")


class Guest:
    def __init__(self) -> None:
        self.space = AddressSpace()
        self.space.add_ram("RAM", RAM, RAM_SIZE)
        self.space.add_rom_device("flash", FLASH, 0x1000, Nothing())
        self.device = FwCfg(self.space, {Item.KERNEL_DATA: KERNEL, Item.KERNEL_SIZE: struct.pack("<I", len(KERNEL))})

    def select(self, item: int) -> None:
        self.device.write(SELECTOR, 2, int.from_bytes(struct.pack(">H", item), "little"))

    def take(self, count: int, size: int = 1) -> bytes:
        return b"".join(self.device.read(0, size).to_bytes(size, "little") for _ in range(count // size))

    def request(self, control: int, length: int, place: int, at: int = RAM) -> int:
        """Makes a request, and returns its control word as it was left."""
        self.space.write(at, struct.pack(">IIQ", control, length, place))
        high, low = (int.from_bytes(part, "little") for part in (struct.pack(">Q", at)[:4], struct.pack(">Q", at)[4:]))
        self.device.write(REQUEST, 4, high)
        self.device.write(REQUEST + 4, 4, low)
        return int.from_bytes(self.space.read(at, 4), "big")

    def close(self) -> None:
        self.space.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    with closing(Guest()) as guest:
        yield guest


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_items_are_streams(guest: Guest, size: int) -> None:
    assert guest.take(16, size) == b"QEMU".ljust(16, b"\0")
    guest.select(Item.KERNEL_DATA)
    assert guest.take(64, size) == KERNEL[:64]
    assert guest.take(64, size) == KERNEL[64:128]
    guest.select(Item.FEATURES)
    assert guest.take(8, size) == b"\3".ljust(8, b"\0")
    for unknown in (0x1A, 0x3FFF, 0x8011, 0xFFFF):
        guest.select(unknown)
        assert guest.take(8, size) == bytes(8)


def test_the_request_register_says_that_it_is_there(guest: Guest) -> None:
    assert guest.device.read(REQUEST, 8).to_bytes(8, "little") == b"QEMU CFG"
    assert guest.device.read(REQUEST + 4, 4).to_bytes(4, "little") == b" CFG"
    assert [guest.device.read(SELECTOR, 2), guest.device.read(0x18, 8), guest.device.read(0x14, 8)] == [0, 0, 0]


def test_a_request_reads_all_at_once(guest: Guest) -> None:
    place = RAM + 0x1001
    assert guest.request(SELECT | READ | Item.KERNEL_DATA << 16, len(KERNEL) + 8, place) == 0
    assert guest.space.read(place, len(KERNEL) + 8) == KERNEL + bytes(8)
    assert guest.request(SELECT | SKIP | Item.KERNEL_DATA << 16, 300, 0) == 0
    assert guest.request(READ, 10, place) == 0
    assert guest.space.read(place, 10) == KERNEL[300:310]
    assert guest.take(4) == KERNEL[310:314]
    assert guest.request(0, 0, 0) == guest.request(READ, 0, 0) == 0


@pytest.mark.parametrize(
    ("control", "length", "place"),
    [
        pytest.param(READ, 16, RAM + RAM_SIZE - 8, id="beyond RAM"),
        pytest.param(READ, 0xFFFF_FFFF, RAM, id="more than RAM"),
        pytest.param(READ, 16, FLASH, id="flash"),
        pytest.param(READ, 16, 0x900_0000, id="nowhere"),
        pytest.param(READ, 16, (1 << 64) - 8, id="the end of all addresses"),
        pytest.param(WRITE, 16, RAM + 64, id="a write"),
    ],
)
def test_what_cannot_be_done_fails_and_changes_nothing(guest: Guest, control: int, length: int, place: int) -> None:
    assert guest.request(control | SELECT | Item.KERNEL_DATA << 16, length, place) == FAILED
    assert guest.space.read(RAM + 16, RAM_SIZE - 16) == bytes(RAM_SIZE - 16)
    assert guest.take(2) == KERNEL[:2]


def test_a_request_outside_of_ram_is_none(guest: Guest) -> None:
    for address in (FLASH, 0, RAM + RAM_SIZE - 8, (1 << 64) - 1):
        guest.device.write(REQUEST, 8, int.from_bytes(struct.pack(">Q", address), "little"))
    assert guest.space.read(FLASH, 16) == bytes(16)


def test_a_reset_selects_the_signature(guest: Guest) -> None:
    guest.select(Item.KERNEL_DATA)
    guest.device.write(REQUEST, 4, 0x1234)
    guest.device.reset()
    assert guest.take(4) == b"QEMU"
    assert guest.request(SELECT | Item.KERNEL_DATA << 16, 0, 0) == 0  # by its low half alone


ACCESSES = st.tuples(
    st.booleans(),
    st.sampled_from([0, 1, 4, 7, 8, 9, 0x10, 0x14, 0x16, 0x17, 0x18, 0xFF8]),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 2**64 - 1) | st.sampled_from([0x40, 0x4000, 0x1100, 0x1900]),
)


@given(accesses=st.lists(ACCESSES, max_size=30), content=st.binary(min_size=64, max_size=64))
@settings(max_examples=150, deadline=None)
def test_whatever_a_guest_does(accesses: list[tuple[bool, int, int, int]], content: bytes) -> None:
    with closing(Guest()) as guest:
        guest.space.write(RAM, content)
        for is_write, offset, size, value in accesses:
            if is_write:
                guest.device.write(offset, size, value & (1 << 8 * size) - 1)
            else:
                assert 0 <= guest.device.read(offset, size) < 1 << 8 * size
        guest.select(Item.SIGNATURE)
        assert guest.take(4) == b"QEMU"


# --- against QEMU -----------------------------------------------------------------------------------------------


class Peer(Qtest):
    """The device of the board of the same name in QEMU."""

    def __init__(self) -> None:
        super().__init__(0x902_0000, "-smp", "3")

    def read(self, offset: int, size: int) -> int:
        return self.load(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.store(offset, value, size)


@pytest.mark.peer("qemu-system-arm")
def test_random_uses_do_what_they_do_on_the_peer() -> None:
    """Items that both have, streams past their ends, requests; not compared: files, of which there are none here, and
    writes, which QEMU lets some items have.
    """
    choose = random.Random(1)
    same = {Item.CPUS: b"\3\0"}
    items = [Item.SIGNATURE, Item.FEATURES, Item.KERNEL_SIZE, Item.KERNEL_DATA, *same]
    with closing(Guest()) as guest, closing(Peer()) as peer:
        mine = FwCfg(guest.space, same)
        peer.ask(f"write {RAM:#x} 0x200 0x{bytes(0x200).hex()}")  # where its device tree is

        def both_write(offset: int, size: int, value: int) -> None:
            mine.write(offset, size, value)
            peer.write(offset, size, value)

        for _ in range(300):
            item = choose.choice(items)
            match choose.choice(("select", "read", "request", "signature")):
                case "select":
                    both_write(SELECTOR, 2, int.from_bytes(struct.pack(">H", item), "little"))
                case "read":
                    size = choose.choice((1, 2, 4, 8))
                    assert mine.read(0, size) == peer.read(0, size)
                case "signature":
                    assert mine.read(REQUEST, 8) == peer.read(REQUEST, 8)
                case "request":
                    control = choose.choice((0, SELECT)) | choose.choice((READ, SKIP)) | item << 16
                    place = choose.choice((RAM + 0x100, RAM + 0x101, 0x3FFF_0000))
                    request = struct.pack(">IIQ", control, choose.randrange(20), place)
                    guest.space.write(RAM, request)
                    peer.ask(f"write {RAM:#x} {len(request)} 0x{request.hex()}")
                    if choose.random() < 0.5:
                        both_write(REQUEST, 8, int.from_bytes(struct.pack(">Q", RAM), "little"))
                    else:
                        both_write(REQUEST + 4, 4, int.from_bytes(struct.pack(">I", RAM), "little"))
                    assert guest.space.read(RAM, 0x120).hex() == peer.ask(f"read {RAM:#x} 0x120").split()[1][2:]
