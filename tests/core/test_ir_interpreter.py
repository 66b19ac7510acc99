# SPDX-License-Identifier: Apache-2.0
"""The interpreter, where the shipped programs do not reach: completeness, limits, callees, flags by definition."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.ir.builder import Builder, Value, native, python, routine
from raddle.ir.header import COMMON
from raddle.ir.interpreter import (
    COVERED,
    CpuState,
    InterpreterError,
    Leave,
    MemoryFault,
    Outcome,
    compare,
    holds,
    interpret,
)
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.types import Align, Condition, FlagCondition, MemOp, StateLayout, Type
from raddle.testing.ir_programs import LAYOUT, ArenaMemory

R0, R1, C = LAYOUT.fields["r0"], LAYOUT.fields["r1"], LAYOUT.fields["c"]
BITS32 = st.integers(0, 0xFFFFFFFF)


def builder() -> Builder:
    return Builder(Type.I32, LAYOUT.nzcv)


def start() -> CpuState:
    return CpuState(bytearray(LAYOUT.size))


def test_every_operation_is_covered() -> None:
    assert set(TABLE) == COVERED
    assert set(TABLE) == set(Op)


@given(BITS32, BITS32, st.integers(0, 1), st.sampled_from([Op.ADD, Op.SUB, Op.ADC, Op.SBC]))
def test_flags_by_definition(a: int, b: int, carry: int, op: Op) -> None:
    def signed(value: int) -> int:
        return value - (1 << 32) if value >> 31 else value

    function = builder()
    x, y = function.get(R0), function.get(R1)
    result: Value = {
        Op.ADD: lambda: function.add(x, y),
        Op.SUB: lambda: function.sub(x, y),
        Op.ADC: lambda: function.adc(x, y, function.get(C)),
        Op.SBC: lambda: function.sbc(x, y, function.get(C)),
    }[op]()
    function.set(R0, result)
    function.set_nzcv(result)
    cpu = start()
    for field, value in ((R0, a), (R1, b), (C, carry)):
        cpu.write(field, value)
    interpret(function, cpu, ArenaMemory(b""))
    if op in (Op.ADD, Op.ADC):
        extra = carry if op is Op.ADC else 0
        whole, exact, carries = a + b + extra, signed(a) + signed(b) + extra, a + b + extra > 0xFFFFFFFF
    else:
        borrow = 1 - carry if op is Op.SBC else 0
        whole, exact, carries = a - b - borrow, signed(a) - signed(b) - borrow, a >= b + borrow
    n, z, c, v = (cpu.read(LAYOUT.fields[name]) for name in "nzcv")
    assert cpu.read(R0) == whole & 0xFFFFFFFF
    assert (n, z) == (cpu.read(R0) >> 31, cpu.read(R0) == 0)
    assert (c, v) == (carries, not -(1 << 31) <= exact < 1 << 31)


def test_flag_conditions_by_definition() -> None:
    for n, z, c, v in product((0, 1), repeat=4):
        expected = {
            FlagCondition.EQ: z,
            FlagCondition.CS: c,
            FlagCondition.MI: n,
            FlagCondition.VS: v,
            FlagCondition.HI: c and not z,
            FlagCondition.GE: n == v,
            FlagCondition.GT: not z and n == v,
        }
        for condition, value in expected.items():
            assert holds(condition, n, z, c, v) is bool(value)
            assert holds(FlagCondition(condition ^ 1), n, z, c, v) is not bool(value)


@given(BITS32, BITS32)
def test_conditions_and_their_negations(a: int, b: int) -> None:
    for condition in Condition:
        assert compare(condition, a, b, 32) is not compare(Condition(condition ^ 1), a, b, 32)
    assert compare(Condition.ULT, a, b, 32) is (a < b)
    assert compare(Condition.SLT, a, b, 32) is (a ^ 1 << 31 < b ^ 1 << 31)
    assert compare(Condition.ULE, a, b, 32) is (a <= b)


def test_a_program_without_end_is_stopped() -> None:
    function = builder()
    label = function.label()
    function.bind(label)
    function.br(label)
    with pytest.raises(InterpreterError, match="step limit"):
        interpret(function, start(), ArenaMemory(b""), steps=1000)


def test_an_index_out_of_range_is_the_programs_fault() -> None:
    function = builder()
    function.get_at(LAYOUT.arrays["r"], function.get(R0))
    cpu = start()
    cpu.write(R0, 8)
    with pytest.raises(InterpreterError, match="r has no element 8"):
        interpret(function, cpu, ArenaMemory(b""))


def test_flags_that_the_guest_does_not_have() -> None:
    function = Builder()
    function.cond(FlagCondition.EQ)
    with pytest.raises(InterpreterError, match="no N, Z, C and V"):
        interpret(function, start(), ArenaMemory(b""))


def test_python_and_native_callees_get_the_cpu_and_the_arguments() -> None:
    seen: list[tuple[int, ...]] = []

    def helper(cpu: CpuState, *args: int) -> int | None:
        seen.append(args)
        cpu.write(R1, cpu.read(R1) + 1)
        return -1 if len(args) == 2 else None

    function = builder()
    value = function.call(python("helper"), function.get(R0), 5, type=Type.I32)
    function.set(R0, value)
    function.call(native("helper"))
    cpu = start()
    assert interpret(function, cpu, ArenaMemory(b""), callees={"helper": helper}) == Outcome(Leave.NEXT)
    assert seen == [(0, 5), ()]
    assert (cpu.read(R0), cpu.read(R1)) == (0xFFFFFFFF, 2)


def test_a_callee_that_exits() -> None:
    def helper(cpu: CpuState) -> None:
        cpu.write(COMMON["exit_now"], 1)

    for may_exit in (False, True):
        function = builder()
        function.call(python("helper", may_exit=may_exit))
        function.set(R0, 1)
        cpu = start()
        outcome = interpret(function, cpu, ArenaMemory(b""), callees={"helper": helper})
        assert outcome.how is (Leave.EXIT if may_exit else Leave.NEXT)
        assert cpu.read(R0) == int(not may_exit)


def test_callees_that_are_missing_or_of_another_kind() -> None:
    function = builder()
    function.call(routine("nothing"))
    with pytest.raises(InterpreterError, match="there is no callee 'nothing'"):
        interpret(function, start(), ArenaMemory(b""))
    body = builder()
    body.ret()
    function = builder()
    function.call(native("body"))
    with pytest.raises(InterpreterError, match="body is a routine, called as native"):
        interpret(function, start(), ArenaMemory(b""), callees={"body": body})


def test_a_fault_in_a_routine_ends_the_whole_run() -> None:
    body = builder()
    body.store(8, 1, MemOp(4), 0, Type.I32)
    body.ret()
    function = builder()
    function.call(routine("body"))
    function.set(R0, 1)
    cpu = start()
    outcome = interpret(function, cpu, ArenaMemory(b""), callees={"body": body})
    assert outcome == Outcome(Leave.FAULT, 8, 1)
    assert cpu.read(R0) == 0


def test_an_atomic_operation_needs_to_write() -> None:
    class ReadOnly(ArenaMemory):
        def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
            raise MemoryFault(address, 1)

    function = builder()
    address = 0x4000_0000
    old = function.const(1)
    function.atomic_cmpxchg(address, old, function.const(2), MemOp(4, align=Align.NATURAL), 0)
    assert interpret(function, start(), ReadOnly(bytes(16))).access == 1


def test_fields_of_all_types_are_moved() -> None:
    layout = StateLayout()
    narrow, wide, other = layout.field("a", Type.I1), layout.field("b", Type.F64), layout.field("c", Type.F64)
    vector = layout.field("d", Type.V128)
    function = Builder()
    function.set(other, function.get(wide))
    cpu = CpuState(bytearray(layout.size))
    cpu.write(wide, 1 << 63 | 5)
    cpu.write(vector, 1 << 127 | 5)
    cpu.state[narrow.offset] = 0xFF
    interpret(function, cpu, ArenaMemory(b""))
    assert cpu.read(other) == 1 << 63 | 5
    assert cpu.read(vector) == 1 << 127 | 5
    assert cpu.read(narrow) == 1


def test_no_reservation_stands_at_first() -> None:
    assert start().read(COMMON["exclusive_address"]) == (1 << 64) - 1
    assert start().read(COMMON["pc"]) == 0
