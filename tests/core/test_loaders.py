# SPDX-License-Identifier: Apache-2.0
"""Kernel images: each kind is recognised, and whatever is wrong with a file is one UsageError that says so."""

import gzip
import os
import socket
import stat
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raddle.errors import UsageError
from raddle.machine.loaders import ImageKind, Layout, gunzip, load_image, read_file

ARM = 40
compress = partial(gzip.compress, mtime=0)
GUEST = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"


def zimage(size=0x400, start=0, end=None, order=0x0403_0201):
    data = bytearray(size)
    struct.pack_into("<IIII", data, 0x24, 0x016F_2818, start, size if end is None else end, order)
    return bytes(data)


def elf(
    machine=ARM, kind=2, bits=1, order=1, entry=0x4010_0000, segments=((0x4010_0000, b"code", 0x1000),), phnum=None
):
    """A 32-bit ELF file with these PT_LOAD segments (address, data, size in memory)."""
    table = bytearray()
    position = 52 + 32 * len(segments)
    body = b""
    for address, data, size in segments:
        table += struct.pack("<8I", 1, position + len(body), 0xDEAD_0000, address, len(data), size, 7, 4)
        body += data
    count = len(segments) if phnum is None else phnum
    header = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", kind, machine, 1, entry, 52, 0, 0, 52, 32, count, 40, 0, 0)
    return header + bytes(table) + body


def load(tmp_path, data):
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return load_image(path, ARM)


def test_zimage(tmp_path):
    image = load(tmp_path, zimage() + b"appended")
    assert image.kind is ImageKind.ZIMAGE
    assert (image.entry, image.segments[0].size) == (0, 0x408)


def test_elf(tmp_path):
    image = load(
        tmp_path, elf(segments=((0x4010_0000, b"code", 4), (0x4020_0000, b"da", 0x100), (0x5000_0000, b"", 0)))
    )
    assert (image.kind, image.entry) == (ImageKind.ELF, 0x4010_0000)
    assert [(one.address, one.data, one.size) for one in image.segments] == [
        (0x4010_0000, b"code", 4),
        (0x4020_0000, b"da", 0x100),
    ]


def test_the_guests_of_the_tree_load():
    image = load_image(GUEST, ARM)
    assert image.kind is ImageKind.ELF
    assert image.entry == image.segments[0].address == 0x4010_0000


def test_thumb_entries_keep_their_bit(tmp_path):
    assert load(tmp_path, elf(entry=0x4010_0001)).entry == 0x4010_0001


def test_anything_else_is_a_raw_image(tmp_path):
    image = load(tmp_path, b"\x00\x00\xa0\xe3" * 8)
    assert (image.kind, image.entry, image.segments[0].data[:4]) == (ImageKind.RAW, 0, b"\x00\x00\xa0\xe3")


@pytest.mark.parametrize("plain", [zimage(), elf(), b"\x00\x00\xa0\xe3" * 8], ids=["zimage", "elf", "raw"])
def test_gzip_makes_no_difference(tmp_path, plain):
    image = load(tmp_path, compress(plain) + b"trailing")
    assert image.segments == load(tmp_path, plain).segments


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it is empty"),
        (b"ab", "2 bytes are no program"),
        (zimage(end=0x500), r"truncated \(1024 of 1280 bytes\)"),
        (zimage()[:0x28], r"truncated \(40 bytes end within its header\)"),
        (zimage()[:0x33], r"truncated \(51 bytes end within its header\)"),
        (zimage(end=0), "header is damaged"),
        (zimage(order=0x0102_0304), "big-endian zImage"),
        (b"\x7fELF", "ELF header is damaged"),
        (elf()[:40], "ELF header is damaged"),
        (elf(machine=62), "for x86-64, not for ARM"),
        (elf(machine=183, bits=2), "for AArch64, not for ARM"),
        (elf(machine=0x1234), "for machine .*, not for ARM"),
        (elf(kind=3), "not an executable with fixed addresses"),
        (elf(kind=1), "not an executable with fixed addresses"),
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
        (elf(entry=0), "entry 0x0 lies in none of its segments"),
        (elf(order=2), "not for ARM|big-endian"),
        (b"\0" * 0x38 + b"ARM\x64" + bytes(8), "64-bit ARM kernel"),
        (b"\0" * 0x202 + b"HdrS" + bytes(8), "x86 kernel"),
        (b"\xfd7zXZ\x00abcdef", "compressed with xz"),
        (b"\xd0\x0d\xfe\xed" + bytes(40), "device tree"),
        (b"070701" + bytes(100), "cpio archive"),
        (b"\x27\x05\x19\x56" + bytes(100), "uImage"),
        (compress(zimage())[:-12], "gzip data are truncated"),
        (compress(b""), "empty when decompressed"),
        (compress(zimage())[:20] + b"\xff" * 30, "gzip data are (damaged|truncated)"),
        (compress(compress(b"x" * 64))[:6], "gzip data are truncated"),
    ],
)
def test_bad_kernels(tmp_path, data, fault):
    with pytest.raises(UsageError, match=fault) as caught:
        load(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "kernel") in str(caught.value)


def test_gzip_bombs_are_stopped():
    bomb = compress(bytes(4 << 20))
    with pytest.raises(UsageError, match="more than 1 MiB when decompressed"):
        gunzip(bomb, "kernel", limit=1 << 20)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("missing", "No such file"),
        (".", "it is a directory"),
        ("bad\0name", "null"),
        ("secret", "Permission denied"),
    ],
)
def test_unreadable_files(tmp_path, path, fault):
    if path == "secret":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        (tmp_path / "secret").touch(mode=0)
    with pytest.raises(UsageError, match=f"cannot read initrd .*{fault}"):
        read_file(tmp_path / path, "initrd")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (make_socket, "a socket"),
        (Path.mkdir, "a directory"),
    ],
    ids=["pipe", "device", "socket", "directory"],
)
def test_what_might_never_end_is_refused(make, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("it"))
    with pytest.raises(UsageError, match=f"cannot read kernel it: it is {kind}, not a file"):
        read_file("it", "kernel")


def test_a_pipe_that_comes_in_between_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "it")
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: True)
    with pytest.raises(UsageError, match="empty"):
        read_file(tmp_path / "it", "kernel")


def test_large_files_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "it").touch()
    os.truncate(tmp_path / "it", 1 << 40)
    with pytest.raises(UsageError, match="larger than 1 GiB"):
        read_file(tmp_path / "it", "kernel")
    os.truncate(tmp_path / "it", (1 << 20) + 1)
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        read_file(tmp_path / "it", "kernel", 1 << 20)


def test_no_more_memory_is_taken_than_a_file_needs(tmp_path):
    (tmp_path / "it").write_bytes(b"small")
    tracemalloc.start()
    try:
        assert read_file(tmp_path / "it", "kernel") == b"small"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_files_of_unknown_size_are_read_to_their_end(monkeypatch):
    monkeypatch.setattr("raddle.machine.loaders.PIECE", 7)
    assert Path("/proc/version").stat().st_size == 0
    assert read_file("/proc/version", "kernel") == Path("/proc/version").read_bytes()


def test_files_of_unknown_size_are_read_as_far_as_the_limit():
    assert Path("/proc/cpuinfo").stat().st_size == 0
    with pytest.raises(UsageError, match="larger than 10 bytes"):
        read_file("/proc/cpuinfo", "kernel", 10)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_elf_files_never_do_worse_than_a_usage_error(tmp_path, data):
    image = bytearray(elf(segments=((0x4010_0000, b"code" * 8, 0x1000), (0x4020_0000, b"data", 0x20))))
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(4, 115))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(0, len(image)))]
    try:
        loaded = load(tmp_path, bytes(image))
    except UsageError:
        return
    assert all(len(one.data) <= one.size for one in loaded.segments)


# --- layout -----------------------------------------------------------------------------------------------------


def test_layout_refuses_what_does_not_fit():
    layout = Layout(0x4000_0000, 16 << 20)
    layout.add("the kernel", 0x4001_0000, bytes(100), 0x10_0000)
    with pytest.raises(UsageError, match=r"initrd .* overlaps the kernel .*-m"):
        layout.add("initrd", 0x4010_0000, bytes(0x2_0000))
    with pytest.raises(UsageError, match="does not fit into the RAM of 16 MiB at 0x40000000"):
        layout.add("initrd", 0x40FF_F000, bytes(0x2000))
    with pytest.raises(UsageError, match="does not fit"):
        layout.add("initrd", 0, bytes(0x2000))


def test_layout_finds_free_places():
    layout = Layout(0x4000_0000, 1 << 20)
    assert layout.free(28, 0x4000_0000) == 0x4000_0000
    layout.add("a", 0x4000_0000, bytes(0x1800))
    layout.add("b", 0x4000_3000, bytes(0x1000))
    assert layout.free(0x1000, 0x4000_0000) == 0x4000_2000
    assert layout.free(0x1001, 0x4000_0000) == 0x4000_4000
    with pytest.raises(UsageError, match="no room"):
        layout.free(1 << 20, 0x4000_0000)
