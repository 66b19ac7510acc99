# SPDX-License-Identifier: Apache-2.0
"""The guest-physical address space: regions, overlap, Python's view of memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raddle.errors import MachineError, UsageError
from raddle.memory import SMALLEST_PAGE, AddressSpace, HostMemory, Kind, MemoryAccessError


class Nothing:
    def read(self, offset: int, size: int) -> int:
        raise AssertionError("Python does not read registers")

    def write(self, offset: int, size: int, value: int) -> None:
        raise AssertionError("Python does not write registers")


@pytest.fixture
def space():
    space = AddressSpace()
    space.add_ram("RAM", 0x4000_0000, 0x4000)
    space.add_rom("ROM", 0x0, 0x1000, b"firmware")
    space.add_io("UART", 0x900_0000, 0x1000, Nothing())
    space.add_ram("more RAM", 0x4000_4000, 0x1000)
    yield space
    space.close()


def test_regions_are_sorted_and_found(space):
    assert [region.name for region in space.regions] == ["ROM", "UART", "RAM", "more RAM"]
    assert [region.kind for region in space.regions] == [Kind.ROM, Kind.IO, Kind.RAM, Kind.RAM]
    assert space.find(0x4000_3FFF).name == "RAM"
    assert space.find(0x4000_4000).name == "more RAM"
    assert space.find(0x4000_5000) is None
    assert space.find(0x1000) is None
    assert space.find(0x900_0FFF).host_address == 0
    assert space.find(0x4000_0000).host_address % SMALLEST_PAGE == 0


@pytest.mark.parametrize(
    ("start", "size"), [(0x4000_0000, 0x1000), (0x3FFF_F000, 0x2000), (0x4000_4000, 0x10000), (0, 0x1_0000_0000)]
)
def test_overlap_is_refused_with_both_names(space, start, size):
    with pytest.raises(UsageError, match=r"region new .* overlaps .*(RAM|ROM)"):
        space.add_io("new", start, size, Nothing())
    assert len(space.regions) == 4


def test_regions_are_made_of_the_guests_pages():
    space = AddressSpace(page_size=0x2000)
    space.add_ram("RAM", 0x2000, 0x4000)
    for start, size in ((0x1_1000, 0x2000), (0x1_0000, 0x1000)):
        with pytest.raises(UsageError, match=r"region UART .* is not made of whole pages of 8192 bytes"):
            space.add_io("UART", start, size, Nothing())
    assert [region.name for region in space.regions] == ["RAM"]
    space.close()


def test_devices_bring_routines(space):
    def build(b):
        b.ret()

    region = space.add_io("timer", 0x901_0000, 0x1000, Nothing(), build)
    assert region.routine is build
    space.add_routines({"one": build})
    space.add_routines({"two": build})
    assert list(space.routines) == ["one", "two"]
    with pytest.raises(UsageError, match="two devices have a routine called one"):
        space.add_routines({"three": build, "one": build})
    assert list(space.routines) == ["one", "two"]


def test_a_rom_device_has_memory_and_a_handler(space):
    handler = Nothing()
    region = space.add_rom_device("flash", 0x400_0000, 0x2000, handler, b"\x12")
    assert region.handler is handler
    assert str(region) == "flash (ROM device, 0x4000000-0x4001fff)"
    assert space[0x400_0000] == 0x12
    written, turned = [], []
    space.on_write(lambda start, size: written.append((start, size)))
    space.on_serve_loads(lambda region, by_handler: turned.append((region.name, by_handler)))
    for by_handler in (False, True, True, False):
        space.serve_loads(region, by_handler)
    assert turned == [("flash", True), ("flash", False)]
    space.write(0x400_1000, b"\x34")
    assert written == [(0x400_1000, 1)]
    assert region.memory.bytes[0x1000] == 0x34
    with pytest.raises(UsageError, match="has room for 4096 bytes, not for 4097"):
        space.add_rom_device("small", 0x500_0000, 0x1000, handler, bytes(4097))


@pytest.mark.parametrize(("start", "size"), [(0x100, 0x1000), (0x8000_0000, 0x800), (0x8000_0000, 0), (-4096, 4096)])
def test_only_whole_pages(space, start, size):
    with pytest.raises(UsageError, match="whole pages"):
        space.add_ram("new", start, size)


def test_python_reads_and_writes_memory(space):
    assert space[0x4000_0000:0x4000_0010] == bytes(16)
    space[0x4000_0004:0x4000_0008] = b"\x78\x56\x34\x12"
    assert space[0x4000_0000:0x4000_0008].hex() == "0000000078563412"
    assert space[0x4000_0004] == 0x78
    space[0x4000_0004] = 0xFF
    assert space.read(0x4000_0004, 2) == b"\xff\x56"
    assert space[0:8] == b"firmware"


def test_an_access_may_span_adjacent_regions(space):
    space.write(0x4000_3FFE, b"abcd")
    assert space.read(0x4000_3FFE, 4) == b"abcd"
    assert space.read(0x4000_4000, 2) == b"cd"


def test_a_write_that_fails_changes_nothing(space):
    with pytest.raises(MemoryAccessError, match="no guest memory at 0x40005000"):
        space.write(0x4000_4FFF, b"ab")
    assert space[0x4000_4FFF] == 0


def test_registers_are_no_memory(space):
    with pytest.raises(MemoryAccessError, match="register of UART"):
        space.read(0x900_0000, 4)


@pytest.mark.parametrize("key", [slice(None, 4), slice(0, None), slice(0, 8, 2)])
def test_ranges_need_both_ends_and_no_step(space, key):
    with pytest.raises(MemoryAccessError):
        space[key]


def test_sizes_and_types_of_writes_are_checked(space):
    with pytest.raises(MemoryAccessError, match="4 bytes must be given to write 0x40000000-0x40000003, not 7"):
        space[0x4000_0000:0x4000_0004] = b"toolong"
    with pytest.raises(UsageError, match="what is written to 0x40000000-0x40000003 is bytes"):
        space[0x4000_0000:0x4000_0004] = 5
    with pytest.raises(UsageError, match="the byte at 0x40000000 is a whole number"):
        space[0x4000_0000] = b"x"
    with pytest.raises(MemoryAccessError, match="no -1 bytes"):
        space.clear(0x4000_0000, -1)


def test_writes_from_python_are_told(space):
    seen = []
    space.on_write(lambda start, size: seen.append((start, size)))
    space.write(0x4000_0010, b"code")
    space.clear(0x4000_1800, 0x1000)
    assert seen == [(0x4000_0010, 4), (0x4000_1800, 0x1000)]


@settings(deadline=None)
@given(start=st.integers(0, 0x3FFF), size=st.integers(0, 0x3FFF))
def test_clear_zeroes_exactly_the_range(start, size):
    memory = HostMemory(0x4000)
    size = min(size, 0x4000 - start)
    memory.bytes[:] = b"\xaa" * 0x4000
    memory.clear(start, size)
    assert bytes(memory.bytes) == b"\xaa" * start + bytes(size) + b"\xaa" * (0x4000 - start - size)
    memory.close()


def test_rom_has_room_for_its_contents_only():
    with pytest.raises(UsageError, match="room for 4096 bytes, not for 5000"):
        AddressSpace().add_rom("ROM", 0, 0x1000, bytes(5000))


def test_large_ram_takes_no_host_memory_until_it_is_used():
    space = AddressSpace()
    region = space.add_ram("RAM", 0x4000_0000, 3 << 30)
    space[0xFFFF_FFF0:0x1_0000_0000] = b"0123456789abcdef"
    assert space.read(region.end - 4, 4) == b"cdef"
    space.close()


def test_memory_that_the_host_cannot_give_is_a_usage_error():
    with pytest.raises(UsageError, match=r"cannot allocate .* MiB for RAM of the guest"):
        AddressSpace().add_ram("RAM", 0, 1 << 60)


def test_words_and_bytes_are_the_same_memory():
    memory = HostMemory(4096)
    memory.words[1] = 0x0102_0304
    assert sorted(memory.bytes[4:8]) == [1, 2, 3, 4]
    memory.close()


def test_memory_is_read_in_pieces_only():
    space = AddressSpace()
    space.add_ram("RAM", 0x1000, 0x1000)
    for whole in (bytes, bytearray, list, iter):
        with pytest.raises(TypeError):
            whole(space)
    assert 0x1000 in space
    assert 0x2000 not in space
    assert "RAM" not in space


def test_regions_that_nobody_would_hear_of_are_refused():
    space = AddressSpace()
    space.add_ram("RAM", 0x1000, 0x1000)
    space.fix()
    for add in (
        lambda: space.add_io("device", 0x4000, 0x1000, object()),
        lambda: space.add_ram("more", 0x4000, 0x1000),
        lambda: space.add_rom("more", 0x4000, 0x1000),
        lambda: space.add_routines({}),
    ):
        with pytest.raises(UsageError, match="has been built"):
            add()
    space.close()
    for question in (lambda: space[0x1000], lambda: space.write(0x1000, b"x"), lambda: space.clear(0x1000, 1)):
        with pytest.raises(MachineError, match="closed"):
            question()
