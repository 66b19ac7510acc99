# SPDX-License-Identifier: Apache-2.0
"""Walks, rights, kinds of faults, address spaces and TB invalidation (Architecture Reference Manual, II-B 3)."""

from __future__ import annotations

from typing import Any

import pytest

from raddle_target_alpha.console import read_virtual
from raddle_target_alpha.mmu import ACV, FAULT, FOE, FOR, FOW, KSEG, NOT_TRANSLATED, TNV

READ, WRITE, FETCH = 0, 1, 2
KERNEL, USER = 0, 1
R, W, X, LOCAL = 1, 2, 4, 8
PTBR = 0x100
V, PTE_FOR, PTE_FOW, PTE_FOE, ASM = 1, 2, 4, 8, 0x10
KRE, URE, KWE, UWE = 0x100, 0x200, 0x1000, 0x2000
ALL = V | KRE | URE | KWE | UWE
TABLE = V | KRE | KWE
ADDRESS = 0x1_2345_6000
TOP = (1 << 64) - 1


def pte(page: int, bits: int) -> int:
    return page << 32 | bits


def place(table: int, address: int, level: int) -> int:
    return table * 0x2000 + 8 * (address >> 13 + 10 * (3 - level) & 0x3FF)


def map_page(system: Any, address: int, entry: int, first: int = TABLE, second: int = TABLE) -> None:
    system["ptbr"] = PTBR
    system.quads[place(PTBR, address, 1)] = pte(0x101, first)
    system.quads[place(0x101, address, 2)] = pte(0x102, second)
    system.quads[place(0x102, address, 3)] = entry


def fill(system: Any, address: int, access: int, index: int = USER) -> int | tuple[int, int, int, int]:
    """The kind of fault, or (physical address, rights, log2 of the size, MMU index) of the entry made."""
    system.calls.clear()
    code = system.call("tlb_fill", address, access | index << 8, 8)
    if code:
        assert not system.calls
        return code - FAULT
    ((name, page, physical, packed),) = system.calls
    assert name == "tlb_set"
    assert page == address & ~0x1FFF
    return physical, packed & 0xFF, packed >> 8 & 0xFF, packed >> 16


def test_a_page(system: Any) -> None:
    map_page(system, ADDRESS, pte(0x1234, ALL))
    assert fill(system, ADDRESS | 0x18, READ) == (0x1234 << 13, R | W | X | LOCAL, 13, USER)
    assert fill(system, ADDRESS | 0x18, WRITE, KERNEL) == (0x1234 << 13, R | W | X | LOCAL, 13, KERNEL)


def test_a_page_of_all_address_spaces(system: Any) -> None:
    map_page(system, ADDRESS, pte(0x1234, ALL | ASM))
    assert fill(system, ADDRESS, READ, KERNEL) == (0x1234 << 13, R | W | X, 13, KERNEL)
    assert system["kernel_local"] == 0


@pytest.mark.parametrize("hint", range(4))
def test_granularity_hints(system: Any, hint: int) -> None:
    map_page(system, ADDRESS, pte(0x1000, ALL | hint << 5))
    assert fill(system, ADDRESS, READ) == (0x1000 << 13, R | W | X | LOCAL, 13 + 3 * hint, USER)


@pytest.mark.parametrize("index", [KERNEL, USER, 3])
@pytest.mark.parametrize("bits", range(16))
def test_rights(system: Any, index: int, bits: int) -> None:
    entry = V | sum(bit for n, bit in enumerate((KRE, URE, KWE, UWE)) if bits >> n & 1)
    map_page(system, ADDRESS, pte(0x1234, entry))
    read, write = (entry & KRE, entry & KWE) if index == KERNEL else (entry & URE, entry & UWE)
    rights = (R | X if read else 0) | (W if write else 0)
    for access in (READ, WRITE, FETCH):
        expected = (0x1234 << 13, rights | LOCAL, 13, index) if rights >> access & 1 else ACV
        assert fill(system, ADDRESS, access, index) == expected


def test_faults_on_read_write_and_execute(system: Any) -> None:
    for bit, access, kind, left in (
        (PTE_FOR, READ, FOR, W | X),
        (PTE_FOW, WRITE, FOW, R | X),
        (PTE_FOE, FETCH, FOE, R | W),
    ):
        map_page(system, ADDRESS, pte(0x1234, ALL | bit))
        assert fill(system, ADDRESS, access) == kind
        other = WRITE if access == READ else READ
        assert fill(system, ADDRESS, other) == (0x1234 << 13, left | LOCAL, 13, USER)


def test_an_access_violation_goes_before_an_invalid_entry_and_that_before_a_fault_on_access(system: Any) -> None:
    for entry, kind in (
        (KRE, ACV),
        (URE | PTE_FOR, TNV),
        (URE | V | PTE_FOR, FOR),
        (0, ACV),
    ):
        map_page(system, ADDRESS, pte(0x1234, entry))
        assert fill(system, ADDRESS, READ) == kind


@pytest.mark.parametrize(("bits", "kind"), [(0, ACV), (KRE, TNV)])
def test_upper_levels_that_are_not_valid(system: Any, bits: int, kind: int) -> None:
    map_page(system, ADDRESS, pte(0x1234, ALL), first=bits)
    assert fill(system, ADDRESS, READ) == kind
    map_page(system, ADDRESS, pte(0x1234, ALL), second=bits)
    assert fill(system, ADDRESS, READ) == kind


@pytest.mark.parametrize("address", [1 << 42, 1 << 63, TOP - (1 << 43), 0x0000_0400_0000_0000])
def test_addresses_must_be_sign_extended(system: Any, address: int) -> None:
    assert fill(system, address, READ, KERNEL) == ACV


def test_kseg_is_kernel_mode_s(system: Any) -> None:
    assert fill(system, KSEG + 0x31_0000, FETCH, KERNEL) == (0x31_0000, R | W | X, 0, KERNEL)
    assert fill(system, KSEG + 0x31_0000, READ, USER) == ACV


def test_kseg_reaches_devices(system: Any) -> None:
    assert fill(system, KSEG | 1 << 40 | 0x1_A000_0080, READ, KERNEL) == (0x801_A000_0000, R | W | X, 0, KERNEL)


def test_the_page_tables_map_themselves(system: Any) -> None:
    map_page(system, ADDRESS, pte(0x1234, ALL))
    system.quads[place(PTBR, TOP, 1)] = pte(PTBR, TABLE)
    of_third_level = 0xFFFF_FFFE_0000_0000 + 8 * (ADDRESS >> 13)
    filled = fill(system, of_third_level, READ, KERNEL)
    assert filled == (0x102 << 13, R | W | X | LOCAL, 13, KERNEL)


def test_translations_of_palcode_look_at_no_rights(system: Any) -> None:
    map_page(system, ADDRESS, pte(0x1234, V))
    assert system.call("translate", ADDRESS + 0x18) == (0x1234 << 13) + 0x18
    assert system.call("translate", KSEG + 0x4000) == 0x4000
    for unmapped in (ADDRESS + 0x2000, 1 << 50, 0):
        assert system.call("translate", unmapped) == NOT_TRANSLATED


def test_the_console_reads_what_is_mapped(system: Any) -> None:
    class Memory:
        def __contains__(self, address: int) -> bool:
            return address < 0x1000_0000

        def read(self, address: int, size: int) -> bytes:
            quads = b"".join(
                system.quads.get(at, 0).to_bytes(8, "little") for at in range(address & ~7, address + size, 8)
            )
            return quads[address & 7 : (address & 7) + size]

    map_page(system, ADDRESS, pte(0x1234, V))
    system.quads[(0x1234 << 13) + 0x1FF8] = int.from_bytes(b"abcdefgh", "little")
    memory: Any = Memory()
    assert read_virtual(memory, PTBR, ADDRESS + 0x1FFA, 100) == b"cdefgh"
    assert read_virtual(memory, PTBR, KSEG + (0x1234 << 13) + 0x1FFC, 4) == b"efgh"
    assert read_virtual(memory, PTBR, ADDRESS + 0x2000, 4) == b""


# --- address spaces


def switch(system: Any, table: int, number: int) -> tuple[int, list[tuple[Any, ...]]]:
    system.calls.clear()
    system.update(ptbr=table, asn=number)
    system.call("switch_address_space")
    return system["user_index"], system.calls


def test_three_address_spaces_are_kept(system: Any) -> None:
    indices = []
    for number in (1, 2, 3):
        index, calls = switch(system, 0x100 + number, number)
        assert calls == [("tlb_flush_by_mmuidx", 1 << index)]
        indices.append(index)
    assert sorted(indices) == [1, 2, 3]
    for number, index in zip((1, 2, 3, 1), (*indices, indices[0]), strict=True):
        assert switch(system, 0x100 + number, number) == (index, [])
    # The fourth takes the place of the one that was given first.
    assert switch(system, 0x104, 4) == (indices[0], [("tlb_flush_by_mmuidx", 1 << indices[0])])
    assert switch(system, 0x101, 1)[0] == indices[1]


def test_a_new_number_is_a_new_address_space(system: Any) -> None:
    first, _ = switch(system, 0x100, 1)
    second, calls = switch(system, 0x100, 2)
    assert second != first
    assert calls == [("tlb_flush_by_mmuidx", 1 << second)]


def test_kernel_mode_forgets_the_old_address_space_if_it_knows_any_of_it(system: Any) -> None:
    switch(system, 0x100, 1)
    map_page(system, ADDRESS, pte(0x1234, ALL))
    fill(system, ADDRESS, READ, KERNEL)
    assert switch(system, 0x100, 1)[1] == []
    assert ("tlb_flush_local", 1) in switch(system, 0x200, 2)[1]
    assert ("tlb_flush_local", 1) not in switch(system, 0x100, 1)[1]


@pytest.mark.parametrize(
    ("what", "calls"),
    [
        (-2, [("tlb_flush",)]),
        (-1, [("tlb_flush_local", 0b1111)]),
        (1, [("tlb_flush_page", ADDRESS, 0b1111)]),
        (2, [("tlb_flush_page", ADDRESS, 0b1111)]),
        (3, [("tlb_flush_page", ADDRESS, 0b1111)]),
        (0, []),
        (4, []),
        (-3, []),
    ],
)
def test_tbi(system: Any, what: int, calls: list[tuple[Any, ...]]) -> None:
    system.update(r16=what & TOP, r17=ADDRESS + 0x123)
    assert system.pal("TBI") == 0x1004
    assert system.calls == calls
