# SPDX-License-Identifier: Apache-2.0
"""The virt board with firmware: flash, what firmware is offered, and what is loaded beside it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import fdt
import pytest

from raddle import FlashFile, Machine
from raddle.devices.cfi_flash import CfiFlash
from raddle.errors import OutputError, UsageError
from raddle.machine.load import Load

RAM, FW_CFG = 0x4000_0000, 0x902_0000
CODE = b"\xfe\xff\xff\xea" * 8  # b .
GUESTS = Path(__file__).parents[2] / "guests/arm/prebuilt"

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(name: str, data: bytes = CODE, size: int = 0) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        if size:
            with path.open("ab") as file:
                file.truncate(size)
        return path

    return make


def powered_on(**options: Any) -> Machine:
    machine = Machine("virt", memory="64M", **options)
    machine.start(paused=True)
    return machine


def item(machine: Machine, number: int, size: int) -> bytes:
    """The start of a firmware configuration item."""
    device = machine.board.fw_cfg  # type: ignore[attr-defined]
    device.write(8, 2, int.from_bytes(struct.pack(">H", number), "little"))
    return b"".join(device.read(0, 1).to_bytes(1, "little") for _ in range(size))


def test_firmware_is_offered_what_it_is_to_boot(make: Make) -> None:
    kernel, initrd = b"kernel as it is", b"initrd"
    options = {"kernel": make("kernel", kernel), "initrd": make("initrd", initrd), "append": "quiet"}
    with powered_on(cpus=3, bios=make("bios"), **options) as machine:
        assert machine.cpus[0].regs.pc == 0
        assert item(machine, 0x05, 2) == b"\3\0"
        for size, data, content in ((0x08, 0x11, kernel), (0x0B, 0x12, initrd), (0x14, 0x15, b"quiet\0")):
            assert item(machine, size, 4) == struct.pack("<I", len(content))
            assert item(machine, data, len(content) + 2) == content + bytes(2)
        tree = fdt.parse_dtb(machine.memory.read(RAM, 128 << 10))
        assert tree.get_property("bootargs", "/chosen").value == "quiet"
        assert not tree.exist_property("linux,initrd-start", "/chosen")
        assert tree.header.total_size - struct.unpack_from(">9I", machine.memory.read(RAM, 36))[3] > 64 << 10


def test_without_firmware_there_is_nothing_to_offer(make: Make) -> None:
    with powered_on(kernel=GUESTS / "hello.elf") as machine:
        assert item(machine, 0x00, 4) == b"QEMU"
        assert item(machine, 0x08, 4) == bytes(4)


def test_kernels_of_other_guests_are_no_firmware(make: Make) -> None:
    path = make("Image", CODE + bytes(0x38 - len(CODE)) + b"ARM\x64" + bytes(8))
    with pytest.raises(UsageError, match=f"cannot use firmware {path}: it is a 64-bit ARM kernel"):
        Machine("virt", memory="64M", bios=path)


def test_the_device_tree_shows_flash_and_fw_cfg(make: Make) -> None:
    with powered_on(bios=make("bios")) as machine:
        tree = fdt.parse_dtb(machine.memory.read(RAM, 128 << 10))
        flash = tree.get_node("/flash@0")
        assert flash.get_property("compatible").value == "cfi-flash"
        assert list(flash.get_property("reg")) == [0, 0, 0, 0x400_0000, 0, 0x400_0000, 0, 0x400_0000]
        assert flash.get_property("bank-width").value == 4
        assert list(tree.get_property("reg", "/fw-cfg@9020000")) == [0, FW_CFG, 0, 0x18]
        assert tree.get_property("compatible", "/fw-cfg@9020000").value == "qemu,fw-cfg-mmio"


def test_what_is_loaded_comes_again_with_a_reset(make: Make) -> None:
    load = [
        (make("file", b"some file"), RAM + 0x20_0001),
        (b"bytes", 0x400_0000),
        Load(GUESTS / "hello.elf", None, raw=False),
    ]
    with powered_on(bios=make("bios"), load=load) as machine:
        for _ in range(2):
            assert machine.memory.read(RAM + 0x20_0001, 9) == b"some file"
            assert machine.memory.read(0x400_0000, 5) == b"bytes"
            assert machine.memory.read(RAM + 0x10_0000, 4) != bytes(4)
            machine.memory[0x400_0000:0x400_0005] = bytes(5)
            machine.memory[RAM + 0x20_0001 : RAM + 0x20_0006] = bytes(5)
            machine.board.reset()


def test_what_is_not_loaded_of_a_program_needs_no_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols for a debugger, mostly. The file is read once. Other files may be as large as the largest memory."""
    program = (GUESTS / "hello.elf").read_bytes()
    opened: list[str] = []
    really = os.open

    def counting(path: Any, *more: Any) -> int:
        opened.append(str(path))
        return really(path, *more)

    monkeypatch.setattr(os, "open", counting)
    small: dict[str, Any] = {"memory": "32M", "bios": make("bios"), "serial": "null"}
    big, other = make("big", program, size=40 << 20), make("other", size=40 << 20)
    with Machine("virt", load=[Load(big, None, raw=False), (other, 0x400_0000)], **small):
        assert opened.count(str(big)) == 1
    with pytest.raises(UsageError, match=r"file .*other .* does not fit .*; more memory"):
        Machine("virt", load=[Load(other, RAM + 0x20_0000, raw=False)], **small)
    with pytest.raises(UsageError, match=r"file .*larger: it is larger than 64 MiB; more memory"):
        Machine("virt", load=[(make("larger", size=65 << 20), RAM)], **small)


@pytest.mark.parametrize(
    ("load", "fault"),
    [
        (
            lambda make: (b"x", 0x900_0000),
            r"data for 0x9000000 \(0x9000000-0x9000000\) does not fit .*; give it another",
        ),
        (lambda make: (make("x"), RAM), r"file .*x \(0x40000000-0x4000001f\) overlaps the device tree .*; give"),
        (lambda make: (make("x"), 1 << 63), "does not fit into the RAM .*; give it another address"),
        (lambda make: ("/nonexistent", RAM), "cannot read file /nonexistent: No such file or directory"),
        (
            lambda make: Load(make("x"), None, raw=False),
            "cannot load file .*x: it does not say where it goes; add addr=ADDRESS",
        ),
        (lambda make: Load(make("x", b"\x27\x05\x19\x56"), 9, raw=False), "it is a uImage, .* add force-raw=on"),
        (lambda make: Load(make("x", b"\x7fELF"), None, raw=False), "cannot use file .*x: the ELF header is damaged"),
    ],
)
def test_what_cannot_be_loaded(make: Make, load: Callable[[Make], Any], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        Machine("virt", memory="64M", bios=make("bios"), load=[load(make)])


def test_files_are_given_back_when_a_machine_cannot_be_built(make: Make) -> None:
    files = [make(name, size=CfiFlash.SIZE) for name in ("code", "variables")]
    with pytest.raises(UsageError, match="cannot read file /nonexistent"):
        Machine("virt", pflash=files, load=[("/nonexistent", RAM)])
    with pytest.raises(UsageError, match="virt has 2 flash banks, not 3; the files are for unit=0 to unit=1"):
        Machine("virt", pflash=[*files, files[0]])
    with pytest.raises(UsageError, match=r"cannot use flash file .*variables: it has"):
        Machine("virt", pflash=[files[0], make("variables", size=5)])
    for _ in range(2):
        with powered_on(pflash=files[0]):
            pass


def test_changes_are_synced_when_the_machine_pauses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("raddle.machine.flash_file.os.fsync", synced.append)
    with Machine(
        "virt", memory="64M", bios=make("bios"), pflash=[None, make("variables", size=CfiFlash.SIZE)]
    ) as machine:
        machine.start()
        machine.pause()
        assert synced == []
        flash = machine.board.flash.banks[1]  # type: ignore[attr-defined]
        for value in (0x20_0020, 0xD0_00D0):
            with machine.engine.big_lock:
                flash.write(0, 4, value)
        machine.resume()
        machine.pause()
        assert len(synced) == 1


def test_a_disk_that_is_full_ends_the_machine_with_its_name(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest erases a block of flash that its file cannot take."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    code = struct.pack(
        "<8I",
        0xE3A0_0301,  # mov r0, #0x4000000
        0xE3A0_1020,  # mov r1, #0x20
        0xE580_1000,  # str r1, [r0]
        0xE3A0_10D0,  # mov r1, #0xd0
        0xE580_1000,  # str r1, [r0]
        0xEAFF_FFFE,  # b .
        0,
        0,
    )
    variables = make("variables", size=CfiFlash.SIZE)
    options: dict[str, Any] = {"bios": make("bios", code), "pflash": [None, FlashFile(variables)]}
    with closing(Machine("virt", memory="64M", **options)) as machine:
        monkeypatch.setattr("raddle.machine.flash_file.os.pwrite", full)
        machine.start()
        with pytest.raises(OutputError) as caught:
            machine.wait(60)
    assert str(caught.value) == f"cannot write to flash file {variables}: No space left on device"
