# SPDX-License-Identifier: Apache-2.0
"""Kernel files that are ARM's: zImages, and kernels of its relatives, which are refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from raddle.errors import UsageError
from raddle.layout import Area, Layout
from raddle.machine.firmware import check_firmware
from raddle.machine.loaders import RAW, Image, load_image
from raddle_target_arm.plugin import raddle_target

TARGET = raddle_target()


def zimage(size: int = 0x400, start: int = 0, end: int | None = None, order: int = 0x0403_0201) -> bytes:
    data = bytearray(size)
    struct.pack_into("<IIII", data, 0x24, 0x016F_2818, start, size if end is None else end, order)
    return bytes(data)


def load(tmp_path: Path, data: bytes) -> Image:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return load_image(path, TARGET, Layout(Area("RAM", 0x4000_0000, 64 << 20)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_zimage(tmp_path: Path, pack: type[bytes]) -> None:
    image = load(tmp_path, pack(zimage() + b"appended"))
    assert (image.kind, image.entry, image.has_addresses) == ("zImage", 0, False)
    assert [(one.address, one.size) for one in image.segments] == [(0, 0x408)]


def test_anything_else_is_a_raw_image(tmp_path: Path) -> None:
    assert load(tmp_path, b"\x00\x00\xa0\xe3" * 64).kind == RAW


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (zimage(end=0x500), r"the zImage is truncated \(1024 of 1280 bytes\)"),
        (zimage()[:0x28], r"truncated \(40 bytes end within its header\)"),
        (zimage()[:0x33], r"truncated \(51 bytes end within its header\)"),
        (zimage(end=0), r"header is damaged \(start 0x0, end 0x0\)"),
        (zimage(order=0x0102_0304), "big-endian zImage"),
        (bytes(0x38) + b"ARM\x64" + bytes(8), "it is a 64-bit ARM kernel"),
        (bytes(0x202) + b"HdrS" + bytes(8), "it is an x86 kernel"),
    ],
)
def test_bad_kernels(tmp_path: Path, data: bytes, fault: str) -> None:
    with pytest.raises(UsageError, match=f"cannot use kernel .*/kernel: .*{fault}"):
        load(tmp_path, data)


def test_what_is_refused_as_a_kernel_is_no_firmware() -> None:
    data = b"\xfe\xff\xff\xea" * 14 + b"ARM\x64" + bytes(8)
    with pytest.raises(UsageError, match="cannot use it: it is a 64-bit ARM kernel"):
        check_firmware(data, "it", TARGET.foreign_files)
    check_firmware(data, "it")
