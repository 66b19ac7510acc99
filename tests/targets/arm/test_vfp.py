# SPDX-License-Identifier: Apache-2.0
"""VFP instructions against Unicorn's Cortex-A15, and what Unicorn does otherwise or cannot show."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.core.halves import half_to_single, single_to_half
from tests.targets.arm.differential import (
    CODE,
    DATA,
    DATA_SIZE,
    WINDOW,
    Case,
    CaseMemory,
    Result,
    block_mode,
    emit,
    load_state,
    status,
)
from tests.targets.arm.differential_vfp import (
    AHP,
    UnicornVfp,
    Vfp,
    VfpResult,
    fpscr_of,
    random_vfp,
    set_fpscr,
    vfp_lines,
)

from raddle.accel import Decision, Mode
from raddle.errors import PluginError, UsageError
from raddle.ir.floats import FloatEnv
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Leave, Outcome, interpret
from raddle.ir.types import FloatRules, NanChoice
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.threads.engine import Engine
from raddle.translate.decode import Pattern
from raddle_target_arm.cpus import CORTEX_A15
from raddle_target_arm.exceptions import CPSR_T
from raddle_target_arm.frontend import FRONT_END, ArmFrontEnd
from raddle_target_arm.state import (
    CF,
    FPEXC,
    FPEXC_EN,
    FPSCR_NZCV,
    MODE_ALIGN,
    MODE_E,
    MODE_IT,
    MODE_IT_SHIFT,
    MODE_SVC,
    MODE_USR,
    MODE_VECTOR,
    MODE_VFP,
    NF,
    REGISTERS,
    STATE,
    SYSTEM,
    VF,
    ZF,
    D,
    S,
)

SWITCHED_ON = 1 << 32
"""No bit of the block mode: FPEXC.EN is set."""
ENABLED = MODE_VFP | SWITCHED_ON
IOC, IDC = 1, 0x80
FZ = 1 << 24


def _in_environment(convert: Any) -> Any:
    def callee(cpu: CpuState, value: int, alternative: int) -> int:
        names = ("fp_rounding", "fp_flush", "fp_default_nan", "fp_flags")
        rounding, flush, default_nan, flags = (cpu.read(COMMON[name]) for name in names)
        env = FloatEnv(rounding, bool(flush), bool(default_nan), flags)
        result = convert(value, bool(alternative), env)
        cpu.write(COMMON["fp_flags"], env.flags)
        return int(result)

    return callee


class Machine:
    """Raddle's side: one instruction in the interpreter. Attributes hold the state after it."""

    def __init__(self, vfp: Vfp, extra: int = ENABLED) -> None:
        self.vfp, case = vfp, vfp.case
        self.events: list[str] = []
        mode = block_mode(case.cpsr, extra & ~SWITCHED_ON)
        self.cpu, self.memory = CpuState(bytearray(STATE.size)), CaseMemory(case)
        load_state(self.cpu, case, mode)
        for field, value in zip(D, vfp.d, strict=True):
            self.cpu.write(field, value)
        set_fpscr(self.cpu, vfp.fpscr)
        self.cpu.write(FPEXC, FPEXC_EN if extra & SWITCHED_ON else 0)
        self.cpu.write(SYSTEM["cpacr"], 0xF << 20 if extra & MODE_VFP else 0)
        b, self.following, holes = emit(case.table, case.word, case.it, mode)
        callees = {
            "undefined": lambda cpu, *arguments: self.events.append("undefined"),
            "fp_f16_to_f32": _in_environment(half_to_single),
            "fp_f32_to_f16": _in_environment(single_to_half),
        }
        self.outcome: Outcome = interpret(b, self.cpu, self.memory, holes=holes, pc=CODE, callees=callees)

    @property
    def event(self) -> str:
        if self.outcome.how is Leave.FAULT:
            return "misaligned" if self.outcome.alignment else "fault"
        return " ".join(self.events)

    def register(self, number: int) -> int:
        return self.cpu.read(REGISTERS[number])

    def result(self) -> VfpResult:
        goes_on = self.outcome.how is Leave.NEXT
        pc = CODE + len(self.vfp.case.code) if goes_on else self.cpu.header.get("pc", 0)
        core = status(self.cpu, self.following if goes_on else 0)
        registers = tuple(self.cpu.read(register) for register in REGISTERS)
        result = Result(self.event, registers, pc, core, bytes(self.memory.content))
        return VfpResult(result, tuple(self.cpu.read(field) for field in D), fpscr_of(self.cpu))


@pytest.fixture(scope="module")
def peer() -> UnicornVfp:
    pytest.importorskip("unicorn", reason="the ARM VFP to compare with is Unicorn's")
    return UnicornVfp()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("table", "pattern"), vfp_lines(), ids=lambda x: x if isinstance(x, str) else f"{x.name}-{x.value:x}"
)
def test_agrees_with_unicorn(peer: UnicornVfp, table: str, pattern: Pattern) -> None:
    random = Random(f"{table} {pattern.name} {pattern.value}")
    tries = 15 if pattern.name.startswith(("VLDM", "VSTM")) else 40
    for _ in range(tries):
        vfp = random_vfp(random, table, pattern)
        values = pattern.values(vfp.case.word)
        if pattern.name == "VMRS" and values["r"] in (0, 6, 7):
            continue  # this CPU has no Advanced SIMD
        mine, theirs = Machine(vfp).result(), peer.run_vfp(vfp)
        text = f"{table} {vfp.case.word:#010x} {pattern.name} {values} fpscr {vfp.fpscr:#x}: ours, Unicorn's"
        assert mine.differences(theirs) == [], text


# -- what the peer does not show ---------------------------------------------------------------------------------------

VADD, VADD64, VCMP, VCVT = 0xEE30_0A00, 0xEE30_0B00, 0xEEB4_0A40, 0xEEB7_0AC0
VMOV_IMM, VFMA, VSQRT, VMOV_REG = 0xEEB0_0A00, 0xEEA0_0A00, 0xEEB1_0AC0, 0xEEB0_0A40
VLDR, VSTR, VLDR64 = 0xED90_0A00, 0xED80_0A00, 0xED90_0B00
VLDM_S0_S4, VLDMDB_D0_D1, FLDMIAX_D0_D1, VSTM_S1_S3 = 0xECB0_0A05, 0xED30_0B04, 0xECB0_0B05, 0xECE0_0A03
VMOV_TO_CORE, VMRS_FPSCR, VMRS_APSR, VMSR_FPSCR = 0xEE10_0A10, 0xEEF1_0A10, 0xEEF1_FA10, 0xEEE1_0A10
VMRS_FPSID, VMRS_MVFR1, VMRS_MVFR0, VMRS_FPEXC = 0xEEF0_0A10, 0xEEF6_0A10, 0xEEF7_0A10, 0xEEF8_0A10
VMSR_FPSID, VMSR_FPEXC = 0xEEE0_0A10, 0xEEE8_0A10

VECTORS = (VADD, VADD64, VMOV_IMM, VMOV_REG, VFMA, VSQRT)
"""Undefined where FPSCR asks for short vectors."""
SCALARS = (VCMP, VCVT, VLDR, VSTR, VLDM_S0_S4, VMOV_TO_CORE, VMRS_FPSCR, VMSR_FPSCR)
"""As usual then."""
SYSTEM_REGISTERS = (VMRS_FPSID, VMRS_MVFR1, VMRS_MVFR0, VMRS_FPEXC, VMSR_FPSID, VMSR_FPEXC)


def a32(word: int, r0: int = WINDOW, mode: int = MODE_SVC, data: bytes = b"\0") -> Vfp:
    return Vfp(Case("a32", word, (r0,) + (0,) * 14, 0x1C0 | mode, data))


def event(word: int, extra: int, mode: int = MODE_SVC) -> str:
    return Machine(a32(word, mode=mode), extra).event


@pytest.mark.parametrize("mode", [MODE_SVC, MODE_USR])
@pytest.mark.parametrize("word", VECTORS + SCALARS, ids=hex)
def test_needs_cpacr_and_fpexc(word: int, mode: int) -> None:
    assert event(word, ENABLED, mode) == ""
    for extra in (0, MODE_VFP, SWITCHED_ON):
        assert event(word, extra, mode) == "undefined"


@pytest.mark.parametrize("word", SYSTEM_REGISTERS, ids=hex)
def test_system_registers_need_privilege_but_not_fpexc(word: int) -> None:
    assert event(word, MODE_VFP) == event(word, ENABLED) == ""
    assert event(word, SWITCHED_ON) == event(word, ENABLED, MODE_USR) == "undefined"


def test_short_vectors_are_undefined() -> None:
    assert {event(word, ENABLED | MODE_VECTOR) for word in VECTORS} == {"undefined"}
    assert {event(word, ENABLED | MODE_VECTOR) for word in SCALARS} == {""}


def test_identification() -> None:
    values = [Machine(a32(word)).register(0) for word in (VMRS_FPSID, VMRS_MVFR0, VMRS_MVFR1)]
    assert values == [CORTEX_A15.fpsid, CORTEX_A15.mvfr0, CORTEX_A15.mvfr1]
    assert Machine(a32(VMSR_FPSID, 0x1234)).outcome.how is Leave.NEXT


def test_fpexc_keeps_its_enable_bit_and_ends_no_block() -> None:
    machine = Machine(a32(VMSR_FPEXC, 0xFFFF_FFFF), MODE_VFP)
    assert machine.cpu.read(FPEXC) == FPEXC_EN
    assert machine.outcome.how is Leave.NEXT
    machine = Machine(a32(VMSR_FPEXC, 0), ENABLED)
    assert machine.cpu.read(FPEXC) == 0
    assert Machine(a32(VMRS_FPEXC)).register(0) == FPEXC_EN


def test_fpscr_is_written_whole_but_for_the_trap_enables() -> None:
    machine = Machine(a32(VMSR_FPSCR, 0xFFC8_FFFF))
    assert fpscr_of(machine.cpu) == 0xFFC0_009F
    assert machine.outcome.how is Leave.NEXT
    assert Machine(replace(a32(VMRS_FPSCR), fpscr=0xFFF7_009F)).register(0) == 0xFFF7_009F


@pytest.mark.parametrize(("before", "after", "leaves"), [(0, 0, False), (0, 3, True), (3, 0, True), (3, 1, False)])
def test_a_change_to_short_vectors_ends_the_block(before: int, after: int, leaves: bool) -> None:
    vfp = replace(a32(VMSR_FPSCR, after << 16), fpscr=before << 16)
    machine = Machine(vfp, ENABLED | (MODE_VECTOR if before else 0))
    assert fpscr_of(machine.cpu) == after << 16
    assert machine.outcome.how is (Leave.EXIT if leaves else Leave.NEXT)
    assert bool(machine.cpu.header["mode"] & MODE_VECTOR) == bool(after)


def test_it_state_survives_vmsr() -> None:
    case = Case("t32", VMSR_FPSCR, (1 << 16,) + (0,) * 14, 0x1C0 | MODE_SVC | CPSR_T | 0xE << 12 | 1 << 10 | 2 << 25)
    machine = Machine(Vfp(case), ENABLED)
    assert machine.outcome.how is Leave.EXIT
    assert machine.cpu.header["mode"] & MODE_IT == machine.following << MODE_IT_SHIFT != 0


@pytest.mark.parametrize("relation", range(4))
def test_flags_of_a_comparison(relation: int) -> None:
    one, two, nan = 0x3F80_0000, 0x4000_0000, 0x7FC0_0000
    first, second = ((one, two), (one, one), (two, one), (nan, one))[relation]
    compared = Machine(replace(a32(VCMP | 1 << 5), d=(first | second << 32,) + (0,) * 31))
    flags = compared.cpu.read(FPSCR_NZCV)
    assert flags == (0x8, 0x6, 0x2, 0x3)[relation] << 28
    moved = Machine(replace(a32(VMRS_APSR), fpscr=flags))
    assert [moved.cpu.read(flag) for flag in (NF, ZF, CF, VF)] == [flags >> place & 1 for place in (31, 30, 29, 28)]


@pytest.mark.parametrize("extra", [0, MODE_ALIGN])
@pytest.mark.parametrize("word", [VLDR, VLDR64, VSTR, VLDM_S0_S4, FLDMIAX_D0_D1, VSTM_S1_S3], ids=hex)
def test_accesses_must_be_word_aligned(word: int, extra: int) -> None:
    assert Machine(a32(word, WINDOW + 4), ENABLED | extra).event == ""
    machine = Machine(a32(word, WINDOW + 2), ENABLED | extra)
    assert machine.event == "misaligned"
    assert machine.register(0) == WINDOW + 2


@pytest.mark.parametrize("word", [VLDM_S0_S4, FLDMIAX_D0_D1, VSTM_S1_S3], ids=hex)
def test_the_base_survives_a_fault_at_the_last_word(word: int) -> None:
    words = word & 0xFF & ~(word >> 8 & 1)
    base = DATA + DATA_SIZE - 4 * words + 4
    machine = Machine(a32(word, base))
    assert machine.event == "fault"
    assert machine.register(0) == base
    assert Machine(a32(word, base - 4)).event == ""


def test_lists_move_the_base_by_whole_blocks() -> None:
    data = bytes(range(256))
    for word, moved, low, count in (
        (VLDM_S0_S4, 20, 0, 20),
        (VLDMDB_D0_D1, -16, -16, 16),
        (FLDMIAX_D0_D1, 20, 0, 16),
    ):
        machine = Machine(a32(word, WINDOW, data=data))
        assert machine.register(0) == WINDOW + moved
        at = (WINDOW - DATA + low) % 256
        expected = (data + data)[at : at + count]
        assert bytes(machine.cpu.state[D.offset : D.offset + count]) == expected
        assert not any(machine.cpu.state[D.offset + count : D.offset + 8 * 32])


def test_big_endian_singles_keep_their_order() -> None:
    data = bytes(range(64))
    machine = Machine(a32(VLDM_S0_S4, data=data), ENABLED | MODE_E)
    values = [machine.cpu.read(field) for field in S[:5]]
    assert values == [int.from_bytes(data[4 * n : 4 * n + 4], "big") for n in range(5)]
    double = Machine(a32(VLDR64, data=data), ENABLED | MODE_E)
    assert double.cpu.read(D[0]) == int.from_bytes(data[:8], "big")


def test_halves_and_denormals() -> None:
    """Halves are never flushed, singles on their way to one are; the alternative format saturates."""
    to_single, to_half = 0xEEB2_0A40, 0xEEB3_0A40
    machine = Machine(replace(a32(to_single), d=(1,) + (0,) * 31, fpscr=FZ))
    assert (machine.cpu.read(S[0]), fpscr_of(machine.cpu)) == (0x3380_0000, FZ)
    machine = Machine(replace(a32(to_half), d=(0xABCD_0000 << 32 | 0x8000_0001,) + (0,) * 31, fpscr=FZ))
    assert (machine.cpu.read(S[0]), fpscr_of(machine.cpu)) == (0x8000_8000, FZ | IDC)
    machine = Machine(replace(a32(to_half), d=(0x7F80_0000,) + (0,) * 31, fpscr=AHP))
    assert (machine.cpu.read(S[0]), fpscr_of(machine.cpu)) == (0x7F80_7FFF, AHP | IOC)


def test_fixed_point_is_rounded_to_nearest_whatever_fpscr_says() -> None:
    """VCVT.F32.S32 s0, s0, #1 of the odd number halfway between two floats, rounding upwards."""
    machine = Machine(replace(a32(0xEEBA_0ACF | 1 << 5), d=(0x0100_0001,) + (0,) * 31, fpscr=1 << 22))
    assert machine.cpu.read(S[0]) == 0x4B00_0000


def test_a_vcpu_follows_the_rules_that_its_front_end_declares() -> None:
    """ARM's are those of all zeros; another guest's must come to its vCPUs, and stay through a reset."""

    class Other(ArmFrontEnd):
        floats = FloatRules(True, NanChoice.LAST, negative_default_nan=True)

    found = registry()
    try:
        back_end = found.load(found.host_for())
    except (UsageError, PluginError) as error:
        pytest.skip(str(error))
    for front_end, rules in ((FRONT_END, 0), (Other(), 1 | 2 << 1 | 1 << 3)):
        assert front_end.floats.bits == rules
        with closing(AddressSpace()) as memory:
            engine = Engine(front_end, back_end, Decision(Mode.MULTI, ("a test",)), memory, 2)
            with closing(engine):
                for cpu in engine.cpus:
                    front_end.reset(cpu, 0, 0)
                assert [cpu["fp_rules"] for cpu in engine.cpus] == [rules, rules]
