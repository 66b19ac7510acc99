# SPDX-License-Identifier: Apache-2.0
"""Floating point on the AArch64 back end: what is computed in line is exact, and what is usual is computed in line."""

from __future__ import annotations

from random import Random

import pytest
from tests.core.test_fp import operands
from tests.hosts.x86_64.test_floating import Make, integer_range, ordinary, program, rows

from raddle.ir.builder import Builder, FloatToInt, IntToFloat, Rounding
from raddle.ir.floats import F32, F64, Format
from raddle.ir.header import COMMON
from raddle.ir.types import FloatRules, NanChoice, Type
from raddle.testing.foreign_harness import ForeignHarness, Runner
from raddle.testing.generate import Program
from raddle.testing.host_contract import check
from raddle.testing.ir_programs import LAYOUT
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE

pytestmark = [pytest.mark.peer("qemu-aarch64"), pytest.mark.cross("aarch64-linux-gnu-gcc")]

OTHER_RULES = FloatRules(tiny_after_rounding=True, nan=NanChoice.FIRST, negative_default_nan=True)


@pytest.fixture
def harness(runner: Runner) -> ForeignHarness:
    return ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)


def environment(random: Random, rules: FloatRules) -> dict[str, int]:
    return {
        "fp_rounding": random.randrange(4),
        "fp_flush": random.randrange(2),
        "fp_default_nan": random.randrange(2),
        "fp_flags": random.choice((0, 0x9F, random.randrange(256) & 0x9F)),
        "fp_rules": rules.bits,
    }


@pytest.mark.parametrize("rules", [FloatRules(), OTHER_RULES], ids=["arm", "other"])
@pytest.mark.parametrize(("name", "fmt", "make"), list(rows()), ids=lambda x: x if isinstance(x, str) else "")
def test_against_the_oracle(harness: ForeignHarness, name: str, fmt: Format, make: Make, rules: FloatRules) -> None:
    random = Random(name)
    for _ in range(60):
        values = (integer_range if "int" in name and random.random() < 0.7 else operands)(random, fmt, 3)
        check(program(make, values, fmt, environment(random, rules)), harness)


@pytest.mark.parametrize(("name", "fmt", "make"), list(rows()), ids=lambda x: x if isinstance(x, str) else "")
def test_nothing_is_called(harness: ForeignHarness, name: str, fmt: Format, make: Make) -> None:
    harness.run(program(make, ordinary(fmt), fmt, {}))
    assert harness.called == []
    harness.run(program(make, ordinary(fmt), fmt, {"fp_rules": OTHER_RULES.bits}))
    assert len(harness.called) == name.count("mla") + 1


@pytest.mark.parametrize("target", [Type.F32, Type.F64])
@pytest.mark.parametrize("source", [Type.I32, Type.I64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("fraction", [0, 1, 32])
@pytest.mark.parametrize("rounding", [Rounding.CURRENT, Rounding.NEAREST])
def test_from_int(
    harness: ForeignHarness, source: Type, target: Type, signed: bool, fraction: int, rounding: Rounding
) -> None:
    random = Random(f"{source}{target}{signed}{fraction}{rounding}")
    for _ in range(30):
        bits = random.randrange(1, source.bits + 1)
        value = random.getrandbits(bits) * random.choice((1, -1)) & (1 << source.bits) - 1
        b = Builder(Type.I32)
        field = LAYOUT.fields["r0" if source is Type.I32 else "q0"]
        result = b.itof(b.get(field), target, IntToFloat(signed, fraction, rounding))
        b.set(LAYOUT.fields["s3" if target is Type.F32 else "d3"], result)
        state = bytearray(LAYOUT.size)
        state[field.offset : field.offset + field.type.size] = value.to_bytes(field.type.size, "little")
        check(Program(b, bytes(state), environment(random, FloatRules()), b"", (), 0), harness)
        assert harness.called == []


@pytest.mark.parametrize("fraction", [1, 16, 32])
def test_to_fixed_point(harness: ForeignHarness, fraction: int) -> None:
    random = Random(fraction)
    for fmt in (F32, F64):
        for signed in (False, True):
            how = FloatToInt(signed, Rounding.ZERO, fraction)
            for _ in range(30):
                values = (*integer_range(random, fmt, 1), 0, 0)
                made = program(
                    lambda b, v, how=how: b.ftoi(v[0], Type.I32, how), values, fmt, environment(random, FloatRules())
                )
                check(made, harness)
                assert harness.called == []


def test_a_mode_that_an_instruction_sets_holds_for_what_follows(harness: ForeignHarness) -> None:
    """Within one guest instruction: upwards, then flags cleared, downwards, and flags read."""
    b = Builder(Type.I32)
    third = b.get(LAYOUT.fields["s0"])
    b.set(COMMON["fp_rounding"], 1)
    b.set(LAYOUT.fields["s2"], b.fmul(third, third))
    b.set(LAYOUT.fields["r1"], b.get(COMMON["fp_flags"]))
    b.set(COMMON["fp_flags"], 0)
    b.set(LAYOUT.fields["r2"], b.get(COMMON["fp_flags"]))
    b.set(COMMON["fp_rounding"], 2)
    b.set(LAYOUT.fields["s3"], b.fmul(third, third))
    b.set(LAYOUT.fields["r3"], b.get(COMMON["fp_flags"]))
    state = bytearray(LAYOUT.size)
    offset = LAYOUT.fields["s0"].offset
    state[offset : offset + 4] = (0x3EAAAAAB).to_bytes(4, "little")
    made = Program(b, bytes(state), {"fp_flags": 2}, b"", (), 0)
    check(made, harness)
    result = harness.run(made).state
    up, down = (result[LAYOUT.fields[name].offset :][:4] for name in ("s2", "s3"))
    assert int.from_bytes(up, "little") == int.from_bytes(down, "little") + 1
