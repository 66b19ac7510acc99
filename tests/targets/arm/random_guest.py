# SPDX-License-Identifier: Apache-2.0
"""Random bare-metal guests about memory management and exceptions, made without a compiler, for QEMU and Raddle.

A guest is a row of *trials*. Each may change what addresses mean (a descriptor with the TLB maintenance that it needs,
DACR, SCTLR, TTBCR, the address space) or where and in which instruction set exceptions are taken (VBAR with SCTLR.TE,
SCTLR.V), may ask for a translation (ATS1C…), and then makes a few accesses, or jumps, at random places in Supervisor,
System or User mode. Whatever exception ends it goes to the next trial. ``random_guest`` makes one with short or with
long descriptors, big-endian ones and exceptions (SCTLR.EE) in some; ``Guest.elf`` is the file.

The guest's own code, tables and User mode code lie where no trial changes anything. All test addresses that are mapped
lead to sixteen *frames*, whose first halves have code (a MOV with the number of the frame, and SVC) that only stores of
that same kind change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

CODE: Final = 0x4010_0000
"""Entry, vectors and trials; read-only at PL1."""
TABLES: Final = 0x4020_0000
HIGH_VECTORS: Final = TABLES - 0x1_0000
"""What is at 0xFFFF0000 where there are high vectors: in the section, or block, of the code."""
LOG: Final = 0x4028_0000
USER: Final = 0x4040_0000
"""What trials execute in User mode."""
FRAMES: Final = 0x4100_0000
FRAME, FRAME_COUNT = 0x1000, 16
NOTHING: Final = 0x9000_0000
"""Physical addresses where the board has neither memory nor devices."""

CLIENT: Final = 1
REACHED_DOMAIN: Final = 15
"""Always client. QEMU checks the domain before it fetches a second-level descriptor (B3.13), so its ATS1C… misses the
external abort of a fetch from nothing in a domain without access."""

SVC, SYS, USR = 0xD3, 0xDF, 0xD0
T: Final = 1 << 5

SCTLR_BASE: Final = 0x00C5_0878 & ~1 | 1 << 12 | 1 << 10
"""Instruction cache and SWP on, what reads as one."""
SCTLR_M, SCTLR_A, SCTLR_WXN, SCTLR_UWXN, SCTLR_TRE, SCTLR_AFE = (1 << n for n in (0, 1, 19, 20, 28, 29))
SCTLR_V, SCTLR_EE, SCTLR_TE = (1 << n for n in (13, 25, 30))

LOG_ENTRY: Final = 16 * 4

# -- instructions ------------------------------------------------------------------------------------------------------


def movw(register: int, value: int) -> list[int]:
    """A 32-bit constant into a register."""
    words = []
    for opcode, half in ((0xE300_0000, value & 0xFFFF), (0xE340_0000, value >> 16 & 0xFFFF)):
        words.append(opcode | (half >> 12) << 16 | register << 12 | half & 0xFFF)
    return words


def mcr(register: int, crn: int, opc1: int, crm: int, opc2: int) -> int:
    return 0xEE00_0F10 | opc1 << 21 | crn << 16 | register << 12 | opc2 << 5 | crm


def mrc(register: int, crn: int, opc1: int, crm: int, opc2: int) -> int:
    return mcr(register, crn, opc1, crm, opc2) | 1 << 20


SVC_0, DSB, ISB, HVC, BKPT = 0xEF00_0000, 0xF57F_F04F, 0xF57F_F06F, 0xE140_0070, 0xE120_0070
SCTLR, DACR, TTBCR, CONTEXTIDR = (1, 0, 0, 0), (3, 0, 0, 0), (2, 0, 0, 2), (13, 0, 0, 1)
TTBR0, TTBR1, VBAR, TPIDRPRW, PAR = (2, 0, 0, 0), (2, 0, 0, 1), (12, 0, 0, 0), (13, 0, 0, 4), (7, 0, 4, 0)
DFSR, IFSR, DFAR, IFAR = (5, 0, 0, 0), (5, 0, 0, 1), (6, 0, 0, 0), (6, 0, 0, 2)
TLBIALL, TLBIMVA, TLBIASID, TLBIMVAA = 0, 1, 2, 3
MCRR_TTBR: Final = (0xEC40_0F02, 0xEC40_0F12)
PSCI_SYSTEM_OFF: Final = 0x8400_0008
VECTORS: Final = 8
HANDLER_SIZE: Final = 0x80
"""Bytes of vectors and what they lead to."""
LOW_VECTORS: Final = (CODE + 0x20, CODE + 0x20 + HANDLER_SIZE)
"""VBAR for exceptions in A32 and in T32."""


def same(word: int) -> tuple[int, tuple[int, ...]]:
    """An instruction that both sets have, with its halfwords."""
    return word, (word >> 16, word & 0xFFFF)


Step = tuple[int, tuple[int, ...]]
ENTERED: Final[tuple[Step, ...]] = (
    (0xE14F_8000, (0xF3FF, 0x8800)),  # mrs r8, spsr
    (0xE1A0_900E, (0x46F1,)),  # mov r9, lr
    (0xF102_0013, (0xF3AF, 0x8113)),  # cps #svc
)
"""What follows the vectors, in A32 and T32."""
LOGGED: Final[tuple[Step, ...]] = (
    same(0xE8AD_03FF),  # stm sp!, {r0-r9}
    *(same(mrc(8 + number, *fault)) for number, fault in enumerate((DFSR, DFAR, IFSR, IFAR))),
)
PAR_LOGGED: Final[Step] = same(mrc(12, *PAR))
NO_PAR_LOGGED: Final[Step] = (0xE3A0_C000, (0xF04F, 0x0C00))  # mov r12, #0
LOGGED_AFTER: Final[tuple[Step, ...]] = (same(0xE8AD_1F00), (0xE28D_D004, (0xB001,)))  # stm sp!, {r8-r12}; add sp, #4
LEFT: Final[tuple[Step, ...]] = (
    (0xF101_0000, (0xB650,)),  # setend le
    same(mrc(12, *TPIDRPRW)),
    (0xE12F_FF1C, (0x4760,)),  # bx r12
)


def handler(steps: Sequence[Step], *, thumb: bool) -> bytes:
    """Vectors, with what they all lead to behind them: ``HANDLER_SIZE`` bytes that may be put anywhere."""
    if thumb:
        halves = [half for n in range(VECTORS) for half in (0xF000, 0xB800 | 2 * (VECTORS - n) - 2)]  # b.w
        halves += [half for _, t32 in steps for half in t32]
        code = struct.pack(f"<{len(halves)}H", *halves)
    else:
        words = [0xEA00_0000 | VECTORS - n - 2 & 0xFF_FFFF for n in range(VECTORS)] + [a32 for a32, _ in steps]
        code = struct.pack(f"<{len(words)}I", *words)
    assert len(code) <= HANDLER_SIZE
    return code.ljust(HANDLER_SIZE, b"\0")


def frame_content(number: int) -> bytes:
    """Code of both instruction sets that tells the frame's number, and bytes to load."""
    a32 = struct.pack("<2I", 0xE3A0_0000 | number, SVC_0 | number) * (0x400 // 8)
    t32 = struct.pack("<2H", 0x2000 | number, 0xDF00 | number) * (0x400 // 4)
    return a32 + t32 + Random(number).randbytes(64) * ((FRAME - 0x800) // 64)


# -- address spaces ----------------------------------------------------------------------------------------------------


@dataclass
class Edit:
    """A change of descriptors: where and what (pairs of address and word), and the TLB maintenance that will do."""

    stores: list[tuple[int, int]]
    address: int
    scopes: tuple[int, ...]
    asid: int = 0


class Tables:
    """Descriptors in memory. ``words`` are the initial ones, by address."""

    spaces: Final = 3

    def __init__(self, random: Random, *, exact: bool) -> None:
        self.random = random
        self.exact = exact
        """Without what QEMU is known to do otherwise."""
        self.window = random.randrange(16) << 16
        """Where in each MiB the test addresses and the frames are."""
        self.frames = FRAMES + self.window
        self.nowhere = not random.randrange(3)
        """Some descriptors lead to where nothing is, and no access is misaligned: QEMU would split it, and report the
        address of a part as the DFAR."""
        self.nonglobal_only = bool(random.randrange(2))
        self.big_endian = not random.randrange(3)
        """Descriptors are, and so are exceptions entered: both is SCTLR.EE."""
        self.sctlr_base = SCTLR_BASE | SCTLR_EE * self.big_endian
        self.words: dict[int, int] = {}
        self.asids = random.sample(range(1, 256), self.spaces)

    def nonglobal(self) -> int:
        return 1 if self.nonglobal_only else self.random.randrange(2)

    def in_memory(self, address: int, word: int) -> tuple[int, int]:
        """Where a descriptor's word is, and which, when the CPU writes it as little-endian."""
        return (address, int.from_bytes(word.to_bytes(4, "little"), "big")) if self.big_endian else (address, word)

    def address(self) -> int:
        """A test address without the window and the offset in its 64 KiB."""
        raise NotImplementedError

    def edit(self) -> Edit:
        raise NotImplementedError

    def start(self) -> list[int]:
        """Set the translation registers, TTBCR among them, before the MMU is on."""
        raise NotImplementedError

    def switch(self, space: int) -> list[int]:
        """Turn to another address space."""
        raise NotImplementedError

    def control(self) -> list[int]:
        """Change TTBCR."""
        raise NotImplementedError

    def nothing(self, one_in: int) -> bool:
        """Whether to make a descriptor that leads to where nothing is: one in so many."""
        return self.nowhere and self.random.randrange(one_in) == 0

    def sctlr(self) -> int:
        """What SCTLR may have besides."""
        raise NotImplementedError

    def extra(self) -> list[int]:
        """Change what there is besides; nothing."""
        return []

    high_vectors = False
    """Whether the tables map 0xFFFF0000 to ``HIGH_VECTORS``, so that SCTLR.V may be set."""


class ShortTables(Tables):
    """Short descriptors (B3.5): three first-level tables for TTBR0, one for TTBR1."""

    FIRST, SECOND = TABLES, TABLES + 0x1_0000
    HIGH: Final = 3
    """The table of TTBR1."""
    high_vectors = True

    def __init__(self, random: Random, *, exact: bool) -> None:
        super().__init__(random, exact=exact)
        # QEMU looks at no access flag in a manager's domain; the walk does so before the domain counts (B3.13).
        self.managers = bool(random.randrange(2))
        self.slots = random.sample((0x001, 0x00F, 0x023, 0x02F, 0x100, 0x1FF, 0x2AB), 4)
        self.slots += random.sample((0x480, 0x500, 0x7FF, 0x800, 0x9AB, 0xC00, 0xEEE, 0xFFE), 4)
        self.super_slots = random.sample((0x010, 0x300, 0x600, 0xA00, 0xFE0), 2)
        self.pages: dict[tuple[int, int], str] = {}
        for table in range(4):
            for slot, descriptor in ((0x401, self._own(0b101)), (0x402, self._own(0b001) | 1 << 4),
                                     (0x404, self._own(0b111))):  # fmt: skip
                self.words[self._entry(table, slot)] = descriptor
            self.words[self._entry(table, 0xFFF)] = self._own(0b101)
            for slot in self.slots:
                for address, word in self._first(table, slot) + self._second(table, slot):
                    self.words[address] = word
            for slot in self.super_slots:
                for address, word in self._super(table, slot):
                    self.words[address] = word

    def _own(self, ap: int) -> int:
        """The section that the guest itself needs: global, domain 0."""
        slot = {0b101: 0x401, 0b001: 0x402, 0b111: 0x404}[ap]
        return slot << 20 | 2 | (ap & 3) << 10 | (ap >> 2) << 15

    def _entry(self, table: int, slot: int) -> int:
        return self.FIRST + 0x4000 * table + 4 * slot

    def _table(self, table: int, slot: int) -> int:
        return self.SECOND + 0x400 * (table * len(self.slots) + self.slots.index(slot))

    def _ap(self) -> int:
        return self.random.choice((0, 1, 1, 2, 3, 3, 3, 5, 6, 7))

    def _first(self, table: int, slot: int) -> list[tuple[int, int]]:
        random = self.random
        kind = random.choice(("fault", "table", "table", "table", "table", "section", "section", "nowhere"))
        if kind == "nowhere" and (self.exact or random.randrange(4)):
            kind = "table"
        domain = random.randrange(1, 16) << 5
        if kind == "fault":
            descriptor = random.getrandbits(30) << 2
        elif kind == "section":
            ap = self._ap()
            descriptor = FRAMES | 2 | random.getrandbits(3) << 2 | domain | (ap & 3) << 10 | random.getrandbits(3) << 12
            descriptor |= (ap >> 2) << 15 | random.getrandbits(1) << 16 | self.nonglobal() << 17
            descriptor |= random.randrange(4) == 0  # PXN
            if self.nothing(4):
                descriptor = descriptor & 0xF_FFFF | NOTHING
        else:
            base = self._table(table, slot) if kind == "table" else NOTHING
            if kind == "nowhere":
                domain = REACHED_DOMAIN << 5
            descriptor = base | 1 | (random.randrange(4) == 0) << 2 | domain
        return [(self._entry(table, slot), descriptor)]

    def _super(self, table: int, slot: int) -> list[tuple[int, int]]:
        random, ap = self.random, self._ap()
        descriptor = FRAMES | 2 | 1 << 18 | (ap & 3) << 10 | (ap >> 2) << 15 | self.nonglobal() << 17
        descriptor |= random.getrandbits(3) << 2 | random.getrandbits(3) << 12 | random.getrandbits(1) << 16
        return [(self._entry(table, slot + n), descriptor) for n in range(16)]

    def _second(self, table: int, slot: int) -> list[tuple[int, int]]:
        base = self._table(table, slot) + 4 * (self.window >> 12)
        if self.random.randrange(4) == 0:
            self.pages[table, slot] = "large"
            word = self._large()
            return [(base + 4 * n, word) for n in range(16)]
        self.pages[table, slot] = "small"
        return [(base + 4 * n, self._small()) for n in range(16)]

    def _small(self) -> int:
        random, ap = self.random, self._ap()
        if random.randrange(8) == 0:
            return random.getrandbits(30) << 2
        frame = NOTHING if self.nothing(8) else self.frames + FRAME * random.randrange(FRAME_COUNT)
        word = frame | 2 | (random.randrange(4) == 0) | random.getrandbits(2) << 2 | (ap & 3) << 4 | (ap >> 2) << 9
        return word | random.getrandbits(3) << 6 | random.getrandbits(1) << 10 | self.nonglobal() << 11

    def _large(self) -> int:
        random, ap = self.random, self._ap()
        word = self.frames | 1 | random.getrandbits(2) << 2 | (ap & 3) << 4 | (ap >> 2) << 9 | self.nonglobal() << 11
        return word | random.getrandbits(1) << 10 | random.getrandbits(3) << 12 | (random.randrange(4) == 0) << 15

    def address(self) -> int:
        random = self.random
        if random.randrange(20) == 0:
            return random.choice((0x4050_0000, 0x7770_0000, 0xFFD0_0000))  # mapped in no table
        if random.randrange(6) == 0:
            return random.choice(self.super_slots) << 20
        return random.choice(self.slots) << 20

    def edit(self) -> Edit:
        random = self.random
        table = random.randrange(4)
        every = (TLBIALL,) if table == self.HIGH or not self.nonglobal_only else (TLBIALL, TLBIASID)
        asid = self.asids[table] if table != self.HIGH else 0
        if random.randrange(5) == 0:
            slot = random.choice(self.super_slots)
            return Edit(self._super(table, slot), slot << 20, every, asid)
        slot = random.choice(self.slots)
        if random.randrange(3) == 0:
            return Edit(self._first(table, slot), slot << 20, every, asid)
        by_address = (*every, TLBIMVAA) if table == self.HIGH else (*every, TLBIMVAA, TLBIMVA)
        if self.pages[table, slot] == "small" and random.randrange(3):
            page = random.randrange(16)
            store = (self._table(table, slot) + 4 * ((self.window >> 12) + page), self._small())
            return Edit([store], slot << 20 | self.window | page << 12, by_address, asid)
        large = self.pages[table, slot] == "large"
        stores = self._second(table, slot)
        if large and self.pages[table, slot] == "large":
            return Edit(stores, slot << 20 | self.window | random.randrange(16) << 12, by_address, asid)
        return Edit(stores, slot << 20, every, asid)

    def start(self) -> list[int]:
        words = movw(0, self.FIRST) + [mcr(0, *TTBR0)]
        words += movw(0, self.FIRST + 0x4000 * self.HIGH) + [mcr(0, *TTBR1)]
        words += [*movw(0, 0), mcr(0, *TTBCR), *movw(0, self.asids[0]), mcr(0, *CONTEXTIDR)]
        return words + self.extra()

    def switch(self, space: int) -> list[int]:
        words = [*movw(0, self.asids[space]), mcr(0, *CONTEXTIDR), ISB]
        words += [*movw(0, self.FIRST + 0x4000 * space | self.random.choice((0, 0x4A, 0x6A))), mcr(0, *TTBR0), ISB]
        if not self.nonglobal_only:
            words += [mcr(0, 8, 0, 7, TLBIALL), DSB, ISB]
        return words

    def control(self) -> list[int]:
        n = self.random.choice((0, 0, 1, 2, 3, 5, 7))
        # PD0 and PD1 are the Security Extensions' (B4.1.153), which QEMU's board does not have.
        return [*movw(0, n), mcr(0, *TTBCR), ISB, mcr(0, 8, 0, 7, TLBIALL), DSB, ISB]

    def sctlr(self) -> int:
        """AFE, TRE and A. QEMU has WXN and UWXN in the walk of long descriptors only; they are for both (B3.7.2)."""
        choice = (0, SCTLR_TRE) if self.managers or self.exact else (0, SCTLR_AFE, SCTLR_TRE, SCTLR_AFE | SCTLR_TRE)
        return self.random.choice(choice) | SCTLR_A * (self.random.randrange(3) == 0)

    def extra(self) -> list[int]:
        """DACR: domain 0 is the guest's own."""
        roles = [1, 1, 1, 3 if self.managers else 1, *([] if self.exact else [0])]
        value = self.random.choice(roles[:4])
        for domain in range(1, REACHED_DOMAIN):
            value |= self.random.choice(roles) << 2 * domain
        value |= CLIENT << 2 * REACHED_DOMAIN
        return [*movw(0, value), mcr(0, *DACR), ISB]


class LongTables(Tables):
    """Long descriptors (B3.6). The guest's own second-level table is the same in every address space."""

    FIRST, OWN, SECOND, THIRD = TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x1_0000
    HIGH: Final = 3
    TOPS: Final = (0, 2, 3)
    BLOCK_TOP: Final = 2
    """The first-level entry that may be a block of 1 GiB, so that only one second-level index of it is looked at."""
    BLOCK_SLOT: Final = FRAMES - 0x4000_0000 >> 21
    SLOTS: Final = (3, BLOCK_SLOT, 0x0F, 0x13, 0x80, 0xFF, 0x1FF)
    """Second-level indices of test addresses; none with which the guest's own table has an entry."""
    lower = 0
    """TTBCR.T0SZ."""

    def __init__(self, random: Random, *, exact: bool) -> None:
        super().__init__(random, exact=exact)
        for slot, value in ((0, CODE & ~0x1F_FFFF | 0x481), (1, TABLES | 0x401 | 3 << 53), (2, USER | 0x4C1)):
            self._put(self.OWN + 8 * slot, value)
        for table in range(4):
            self._put(self._first(table) + 8, self.OWN | 3)
            for top in self.TOPS:
                self._set(self._top(table, top))
                for slot in self.SLOTS:
                    self._set(self._second(table, top, slot))
                    for page in range(16):
                        self._set(self._page(table, top, slot, page))

    def in_memory(self, address: int, word: int) -> tuple[int, int]:
        address, word = super().in_memory(address, word)
        return address ^ 4 * self.big_endian, word

    def _put(self, address: int, value: int) -> None:
        self.words[address], self.words[address + 4] = value & 0xFFFF_FFFF, value >> 32

    def _set(self, edit: tuple[int, int]) -> None:
        self._put(*edit)

    def _first(self, table: int) -> int:
        return self.FIRST + 0x40 * table

    def _second_table(self, table: int, top: int) -> int:
        return self.SECOND + 0x1000 * (table * len(self.TOPS) + self.TOPS.index(top))

    def _third_table(self, table: int, top: int, slot: int) -> int:
        # Two first-level entries share their third-level tables.
        number = (table * 2 + top % 2) * len(self.SLOTS) + self.SLOTS.index(slot)
        return self.THIRD + 0x1000 * number

    def _attributes(self) -> int:
        random = self.random
        value = random.getrandbits(3) << 2 | random.getrandbits(2) << 6 | random.getrandbits(2) << 8
        value |= (random.randrange(8) != 0) << 10 | self.nonglobal() << 11
        return value | (random.randrange(4) == 0) << 53 | (random.randrange(4) == 0) << 54

    def _limits(self) -> int:
        """APTable, XNTable and PXNTable, mostly none."""
        return self.random.getrandbits(4) << 59 if self.random.randrange(3) == 0 else 0

    def _junk(self) -> int:
        return self.random.getrandbits(63) << 1

    def _top(self, table: int, top: int) -> tuple[int, int]:
        kind = self.random.randrange(12)
        if kind == 0:
            value = self._junk()
        elif kind < 5 and top == self.BLOCK_TOP:
            value = 0x4000_0000 | 1 | self._attributes()
        else:
            value = self._second_table(table, top) | 3 | self._limits()
        return self._first(table) + 8 * top, value

    def _second(self, table: int, top: int, slot: int) -> tuple[int, int]:
        kind = self.random.randrange(12)
        if kind == 0:
            value = self._junk()
        elif kind < 4:
            value = (NOTHING if self.nothing(8) else FRAMES) | 1 | self._attributes()
        elif kind == 4 and not self.exact and self.random.randrange(4) == 0:
            value = NOTHING | 3
        else:
            value = self._third_table(table, top, slot) | 3 | self._limits()
        return self._second_table(table, top) + 8 * slot, value

    def _page(self, table: int, top: int, slot: int, page: int) -> tuple[int, int]:
        random = self.random
        frame = NOTHING if self.nothing(8) else self.frames + FRAME * random.randrange(FRAME_COUNT)
        value = frame | 3 | self._attributes()
        if random.randrange(8) == 0:
            value = random.choice((self._junk(), value & ~2))
        return self._third_table(table, top, slot) + 8 * ((self.window >> 12) + page), value

    def address(self) -> int:
        random = self.random
        if random.randrange(20) == 0:
            return random.choice((0, 1, 3)) << 30 | 0x55 << 21  # mapped in no table
        top = random.choice(self.TOPS)
        return top << 30 | (self.BLOCK_SLOT if top == self.BLOCK_TOP else random.choice(self.SLOTS)) << 21

    def edit(self) -> Edit:
        random = self.random
        table, top, slot = random.randrange(4), random.choice(self.TOPS), random.choice(self.SLOTS)
        kind = random.randrange(8)
        address = top << 30 | slot << 21
        # Third-level tables belong to two places, and regions that start at another level show tables elsewhere.
        scopes = (TLBIALL,)
        if kind == 0:
            store = self._top(table, top)
        elif kind < 4:
            store = self._second(table, top, slot)
        else:
            store = self._page(table, top, slot, random.randrange(16))
        return Edit([(store[0], store[1] & 0xFFFF_FFFF), (store[0] + 4, store[1] >> 32)], address, scopes)

    def sctlr(self) -> int:
        return sum(bit for bit in (SCTLR_A, SCTLR_WXN, SCTLR_UWXN) if self.random.randrange(3) == 0)

    def _ttbr(self, number: int, table: int, asid: int) -> list[int]:
        return [*movw(0, table), *movw(1, asid << 16), MCRR_TTBR[number] | 1 << 16]

    def start(self) -> list[int]:
        words = [*movw(0, 1 << 31), mcr(0, *TTBCR), *movw(0, self.random.getrandbits(32)), mcr(0, 10, 0, 2, 0)]
        return words + self._ttbr(0, self._first(0), self.asids[0]) + self._ttbr(1, self._first(self.HIGH), 7)

    def _low(self, space: int) -> int:
        """The table for TTBR0, by the size of its region."""
        return self._first(space) if self.lower < 2 else self._second_table(space, self.random.choice(self.TOPS))

    def switch(self, space: int) -> list[int]:
        words = [*self._ttbr(0, self._low(space), self.asids[space]), ISB]
        if not self.nonglobal_only or self.lower > 1:  # an ASID has had another table if its region is small
            words += [mcr(0, 8, 0, 7, TLBIALL), DSB, ISB]
        return words

    def control(self) -> list[int]:
        """Sizes of the two regions, the tables that go with them, and walks switched off, without the guest's own."""
        random = self.random
        self.lower, upper = random.choice(((0, 0), (0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (3, 0), (7, 0)))
        value = 1 << 31 | self.lower | upper << 16
        if self.lower > 1:
            value |= (1 << 7) * (random.randrange(4) == 0)  # EPD0
        else:
            value |= (1 << 23) * (random.randrange(4) == 0)  # EPD1
        space = random.randrange(self.spaces)
        low = self._low(space)
        high = self._first(self.HIGH) if upper < 2 else self._second_table(self.HIGH, 3)
        # The tables for both are in place before the sizes: with the guest's own code in either.
        words = [*movw(2, value), *movw(3, low), *movw(4, self.asids[space] << 16), *movw(5, high)]
        words += [mrc(6, *SCTLR), *movw(0, self.sctlr_base), mcr(0, *SCTLR), ISB]
        words += [MCRR_TTBR[0] | 4 << 16 | 3 << 12, *movw(1, 0), MCRR_TTBR[1] | 1 << 16 | 5 << 12, mcr(2, *TTBCR), ISB]
        return [*words, mcr(0, 8, 0, 7, TLBIALL), DSB, mcr(6, *SCTLR), ISB]


# -- trials ------------------------------------------------------------------------------------------------------------

LOADS: Final = {
    "ldr": 0xE590_4000, "ldrb": 0xE5D0_4000, "ldrh": 0xE1D0_40B0, "ldrsb": 0xE1D0_40D0, "ldrsh": 0xE1D0_40F0,
    "ldr post": 0xE490_4004, "ldr pre": 0xE5B0_4004, "ldrt": 0xE4B0_4000, "ldrbt": 0xE4F0_4000, "ldrht": 0xE0F0_40B0,
    "ldr reg": 0xE790_4003,
}  # fmt: skip
"""Loads to r4 from [r0]; some write r0 back."""
WHOLE_LOADS: Final = {
    "ldrd": 0xE1C0_40D0, "ldm": 0xE890_0070, "ldm!": 0xE8B0_0070, "ldrex": 0xE190_4F9F, "ldrexd": 0xE1B0_4F9F,
    "ldrexb": 0xE1D0_4F9F, "ldrexh": 0xE1F0_4F9F,
}  # fmt: skip
"""Within one page: what is left of them after an abort in the middle is UNKNOWN."""
STORES: Final = {
    "str": 0xE580_2000, "strb": 0xE5C0_2000, "strh": 0xE1C0_20B0, "str post": 0xE480_2004, "str pre": 0xE5A0_2004,
    "strt": 0xE4A0_2000, "strbt": 0xE4E0_2000, "strht": 0xE0E0_20B0,
}  # fmt: skip
WHOLE_STORES: Final = {
    "strd": 0xE1C0_20F0, "stm": 0xE880_000C, "stm!": 0xE8A0_000C, "swp": 0xE100_4092, "swpb": 0xE140_4092,
}  # fmt: skip
EXCLUSIVE_PAIRS: Final = (
    (0xE190_4F9F, 0xE180_5F92), (0xE1D0_4F9F, 0xE1C0_5F92), (0xE1F0_4F9F, 0xE1E0_5F92), (0xE1B0_4F9F, 0xE1A0_5F92),
)  # fmt: skip
"""LDREX r4, [r0] and STREX r5, r2, [r0], of each size."""
OTHERS: Final = (
    0xE7F0_00F0,  # UDF
    BKPT,
    0xEE11_4F10,  # MRC SCTLR
    0xEE1D_4F50,  # MRC TPIDRURW
    0xEE1D_4F70,  # MRC TPIDRURO
    0xEE0D_2F70,  # MCR TPIDRURO
    0xEE19_4F1C,  # MRC of nothing
    0xF57F_F01F,  # CLREX
    0xE10F_4000,  # MRS CPSR
    0xE129_F002,  # MSR CPSR_fc, r2 (r2 has a mode)
    0xF10C_0080,  # CPSID I
    0xE320_F000,  # NOP
)

Accesses = list[int]


@dataclass
class Guest:
    """A guest's memory, by address, and where it ends."""

    parts: dict[int, bytes]
    end: int
    trials: int
    log: bool
    listing: list[str] = field(default_factory=list)

    def elf(self) -> bytes:
        """An ELF file that is loaded there and entered at ``CODE``."""
        header_size = 52 + 32 * len(self.parts)
        content, programs = b"", b""
        for address, data in sorted(self.parts.items()):
            offset = header_size + len(content)
            programs += struct.pack("<8I", 1, offset, address, address, len(data), len(data), 7, 4)
            content += data
        identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
        head = struct.pack("<2H5I6H", 2, 40, 1, CODE, 52, 0, 0x0500_0200, 52, 32, len(self.parts), 40, 0, 0)
        return identity + head + programs + content


class _Maker:
    def __init__(self, random: Random, tables: Tables, trials: int, log: bool) -> None:
        self.random, self.tables, self.log = random, tables, log
        self.code: list[int] = []
        self.user: list[int] = []
        self.literals: list[tuple[int, list[int]]] = []
        """Where the address of the literals is to go, and the literals."""
        self._head()
        for _ in range(trials):
            self._trial()
        self.end = self._here()
        self.code += [*movw(0, PSCI_SYSTEM_OFF), HVC]
        for place, values in self.literals:
            self.code[place : place + 2] = movw(12, self._here())
            self.code += values
        assert self._here() <= HIGH_VECTORS, "too many trials"
        frames = b"".join(frame_content(number) for number in range(FRAME_COUNT))
        words = dict(tables.in_memory(*entry) for entry in tables.words.items())
        low, high = min(words), max(words) + 4
        table = b"".join(struct.pack("<I", words.get(address, 0)) for address in range(low, high, 4))
        parts = {
            CODE: self._packed(self.code),
            HIGH_VECTORS: self.high_handler,
            low: table,
            tables.frames: frames,
            USER: self._packed(self.user or [SVC_0]),
        }
        self.guest = Guest(parts, self.end, trials, log)

    @staticmethod
    def _packed(words: list[int]) -> bytes:
        return struct.pack(f"<{len(words)}I", *words)

    def _here(self) -> int:
        return CODE + 4 * len(self.code)

    def _head(self) -> None:
        """The entry, the vectors, what they do, and the MMU on."""
        steps = list(ENTERED)
        if self.log:
            # QEMU's PAR of long descriptors has the memory attributes, Raddle's has not.
            par = PAR_LOGGED if isinstance(self.tables, ShortTables) else NO_PAR_LOGGED
            steps += [*LOGGED, par, *LOGGED_AFTER]
        steps += LEFT
        handlers = [handler(steps, thumb=thumb) for thumb in (False, True)]
        self.high_thumb = self.random.randrange(2)
        self.high_handler = handlers[self.high_thumb]
        start = (LOW_VECTORS[1] + HANDLER_SIZE - CODE) // 4
        self.code = [0xEA00_0000 | start - 2] + [0xE320_F000] * 7  # b start
        for code in handlers:
            self.code += struct.unpack(f"<{HANDLER_SIZE // 4}I", code)
        self.code += [0xE328_F000, *movw(13, LOG)]
        for n in range(1, 13):
            self.code += [0xE3A0_0000 | n << 12]
        for fault in (DFSR, IFSR, DFAR, IFAR):
            self.code += [mcr(1, *fault)]
        self.code += [*self.tables.start(), *self.tables.extra(), mcr(0, 8, 0, 7, TLBIALL), DSB, ISB]
        self.code += self._control(0)

    # -- what changes --------------------------------------------------------------------------------------------------

    def _change(self) -> list[int]:
        random, tables = self.random, self.tables
        kind = random.randrange(12)
        if kind < 4:
            return self._edited(tables.edit())
        if kind < 6:
            return tables.extra()
        if kind < 9:
            return tables.switch(random.randrange(tables.spaces))
        if kind < 10:
            return tables.control()
        if kind < 11:
            return [*self._control(tables.sctlr()), mcr(0, 8, 0, 7, TLBIALL), DSB, ISB]
        # An external abort on the walk is taken: the guest goes on behind it.
        words = [*movw(12, self._here() + 4 * 7), mcr(12, *TPIDRPRW)]
        return [*words, *movw(0, self._address(4)), mcr(0, 7, 0, 8, random.randrange(4)), ISB]

    def _control(self, bits: int) -> list[int]:
        """Set SCTLR to these bits, with another way in which exceptions are taken."""
        thumb = self.random.randrange(2)
        value = self.tables.sctlr_base | SCTLR_M | SCTLR_TE * thumb | bits
        if thumb == self.high_thumb and self.tables.high_vectors and self.random.randrange(2):
            value |= SCTLR_V
        return [*movw(0, LOW_VECTORS[thumb]), mcr(0, *VBAR), *movw(0, value), mcr(0, *SCTLR), ISB]

    def _edited(self, edit: Edit) -> list[int]:
        random = self.random
        words: list[int] = []
        last = None
        for address, value in (self.tables.in_memory(*store) for store in edit.stores):
            words += movw(10, address)
            if value != last:
                words += movw(11, value)
            words += [0xE58A_B000]  # str r11, [r10]
            last = value
        scope = random.choice(edit.scopes)
        words += [DSB, *movw(0, edit.address & 0xFFFF_F000 | edit.asid if scope != TLBIASID else edit.asid)]
        return [*words, mcr(0, 8, 0, random.choice((7, 3)), scope), DSB, ISB]

    # -- accesses ------------------------------------------------------------------------------------------------------

    def _address(self, alignment: int, low: int = 0, high: int = FRAME) -> int:
        if self.tables.nowhere:
            alignment = max(alignment, 4)
        page = self.random.randrange(FRAME_COUNT) << 12
        return self.tables.address() + self.tables.window + page + self.random.randrange(low, high, alignment)

    def _accesses(self) -> tuple[list[int], int, int]:
        """A few instructions, and the r0 and r2 for them."""
        random = self.random
        kind = random.randrange(12)
        value = random.getrandbits(32)
        if kind < 4:
            alignment = random.choice((1, 2, 4, 4, 4))
            word = random.choice(list(LOADS.values()))
            address = self._address(alignment)
            if random.randrange(8) == 0 and not self.tables.nowhere:
                address |= 0xFFD
            return [word], address, value
        if kind < 6:
            alignment = random.choice((2, 4, 8, 8, 8))
            return [random.choice(list(WHOLE_LOADS.values()))], self._address(alignment, 0x40, 0xF80), value
        if kind < 8:
            alignment = random.choice((1, 2, 4, 4, 4))
            return [random.choice(list(STORES.values()))], self._address(alignment, 0x800, 0xFF0), value
        if kind < 9:
            alignment = random.choice((2, 4, 8, 8))
            return [random.choice(list(WHOLE_STORES.values()))], self._address(alignment, 0x840, 0xF80), value
        if kind < 10:
            # New code where there was code: SVC with another number
            if random.randrange(2):
                return [STORES["str"]], self._address(8, 0, 0x400) | 4, SVC_0 | random.getrandbits(8)
            return [STORES["str"]], self._address(4, 0x400, 0x800), 0xDF00_2000 | random.getrandbits(8)
        if kind < 11:
            pair = random.choice(EXCLUSIVE_PAIRS)
            between = random.choice(([], [], [0xF57F_F01F], [0xE580_2000]))
            return [pair[0], *between, pair[1]], self._address(8, 0x840, 0xF80), value
        mode = random.choice((0x10, 0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F)) | 0xC0 | random.getrandbits(4) << 28
        # BKPT leaves the IFAR UNKNOWN (B3.13.2).
        return [random.choice([word for word in OTHERS if not (self.log and word == BKPT)])], self._address(4), mode

    def _trial(self) -> None:
        random = self.random
        while random.randrange(5) < 2:
            self.code += self._change()
        jump = random.randrange(5) == 0
        words, r0, r2 = self._accesses()
        if random.randrange(3) == 0:
            more, _, _ = self._accesses()
            if not jump and words[0] in LOADS.values() and more[0] in LOADS.values():
                words += more
        words.append(SVC_0 | random.getrandbits(8))
        # What sets r8 … r12 for the trial comes before what depends on them.
        body: list[int] = []
        mode = random.choice((SVC, SVC, SYS, USR, USR, USR))
        literals = [r0, self._address(4), r2, 4 * random.randrange(8), *(random.getrandbits(32) for _ in range(4))]
        if jump or mode == USR or random.randrange(4) == 0:
            if jump:
                thumb = random.randrange(2)
                target = self._address(4, 0x400, 0x800) | random.choice((0, 2)) if thumb else self._address(4, 0, 0x400)
            else:
                thumb = 0
                if mode == USR:
                    target = USER + 4 * len(self.user)
                    self.user += words
                else:
                    target = 0
            status = mode | (T if thumb else 0) | random.getrandbits(5) << 27
            body += movw(11, status) + [0xE16F_F00B]  # msr spsr_fsxc, r11
            ahead = 0 if target or jump else 1
            enter = [*movw(12, target), 0xE1B0_F00C]  # movs pc, r12
            if ahead:
                # Right behind the jump: an exception return to where the code goes on
                enter = [*movw(12, 0), 0xE1B0_F00C, *words]
        else:
            ahead = 0
            enter = words
        # next trial
        size = 2 + 1 + 2 + 1 + len(body) + len(enter)
        follows = self._here() + 4 * size
        trial = [*movw(12, follows), mcr(12, *TPIDRPRW)]
        self.literals.append((len(self.code) + len(trial), literals))
        trial += [0, 0, 0xE89C_00FF]  # ldm r12, {r0-r7}
        trial += body
        if ahead:
            at = self._here() + 4 * (len(trial) + 3)
            enter[:2] = movw(12, at)
        self.code += trial + enter
        assert self._here() == follows


def random_guest(random: Random, trials: int, *, long: bool, exact: bool = False, log: bool = False) -> Guest:
    """A guest with so many trials. ``log``: it keeps what each came to from ``LOG`` on, ``LOG_ENTRY`` bytes each;
    ``exact``: without what QEMU is known to do otherwise.
    """
    kind: Callable[..., Tables] = LongTables if long else ShortTables
    return _Maker(random, kind(random, exact=exact), trials, log).guest
