# SPDX-License-Identifier: Apache-2.0
"""The exact floating point, against this machine's arithmetic, against rational numbers and against an ARM VFP."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.ir import floats
from raddle.ir.floats import F32, F64, FloatEnv, Format
from raddle.ir.types import Type
from raddle.testing.generate import random_value

TYPES = {F32: Type.F32, F64: Type.F64}
BITS64 = st.integers(0, (1 << 64) - 1)


def to_python(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def from_python(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def is_nan(bits: int, fmt: Format) -> bool:
    return bits & ~fmt.sign_bit > fmt.infinity


@pytest.mark.parametrize(
    ("operation", "python"),
    [
        (floats.add, lambda a, b: a + b),
        (floats.sub, lambda a, b: a - b),
        (floats.mul, lambda a, b: a * b),
        (floats.div, lambda a, b: a / b),
        (lambda a, b, fmt, env: floats.sqrt(a, fmt, env), lambda a, b: math.sqrt(a)),
    ],
    ids=["add", "sub", "mul", "div", "sqrt"],
)
def test_f64_agrees_with_this_machine(operation: Callable[..., int], python: Callable[[float, float], float]) -> None:
    random = Random(7)
    for _ in range(3000):
        a, b = random_value(random, Type.F64), random_value(random, Type.F64)
        try:
            expected = from_python(python(to_python(a), to_python(b)))
        except (ZeroDivisionError, ValueError):  # Python's own refusals
            continue
        result = operation(a, b, F64, FloatEnv())
        assert result == expected or (is_nan(result, F64) and is_nan(expected, F64)), f"{a:#x} {b:#x}"


@given(BITS64, BITS64)
def test_comparison_agrees_with_this_machine(a: int, b: int) -> None:
    x, y = to_python(a), to_python(b)
    expected = floats.LESS if x < y else floats.EQUAL if x == y else floats.GREATER if x > y else floats.UNORDERED
    assert floats.compare(a, b, F64, FloatEnv(), False) == expected


@given(st.floats(width=32))
def test_narrowing_and_widening_agree_with_this_machine(value: float) -> None:
    bits = int.from_bytes(struct.pack("<f", value), "little")
    wide = floats.convert(bits, F32, F64, FloatEnv())
    assert math.isnan(value) or wide == from_python(value)
    assert is_nan(bits, F32) or floats.convert(wide, F64, F32, FloatEnv()) == bits


def exact(bits: int, fmt: Format) -> Fraction:
    fraction = bits & ((1 << fmt.fraction_bits) - 1)
    exponent = bits >> fmt.fraction_bits & fmt.exponent_max
    mantissa = fraction | bool(exponent) << fmt.fraction_bits
    value = mantissa * Fraction(2) ** (max(exponent, 1) - fmt.bias - fmt.fraction_bits)
    return -value if bits & fmt.sign_bit else value


@pytest.mark.parametrize("rounding", range(4), ids=["nearest", "up", "down", "zero"])
@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
def test_directed_results_enclose_the_exact_one(fmt: Format, rounding: int) -> None:
    """Every result is on the side that its mode asks for, with the exact value within one unit; flags say if exact."""
    random = Random(rounding)
    operations: list[tuple[Callable[..., int], Callable[[Fraction, Fraction], Fraction]]] = [
        (floats.add, lambda x, y: x + y),
        (floats.mul, lambda x, y: x * y),
        (floats.div, lambda x, y: x / y),
    ]
    for _ in range(1000):
        a, b = random_value(random, TYPES[fmt]), random_value(random, TYPES[fmt])
        if max(a & ~fmt.sign_bit, b & ~fmt.sign_bit) >= fmt.infinity or not b & ~fmt.sign_bit:
            continue
        operation, plain = random.choice(operations)
        env = FloatEnv(rounding)
        result = operation(a, b, fmt, env)
        true = plain(exact(a, fmt), exact(b, fmt))
        if env.flags & floats.OVERFLOW:
            assert abs(true) > exact(fmt.infinity - 1, fmt)
            continue
        found = exact(result, fmt)
        assert (found == true) is not bool(env.flags & floats.INEXACT)
        tiny = 0 < abs(true) < exact(1 << fmt.fraction_bits, fmt)
        assert bool(env.flags & floats.UNDERFLOW) is (tiny and found != true)
        if rounding == floats.UP:
            assert found >= true
        elif rounding == floats.DOWN:
            assert found <= true
        elif rounding == floats.ZERO:
            assert abs(found) <= abs(true)
        unit = exact((result & ~fmt.sign_bit) + 1, fmt) - abs(found) if result & ~fmt.sign_bit < fmt.infinity - 1 else 0
        assert abs(found - true) * (2 if rounding == floats.NEAREST else 1) <= (unit or abs(found))


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(0, 3), st.sampled_from([F32, F64]))
def test_integers_come_back(value: int, rounding: int, fmt: Format) -> None:
    env = FloatEnv(rounding)
    bits = floats.from_int(value, fmt, env)
    back = floats.to_int(bits, fmt, FloatEnv(), value < 0, 66, floats.ZERO)
    assert (back == value) is not bool(env.flags & floats.INEXACT)


# -- an ARM VFP --------------------------------------------------------------------------------------------------------

SIGNED, UNSIGNED = True, False


def to_int(signed: bool, width: int = 32, rounding: int | None = floats.ZERO, fraction: int = 0) -> Callable[..., int]:
    def convert(a: int, b: int, c: int, fmt: Format, env: FloatEnv) -> int:
        mode = env.rounding if rounding is None else rounding
        return floats.to_int(a, fmt, env, signed, width, mode, fraction) & 0xFFFFFFFF

    return convert


def from_int(signed: bool, rounding: int | None = None, fraction: int = 0) -> Callable[..., int]:
    def convert(a: int, b: int, c: int, fmt: Format, env: FloatEnv) -> int:
        a &= 0xFFFFFFFF
        value = a - (1 << 32) if signed and a >> 31 else a
        return floats.from_int(value, fmt, env, rounding, fraction)

    return convert


def two(operation: Callable[..., int]) -> Callable[..., int]:
    return lambda a, b, c, fmt, env: operation(a, b, fmt, env)


# Each instruction: operands a in s0 (d0), b in s1 (d1), c or, for those that work in place, a in s2 (d2); result in s2,
# s4 or d2, None for the flags of a comparison.
VFP: list[tuple[str, int, Format, str | None, Callable[..., int]]] = [
    ("vadd.f32 s2, s0, s1", 0xEE301A20, F32, "s2", two(floats.add)),
    ("vsub.f32 s2, s0, s1", 0xEE301A60, F32, "s2", two(floats.sub)),
    ("vmul.f32 s2, s0, s1", 0xEE201A20, F32, "s2", two(floats.mul)),
    ("vdiv.f32 s2, s0, s1", 0xEE801A20, F32, "s2", two(floats.div)),
    ("vsqrt.f32 s2, s0", 0xEEB11AC0, F32, "s2", lambda a, b, c, fmt, env: floats.sqrt(a, fmt, env)),
    ("vfma.f32 s2, s0, s1", 0xEEA01A20, F32, "s2", floats.fma),
    ("vcmp.f32 s0, s1", 0xEEB40A60, F32, None, lambda a, b, c, fmt, env: floats.compare(a, b, fmt, env, False)),
    ("vcmpe.f32 s0, s1", 0xEEB40AE0, F32, None, lambda a, b, c, fmt, env: floats.compare(a, b, fmt, env, True)),
    ("vcvt.f64.f32 d2, s0", 0xEEB72AC0, F32, "d2", lambda a, b, c, fmt, env: floats.convert(a, F32, F64, env)),
    ("vcvt.s32.f32 s2, s0", 0xEEBD1AC0, F32, "s2", to_int(SIGNED)),
    ("vcvt.u32.f32 s2, s0", 0xEEBC1AC0, F32, "s2", to_int(UNSIGNED)),
    ("vcvtr.s32.f32 s2, s0", 0xEEBD1A40, F32, "s2", to_int(SIGNED, rounding=None)),
    ("vcvtr.u32.f32 s2, s0", 0xEEBC1A40, F32, "s2", to_int(UNSIGNED, rounding=None)),
    ("vcvt.f32.s32 s2, s0", 0xEEB81AC0, F32, "s2", from_int(SIGNED)),
    ("vcvt.f32.u32 s2, s0", 0xEEB81A40, F32, "s2", from_int(UNSIGNED)),
    ("vcvt.s16.f32 s2, s2, #7", 0xEEBE1A64, F32, "s2", to_int(SIGNED, 16, fraction=7)),
    ("vcvt.u32.f32 s2, s2, #20", 0xEEBF1AC6, F32, "s2", to_int(UNSIGNED, fraction=20)),
    ("vcvt.f32.s32 s2, s2, #9", 0xEEBA1AEB, F32, "s2", from_int(SIGNED, floats.NEAREST, 9)),
    ("vadd.f64 d2, d0, d1", 0xEE302B01, F64, "d2", two(floats.add)),
    ("vsub.f64 d2, d0, d1", 0xEE302B41, F64, "d2", two(floats.sub)),
    ("vmul.f64 d2, d0, d1", 0xEE202B01, F64, "d2", two(floats.mul)),
    ("vdiv.f64 d2, d0, d1", 0xEE802B01, F64, "d2", two(floats.div)),
    ("vsqrt.f64 d2, d0", 0xEEB12BC0, F64, "d2", lambda a, b, c, fmt, env: floats.sqrt(a, fmt, env)),
    ("vfma.f64 d2, d0, d1", 0xEEA02B01, F64, "d2", floats.fma),
    ("vcmp.f64 d0, d1", 0xEEB40B41, F64, None, lambda a, b, c, fmt, env: floats.compare(a, b, fmt, env, False)),
    ("vcmpe.f64 d0, d1", 0xEEB40BC1, F64, None, lambda a, b, c, fmt, env: floats.compare(a, b, fmt, env, True)),
    ("vcvt.f32.f64 s4, d0", 0xEEB72BC0, F64, "s4", lambda a, b, c, fmt, env: floats.convert(a, F64, F32, env)),
    ("vcvt.s32.f64 s4, d0", 0xEEBD2BC0, F64, "s4", to_int(SIGNED)),
    ("vcvt.u32.f64 s4, d0", 0xEEBC2BC0, F64, "s4", to_int(UNSIGNED)),
    ("vcvtr.s32.f64 s4, d0", 0xEEBD2B40, F64, "s4", to_int(SIGNED, rounding=None)),
    ("vcvtr.u32.f64 s4, d0", 0xEEBC2B40, F64, "s4", to_int(UNSIGNED, rounding=None)),
    ("vcvt.f64.s32 d2, s0", 0xEEB82BC0, F64, "d2", from_int(SIGNED)),
    ("vcvt.f64.u32 d2, s0", 0xEEB82B40, F64, "d2", from_int(UNSIGNED)),
    ("vcvt.s16.f64 d2, d2, #7", 0xEEBE2B64, F64, "d2", to_int(SIGNED, 16, fraction=7)),
    ("vcvt.u32.f64 d2, d2, #20", 0xEEBF2BC6, F64, "d2", to_int(UNSIGNED, fraction=20)),
    ("vcvt.f64.s32 d2, d2, #9", 0xEEBA2BEB, F64, "d2", from_int(SIGNED, floats.NEAREST, 9)),
]
COMPARISON_FLAGS = {0b1000: floats.LESS, 0b0110: floats.EQUAL, 0b0010: floats.GREATER, 0b0011: floats.UNORDERED}
CODE = 0x1000


@pytest.fixture(scope="module")
def vfp() -> Any:
    unicorn = pytest.importorskip("unicorn", reason="the ARM VFP to compare with is Unicorn's")
    from unicorn import arm_const

    cpu = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM)
    cpu.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_A15)
    cpu.mem_map(CODE, 4096)
    for at, (_, word, _, _, _) in enumerate(VFP):
        cpu.mem_write(CODE + 4 * at, struct.pack("<I", word))
    cpu.reg_write(arm_const.UC_ARM_REG_C1_C0_2, 0xF << 20)
    cpu.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)
    return cpu


@pytest.mark.peer
@pytest.mark.parametrize("at", range(len(VFP)), ids=[row[0] for row in VFP])
def test_agrees_with_an_arm_vfp(vfp: Any, at: int) -> None:
    from unicorn import arm_const as reg

    text, _, fmt, target, operation = VFP[at]
    in_place = "#" in text
    registers = {
        F32: (reg.UC_ARM_REG_S0, reg.UC_ARM_REG_S1, reg.UC_ARM_REG_S2),
        F64: (reg.UC_ARM_REG_D0, reg.UC_ARM_REG_D1, reg.UC_ARM_REG_D2),
    }
    random = Random(text)
    for _ in range(250):
        a, b, c = (random_value(random, TYPES[fmt]) for _ in range(3))
        env = FloatEnv(random.randrange(4), random.random() < 0.5, random.random() < 0.5)
        if in_place and "s32" in text:
            # The manual rounds these to nearest whatever FPSCR says (A8.8.308); older QEMUs do as FPSCR says.
            env.rounding = floats.NEAREST
        start = f"{text}: {a:#x} {b:#x} {c:#x} {env}"
        for register, value in zip(registers[fmt], (a, b, a if in_place else c), strict=True):
            vfp.reg_write(register, value)
        vfp.reg_write(reg.UC_ARM_REG_FPSCR, env.rounding << 22 | env.flush << 24 | env.default_nan << 25)
        vfp.emu_start(CODE + 4 * at, CODE + 4 * at + 4)
        fpscr = vfp.reg_read(reg.UC_ARM_REG_FPSCR)
        result = operation(a, b, c, fmt, env)
        if target is None:
            found = COMPARISON_FLAGS[fpscr >> 28]
        else:
            found = vfp.reg_read(getattr(reg, f"UC_ARM_REG_{target.upper()}"))
            if in_place and fmt is F64 and ".f64 d2" in text:  # to an integer of 32 bits, in the low half
                found &= 0xFFFFFFFF
        assert (hex(found), fpscr & 0x9F) == (hex(result), env.flags), start
