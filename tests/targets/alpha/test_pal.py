# SPDX-License-Identifier: Apache-2.0
"""PALcode functions, exceptions and interrupts (Architecture Reference Manual, II-B 2, 4, 5 and 6)."""

from __future__ import annotations

from typing import Any

import pytest

from raddle.translate.frontend import FAULT_ALIGNMENT, FAULT_BUS
from raddle_target_alpha import tsunami
from raddle_target_alpha.delivery import LINES_BY_IPL, LOGOUT
from raddle_target_alpha.exceptions import Entry
from raddle_target_alpha.mmu import ACV, FAULT, KSEG
from raddle_target_alpha.pal import PRIVILEGED_END, TABLE
from raddle_target_alpha.tsunami import LINE_ALARM, LINE_DEVICE, LINE_ERROR, LINE_IPI, LINE_TIMER

TOP = (1 << 64) - 1
STACK = KSEG + 0x8000
GP, KGP = 0x1111, 0x2222
USER = 8
ENTRY = {entry: KSEG + 0x10_0000 + 0x100 * entry for entry in Entry}
MISC = tsunami.CCHIP + tsunami.MISC


@pytest.fixture
def kernel(system: Any) -> Any:
    """Kernel mode at IPL 0, with entry points and a stack."""
    for entry, address in ENTRY.items():
        system.update(r16=address, r17=entry)
        system.pal("WRENT")
    system.update(ps=0, r30=STACK, r29=GP, kgp=KGP, r16=0xA0, r17=0xA1, r18=0xA2)
    return system


@pytest.fixture
def user(kernel: Any) -> Any:
    """User mode."""
    kernel.update(ps=USER, ksp=STACK, r30=0x1_2000_0000, mode=1 | 4)
    return kernel


def frame(system: Any) -> list[int]:
    """PS, PC, r29, r16, r17, r18."""
    start = system["r30"] - KSEG
    return [system.quads.get(start + 8 * n, 0) for n in range(6)]


def arguments(system: Any) -> list[int]:
    return [system[f"r{n}"] for n in (16, 17, 18)]


# --- exceptions


def test_an_exception_from_kernel_mode(kernel: Any) -> None:
    kernel.update(ps=3, pc=0x5004)
    kernel.call("take_if", 4, 0, 0)
    assert kernel["pc"] == ENTRY[Entry.IF]
    assert kernel["r30"] == STACK - 48
    assert frame(kernel) == [3, 0x5004, GP, 0xA0, 0xA1, 0xA2]
    assert arguments(kernel) == [4, 0, 0]
    assert (kernel["r29"], kernel["ps"], kernel["mode"] & 3) == (KGP, 3, 0)


def test_an_exception_from_user_mode(user: Any) -> None:
    user["pc"] = 0x5004
    user.call("take_arith", 1, 2, 0)
    assert user["pc"] == ENTRY[Entry.ARITH]
    assert (user["r30"], user["usp"]) == (STACK - 48, 0x1_2000_0000)
    assert frame(user)[:2] == [USER, 0x5004]
    assert (user["ps"], user["mode"] & 3) == (0, 0)


def test_an_exception_ends_the_lock(kernel: Any) -> None:
    kernel["exclusive_address"] = 0x1000
    kernel.call("take_if", 0, 0, 0)
    assert kernel["exclusive_address"] == TOP


def test_a_frame_may_lie_in_two_pages(kernel: Any) -> None:
    table = 0x100
    kernel["ptbr"] = table
    for place, entry in ((0, 0x101), (0x101 * 0x2000 - table * 0x2000, 0x102)):
        kernel.quads[table * 0x2000 + place] = entry << 32 | 1
    kernel.quads[0x102 * 0x2000] = 0x200 << 32 | 1
    kernel.quads[0x102 * 0x2000 + 8] = 0x300 << 32 | 1
    kernel.update(r30=0x2010, pc=0x44)
    kernel.call("take_if", 0, 0, 0)
    first, second = 0x200 * 0x2000 + 0x1FE0, 0x300 * 0x2000
    saved = [kernel.quads[first + 8 * n] for n in range(4)] + [kernel.quads[second + 8 * n] for n in range(2)]
    assert saved == [0, 0x44, GP, 0xA0, 0xA1, 0xA2]


def test_without_a_kernel_stack_the_cpu_halts(user: Any) -> None:
    user.update(ksp=0x4000, pc=0x5000)
    user.call("take_if", 0, 0, 0)
    assert ("halt", 2) in user.calls
    assert user["pc"] == 0x5000


@pytest.mark.parametrize(("access", "cause"), [(0, 0), (1, 1), (2, TOP)])
def test_a_memory_management_fault(user: Any, access: int, cause: int) -> None:
    user["pc"] = 0x5000
    user.call("fault", 0x7008, access | 1 << 8, FAULT + ACV)
    assert user["pc"] == ENTRY[Entry.MM]
    assert arguments(user) == [0x7008, ACV, cause]
    assert frame(user)[1] == 0x5000


def test_an_unaligned_access_names_its_instruction(kernel: Any) -> None:
    kernel.quads[0x5000] = 0xA4C5_0003 << 32
    kernel["pc"] = KSEG + 0x5004
    kernel.call("fault", 0x7003, 0, FAULT_ALIGNMENT)
    assert kernel["pc"] == ENTRY[Entry.UNA]
    assert arguments(kernel) == [0x7003, 0x29, 6]
    assert frame(kernel)[1] == KSEG + 0x5008


def test_an_access_to_nothing_is_a_machine_check(kernel: Any) -> None:
    kernel["pc"] = 0x5000
    kernel.call("fault", KSEG, 0, FAULT_BUS)
    assert kernel["pc"] == ENTRY[Entry.INT]
    assert arguments(kernel) == [2, 0x660, KSEG | LOGOUT]
    assert kernel["ps"] == 7


# --- system calls, returns


def test_a_system_call_and_its_return(user: Any) -> None:
    assert user.pal("CALLSYS", 0x1_2000_1000) == ENTRY[Entry.SYS]
    assert frame(user)[:3] == [USER, 0x1_2000_1004, GP]
    assert arguments(user) == [0xA0, 0xA1, 0xA2], "they are the call's own"
    assert (user["r29"], user["ps"], user["mode"] & 3) == (KGP, 0, 0)
    user.update(exclusive_address=0x1000, intr_flag=1)
    assert user.pal("RETSYS") == 0x1_2000_1004
    assert (user["r30"], user["ksp"], user["r29"]) == (0x1_2000_0000, STACK, GP)
    assert (user["ps"], user["mode"] & 3) == (USER, 1)
    assert (user["exclusive_address"], user["intr_flag"]) == (TOP, 0)


def test_a_system_call_without_a_kernel_stack_halts(user: Any) -> None:
    """The store that fails is one of kernel mode's, in user mode."""
    user.call("fault", 0x4000, 1 | 0 << 8, FAULT + ACV)
    assert ("halt", 2) in user.calls


def test_a_return_to_user_mode(kernel: Any) -> None:
    kernel.update(usp=0x1_2000_0000, r30=STACK - 48, ps=5)
    for n, value in enumerate((USER | 3, 0x6002, 1, 2, 3, 4)):
        kernel.quads[STACK - 48 - KSEG + 8 * n] = value
    assert kernel.pal("RTI") == 0x6000
    assert (kernel["ps"], kernel["mode"] & 3) == (USER, 1)
    assert (kernel["r30"], kernel["ksp"]) == (0x1_2000_0000, STACK)
    assert (kernel["r29"], *arguments(kernel)) == (1, 2, 3, 4)
    assert kernel["exception_place"] == TOP


def test_a_return_to_kernel_mode_restores_the_priority_level(kernel: Any) -> None:
    kernel.update(r30=STACK - 48, ps=7, ksp=0x99)
    kernel.quads[STACK - 48 - KSEG] = 2
    kernel.pal("RTI")
    assert (kernel["ps"], kernel["r30"], kernel["ksp"], kernel["mode"] & 3) == (2, STACK, 0x99, 0)


def test_a_return_that_lets_an_interrupt_in_goes_by_way_of_the_loop(kernel: Any) -> None:
    kernel.update(r30=STACK - 48, ps=7, interrupt_request=LINE_TIMER, pc=0)
    kernel.quads[STACK - 48 - KSEG + 8] = 0x6000
    assert kernel.pal("RTI") == kernel["pc"] == 0x6000


# --- priority levels, interrupts


def test_lines_by_priority_level() -> None:
    every = LINE_DEVICE | LINE_TIMER | LINE_ALARM | LINE_IPI | LINE_ERROR
    assert LINES_BY_IPL[0] == LINES_BY_IPL[3] == every
    assert LINES_BY_IPL[4] == every & ~LINE_DEVICE
    assert LINES_BY_IPL[5] == LINE_IPI | LINE_ERROR
    assert LINES_BY_IPL[6] == LINE_ERROR
    assert LINES_BY_IPL[7] == 0


def test_swpipl(kernel: Any) -> None:
    kernel.update(r16=5, ps=2)
    assert kernel.pal("SWPIPL") == 0x1004
    assert (kernel["r0"], kernel["ps"]) == (2, 5)
    kernel.update(r16=0xF8, interrupt_request=LINE_TIMER, pc=0)
    kernel.pal("SWPIPL")
    assert (kernel["r0"], kernel["ps"], kernel["pc"]) == (5, 0, 0x1004), "it leaves for the interrupt"


def test_the_most_urgent_interrupt_is_first(kernel: Any) -> None:
    kernel.update(pc=0x5000, interrupt_request=LINE_TIMER | LINE_IPI | LINE_DEVICE)
    kernel.quads[tsunami.CCHIP + tsunami.DIR[0]] = 1 << 55
    assert kernel.call("interrupt", 0) == 1
    assert arguments(kernel)[0] == 0
    assert (kernel["ps"], kernel["pc"]) == (6, ENTRY[Entry.INT])
    assert (MISC, 1 << 8) in kernel.stores
    assert kernel.call("interrupt", 0) == 0


@pytest.mark.parametrize("cpu", range(4))
def test_acknowledges_are_of_the_cpu_itself(kernel: Any, cpu: int) -> None:
    kernel.update(whami=cpu, interrupt_request=LINE_IPI)
    kernel.call("interrupt", 0)
    assert (MISC, 1 << 8 + cpu) in kernel.stores
    kernel.update(interrupt_request=LINE_TIMER, ps=0, r30=STACK)
    kernel.call("interrupt", 0)
    assert (MISC, 1 << 4 + cpu) in kernel.stores
    assert arguments(kernel)[:2] == [1, 0x600]
    kernel.update(interrupt_request=LINE_DEVICE, ps=0, r30=STACK)
    kernel.quads[tsunami.CCHIP + tsunami.DIR[cpu]] = 1 << 24
    kernel.call("interrupt", 0)
    assert arguments(kernel)[:2] == [3, 0x900 + 16 * 24]
    assert kernel["ps"] == 4


def test_an_interrupt_of_the_8259s_has_their_vector(kernel: Any) -> None:
    kernel["interrupt_request"] = LINE_DEVICE
    kernel.quads[tsunami.CCHIP + tsunami.DIR[0]] = 1 << 55
    kernel.quads[tsunami.INTERRUPT_ACKNOWLEDGE] = 4
    assert kernel.call("interrupt", 0) == 1
    assert arguments(kernel) == [3, 0x840, 0]


def test_a_device_that_no_longer_asks_interrupts_nobody(kernel: Any) -> None:
    kernel["interrupt_request"] = LINE_DEVICE
    assert kernel.call("interrupt", 0) == 0
    assert kernel["ps"] == 0


def test_wripir(kernel: Any) -> None:
    for cpu in (0, 3, 4, TOP):
        kernel["r16"] = cpu
        kernel.pal("WRIPIR")
    assert [value for address, value in kernel.stores if address == MISC] == [1 << 12, 1 << 15]


def test_wtint_halts(kernel: Any) -> None:
    kernel["r0"] = 99
    assert kernel.pal("WTINT") == 0x1004
    assert (kernel.calls[-1], kernel["r0"]) == (("wfi",), 0)


# --- the alarm


def service(system: Any, number: int, argument: int = 0) -> int:
    system.update(r16=number, r17=argument, r0=0x77)
    system.calls.clear()
    system.pal("CSERVE")
    return system["r0"]


def test_the_alarm(kernel: Any) -> None:
    kernel.update(alarm_timer=6)
    kernel.now = 1000
    service(kernel, 5, 500)
    assert ("timer_set", 6, 1500) in kernel.calls
    assert service(kernel, 4) == 1500
    kernel.call("alarm_expire", 6)
    assert kernel["interrupt_request"] == LINE_ALARM
    assert kernel.call("interrupt", 0) == 1
    assert arguments(kernel)[0] == 1
    assert (kernel["interrupt_request"], service(kernel, 4)) == (0, 0)


def test_an_alarm_that_is_set_anew_is_pending_no_longer(kernel: Any) -> None:
    service(kernel, 6, 500)
    kernel.call("alarm_expire", 0)
    service(kernel, 6, 0)
    assert kernel["interrupt_request"] == 0
    assert ("timer_cancel", 0) in kernel.calls
    kernel.call("alarm_expire", 0)
    assert kernel["interrupt_request"] == 0, "a reset, or the guest, has forgotten it"


def test_an_alarm_beyond_the_end_of_time(kernel: Any) -> None:
    kernel.now = 1000
    service(kernel, 5, TOP)
    assert ("timer_set", 0, TOP) in kernel.calls


def test_clocks(kernel: Any) -> None:
    kernel.now = 12_345
    assert service(kernel, 7) == 12_345
    assert service(kernel, 3) == 1_700_000_000 * 10**9
    assert service(kernel, 99) == 0


# --- processes


def test_swpctx(kernel: Any) -> None:
    kernel.update(pcbb=0x4000, usp=0x33, unique=0x44, pcc_offset=5 << 32)
    kernel.now = 3000  # 2001 cycles
    for offset, value in (
        (0, KSEG + 0x9000),
        (8, 0x1_1000_0000),
        (16, 0x180),
        (24, 7 << 32 | 3001),
        (32, 0x55),
        (40, 0),
    ):
        kernel.quads[0x6000 + offset] = value
    kernel["r16"] = 0x6000
    assert kernel.pal("SWPCTX") == 0x1004
    saved = [kernel.quads[0x4000 + offset] for offset in (0, 8, 24, 32)]
    assert saved == [STACK, 0x33, 2006, 0x44]
    assert (kernel["r0"], kernel["pcbb"], kernel["r30"]) == (0x4000, 0x6000, KSEG + 0x9000)
    assert (kernel["usp"], kernel["ptbr"], kernel["asn"], kernel["unique"]) == (0x1_1000_0000, 0x180, 7, 0x55)
    assert kernel["pcc_offset"] == 1000 << 32
    assert (kernel["fen"], kernel["mode"] & 4) == (0, 0)


def test_wrfen_is_for_the_process(kernel: Any) -> None:
    kernel.update(pcbb=0x4000, r16=0)
    kernel.quads[0x4028] = 1 << 62 | 1
    kernel.pal("WRFEN")
    assert (kernel["fen"], kernel["mode"] & 4, kernel.quads[0x4028]) == (0, 0, 1 << 62)
    kernel["r16"] = 1
    kernel.pal("WRFEN")
    assert (kernel["fen"], kernel["mode"] & 4, kernel.quads[0x4028]) == (1, 4, 1 << 62 | 1)


def test_swppal_begins_anew(kernel: Any) -> None:
    kernel.update(r16=2, r17=KSEG + 0x31_0000, r18=0x6000, r19=0xFFFF_FFFE_0000_0000, ps=0)
    kernel.quads.update({0x6000: KSEG + 0x9000, 0x6010: 0x180, 0x6028: 1})
    assert kernel.pal("SWPPAL") == KSEG + 0x31_0000
    assert (kernel["r0"], kernel["ps"], kernel["vptb"]) == (0, 7, 0xFFFF_FFFE_0000_0000)
    assert (kernel["pcbb"], kernel["ptbr"], kernel["r30"], kernel["fen"]) == (0x6000, 0x180, KSEG + 0x9000, 1)


def test_there_is_no_other_palcode(kernel: Any) -> None:
    kernel.update(r16=1, pcbb=0x4000)
    assert kernel.pal("SWPPAL") == 0x1004
    assert (kernel["r0"], kernel["pcbb"]) == (1, 0x4000)


# --- values


@pytest.mark.parametrize(
    ("writes", "reads", "field"),
    [
        ("WRVAL", "RDVAL", "sysval"),
        ("WRUSP", "RDUSP", "usp"),
        ("WRKGP", None, "kgp"),
        ("WRVPTPTR", None, "vptb"),
        (None, "WHAMI", "whami"),
        ("WRUNIQUE", "RDUNIQUE", "unique"),
    ],
)
def test_values(kernel: Any, writes: str | None, reads: str | None, field: str) -> None:
    kernel[field] = 0x1234
    if writes:
        kernel["r16"] = 0x5678
        kernel.pal(writes)
        assert kernel[field] == 0x5678
    if reads:
        kernel.pal(reads)
        assert kernel["r0"] == kernel[field]


def test_rdps(user: Any) -> None:
    user["mode"] = 4  # else it is privileged
    user.pal("RDPS")
    assert user["r0"] == USER


def test_machine_check_errors(kernel: Any) -> None:
    kernel.update(mces=7, r16=0x1A)
    kernel.pal("WRMCES")
    assert kernel["mces"] == 0x1D
    kernel.pal("RDMCES")
    assert kernel["r0"] == kernel["mces"]


@pytest.mark.parametrize("number", [6, 7, 8, TOP])
def test_entry_points_that_there_are_not(kernel: Any, number: int) -> None:
    before = bytes(kernel.cpu.state)
    kernel.update(r16=0, r17=number)
    kernel.pal("WRENT")
    kernel.update(r16=0xA0, r17=0xA1)
    assert bytes(kernel.cpu.state) == before


def test_imb_synchronises_instruction_fetches(kernel: Any) -> None:
    assert kernel.pal("IMB") == 0x1004
    assert kernel.calls == [("icache_sync",)]


def test_halt_asks_the_console(kernel: Any) -> None:
    assert kernel.pal("HALT") == 0x1004
    assert kernel.calls == [("big_lock",), ("halt", 5), ("big_unlock",)]


@pytest.mark.parametrize("number", [number for number in TABLE if number < PRIVILEGED_END])
def test_user_mode_has_no_privileged_functions(user: Any, number: int) -> None:
    user.pal(TABLE[number].__name__)
    assert user["pc"] == ENTRY[Entry.IF]
    assert arguments(user)[0] == 4


def test_reset_masks_all_interrupts_and_any_wakes(system: Any) -> None:
    assert system["ps"] == 7
    assert system["interrupt_mask"] == tsunami.LINES
