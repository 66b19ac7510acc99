# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import pytest

from raddle.ir.types import MMU_INDICES
from raddle_target_arm import state
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import STATE


def test_the_ten_hottest_fields() -> None:
    assert [f.name for f in STATE.hot_fields[:10]] == ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "sp", "lr"]
    assert all(f.offset < 128 for f in (*state.REGISTERS, *(STATE.nzcv or ())))


def test_single_registers_are_halves_of_doubles() -> None:
    for n in range(32):
        assert state.S[n].offset == state.SF[n].offset == state.D[n // 2].offset + 4 * (n % 2)
        assert state.DF[n].offset == state.D[n].offset
    assert state.D.offset % 8 == 0


def test_block_mode_bits_are_distinct() -> None:
    names = ["T", "PRIVILEGED", "E", "ALIGN", "VFP", "VECTOR", "SWP", "IT", "DOMAIN_SLOT"]
    bits = [getattr(state, f"MODE_{name}") for name in names]
    assert sum(bits) == reduce(or_, bits)


def test_mmu_indices() -> None:
    modes = [a | b for a in (0, state.MODE_PRIVILEGED) for b in (0, state.MODE_DOMAIN_SLOT)]
    assert [state.mmu_index(mode) for mode in modes] == [0, 2, 1, 3]
    assert [state.user_mmu_index(mode) for mode in modes] == [0, 2, 0, 2]
    assert all(mode >> FRONT_END.fetch_index_shift & 3 == state.mmu_index(mode) for mode in modes)
    assert FRONT_END.mmu_indices == 4 <= MMU_INDICES


@pytest.mark.parametrize(
    ("fields", "bits"),
    [
        ({}, state.MODE_PRIVILEGED),
        ({"cpsr_m": 0x10}, 0),
        ({"cpsr_m": 0x1F, "sctlr": 2}, state.MODE_PRIVILEGED | state.MODE_ALIGN),
        ({"sctlr": 1 << 10}, state.MODE_PRIVILEGED | state.MODE_SWP),
        ({"cpacr": 0x50_0000}, state.MODE_PRIVILEGED | state.MODE_VFP),
        ({"cpacr": 0x50_0000, "cpsr_m": 0x10}, 0),
        ({"cpacr": 0xF0_0000, "cpsr_m": 0x10}, state.MODE_VFP),
        ({"cpacr": 0xA0_0000}, state.MODE_PRIVILEGED),
        ({"fpexc": 1 << 30}, state.MODE_PRIVILEGED),
        ({"fpscr_vector": 1 << 16}, state.MODE_PRIVILEGED | state.MODE_VECTOR),
        ({"domain_slot": 1}, state.MODE_PRIVILEGED | state.MODE_DOMAIN_SLOT),
    ],
)
def test_update_mode(system: Any, fields: dict[str, int], bits: int) -> None:
    stale = 0xFF_00FA & ~(state.MODE_E | state.MODE_T | state.MODE_IT)
    system.update(**{"sctlr": 0, "mode": state.MODE_T | state.MODE_E | 0x84 << 8 | stale, **fields})
    system.emit(state.update_mode)
    assert system["mode"] == bits | state.MODE_T | state.MODE_E | 0x84 << 8


def test_set_thumb(system: Any) -> None:
    system["mode"] = state.MODE_PRIVILEGED | 0x84 << 8
    system.emit(lambda b: state.set_thumb(b, b.eq(b.get(state.REGISTERS[0]), 0)))
    assert system["mode"] == state.MODE_PRIVILEGED | state.MODE_T
    system.emit(lambda b: state.set_thumb(b, b.ne(b.get(state.REGISTERS[0]), 0)))
    assert system["mode"] == state.MODE_PRIVILEGED


def test_reset_clears_all_but_what_the_machine_has_set(system: Any) -> None:
    for name in STATE.fields:
        system[name] = 1
    system.update(cpu_count=4, cbar=0x0800_0000, timer_number_physical=5, timer_number_virtual=6, timer_lines=0)
    FRONT_END.reset(system, 0x4001_0001, 0x1234)
    assert (system["pc"], system["r0"], system["mode"]) == (0x4001_0000, 0x1234, state.MODE_PRIVILEGED | state.MODE_T)
    assert (system["cpu_count"], system["timer_number_physical"], system["timer_number_virtual"]) == (4, 5, 6)
    assert (system["sctlr"], system["sp_usr"], system["masks"]) == (0x00C5_0078, 0, 0x1C0)
    FRONT_END.reset(system, 0x4001_0000, 0)
    assert (system["pc"], system["mode"]) == (0x4001_0000, state.MODE_PRIVILEGED)


def test_prologue_and_epilogue_carry_itstate_between_blocks(system: Any) -> None:
    mode = state.MODE_T | state.MODE_PRIVILEGED
    system["mode"] = mode
    system.emit(lambda b: FRONT_END.epilogue(b, mode, 0x84))
    entered = system["mode"]
    assert FRONT_END.initial_decode_state(entered) == 0x84
    system.emit(lambda b: FRONT_END.prologue(b, entered))
    assert system["mode"] == mode


def test_describe(system: Any) -> None:
    system.update(r1=0xDEAD_BEEF, zf=1)
    text = FRONT_END.describe(system)
    assert "r1=deadbeef" in text
    assert "cpsr -Z--- AIF svc A32" in text
    assert "pc=" in text
    system.update(cpsr_m=0)  # what another thread may see in the middle of a reset
    assert "mode 0x0" in FRONT_END.describe(system)
