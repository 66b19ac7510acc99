# SPDX-License-Identifier: Apache-2.0
"""Kernel images: each kind is recognised, and whatever is wrong with a file is one UsageError that says so."""

import gzip
import struct
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raddle.errors import UsageError
from raddle.layout import Area, Layout, Segment
from raddle.machine.loaders import ELF, RAW, UIMAGE, load_image
from raddle.ordering import MemoryOrder
from raddle.plugins import ElfFormat, KernelKind, Magic, Target

ARM = 40
compress = partial(gzip.compress, mtime=0)
GUEST = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"


def read_own(data, name, layout):
    if len(data) < 16:
        raise UsageError(f"cannot use {name}: the own image is truncated")
    return (Segment(layout.ram.start, data[16:], 0x100),), layout.ram.start + 4


def target(**more):
    """A guest of these tests: its ELF programs are ARM's, and it has a kind of kernel file of its own."""
    kind = KernelKind("own image", Magic(8, b"OWN!", "an own image"), lambda: read_own, has_addresses=True)
    given = {"elf_machine": ARM, "uimage_architecture": 2, "kernel_kinds": (kind,)}
    given["foreign_files"] = (Magic(0x38, b"strange", "a kernel of strangers"),)
    return Target("guest", 32, True, MemoryOrder.NONE, cpus=("any",), load=lambda cpu: None, **{**given, **more})


GUEST_TARGET = target()


def elf(
    machine=ARM,
    kind=2,
    bits=1,
    order=1,
    entry=0x4010_0000,
    segments=((0x4010_0000, b"code", 0x1000),),
    phnum=None,
):
    """An ELF file of this class (1: 32 bits, 2: 64) and byte order (1: little-endian, 2: big) with these PT_LOAD
    segments (physical address, data, size in memory, virtual address if that is another one, flags if not all are set).
    """
    end = "<" if order == 1 else ">"
    header_size, row_size, word = (52, 32, "I") if bits == 1 else (64, 56, "Q")
    table = bytearray()
    position = header_size + row_size * len(segments)
    body = b""
    for address, data, size, *more in segments:
        virtual, flags = [*more, *(address, 7)[len(more) :]]
        places = (position + len(body), virtual, address, len(data), size)
        if bits == 1:
            table += struct.pack(f"{end}8I", 1, *places, flags, 4)
        else:
            table += struct.pack(f"{end}2I6Q", 1, flags, *places, 4)
        body += data
    count = len(segments) if phnum is None else phnum
    header = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    sizes = (header_size, row_size, count, 40, 0, 0)
    header += struct.pack(f"{end}HHI3{word}I6H", kind, machine, 1, entry, header_size, 0, 0, *sizes)
    return header + bytes(table) + body


def uimage(body, load=0x4000_8000, entry=None, architecture=2, kind=2, compression=0, size=None):
    """A kernel in U-Boot's legacy image format."""
    entry = load if entry is None else entry
    fields = (len(body) if size is None else size, load, entry, zlib.crc32(body), 5, architecture, kind, compression)
    header = struct.pack(">7I4B32s", 0x2705_1956, 0, 0, *fields, b"name")
    return header[:4] + struct.pack(">I", zlib.crc32(header)) + header[8:] + body


FLASH = Area("flash", 0, 64 << 20)


def load(tmp_path, data, ram=1 << 30, guest=GUEST_TARGET):
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return load_image(path, guest, Layout(Area("RAM", 0x4000_0000, ram), [FLASH]))


OWN = bytes(8) + b"OWN!" + bytes(4) + b"code"


def test_a_targets_own_kind_of_file_is_read_by_its_reader(tmp_path):
    image = load(tmp_path, OWN)
    assert (image.kind, image.entry, image.has_addresses) == ("own image", 0x4000_0004, True)
    assert image.segments == (Segment(0x4000_0000, b"code", 0x100),)
    assert load(tmp_path, OWN, guest=target(kernel_kinds=())).kind == RAW


def test_elf(tmp_path):
    image = load(
        tmp_path, elf(segments=((0x4010_0000, b"code", 4), (0x4020_0000, b"da", 0x100), (0x5000_0000, b"", 0)))
    )
    assert (image.kind, image.entry, image.has_addresses) == (ELF, 0x4010_0000, True)
    assert [(one.address, one.data, one.size) for one in image.segments] == [
        (0x4010_0000, b"code", 4),
        (0x4020_0000, b"da", 0x100),
    ]


FORMATS = {(1, 1): ElfFormat(32, "little"), (2, 1): ElfFormat(64, "little")}
FORMATS |= {(1, 2): ElfFormat(32, "big"), (2, 2): ElfFormat(64, "big")}
ANY_FORMAT = target(elf_formats=tuple(FORMATS.values()))
formats = pytest.mark.parametrize(("bits", "order"), FORMATS, ids=[str(one) for one in FORMATS.values()])


@formats
def test_elf_files_of_both_classes_and_byte_orders(tmp_path, bits, order):
    segments = ((0x4010_0000, b"code", 8, 0xC010_0000, 5), (0x4020_0000, b"da", 0x100, 0x4020_0000, 6))
    data = elf(bits=bits, order=order, entry=0xC010_0004, segments=segments)
    image = load(tmp_path, data, guest=target(elf_formats=(FORMATS[bits, order],)))
    assert (image.kind, image.entry) == (ELF, 0x4010_0004)
    assert image.segments == (Segment(0x4010_0000, b"code", 8), Segment(0x4020_0000, b"da", 0x100))
    no_entry = elf(bits=bits, order=order, entry=0, segments=segments[::-1])
    assert load(tmp_path, no_entry, guest=ANY_FORMAT).entry == 0x4010_0000
    others = tuple(one for key, one in FORMATS.items() if key != (bits, order))
    with pytest.raises(UsageError, match=f"it is a {FORMATS[bits, order]} program, not a {others[0]} or {others[1]}"):
        load(tmp_path, data, guest=target(elf_formats=others))


@formats
def test_damaged_elf_files_of_both_classes_and_byte_orders(tmp_path, bits, order):
    data = elf(bits=bits, order=order)
    for length, fault in ((19, "header"), (51 if bits == 1 else 63, "header"), (len(data) - 5, "program headers")):
        with pytest.raises(UsageError, match=f"ELF {fault}|{fault} are damaged"):
            load(tmp_path, data[:length], guest=ANY_FORMAT)
    with pytest.raises(UsageError, match="it is truncated"):
        load(tmp_path, data[:-1], guest=ANY_FORMAT)
    with pytest.raises(UsageError, match="for machine 7, not for the guest guest"):
        load(tmp_path, elf(7, bits=bits, order=order), guest=ANY_FORMAT)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("at", "value", "fault"),
    [
        (32, (1 << 64) - 1, "program headers are damaged"),
        (32, 1 << 63, "program headers are damaged"),
        (64 + 8, (1 << 64) - 1, "it is truncated"),
        (64 + 24, (1 << 64) - 16, "does not fit into the RAM"),
        (64 + 40, (1 << 64) - 1, "does not fit into the RAM"),
        (24, (1 << 64) - 1, "its entry 0xffffffffffffffff lies in none of its segments"),
    ],
)
def test_numbers_of_64_bits_that_cannot_be(tmp_path, order, at, value, fault):
    data = bytearray(elf(bits=2, order=order))
    struct.pack_into("<Q" if order == 1 else ">Q", data, at, value)
    for pack in (bytes, compress):
        with pytest.raises(UsageError, match=fault):
            load(tmp_path, pack(bytes(data)), guest=ANY_FORMAT)


def test_a_program_of_this_machine_is_read_as_another_reader_reads_it():
    program = Path("/proc/self/exe").resolve()  # sys.executable may be a script that starts it
    with program.open("rb") as file:
        header = ELFFile(file)
        guest = target(
            elf_machine=struct.unpack_from("<H" if header.little_endian else ">H", program.read_bytes(), 18)[0],
            elf_formats=(ElfFormat(header.elfclass, "little" if header.little_endian else "big"),),
        )
        parts = [one.header for one in header.iter_segments("PT_LOAD")]
        image = load_image(program, guest, Layout(Area("RAM", 0, 1 << 40)))
        assert [(one.address, one.size, len(one.data)) for one in image.segments] == [
            (one.p_paddr, one.p_memsz, one.p_filesz) for one in parts
        ]
        assert image.entry == header.header.e_entry
        assert image.segments[0].data == program.read_bytes()[parts[0].p_offset :][: parts[0].p_filesz]


def test_a_guest_without_elf_programs_takes_none(tmp_path):
    with pytest.raises(UsageError, match="it is an ELF program, and the guest guest runs none"):
        load(tmp_path, elf(), guest=target(elf_machine=None))


def test_the_guests_of_the_tree_load():
    image = load_image(GUEST, GUEST_TARGET, Layout(Area("RAM", 0x4000_0000, 128 << 20)))
    assert image.kind == ELF
    assert image.entry == image.segments[0].address == 0x4010_0000


def test_thumb_entries_keep_their_bit(tmp_path):
    assert load(tmp_path, elf(entry=0x4010_0001)).entry == 0x4010_0001


def test_anything_else_is_a_raw_image(tmp_path):
    image = load(tmp_path, b"\x00\x00\xa0\xe3" * 8)
    assert (image.kind, image.entry, image.has_addresses) == (RAW, 0, False)
    assert image.segments[0].data[:4] == b"\x00\x00\xa0\xe3"


@pytest.mark.parametrize("plain", [OWN, elf(), b"\x00\x00\xa0\xe3" * 8], ids=["own", "elf", "raw"])
def test_gzip_makes_no_difference(tmp_path, plain):
    image = load(tmp_path, compress(plain) + b"trailing")
    assert image.segments == load(tmp_path, plain).segments


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it is empty"),
        (b"ab", "2 bytes are no program"),
        (OWN[:15], "the own image is truncated"),
        (b"\x7fELF", "ELF header is damaged"),
        (elf()[:40], "ELF header is damaged"),
        (elf(machine=62), "for x86_64, not for the guest guest"),
        (elf(machine=183, bits=2), "for AArch64, not for the guest guest"),
        (elf(machine=0x1234), "for machine .*, not for the guest guest"),
        (elf(kind=1), r"it is no executable program \(relocatable\)"),
        (elf(kind=4), r"it is no executable program \(core dump\)"),
        (elf(kind=3, entry=0, segments=((0, b"code", 4),)), "position-independent and not linked for the RAM at 0x4"),
        (elf(segments=((0x3000_0000, b"code", 4),)), "does not fit into the RAM of 1 GiB at 0x40000000 or the flash"),
        (elf(segments=((0xFFFF_FFF0, b"code", 0xFFFF_FFFF),)), "does not fit into the RAM"),
        (elf(segments=()), "0 program headers"),
        (elf(phnum=60000), "60000 program headers"),
        (elf(phnum=20), "damaged|truncated|more bytes"),
        (elf()[:-2], "truncated"),
        (elf(segments=((0x4010_0000, b"code", 2),)), "more bytes in the file than in memory"),
        (elf(segments=((0x4010_0000, b"", 0),)), "no segment to load"),
        (
            elf(segments=((0x4010_0800, b"data", 0x10), (0x4010_0000, b"code", 0x801))),
            r"two of its segments overlap \(0x40100000-0x40100800 and 0x40100800-0x4010080f\)$",
        ),
        (elf(entry=4), "entry 0x4 lies in none of its segments"),
        (elf(entry=0, segments=((0x4010_0000, b"data", 4, 0x4010_0000, 6),)), "entry 0x0 lies in none"),
        (elf(order=2), "it is a 32-bit big-endian program, not a 32-bit little-endian one"),
        (elf(bits=2), "it is a 64-bit little-endian program, not a 32-bit little-endian one"),
        (elf()[:4] + b"\3" + elf()[5:], "ELF header is damaged"),
        (elf()[:5] + b"\0" + elf()[6:], "ELF header is damaged"),
        (b"\0" * 0x38 + b"strange" + bytes(8), "it is a kernel of strangers"),
        (b"\xfd7zXZ\x00abcdef", "compressed with xz"),
        (b"\xd0\x0d\xfe\xed" + bytes(40), "device tree"),
        (b"070701" + bytes(100), "cpio archive"),
        (b"\x27\x05\x19\x56" + bytes(50), r"uImage is truncated \(54 bytes end within its header\)"),
        (b"\x27\x05\x19\x56" + bytes(100), "checksum of the uImage's header is wrong"),
        (uimage(b"code" * 8)[:-1] + b"x", "checksum of the uImage's data is wrong"),
        (uimage(b"code" * 8, size=33), r"uImage is truncated \(32 of 33 bytes\)"),
        (uimage(b"code" * 8, architecture=22), "uImage for another architecture"),
        (uimage(b"code" * 8, kind=4), "uImage of type 4, not a kernel"),
        (uimage(b"code" * 8, compression=3), "uImage is compressed with lzma; only gzip is supported"),
        (uimage(b"code" * 8, compression=1), "gzip data are damaged"),
        (uimage(b"code" * 8, entry=0x4000_8020), "entry 0x40008020 lies outside of it"),
        (compress(OWN)[:-12], "gzip data are truncated"),
        (compress(b""), "empty when decompressed"),
        (compress(OWN)[:20] + b"\xff" * 30, "gzip data are (damaged|truncated)"),
        (compress(compress(b"x" * 64))[:6], "gzip data are truncated"),
    ],
)
def test_bad_kernels(tmp_path, data, fault):
    with pytest.raises(UsageError, match=fault) as caught:
        load(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "kernel") in str(caught.value)


# --- addresses of ELF programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "segments", "entered"),
    [
        (0xC010_0004, ((0x4010_0000, b"code", 0x1000, 0xC010_0000), (0x4020_0000, b"d", 1, 0xC020_0000)), 0x4010_0004),
        (0x4010_0001, ((0x4010_0000, b"code", 0x1000, 0xC010_0000),), 0x4010_0001),
        (0x4020_0000, ((0x4010_0000, b"code", 4, 0x4020_0000), (0x4020_0000, b"d", 1, 0x4030_0000)), 0x4010_0000),
        (0x0, ((0x0, b"code", 4), (0x4010_0000, b"data", 4)), 0x0),
        (0x0, ((0x4010_0000, b"data", 4, 0x4010_0000, 6), (0x4020_0000, b"code", 4, 0x4020_0000, 5)), 0x4020_0000),
    ],
    ids=["virtual", "physical", "in two segments", "flash", "no entry"],
)
def test_the_entry_is_translated_by_the_segment_that_holds_it(tmp_path, entry, segments, entered):
    image = load(tmp_path, elf(entry=entry, segments=segments))
    assert image.entry == entered
    assert [one.address for one in image.segments] == [one[0] for one in segments]


def test_position_independent_programs_run_where_they_are_linked(tmp_path):
    assert load(tmp_path, elf(kind=3)).entry == 0x4010_0000


def test_addresses_of_a_direct_map_become_physical(tmp_path):
    """Kernels that are linked where the memory is mapped as it is have no other addresses in their files."""
    start = 0xFFFF_FC00_0000_0000
    segments = (
        (start + 0x4010_0000, b"code", 0x1000),
        (0x4020_0000, b"else", 0x1000),
    )
    path = tmp_path / "kernel"
    path.write_bytes(elf(bits=2, entry=start + 0x4010_0004, segments=segments))
    guest = target(elf_formats=(ElfFormat(64, "little"),), direct_map=(start, 1 << 40))
    image = load_image(path, guest, Layout(Area("RAM", 0x4000_0000, 128 << 20)))
    assert [one.address for one in image.segments] == [0x4010_0000, 0x4020_0000]
    assert image.entry == 0x4010_0004


def test_uimage(tmp_path):
    image = load(tmp_path, uimage(b"code" * 8, entry=0x4000_8004) + b"trailing")
    assert (image.kind, image.entry, image.has_addresses) == (UIMAGE, 0x4000_8004, True)
    assert [(one.address, one.data) for one in image.segments] == [(0x4000_8000, b"code" * 8)]
    assert load(tmp_path, uimage(compress(b"code" * 8), compression=1)).segments[0].data == b"code" * 8


# --- what a file takes of the host ------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, compress], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (lambda n: 0x4010_0000, "two of its segments overlap"),
        (lambda n: 0x4000_0000 + (n << 23), "does not fit into the RAM of 64 MiB"),
    ],
    ids=["overlap", "too large"],
)
def test_segments_that_cannot_be_are_refused_before_they_are_read(tmp_path, pack, place, fault):
    """32 segments that are all the same 8 MiB of the file."""
    count, size = 32, 8 << 20
    data = bytearray(elf(segments=[(place(n), b"", size) for n in range(count)], entry=0x4010_0000)) + bytes(size)
    for n in range(count):
        struct.pack_into("<I", data, 52 + 32 * n + 16, size - (52 + 32 * count))
    (tmp_path / "kernel").write_bytes(pack(bytes(data)))
    del data
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=fault):
            load_image(tmp_path / "kernel", GUEST_TARGET, Layout(Area("RAM", 0x4000_0000, 64 << 20)))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20  # the plain file
    finally:
        tracemalloc.stop()


def test_decompressing_stops_at_what_ram_can_hold(tmp_path):
    bomb = compress(b"\x00\x00\xa0\xe3" * (2 << 20))
    assert load(tmp_path, bomb, ram=8 << 20).segments[0].size == 8 << 20
    with pytest.raises(UsageError, match="more than 7 MiB when decompressed; more memory"):
        load(tmp_path, bomb, ram=7 << 20)


def test_what_is_not_loaded_of_an_elf_file_needs_no_ram(tmp_path):
    """Symbols for a debugger, mostly."""
    image = load(tmp_path, compress(elf() + bytes(9 << 20)), ram=8 << 20)
    assert image.segments[0].data == b"code"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_elf_files_never_do_worse_than_a_usage_error(tmp_path, data):
    bits, order = data.draw(st.sampled_from(list(FORMATS)))
    segments = ((0x4010_0000, b"code" * 8, 0x1000), (0x4020_0000, b"data", 0x20))
    image = bytearray(elf(bits=bits, order=order, segments=segments))
    headers = (52 + 2 * 32, 64 + 2 * 56)[bits - 1]
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(4, headers - 1))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(0, len(image)))]
    try:
        loaded = load(tmp_path, bytes(image), guest=ANY_FORMAT)
    except UsageError:
        return
    assert all(len(one.data) <= one.size for one in loaded.segments)
