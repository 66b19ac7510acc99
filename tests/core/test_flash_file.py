# SPDX-License-Identifier: Apache-2.0
"""Files behind flash banks: what is written back and what is not, what cannot be used, and firmware that is none."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raddle.devices.cfi_flash import CfiFlash
from raddle.devices.flash_banks import FlashBanks
from raddle.errors import OutputError, UsageError
from raddle.machine import flash_file
from raddle.machine.board import BoardOptions
from raddle.machine.firmware import check_firmware
from raddle.machine.flash_file import FlashFile, FlashImage
from raddle.memory import AddressSpace
from raddle.ordering import MemoryOrder
from raddle.plugins import Magic, Target

SIZE, BLOCK = CfiFlash.SIZE, CfiFlash.BLOCK
CODE = b"\x0e\0\0\xea" * 16
VOLUME = CODE[:32] + struct.pack("<Q4s", 2 << 20, b"_FVH")
"""A firmware volume's header."""

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A flash file that begins with `data`, of the right size unless `size` says otherwise."""

    def make(name: str = "flash", data: bytes = CODE, size: int = SIZE) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.write(data)
            file.truncate(size)
        return path

    return make


@pytest.fixture
def space() -> Iterator[AddressSpace]:
    with closing(AddressSpace()) as space:
        yield space


def banks(space: AddressSpace, *files: FlashFile | None, bios: Path | None = None) -> FlashBanks:
    return FlashBanks(space, [0, SIZE], files, bios)


def erase(flash: FlashBanks, bank: int, offset: int) -> None:
    for command in (0x20, 0xD0):
        flash.banks[bank].write(offset, 4, command << 16 | command)


def program(flash: FlashBanks, bank: int, offset: int, value: int) -> None:
    flash.banks[bank].write(offset, 4, 0x40_0040)
    flash.banks[bank].write(offset, 4, value)


def test_what_the_guest_programs_is_in_the_file_at_once(space: AddressSpace, make: Make) -> None:
    path = make(data=CODE + b"rest")
    with closing(banks(space, None, FlashFile(path))) as flash:
        assert space.read(SIZE, len(CODE) + 8) == CODE + b"rest" + bytes(4)
        erase(flash, 1, BLOCK)
        program(flash, 1, BLOCK + 8, 0x1234_5678)
        with path.open("rb") as file:
            assert file.read(len(CODE) + 4) == CODE + b"rest"
            file.seek(BLOCK - 4)
            assert file.read(16) == bytes(4) + b"\xff" * 8 + b"\x78\x56\x34\x12"
            file.seek(2 * BLOCK - 4)
            assert file.read(8) == b"\xff" * 4 + bytes(4)
        space.write(SIZE, b"debugger")  # is no programming
        flash.sync()
    assert path.stat().st_size == SIZE
    assert path.read_bytes()[: len(CODE)] == CODE
    with closing(banks(second := AddressSpace(), None, FlashFile(path))):
        assert second.read(SIZE + BLOCK + 8, 4) == b"\x78\x56\x34\x12"
    second.close()


def test_only_what_changes_takes_room_on_the_disk(space: AddressSpace, make: Make) -> None:
    path = make()
    with closing(banks(space, None, FlashFile(str(path)))) as flash:
        program(flash, 1, 32 << 20, 0)  # is zero already
        erase(flash, 1, 8 << 20)
    assert path.stat().st_blocks * 512 <= BLOCK + 64 * 1024


@pytest.mark.parametrize("how", ["readonly", "snapshot"])
def test_a_file_that_is_to_stay_as_it_is_stays(space: AddressSpace, make: Make, how: str) -> None:
    path = make()
    path.chmod(0o444)
    file = FlashFile(path, **{how: True})
    with closing(banks(space, None, file)) as flash:
        erase(flash, 1, 0)
        assert space.read(SIZE, 4) == (CODE[:4] if how == "readonly" else b"\xff" * 4)
        assert flash.banks[1].read(0, 2) == (0xA2 if how == "readonly" else 0x80)
        flash.sync()
    assert path.read_bytes()[: len(CODE)] == CODE


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        (789972, "it has 789972 bytes, and the flash bank 64 MiB; make a copy and `truncate -s 67108864` it"),
        (0, "it has no contents, and the flash bank 64 MiB; `truncate -s 67108864 FILE` makes one of zeros"),
        (
            SIZE + 1,
            "it has 67108865 bytes, and the flash bank 64 MiB; give what is for this bank alone: `head -c 67108864`",
        ),
    ],
)
def test_a_file_has_the_size_of_its_bank(space: AddressSpace, make: Make, size: int, fault: str) -> None:
    path = make(size=size)
    for readonly in (False, True):
        with pytest.raises(UsageError, match=re.escape(f"cannot use flash file {path}: {fault}")):
            banks(space if readonly else AddressSpace(), None, FlashFile(path, readonly))
    assert path.stat().st_size == size


def test_what_is_no_file_is_refused(space: AddressSpace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, fault in (
        (tmp_path, "cannot use flash file .*: it is a directory, not a file"),
        (tmp_path / "pipe", "cannot use flash file .*: it is a pipe, not a file"),
        (Path("/dev/null"), "cannot use flash file .*: it is a device, not a file"),
        (tmp_path / "none", "cannot open flash file .*none: No such file or directory$"),
        (tmp_path / ("x" * 300), "cannot open flash file .*: File name too long"),
        (Path("a\0b"), "cannot open flash file .*: .*embedded null"),
        (5, "cannot open flash file 5: .* not '?int"),
    ):
        with pytest.raises(UsageError, match=fault) as caught:
            FlashImage(FlashFile(path), SIZE)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="it has no contents, and the flash bank"):  # it says that it is empty
        FlashImage(FlashFile("/proc/version", readonly=True), SIZE)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_written_says_how_to_use_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path, opened = make(), os.open

    def open_to_read(path: Path, flags: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(error, os.strerror(error))
        return opened(path, flags)

    monkeypatch.setattr(flash_file.os, "open", open_to_read)
    with pytest.raises(UsageError) as caught:
        FlashImage(FlashFile(path), SIZE)
    hint = "readonly=on or snapshot=on leaves the file as it is"
    assert str(caught.value) == f"cannot open flash file {path}: {os.strerror(error)}; {hint}"
    FlashImage(FlashFile(path, readonly=True), SIZE).close()


def test_two_banks_do_not_share_a_file_that_is_written(space: AddressSpace, make: Make) -> None:
    path = make()
    with pytest.raises(UsageError, match=f"cannot use flash file {path}: another flash bank"):
        banks(AddressSpace(), FlashFile(path), FlashFile(path))
    both = FlashFile(path, snapshot=True)
    sharing = banks(space, both, FlashFile(path, readonly=True))
    with pytest.raises(UsageError, match="another flash bank"):
        FlashImage(FlashFile(path), SIZE)
    sharing.close()
    FlashImage(FlashFile(path), SIZE).close()  # everybody has given it back


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_named_and_the_bank_keeps_what_it_held(
    space: AddressSpace, make: Make, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path = make()

    def fails(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    with closing(banks(space, None, FlashFile(path))) as flash:
        monkeypatch.setattr(flash_file.os, "pwrite", fails)
        flash.banks[1].write(0, 4, 0x20_0020)
        with pytest.raises(OutputError, match=f"cannot write to flash file {path}: {os.strerror(error)}"):
            flash.banks[1].write(0, 4, 0xD0_00D0)
        assert space.read(SIZE, 4) == CODE[:4]
        monkeypatch.undo()
        flash.banks[1].reset()
        erase(flash, 1, 0)
        monkeypatch.setattr(flash_file.os, "fsync", fails)
        with pytest.raises(OutputError, match=f"cannot write to flash file {path}"):
            flash.sync()


def test_short_writes_go_on(space: AddressSpace, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = make(), os.pwrite
    monkeypatch.setattr(flash_file.os, "pwrite", lambda file, data, offset: write(file, data[:1000], offset))
    with closing(banks(space, None, FlashFile(path))) as flash:
        erase(flash, 1, BLOCK)
    with path.open("rb") as file:
        file.seek(BLOCK)
        assert file.read(BLOCK + 1) == b"\xff" * BLOCK + b"\0"


def test_a_file_system_without_locks_is_used_without(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(flash_file.fcntl, "flock", refuses)
    FlashImage(FlashFile(make()), SIZE).close()


# --- firmware ---------------------------------------------------------------------------------------------------


def test_firmware_is_put_into_the_first_bank(space: AddressSpace, make: Make) -> None:
    flash = banks(space, bios=make(size=100_000))
    assert space.read(0, len(CODE) + 4) == CODE + bytes(4)
    assert space.read(100_000 - 4, 8) == bytes(4) + b"\xff" * 4
    assert space.read(BLOCK - 4, 8) == b"\xff" * 4 + bytes(4)
    erase(flash, 0, 0)
    assert space.read(0, BLOCK + 1) == b"\xff" * BLOCK + b"\0"
    assert (make("flash", size=100_000)).read_bytes().startswith(CODE)


def test_the_second_bank_needs_no_firmware(space: AddressSpace, make: Make) -> None:
    banks(space, None, FlashFile(make(data=b""))).close()


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ({}, [False, False]),
        ({"bios": Path("x")}, [True, False]),
        ({"flash": (FlashFile("x"),)}, [True, False]),
        ({"flash": (None, FlashFile("x"))}, [False, True]),
    ],
)
def test_which_banks_have_an_image(given: dict[str, Any], has: list[bool]) -> None:
    target = Target("guest", 32, True, MemoryOrder.NONE, None, ("cpu",), load=NotImplemented)
    options = BoardOptions(1, "cpu", 1 << 20, target, **given)
    assert [options.has_image(bank) for bank in range(2)] == has


def test_one_image_for_a_bank(space: AddressSpace, make: Make) -> None:
    with pytest.raises(UsageError, match=r"two images for the first flash bank: firmware .*bios \(-bios\) and .*flash"):
        banks(space, FlashFile(make()), bios=make("bios", size=1000))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (bytes(1000), "there is no firmware in it: it begins with nothing but zeros or ones"),
        (b"\xff" * 1000, "there is no firmware in it: it begins with nothing but zeros or ones"),
        (b"\x7fELF" + bytes(100), "it is an ELF program, not what a CPU finds in ROM; give it as -kernel"),
        (b"\x27\x05\x19\x56" + bytes(100), "it is a U-Boot image (uImage); give it as -kernel"),
        (b"\x1f\x8b\x08" + bytes(100), "it is compressed with gzip; decompress it first"),
        (b"\xd0\x0d\xfe\xed" + bytes(100), "it is a device tree or FIT image"),
        (VOLUME + CODE, "it is truncated: 108 bytes of a firmware volume of 2 MiB"),
    ],
)
def test_what_is_no_firmware_is_refused(make: Make, data: bytes, fault: str) -> None:
    path = make("image", data, len(data))
    with pytest.raises(UsageError, match=re.escape(f"cannot use firmware {path}: {fault}")):
        banks(AddressSpace(), bios=path)
    with pytest.raises(UsageError, match=re.escape(fault.partition(":")[0])):
        check_firmware(data, "it")


def test_what_the_target_refuses_is_no_firmware(make: Make) -> None:
    foreign = (Magic(0x38, b"strange", "a kernel of strangers"),)
    data = CODE[:0x38] + b"strange" + bytes(8)
    for bios, file in ((make("image", data, len(data)), None), (None, FlashFile(make(data=data)))):
        with pytest.raises(UsageError, match=r"cannot use f.*: it is a kernel of strangers"):
            FlashBanks(AddressSpace(), [0, SIZE], [file], bios, foreign)
        banks(AddressSpace(), file, bios=bios).close()


def test_a_bank_to_start_in_has_firmware(make: Make) -> None:
    path = make(data=b"")
    with pytest.raises(UsageError, match=f"cannot use flash file {path}: there is no firmware in it"):
        banks(AddressSpace(), FlashFile(path))
    banks(AddressSpace(), FlashFile(make(data=VOLUME))).close()
