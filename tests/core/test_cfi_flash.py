# SPDX-License-Identifier: Apache-2.0
"""The flash bank: the Intel command set by the manual, whatever sequence a guest comes up with, and against QEMU."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.qtest import Qtest

from raddle.devices.cfi_flash import CfiFlash
from raddle.memory import AddressSpace

BASE = 0x400_0000
SIZE, BLOCK, BUFFER = CfiFlash.SIZE, CfiFlash.BLOCK, CfiFlash.BUFFER
READY, BAD_SEQUENCE, PROGRAM_FAILED, ERASE_FAILED, LOCKED = 0x80, 0x30, 0x10, 0x20, 0x02


class Guest:
    """A guest's view of a bank: accesses as a board's CPU does them."""

    def __init__(self, **arguments: Any) -> None:
        self.space = AddressSpace()
        self.saved: list[tuple[int, bytes]] = []
        self.flash = CfiFlash(
            self.space, "flash", BASE, save=lambda at, data: self.saved.append((at, data)), **arguments
        )
        self.by_handler = False
        self.turns = 0
        self.space.on_serve_loads(self._turn)

    def _turn(self, region: object, by_handler: bool) -> None:
        assert region is self.flash.region
        assert by_handler is not self.by_handler
        self.by_handler = by_handler
        self.turns += 1

    def load(self, offset: int, size: int = 4) -> int:
        """From memory, or from the device when it wants to serve loads."""
        if self.by_handler:
            return self.flash.read(offset, size)
        return int.from_bytes(self.array(offset, size), "little")

    def store(self, offset: int, value: int, size: int = 4) -> None:
        self.flash.write(offset, size, value)

    def array(self, offset: int, size: int) -> bytes:
        return self.space.read(BASE + offset, size)

    def both(self, offset: int, command: int) -> None:
        """A command to both chips, as guests give it."""
        self.store(offset, command << 16 | command)

    def status(self) -> int:
        self.both(0, 0x70)
        value = self.load(0)
        assert value >> 16 == value & 0xFFFF
        return value & 0xFFFF

    def erase(self, offset: int) -> None:
        self.both(offset, 0x20)
        self.both(offset, 0xD0)

    def close(self) -> None:
        self.space.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    with closing(Guest()) as guest:
        yield guest


def test_the_array_is_plain_memory(guest: Guest) -> None:
    guest.space.write(BASE + 0x1234, b"firmware")
    assert guest.load(0x1234, 8) == int.from_bytes(b"firmware", "little")
    assert guest.flash.read(0x1232, 4) == 0x6966_0000
    guest.both(0, 0xFF)
    assert guest.turns == 0


def test_the_query_table_tells_how_large_everything_is(guest: Guest) -> None:
    guest.both(4 * 0x55, 0x98)

    def shown(address: int, count: int = 1) -> bytes:
        words = [guest.load(4 * (address + n)) for n in range(count)]
        assert all(word >> 16 == word & 0xFFFF < 0x100 for word in words)
        return bytes(word & 0xFF for word in words)

    assert shown(0x10, 5) == b"QRY\1\0"
    extended = int.from_bytes(shown(0x15, 2), "little")
    assert shown(extended, 5) == b"PRI10"
    assert 2 << shown(0x27)[0] == SIZE
    assert 2 << int.from_bytes(shown(0x2A, 2), "little") == BUFFER
    assert shown(0x2C) == b"\1"
    blocks, size = (int.from_bytes(shown(address, 2), "little") for address in (0x2D, 0x2F))
    assert size * 256 * 2 == BLOCK
    assert (blocks + 1) * BLOCK == SIZE
    assert guest.load(4 * 0x10, 2) == 0x51
    assert guest.load(4 * 0x10 + 1, 1) == 0
    assert guest.load(4 * 0x10, 8) >> 32 == 0x520052
    assert guest.load(SIZE - 8, 8) == 0
    guest.both(0, 0xFF)
    assert guest.load(4 * 0x10) == 0
    assert guest.turns == 2


def test_identifiers_are_in_every_block(guest: Guest) -> None:
    guest.both(0, 0x90)
    for block in (0, BLOCK, SIZE - BLOCK):
        assert [guest.load(block + 4 * n) for n in range(4)] == [0x890089, 0x180018, 0, 0]


def test_programming_clears_bits_and_erasing_sets_all(guest: Guest) -> None:
    guest.erase(BLOCK + 0x40)
    assert guest.load(0) == READY << 16 | READY
    guest.both(0, 0xFF)
    assert guest.array(BLOCK, BLOCK) == b"\xff" * BLOCK
    assert guest.array(0, BLOCK) == bytes(BLOCK)
    assert guest.array(2 * BLOCK, 4) == bytes(4)
    for command, data in ((0x40, 0x1234_F0F0), (0x10, 0x00FF_FF00)):
        guest.both(BLOCK + 8, command)
        guest.store(BLOCK + 8, data)
    assert guest.status() == READY
    guest.both(0, 0xFF)
    assert guest.load(BLOCK + 8) == 0x1234_F0F0 & 0x00FF_FF00
    assert guest.array(BLOCK, 8) == b"\xff" * 8
    assert guest.saved == [
        (BLOCK, b"\xff" * BLOCK),
        (BLOCK + 8, (0x1234_F0F0).to_bytes(4, "little")),
        (BLOCK + 8, (0x34_F000).to_bytes(4, "little")),
    ]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("command_at", [BLOCK, 3 * BUFFER + BLOCK, 2 * BLOCK - 4])
def test_a_buffer_is_programmed_at_once(guest: Guest, size: int, command_at: int) -> None:
    """The command and the count may go to any address of the block: where the data go to is what counts."""
    guest.erase(BLOCK)
    guest.saved.clear()
    count, start = BUFFER // 4, BLOCK + 3 * BUFFER
    data = random.Random(size).randbytes(count * size)
    guest.both(command_at, 0xE8)
    assert guest.load(command_at) == READY << 16 | READY
    guest.both(command_at, count - 1)
    for n in range(count):
        guest.store(start + size * n, int.from_bytes(data[size * n : size * n + size], "little"), size)
    assert guest.saved == []
    guest.both(command_at, 0xD0)
    assert guest.status() == READY
    assert guest.saved == [(start, data)]
    assert guest.array(start - 4, len(data) + 8) == b"\xff" * 4 + data + guest.array(start + len(data), 4)


@pytest.mark.parametrize(
    ("stores", "status"),
    [
        pytest.param([(0, 0x20), (0, 0xFF)], BAD_SEQUENCE, id="an erase that is not confirmed"),
        pytest.param([(0, 0x60), (0, 0x77)], BAD_SEQUENCE, id="an unknown lock command"),
        pytest.param([(0, 0x60), (0, 0xD0)], 0, id="unlock"),
        pytest.param([(0, 0x60), (0, 0x01)], 0, id="lock"),
        pytest.param([(0, 0xE8), (0, 1), (0, 7), (4, 7), (0, 0xFF)], BAD_SEQUENCE, id="a buffer that is not confirmed"),
        pytest.param([(0, 0xE8), (0, BUFFER // 4)], BAD_SEQUENCE, id="more than a buffer"),
        pytest.param([(0, 0xE8), (0, 1), (0, 7), (BUFFER, 7), (0, 0xD0)], BAD_SEQUENCE, id="beyond the buffer"),
        pytest.param([(0, 0xE8), (0, 0), (BLOCK, 7), (0, 0xD0)], BAD_SEQUENCE, id="another block"),
    ],
)
def test_what_is_no_sequence_changes_nothing_and_says_so(
    guest: Guest, stores: list[tuple[int, int]], status: int
) -> None:
    for offset, value in stores:
        guest.both(offset, value)
    assert guest.status() == READY | status
    assert guest.saved == []
    assert guest.array(0, 2 * BLOCK) == bytes(2 * BLOCK)
    guest.both(0, 0x50)
    assert guest.status() == READY
    guest.erase(0)
    assert guest.array(0, BLOCK) == b"\xff" * BLOCK


def test_a_protected_bank_refuses_and_says_so() -> None:
    with closing(Guest(writable=False)) as guest:
        guest.erase(0)
        assert guest.status() == READY | ERASE_FAILED | LOCKED
        guest.both(0, 0x50)
        guest.both(0, 0x40)
        guest.both(0, 0x1)
        assert guest.status() == READY | PROGRAM_FAILED | LOCKED
        assert guest.saved == []


def test_what_cannot_be_saved_is_not_programmed() -> None:
    def full(offset: int, data: bytes) -> None:
        raise OSError("full")

    with closing(Guest()) as guest:
        guest.flash._save = full
        guest.both(0, 0x20)
        with pytest.raises(OSError, match="full"):
            guest.both(0, 0xD0)
        assert guest.array(0, BLOCK) == bytes(BLOCK)


def test_a_reset_shows_the_array_and_keeps_it(guest: Guest) -> None:
    guest.erase(0)
    guest.both(0, 0xE8)
    guest.both(0, 3)
    guest.flash.reset()
    assert not guest.by_handler
    assert guest.load(0) == 0xFFFF_FFFF
    guest.both(0, 0xFF)  # a command again, not data
    assert guest.status() == READY


SMALL = st.integers(0, 2**8 - 1)
STORES = st.tuples(
    st.one_of(st.integers(0, SIZE - 8), st.sampled_from([0, 4, BUFFER - 4, BUFFER, BLOCK - 4, BLOCK, SIZE - 8])),
    st.sampled_from([1, 2, 4, 8]),
    st.one_of(
        st.sampled_from([0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xD0, 0xE8, 0xFF, 0, 1, 2, 0x3FF]),
        st.integers(0, 2**64 - 1),
    ),
)


@given(stores=st.lists(STORES, max_size=60), reset_at=st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_whatever_is_stored_there_the_bank_stays_one(stores: list[tuple[int, int, int]], reset_at: int) -> None:
    """Bits rise by erasing whole blocks only, what changed is what was saved, and a reset leads back to the array."""
    with closing(Guest()) as guest:
        shadow: dict[int, bytearray] = {}  # blocks that something was done to
        for n, (offset, size, value) in enumerate(stores):
            if n == reset_at:
                guest.flash.reset()
            guest.store(offset, value & (1 << 8 * size) - 1, size)
            assert 0 <= guest.load(offset & -8, 8) < 1 << 64
            assert len(guest.flash._buffer) <= BUFFER // 4
        for at, data in guest.saved:
            first, last = at // BLOCK, (at + len(data) - 1) // BLOCK
            for block in range(first, last + 1):
                shadow.setdefault(block, bytearray(BLOCK))
            if data == b"\xff" * BLOCK and at % BLOCK == 0:
                shadow[first][:] = data
                continue
            assert len(data) <= BUFFER
            for place, byte in enumerate(data, at):
                assert byte & ~shadow[place // BLOCK][place % BLOCK] == 0
                shadow[place // BLOCK][place % BLOCK] = byte
        for block, content in shadow.items():
            assert guest.array(block * BLOCK, BLOCK) == bytes(content)
        guest.flash.reset()
        assert not guest.by_handler


# --- against QEMU -----------------------------------------------------------------------------------------------


class Peer(Qtest):
    """The bank of the board of the same name in QEMU."""

    def __init__(self) -> None:
        super().__init__(BASE)

    def array(self, offset: int, size: int) -> bytes:
        return bytes.fromhex(self.ask(f"read {BASE + offset:#x} {size:#x}").split()[1][2:])


class Pair:
    """Does the same to both, and compares what they show. What is not compared, and why:

    - bytes, of which QEMU repeats the chip's low one: a 16-bit chip shows its high byte at odd addresses;
    - programs of bits that are zeros to ones: QEMU does it;
    - erases that are not confirmed: QEMU erases at the first cycle;
    - sequences that are broken off: QEMU shows the array, the chips show their status;
    - a buffered program whose count was written elsewhere than where its data begin, which QEMU refuses beyond a
      buffer's range;
    - status after Clear Status, which QEMU shows without its ready bit;
    - commands that follow Read Query, of which QEMU takes Read Array alone; word 0x3F of the table, which says that
      there is a protection register.
    """

    def __init__(self, mine: Guest, peer: Peer, seed: int) -> None:
        self.mine, self.peer = mine, peer
        self.random = random.Random(seed)

    def store(self, offset: int, value: int, size: int = 4) -> None:
        self.mine.store(offset, value, size)
        self.peer.store(offset, value, size)

    def command(self, offset: int, command: int) -> None:
        size = self.random.choice((2, 4))
        self.store(offset, command << 16 | command if size == 4 else command, size)

    def compare(self, offset: int) -> None:
        size = self.random.choice((2, 4, 8))
        offset &= -size
        assert hex(self.mine.load(offset, size)) == hex(self.peer.load(offset, size)), f"{size} bytes at {offset:#x}"

    def place(self, alignment: int = 4) -> int:
        """Somewhere in the first, second and last blocks, where things meet."""
        return self.random.choice((0, BLOCK, SIZE - BLOCK)) + self.random.randrange(0, BLOCK, alignment)

    def step(self) -> None:
        place = self.place()
        match self.random.choice(
            ("read", "id", "query", "status", "word", "buffer", "erase", "lock", "clear", "other")
        ):
            case "read":
                self.command(place, 0xFF)
                self.compare(place)
            case "id":
                self.command(place, 0x90)
                self.compare((place & -BLOCK) + 4 * self.random.randrange(8))
            case "query":
                self.command(4 * 0x55, 0x98)
                for word in (*range(0x3E), 0x40, 0x1000):
                    self.compare(4 * word)
                self.command(0, 0xFF)
            case "status":
                self.command(place, 0x70)
                self.compare(place)
            case "word":
                self.command(place, self.random.choice((0x10, 0x40)))
                self.compare(place)
                size = self.random.choice((1, 2, 4))
                self.store(place, self.data(place, size), size)
                self.compare(place)
            case "buffer":
                self.buffer(self.place(BUFFER))
            case "erase":
                self.command(place, 0x20)
                self.command(place, 0xD0)
                self.compare(place)
            case "lock":
                self.command(place, 0x60)
                self.command(place, self.random.choice((0x01, 0xD0)))
                self.compare(place)
            case "clear":
                self.command(place, 0x50)
                self.compare(place)
                self.command(place, 0x60)
                self.command(place, 0xD0)
            case "other":
                self.command(place, self.random.choice((0x00, 0xB0, 0xD0, 0xF0, 0x33)))
                self.compare(place)

    def buffer(self, start: int) -> None:
        count, size = self.random.choice((1, 2, 100, BUFFER // 4)), self.random.choice((2, 4))
        start += self.random.randrange(0, BUFFER - count * size + 1, 4)
        self.command(start, 0xE8)
        self.compare(start)
        self.store(start, (count - 1) << 16 | count - 1)
        for n in range(count):
            self.store(start + n * size, self.data(start + n * size, size), size)
        self.command(start, 0xD0)
        self.compare(start)

    def data(self, offset: int, size: int) -> int:
        return int.from_bytes(self.mine.array(offset, size), "little") & self.random.getrandbits(8 * size)


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("seed", range(4))
def test_random_commands_do_what_they_do_on_the_peer(guest: Guest, seed: int) -> None:
    with closing(Peer()) as peer:
        pair = Pair(guest, peer, seed)
        for block in (0, BLOCK, SIZE - BLOCK):
            pair.command(block, 0x20)
            pair.command(block, 0xD0)
        for _ in range(200):
            pair.step()
        pair.command(0, 0xFF)
        for block in (0, BLOCK, SIZE - BLOCK):
            assert guest.array(block, BLOCK) == peer.array(block, BLOCK)
