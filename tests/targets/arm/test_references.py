# SPDX-License-Identifier: Apache-2.0
"""ARM by each reference of `raddle.testing.differential`: they agree, and each notices an instruction that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from raddle.ir.builder import Builder
from raddle.testing.differential import Case, Interpreted, Recorded, Runner, check, record
from raddle.testing.gdb import GdbReference
from raddle.testing.unicorn_reference import UnicornReference
from raddle.translate.decode import Fields
from raddle_target_arm import insns
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import MODE_SVC

REGISTERS = (*(f"r{number}" for number in range(13)), "sp", "lr", "cpsr")
CODE, DATA = 0x4020_0000, 0x4021_0000
"""In the RAM of QEMU's virt board."""
STATUS = 0x1C0 | MODE_SVC
UNSEEN = {"cpsr": 0x0000_0100}
"""CPSR.A: QEMU's own reset state has it otherwise."""

ADDS, SUBS_LSL, LDR_POST, STRB = 0xE091_2003, 0xE052_1183, 0xE494_5004, 0xE5C4_7003
BX_LR, MOVW = 0xE12F_FF1E, 0xE301_8234
T32 = 1 << 5
IT_EQ_ADD, T32_MOVW = bytes.fromhex("08bf 0844"), bytes.fromhex("41f2 3422")
"""IT EQ; ADDEQ r0, r1, and MOVW r2, #0x1234, whose high half comes first."""


def cases(random: Random) -> Iterator[Case]:
    for word in (ADDS, SUBS_LSL, LDR_POST, STRB, BX_LR, MOVW):
        for _ in range(5):
            registers = {f"r{number}": random.getrandbits(32) for number in range(13)}
            registers |= {"r4": DATA + 8, "sp": DATA, "lr": CODE + 0x100, "cpsr": random.getrandbits(4) << 28 | STATUS}
            yield Case(word.to_bytes(4, "little"), CODE, registers, {DATA: random.randbytes(64)})
    program = b"".join(word.to_bytes(4, "little") for word in (ADDS, STRB, LDR_POST))
    yield Case(program, CODE, {"r4": DATA, "cpsr": STATUS}, {DATA: bytes(range(16))}, steps=3)
    for zero in (0, 1 << 30):
        registers = {"r0": 5, "r1": 7, "cpsr": STATUS | T32 | zero}
        yield Case(IT_EQ_ADD + T32_MOVW, CODE, registers, steps=3)


def interpreted() -> Interpreted:
    return Interpreted(FRONT_END, REGISTERS)


class Unicorn(UnicornReference):
    def entry(self, case: Case) -> int:
        return case.pc | bool(case.registers["cpsr"] & T32)


def unicorn(_: Path) -> Runner:
    return Unicorn("arm", "UC_MODE_ARM", REGISTERS, model="UC_CPU_ARM_CORTEX_A15")


def qemu(_: Path) -> Runner:
    command = ["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", "64", "-accel", "tcg,thread=single"]
    return GdbReference(command, {name: name for name in (*REGISTERS, "pc")}, features="xmlRegisters=arm")


def recorded(directory: Path) -> Runner:
    path = directory / "vectors.json"
    record(unicorn(directory), cases(Random(1)), path)
    return Recorded(path)


REFERENCES = [
    pytest.param(unicorn, marks=pytest.mark.peer("unicorn")),
    pytest.param(qemu, marks=pytest.mark.peer("qemu-system-arm")),
    pytest.param(recorded, marks=pytest.mark.peer("unicorn")),
]


@pytest.mark.parametrize("make", REFERENCES)
def test_each_reference_agrees_and_notices_a_wrong_instruction(
    make: Callable[[Path], Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = make(tmp_path)
    try:
        assert check(interpreted(), reference, cases(Random(1)), UNSEEN) == 33
        subtract = insns.SEMANTICS["SUB_reg"]

        def wrong(b: Builder, f: Fields) -> None:
            subtract(b, f)

        monkeypatch.setitem(insns.SEMANTICS, "ADD_reg", wrong)
        with pytest.raises(AssertionError, match="03 20 91 e0 at 0x40200000, 1 steps"):
            check(interpreted(), reference, cases(Random(1)), UNSEEN)
    finally:
        getattr(reference, "close", lambda: None)()
