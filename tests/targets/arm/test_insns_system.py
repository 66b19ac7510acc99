# SPDX-License-Identifier: Apache-2.0
"""Instructions that the differential test leaves out, and what the peer does not check: exceptions, system registers,
hints, barriers, alignment, exclusives, interworking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from raddle.ir.builder import Builder, Callee
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Leave, Outcome, interpret
from raddle.ir.opcodes import Op
from raddle.ir.types import Align
from raddle.ordering import MemoryOrder
from raddle.translate.decode import check_names
from raddle_target_arm import decode
from raddle_target_arm.exceptions import CPSR_E, CPSR_T
from raddle_target_arm.insns import SEMANTICS, T32, it_advance
from raddle_target_arm.state import (
    MODE_ALIGN,
    MODE_E,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_SVC,
    MODE_T,
    MODE_USR,
    REGISTERS,
    STATE,
)

sys.path.insert(0, str(Path(__file__).parent))

from differential import CODE, WINDOW, Case, CaseMemory, InterpreterRunner, emit

SVC, USR = MODE_SVC | 0x1C0, MODE_USR
ZEROS = (0,) * 15


def run(table: str, word: int, registers: dict[int, int] | None = None, cpsr: int = SVC, extra: int = 0) -> Any:
    """The result of one instruction, from registers that are 0 but for some."""
    cpsr |= 0 if table == "a32" else CPSR_T
    values = tuple((registers or {}).get(number, 0) for number in range(15))
    return InterpreterRunner(extra).run(Case(table, word, values, cpsr, bytes(range(256))))


def code_of(table: str, word: int, mode: int = MODE_PRIVILEGED, decode_state: int = 0) -> Builder:
    return emit(table, word, decode_state, mode | (0 if table == "a32" else MODE_T))[0]


def operations(b: Builder) -> list[Op]:
    return [instruction.op for instruction in b.code]


def memory_orders(b: Builder) -> list[object]:
    return [instruction.aux for instruction in b.code if instruction.op is Op.MB]


def called(b: Builder) -> list[str]:
    return [i.aux.name for i in b.code if i.op is Op.CALL and isinstance(i.aux, Callee)]


def accesses(b: Builder) -> list[Any]:
    return [i.aux for i in b.code if i.op in (Op.LOAD, Op.STORE, Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE)]


def test_every_name_has_a_function_and_every_function_a_name() -> None:
    check_names(decode.tables(), SEMANTICS)


# -- privilege ---------------------------------------------------------------------------------------------------------

PRIVILEGED_ONLY = {
    "mrs r0, spsr": ("a32", 0xE14F0000),
    "msr spsr_f, r0": ("a32", 0xE168F000),
    "movs pc, lr": ("a32", 0xE1B0F00E),
    "ldm r0, {r1, pc}^": ("a32", 0xE8D08002),
    "ldm r0, {r1}^": ("a32", 0xE8D00002),
    "stm r0, {r1}^": ("a32", 0xE8C00002),
    "rfeia r0": ("a32", 0xF8900A00),
    "srsia sp, #19": ("a32", 0xF8CD0513),
    "eret": ("t32", 0xF3DE8F00),
    "smc #0": ("a32", 0xE1600070),
    "hvc #0": ("a32", 0xE1400070),
    "subs pc, lr, #4": ("t32", 0xF3DE8F04),
}


@pytest.mark.parametrize(("table", "word"), [("a32", 0xE1600070), ("t32", 0xF7F08000)])
def test_smc_is_undefined_without_security_extensions(table: str, word: int) -> None:
    assert run(table, word).event == "undefined"


@pytest.mark.parametrize("text", PRIVILEGED_ONLY)
def test_undefined_in_user_mode(text: str) -> None:
    assert run(*PRIVILEGED_ONLY[text], cpsr=USR).event == "undefined"


def test_cps_does_nothing_in_user_mode() -> None:
    result = run("a32", 0xF10C0080, cpsr=USR)  # cpsid i
    assert (result.event, result.pc, result.cpsr) == ("", CODE + 4, USR)


def test_msr_may_write_e_but_not_the_masks_in_user_mode() -> None:
    result = run("a32", 0xE123F000, {0: CPSR_E | 0x1DF}, cpsr=USR)  # msr cpsr_cx, r0
    assert result.cpsr == USR | CPSR_E


@pytest.mark.parametrize("word", [0xE0D1F002, 0xE0B1F002, 0xE011F002, 0xE1F0F002, 0xE271F004])
def test_every_data_processing_instruction_with_s_and_pc_returns_from_an_exception(word: int) -> None:
    registers = {1: 0x0002_0001, 2: 0x0002_0004}
    assert run("a32", word, registers).cpsr & 0x3F == MODE_USR | CPSR_T  # the harness's SPSR of Supervisor mode


def test_swp_is_undefined_unless_enabled() -> None:
    assert run("a32", 0xE1010092, {1: WINDOW}).event == "undefined"


# -- exceptions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "word"), [("a32", 0xF7F000F0), ("a32", 0xE7F000F0), ("t16", 0xDE00), ("t32", 0xF7F0A000)]
)
def test_undefined_words(table: str, word: int) -> None:
    assert run(table, word).event == "undefined"


def arguments_of(
    name: str, table: str, word: int, decode_state: int = 0, mode: int = MODE_PRIVILEGED
) -> list[tuple[int, ...]]:
    """The arguments with which one instruction at CODE calls a routine."""
    got: list[tuple[int, ...]] = []
    b = code_of(table, word, MODE_PRIVILEGED, decode_state)
    interpret(
        b, CpuState(bytearray(STATE.size)), CaseMemory(Case(table, word, ZEROS, 0)), pc=CODE,
        callees={name: lambda cpu, *arguments: got.append(arguments)}, holes=(0,),
    )  # fmt: skip
    return got


def test_svc_returns_to_the_next_instruction_with_the_rest_of_the_it_block() -> None:
    assert arguments_of("svc", "a32", 0xEF000000) == [(CODE + 4, 0)]
    # EQ in an ITTE block: Z is clear, and then the condition NE of the third
    assert arguments_of("svc", "t16", 0xDF00, 0b0001_1010) == [(CODE + 2, 0b0001_0100)]
    assert arguments_of("svc", "t16", 0xDF00, 0b0000_1010) == []


def test_undefined_returns_with_its_own_itstate() -> None:
    assert arguments_of("undefined", "t16", 0xDE00, 0b0001_1010) == [(CODE + 2, 0b0001_1010)]
    assert arguments_of("undefined", "t32", 0xF7F0A000) == [(CODE + 2, 0)]
    assert arguments_of("undefined", "a32", 0xE7F000F0) == [(CODE + 4, 0)]


def test_bkpt_does_not_look_at_the_it_block() -> None:
    assert arguments_of("breakpoint", "t16", 0xBE00, 0b0000_1010) == [(CODE + 4, 0b0000_1010)]


# -- instruction sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0x2_0001, 0x2_0000, 0x2_0003])
@pytest.mark.parametrize(
    ("table", "word"), [("a32", 0xE12FFF11), ("a32", 0xE1A0F001), ("t16", 0x4708), ("t16", 0x4788), ("a32", 0xE12FFF31)]
)
def test_interworking_branches(table: str, word: int, target: int) -> None:
    result = run(table, word, {1: target})
    assert result.pc == target & ~1
    assert bool(result.cpsr & CPSR_T) == bool(target & 1)


def test_alu_writes_of_the_pc_in_t32_stay_in_t32() -> None:
    result = run("t16", 0x468F, {1: 0x2_0000})  # mov pc, r1
    assert result.pc == 0x2_0000
    assert result.cpsr & CPSR_T


def test_a32_address_with_bit_1_is_aligned() -> None:
    assert run("a32", 0xE12FFF11, {1: 0x2_0002}).pc == 0x2_0000


@pytest.mark.parametrize(
    ("table", "word", "target", "link"),
    [
        ("a32", 0xEB000000, CODE + 8, CODE + 4),
        ("a32", 0xFB000000, CODE + 10, CODE + 4),  # blx, H = 1
        ("t32", 0xF000F800, CODE + 4, CODE + 5),
        ("t32", 0xF000E800, CODE + 4, CODE + 5),
    ],
)
def test_branch_with_link(table: str, word: int, target: int, link: int) -> None:
    result = run(table, word)
    assert (result.pc, result.registers[14]) == (target, link)


def test_blx_to_its_own_link_register() -> None:
    assert run("a32", 0xE12FFF3E, {14: 0x2_0000}).pc == 0x2_0000


def test_setend_changes_the_mode_of_the_next_block_only_when_it_changes() -> None:
    assert Op.EXIT_MAIN in operations(code_of("a32", 0xF1010200))
    assert not code_of("a32", 0xF1010000).code


# -- ITSTATE -----------------------------------------------------------------------------------------------------------


def test_it_advance() -> None:
    states = [0b0000_0101]
    while states[-1]:
        states.append(it_advance(states[-1]))
    assert [state >> 4 for state in states[:-1]] == [0, 0, 1, 0][: len(states) - 1]


def test_it_gives_the_next_context() -> None:
    instructions, mode = T32(), MODE_T | MODE_PRIVILEGED
    pattern = decode.t16().decode(0xBF0C)
    b = Builder()
    assert instructions.translate(b, pattern, 0xBF0C, 0, mode) == 0x0C
    assert not b.code


@pytest.mark.parametrize("zero", [0, 1])
def test_the_rest_of_an_it_block_survives_an_instruction_that_may_end_the_block(zero: int) -> None:
    """MSR in the first place of ITT EQ: whether it runs or not, the next instruction is the second of the block."""
    decode_state = 0b0000_0100
    b, following, _ = emit("t32", 0xF3808100, decode_state, MODE_T | MODE_PRIVILEGED)  # msr cpsr_c, r0
    cpu = CpuState(bytearray(STATE.size), {"mode": MODE_T | MODE_PRIVILEGED})
    cpu.write(STATE.fields["zf"], zero)
    cpu.write(REGISTERS[0], 0x1D3)
    cpu.write(STATE.fields["cpsr_m"], 0x13)
    runner = InterpreterRunner()
    outcome = interpret(b, cpu, CaseMemory(Case("t16", 0, ZEROS, 0)), pc=CODE, callees=runner.callees)
    assert outcome.how is (Leave.EXIT if zero else Leave.GOTO_INDIRECT)
    assert cpu.read(COMMON["mode"]) >> MODE_IT_SHIFT & 0xFF == following == 0b0000_1000


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "word", "align"),
    [
        ("a32", 0xE5910000, Align.NONE),  # ldr
        ("a32", 0xE1D100B0, Align.NONE),  # ldrh
        ("a32", 0xE1C100D0, Align.WORD),  # ldrd
        ("a32", 0xE8910005, Align.WORD),  # ldm
        ("a32", 0xE9010005, Align.WORD),  # stmdb
        ("a32", 0xE1910F9F, Align.NATURAL),  # ldrex
        ("a32", 0xE1B12F9F, Align.NATURAL),  # ldrexd
        ("t32", 0xE8D1027F, Align.NATURAL),  # ldrexd
    ],
)
def test_alignment(table: str, word: int, align: Align) -> None:
    plain, strict = code_of(table, word), code_of(table, word, MODE_PRIVILEGED | MODE_ALIGN)
    assert {access.memop.align for access in accesses(plain)} == {align}
    assert {access.memop.align for access in accesses(strict)} == {align or Align.NATURAL}


@pytest.mark.parametrize(
    ("word", "index"),
    [(0xE5910000, 1), (0xE4B10000, 0), (0xE0F100B0, 0), (0xE6B10002, 0)],
    ids=["ldr", "ldrt", "ldrht", "ldrt reg"],
)
def test_unprivileged_accesses_go_through_the_user_index(word: int, index: int) -> None:
    assert [access.mmu_index for access in accesses(code_of("a32", word))] == [index]
    assert [access.mmu_index for access in accesses(code_of("a32", word, 0))] == [0]


@pytest.mark.parametrize("big_endian", [0, MODE_E])
def test_a_load_multiple_that_faults_keeps_its_base(big_endian: int) -> None:
    """The first pair is the last one of the memory; the base is among those registers."""
    last = WINDOW + 0x1000 - 8
    for word in (0xE891000F, 0xE8B1001C):  # ldm r1, {r0-r3}; ldm r1!, {r2-r4}
        result = run("a32", word, {1: last}, cpsr=SVC | (CPSR_E if big_endian else 0))
        assert result.event == "fault"
        assert result.registers[1] == last


def test_write_back_waits_for_the_access() -> None:
    for word in (0xE5B10004, 0xE5A10004, 0xE4910004, 0xE1E100D4, 0xE92103FC):
        result = run("a32", word, {1: 0x40})
        assert result.event == "fault"
        assert result.registers == (0, 0x40, *ZEROS[2:])


# -- exclusives --------------------------------------------------------------------------------------------------------

PAIRS = {
    "ldrex": (0xE1910F9F, 0xE1817F92),
    "ldrexb": (0xE1D10F9F, 0xE1C17F92),
    "ldrexh": (0xE1F10F9F, 0xE1E17F92),
    "ldrexd": (0xE1B14F9F, 0xE1A17F92),
}


def exclusives(words: list[int]) -> Any:
    registers = tuple({1: WINDOW, 2: 0x1234_5678, 6: 1, 7: 2}.get(number, 0) for number in range(15))
    case = Case("a32", words[0], registers, SVC, bytes(range(256)), more=tuple(("a32", word) for word in words[1:]))
    return InterpreterRunner().run(case)


@pytest.mark.parametrize("name", PAIRS)
def test_store_exclusive_succeeds_after_load_exclusive(name: str) -> None:
    assert exclusives(list(PAIRS[name])).registers[7] == 0


@pytest.mark.parametrize("name", PAIRS)
def test_store_exclusive_fails_without_reservation(name: str) -> None:
    load, store = PAIRS[name]
    assert exclusives([store]).registers[7] == 1
    assert exclusives([load, 0xF57FF01F, store]).registers[7] == 1  # clrex
    assert exclusives([load, 0xE5816000, store]).registers[7] == 1  # str r6, [r1]


@pytest.mark.parametrize("text", ["movs pc, lr", "ldm r0, {r1, pc}^", "rfeia r0", "eret", "subs pc, lr, #4"])
def test_a_return_from_an_exception_ends_the_reservation(text: str) -> None:
    assert Op.CLEAR_EXCLUSIVE in operations(code_of(*PRIVILEGED_ONLY[text]))


@pytest.mark.parametrize("big_endian", [False, True])
def test_doublewords_lie_in_memory_first_register_first(big_endian: bool) -> None:
    cpsr = SVC | (CPSR_E if big_endian else 0)
    first, second = bytes(range(4)), bytes(range(4, 8))
    order = "big" if big_endian else "little"
    for word in (0xE1C120D0, 0xE1B12F9F, 0xE891000C):  # ldrd r2, r3, [r1]; ldrexd; ldm r1, {r2, r3}
        result = run("a32", word, {1: WINDOW}, cpsr=cpsr)
        assert result.registers[2:4] == (int.from_bytes(first, order), int.from_bytes(second, order))


# -- barriers and hints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "order"),
    [(15, MemoryOrder.ALL), (11, MemoryOrder.ALL), (7, MemoryOrder.ALL), (3, MemoryOrder.ALL), (0, MemoryOrder.ALL)]
    + [(option, MemoryOrder.ST_ST) for option in (14, 10, 6, 2)],
)
def test_barriers_have_the_strength_of_their_option(option: int, order: MemoryOrder) -> None:
    for table, word in (("a32", 0xF57FF050), ("t32", 0xF3BF8F50)):
        assert memory_orders(code_of(table, word | option)) == [order]
        assert memory_orders(code_of(table, word - 0x10 | option)) == [order]


def test_dsb_waits_for_tlb_maintenance_and_dmb_does_not() -> None:
    assert called(code_of("a32", 0xF57FF04B)) == ["tlb_sync"]
    assert called(code_of("a32", 0xF57FF05B)) == []


def test_isb_keeps_loads_in_order() -> None:
    """Those that a branch before it depends on, before those behind it (MP+mb+ctrlisb): all loads are."""
    for table, word in (("a32", 0xF57FF06F), ("t32", 0xF3BF8F6F)):
        assert memory_orders(code_of(table, word)) == [MemoryOrder.LD_LD]


def test_isb_ends_the_block_and_keeps_itstate() -> None:
    assert operations(code_of("a32", 0xF57FF06F))[-1] is Op.GOTO
    b, following, _ = emit("t32", 0xF3BF8F6F, 0b1110_0100, MODE_T)
    cpu = CpuState(bytearray(STATE.size), {"mode": MODE_T})
    assert interpret(b, cpu, CaseMemory(Case("t16", 0, ZEROS, 0)), pc=CODE) == Outcome(Leave.EXIT)
    assert cpu.read(COMMON["mode"]) >> MODE_IT_SHIFT == following
    assert cpu.read(COMMON["pc"]) == CODE + 4


@pytest.mark.parametrize(("word", "helper"), [(1, "yield_"), (2, "wfe"), (3, "wfi")])
def test_waiting_goes_on_at_the_next_instruction(word: int, helper: str) -> None:
    for table, base, size in (("a32", 0xE320F000, 4), ("t32", 0xF3AF8000, 4)):
        result = run(table, base | word)
        assert (result.event, result.pc) == (helper, CODE + size)
    result = run("t16", 0xBF00 | word << 4)
    assert (result.event, result.pc) == (helper, CODE + 2)


def test_sev_goes_on_in_the_block() -> None:
    assert operations(code_of("a32", 0xE320F004)) == [Op.CALL]


# -- masks and system registers ----------------------------------------------------------------------------------------


def test_masking_goes_on_and_unmasking_leaves_for_the_loop() -> None:
    assert Op.EXIT_MAIN not in operations(code_of("a32", 0xF10C0080))  # cpsid i
    assert operations(code_of("a32", 0xF1080080))[-1] is Op.EXIT_MAIN  # cpsie i
    assert operations(code_of("a32", 0xE121F000))[-1] is Op.EXIT_MAIN  # msr cpsr_c, r0
    assert Op.EXIT_MAIN not in operations(code_of("a32", 0xE128F000))  # msr cpsr_f, r0


def test_system_register_moves() -> None:
    write = Case("a32", 0xEE0D0F50, (0x1234, *ZEROS[1:]), SVC, more=(("a32", 0xEE1D1F50),))  # tpidrurw
    assert InterpreterRunner().run(write).registers[1] == 0x1234
    assert run("a32", 0xEE1D0F70, cpsr=USR).event == ""  # mrc tpidruro
    assert run("a32", 0xEE0D0F70, cpsr=USR).event == "undefined"
    assert run("a32", 0xEE110F10, cpsr=USR).event == "undefined"  # sctlr


def test_64_bit_system_register_moves() -> None:
    write = Case("a32", 0xEC410F12, (0x4000, 1, *ZEROS[2:]), SVC, more=(("a32", 0xEC532F12),))  # ttbr0
    runner = InterpreterRunner()
    runner.callees["new_address_space"] = lambda cpu: 0
    assert runner.run(write).registers[2:4] == (0x4000, 1)


@pytest.mark.parametrize("word", [0xEE000100, 0xED910100, 0xED810100, 0xEE000F1F & ~0xF00 | 0x100])
def test_absent_coprocessors_are_undefined(word: int) -> None:
    assert run("a32", word, {1: WINDOW}).event == "undefined"
