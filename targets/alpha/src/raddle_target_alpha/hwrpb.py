# SPDX-License-Identifier: Apache-2.0
"""What the console leaves in memory for the operating system: the hardware restart parameter block, page tables that
map it, and the console's own code (Alpha Architecture Reference Manual, 4th edition, III 2 and 3).

All of it lies in the first pages of memory, which belong to the console.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from raddle.layout import Segment
from raddle_target_alpha import mmu, tsunami
from raddle_target_alpha.assembler import (
    AND,
    BEQ,
    BIC,
    BIS,
    BR,
    CALL_PAL,
    CMPEQ,
    LDA,
    LDAH,
    LDL,
    LDQ,
    LDQ_L,
    MB,
    RET,
    SLL,
    SRL,
    STQ,
    STQ_C,
    branch,
    literal,
    memory,
    operate,
)
from raddle_target_alpha.console import CALLBACK, FIXUP, SET_ALARM_ABSOLUTE, SET_ALARM_RELATIVE
from raddle_target_alpha.cpus import MODELS
from raddle_target_alpha.delivery import LOGOUT
from raddle_target_alpha.pal import PAL_OSF
from raddle_target_alpha.process import FLAG_FEN
from raddle_target_alpha.state import ZERO

__all__ = [
    "CONSOLE_END",
    "FLAGS",
    "HALT_REQUEST",
    "HWRPB",
    "PRIMARY_CODE",
    "SECONDARY_CODE",
    "Machine",
    "procedures",
    "segments",
    "slot",
]

# Physical addresses. The stack of CPU 0 before the kernel has its own ends at LOGOUT.
STACK_END: Final = LOGOUT
HWRPB: Final = 0x2000
HWRPB_PAGES: Final = 2
TABLES: Final = (0x6000, 0x8000, 0xA000)
"""The page tables of the three levels."""
CONSOLE_END: Final = 0x2_0000
"""From here on memory belongs to the operating system."""

VIRTUAL: Final = 0x1000_0000
"""Where operating systems look for the block (III 3.2)."""
VPTB: Final = 0xFFFF_FFFE_0000_0000
"""The page tables map themselves by the last entry of the first level."""

# Offsets from the block
SLOTS, TERMINAL, ROUTINES, MEMORY, SYSTEM, PROCEDURES, CODE = 0x180, 0xC00, 0xE00, 0xF00, 0x1000, 0x1100, 0x1200
SLOT_BYTES: Final = 0x280
RESTART, RESTART_DATA, CHECKSUM, RECEIVE_READY = 256, 264, 288, 296
VPTB_OFFSET: Final = 120
TERMINAL_BYTES: Final = 0x118

# Offsets from a CPU's slot
FLAGS, MESSAGE = 128, 304

# Bits of a slot's flags (III 3.1.3)
BOOTSTRAPPING, CONTEXT_VALID = 0x001, 0x020
PRESENT: Final = 0x1CC
"""Available, present, and with valid and loaded PALcode."""
HALT_REQUEST: Final = 16
"""The first of eight bits: what the console does when the CPU halts."""

SYSTEM_TYPE: Final = 34
"""Tsunami (III, appendix)."""
SYSTEM_VARIATION: Final = 5 << 10
"""Clipper."""
TIMER_HZ: Final = 1024
PROCESSOR_TYPES: Final = {"ev4": 2, "ev45": 6, "ev5": 5, "ev56": 7, "pca56": 9, "ev6": 8, "ev67": 11, "ev68": 12}
PALCODE_REVISION: Final = PAL_OSF << 16 | 1 << 8 | 1
TERMINAL_SERIAL: Final = 2
CLUSTER_CONSOLE, CLUSTER_SYSTEM = 1, 0
WAIT_NS: Final = 4_000_000
"""How often a CPU that has not been started looks for a message."""


class Machine(NamedTuple):
    """What the block says of the machine."""

    cpus: int
    model: str
    memory: int
    """Bytes."""


def slot(cpu: int) -> int:
    """Physical address of a CPU's slot, which begins with its process control block."""
    return HWRPB + SLOTS + SLOT_BYTES * cpu


def procedures(address: int) -> Segment:
    """The procedure descriptors of DISPATCH and FIXUP, when the block is mapped at a virtual address."""
    dispatch, fixup = (address + CODE + 4 * place for place in (_DISPATCH, _FIXUP))
    return Segment(HWRPB + PROCEDURES, struct.pack("<4Q", 0, dispatch, 0, fixup), 32)


def segments(machine: Machine, entry: int) -> list[tuple[str, Segment]]:
    """All that the console leaves in memory, with names for messages; CPU 0 will enter the kernel at virtual address
    `entry`.
    """
    block = bytearray(HWRPB_PAGES * mmu.PAGE_SIZE)
    pages = machine.memory // mmu.PAGE_SIZE
    _put(block, TERMINAL, 0, 0, 0, TERMINAL_BYTES - 32, 0, 0, 0, TERMINAL_SERIAL)
    descriptors = VIRTUAL + PROCEDURES
    physical = HWRPB + PROCEDURES
    map_of_pages = (1, HWRPB_PAGES, VIRTUAL, HWRPB, HWRPB_PAGES)
    _put(block, ROUTINES, descriptors, physical, descriptors + 16, physical + 16, *map_of_pages)
    console_pages = CONSOLE_END // mmu.PAGE_SIZE
    clusters = ((0, console_pages, CLUSTER_CONSOLE), (console_pages, pages - console_pages, CLUSTER_SYSTEM))
    described = [word for start, count, use in clusters for word in (start, count, count, 0, 0, 0, use)]
    _put(block, MEMORY, sum(described) + len(clusters), 0, len(clusters), *described)
    name = b"Clipper\0"
    _put(block, SYSTEM, 0, 0, 24, len(name))
    block[SYSTEM + 32 : SYSTEM + 32 + len(name)] = name
    for cpu in range(machine.cpus):
        offset = SLOTS + SLOT_BYTES * cpu
        _put(block, offset, mmu.KSEG | STACK_END, 0, TABLES[0] // mmu.PAGE_SIZE, 0, 0, FLAG_FEN)
        flags = PRESENT | (BOOTSTRAPPING | CONTEXT_VALID if cpu == 0 else 0)
        revision = (PALCODE_REVISION, PROCESSOR_TYPES[machine.model], 7, 0, 0, 0, LOGOUT, mmu.PAGE_SIZE // 2)
        _put(block, offset + FLAGS, flags, 0, 0, 0, 0, *revision)
    code = _code(entry)
    block[CODE : CODE + len(code)] = code
    descriptors_data = procedures(VIRTUAL)
    block[PROCEDURES : PROCEDURES + descriptors_data.size] = descriptors_data.data
    _put(
        block,
        0,
        *(HWRPB, int.from_bytes(b"HWRPB", "little"), 6, len(block), 0, mmu.PAGE_SIZE, 44, 255),
        *(int.from_bytes(b"Raddle", "little"), 0),
        *(SYSTEM_TYPE, SYSTEM_VARIATION, 0, TIMER_HZ << 12, MODELS[machine.model].frequency, VPTB, 0, 0),
        *(machine.cpus, SLOT_BYTES, SLOTS, 1, TERMINAL_BYTES, TERMINAL, ROUTINES, MEMORY, 0, 0),
    )
    _put(block, 312, SYSTEM)
    words = struct.unpack_from(f"<{CHECKSUM // 8}Q", block)
    _put(block, CHECKSUM, sum(words) & mmu.NOT_TRANSLATED)
    return [("the console", Segment(HWRPB, bytes(block), len(block))), *_page_tables()]


def _put(block: bytearray, offset: int, *words: int) -> None:
    struct.pack_into(f"<{len(words)}Q", block, offset, *words)


def _page_tables() -> list[tuple[str, Segment]]:
    rights = mmu.PTE_VALID | mmu.PTE_ASM | mmu.PTE_KRE | mmu.PTE_KWE
    tables = [bytearray(mmu.PAGE_SIZE) for _ in TABLES]

    def map_page(level: int, index: int, physical: int) -> None:
        _put(tables[level], 8 * index, physical // mmu.PAGE_SIZE << mmu.PTE_PFN | rights)

    first, second, third = (VIRTUAL >> mmu.PAGE_BITS + mmu.LEVEL_BITS * n & 0x3FF for n in (2, 1, 0))
    map_page(0, first, TABLES[1])
    map_page(0, 0x3FF, TABLES[0])
    map_page(1, second, TABLES[2])
    for page in range(HWRPB_PAGES):
        map_page(2, third + page, HWRPB + page * mmu.PAGE_SIZE)
    return [
        ("the console's page tables", Segment(start, bytes(table), len(table)))
        for start, table in zip(TABLES, tables, strict=True)
    ]


# -- the console's code ------------------------------------------------------------------------------------------------

_POOL_ENTRY, _POOL_HWRPB, _POOL_VPTB, _POOL_START, _POOL_MISC = range(5)
_POOL_WORDS: Final = 10
_ENDED: Final = 1 << tsunami.MISC_IPI | 1 << tsunami.MISC_TIMER
_NS_HIGH: Final = WAIT_NS + 0x8000 >> 16


def _pool(here: int, literal: int) -> int:
    """Displacement of a literal from the address after instruction number `here`."""
    return 8 * literal - 4 * (_POOL_WORDS + here + 1)


_PRIMARY_CODE: Final = (
    branch(BR, 1, 0),  # r1 = the next instruction's address
    memory(LDQ, 17, _pool(0, _POOL_ENTRY), 1),
    memory(LDQ, 19, _pool(0, _POOL_VPTB), 1),
    literal(SLL, 16, 24, 18),  # r16 = the slot, in KSEG
    literal(SRL, 18, 24, 18),
    operate(BIS, 17, 17, 27),
    memory(LDA, 16, PAL_OSF, ZERO),
    CALL_PAL["SWPPAL"],
    CALL_PAL["HALT"],
)

_WAIT, _CLEAR = 9, 19
"""Places in `_SECONDARY_CODE`."""
_SECONDARY: Final = len(_PRIMARY_CODE)
_SECONDARY_CODE: Final = (
    branch(BR, 1, 0),
    operate(BIS, 16, 16, 9),  # r9 = the slot
    memory(LDQ, 10, _pool(_SECONDARY, _POOL_HWRPB), 1),
    CALL_PAL["WHAMI"],
    memory(LDA, 11, 1, ZERO),
    operate(SLL, 11, 0, 11),  # r11 = the bit of this CPU
    memory(LDQ, 12, _pool(_SECONDARY, _POOL_MISC), 1),
    memory(LDA, 13, _ENDED, ZERO),
    operate(SLL, 13, 0, 13),  # r13 = what ends this CPU's interrupts
    memory(LDA, 16, SET_ALARM_RELATIVE, ZERO),
    memory(LDAH, 17, _NS_HIGH, ZERO),
    memory(LDA, 17, WAIT_NS - (_NS_HIGH << 16), 17),
    CALL_PAL["CSERVE"],
    memory(STQ, 13, 0, 12),
    CALL_PAL["WTINT"],
    memory(LDQ, 2, RECEIVE_READY, 10),
    operate(AND, 2, 11, 2),
    branch(BEQ, 2, _WAIT - 18),
    MB,
    memory(LDQ_L, 2, RECEIVE_READY, 10),
    operate(BIC, 2, 11, 2),
    memory(STQ_C, 2, RECEIVE_READY, 10),
    branch(BEQ, 2, _CLEAR - 23),
    memory(LDL, 2, MESSAGE, 9),
    memory(LDL, 3, _pool(_SECONDARY, _POOL_START), 1),
    operate(CMPEQ, 2, 3, 2),
    branch(BEQ, 2, _WAIT - 27),
    memory(LDA, 16, SET_ALARM_ABSOLUTE, ZERO),
    operate(BIS, ZERO, ZERO, 17),
    CALL_PAL["CSERVE"],
    memory(LDQ, 2, FLAGS, 9),
    literal(BIS, 2, BOOTSTRAPPING, 2),
    memory(STQ, 2, FLAGS, 9),
    memory(LDQ, 27, RESTART_DATA, 10),
    memory(LDQ, 17, RESTART, 10),
    memory(LDQ, 19, VPTB_OFFSET, 10),
    literal(SLL, 9, 24, 18),
    literal(SRL, 18, 24, 18),
    memory(LDA, 16, PAL_OSF, ZERO),
    CALL_PAL["SWPPAL"],
    CALL_PAL["HALT"],
)
"""A CPU that has not been started waits for the message START in its slot, and ends interrupts that would wake it again
and again; the message is there when the CPU's bit is
set among those of `RECEIVE_READY` (III 3.4.1.3)."""

_DISPATCH_CODE: Final = (
    operate(BIS, 16, 16, 0),
    memory(LDA, 16, CALLBACK, ZERO),
    CALL_PAL["CSERVE"],
    RET,
)
_FIXUP_CODE: Final = (
    memory(LDA, 0, FIXUP, ZERO),
    operate(BIS, 16, 16, 17),
    memory(LDA, 16, CALLBACK, ZERO),
    CALL_PAL["CSERVE"],
    RET,
)

_PRIMARY: Final = _POOL_WORDS
_DISPATCH: Final = _PRIMARY + len(_PRIMARY_CODE) + len(_SECONDARY_CODE)
_FIXUP: Final = _DISPATCH + len(_DISPATCH_CODE)

PRIMARY_CODE: Final = mmu.KSEG | HWRPB + CODE + 4 * _PRIMARY
"""Where CPU 0 begins, with the KSEG address of its slot as argument."""
SECONDARY_CODE: Final = PRIMARY_CODE + 4 * _SECONDARY
"""Where the others begin, and where they go when they halt."""


def _code(entry: int) -> bytes:
    misc = mmu.KSEG | tsunami.CCHIP & (1 << mmu.KSEG_IO) - 1 | 1 << mmu.KSEG_IO
    start = int.from_bytes(b"STAR", "little")
    pool = struct.pack("<5Q", entry, mmu.KSEG | HWRPB, VPTB, start, misc + tsunami.MISC)
    words = (*_PRIMARY_CODE, *_SECONDARY_CODE, *_DISPATCH_CODE, *_FIXUP_CODE)
    return pool + struct.pack(f"<{len(words)}I", *words)
