# SPDX-License-Identifier: Apache-2.0
"""The native runtime through its Python face, on hand-made x86-64 blocks: a few bytes that do what translations do."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from raddle.ir import header
from raddle.ir.types import MMU_INDICES
from raddle.runtime import helpers, layout
from raddle.translate.frontend import FAULT_ALIGNMENT, FAULT_BUS

native: Any = pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
ffi, lib = native.ffi, native.lib

pytestmark = pytest.mark.host("x86_64")  # the blocks in this file are its code

ROM, DEVICE, ROUTINE, PASSES_ON, ROM_DEVICE = 0x1000_0000, 0x0900_0000, 0x0A00_0000, 0x0A00_1000, 0x2000_0000
RAM_SIZE = 1 << 20
NONE = (1 << 64) - 1
TRANSLATION_TIME = 0.01
"""Seconds from raddle_code_begin to the block's installation; one that takes longer is late: blocks.c"""
REL32 = ffi.new(
    "struct raddle_shape *",
    {"unit": 4, "pieces": [(0, 32)], "piece_count": 1, "range": lib.RADDLE_RANGE_SIGNED, "bias": -4, "relative": 1},
)
WORD = 2  # MemOp.encode of a plain 4-byte access on MMU index 0


class Guest(NamedTuple):
    """What of a guest the runtime is told; ``ram`` is where its RAM begins."""

    word_bits: int
    page_bits: int

    @property
    def ram(self) -> int:
        """Beyond 32 bits where the guest has more; blocks store it as a sign-extended immediate."""
        return 0x4000_0000 if self.word_bits == 32 else 0xFFFF_FFFF_C000_0000


GUESTS = [Guest(word_bits, page_bits) for word_bits in (32, 64) for page_bits in (12, 13)]

_machines: dict[Any, Machine] = {}


# Callbacks of this file's own: those that the engine defines for the whole process stay as they are.
@ffi.callback("uint64_t(void *, uint32_t, uint64_t, uint64_t, uint64_t, uint64_t)")  # type: ignore[misc]
def _call(env: Any, number: int, a0: int, a1: int, a2: int, a3: int) -> int:
    return int(_machines[env].callables[number](a0, a1, a2, a3) or 0)


@ffi.callback("int(void *, uint32_t, uint64_t, uint32_t, int, uint64_t *)")  # type: ignore[misc]
def _mmio(env: Any, region: int, offset: int, size: int, is_write: int, value: Any) -> int:
    _machines[env].mmio.append((region, offset, size, bool(is_write), value[0]))
    if not is_write:
        value[0] = 0x1122334455667788
    return _machines[env].mmio_answer


@ffi.callback("void(void *, uint64_t, uint32_t, int, uint64_t)")  # type: ignore[misc]
def _watch(env: Any, address: int, size: int, is_write: int, value: int) -> None:
    _machines[env].watched.append((address, size, bool(is_write), value))


def jump_to(address: Any) -> bytes:
    """movabs rax, address; jmp rax"""
    return b"\x48\xb8" + struct.pack("<Q", int(ffi.cast("uintptr_t", address))) + b"\xff\xe0"


class Machine:
    """One vCPU with identity-mapped memory, and what a test wants to see of it."""

    def __init__(
        self,
        guest: Guest,
        flags: int = lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_PARALLEL,
        wfe_limit_us: int = 0,
    ) -> None:
        self.ram, self.page = guest.ram, 1 << guest.page_bits
        config = ffi.new("struct raddle_config *")
        config.page_bits, config.word_bits, config.ncpus = guest.page_bits, guest.word_bits, 1
        config.flags, config.code_size, config.fetch_index_shift = flags, 1 << 20, 0
        config.wfe_limit_us = wfe_limit_us
        callbacks = ffi.new("struct raddle_callbacks *")
        callbacks.call, callbacks.mmio, callbacks.watch = _call, _mmio, _watch
        self.context = lib.raddle_context_new(config, callbacks)
        self.clock_at_first = [lib.raddle_clock_ns(self.context) for _ in range(2)]
        lib.raddle_clock_start(self.context)
        self.host_memory = ffi.new("uint8_t[]", RAM_SIZE + self.page)
        aligned = (int(ffi.cast("uintptr_t", self.host_memory)) + self.page - 1) & -self.page
        self.memory = memoryview(ffi.buffer(ffi.cast("uint8_t *", aligned), RAM_SIZE))
        self.rom = ffi.new("uint8_t[]", self.page)
        # routine(env, offset, how, value, id) -> id << 8 | offset
        routine = ffi.cast("void *", self.write(bytes.fromhex("4c89c0 48c1e008 4801f0 c3")))
        passes_on = ffi.cast("void *", self.write(jump_to(lib.raddle_helper_address(helpers.NUMBER["io_python"]))))
        self.flash = ffi.new("uint8_t[]", 3 * self.page)
        regions = ffi.new("struct raddle_region[6]")
        for region, (base, size, kind, number, memory) in zip(
            regions,
            (
                (self.ram, RAM_SIZE, lib.RADDLE_REGION_RAM, 0, ffi.cast("void *", aligned)),
                (ROM, self.page, lib.RADDLE_REGION_ROM, 1, self.rom),
                (DEVICE + 0x10, 0x20, lib.RADDLE_REGION_PYTHON, 7, ffi.NULL),
                (ROUTINE, 0x100, lib.RADDLE_REGION_ROUTINE, 9, routine),
                (PASSES_ON, 0x100, lib.RADDLE_REGION_ROUTINE, 8, passes_on),
                (ROM_DEVICE, 3 * self.page, lib.RADDLE_REGION_ROM_DEVICE, 6, self.flash),
            ),
            strict=True,
        ):
            region.base, region.size, region.kind, region.id, region.memory = base, size, kind, number, memory
        assert lib.raddle_memory_set(self.context, regions, 6) == 0
        self.env = lib.raddle_cpu_new(self.context, 0, 512)
        self.header = ffi.cast("struct raddle_cpu_header *", lib.raddle_cpu_header(self.env))
        self.table = ffi.new("void *[]", helpers.FIRST_PYTHON)
        for helper in range(len(helpers.HELPERS)):
            self.table[helper] = lib.raddle_helper_address(helper)
        self.header.helpers = self.table
        self.mmio: list[tuple[int, int, int, bool, int]] = []
        self.mmio_answer = 0
        self.faults: list[tuple[int, int, int, int]] = []
        self.fills: list[int] = []
        self.watched: list[tuple[int, int, bool, int]] = []
        self.protection: Callable[[int], int] = lambda address: 7
        self.callables: list[Callable[..., int | None]] = [self.fill, self.fault, self.interrupt]
        for which in range(3):
            lib.raddle_set_callee_number(self.context, which, helpers.FIRST_PYTHON + which)
        _machines[self.env] = self
        lib.raddle_chain_by(self.context, ffi.new("struct raddle_chain *", {"span": 8}), REL32)
        # enter(env, code): call the block in rsi, which returns in rax what enter returns
        lib.raddle_set_enter(self.context, ffi.cast("void *", self.write(b"\xff\xe6")))

    def close(self) -> None:
        del _machines[self.env]
        lib.raddle_context_free(self.context)

    def write(self, code: bytes) -> int:
        return int(lib.raddle_code_write(self.context, code, len(code), 16))

    def fill(self, address: int, access: int, size: int, _: int) -> int:
        self.fills.append(address)
        allowed = self.protection(address)
        if not allowed >> (access & 0xFF) & 1:
            return 5
        self.helper("tlb_set", address, address, allowed | access >> 8 << 16)
        return 0

    def fault(self, address: int, access: int, code: int, _: int) -> None:
        self.faults.append((address, access, code, self.header.pc))
        self.header.pc = self.ram

    def interrupt(self, lines: int, *_: int) -> int:
        lib.raddle_interrupt_clear(self.env, lines)
        self.faults.append((0, 0, lines, self.header.pc))
        return 1

    def helper(self, name: str, *args: int) -> int:
        padded = (*args, 0, 0, 0, 0)[:4]
        return int(lib.raddle_helper(self.env, helpers.NUMBER[name], *padded))

    def set_pc(self, pc: int) -> bytes:
        """Code that stores a pc."""
        return b"\x48\xc7\x87" + struct.pack("<iI", header.OFFSET["pc"], pc & 0xFFFF_FFFF)

    def install(
        self,
        pc: int,
        code: bytes,
        *,
        rows: int = 1,
        flags: int = 0,
        size: int = 4,
        guest: bytes | None = None,
        version: int | None = None,
        hot: list[int] | None = None,
    ) -> int:
        desc = ffi.new("struct raddle_block_desc *")
        page = pc & -self.page
        second = NONE if pc - page + size <= self.page else page + self.page
        desc.pc, desc.phys, desc.flags = pc, (page, second), flags
        desc.version[0] = lib.raddle_code_begin(self.context, page)
        if version is not None:
            desc.version[0] = version
        if desc.phys[1] != NONE:
            desc.version[1] = lib.raddle_code_begin(self.context, second)
        keep = ffi.from_buffer(code), ffi.from_buffer(guest or b"")
        hot = hot or [len(code) // rows] * rows
        table = b"".join(struct.pack("<HHBBH", hot[i], 0, size // rows, 0, 100 + i) for i in range(rows))
        keep_table = ffi.from_buffer(table)
        desc.guest_size, desc.ninsns, desc.code, desc.code_size = size, rows, keep[0], len(code)
        desc.guest = keep[1] if guest is not None else ffi.NULL
        desc.table, desc.cold_start, desc.exits = keep_table, len(code), 1
        return int(lib.raddle_block_install(self.context, desc))

    def calling(self, function: str, second: int, *, takes_number: bool = False) -> bytes:
        """Code (16 bytes) that calls function(env, return address, second), or with those two exchanged."""
        address = int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))
        arguments = b"\x48\x8b\x14\x24\xbe" if takes_number else b"\x48\x8b\x34\x24\xba"
        call = b"\x48\xb8" + struct.pack("<Q", address) + b"\x48\x83\xec\x08\xff\xd0\x48\x83\xc4\x08\xc3"
        thunk = self.write(arguments + struct.pack("<I", second) + call)
        return b"\x53\x48\x89\xfb\x48\xb8" + struct.pack("<Q", thunk) + b"\xff\xd0"  # push rbx; mov rbx, rdi; call

    def run(self, pc: int) -> int:
        self.header.pc = pc
        return int(lib.raddle_run(self.env))


LOCAL = 7 | 8
"""Protection of a page that may be read, written and executed, in one address space alone."""


@pytest.fixture(params=GUESTS, ids=lambda guest: f"{guest.word_bits}-bit-{1 << guest.page_bits}")
def guest(request: pytest.FixtureRequest) -> Guest:
    guest: Guest = request.param
    return guest


@pytest.fixture
def machine(guest: Guest) -> Iterator[Machine]:
    machine = Machine(guest)
    yield machine
    machine.close()


def test_helper_table_is_one() -> None:
    assert lib.raddle_helper_count() == len(helpers.HELPERS)
    names = [ffi.string(lib.raddle_helper_name(i)).decode() for i in range(len(helpers.HELPERS))]
    assert names == [helper.name for helper in helpers.HELPERS]


def test_a_wrong_configuration_is_refused() -> None:
    right = {"page_bits": 12, "word_bits": 32, "ncpus": 1, "code_size": 1 << 20}
    too_far = 33 - (MMU_INDICES - 1).bit_length()
    for wrong in (
        {"word_bits": 48},
        {"page_bits": 11},
        {"page_bits": 32},
        {"ncpus": 0},
        {"fetch_index_shift": too_far},
        {"common_indices": 1 << MMU_INDICES},
    ):
        config = ffi.new("struct raddle_config *", {**right, **wrong})
        assert lib.raddle_context_new(config, ffi.new("struct raddle_callbacks *")) == ffi.NULL


def test_miss_install_run(machine: Machine) -> None:
    assert machine.run(machine.ram + 8) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram + 8
    code = machine.set_pc(machine.ram + 0x100) + b"\x31\xc0\xc3"
    assert machine.install(machine.ram + 8, code) == lib.RADDLE_INSTALL_OK
    assert machine.run(machine.ram + 8) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram + 0x100


def test_an_equal_block_wins_and_a_store_kills_it(machine: Machine) -> None:
    code = machine.set_pc(machine.ram + 0x100) + b"\x31\xc0\xc3"
    assert machine.install(machine.ram, code) == machine.install(machine.ram, code) == lib.RADDLE_INSTALL_OK
    stats = ffi.new("struct raddle_stats *")
    lib.raddle_stats(machine.context, stats)
    assert (stats.installs, stats.installs_equal) == (1, 1)
    machine.helper("phys_store32", machine.ram + 0x40, 1)
    assert machine.run(machine.ram) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram + 0x100
    machine.helper("phys_store8", machine.ram + 3, 1)
    assert machine.run(machine.ram) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram


@pytest.mark.parametrize(
    ("stored_at", "snapshot", "result"),
    [
        (None, None, "RADDLE_INSTALL_OK"),
        (0x40, None, "RADDLE_INSTALL_RACED"),
        (0x40, b"abcd", "RADDLE_INSTALL_OK"),  # beside the code: the bytes decide
        (0, b"abcd", "RADDLE_INSTALL_RACED"),
    ],
)
def test_a_store_while_translating(guest: Guest, stored_at: int | None, snapshot: bytes | None, result: str) -> None:
    answer, taken = None, TRANSLATION_TIME
    while taken >= TRANSLATION_TIME:  # a translation that is late has another answer: see below
        machine = Machine(guest)
        try:
            machine.memory[0:4] = b"abcd"
            begun = time.monotonic()
            version = lib.raddle_code_begin(machine.context, machine.ram)
            if stored_at is not None:
                machine.helper("phys_store32", machine.ram + stored_at, 1)
            answer = machine.install(machine.ram, b"\xc3", guest=snapshot, version=version)
            taken = time.monotonic() - begun
        finally:
            machine.close()
    assert answer == getattr(lib, result)


def test_a_page_without_code_left_is_stored_to_at_full_speed(machine: Machine) -> None:
    def notdirty() -> int:
        machine.header.arg0 = machine.ram + 2
        assert lib.raddle_slow_store(machine.env, 0, 0) == 0
        stats = ffi.new("struct raddle_cpu_stats *")
        lib.raddle_cpu_stats(machine.env, stats)
        return int(stats.notdirty)

    assert notdirty() == 0
    machine.install(machine.ram, b"\xc3")
    time.sleep(5 * TRANSLATION_TIME)
    assert notdirty() == 1
    assert notdirty() == 1
    machine.install(machine.ram, b"\xc3")
    assert notdirty() == 2


@pytest.mark.parametrize(("translated", "result"), [(b"abcd", "RADDLE_INSTALL_RACED"), (b"ABCD", "RADDLE_INSTALL_OK")])
def test_a_translation_that_takes_longer_than_its_page_holds_code(
    machine: Machine, translated: bytes, result: str
) -> None:
    """The last block of the page dies by a store to another page, and then stores to the page are not seen."""
    second = machine.ram + machine.page
    assert machine.install(second - 2, b"\xc3") == lib.RADDLE_INSTALL_OK
    changed = slice(machine.page + 0x100, machine.page + 0x104)
    machine.memory[changed] = b"abcd"
    version = lib.raddle_code_begin(machine.context, second)
    time.sleep(5 * TRANSLATION_TIME)
    machine.helper("phys_store8", second - 1, 1)
    machine.memory[changed] = b"ABCD"
    assert machine.install(second + 0x100, b"\xc3", guest=translated, version=version) == getattr(lib, result)


def test_slow_load_and_store_reach_ram_and_devices(machine: Machine) -> None:
    h = machine.header
    h.arg0, h.arg1 = machine.ram + 0x10, 0xDDCCBBAA
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    assert machine.memory[0x10:0x14] == b"\xaa\xbb\xcc\xdd"
    h.arg0 = machine.ram + 0x12
    assert lib.raddle_slow_load(machine.env, 0, 1 | 1 << 3) == 0  # signed halfword
    assert h.result == 0xFFFF_FFFF_FFFF_DDCC
    h.arg0 = machine.ram + 0x10
    assert lib.raddle_slow_load(machine.env, 0, WORD | 1 << 4) == 0  # big-endian
    assert h.result == 0xAABBCCDD
    h.arg0 = DEVICE + 0x14
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert h.result == 0x55667788
    h.arg0, h.arg1 = DEVICE + 0x18, 9
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    assert machine.mmio == [(7, 4, 4, False, 0), (7, 8, 4, True, 9)]
    h.arg0 = DEVICE
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 1
    assert machine.faults[-1][:3] == (DEVICE, 0, FAULT_BUS)


def test_stores_to_rom_go_nowhere(machine: Machine) -> None:
    h = machine.header
    h.arg0, h.arg1 = ROM, 5
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    h.arg0 = ROM
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert h.result == 0


def test_rom_is_not_changed_by_physical_stores(machine: Machine) -> None:
    machine.helper("phys_store32", ROM, 7)
    assert machine.helper("phys_cmpxchg32", ROM, 0, 7) != 0  # it has not been exchanged
    assert machine.helper("phys_load32", ROM) == 0
    machine.helper("phys_store32", ROM_DEVICE, 7)
    assert machine.helper("phys_cmpxchg64", ROM_DEVICE + 8, 0, 7) != 0
    assert bytes(ffi.buffer(machine.flash, 16)) == bytes(16)
    assert machine.mmio == [(6, 0, 4, True, 7)]


def loads_are_slow(machine: Machine, address: int) -> bool:
    """Whether the entry that loads from `address` have sends them out of generated code."""
    slot = address // machine.page % layout.TLB_ENTRIES
    entry = ffi.cast("char *", machine.env) + layout.TLB_OFFSET + slot * layout.TLB_ENTRY_SIZE
    (read,) = struct.unpack_from("<Q", ffi.buffer(entry + layout.TLB_READ, 8))
    assert read & -machine.page == address & -machine.page
    return bool(read & layout.TLB_MMIO)


def test_a_rom_device_turns_loads_to_its_handler_and_back(machine: Machine) -> None:
    """What stands in the TLB is changed where it is: nobody has to fill it anew."""
    h = machine.header
    third = 2 * machine.page
    machine.flash[0x10], machine.flash[third + 0x10] = 0x44, 0x55

    def load(address: int) -> int:
        h.arg0 = address
        assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
        return int(h.result)

    assert load(ROM_DEVICE + 0x10) == 0x44
    assert not loads_are_slow(machine, ROM_DEVICE)
    lib.raddle_rom_device_loads(machine.context, ROM_DEVICE, 1)
    assert loads_are_slow(machine, ROM_DEVICE)
    assert [load(ROM_DEVICE + 0x10), load(ROM_DEVICE + third + 0x10)] == [
        0x55667788
    ] * 2  # one entry from before, one new
    assert machine.helper("phys_load16", ROM_DEVICE + 0x10) == 0x7788
    assert machine.mmio == [(6, 0x10, 4, False, 0), (6, third + 0x10, 4, False, 0), (6, 0x10, 2, False, 0)]
    lib.raddle_rom_device_loads(machine.context, ROM_DEVICE + machine.page, 0)
    assert [load(ROM_DEVICE + 0x10), load(ROM_DEVICE + third + 0x10)] == [0x44, 0x55]
    assert not loads_are_slow(machine, ROM_DEVICE)
    assert not loads_are_slow(machine, ROM_DEVICE + third)
    assert machine.helper("phys_load16", ROM_DEVICE + 0x10) == 0x44
    assert machine.fills == [ROM_DEVICE + 0x10, ROM_DEVICE + third + 0x10]


def test_stores_to_a_rom_device_are_its_handlers(machine: Machine) -> None:
    h = machine.header
    for by_callback in (0, 1, 0):
        lib.raddle_rom_device_loads(machine.context, ROM_DEVICE, by_callback)
        h.arg0, h.arg1 = ROM_DEVICE + 0x20, 9
        assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    assert machine.mmio == [(6, 0x20, 4, True, 9)] * 3
    assert machine.flash[0x20] == 0


def test_an_entry_stays_unusable_when_loads_are_turned(machine: Machine) -> None:
    """Nothing may be loaded from a page that may only be stored to."""
    h = machine.header
    machine.protection = lambda address: 2
    h.arg0, h.arg1 = ROM_DEVICE, 9
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    for by_callback in (1, 0):
        lib.raddle_rom_device_loads(machine.context, ROM_DEVICE, by_callback)
        h.arg0 = ROM_DEVICE
        assert lib.raddle_slow_load(machine.env, 0, WORD) == 1
    assert len(machine.faults) == 2


def test_faults(machine: Machine) -> None:
    h = machine.header
    machine.protection = lambda address: 0 if address >= machine.ram + machine.page else 7
    h.arg0 = machine.ram + 1
    assert lib.raddle_slow_load(machine.env, 0, WORD | 2 << 5) == 1
    assert machine.faults[-1][:3] == (machine.ram + 1, 0, FAULT_ALIGNMENT)
    h.arg0, h.arg1 = machine.ram + machine.page - 2, 0xFFFFFFFF
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 1
    assert machine.faults[-1][:3] == (machine.ram + machine.page, 1, 5)
    assert machine.memory[machine.page - 2 : machine.page] == b"\0\0"
    assert machine.run(machine.ram + 2 * machine.page) == lib.RADDLE_MISS
    assert machine.faults[-1] == (machine.ram + 2 * machine.page, 2, 5, machine.ram + 2 * machine.page)
    assert h.pc == machine.ram


def test_page_crossing_accesses(machine: Machine) -> None:
    h = machine.header
    h.arg0, h.arg1 = machine.ram + machine.page - 3, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    assert machine.memory[machine.page - 3 : machine.page + 1] == b"\1\2\3\4"
    h.arg0 = machine.ram + machine.page - 3
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert h.result == 0x04030201


@pytest.mark.parametrize(
    ("op", "a1", "a2", "result", "memory"),
    [
        ("CMPXCHG", 7, 9, 7, 9),
        ("CMPXCHG", 8, 9, 7, 7),
        ("XCHG", 3, 0, 7, 3),
        ("ADD", 0xFFFFFFFF, 0, 7, 6),
        ("AND", 5, 0, 7, 5),
        ("OR", 8, 0, 7, 15),
        ("XOR", 1, 0, 7, 6),
        ("SMIN", 0xFFFFFFFF, 0, 7, 0xFFFFFFFF),
        ("SMIN", 8, 0, 7, 7),
        ("SMAX", 0x80000000, 0, 7, 7),
        ("SMAX", 8, 0, 7, 8),
        ("UMIN", 0xFFFFFFFF, 0, 7, 7),
        ("UMIN", 6, 0, 7, 6),
        ("UMAX", 0x80000000, 0, 7, 0x80000000),
        ("UMAX", 1 << 32, 0, 7, 7),
        ("STORE_EXCLUSIVE", 4, 0, 1, 7),
    ],
)
@pytest.mark.parametrize("offset", [0, 2])
def test_atomic(machine: Machine, op: str, a1: int, a2: int, result: int, memory: int, offset: int) -> None:
    machine.memory[offset : offset + 4] = struct.pack("<I", 7)
    h = machine.header
    h.arg0, h.arg1, h.arg2 = machine.ram + offset, a1, a2
    left = lib.raddle_slow_atomic(machine.env, 0, WORD, getattr(lib, f"RADDLE_OP_{op}"))
    if offset and op != "STORE_EXCLUSIVE":  # misaligned: to be run again, alone
        assert left == 1
        assert lib.raddle_block_flags(machine.env) == lib.RADDLE_SINGLE
        return
    assert (left, h.result, struct.unpack("<I", machine.memory[offset : offset + 4])[0]) == (0, result, memory)


def test_load_and_store_exclusive(machine: Machine) -> None:
    h = machine.header
    for tampered in (False, True):
        machine.memory[0:4] = struct.pack("<I", 7)
        h.arg0 = machine.ram
        assert lib.raddle_slow_atomic(machine.env, 0, WORD, lib.RADDLE_OP_LOAD_EXCLUSIVE) == 0
        assert h.result == 7
        if tampered:
            machine.memory[0] = 8
        h.arg0, h.arg1 = machine.ram, 12
        assert lib.raddle_slow_atomic(machine.env, 0, WORD, lib.RADDLE_OP_STORE_EXCLUSIVE) == 0
        assert h.result == tampered
        assert machine.memory[0] == (8 if tampered else 12)


def test_pc_is_restored_from_a_return_address(machine: Machine) -> None:
    assert machine.install(machine.ram, b"\x90" * 30, rows=3, size=12) == lib.RADDLE_INSTALL_OK
    near = machine.write(b"\xc3") + (1 << 20) - (1 << 16)
    start = next(a for a in range(near, near + (1 << 20)) if lib.raddle_block_at(machine.context, a) == machine.ram) - 1
    for offset, expected in ((1, 0), (10, 0), (11, 1), (20, 1), (30, 2)):
        assert lib.raddle_restore_pc(machine.env, start + offset) == expected
        assert machine.header.pc == machine.ram + 4 * expected
        assert machine.header.insn_extra == 100 + expected
    assert lib.raddle_restore_pc(machine.env, start) == -1


def test_tlb_flushes_drop_what_they_name(machine: Machine) -> None:
    def fills_of(address: int) -> int:
        before = len(machine.fills)
        machine.header.arg0 = address
        assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
        return len(machine.fills) - before

    assert fills_of(machine.ram) == fills_of(machine.ram + machine.page) == 1
    assert fills_of(machine.ram) == fills_of(machine.ram + machine.page) == 0
    machine.helper("tlb_flush_page", machine.ram, 1)
    assert (fills_of(machine.ram), fills_of(machine.ram + machine.page)) == (1, 0)
    machine.helper("tlb_flush_by_mmuidx", 2)
    assert (fills_of(machine.ram), fills_of(machine.ram + machine.page)) == (0, 0)
    machine.helper("tlb_flush_range", machine.ram + machine.page - 1, 2, 1)
    assert (fills_of(machine.ram), fills_of(machine.ram + machine.page)) == (1, 1)
    machine.helper("tlb_flush")
    assert (fills_of(machine.ram), fills_of(machine.ram + machine.page)) == (1, 1)
    # two pages of one slot: the first becomes a victim and stays known
    machine.helper("tlb_set", machine.ram + machine.page, machine.ram + machine.page, 7)
    machine.helper("tlb_set", machine.page, machine.ram + 2 * machine.page, 7)
    assert fills_of(machine.ram + machine.page) == fills_of(machine.page) == 0
    # a page inside a large one takes all of the index with it
    machine.helper("tlb_set", machine.ram + 8 * machine.page, machine.ram + 8 * machine.page, 7 | 20 << 8)
    machine.helper("tlb_flush_page", machine.ram + 9 * machine.page, 1)
    assert fills_of(machine.ram + 8 * machine.page) == 1


def test_a_flush_of_the_address_space_leaves_what_is_global(machine: Machine) -> None:
    def is_known(address: int) -> bool:
        before = len(machine.fills)
        machine.header.arg0 = address
        assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
        return len(machine.fills) == before

    def enter() -> None:
        machine.helper("tlb_set", machine.ram, machine.ram, 7)
        machine.helper("tlb_set", machine.ram + machine.page, machine.ram + machine.page, LOCAL)
        # of the same slot as the one before, which becomes a victim
        machine.helper("tlb_set", machine.page, machine.ram + 2 * machine.page, 7)

    enter()
    machine.helper("tlb_flush_local", 2)
    assert all(is_known(address) for address in (machine.ram, machine.ram + machine.page, machine.page))
    enter()
    machine.helper("tlb_flush_local", 1)
    assert all(is_known(address) for address in (machine.ram, machine.page))
    assert not is_known(machine.ram + machine.page)


@pytest.mark.parametrize("flushed", [True, False])
def test_blocks_of_the_address_space_are_looked_up_again_after_its_flush(machine: Machine, flushed: bool) -> None:
    for pc in (machine.ram + machine.page, machine.ram + 2 * machine.page):
        machine.install(pc, machine.set_pc(machine.ram + 8 * machine.page) + b"\x31\xc0\xc3")
    machine.helper("tlb_set", machine.ram + machine.page, machine.ram + machine.page, LOCAL)
    for pc in (machine.ram + machine.page, machine.ram + 2 * machine.page):
        machine.run(pc)
        assert machine.header.pc == machine.ram + 8 * machine.page
    if flushed:
        machine.helper("tlb_flush_local", 1)
    machine.helper("tlb_set", machine.ram + machine.page, machine.ram + 3 * machine.page, LOCAL)
    machine.run(machine.ram + machine.page)
    assert machine.header.pc == (machine.ram + machine.page if flushed else machine.ram + 8 * machine.page)
    machine.run(machine.ram + 2 * machine.page)
    assert machine.header.pc == machine.ram + 8 * machine.page


def test_a_page_flush_leaves_what_the_jump_cache_has_of_other_pages(machine: Machine) -> None:
    same_group, before = machine.ram + machine.page + 0x10 + (64 << 12), machine.ram + 2 * machine.page - 4
    for pc in (machine.ram + machine.page, same_group, before):
        machine.install(pc, machine.set_pc(machine.ram + 8 * machine.page) + b"\x31\xc0\xc3")
        machine.run(pc)
        assert machine.header.pc == machine.ram + 8 * machine.page
    # Other memory there now, which nobody has been told of: what still leads to the old block is the cache.
    for pc in (machine.ram + machine.page, same_group):
        machine.helper("tlb_set", pc, machine.ram + 3 * machine.page, 7)

    def is_cached(pc: int) -> bool:
        machine.run(pc)
        return bool(machine.header.pc == machine.ram + 8 * machine.page)

    machine.helper("tlb_flush_page", machine.ram + 4 * machine.page, 1)
    assert [is_cached(pc) for pc in (machine.ram + machine.page, same_group, before)] == [True, True, True]
    machine.helper("tlb_flush_page", same_group, 1)
    machine.helper("tlb_set", same_group, machine.ram + 3 * machine.page, 7)
    assert [is_cached(pc) for pc in (machine.ram + machine.page, same_group, before)] == [True, False, True]
    machine.helper(
        "tlb_flush_page", machine.ram + 2 * machine.page, 1
    )  # a block may reach into it from the page before
    assert not is_cached(before)


def test_more_blocks_of_the_address_space_than_are_listed_go_with_it_too(machine: Machine) -> None:
    machine.helper("tlb_set", machine.ram + machine.page, machine.ram + machine.page, LOCAL)
    machine.helper("tlb_set", machine.ram + 2 * machine.page, machine.ram + 2 * machine.page, LOCAL)
    code = machine.set_pc(machine.ram + 8 * machine.page) + b"\x31\xc0\xc3"
    pcs = range(machine.ram + machine.page, machine.ram + 3 * machine.page, 4)
    for pc in pcs:
        machine.install(pc, code)
        machine.run(pc)
    machine.helper("tlb_flush_local", 1)
    machine.helper("tlb_set", machine.ram + machine.page, machine.ram + 3 * machine.page, LOCAL)
    machine.helper("tlb_set", machine.ram + 2 * machine.page, machine.ram + 4 * machine.page, LOCAL)
    for pc in pcs:
        assert machine.run(pc) == lib.RADDLE_MISS
        assert machine.header.pc == pc


def test_interrupts_and_halting(machine: Machine) -> None:
    machine.install(machine.ram + 0x80, machine.set_pc(machine.ram + 0x100) + b"\x31\xc0\xc3")
    lib.raddle_interrupt_set(machine.env, 2)
    assert machine.run(machine.ram + 0x80) == lib.RADDLE_MISS
    assert machine.faults == [(0, 0, 2, machine.ram + 0x80)]
    machine.header.halted = 1
    timer = lib.raddle_timer_new(machine.context, lib.RADDLE_TIMER_INTERRUPT, 1, machine.env)
    lib.raddle_timer_set(machine.context, timer, lib.raddle_clock_ns(machine.context) + 20_000_000)
    assert machine.run(machine.ram + 0x80) == lib.RADDLE_MISS
    assert machine.faults[1:] == [(0, 0, 1, machine.ram + 0x80)]
    assert machine.header.halted == 0


def test_stop_work_and_error_wake_a_halted_cpu(machine: Machine) -> None:
    for request, reason in (
        (lambda: lib.raddle_work(machine.env), lib.RADDLE_WORK),
        (lambda: lib.raddle_stop(machine.context), lib.RADDLE_STOP),
        (lambda: lib.raddle_error(machine.context, machine.env), lib.RADDLE_ERROR),
    ):
        lib.raddle_go(machine.context)
        machine.header.halted = 1
        thread = threading.Timer(0.02, request)
        thread.start()
        assert machine.run(machine.ram) == reason
        thread.join()


def test_round_robin_reasons(guest: Guest) -> None:
    machine = Machine(guest, lib.RADDLE_FLAG_DUAL_MAP)
    try:
        machine.header.halted = 1
        assert machine.run(machine.ram) == lib.RADDLE_HALTED
        assert not lib.raddle_can_run(machine.env)
        assert not lib.raddle_wait(machine.context, 1000)
        lib.raddle_interrupt_set(machine.env, 1)
        assert lib.raddle_wait(machine.context, NONE)
        assert lib.raddle_can_run(machine.env)
        assert machine.run(machine.ram) == lib.RADDLE_MISS
        machine.helper("wfe")
        assert not lib.raddle_can_run(machine.env)
        assert machine.run(machine.ram) == lib.RADDLE_HALTED
        lib.raddle_event(machine.context)
        assert lib.raddle_can_run(machine.env)
        assert machine.run(machine.ram) == lib.RADDLE_MISS
        lib.raddle_event(machine.context)
        machine.helper("wfe")  # takes the event
        assert machine.run(machine.ram) == lib.RADDLE_MISS
        machine.helper("yield_")
        assert machine.run(machine.ram) == lib.RADDLE_YIELD
    finally:
        machine.close()


@pytest.mark.parametrize("flags", [lib.RADDLE_FLAG_PARALLEL, 0, lib.RADDLE_FLAG_ICOUNT])
def test_a_wait_for_an_event_may_be_limited(guest: Guest, flags: int) -> None:
    machine = Machine(guest, flags, wfe_limit_us=2000)
    try:
        lib.raddle_icount_set(machine.env, 10)
        machine.helper("wfe")
        if flags == lib.RADDLE_FLAG_ICOUNT:
            assert machine.run(machine.ram) == lib.RADDLE_HALTED
            assert lib.raddle_timer_next(machine.context) == 2_000_000
            lib.raddle_icount_warp(machine.context, 2_000_000)
        elif not flags:
            assert not lib.raddle_wait(machine.context, NONE)
        assert machine.run(machine.ram) == lib.RADDLE_MISS
    finally:
        machine.close()


def test_a_wait_for_an_event_lasts_until_its_limit(guest: Guest) -> None:
    machine = Machine(guest, 0, wfe_limit_us=(1 << 32) - 1)  # more than an hour
    try:
        machine.helper("wfe")
        assert machine.run(machine.ram) == lib.RADDLE_HALTED
        assert not lib.raddle_can_run(machine.env)
    finally:
        machine.close()


def test_flush_drops_every_block_once(machine: Machine) -> None:
    code = machine.set_pc(machine.ram + 0x100) + b"\x31\xc0\xc3"
    machine.install(machine.ram, code)
    generation = lib.raddle_code_generation(machine.context)
    lib.raddle_code_flush(machine.context, generation)
    assert machine.run(machine.ram) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram
    machine.install(machine.ram, code)
    lib.raddle_code_flush(machine.context, generation)  # somebody has flushed since
    machine.run(machine.ram)
    assert machine.header.pc == machine.ram + 0x100
    while machine.install(machine.ram + 0x400, b"\xc3" * 60000, flags=1) != lib.RADDLE_FULL:
        machine.helper("phys_store32", machine.ram + 0x400, 0)


def test_instruction_counting_is_exact(guest: Guest) -> None:
    machine = Machine(guest, lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_ICOUNT)
    try:
        lib.raddle_icount_shift(machine.context, 3)

        machine.install(machine.ram, counting_block(machine, 5)[0], rows=5, size=20)
        machine.install(machine.ram, counting_block(machine, 1)[0], flags=lib.RADDLE_SINGLE)
        timer = lib.raddle_timer_new(machine.context, lib.RADDLE_TIMER_INTERRUPT, 4, machine.env)
        lib.raddle_timer_set(machine.context, timer, 17 * 8)
        assert lib.raddle_icount_budget(machine.context, 1000) == 17
        lib.raddle_icount_set(machine.env, 17)
        assert machine.run(machine.ram) == lib.RADDLE_BUDGET
        assert lib.raddle_icount(machine.context) == 17
        assert lib.raddle_clock_ns(machine.context) == 17 * 8
        assert lib.raddle_timers_run(machine.context) == 1
        lib.raddle_icount_warp(machine.context, 1000)
        assert machine.helper("clock_ticks", 1_000_000) == (17 * 8 + 1000) // 1000
    finally:
        machine.close()


def test_the_clock_stands_until_it_is_started(machine: Machine) -> None:
    assert machine.clock_at_first == [0, 0]
    while not lib.raddle_clock_ns(machine.context):
        pass


def test_time_never_goes_back_when_the_clock_is_stopped_and_started(machine: Machine) -> None:
    over = threading.Event()
    steps_back: list[int] = []

    def read() -> None:
        last = 0
        while not over.is_set():
            for _ in range(200):
                now = lib.raddle_clock_ns(machine.context)
                if now < last:
                    steps_back.append(last - now)
                last = now

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        lib.raddle_clock_start(machine.context)
        lib.raddle_clock_stop(machine.context)
    over.set()
    reader.join()
    assert not steps_back


def test_ticks(machine: Machine) -> None:
    assert machine.helper("ticks_to_ns", 62_500_000 * 10**6, 62_500_000) == 10**15
    assert machine.helper("ticks_to_ns", 1, 3) == 333_333_334
    assert machine.helper("ticks_to_ns", NONE, 1) == NONE


def test_a_routine_serves_a_device(machine: Machine) -> None:
    machine.header.arg0 = ROUTINE + 0x24
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert machine.header.result == 0x924
    assert machine.header.count_python == len(machine.fills)


def test_a_routine_passes_an_access_on_to_python(machine: Machine) -> None:
    h = machine.header
    h.arg0 = PASSES_ON + 0x24
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert h.result == 0x55667788
    h.arg0, h.arg1 = PASSES_ON + 8, 77
    assert lib.raddle_slow_store(machine.env, 0, 1) == 0
    assert machine.mmio == [(8, 0x24, 4, False, 0), (8, 8, 2, True, 77)]
    machine.mmio_answer = 1
    h.arg0 = PASSES_ON
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 1
    assert machine.faults[-1][:3] == (PASSES_ON, 0, FAULT_BUS)
    machine.mmio_answer = 0
    h.arg0 = PASSES_ON
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0


def test_host_memory(machine: Machine) -> None:
    block = ffi.new("uint32_t[]", [0x11223344, 0x55667788])
    start = int(ffi.cast("uintptr_t", block))
    assert machine.helper("host_load32", start + 4) == 0x55667788
    assert machine.helper("host_load8", start + 1) == 0x33
    machine.helper("host_store8", start, 0x1FF)
    machine.helper("host_store32", start + 4, 0x1_0000_0002)
    assert list(block) == [0x112233FF, 2]


def test_watched_pages(machine: Machine) -> None:
    lib.raddle_watch_set(machine.context, ffi.new("uint64_t[]", [machine.ram]), 1)
    h = machine.header
    h.arg0, h.arg1 = machine.ram + 4, 77
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    h.arg0 = machine.ram + 5
    assert lib.raddle_slow_load(machine.env, 0, 0) == 0
    h.arg0 = machine.ram + machine.page + 4
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert machine.watched == [(machine.ram + 4, 4, True, 77), (machine.ram + 5, 1, False, 0)]


@pytest.mark.parametrize("page", [0, 1])
def test_watched_pages_that_an_access_crosses_into(machine: Machine, page: int) -> None:
    watched, address = machine.ram + page * machine.page, machine.ram + machine.page - 3
    lib.raddle_watch_set(machine.context, ffi.new("uint64_t[]", [watched]), 1)
    h = machine.header
    h.arg0, h.arg1 = address, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0
    h.arg0 = address
    assert lib.raddle_slow_load(machine.env, 0, WORD) == 0
    assert machine.watched == [(address, 4, True, 0x04030201), (address, 4, False, 0x04030201)]


@pytest.mark.parametrize("crosses", [False, True])
def test_a_page_that_is_taken_away_while_somebody_is_told_of_a_store(machine: Machine, crosses: bool) -> None:
    """Another vCPU may flush the TLB then, and counts on nobody's storing by the old entry."""
    address = machine.ram + (machine.page - 2 if crosses else 0x104)

    def taken(*access: Any) -> None:
        machine.protection = lambda page: 1 if page & -machine.page == machine.ram else 7
        machine.helper("tlb_flush")

    lib.raddle_watch_set(machine.context, ffi.new("uint64_t[]", [machine.ram]), 1)
    told: Any = SimpleNamespace(append=taken)
    machine.watched = told
    machine.header.arg0, machine.header.arg1 = address, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 1
    assert [(where, access) for where, access, _, _ in machine.faults] == [(address, 1)]
    assert not any(machine.memory[0 : 2 * machine.page])


def test_a_page_that_is_taken_away_while_the_next_one_is_looked_up(machine: Machine) -> None:
    def protection(address: int) -> int:
        if address == machine.ram + machine.page:
            machine.protection = lambda page: 1 if page & -machine.page == machine.ram else 7
            machine.helper("tlb_flush")
        return 7

    machine.protection = protection
    machine.header.arg0, machine.header.arg1 = machine.ram + machine.page - 2, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 1
    assert [(where, access) for where, access, _, _ in machine.faults] == [(machine.ram + machine.page - 2, 1)]
    assert not any(machine.memory[0 : 2 * machine.page])


def test_addresses_have_as_many_bits_as_a_word(machine: Machine, guest: Guest) -> None:
    h = machine.header
    h.arg0, h.arg1 = machine.ram ^ 1 << 32, 5
    known = guest.word_bits == 32
    if not known:
        machine.protection = lambda address: 7 if address >= machine.ram else 0
    assert lib.raddle_slow_store(machine.env, 0, WORD) == (not known)
    assert machine.memory[0] == (5 if known else 0)
    assert machine.fills == [machine.ram if known else machine.ram ^ 1 << 32]
    h.arg0 = machine.ram
    last = (1 << guest.word_bits) - 1
    machine.protection = lambda address: 7
    machine.helper("tlb_set", last, machine.ram, 7)
    machine.helper("tlb_set", 0, machine.ram + machine.page, 7)
    h.arg0, h.arg1 = last - 1, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD) == 0  # goes on at 0
    assert machine.memory[machine.page - 2 : machine.page + 2] == b"\1\2\3\4"


@pytest.mark.parametrize("index", [0, MMU_INDICES - 1])
def test_each_mmu_index_has_its_own_mappings(machine: Machine, index: int) -> None:
    other = MMU_INDICES - 1 - index
    h = machine.header
    for page, which in enumerate((index, other)):
        machine.helper("tlb_set", 0, machine.ram + page * machine.page, 7 | which << 16)
    h.arg0, h.arg1 = 8, 0x04030201
    assert lib.raddle_slow_store(machine.env, 0, WORD | index << 8) == 0
    assert lib.raddle_slow_atomic(machine.env, 0, WORD | index << 8, lib.RADDLE_OP_ADD) == 0
    assert machine.memory[8:12] == b"\2\4\6\x08"
    assert machine.memory[machine.page + 8 : machine.page + 12] == bytes(4)
    for which, value in ((index, 0x08060402), (other, 0)):
        assert lib.raddle_slow_load(machine.env, 0, WORD | which << 8) == 0
        assert h.result == value
        assert lib.raddle_debug_translate(machine.env, 8, which) == machine.ram + machine.page * (which == other) + 8
        h.mode = which
        assert lib.raddle_code_page(machine.env, 8) == machine.ram + machine.page * (which == other)
    assert not machine.fills
    machine.helper("tlb_flush_by_mmuidx", 1 << index)
    assert lib.raddle_slow_load(machine.env, 0, WORD | other << 8) == 0
    assert not machine.fills
    assert lib.raddle_slow_load(machine.env, 0, WORD | index << 8) == 1  # by its fill, nothing is there
    assert machine.fills == [8]


def test_an_mmu_index_that_is_none_is_taken_for_nothing(machine: Machine) -> None:
    machine.helper("tlb_set", 0, machine.ram, 7 | MMU_INDICES << 16)
    for index in range(MMU_INDICES):
        before = len(machine.fills)
        machine.header.arg0 = 8
        lib.raddle_slow_load(machine.env, 0, WORD | index << 8)
        assert len(machine.fills) == before + 1


def test_big_endian_atomics_and_stores(machine: Machine) -> None:
    h = machine.header
    h.arg0, h.arg1 = machine.ram, 0x01020304
    assert lib.raddle_slow_store(machine.env, 0, WORD | 1 << 4) == 0
    assert machine.memory[0:4] == b"\1\2\3\4"
    h.arg0, h.arg1 = machine.ram, 0xFF
    assert lib.raddle_slow_atomic(machine.env, 0, WORD | 1 << 4, lib.RADDLE_OP_ADD) == 0
    assert (h.result, bytes(machine.memory[0:4])) == (0x01020304, b"\1\2\4\3")


def test_debug_translate_and_fetch_faults(machine: Machine) -> None:
    machine.protection = lambda address: 4 if address < machine.ram + machine.page else 0
    assert lib.raddle_debug_translate(machine.env, machine.ram + 0x123, 0) == machine.ram + 0x123
    assert lib.raddle_debug_translate(machine.env, machine.ram + machine.page + 0x123, 0) == NONE
    assert lib.raddle_code_page(machine.env, machine.ram + 0x123) == machine.ram
    assert lib.raddle_code_page(machine.env, machine.ram + machine.page + 0x123) == NONE
    assert not machine.faults
    lib.raddle_fetch_fault(machine.env, machine.ram + machine.page)
    assert machine.faults[0][:3] == (machine.ram + machine.page, 2, 5)
    machine.protection = lambda address: 7
    assert lib.raddle_code_page(machine.env, DEVICE + 0x10) == NONE  # no memory


def test_chained_blocks_run_on_without_the_loop_until_one_dies(machine: Machine) -> None:
    target = machine.set_pc(machine.ram + 0x80) + b"\x31\xc0\xc3"
    # nop x3; jmp slot -> stub: pc = target, return the address of the slot
    stub = machine.set_pc(machine.ram + 0x40)
    source = b"\x90\x90\x90\xe9\0\0\0\0" + stub
    source += b"\x48\x8d\x05" + struct.pack("<i", 4 - (len(source) + 7)) + b"\xc3"
    machine.install(machine.ram, source)
    machine.install(machine.ram + 0x40, target)
    for lookups, chains in ((3, 1), (2, 1)):  # source, target, miss; then source and miss
        before = machine.header.count_lookup
        assert machine.run(machine.ram) == lib.RADDLE_MISS
        assert machine.header.pc == machine.ram + 0x80
        assert machine.header.count_lookup - before == lookups
        assert machine.header.count_chain == chains
    machine.helper("phys_store32", machine.ram + 0x40, 0)
    assert machine.run(machine.ram) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram + 0x40
    machine.install(machine.ram + 0x40, target)
    machine.run(machine.ram)
    assert machine.header.count_chain == 2


def record_bytes(machine: Machine) -> int:
    stats = ffi.new("struct raddle_stats *")
    lib.raddle_stats(machine.context, stats)
    return int(stats.record_bytes)


A_CHUNK = 1 << 18
"""Bytes by which what is kept of blocks grows at a time."""


def test_chains_that_are_made_again_and_again_take_no_memory(machine: Machine) -> None:
    """Only the blocks that are installed do: with a record of 32 bytes for each chain it would be three chunks more."""
    target = machine.set_pc(machine.ram + 0x80) + b"\x31\xc0\xc3"
    stub = machine.set_pc(machine.ram + 0x40)
    exits = [stub + b"\x48\x8d\x05" + struct.pack("<i", 4 - (len(stub) + 15)) + b"\xc3"]
    for number in range(64):  # one source a 16 bytes, all to one target
        machine.install(machine.ram + 0x100 + 16 * number, b"\x90\x90\x90\xe9\0\0\0\0" + exits[0])
    blocks = 64
    for _ in range(400):
        machine.install(machine.ram + 0x40, target)
        blocks += 1
        for number in range(64):
            machine.run(machine.ram + 0x100 + 16 * number)
        machine.helper("phys_store32", machine.ram + 0x40, 0)
    assert machine.header.count_chain == 400 * 64
    assert record_bytes(machine) <= blocks * 256 + A_CHUNK


def test_installs_that_come_to_nothing_take_no_memory(machine: Machine) -> None:
    code = machine.set_pc(machine.ram + 0x80) + b"\x31\xc0\xc3"
    machine.install(machine.ram, code)
    before = record_bytes(machine)
    for _ in range(5000):
        assert machine.install(machine.ram, code) == lib.RADDLE_INSTALL_OK  # there is one
        version = lib.raddle_code_begin(machine.context, machine.ram)
        assert machine.install(machine.ram + 0x100, code, version=version + 1) == lib.RADDLE_INSTALL_RACED
    stats = ffi.new("struct raddle_stats *")
    lib.raddle_stats(machine.context, stats)
    assert (stats.installs, stats.installs_equal, stats.installs_raced) == (1, 5000, 5000)
    assert record_bytes(machine) == before


def test_what_is_kept_of_blocks_counts_with_their_code(machine: Machine) -> None:
    """The smallest code there is fills the buffer by its records; after the flush there is room again, each time."""
    code = b"\x31\xc0\xc3"
    for _ in range(5):
        lib.raddle_code_flush(machine.context, lib.raddle_code_generation(machine.context))
        assert record_bytes(machine) == 0
        installed = 0
        while (answer := machine.install(machine.ram + 4 * installed, code)) == lib.RADDLE_INSTALL_OK:
            installed += 1
            assert lib.raddle_code_used(machine.context) + record_bytes(machine) <= 1 << 20
        assert answer == lib.RADDLE_FULL
        assert installed > 1000


def test_timers_are_so_many_and_no_more(machine: Machine) -> None:
    new = [lib.raddle_timer_new(machine.context, lib.RADDLE_TIMER_INTERRUPT, 1, machine.env) for _ in range(1000)]
    assert new == [*range(lib.RADDLE_TIMERS), *[-1] * (1000 - lib.RADDLE_TIMERS)]


def test_no_chain_outlives_a_flush(machine: Machine) -> None:
    source = b"\x90\x90\x90\xe9\0\0\0\0" + machine.set_pc(machine.ram + 0x40)
    source += b"\x48\x8d\x05" + struct.pack("<i", 4 - (len(source) + 7)) + b"\xc3"
    machine.install(machine.ram, source)
    assert machine.run(machine.ram) == lib.RADDLE_MISS  # wants to chain to machine.ram + 0x40
    lib.raddle_code_flush(machine.context, lib.raddle_code_generation(machine.context))
    machine.install(machine.ram + 0x40, machine.set_pc(machine.ram + 0x80) + b"\x31\xc0\xc3" + b"\x90" * 64)
    assert lib.raddle_run(machine.env) == lib.RADDLE_MISS
    assert machine.header.pc == machine.ram + 0x80
    assert machine.header.count_chain == 0


def test_a_block_that_changes_itself_is_left_first(machine: Machine) -> None:
    store = machine.calling("raddle_slow_store", WORD)
    rest = b"\xc7\x83" + struct.pack("<iI", header.OFFSET["arg2"], 1)
    leave = b"\x31\xc0\x5b\xc3"
    unless = b"\x85\xc0\x75"  # test eax, eax; jnz leave
    pc_is_next = b"\x48\xc7\x83" + struct.pack("<iI", header.OFFSET["pc"], machine.ram + 4 & 0xFFFF_FFFF)
    tail = rest + pc_is_next
    assert (
        machine.install(machine.ram, store + unless + bytes([len(tail)]) + tail + leave, rows=2, size=8, hot=[16, 64])
        == 0
    )
    h = machine.header
    h.arg0, h.arg1, h.arg2 = machine.ram + 4, 0x12345678, 0
    assert machine.run(machine.ram) == lib.RADDLE_MISS
    assert (h.pc, h.insn_extra, h.arg2) == (machine.ram, 100, 0)
    assert lib.raddle_block_flags(machine.env) == lib.RADDLE_SINGLE
    assert machine.memory[4:8] == b"\0\0\0\0"
    machine.install(
        machine.ram, store + unless + bytes([len(pc_is_next)]) + pc_is_next + leave, flags=lib.RADDLE_SINGLE, hot=[16]
    )
    h.arg0, h.arg1 = machine.ram + 4, 0x12345678
    assert lib.raddle_run(machine.env) == lib.RADDLE_MISS
    assert (h.pc, lib.raddle_block_flags(machine.env)) == (machine.ram + 4, 0)
    assert machine.memory[4:8] == b"\x78\x56\x34\x12"
    assert machine.run(machine.ram) == lib.RADDLE_MISS  # the block is gone
    assert (h.pc, h.arg2) == (machine.ram, 0)


def counting_block(machine: Machine, instructions: int, body: bytes = b"") -> tuple[bytes, int]:
    """A block that goes on at machine.ram, as instruction counting wants it, and the size of its entry."""
    left = header.OFFSET["icount_left"]
    again = machine.set_pc(machine.ram) + b"\x81\x87" + struct.pack("<ii", left, instructions) + b"\x31\xc0\xc3"
    entry = b"\x81\xaf" + struct.pack("<ii", left, instructions) + b"\x79" + bytes([len(again)]) + again
    return entry + body + machine.set_pc(machine.ram) + b"\x31\xc0\xc3", len(entry)


@pytest.fixture
def counting(guest: Guest) -> Iterator[Machine]:
    machine = Machine(guest, lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_ICOUNT)
    yield machine
    machine.close()


def test_the_clock_within_a_block_is_exact(counting: Machine) -> None:
    lib.raddle_icount_shift(counting.context, 2)
    call = counting.calling("raddle_call_helper", helpers.NUMBER["clock_ns"], takes_number=True)
    body = b"\x90" * 4 + call + b"\x48\x89\xdf\x5b"  # mov rdi, rbx; pop rbx
    code, entry = counting_block(counting, 3, body)
    counting.install(counting.ram, code, rows=3, size=12, hot=[entry + 4, 16, len(code) - entry - 20])
    single, _ = counting_block(counting, 1)
    counting.install(counting.ram, single, flags=lib.RADDLE_SINGLE)
    lib.raddle_icount_set(counting.env, 7)
    assert counting.run(counting.ram) == lib.RADDLE_BUDGET
    assert counting.header.result == (3 + 1) << 2  # one block, and the first instruction of the second
    assert lib.raddle_icount(counting.context) == 7


def test_retired_instructions_within_a_block_are_exact(counting: Machine) -> None:
    call = counting.calling("raddle_call_helper", helpers.NUMBER["instructions"], takes_number=True)
    body = b"\x90" * 4 + call + b"\x48\x89\xdf\x5b"  # mov rdi, rbx; pop rbx
    code, entry = counting_block(counting, 3, body)
    counting.install(counting.ram, code, rows=3, size=12, hot=[entry + 4, 16, len(code) - entry - 20])
    single, _ = counting_block(counting, 1)
    counting.install(counting.ram, single, flags=lib.RADDLE_SINGLE)
    for turn in range(2):
        lib.raddle_icount_set(counting.env, 7)
        assert counting.run(counting.ram) == lib.RADDLE_BUDGET
        assert counting.header.result == 7 * turn + 3 + 1  # one block, and the first instruction of the second


def test_a_deadline_set_within_a_block_ends_the_budget(counting: Machine) -> None:
    timer = lib.raddle_timer_new(counting.context, lib.RADDLE_TIMER_INTERRUPT, 1, counting.env)
    call = counting.calling("raddle_call_helper", helpers.NUMBER["timer_set"], takes_number=True)
    code, entry = counting_block(counting, 3, call + b"\x48\x89\xdf\x5b")
    counting.install(counting.ram, code, rows=3, size=12, hot=[entry + 16, 0, len(code) - entry - 16])
    single, _ = counting_block(counting, 1)
    counting.install(counting.ram, single, flags=lib.RADDLE_SINGLE)
    lib.raddle_icount_set(counting.env, 100_000)
    counting.header.arg0, counting.header.arg1 = timer, 50
    assert counting.run(counting.ram) == lib.RADDLE_BUDGET
    assert lib.raddle_icount(counting.context) == lib.raddle_clock_ns(counting.context) == 50
    assert lib.raddle_timers_run(counting.context) == 1


def test_a_single_instruction_that_counts_for_more_still_runs(counting: Machine) -> None:
    counting.install(counting.ram, counting_block(counting, 3)[0], rows=3, size=12)
    counting.install(counting.ram, counting_block(counting, 2)[0], flags=lib.RADDLE_SINGLE, rows=2, size=4)
    lib.raddle_icount_set(counting.env, 4)
    assert counting.run(counting.ram) == lib.RADDLE_BUDGET
    assert lib.raddle_icount(counting.context) == 5


def test_two_counted_runs_are_the_same(guest: Guest) -> None:
    counts = set()
    for _ in range(2):
        machine = Machine(guest, lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_ICOUNT | lib.RADDLE_FLAG_TRACE)
        code, _ = counting_block(machine, 3)
        machine.install(machine.ram, code, rows=3, size=12)
        machine.install(machine.ram, counting_block(machine, 1)[0], flags=lib.RADDLE_SINGLE)
        for budget in (10, 1000, 7):
            lib.raddle_icount_set(machine.env, budget)
            assert machine.run(machine.ram) == lib.RADDLE_BUDGET
        counts.add(int(machine.header.count_instructions))
        machine.close()
    assert counts == {1017}
