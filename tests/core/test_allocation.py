# SPDX-License-Identifier: Apache-2.0
"""What register allocation promises to the emitters of a host: whose register a result gets, and of which class."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raddle.codegen.allocation import Allocation, Allocator, CodegenError, RegisterPool
from raddle.codegen.code_buffer import CodeBuffer
from raddle.codegen.locations import FRAME_SLOTS, Register, RegisterClass, Slot
from raddle.codegen.renaming import Forms, Operands
from raddle.ir.builder import Builder, Instruction
from raddle.ir.opcodes import Op
from raddle.ir.types import StateLayout, Type

GENERAL = RegisterClass("general", 8)
VECTOR = RegisterClass("vector", 8)
SCRATCH, VECTOR_SCRATCH, PIN, VECTOR_PIN = 7, 6, 5, 4
FLOATS = (Type.F32, Type.F64)

STATE = StateLayout()
A, B = (STATE.field(name, Type.I32) for name in "ab")
X, Y = (STATE.field(name, Type.F64) for name in "xy")


class Host(Allocator):
    """Compiles nothing; values are general registers 0 and 1, floats vector registers 0 to 2."""

    def __init__(self, allocation: Allocation = Allocation.USUAL, calls: tuple[Op, ...] = (), floats: int = 3) -> None:
        self.allocation = allocation
        self.call_operations = calls
        self.state_layout = STATE
        self.pinned = {A.offset: GENERAL[PIN], X.offset: VECTOR[VECTOR_PIN]}
        self.general = RegisterPool(GENERAL, (0, 1), SCRATCH, preserved=(1,))
        self.vector = RegisterPool(VECTOR, range(floats), VECTOR_SCRATCH)
        self.pools = {GENERAL: self.general, VECTOR: self.vector}
        self.stored: list[tuple[Slot, Register]] = []

    def pool(self, ins: Instruction) -> RegisterPool:
        return self.vector if ins.type in FLOATS else self.general

    def store_slot(self, slot: Slot, register: Register) -> None:
        self.stored.append((slot, register))

    def start(self, b: Builder) -> None:
        self.analyse(b.code)
        self.begin_allocation(len(b.locals))

    def place(self, ins: Instruction, consumed: bool = True) -> object:
        """Emit what is up to and with `ins`; where that is."""
        self.position = ins.position
        if ins.op is Op.GET:
            self.define(ins)
        elif ins.type is not Type.VOID:
            self.define(ins, ins.args if consumed else ())
        self.settle(ins)
        self.release(ins, ins.position)
        return ins.location


def function() -> Builder:
    return Builder(Type.I32)


def binary(kept: int = -1) -> tuple[Builder, SimpleNamespace]:
    """A sum whose operands die there, but for the one numbered `kept`; both are in registers."""
    b = function()
    v = SimpleNamespace(a=b.get(B), b=b.get(B))
    v.sum = b.add(v.a, v.b)
    b.set(B, v.sum)
    if kept >= 0:
        b.set(B, (v.a, v.b)[kept])
    return b, v


def placed(host: Host, b: Builder, v: SimpleNamespace, consumed: bool) -> tuple[object, object, object]:
    host.start(b)
    return host.place(v.a), host.place(v.b), host.place(v.sum, consumed)


def test_a_result_shares_no_register_that_the_emitter_has_not_declared() -> None:
    """Two registers, both operands': the sum has none, and is spilled."""
    b, v = binary()
    host = Host()
    *operands, result = placed(host, b, v, consumed=False)
    assert operands == [GENERAL[0], GENERAL[1]]
    assert isinstance(result, Slot)
    assert host.stored == [(result, GENERAL[SCRATCH])]


def test_a_result_shares_the_register_of_a_consumed_operand_that_dies() -> None:
    b, v = binary()
    assert placed(Host(), b, v, consumed=True)[2] is GENERAL[0]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_result_shares_no_register_of_an_operand_that_lives_on(kept: int) -> None:
    b, v = binary(kept)
    assert placed(Host(), b, v, consumed=True)[2] is GENERAL[1 - kept]


def test_registers_of_operands_are_given_back_once() -> None:
    b, v = binary()
    host = Host()
    placed(host, b, v, consumed=True)
    assert host.general.free == [GENERAL[1]]
    placed(host, b, v, consumed=False)
    assert set(host.general.free) == {GENERAL[0], GENERAL[1]}


def test_the_same_operand_twice() -> None:
    b = function()
    value = b.get(B)
    double = b.add(value, value)
    b.set(B, double)
    host = Host()
    host.start(b)
    assert (host.place(value), host.place(double)) == (GENERAL[0], GENERAL[0])
    assert host.general.free == [GENERAL[1]]


@pytest.mark.parametrize(("consumed", "register"), [(True, PIN), (False, 1)])
def test_a_pinned_field_is_computed_in_place_unless_an_operand_is_there(consumed: bool, register: int) -> None:
    b = function()
    old = b.get(A)
    other = b.get(B)
    new = b.sub(other, old)
    b.set(A, new)
    host = Host()
    host.start(b)
    old.location = GENERAL[PIN]  # as a host does with what it need not copy
    host.place(other)
    assert host.place(new, consumed) is GENERAL[register]


# -- the choices for tests ---------------------------------------------------------------------------------------------


def test_sharing_takes_the_last_operand_that_it_can() -> None:
    b, v = binary()
    assert placed(Host(Allocation.SHARING), b, v, consumed=True)[2] is GENERAL[1]
    b, v = binary(kept=1)
    assert placed(Host(Allocation.SHARING), b, v, consumed=True)[2] is GENERAL[0]


def test_apart_shares_nothing() -> None:
    b, v = binary()
    assert isinstance(placed(Host(Allocation.APART), b, v, consumed=True)[2], Slot)


def test_spilling_leaves_registers_alone() -> None:
    b, v = binary()
    assert all(isinstance(place, Slot) for place in placed(Host(Allocation.SPILLING), b, v, consumed=True))


# -- classes -----------------------------------------------------------------------------------------------------------


def test_each_class_has_its_own_registers() -> None:
    b = function()
    values = [b.get(field) for field in (B, Y, B, Y)]
    sums = [b.add(values[0], values[2]), b.fadd(values[1], values[3])]
    for value, field in zip(sums, (B, Y), strict=True):
        b.set(field, value)
    host = Host()
    host.start(b)
    assert [host.place(value) for value in values] == [GENERAL[0], VECTOR[0], GENERAL[1], VECTOR[1]]
    assert [host.place(value, consumed=False) for value in sums][1] is VECTOR[2]
    assert host.vector.is_free(0)
    assert not host.vector.is_free(2)


def test_a_class_without_a_free_register_spills_by_its_own_scratch_register() -> None:
    b = function()
    values = [b.get(Y) for _ in range(3)]
    total = b.fadd(b.fadd(values[0], values[1]), values[2])
    b.set(Y, total)
    host = Host(floats=2)
    host.start(b)
    places = [host.place(value) for value in values]
    assert places[:2] == [VECTOR[0], VECTOR[1]]
    assert host.stored == [(places[2], VECTOR[VECTOR_SCRATCH])]
    assert len(host.general.free) == 2


def test_a_field_that_is_pinned_in_another_class_is_no_place_for_the_result() -> None:
    """A float that a host pins in a vector register: its bits, computed as an integer, are moved there afterwards."""
    b = function()
    integer = b.mul(b.get(B), b.get(B))
    b.set(A, integer)
    for pin, place in ((GENERAL[PIN], GENERAL[PIN]), (VECTOR[VECTOR_PIN], GENERAL[0])):
        host = Host()
        host.pinned = {A.offset: pin}
        host.start(b)
        for value in integer.args:
            host.place(value)
        assert host.place(integer) is place


def test_a_value_over_a_call_has_a_register_that_calls_preserve() -> None:
    """The vector class has none."""
    b = function()
    values = [b.get(B), b.get(B), b.get(Y)]
    called = b.fsqrt(b.get(Y))
    b.set(Y, b.fadd(called, values[2]))
    b.set(B, b.add(values[0], values[1]))
    host = Host(calls=(Op.FSQRT,))
    host.start(b)
    places = [host.place(value) for value in values]
    assert places[0] is GENERAL[1]
    assert host.preserved_used == {GENERAL[1]}
    assert all(isinstance(place, Slot) for place in places[1:])


def test_slots_are_as_large_as_their_values() -> None:
    host = Host()
    host.start(function())
    numbers = [host.slot(size).number for size in (8, 16, 1, 8)]
    assert numbers == [1, 2, 4, 5]
    for _ in range(numbers[-1] + 1, FRAME_SLOTS):
        host.slot()
    with pytest.raises(CodegenError, match="more values at a time"):
        host.slot()


# -- renaming ----------------------------------------------------------------------------------------------------------


def move(assembler: CodeBuffer, *operands: int) -> None:
    """From a vector register to a general one."""
    assembler.code += bytes(operands)


def test_registers_of_each_class_are_renamed_in_operands_of_that_class() -> None:
    """Operands 0 and 1 are equal numbers of different classes, of which one stands for a guest register."""
    declared = {move: Operands(((0, GENERAL), (1, VECTOR)))}
    trace = [(code := bytearray(), 0, 2, move, (4, 4))]
    for place, renamed in ((GENERAL[4], b"\7\4"), (VECTOR[4], b"\4\7")):
        forms = Forms(declared, PIN, CodeBuffer)
        assert forms.cuts(code, trace, {place: 0})
        assert forms.encode(0, [place.register_class[7]]) == renamed
    assert Forms(declared, PIN, CodeBuffer).cuts(code, trace, {VECTOR[5]: 0}) == b""


def test_slots_of_dead_values_are_used_again() -> None:
    """However many values a function spills one after the other, it needs as many slots as live at a time."""
    b = function()
    kept = [b.get(B), b.get(B)]
    spilled = []
    for _ in range(2 * FRAME_SLOTS):
        value = b.get(B)
        spilled.append(value)
        b.set(B, value)
    for value in kept:
        b.set(B, value)
    host = Host()
    host.start(b)
    places = {host.place(ins) for ins in b.code if ins in spilled or ins in kept or ins.op is Op.SET}
    slots = [place for place in places if isinstance(place, Slot)]
    assert len(slots) == 1
    assert host.frame_used == 2


def test_a_slot_is_not_used_again_while_its_value_lives() -> None:
    b = function()
    values = [b.get(B) for _ in range(5)]
    for value in values:
        b.set(B, value)
    host = Host()
    host.start(b)
    places = [host.place(ins) for ins in b.code]
    assert len(set(places[:5])) == 5


def test_the_slot_of_captured_flags_is_not_used_again() -> None:
    """`Op.SET_NZCV` has its flags in a slot, and a loop may come back to it."""
    b = function()
    total = b.add(b.get(B), b.get(B))
    b.set_nzcv(total)
    values = [b.get(B) for _ in range(4)]
    for value in values:
        b.set(B, value)
    host = Host()
    host.start(b)
    reader = b.code[3]
    assert reader.op is Op.SET_NZCV
    reader.location = flags = host.slot()
    host.release(reader, reader.position)
    places = [host.place(ins) for ins in b.code if ins is not reader]
    assert any(isinstance(place, Slot) for place in places)
    assert flags not in places
