# SPDX-License-Identifier: Apache-2.0
"""Where kernel, initrd and device tree go in an ARM machine's RAM, and how the kernel is entered (Linux,
Documentation/arm/booting.rst): MMU off, ARM state, r0 = 0, r1 = machine number, r2 = address of the device tree.

ELF programs are entered in the same way. Programs without a boot protocol look for the device tree at the start of RAM;
it is there unless the program itself is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from raddle.devices.fw_cfg import Item
from raddle.errors import UsageError
from raddle.layout import ELSEWHERE, MORE_MEMORY, Area, Layout, Segment
from raddle.machine.board import BoardOptions
from raddle.machine.devicetree import complete, parse_tree, with_room
from raddle.machine.files import read_file
from raddle.machine.load import add_loads
from raddle.machine.loaders import ELF, load_image

__all__ = ["Boot", "for_firmware", "plan", "plan_firmware"]

KERNEL_OFFSET: Final = 0x1_0000
"""Where a kernel without an address of its own goes; the first 64 KiB are for the boot stub and what kernels keep."""
INITRD_OFFSET: Final = 128 << 20
"""A decompressing kernel stays below. In machines with less than twice as much RAM it is the middle of RAM."""

INITRD_STAYS: Final = (
    "the initrd stays there; give what lies there another address (addr=..., or another one to link for)"
)
"""The remedy for an overlap that more RAM would not remove."""

FIRMWARE_TREE_ROOM: Final = 64 << 10
"""Free bytes after a device tree that firmware extends in place; U-Boot does so without checking for room."""

MACHINE_NUMBER: Final = 0xFFFF_FFFF
"""No board of the old registry: the device tree describes the machine."""

STUB: Final = (
    0xE3A0_0000,  # mov r0, #0
    0xE59F_1004,  # ldr r1, [pc, #4]
    0xE59F_2004,  # ldr r2, [pc, #4]
    0xE59F_F004,  # ldr pc, [pc, #4]
)
"""Followed by the machine number, the device tree's address and the entry (bit 0 set for Thumb)."""

MakeTree = Callable[[str | None, tuple[int, int] | None], bytes]
"""Makes the board's device tree for a command line and an initrd (first address, end), either of which may be None."""


class Boot(NamedTuple):
    """What a reset writes into RAM, and the address at which CPU 0 begins."""

    segments: tuple[Segment, ...]
    entry: int


def plan(options: BoardOptions, ram: Area, make_tree: MakeTree, flash: Sequence[Area]) -> Boot:
    """Load the files and find a place for each; parts of an ELF program, and `options.loads`, may lie in `flash`.

    Raises UsageError for bad files and for RAM that is too small.
    """
    if options.kernel is None:
        raise UsageError("there is nothing to boot: give a kernel (-kernel) or a firmware image (-bios)")
    layout = Layout(ram, flash)
    image = load_image(options.kernel, options.target, layout)
    offset = 0 if image.has_addresses else ram.start + KERNEL_OFFSET
    for segment in image.segments:
        layout.add(image.name, offset + segment.address, segment.data, segment.size)
    add_loads(options.loads, layout, options.target)

    middle = ram.start + min(INITRD_OFFSET, ram.size // 2)
    initrd = None
    if options.initrd is not None:
        data = read_file(options.initrd, "initrd", ram.size, MORE_MEMORY)
        # With more RAM it lies higher, up to INITRD_OFFSET.
        remedy = MORE_MEMORY if middle < ram.start + INITRD_OFFSET else f"for what lies there: {ELSEWHERE}"
        placed = layout.add(f"initrd {options.initrd}", middle, data, remedy=remedy)
        initrd = (placed.address, placed.end)
        middle = placed.end
    tree = _tree(options, ram, make_tree, initrd)
    at_start = image.kind == ELF and layout.is_free(ram.start, len(tree))
    tree_at = ram.start if at_start else layout.free(len(tree), middle)
    layout.add("the device tree", tree_at, tree)

    words = (*STUB, MACHINE_NUMBER, tree_at, offset + image.entry)
    stub = struct.pack(f"<{len(words)}I", *words)
    stub_at = layout.free(len(stub), ram.start)
    layout.add("the boot stub", stub_at, stub)
    return Boot(layout.segments, stub_at)


def plan_firmware(options: BoardOptions, ram: Area, make_tree: MakeTree, flash: Sequence[Area], entry: int) -> Boot:
    """Firmware starts in its flash with the CPU as reset leaves it, and finds the device tree at the start of RAM. It
    loads the kernel itself: see `for_firmware`.
    """
    if options.kernel is None and options.initrd is not None:
        raise UsageError("firmware uses an initial RAM disk (-initrd) only with a kernel: give one (-kernel), too")
    layout = Layout(ram, flash)
    tree = with_room(_tree(options, ram, make_tree, None), FIRMWARE_TREE_ROOM)
    layout.add("the device tree", ram.start, tree)
    add_loads(options.loads, layout, options.target)
    return Boot(layout.segments, entry)


def for_firmware(options: BoardOptions, ram_size: int) -> dict[Item, bytes]:
    """Items for the firmware configuration device: the number of CPUs, and if there is firmware to read them, kernel,
    initrd and command line, unchanged.
    """
    items = {Item.CPUS: struct.pack("<H", options.cpus)}
    if not options.has_image(0) or options.kernel is None:
        return items
    parts = [(Item.KERNEL_SIZE, Item.KERNEL_DATA, read_file(options.kernel, "kernel", ram_size, MORE_MEMORY))]
    if options.initrd is not None:
        initrd = read_file(options.initrd, "initrd", ram_size, MORE_MEMORY)
        parts.append((Item.INITRD_SIZE, Item.INITRD_DATA, initrd))
    if options.append is not None:
        parts.append((Item.COMMAND_LINE_SIZE, Item.COMMAND_LINE, options.append.encode() + b"\0"))
    for size, item, data in parts:
        items[size], items[item] = struct.pack("<I", len(data)), data
    return items


def _tree(options: BoardOptions, ram: Area, make_tree: MakeTree, initrd: tuple[int, int] | None) -> bytes:
    if options.dtb is None:
        return make_tree(options.append, initrd)
    return complete(parse_tree(options.dtb), [(ram.start, ram.size)], options.append, initrd)
