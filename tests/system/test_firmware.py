# SPDX-License-Identifier: Apache-2.0
"""Debian's U-Boot in flash: its prompt in every mode, its environment, and a stock kernel that it starts; UEFI.

Needs Debian's packages u-boot-qemu and qemu-efi-arm. Tests that boot a kernel need the payload, too (see conftest.py),
and the one of `bootm` the package u-boot-tools.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.system.test_linux import CRY, LIMIT

from raddle import FlashFile
from raddle.devices.cfi_flash import CfiFlash
from raddle.machine.machine import Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.host,
]

PROMPT = "=> "
KERNEL, IMAGE, INITRD = 0x4040_0000, 0x4200_0000, 0x4600_0000
MODES = (
    pytest.param({"accelerator": "tcg,thread=multi"}, id="multi"),
    pytest.param({"accelerator": "tcg,thread=single"}, id="single"),
    pytest.param({"icount": "shift=auto"}, id="icount"),
)


@pytest.fixture(scope="session")
def u_boot() -> Path:
    path = Path("/usr/lib/u-boot/qemu_arm/u-boot.bin")
    if not path.is_file():
        pytest.skip(f"needs U-Boot, which is not in {path}: Debian's package u-boot-qemu")
    return path


@pytest.fixture
def uefi(tmp_path: Path) -> tuple[Path, Path]:
    """UEFI's code, and a copy of its empty store of variables."""
    code, variables = (Path(f"/usr/share/AAVMF/AAVMF32_{name}.fd") for name in ("CODE", "VARS"))
    if not code.is_file():
        pytest.skip(f"needs UEFI firmware, which is not in {code}: Debian's package qemu-efi-arm")
    return code, Path(shutil.copy(variables, tmp_path / "variables"))


@contextmanager
def at_prompt(**options: Any) -> Iterator[Machine]:
    """A machine whose U-Boot has been stopped at its prompt."""
    with Machine("virt", memory="512M", **options) as machine:
        machine.start()
        stop_countdown(machine)
        yield machine


def stop_countdown(machine: Machine) -> None:
    machine.console.expect("autoboot", timeout=LIMIT)
    machine.console.send("\x03")
    machine.console.expect(PROMPT, timeout=LIMIT)


def do(machine: Machine, command: str) -> str:
    """What a command at the prompt prints."""
    machine.console.send(command + "\r")
    match = machine.console.expect(PROMPT, timeout=LIMIT)
    return match.string[: match.start()]


def new_flash(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(CfiFlash.SIZE)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_prompt_flash_and_reset(u_boot: Path, mode: dict[str, str], tmp_path: Path) -> None:
    flash = new_flash(tmp_path / "environment")
    with at_prompt(bios=u_boot, pflash=[None, flash], **mode) as machine:
        assert do(machine, "flinfo").count("CFI conformant flash") == 2
        do(machine, "setenv greeting good-day")
        assert "Writing to Flash... done" in do(machine, "saveenv")
        do(machine, "protect off all")
        do(machine, "erase 0x4100000 +40000")
        do(machine, "cp.b 0 0x4100000 1003")
        assert "Total of 4099 byte(s) were the same" in do(machine, "cmp.b 0 0x4100000 1003")
        machine.console.send("reset\r")
        stop_countdown(machine)
        assert "\ngood-day" in do(machine, "echo $greeting")
    with at_prompt(bios=u_boot, pflash=[None, FlashFile(flash, readonly=True)], **mode) as machine:
        assert "\ngood-day" in do(machine, "echo $greeting")
        do(machine, "setenv greeting good-night")
        do(machine, "saveenv")  # U-Boot does not look at the status that says so
        assert b"greeting=good-day" in machine.memory.read(CfiFlash.SIZE, 64 << 10)


def test_what_is_saved_survives_the_end_of_the_process(u_boot: Path, tmp_path: Path) -> None:
    flash = new_flash(tmp_path / "environment")
    options = ["-bios", str(u_boot), "-drive", f"if=pflash,unit=1,format=raw,file={flash}", "-nographic"]
    for command, answer in (("setenv greeting good-day; saveenv", "\nOK"), ("echo $greeting", "\ngood-day")):
        words = ["-m", "raddle.cli.main", "boot", "-M", "virt", *options]
        child = pexpect.spawn(sys.executable, words, timeout=LIMIT, encoding="latin-1")
        try:
            child.expect_exact("autoboot")
            child.send("\x03")
            child.expect_exact(PROMPT)
            child.send(command + "\r")
            child.expect_exact(answer)
        finally:
            child.kill(9)
            child.close()


def ends_well(machine: Machine) -> None:
    assert machine.wait(LIMIT) == 0
    text = machine.console.read()
    assert "PAYLOAD-OK" in text
    assert "SMP: Total of 2 processors activated" in text
    assert not CRY.search(text)


def test_u_boot_fetches_the_kernel_it_is_given(u_boot: Path, payload: Path) -> None:
    """By itself, when nobody stops the countdown."""
    kernel, initrd = payload / "vmlinuz", payload / "initramfs.cpio.gz"
    options: dict[str, Any] = {"kernel": kernel, "initrd": initrd, "append": "console=ttyAMA0 panic=-1"}
    with Machine("virt", cpus=2, memory="512M", bios=u_boot, reboot=False, **options) as machine:
        machine.start()
        ends_well(machine)


@pytest.mark.parametrize("mode", MODES[1:])
def test_bootz_starts_a_kernel_in_memory(u_boot: Path, payload: Path, mode: dict[str, str]) -> None:
    kernel, initrd = payload / "vmlinuz", payload / "initramfs.cpio.gz"
    load = [(kernel, KERNEL), (initrd, INITRD)]
    with at_prompt(bios=u_boot, cpus=2, reboot=False, load=load, **mode) as machine:
        do(machine, "setenv bootargs console=ttyAMA0 panic=-1")
        machine.console.send(f"bootz {KERNEL:x} {INITRD:x}:{initrd.stat().st_size:x} $fdtcontroladdr\r")
        ends_well(machine)


def test_bootm_starts_an_image_in_memory(u_boot: Path, payload: Path, tmp_path: Path) -> None:
    mkimage = shutil.which("mkimage")
    if mkimage is None:
        pytest.skip("needs mkimage: Debian's package u-boot-tools")
    load = []
    for name, kind, address, place in (
        ("vmlinuz", "kernel", 0x4000_8000, IMAGE),
        ("initramfs.cpio.gz", "ramdisk", 0, INITRD),
    ):
        image = tmp_path / kind
        words = ["-A", "arm", "-O", "linux", "-T", kind, "-C", "none", "-a", f"{address:x}", "-e", f"{address:x}"]
        subprocess.run([mkimage, *words, "-d", payload / name, image], check=True, stdout=subprocess.DEVNULL)
        load.append((image, place))
    with at_prompt(bios=u_boot, cpus=2, reboot=False, load=load) as machine:
        do(machine, "setenv bootargs console=ttyAMA0 panic=-1")
        machine.console.send(f"bootm {IMAGE:x} {INITRD:x} $fdtcontroladdr\r")
        ends_well(machine)


def test_uefi_keeps_variables_and_starts_a_kernel(uefi: tuple[Path, Path], payload: Path) -> None:
    code, variables = uefi
    before = variables.read_bytes()
    options: dict[str, Any] = {"kernel": payload / "vmlinuz", "initrd": payload / "initramfs.cpio.gz"}
    options |= {"append": "console=ttyAMA0 panic=-1", "pflash": [FlashFile(code, readonly=True), variables]}
    with Machine("virt", cpus=2, memory="1G", reboot=False, **options) as machine:
        machine.start()
        ends_well(machine)
    after = variables.read_bytes()
    assert "BootOrder".encode("utf-16-le") in after
    assert "BootOrder".encode("utf-16-le") not in before
    assert len(after) == len(before)


@pytest.mark.parametrize("size", [32, 4000, 400_000])
def test_truncated_firmware_does_not_run_on_in_silence(u_boot: Path, tmp_path: Path, size: int) -> None:
    firmware = tmp_path / "u-boot.bin"
    firmware.write_bytes(u_boot.read_bytes()[:size])
    words = ["-m", "raddle.cli.main", "boot", "-M", "virt", "-bios", str(firmware), "-nographic"]
    child = pexpect.spawn(sys.executable, words, timeout=LIMIT, encoding="latin-1")
    try:
        child.expect_exact("vCPU 0 does nothing any more but take exceptions at pc")
    finally:
        child.kill(9)
        child.close()
