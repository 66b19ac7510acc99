# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from raddle.ir.builder import Builder
from raddle.ir.types import Type
from raddle_target_arm import mmu, sysregs
from raddle_target_arm.state import MODE_ABT, MODE_DOMAIN_SLOT, MODE_PRIVILEGED

READ, WRITE, FETCH = 0, 1, 2
USER, PRIVILEGED = 0, 1
R, W, X, LOCAL = 1, 2, 4, 8

NOTHING = 0xBAD0_0000
TABLE0, TABLE1, PAGES = 0x4000_4000, 0x4001_0000, 0x4002_0000
SECTION, PAGE_TABLE, SMALL, LARGE = 2, 1, 2, 1
AFE, WXN, UWXN, EE = 1 << 29, 1 << 19, 1 << 20, 1 << 25


def ap_section(ap: int) -> int:
    return (ap & 3) << 10 | (ap >> 2) << 15


def ap_page(ap: int) -> int:
    return (ap & 3) << 4 | (ap >> 2) << 9


@pytest.fixture
def short(system: Any) -> Any:
    """MMU on, short descriptors, all domains client."""
    system["sctlr"] |= 1
    system.update(ttbr0=TABLE0 | 0x4A, ttbr1=TABLE1, dacr=0x5555_5555, domain_tag0=0x5555_5555, domain_tag1=0x5555_5555)
    return system


@pytest.fixture
def long(system: Any) -> Any:
    """MMU on, long descriptors."""
    system["sctlr"] |= 1
    system.update(ttbcr=1 << 31, ttbr0=TABLE0 | 7 << 48, ttbr1=TABLE1)
    return system


def fill(system: Any, address: int, access: int, index: int = PRIVILEGED) -> int | tuple[int, int, int, int]:
    """The fault code, or (physical address, rights, log2 of the size, MMU index) of the entry made."""
    system.calls.clear()
    code = system.call("tlb_fill", address, access | index << 8, 4)
    if code:
        assert not system.calls
        return code
    ((name, page, physical, packed),) = system.calls
    assert name == "tlb_set"
    assert page == address & ~0xFFF
    return physical, packed & 0xFF, packed >> 8 & 0xFF, packed >> 16


def section(system: Any, address: int, descriptor: int, table: int = TABLE0) -> None:
    system.words[table + (address >> 20) * 4] = descriptor


def page(system: Any, address: int, descriptor: int, first: int = 0) -> None:
    section(system, address, PAGES | PAGE_TABLE | first)
    system.words[PAGES + (address >> 12 & 0xFF) * 4] = descriptor


def quad(system: Any, address: int, descriptor: int) -> None:
    system.words[address], system.words[address + 4] = descriptor & 0xFFFF_FFFF, descriptor >> 32


def test_off_is_flat(system: Any) -> None:
    assert fill(system, 0x1234_5678, FETCH) == (0x1234_5000, R | W | X, 12, PRIVILEGED)
    assert fill(system, 0xFFFF_F000, WRITE, USER) == (0xFFFF_F000, R | W | X, 12, USER)


def test_section(short: Any) -> None:
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(3))
    assert fill(short, 0x8012_3456, READ) == (0x4562_3000, R | W | X, 20, PRIVILEGED)
    assert short["nonglobal"] == 0


def test_supersection(short: Any) -> None:
    section(short, 0x8110_0000, 0x4500_0000 | 0xA << 20 | 0x5 << 5 | SECTION | 1 << 18 | ap_section(3))
    assert fill(short, 0x8112_3456, READ) == (0x5A_4512_3000, R | W | X, 24, PRIVILEGED)


def test_small_and_large_pages(short: Any) -> None:
    page(short, 0x8012_3000, 0x4567_8000 | SMALL | ap_page(3))
    assert fill(short, 0x8012_3456, READ) == (0x4567_8000, R | W | X, 12, PRIVILEGED)
    page(short, 0x8012_3000, 0x4567_0000 | LARGE | ap_page(3))
    assert fill(short, 0x8012_3456, READ) == (0x4567_3000, R | W | X, 16, PRIVILEGED)


# (rights at PL1, rights at PL0) by AP[2:0] without and with access flag
RIGHTS = {0: (0, 0), 1: (3, 0), 2: (3, 1), 3: (3, 3), 4: (0, 0), 5: (1, 0), 6: (1, 1), 7: (1, 1)}
AFE_RIGHTS = {1: (3, 0), 3: (3, 3), 5: (1, 0), 7: (1, 1)}


@pytest.mark.parametrize("ap", range(8))
@pytest.mark.parametrize("afe", [False, True])
@pytest.mark.parametrize("index", [USER, PRIVILEGED])
@pytest.mark.parametrize("access", [READ, WRITE, FETCH])
def test_access_permissions(short: Any, ap: int, afe: bool, index: int, access: int) -> None:
    short["sctlr"] |= AFE if afe else 0
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(ap) | 9 << 5)
    page(short, 0x9000_0000, 0x4560_0000 | SMALL | ap_page(ap), 9 << 5)
    if afe and not ap & 1:
        expected: tuple[Any, Any] = (0x93, 0x96)
    else:
        data = (AFE_RIGHTS if afe else RIGHTS)[ap][0 if index == PRIVILEGED else 1]
        rights = data | (X if data & R else 0)
        if rights >> access & 1:
            expected = ((0x4560_0000, rights, 20, index), (0x4560_0000, rights, 12, index))
        else:
            expected = (0x9D, 0x9F)
    assert (fill(short, 0x8010_0000, access, index), fill(short, 0x9000_0000, access, index)) == expected


@pytest.mark.parametrize("role", range(4))
def test_domains(short: Any, role: int) -> None:
    short["domain_tag0"] = role << 22
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(5) | 1 << 4 | 11 << 5)
    page(short, 0x9000_0000, 0x4560_0000 | SMALL | ap_page(5) | 1, 11 << 5)
    found = fill(short, 0x8010_0000, WRITE), fill(short, 0x9000_0000, WRITE)
    if role == 3:
        assert found == ((0x4560_0000, R | W | X, 20, 1), (0x4560_0000, R | W | X, 12, 1))
    else:
        assert found == ((0xBD, 0xBF) if role == 1 else (0xB9, 0xBB))


def test_each_slot_of_indices_has_its_own_domain_rights(short: Any) -> None:
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(3))
    short.update(domain_tag0=0, domain_tag1=1)
    assert fill(short, 0x8010_0000, READ, 1) == 0x9
    assert fill(short, 0x8010_0000, READ, 3) == (0x4560_0000, R | W | X, 20, 3)
    assert fill(short, 0x8010_0000, READ, 2) == (0x4560_0000, R | W | X, 20, 2)


def test_a_supersection_is_in_domain_0(short: Any) -> None:
    section(short, 0x8100_0000, 0x4500_0000 | SECTION | 1 << 18 | ap_section(3) | 5 << 5)
    short["domain_tag0"] = 0x5555_5554
    assert fill(short, 0x8100_0000, READ) == 0x9


def test_translation_faults_and_external_aborts(short: Any) -> None:
    assert fill(short, 0x8010_0000, READ) == 0x5
    page(short, 0x9000_0000, 0, 3 << 5)
    assert fill(short, 0x9000_0000, READ) == 0x37
    short.words[TABLE0 + (0x900 << 2)] = 0xBAD0_0000 | PAGE_TABLE | 3 << 5
    assert fill(short, 0x9000_0000, READ) == 0x3E
    short["ttbr0"] = 0xBAD0_0000
    assert fill(short, 0x9000_0000, READ) == 0xC


def test_access_flag_comes_before_domain(short: Any) -> None:
    short["sctlr"] |= AFE
    short["domain_tag0"] = 0
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(2))
    assert fill(short, 0x8010_0000, READ) == 0x3


@pytest.mark.parametrize("n", range(8))
def test_ttbcr_n_divides_the_address_space(short: Any, n: int) -> None:
    short["ttbcr"] = n
    short["ttbr0"] = TABLE0 if n == 0 else TABLE0 | 0x80
    limit = 1 << 32 - n
    last = limit - 0x10_0000
    within = 0xC_5000  # bits below those of the first level's index do not matter
    base0 = short["ttbr0"] & ~(0x3FFF >> n)
    section(short, last, 0x4560_0000 | SECTION | ap_section(3), base0)
    assert fill(short, last, READ) == (0x4560_0000, R | W | X, 20, 1)
    assert fill(short, last + within, READ) == (0x4560_0000 + within, R | W | X, 20, 1)
    if n:
        section(short, limit, 0x7890_0000 | SECTION | ap_section(3), TABLE1)
        assert fill(short, limit + within, READ) == (0x7890_0000 + within, R | W | X, 20, 1)
        short["ttbcr"] |= 1 << 5
        assert fill(short, limit, READ) == 0x5
    short["ttbcr"] = n | 1 << 4
    assert fill(short, last, READ) == 0x5


@pytest.mark.parametrize(
    ("descriptor", "ap", "index", "extra", "fetches"),
    [
        (SECTION, 3, PRIVILEGED, 0, True),
        (SECTION | 1 << 4, 3, PRIVILEGED, 0, False),
        (SECTION | 1, 5, PRIVILEGED, 0, False),
        (SECTION | 1, 3, USER, 0, True),
        (SECTION, 3, PRIVILEGED, WXN, False),
        (SECTION, 5, PRIVILEGED, WXN, True),
        (SECTION, 3, PRIVILEGED, UWXN, False),
        (SECTION, 3, USER, UWXN, True),
        (SECTION, 2, PRIVILEGED, UWXN, True),
    ],
)
def test_execute_never_in_sections(short: Any, descriptor: int, ap: int, index: int, extra: int, fetches: bool) -> None:
    short["sctlr"] |= extra
    section(short, 0x8010_0000, 0x4560_0000 | descriptor | ap_section(ap))
    found = fill(short, 0x8010_0000, FETCH, index)
    assert (found != 0xD) == fetches
    data = fill(short, 0x8010_0000, READ, index)
    assert isinstance(data, tuple)
    assert bool(data[1] & X) == fetches


@pytest.mark.parametrize(
    ("page_bits", "first", "index", "fetches"),
    [
        (SMALL, 0, PRIVILEGED, True),
        (SMALL | 1, 0, PRIVILEGED, False),
        (SMALL, 1 << 2, PRIVILEGED, False),
        (SMALL, 1 << 2, USER, True),
        (LARGE, 0, PRIVILEGED, True),
        (LARGE | 1 << 15, 0, PRIVILEGED, False),
    ],
)
def test_execute_never_in_pages(short: Any, page_bits: int, first: int, index: int, fetches: bool) -> None:
    page(short, 0x8010_0000, 0x4560_0000 | page_bits | ap_page(3), first)
    assert (fill(short, 0x8010_0000, FETCH, index) != 0xF) == fetches


def test_big_endian_tables(short: Any) -> None:
    short["sctlr"] |= EE
    descriptor = 0x4560_0000 | SECTION | ap_section(3)
    section(short, 0x8010_0000, int.from_bytes(descriptor.to_bytes(4, "little"), "big"))
    assert fill(short, 0x8010_0000, READ) == (0x4560_0000, R | W | X, 20, 1)


def test_not_global_translations_are_noted(short: Any) -> None:
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(3) | 1 << 17)
    page(short, 0x9000_0000, 0x4560_0000 | SMALL | ap_page(3) | 1 << 11)
    page(short, 0x9000_1000, 0x4560_0000 | SMALL | ap_page(3))
    assert fill(short, 0x8010_0000, READ, 3) == (0x4560_0000, R | W | X | LOCAL, 20, 3)
    assert short["nonglobal"] == 1 << 3
    assert fill(short, 0x9000_1000, READ, 0) == (0x4560_0000, R | W | X, 12, 0)
    assert short["nonglobal"] == 1 << 3
    assert fill(short, 0x9000_0000, READ, 0) == (0x4560_0000, R | W | X | LOCAL, 12, 0)
    assert short["nonglobal"] == 1 << 3 | 1 << 0
    short.calls.clear()
    short.call("new_address_space")
    assert short.calls == [("tlb_flush_local", 0b1001)]
    short.call("new_address_space")
    assert len(short.calls) == 1


# -- long descriptors --------------------------------------------------------------------------------------------------

AF, AP1, AP2, NG = 1 << 10, 1 << 6, 1 << 7, 1 << 11
PXN, XN = 1 << 53, 1 << 54
BLOCK, TABLE = 1, 3
L2, L3 = 0x4003_0000, 0x4004_0000


def long_page(system: Any, address: int, leaf: int, second: int = 0, first: int = 0) -> None:
    quad(system, TABLE0 + (address >> 30) * 8, L2 | TABLE | first)
    quad(system, L2 + (address >> 21 & 0x1FF) * 8, L3 | TABLE | second)
    quad(system, L3 + (address >> 12 & 0x1FF) * 8, leaf)


def test_long_block_sizes(long: Any) -> None:
    quad(long, TABLE0 + 8, 0x12_4000_0000 | BLOCK | AF)
    assert fill(long, 0x4234_5678, READ) == (0x12_4234_5000, R | W | X, 30, 1)
    quad(long, TABLE0 + 16, L2 | TABLE)
    quad(long, L2 + 8, 0x12_4020_0000 | BLOCK | AF)
    assert fill(long, 0x8034_5678, READ) == (0x12_4034_5000, R | W | X, 21, 1)
    long_page(long, 0xC012_3000, 0x12_4567_8000 | TABLE | AF)
    assert fill(long, 0xC012_3456, READ) == (0x12_4567_8000, R | W | X, 12, 1)


def test_long_faults(long: Any) -> None:
    assert fill(long, 0x8000_0000, READ) == 0x205
    quad(long, TABLE0 + 16, L2 | TABLE)
    assert fill(long, 0x8000_0000, READ) == 0x206
    quad(long, L2, L3 | TABLE)
    assert fill(long, 0x8000_0000, READ) == 0x207
    quad(long, L3, 0x4000_0000 | BLOCK | AF)
    assert fill(long, 0x8000_0000, READ) == 0x207
    quad(long, L3, 0x4000_0000 | TABLE)
    assert fill(long, 0x8000_0000, READ) == 0x20B
    quad(long, L3, 0x4000_0000 | TABLE | AF | AP2)
    assert fill(long, 0x8000_0000, WRITE) == 0x20F
    quad(long, L2, 0xBAD0_0000 | TABLE)
    assert fill(long, 0x8000_0000, READ) == 0x217
    quad(long, L2, 0x4000_0000 | BLOCK | AF)
    assert fill(long, 0x8000_0000, READ, USER) == 0x20E
    quad(long, L2, 0x4000_0000 | BLOCK)
    assert fill(long, 0x8000_0000, READ, USER) == 0x20A
    quad(long, TABLE0 + 16, 0xBAD0_0000 | TABLE)
    assert fill(long, 0x8000_0000, READ) == 0x216
    long["ttbr0"] = 0xBAD0_0000
    assert fill(long, 0x8000_0000, READ) == 0x215


@pytest.mark.parametrize(
    ("leaf", "second", "index", "rights"),
    [
        (0, 0, PRIVILEGED, R | W | X),
        (AP2, 0, PRIVILEGED, R | X),
        (AP1, 0, USER, R | W | X),
        (AP1 | AP2, 0, USER, R | X),
        (AP1, 1 << 62, USER, R | X),
        (AP1, 1 << 61, PRIVILEGED, R | W | X),
        (AP1, 1 << 61, USER, None),
        (XN, 0, PRIVILEGED, R | W),
        (PXN, 0, PRIVILEGED, R | W),
        (PXN | AP1, 0, USER, R | W | X),
        (0, 1 << 60, PRIVILEGED, R | W),
        (0, 1 << 59, PRIVILEGED, R | W),
        (AP1, 1 << 59, USER, R | W | X),
    ],
)
@pytest.mark.parametrize("level", [1, 2])
def test_long_rights(long: Any, leaf: int, second: int, index: int, rights: int | None, level: int) -> None:
    tables = {"first": second} if level == 1 else {"second": second}
    long_page(long, 0x8000_0000, 0x4567_8000 | TABLE | AF | leaf, **tables)
    expected = 0x20F if rights is None else (0x4567_8000, rights, 12, index)
    assert fill(long, 0x8000_0000, READ, index) == expected


def test_long_wxn(long: Any) -> None:
    long_page(long, 0x8000_0000, 0x4567_8000 | TABLE | AF | AP1)
    long["sctlr"] |= WXN
    assert fill(long, 0x8000_0000, FETCH, USER) == 0x20F
    long["sctlr"] ^= WXN | UWXN
    assert fill(long, 0x8000_0000, FETCH, USER) == (0x4567_8000, R | W | X, 12, USER)
    assert fill(long, 0x8000_0000, FETCH, PRIVILEGED) == 0x20F


@pytest.mark.parametrize(
    ("t0", "t1", "address", "table", "entry"),
    [
        (0, 0, 0xFFFF_F000, TABLE0, 3),
        (1, 0, 0x7FFF_F000, TABLE0, 1),
        (1, 0, 0x8000_0000, TABLE1, 2),
        (2, 0, 0x3FFF_F000, TABLE0, 511),
        (2, 0, 0x4000_0000, TABLE1, 1),
        (7, 0, 0x01FF_F000, TABLE0, 15),
        (0, 2, 0xC020_0000, TABLE1, 1),
        (0, 2, 0xBFFF_F000, TABLE0, 2),
        (0, 1, 0xC000_0000, TABLE1, 1),
        (1, 2, 0x8000_0000, None, 0),
        (3, 7, 0xFE00_0000, TABLE1, 0),
    ],
)
def test_long_regions(long: Any, t0: int, t1: int, address: int, table: int | None, entry: int) -> None:
    long["ttbcr"] = 1 << 31 | t1 << 16 | t0
    if table is None:
        assert fill(long, address, READ) == 0x205
        return
    quad(long, table + entry * 8, 0x4000_0000 | BLOCK | AF)
    found = fill(long, address, READ)
    assert isinstance(found, tuple)
    assert found[2] == (30 if (t0 if table == TABLE0 else t1) < 2 else 21)
    long["ttbcr"] |= 1 << 7 if table == TABLE0 else 1 << 23
    assert fill(long, address, READ) == 0x205


def test_long_base_is_aligned_to_the_table(long: Any) -> None:
    long["ttbr0"] = TABLE0 | 0x18
    quad(long, TABLE0 + 8, 0x4000_0000 | BLOCK | AF | NG)
    assert fill(long, 0x4000_0000, READ) == (0x4000_0000, R | W | X | LOCAL, 30, 1)
    assert long["nonglobal"] == 1 << 1


# -- operations --------------------------------------------------------------------------------------------------------


def test_address_translation(short: Any) -> None:
    section(short, 0x8010_0000, 0x4560_0000 | SECTION | ap_section(1))
    section(short, 0x8100_0000, 0x4500_0000 | 0xA << 20 | SECTION | 1 << 18 | ap_section(3))
    short.call("address_translation", 0x8012_3456, 0x100)
    assert short["par"] == 0x4562_3200
    short.call("address_translation", 0x8012_3456, 0x000)
    assert short["par"] == 0xD << 1 | 1
    short.call("address_translation", 0x8100_0000, 0x000)
    assert short["par"] == 0x450A_0202
    assert not short.calls


def test_long_address_translation(long: Any) -> None:
    long_page(long, 0x8000_0000, 0x12_4567_8000 | TABLE | AF)
    long.call("address_translation", 0x8000_0456, 0x101)
    assert long["par"] == 0x12_4567_8A00
    long.call("address_translation", 0x8000_0456, 0x001)
    assert long["par"] == 0x801 | 0x0F << 1


@pytest.mark.parametrize("table", [TABLE0, NOTHING], ids=["second level", "first level"])
def test_address_translation_without_a_table_is_a_data_abort(short: Any, table: int) -> None:
    short.update(ttbr0=table, par=0x1234, vbar=0x100)
    section(short, 0x8010_0000, NOTHING | PAGE_TABLE | 5 << 5)

    def translate(b: Builder) -> None:
        sysregs.write(b, (15, 0, 7, 8, 0), b.const(0x8012_3456, Type.I32), 0xA8, MODE_PRIVILEGED)

    short.emit(translate, 0x7000)
    status = 0xE | 5 << 4 if table == TABLE0 else 0xC
    assert (short["dfsr"], short["dfar"], short["par"]) == (status | 1 << 11, 0x8012_3456, 0x1234)
    assert (short["pc"], short["lr"], short["cpsr_m"]) == (0x110, 0x7008, MODE_ABT)
    assert short["spsr_abt"] >> 10 & 0x3F == 0xA8 >> 2


def test_dacr_turns_between_two_slots(system: Any) -> None:
    mode = system["mode"]
    system.call("dacr_write", 0x55)
    assert (system["dacr"], system["domain_slot"], system["mode"]) == (0x55, 1, mode ^ MODE_DOMAIN_SLOT)
    assert system.calls == [("tlb_flush_by_mmuidx", 0b1100)]
    system.calls.clear()
    system.call("dacr_write", 0x55)
    system.call("dacr_write", 0)
    system.call("dacr_write", 0x55)
    assert (system["domain_slot"], system["mode"], system.calls) == (1, mode ^ MODE_DOMAIN_SLOT, [])
    system["nonglobal"] = 0b1111
    system.call("dacr_write", 0x51)
    assert system.calls == [("tlb_flush_by_mmuidx", 0b0011)]
    assert (system["domain_slot"], system["domain_tag0"], system["domain_tag1"]) == (0, 0x51, 0x55)
    assert (system["mode"], system["nonglobal"]) == (mode, 0b1100)


def test_maintenance(system: Any) -> None:
    system["nonglobal"] = 0b0101
    system.emit(mmu.flush_all)
    system.emit(lambda b: mmu.flush_page(b, b.const(0x1234_5678)))
    system.emit(lambda b: mmu.flush_page_everywhere(b, b.const(0x1234_5678)))
    system.emit(mmu.flush_all_everywhere)
    system.emit(mmu.flush_address_space)
    system.emit(mmu.synchronise)
    assert system.calls == [
        ("tlb_flush",),
        ("tlb_flush_page", 0x1234_5000, 15),
        ("tlb_flush_page_all_cpus", 0x1234_5000, 15),
        ("tlb_flush_all_cpus",),
        ("tlb_sync",),
    ]
    assert system["nonglobal"] == 0
