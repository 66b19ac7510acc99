# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from raddle.ir.builder import Builder
from raddle.ir.interpreter import Leave
from raddle.ir.types import Type
from raddle.machine.board import attach
from raddle_target_arm import psci, sysregs, timers
from raddle_target_arm.state import MODE_DOMAIN_SLOT, MODE_PRIVILEGED, MODE_T, MODE_VFP, STATE
from raddle_target_arm.sysregs import TABLE, End

BY_NAME = {register.name: register.key for register in TABLE.values()}
USER, PRIVILEGED = 0, MODE_PRIVILEGED
UNDEFINED_VECTOR = 4


def read(system: Any, key: tuple[int, ...], mode: int = PRIVILEGED) -> int | None:
    """What an MRC or MRRC reads; None when it is undefined."""

    def instruction(b: Builder) -> None:
        value = sysregs.read(b, key, 0, mode)
        if value is None:
            b.goto_indirect(UNDEFINED_VECTOR)
        else:
            b.set(STATE.fields["d0" if value.type is Type.I64 else "r0"], value)

    outcome = system.emit(instruction)
    if outcome.how is not Leave.NEXT:
        assert (outcome.how, outcome.value) == (Leave.GOTO_INDIRECT, UNDEFINED_VECTOR)
        return None
    value = system["d0" if len(key) == 3 else "r0"]
    assert isinstance(value, int)
    return value


def write(system: Any, key: tuple[int, ...], value: int, mode: int = PRIVILEGED) -> End | None:
    """An MCR or MCRR; None when it is undefined."""
    ends: list[End | None] = []

    def instruction(b: Builder) -> None:
        ends.append(sysregs.write(b, key, b.const(value, Type.I64 if len(key) == 3 else Type.I32), 0, mode))
        if ends[0] is None:
            b.goto_indirect(UNDEFINED_VECTOR)

    outcome = system.emit(instruction)
    return ends[0] if outcome.how is Leave.NEXT else None


def get(system: Any, name: str, mode: int = PRIVILEGED) -> int | None:
    return read(system, BY_NAME[name], mode)


def put(system: Any, name: str, value: int, mode: int = PRIVILEGED) -> End | None:
    return write(system, BY_NAME[name], value, mode)


IDENTIFICATION = {
    (15, 0, 0, 0, 0): 0x412FC0F1, (15, 0, 0, 0, 1): 0x8444C004, (15, 0, 0, 0, 2): 0, (15, 0, 0, 0, 3): 0,
    (15, 0, 0, 0, 4): 0x412FC0F1, (15, 0, 0, 0, 6): 0, (15, 0, 0, 1, 0): 0x1131, (15, 0, 0, 1, 1): 0x10001,
    (15, 0, 0, 1, 4): 0x10201105, (15, 0, 0, 2, 0): 0x02101110, (15, 0, 0, 2, 4): 0x10011142, (15, 0, 0, 5, 3): 0,
    (15, 1, 0, 0, 1): 0x0A200023, (14, 0, 0, 0, 0): 0x3515F021,
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), IDENTIFICATION.items())
def test_identification(system: Any, key: tuple[int, ...], value: int) -> None:
    assert read(system, key) == value
    assert write(system, key, 0) is None


def test_every_row_can_be_reached_by_someone(system: Any) -> None:
    for register in TABLE.values():
        assert len(register.key) in (3, 5)
        assert register.read or register.write, register.name


@pytest.mark.parametrize(
    "key", [(15, 0, 1, 1, 0), (15, 4, 1, 0, 0), (15, 0, 11, 0, 0), (14, 0, 0, 8, 6), (2, 0, 0, 0, 0), (15, 4, 14)]
)
def test_unknown_encodings_are_undefined(system: Any, key: tuple[int, ...]) -> None:
    assert read(system, key) is None
    assert write(system, key, 0) is None


def test_user_mode_reaches_what_it_may(system: Any) -> None:
    reads = {r.name for r in TABLE.values() if r.read and get(system, r.name, USER) is not None}
    writes = {r.name for r in TABLE.values() if r.write and put(system, r.name, 0, USER) is not None}
    assert reads == {
        "TPIDRURW", "TPIDRURO", "PMUSERENR", "DBGDIDR", "DBGDSCRint", "DBGDTRint", "DBGDRAR", "DBGDRAR_64", "DBGDSAR",
        "DBGDSAR_64", "TEECR", "TEEHBR", "JIDR",
    }  # fmt: skip
    assert writes == {"TPIDRURW", "CP15ISB", "CP15DSB", "CP15DMB", "DBGDTRint", "TEEHBR", "JMCR"}


@pytest.mark.parametrize(
    ("control", "bit", "name", "writable"),
    [
        ("CNTKCTL", 0, "CNTPCT", False),
        ("CNTKCTL", 1, "CNTVCT", False),
        ("CNTKCTL", 0, "CNTFRQ", False),
        ("CNTKCTL", 1, "CNTFRQ", False),
        ("CNTKCTL", 9, "CNTP_TVAL", True),
        ("CNTKCTL", 9, "CNTP_CVAL", True),
        ("CNTKCTL", 8, "CNTV_CTL", True),
        ("PMUSERENR", 0, "PMCCNTR", True),
    ],
)
def test_what_user_mode_may_by_permission(system: Any, control: str, bit: int, name: str, writable: bool) -> None:
    for allowed in (False, True):
        put(system, control, allowed << bit)
        assert (get(system, name, USER) is not None) == allowed
        assert (put(system, name, 0, USER) is not None) == (allowed and writable)


def test_refused_user_access_takes_undefined(system: Any) -> None:
    system["cpsr_m"] = 0x10
    mode = MODE_T

    def instruction(b: Builder) -> None:
        assert sysregs.read(b, BY_NAME["CNTVCT"], 0x84, mode) is not None

    outcome = system.emit(instruction, pc=0x1000)
    assert (outcome.how, outcome.value) == (Leave.GOTO_INDIRECT, UNDEFINED_VECTOR)
    assert system["lr"] == 0x1002


@pytest.mark.parametrize(
    ("name", "written", "reads"),
    [
        ("SCTLR", 0xFFFF_FFFF, 0x72DD_3C7F),
        ("SCTLR", 0, 0x00C5_0078),
        ("CPACR", 0xFFFF_FFFF, 0x80F0_0000),
        ("TTBCR", 0x7FFF_FFFF, 0x37),
        ("TTBCR", 0xFFFF_FFFF, 0xBFC7_3F87),
        ("VBAR", 0xFFFF_FFFF, 0xFFFF_FFE0),
        ("CSSELR", 0xFFFF_FFFF, 0xF),
        ("FCSEIDR", 0xFFFF_FFFF, 0),
        ("CNTKCTL", 0xFFFF_FFFF, 0x3FF),
        ("TPIDRPRW", 0x1234_5678, 0x1234_5678),
        ("DFAR", 0x1234_5678, 0x1234_5678),
        ("PAR_64", 0x12_3456_789A, 0x12_3456_789A),
        ("TTBR0_64", 0x12_0034_5678_9ABC, 0x12_0034_5678_9ABC),
        ("PMSELR", 0xFFFF_FFFF, 0x1F),
        ("PMCR", 0xFFFF_FFFF, 0x410F_3039),
        ("DBGDSCRext", 0xFFFF_FFFF, 0x103C),
    ],
)
def test_writable_bits(system: Any, name: str, written: int, reads: int) -> None:
    assert put(system, name, written) is not None
    assert get(system, name) == reads


def test_sctlr_flushes_and_updates_the_mode(system: Any) -> None:
    assert put(system, "SCTLR", 0x00C5_0078 | 1 | 2) is End.MODE
    assert ("tlb_flush",) in system.calls
    assert system["mode"] & 1 << 3


def test_cpacr_updates_the_mode(system: Any) -> None:
    assert put(system, "CPACR", 0x00F0_0000) is End.MODE
    assert system["mode"] & MODE_VFP


def test_dacr_changes_the_slot(system: Any) -> None:
    assert put(system, "DACR", 0x55) is End.MODE
    assert system["mode"] & MODE_DOMAIN_SLOT
    assert get(system, "DACR") == 0x55


def test_low_words_of_wide_registers(system: Any) -> None:
    put(system, "TTBR0_64", 0x12_0034_5678_9ABC)
    put(system, "TTBR0", 0x4000_4059)
    assert (get(system, "TTBR0"), get(system, "TTBR0_64")) == (0x4000_4059, 0x12_0034_4000_4059)
    put(system, "PAR", 0x1234)
    assert (get(system, "PAR"), get(system, "PAR_64")) == (0x1234, 0x1234)


def test_a_new_asid_flushes_what_is_not_global(system: Any) -> None:
    system["nonglobal"] = 0b0101
    put(system, "CONTEXTIDR", 0x1200)
    assert system.calls == []
    put(system, "CONTEXTIDR", 0x1201)
    assert system.calls == [("tlb_flush_local", 0b0101)]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("TLBIALL", ("tlb_flush",)),
        ("TLBIMVA", ("tlb_flush_page", 0x8000_1000, 15)),
        ("TLBIMVAA", ("tlb_flush_page", 0x8000_1000, 15)),
        ("TLBIASID", ("tlb_flush_local", 2)),
        ("DTLBIMVA", ("tlb_flush_page", 0x8000_1000, 15)),
        ("ITLBIALL", ("tlb_flush",)),
        ("TLBIALLIS", ("tlb_flush_all_cpus",)),
        ("TLBIMVAIS", ("tlb_flush_page_all_cpus", 0x8000_1000, 15)),
        ("TLBIMVAAIS", ("tlb_flush_page_all_cpus", 0x8000_1000, 15)),
        ("TLBIASIDIS", ("tlb_flush_all_cpus",)),
    ],
)
def test_tlb_maintenance(system: Any, name: str, call: tuple[Any, ...]) -> None:
    system["nonglobal"] = 2
    assert put(system, name, 0x8000_1042) is not None
    assert system.calls == [call]
    assert get(system, name) is None


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("ICIALLU", ["icache_sync"]),
        ("ICIALLUIS", ["icache_sync"]),
        ("ICIMVAU", ["icache_sync"]),
        ("BPIALL", []),
        ("DCCMVAU", []),
    ],
)
def test_cache_maintenance(system: Any, name: str, calls: list[str]) -> None:
    """Only instruction caches show: a translation is one."""
    assert put(system, name, 0x8000_1042) is End.NONE
    assert [call[0] for call in system.calls] == calls
    assert get(system, name) is None


@pytest.mark.parametrize("index", [0, 1, 7, 8])
def test_mpidr_and_l2ctlr(system: Any, index: int) -> None:
    system.update(cpu_index=index, cpu_count=4)
    assert get(system, "MPIDR") == 0x8000_0000 | index >> 3 << 8 | index & 7
    assert get(system, "L2CTLR") == 3 << 24 | 1 << 23


def test_ccsidr_follows_csselr(system: Any) -> None:
    found = []
    for selected in range(4):
        put(system, "CSSELR", selected)
        found.append(get(system, "CCSIDR"))
    assert found == [0x701FE00A, 0x201FE00A, 0x711FE07A, 0]


def test_isr_shows_the_lines(system: Any) -> None:
    system["interrupt_request"] = 1
    assert get(system, "ISR") == 0x80
    system["interrupt_request"] = 3
    assert get(system, "ISR") == 0xC0


def test_os_lock(system: Any) -> None:
    assert get(system, "DBGOSLSR") == 0xA
    put(system, "DBGOSLAR", 0)
    assert get(system, "DBGOSLSR") == 0x8
    put(system, "DBGOSLAR", 0xC5AC_CE55)
    assert get(system, "DBGOSLSR") == 0xA


def test_claim_tags(system: Any) -> None:
    put(system, "DBGCLAIMSET", 0x1F0)
    put(system, "DBGCLAIMCLR", 0x30)
    assert (get(system, "DBGCLAIMSET"), get(system, "DBGCLAIMCLR")) == (0xFF, 0xC0)


def test_finish() -> None:
    for end, leaves in ((End.NONE, False), (End.BLOCK, True), (End.MODE, True)):
        b = Builder()
        assert sysregs.finish(b, end, 4, 0) is leaves
        assert bool(b.code) is leaves


# -- timers ------------------------------------------------------------------------------------------------------------


def names(system: Any) -> list[str]:
    return [call[0] for call in system.calls if call[0] not in ("big_lock", "big_unlock")]


def test_timer_registers(system: Any) -> None:
    system.ticks = 1000
    system.update(timer_number_virtual=7)
    put(system, "CNTV_TVAL", 0xFFFF_FFFF)
    assert get(system, "CNTV_CVAL") == 999
    put(system, "CNTV_TVAL", 500)
    assert (get(system, "CNTV_CVAL"), get(system, "CNTV_TVAL"), get(system, "CNTV_CTL")) == (1500, 500, 0)
    assert get(system, "CNTVCT") == get(system, "CNTPCT") == 1000
    system.calls.clear()
    put(system, "CNTV_CTL", 1)
    assert system.calls == [("timer_set", 7, 1500 * 16)]
    assert get(system, "CNTV_CTL") == 1
    system.ticks = 1500
    assert get(system, "CNTV_CTL") == 5
    put(system, "CNTV_CTL", 3)
    assert names(system)[-1] == "timer_cancel"
    assert get(system, "CNTV_CTL") == 7
    put(system, "CNTV_CTL", 0)
    assert get(system, "CNTV_CTL") == 0


class Engine:
    """What the timers need of an engine."""

    def __init__(self, cpu: Any) -> None:
        self.cpus = [cpu]
        self.routines: list[str] = []

    def event_timer(self, cpu: Any) -> Any:
        return type("Timer", (), {"number": 20})()

    def routine_timer(self, cpu: Any, routine: str) -> Any:
        self.routines.append(routine)
        return type("Timer", (), {"number": len(self.routines) + 10})()


class Board:
    """One CPU is on, a second one off."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self.cpus = [0, 1]
        self.powered = [True, False]
        self.log: list[Any] = []

    def timer_line(self, cpu: int, name: str) -> Any:
        return type("Line", (), {"set": lambda _, level: self.levels.__setitem__(name, level)})()

    def is_powered(self, cpu: int) -> bool:
        return self.powered[cpu]

    def cpu_on(self, cpu: int, entry: int, context_id: int) -> None:
        self.log.append((cpu, entry, context_id))

    def cpu_off(self, cpu: int) -> None:
        self.log.append(("off", cpu))

    def cpu_standby(self, cpu: int) -> None:
        self.log.append(("standby", cpu))

    def cpu_power_down(self, cpu: int, entry: int, context_id: int) -> None:
        self.log.append(("power down", cpu, entry, context_id))

    def system_off(self) -> None:
        self.log.append("system off")

    def system_reset(self) -> None:
        self.log.append("system reset")


@pytest.fixture
def board(system: Any) -> Board:
    board = Board()
    system.index = 0
    attach(board, [system])
    return board


def test_timer_interrupt(system: Any, board: Board) -> None:
    engine = Engine(system)
    timers.connect(engine)
    assert (system["timer_number_physical"], system["timer_number_virtual"]) == (11, 12)
    assert system["timer_number_event"] == 20
    physical, virtual = engine.routines
    system.callees["board_timer_line"] = lambda cpu, timer, level: timers.set_line(system, timer, level)
    put(system, "CNTV_CVAL", 100)
    put(system, "CNTV_CTL", 1)
    system.ticks = 99
    system.call(virtual, 12)
    assert (board.levels, system["timer_lines"]) == ({}, 0)
    system.ticks = 100
    system.call(virtual, 12)
    assert (board.levels, system["timer_lines"]) == ({"virtual": 1}, 2)
    system.calls.clear()
    put(system, "CNTV_CTL", 3)
    assert (board.levels, system["timer_lines"]) == ({"virtual": 0}, 0)
    assert [call[0] for call in system.calls] == ["big_lock", "big_unlock", "timer_cancel"]
    system.call(virtual, 12)
    assert board.levels == {"virtual": 0}
    put(system, "CNTV_CVAL", 200)
    put(system, "CNTV_CTL", 1)
    assert (board.levels, names(system)[-1]) == ({"virtual": 0}, "timer_set")
    put(system, "CNTP_CVAL", 101)
    put(system, "CNTP_CTL", 1)
    system.ticks = 101
    system.call(physical, 11)
    assert (board.levels, system["timer_lines"]) == ({"virtual": 0, "non-secure": 1}, 1)


def test_a_condition_that_a_write_meets_raises_the_line_at_once(system: Any, board: Board) -> None:
    timers.connect(Engine(system))
    system.callees["board_timer_line"] = lambda cpu, timer, level: timers.set_line(system, timer, level)
    system.ticks = 100
    put(system, "CNTV_CTL", 1)
    assert (board.levels, system["timer_lines"], names(system)) == ({"virtual": 1}, 2, ["timer_cancel"])
    system.calls.clear()
    put(system, "CNTV_CVAL", 90)
    assert (board.levels, system.calls[-1][0]) == ({"virtual": 1}, "timer_cancel")
    put(system, "CNTV_TVAL", 1)
    assert (board.levels, names(system)[-1]) == ({"virtual": 0}, "timer_set")
    put(system, "CNTV_TVAL", 0)
    assert (board.levels, names(system)[-1]) == ({"virtual": 1}, "timer_cancel")


# -- performance monitors ----------------------------------------------------------------------------------------------


def test_cycle_counter(system: Any) -> None:
    system.ticks = 5000
    assert get(system, "PMCCNTR") == 0
    put(system, "PMCNTENSET", 1 << 31)
    put(system, "PMCR", 1)
    system.ticks = 5640
    assert get(system, "PMCCNTR") == 640
    put(system, "PMCR", 0)
    system.ticks = 6000
    assert get(system, "PMCCNTR") == 640
    put(system, "PMCR", 0b1001)
    assert get(system, "PMCCNTR") == 640
    system.ticks += 6400
    assert get(system, "PMCCNTR") in (740, 741)
    put(system, "PMCR", 0b0101)
    assert get(system, "PMCCNTR") == 0
    put(system, "PMCCNTR", 77)
    system.ticks += 3
    assert get(system, "PMCCNTR") == 80
    put(system, "PMCNTENCLR", 1 << 31)
    system.ticks += 3
    assert get(system, "PMCCNTR") == 80


def test_software_increment(system: Any) -> None:
    put(system, "PMSELR", 2)
    put(system, "PMXEVTYPER", 0)
    put(system, "PMXEVCNTR", 0xFFFF_FFFF)
    put(system, "PMSELR", 3)
    put(system, "PMXEVTYPER", 0x11)
    put(system, "PMCNTENSET", 0b1100)
    put(system, "PMSWINC", 0b1110)
    put(system, "PMSELR", 2)
    assert get(system, "PMXEVCNTR") == 0xFFFF_FFFF
    put(system, "PMCR", 1)
    put(system, "PMSWINC", 0b1110)
    assert (get(system, "PMXEVCNTR"), get(system, "PMOVSR")) == (0, 0b100)
    put(system, "PMOVSR", 0b100)
    assert get(system, "PMOVSR") == 0
    put(system, "PMSELR", 31)
    put(system, "PMXEVTYPER", 0xFFFF_FFFF)
    assert get(system, "PMCCFILTR") == get(system, "PMXEVTYPER") == 0xF800_0000


# -- the event stream --------------------------------------------------------------------------------------------------


def expect_event(system: Any, ticks: int) -> tuple[bool, list[tuple[Any, ...]]]:
    """What WFE does first: whether there is an event, which it takes, and what is armed."""
    system.ticks = ticks
    system.calls.clear()
    system.emit(timers.expect_event)
    there = bool(system["event"])
    system["event"] = 0
    return there, list(system.calls)


def test_no_stream_without_evnten(system: Any) -> None:
    put(system, "CNTKCTL", 2 << 4)
    assert expect_event(system, 1000) == (False, [])


@pytest.mark.parametrize(("falling", "first"), [(0, 4), (1, 8)])
def test_an_event_comes_with_each_change_of_the_bit(system: Any, falling: int, first: int) -> None:
    """Bit 2: it changes to 1 at ticks 4, 12, 20 ..., and to 0 at 8, 16 ..."""
    system["timer_number_event"] = 20
    put(system, "CNTKCTL", 2 << 4 | falling << 3 | 4)
    assert expect_event(system, 0) == (False, [("timer_set", 20, 16 * first)])
    assert expect_event(system, first - 1) == (False, []), "it is armed"
    assert expect_event(system, first) == (False, [("timer_set", 20, 16 * (first + 8))]), "the timer has set that one"
    assert expect_event(system, first + 16) == (True, []), "one that came between is not waited for"
    assert expect_event(system, first + 17) == (False, [("timer_set", 20, 16 * (first + 24))])


def test_an_event_that_is_there_needs_no_timer(system: Any) -> None:
    put(system, "CNTKCTL", 2 << 4 | 4)
    system["event"] = 1
    assert expect_event(system, 1) == (True, [])


def test_a_stream_begins_when_it_is_enabled(system: Any) -> None:
    system.ticks = 100
    put(system, "CNTKCTL", 2 << 4 | 4)
    assert expect_event(system, 101)[0] is False


@pytest.mark.parametrize("bit", range(16))
def test_the_stream_goes_on_at_the_end_of_time(system: Any, bit: int) -> None:
    system["timer_number_event"] = 20
    system.ticks = (1 << 59) - 1
    put(system, "CNTKCTL", bit << 4 | 4)
    there, ((name, number, deadline),) = expect_event(system, system.ticks)
    assert (there, name, number) == (False, "timer_set", 20)
    assert 0 < deadline - 16 * system.ticks <= 16 << bit + 1


# -- PSCI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "result", "log"),
    [
        ((0x8400_0000, 0, 0, 0), 0x10000, []),
        ((0x8400_0001, 0, 0, 0), 0, [("standby", 0)]),
        ((0x8400_0001, 0xFFFF, 2, 0), 0, [("standby", 0)]),
        ((0x8400_0001, 0x1_0000, 0x4000_0001, 99), 0, [("power down", 0, 0x4000_0001, 99)]),
        ((0x8400_0001, 0x1_0000, 0x4000_0002, 99), -9, []),
        *(((0x8400_0001, 1 << bit, 0, 0), -2, []) for bit in range(17, 32)),
        ((0x8400_0002, 0, 0, 0), 0, [("off", 0)]),
        ((0x8400_0003, 1, 0x4000_0000, 99), 0, [(1, 0x4000_0000, 99)]),
        ((0x8400_0003, 0, 0x4000_0000, 99), -4, []),
        ((0x8400_0003, 2, 0x4000_0000, 99), -2, []),
        ((0x8400_0003, 1, 0x4000_0002, 99), -9, []),
        ((0x8400_0004, 0, 0, 0), 0, []),
        ((0x8400_0004, 1, 0, 0), 1, []),
        ((0x8400_0004, 9, 0, 0), -2, []),
        ((0x8400_0004, 1, 1, 0), 0, []),
        ((0x8400_0004, 0xFF, 3, 0), 0, []),
        ((0x8400_0004, 0x100, 1, 0), -2, []),
        ((0x8400_0004, 0x1_0000, 2, 0), -2, []),
        ((0x8400_0004, 0x100_0000, 3, 0), -2, []),
        ((0x8400_0004, 0, 4, 0), -2, []),
        ((0x8400_0005, 0, 0, 0), -1, []),
        ((0x8400_0006, 0, 0, 0), 2, []),
        ((0x8400_0007, 0, 0, 0), -1, []),
        ((0x8400_0008, 0, 0, 0), 0, ["system off"]),
        ((0x8400_0009, 0, 0, 0), 0, ["system reset"]),
        *(((0x8400_000A, 0x8400_0000 + one, 0, 0), 0, []) for one in (0, 1, 2, 3, 4, 6, 8, 9, 10)),
        ((0x8400_000A, 0x8000_0000, 0, 0), -1, []),  # SMCCC_VERSION
        ((0x8000_0000, 0, 0, 0), -1, []),
        ((0xC400_0003, 1, 0x4000_0000, 99), -1, []),
        ((0x8400_000A, 0x8400_0005, 0, 0), -1, []),
        ((0x1234, 0, 0, 0), -1, []),
    ],
)
def test_psci(system: Any, board: Board, arguments: tuple[int, ...], result: int, log: list[Any]) -> None:
    system.update(r0=arguments[0], r1=arguments[1], r2=arguments[2], r3=arguments[3])
    psci.call(system)
    assert system["r0"] == result & 0xFFFF_FFFF
    assert board.log == log
