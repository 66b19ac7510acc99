# SPDX-License-Identifier: Apache-2.0
"""The virt board: what is put where in RAM, its device tree, its devices on their addresses, power control."""

import struct
import subprocess
from pathlib import Path

import fdt
import pytest
from tests.targets.arm.interrupt_lines import Lines

from raddle.errors import UsageError
from raddle.layout import Area, Layout
from raddle.machine.board import BoardOptions
from raddle.machine.chardev import MemoryConsole
from raddle.machine.clock import MachineClock
from raddle.machine.devicetree import make_tree
from raddle.machine.loaders import load_image
from raddle.machine.machine import Machine
from raddle_target_arm.boards.virt import Virt
from raddle_target_arm.plugin import raddle_target

MIB = 1 << 20
RAM = 0x4000_0000
TARGET = raddle_target()
GUESTS = Path(__file__).parents[2] / "guests/arm/prebuilt"


class Cpu(Lines):
    def __init__(self, index):
        super().__init__()
        self.index = index
        self.calls = []

    def power_on(self, entry, argument):
        self.calls.append((entry, argument))

    def power_off(self):
        self.calls.append("off")


class Power:
    def __init__(self):
        self.requests = []

    def request_stop(self, status=0):
        self.requests.append(("stop", status))

    def request_reset(self):
        self.requests.append("reset")


class Lock:
    def __init__(self):
        self.taken = 0

    def __enter__(self):
        self.taken += 1

    def __exit__(self, *exception):
        pass


class Timer:
    def set(self, deadline_ns):
        pass

    def cancel(self):
        pass


class Clock:
    def clock_ns(self):
        return 0

    def timer(self, callback):
        return Timer()


def zimage(size=0x1000):
    data = bytearray(size)
    struct.pack_into("<IIII", data, 0x24, 0x016F_2818, 0, size, 0x0403_0201)
    return bytes(data)


@pytest.fixture
def file(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def elf(virtual, physical):
    """A program of one segment of 4 bytes in the file and 0x1800 in memory, entered at its first byte."""
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, virtual, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    return header + struct.pack("<8I", 1, 84, virtual, physical, 4, 0x1800, 7, 4) + b"code"


@pytest.fixture
def build(file):
    boards = []

    def make(cpus=2, memory=256 * MIB, connect=True, ports=1, **options):
        if not options.keys() & {"kernel", "bios"}:
            options["kernel"] = file("zImage", zimage())
        clock = MachineClock()
        board = Virt(
            BoardOptions(cpus, "cortex-a15", memory, TARGET, **options), [MemoryConsole() for _ in range(ports)], clock
        )
        boards.append(board)
        if connect:
            clock.connect(Clock())
            board.cpu_list = [Cpu(index) for index in range(cpus)]
            board.connect(board.cpu_list, Power(), Lock())
            board.reset()
        return board

    yield make
    for board in boards:
        board.memory.close()


def words(board, address, count):
    return list(struct.unpack(f"<{count}I", board.memory.read(address, 4 * count)))


def tree_of(board):
    address = words(board, board.cpu_list[0].calls[0][0], 7)[5]
    size = struct.unpack(">I", board.memory.read(address + 4, 4))[0]
    return address, fdt.parse_dtb(board.memory.read(address, size))


# --- what goes where --------------------------------------------------------------------------------------------


def test_zimage_initrd_and_device_tree(build, file):
    initrd = file("initrd", b"initrd" * 1000)
    board = build(memory=512 * MIB, initrd=initrd, append="console=ttyAMA0")
    assert board.cpu_list[0].calls == [(RAM, 0)]
    assert board.cpu_list[1].calls == ["off"]
    stub = words(board, RAM, 7)
    assert stub[:4] == [0xE3A0_0000, 0xE59F_1004, 0xE59F_2004, 0xE59F_F004]
    assert stub[4:] == [0xFFFF_FFFF, RAM + 128 * MIB + 0x2000, RAM + 0x1_0000]
    assert board.memory.read(RAM + 0x1_0000, 0x1000) == zimage()
    assert board.memory.read(RAM + 128 * MIB, 6000) == b"initrd" * 1000
    address, tree = tree_of(board)
    assert address == RAM + 128 * MIB + 0x2000
    chosen = tree.get_node("/chosen")
    assert chosen.get_property("bootargs").data == ["console=ttyAMA0"]
    assert chosen.get_property("linux,initrd-start").data == [0, RAM + 128 * MIB]
    assert chosen.get_property("linux,initrd-end").data == [0, RAM + 128 * MIB + 6000]


def test_small_machines_put_the_initrd_in_the_middle(build, file):
    board = build(memory=64 * MIB, initrd=file("initrd", b"x" * 10))
    assert board.memory.read(RAM + 32 * MIB, 10) == b"x" * 10


def test_raw_image_is_entered_at_its_first_byte(build, file):
    board = build(kernel=file("Image", b"\x00\x00\xa0\xe3" * 4))
    assert words(board, RAM, 7)[6] == RAM + 0x1_0000


def test_elf_is_entered_where_it_says(build):
    board = build(kernel=GUESTS / "hello.elf")
    stub = words(board, board.cpu_list[0].calls[0][0], 7)
    assert stub[4:] == [0xFFFF_FFFF, RAM, 0x4010_0000]
    assert board.memory.read(0x4010_0000, 4) == b"\xc0\x01\x0c\xf1"  # cpsid aif


def test_the_device_tree_of_an_elf_program_is_at_the_start_of_ram(build):
    board = build(kernel=GUESTS / "hello.elf", append="for a program without a boot protocol")
    address, tree = tree_of(board)
    assert address == RAM
    assert tree.get_node("/chosen").get_property("bootargs").data == ["for a program without a boot protocol"]


def test_elf_over_the_stub_moves_the_stub(build, file):
    board = build(kernel=file("low.elf", elf(RAM, RAM)))
    assert board.cpu_list[0].calls == [(RAM + 0x2000, 0)]
    assert board.memory.read(RAM, 4) == b"code"
    address, _ = tree_of(board)
    assert address == RAM + 128 * MIB


def test_an_elf_program_may_lie_in_flash(build, file):
    board = build(kernel=file("flash.elf", elf(0, 0)))
    assert words(board, board.cpu_list[0].calls[0][0], 7)[6] == 0
    assert board.memory.read(0, 8) == b"code\0\0\0\0"
    assert str(board.memory.find(0)).startswith("flash 0 (ROM device")


def test_reset_writes_everything_again_and_clears_bss(build):
    board = build(kernel=GUESTS / "hello.elf")
    [(stub, _)] = board.cpu_list[0].calls
    segments = load_image(GUESTS / "hello.elf", TARGET, Layout(Area("RAM", RAM, 256 * MIB))).segments
    for segment in segments:
        board.memory.write(segment.address, b"\xff" * segment.size)
    board.reset()
    for segment in segments:
        filled = segment.data + bytes(segment.size - len(segment.data))
        assert board.memory.read(segment.address, segment.size) == filled
    assert [board.cpu_list[0].calls, board.is_powered(0), board.is_powered(1)] == [[(stub, 0), (stub, 0)], True, False]


def test_reset_turns_the_other_cpus_off(build):
    board = build()
    board.cpu_on(1, 0x4000_8000, 0)
    board.reset()
    assert (board.cpu_list[1].calls[-1], board.is_powered(1)) == ("off", False)


def test_firmware_is_entered_at_zero(build, file):
    board = build(bios=file("bios", b"\x12\x34" * 3000))
    assert board.cpu_list[0].calls == [(0, 0)]
    assert board.memory.read(0, 6000) == b"\x12\x34" * 3000
    assert board.memory.read(RAM, 4) == b"\xd0\x0d\xfe\xed"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"memory": 4 << 30}, "1 MiB to 3 GiB of RAM, not 4 GiB"),
        ({"memory": 100 << 40}, "1 MiB to 3 GiB of RAM, not 100 TiB"),
        ({"memory": 4096}, "1 MiB to 3 GiB of RAM, not 4 KiB"),
        ({"memory": MIB, "kernel": GUESTS / "hello.elf"}, r"does not fit into the RAM of 1 MiB .*-m"),
        ({"memory": 4 * MIB, "initrd": "big"}, "does not fit into the RAM of 4 MiB .*-m"),
        ({"initrd": "/nonexistent"}, "cannot read initrd"),
        ({"dtb": "/nonexistent"}, "cannot read device tree"),
        ({"kernel": None}, "nothing to boot"),
    ],
)
def test_what_cannot_be_built(build, file, options, fault):
    big = file("big", bytes(3 * MIB))
    chosen = {name: big if value == "big" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=fault):
        build(connect=False, **chosen)


def test_three_gigabytes_and_eight_cpus(build):
    board = build(cpus=8, memory=3 << 30)
    _, tree = tree_of(board)
    assert tree.get_node("/memory@40000000").get_property("reg").data == [0, RAM, 0, 0xC000_0000]
    assert len(tree.get_node("/cpus").nodes) == 8


# --- device tree ------------------------------------------------------------------------------------------------


def test_device_tree_describes_the_machine(build):
    board = build(cpus=4)
    _, tree = tree_of(board)
    assert tree.get_node("/psci").get_property("method").data == ["hvc"]
    assert tree.get_node("/cpus/cpu@3").get_property("enable-method").data == ["psci"]
    timer = tree.get_node("/timer").get_property("interrupts").data
    assert timer == [1, 13, 0xF04, 1, 14, 0xF04, 1, 11, 0xF04, 1, 10, 0xF04]
    for node, region in (
        ("/pl011@9000000", "pl011"),
        ("/pl031@9010000", "pl031"),
        ("/intc@8000000", "gic distributor"),
        ("/virtio_mmio@a000000", "virtio-mmio"),
    ):
        found = next(one for one in board.memory.regions if one.name == region)
        size = 0x200 if region == "virtio-mmio" else found.size
        assert tree.get_node(node).get_property("reg").data[:4] == [0, found.start, 0, size]


def test_a_given_device_tree_is_completed(build, file):
    given = file("given.dtb", make_tree({"#address-cells": 1, "#size-cells": 1, "model": "mine"}))
    board = build(dtb=given, append="quiet", initrd=file("initrd", b"x"))
    _, tree = tree_of(board)
    assert tree.get_node("/").get_property("model").data == ["mine"]
    assert tree.get_node("/memory@40000000").get_property("reg").data == [RAM, 256 * MIB]
    assert tree.get_node("/chosen").get_property("bootargs").data == ["quiet"]


@pytest.mark.peer("qemu-system-arm")
def test_virtio_slots_are_where_the_peer_has_them(build, tmp_path):
    dumped = tmp_path / "peer.dtb"
    machine = ["-M", f"virt,dumpdtb={dumped}", "-cpu", "cortex-a15", "-nic", "none", "-display", "none"]
    subprocess.run(["qemu-system-arm", *machine], capture_output=True, check=True)

    def slots(tree):
        return {
            node.name: [node.get_property(name).data for name in ("compatible", "reg", "interrupts")]
            for node in tree.get_node("/").nodes
            if node.name.startswith("virtio_mmio")
        }

    found = slots(tree_of(build())[1])
    assert len(found) == 32
    assert found == slots(fdt.parse_dtb(dumped.read_bytes()))


@pytest.mark.peer("dtc")
def test_the_device_tree_compiler_has_nothing_to_say(build, tmp_path):
    board = build(cpus=4, append="")
    (tmp_path / "virt.dtb").write_bytes(board.tree("", (RAM, RAM + 1)))
    command = ["dtc", "-I", "dtb", "-O", "dts", "-o", "/dev/null", str(tmp_path / "virt.dtb")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


# --- devices and interrupts -------------------------------------------------------------------------------------


def access(board, address, value=None, size=4, cpu=0):
    region = board.memory.find(address)
    board.memory.initiator = cpu
    if value is None:
        return region.handler.read(address - region.start, size)
    return region.handler.write(address - region.start, size, value)


def test_uart_interrupt_reaches_the_cpu(build):
    board = build()
    access(board, 0x0800_0000, 1)
    access(board, 0x0801_0000, 1, cpu=1)
    access(board, 0x0801_0004, 0xF0, cpu=1)
    access(board, 0x0800_0104, 1 << 1)
    access(board, 0x0800_0821, 2, size=1)
    access(board, 0x0900_0038, 1 << 4)
    board.console.send("x")
    assert [cpu.lines for cpu in board.cpu_list] == [0, 1]
    assert access(board, 0x0801_000C, cpu=1) == 33
    assert access(board, 0x0900_0000, size=1) == ord("x")
    access(board, 0x0801_0010, 33, cpu=1)
    assert [cpu.lines for cpu in board.cpu_list] == [0, 0]


def test_serial_output(build):
    board = build()
    for byte in b"hello":
        access(board, 0x0900_0000, byte)
    assert board.console.read() == "hello"


def test_a_second_serial_port(build):
    board = build(ports=2)
    assert board.SERIAL_PORTS == 2
    first, second = board.consoles
    access(board, 0x0904_0000, ord("2"))
    access(board, 0x0900_0000, ord("1"))
    assert (first.read(), second.read()) == ("1", "2")
    access(board, 0x0800_0000, 1)
    access(board, 0x0801_0000, 1, cpu=1)
    access(board, 0x0801_0004, 0xF0, cpu=1)
    access(board, 0x0800_0104, 1 << 8)
    access(board, 0x0800_0828, 2, size=1)
    access(board, 0x0904_0038, 1 << 4)
    second.send("x")
    assert access(board, 0x0801_000C, cpu=1) == 40
    assert access(board, 0x0904_0000, size=1) == ord("x")
    _, tree = tree_of(board)
    assert tree.get_node("/aliases").get_property("serial1").value == "/pl011@9040000"
    assert tree.get_node("/pl011@9040000").get_property("interrupts").data == [0, 8, 4]
    assert tree.get_node("/chosen").get_property("stdout-path").value == "/pl011@9000000"


WRITES_ON_BOTH = (
    0xE3A00409,  # mov r0, #0x09000000
    0xE3A01041,  # mov r1, #'A'
    0xE5C01000,  # strb r1, [r0]
    0xE2800701,  # add r0, r0, #0x40000
    0xE2811001,  # add r1, r1, #1
    0xE5C01000,  # strb r1, [r0]
    0xE3A00484,  # mov r0, #0x84000000
    0xE3800008,  # orr r0, r0, #8: SYSTEM_OFF
    0xE1400070,  # hvc #0
)


@pytest.mark.parametrize("mode", ["multi", "single"])
def test_a_guest_writes_on_two_serial_ports(file, mode):
    kernel = file("raw", struct.pack("<9I", *WRITES_ON_BOTH))
    serial = [MemoryConsole(), MemoryConsole()]
    with Machine("virt", kernel=kernel, serial=serial, accelerator=f"tcg,thread={mode}") as machine:
        machine.start()
        assert machine.wait(60) == 0
        assert [console.text for console in machine.consoles] == ["A", "B"]


def test_there_is_no_second_serial_port_that_nobody_asked_for(build):
    board = build()
    assert [region.name for region in board.memory.regions if region.name.startswith("pl011")] == ["pl011"]
    _, tree = tree_of(board)
    assert not tree.exist_node("/pl011@9040000")


@pytest.mark.parametrize(
    ("name", "interrupt"), [("secure", 29), ("non-secure", 30), ("virtual", 27), ("hypervisor", 26)]
)
def test_timer_lines_are_private_interrupts(build, name, interrupt):
    board = build()
    access(board, 0x0800_0100, 1 << interrupt, cpu=1)
    board.timer_line(1, name).set(1)
    assert access(board, 0x0800_0200, cpu=1) == 1 << interrupt
    assert access(board, 0x0800_0200, cpu=0) == 0
    board.timer_line(1, name).set(0)
    assert access(board, 0x0800_0200, cpu=1) == 0


def test_rtc_is_there(build):
    board = build()
    assert access(board, 0x0901_0FE0) == 0x31


def test_a_static_probe_of_virtio_slots_finds_nothing(build):
    board = build()
    for slot in range(32):
        probed = [access(board, 0x0A00_0000 + 0x200 * slot + offset) for offset in (0, 4, 8)]
        assert probed == [0x7472_6976, 1, 0]
    assert board.memory.find(0x0A00_4000) is None


# --- power ------------------------------------------------------------------------------------------------------


def test_cpus_are_turned_on_and_off(build):
    board = build()
    board.cpu_on(1, 0x4000_8000, 0x55)
    assert board.is_powered(1)
    board.cpu_off(1)
    assert not board.is_powered(1)
    assert board.cpu_list[1].calls[-2:] == [(0x4000_8000, 0x55), "off"]


def test_system_off_and_reset_are_asked_of_the_machine(build):
    board = build()
    board.system_off()
    board.system_reset()
    assert board.power.requests == [("stop", 0), "reset"]
    assert [cpu.calls[-1] for cpu in board.cpu_list] == ["off", "off"]
