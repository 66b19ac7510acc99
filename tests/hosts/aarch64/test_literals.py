# SPDX-License-Identifier: Apache-2.0
"""Literals of which something is known (`BackEnd.literal_kinds`): the shorter code for them, with all values."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import capstone
import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.ir.builder import Builder, Value
from raddle.ir.types import ANY_LITERAL, Condition, Hole, LiteralKind, Type
from raddle.testing.foreign_harness import ForeignHarness, Runner
from raddle.testing.generate import Program
from raddle.testing.host_contract import check
from raddle.testing.ir_programs import LAYOUT
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE

KINDS = [*AArch64BackEnd.literal_kinds, LiteralKind(-0xFFF, 0xFFF), LiteralKind(*ANY_LITERAL)]
FIELDS = {Type.I32: ("r0", "r1"), Type.I64: ("q0", "q1")}
Make = Callable[[Builder, Value, Value], Value]


def _subtract_with_flags(b: Builder, x: Value, literal: Value) -> Value:
    result = b.sub(x, literal)
    b.set_nzcv(result)
    return result


def _add_with_flags(b: Builder, x: Value, literal: Value) -> Value:
    result = b.add(x, literal)
    b.set_nzcv(result)
    return result


MAKE: dict[str, tuple[Make, list[int]]] = {
    "add": (lambda b, x, literal: b.add(x, literal), [1, 2, 1, 1, 2, 2, 2, 3]),
    "sub": (lambda b, x, literal: b.sub(x, literal), [1, 2, 1, 1, 2, 2, 2, 3]),
    "add with flags": (_add_with_flags, [1, 2, 1, 1, 2, 2, 3, 3]),
    "subtract with flags": (_subtract_with_flags, [1, 2, 1, 1, 2, 2, 3, 3]),
    "subtract from": (lambda b, x, literal: b.sub(literal, x), [2, 2, 2, 3, 2, 3, 3, 3]),
    "and": (lambda b, x, literal: b.and_(x, literal), [2, 2, 2, 3, 2, 3, 3, 3]),
    "move": (lambda b, x, literal: literal, [1, 1, 1, 2, 1, 2, 2, 2]),
}
"""How it is used, and how many host instructions that takes for each of the kinds, with 32 bits."""


def function(name: str, kind: LiteralKind, type: Type) -> Builder:
    target, source = (LAYOUT.fields[field] for field in FIELDS[type])
    b = Builder(type, LAYOUT.nzcv)
    literal = b.const(Hole(0, "literal", lambda: kind[:2], step=kind.step), type)
    b.set(target, MAKE[name][0](b, b.get(source), literal))
    return b


@pytest.mark.peer("qemu-aarch64")
@pytest.mark.cross("aarch64-linux-gnu-gcc")
@pytest.mark.parametrize("condition", [Condition.ULT, Condition.UGE, Condition.ULE, Condition.UGT], ids=str)
def test_a_negative_literal_is_large_in_an_unsigned_comparison(runner: Runner, condition: Condition) -> None:
    """With 32 bits it is a difference of 64, for which the literal is zero-extended."""
    harness = ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)
    for literal in (-256, -170, -1, 0, 255):
        for x in (0, 1, 0xFFFF_FF56, 0xFFFF_FFFF):
            b = Builder(Type.I32, LAYOUT.nzcv)
            hole = b.const(Hole(0, "literal", lambda: (-256, 255)), Type.I32)
            b.set(LAYOUT.fields["b1"], b.icmp(condition, b.get(LAYOUT.fields["r0"]), hole))
            state = bytearray(LAYOUT.size)
            state[: Type.I32.size] = x.to_bytes(4, "little")
            check(Program(b, bytes(state), {}, b"", (literal & 0xFFFF_FFFF,), 0x8000), harness)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", MAKE)
def test_it_takes_so_many_instructions(name: str, kind: LiteralKind) -> None:
    backend = AArch64BackEnd(CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0), BASELINE)
    made = function(name, kind, Type.I32)
    hot = backend.template(made.code, made.locals, 4, 0, 0).variant(0, False).hot
    listed = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN).disasm(hot, 0)
    assert len(list(listed)) == MAKE[name][1][KINDS.index(kind)]


@pytest.mark.peer("qemu-aarch64")
@pytest.mark.cross("aarch64-linux-gnu-gcc")
@pytest.mark.parametrize("type", FIELDS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", MAKE)
def test_it_is_what_the_interpreter_says(runner: Runner, name: str, kind: LiteralKind, type: Type) -> None:
    harness = ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)
    random = Random(f"{name} {kind} {type}")
    steps = kind.high // kind.step
    least = -(-kind.low // kind.step)
    source = LAYOUT.fields[FIELDS[type][1]]
    for value in (least, steps, 0, *(random.randint(least, steps) for _ in range(3))):
        for x in (0, (1 << type.bits - 1) - 1, random.getrandbits(type.bits)):
            state = bytearray(LAYOUT.size)
            state[source.offset : source.offset + type.size] = x.to_bytes(type.size, "little")
            made = function(name, kind, type)
            check(Program(made, bytes(state), {}, b"", (value * kind.step & 0xFFFFFFFF,), 0x8000), harness)
