# SPDX-License-Identifier: Apache-2.0
"""Cases of ``differential`` with the VFP's registers: Unicorn's side, and random cases of the VFP tables' lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tests.targets.arm.differential import WINDOW, Case, Result, UnicornRunner

from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState
from raddle.ir.types import Type
from raddle.testing import generate
from raddle.translate.decode import Pattern
from raddle_target_arm import decode
from raddle_target_arm.exceptions import CPSR_T
from raddle_target_arm.state import FPEXC_EN, FPSCR_AHP, FPSCR_NZCV, FPSCR_QC, FPSCR_VECTOR, MODE_SVC

AHP = 1 << 26


def fpscr_of(cpu: CpuState) -> int:
    value = sum(cpu.read(field) for field in (FPSCR_NZCV, FPSCR_QC, FPSCR_AHP, FPSCR_VECTOR))
    value |= cpu.read(COMMON["fp_default_nan"]) << 25 | cpu.read(COMMON["fp_flush"]) << 24
    return value | cpu.read(COMMON["fp_rounding"]) << 22 | cpu.read(COMMON["fp_flags"])


def set_fpscr(cpu: CpuState, value: int) -> None:
    for field, mask in ((FPSCR_NZCV, 0xF << 28), (FPSCR_QC, 1 << 27), (FPSCR_AHP, AHP), (FPSCR_VECTOR, 0x37 << 16)):
        cpu.write(field, value & mask)
    for name, place, mask in (("default_nan", 25, 1), ("flush", 24, 1), ("rounding", 22, 3), ("flags", 0, 0x9F)):
        cpu.write(COMMON[f"fp_{name}"], value >> place & mask)


@dataclass(frozen=True)
class Vfp:
    """A case with the VFP's registers."""

    case: Case
    d: tuple[int, ...] = (0,) * 32
    fpscr: int = 0

    def stored(self) -> dict[str, Any]:
        """The case as JSON has it."""
        data = asdict(self)
        data["case"]["data"] = self.case.data.hex()
        return data


@dataclass(frozen=True)
class VfpResult:
    result: Result
    d: tuple[int, ...]
    fpscr: int

    def differences(self, other: VfpResult) -> list[str]:
        found = self.result.differences(other.result)
        found += [f"d{n} {a:#x}, {b:#x}" for n, (a, b) in enumerate(zip(self.d, other.d, strict=True)) if a != b]
        if self.fpscr != other.fpscr:
            found.append(f"fpscr {self.fpscr:#010x}, {other.fpscr:#010x}")
        return found


class UnicornVfp(UnicornRunner):
    def __init__(self) -> None:
        super().__init__()
        self.doubles = [getattr(self.arm, f"UC_ARM_REG_D{n}") for n in range(32)]
        self.uc.reg_write(self.arm.UC_ARM_REG_C1_C0_2, 0xF << 20)

    def run_vfp(self, vfp: Vfp) -> VfpResult:
        self.uc.reg_write(self.arm.UC_ARM_REG_FPEXC, FPEXC_EN)
        for register, value in zip(self.doubles, vfp.d, strict=True):
            self.uc.reg_write(register, value)
        self.uc.reg_write(self.arm.UC_ARM_REG_FPSCR, vfp.fpscr)
        result = self.run(vfp.case)
        doubles = tuple(self.uc.reg_read(register) for register in self.doubles)
        return VfpResult(result, doubles, self.uc.reg_read(self.arm.UC_ARM_REG_FPSCR))


def vfp_lines() -> list[tuple[str, Pattern]]:
    tables = (("a32", decode.a32()), ("t32", decode.t32()))
    return [(name, p) for name, table in tables for p in table.patterns if p.name.startswith("V")]


def random_double(random: Random, pattern: Pattern, values: dict[str, int]) -> int:
    """A double, two singles or two halves each, or integers, as the instruction would have it."""
    kind = random.randrange(8)
    if kind == 0:
        return random.getrandbits(64)
    if kind == 1 or "from_" in pattern.name:
        words = (random.getrandbits(random.randrange(1, 33)) * random.choice((1, -1)) & 0xFFFF_FFFF for _ in range(2))
        return sum(word << 32 * at for at, word in enumerate(words))
    if values.get("double") or pattern.name == "VCVT_f32_f64":
        return generate.random_value(random, Type.F64)
    if pattern.name == "VCVT_f32_f16":
        return sum(
            random.choice((0, 1, 0x3FF, 0x400, 0x7C00, 0x7C01, 0x7E00, random.getrandbits(15))) << n
            for n in (0, 16, 32, 48)
        )
    if "to_" in pattern.name or pattern.name == "VCVT_f16_f32":
        singles = [
            random.getrandbits(1) << 31 | 127 + random.randrange(-26, 34) << 23 | random.getrandbits(23)
            for _ in range(2)
        ]
        return singles[0] | singles[1] << 32
    return generate.random_value(random, Type.F32) | generate.random_value(random, Type.F32) << 32


def random_vfp(random: Random, table: str, pattern: Pattern) -> Vfp:
    decoder = decode.a32() if table == "a32" else decode.t32()
    while True:
        word = pattern.value | random.getrandbits(32) & ~pattern.mask
        if table == "a32":
            word = word & 0x0FFF_FFFF | random.choice((14, 14, 14, random.randrange(15))) << 28
        if decoder.decode(word) is pattern:
            break
    values = pattern.values(word)
    registers = [random.getrandbits(32) for _ in range(15)]
    if pattern.name.startswith(("VLD", "VST")) and values["n"] != 15:
        registers[values["n"]] = WINDOW + random.randrange(-0x400, 0x400, 4)
    cpsr = random.getrandbits(5) << 27 | 0x1C0 | MODE_SVC | (CPSR_T if table == "t32" else 0)
    if table == "t32" and random.randrange(3) == 0:
        it = random.randrange(14) << 4 | 8
        cpsr |= (it & 3) << 25 | (it & 0xFC) << 8
    if random.randrange(4) == 0 and pattern.name[:3] in ("VLD", "VST"):
        cpsr |= 1 << 9
    fpscr = random.getrandbits(4) << 28 | random.getrandbits(5) << 22 | random.choice((0, 0, 0x10, 0x9F))
    if pattern.name == "VCVT_from_fixed":
        # The manual rounds these to nearest whatever FPSCR says (A8.8.308); older QEMUs do as FPSCR says.
        fpscr &= ~(3 << 22)
    doubles = tuple(random_double(random, pattern, values) for _ in range(32))
    return Vfp(Case(table, word, tuple(registers), cpsr, random.randbytes(256)), doubles, fpscr)
