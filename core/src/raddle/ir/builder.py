# SPDX-License-Identifier: Apache-2.0
"""Building IR: values, labels, callees, and the ``Builder`` that front ends write their semantics with.

An SSA value is the ``Instruction`` that defines it. A function is a flat list of instructions in which ``LABEL``
starts a basic block; control reaches a label by ``br``, ``brcond`` or by falling through. Falling off the end means
"the next guest instruction". A value may be used in every block that its definition dominates *and* that stands after
it in the list; what must change in a loop or differ by path is a ``Local``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, FieldArray, FlagCondition, Hole, MemOp, Type

if TYPE_CHECKING:
    from raddle.ordering import MemoryOrder


class Location:
    """Where a back end keeps a value; see `raddle.codegen.locations` for the kinds."""

    __slots__ = ()


class Instruction:
    """One operation, and the value that it yields (``type`` is VOID if none).

    ``type`` is the type that the operation works in; for opcodes whose result type differs from it (``icmp`` …) it is
    the result's. ``position``, ``last_use``, ``uses`` and ``location`` belong to whoever processes the function at the
    moment (allocator, printer): its place in the list, the place of its last use, how many uses, and where it is kept,
    None for constants and holes and for values that have not been computed.
    """

    __slots__ = ("args", "aux", "last_use", "location", "op", "position", "type", "uses")

    def __init__(self, op: Op, type: Type, args: tuple[Instruction, ...] = (), aux: object = None) -> None:
        self.op = op
        self.type = type
        self.args = args
        self.aux = aux
        self.position = -1
        self.last_use = -1
        self.uses = 0
        self.location: Location | None = None

    def __repr__(self) -> str:
        return f"<{self.op.name.lower()}.{self.type.name.lower()} {self.aux!r}>"


Value = Instruction
Operand = Instruction | int | Hole


class Label:
    """A place in the function; ``bound`` once a LABEL instruction stands for it. ``rare``: see ``Builder.rarely``."""

    __slots__ = ("bound", "name", "rare")

    def __init__(self, name: str = "", rare: bool = False) -> None:
        self.name = name
        self.bound = False
        self.rare = rare

    def __repr__(self) -> str:
        return self.name or "label"


class Local:
    """A mutable variable of one function, for what SSA values cannot carry round a loop or out of a branch."""

    __slots__ = ("index", "name", "type")

    def __init__(self, index: int, type: Type, name: str = "") -> None:
        self.index = index
        self.type = type
        self.name = name

    def __repr__(self) -> str:
        return self.name or f"local{self.index}"


@dataclass(frozen=True, slots=True)
class MemAccess:
    """A memory operation with the MMU index that it goes through."""

    memop: MemOp
    mmu_index: int


class FloatCompare(IntEnum):
    """Whether ``fcmp`` raises invalid for quiet NaNs too."""

    QUIET = 0
    SIGNALLING = 1


class Rounding(IntEnum):
    """Rounding of ``ftoi``; the first four are also the values of the common field ``fp_rounding``."""

    NEAREST = 0
    UP = 1
    DOWN = 2
    ZERO = 3
    CURRENT = 4


@dataclass(frozen=True, slots=True)
class FloatToInt:
    """A ``signed`` result of ``width`` bits (16 or 32, extended), scaled by 2**``fraction`` before rounding."""

    signed: bool
    rounding: Rounding
    fraction: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class IntToFloat:
    """``signed`` operand, divided by 2**``fraction``."""

    signed: bool
    fraction: int = 0
    rounding: Rounding = Rounding.CURRENT


class CalleeKind(IntEnum):
    NATIVE = 0
    ROUTINE = 1
    PYTHON = 2


_KIND_NAMES = {
    CalleeKind.NATIVE: "native helper",
    CalleeKind.ROUTINE: "routine",
    CalleeKind.PYTHON: "Python helper",
}


@dataclass(frozen=True, slots=True)
class Callee:
    """Something that IR can call, by kind and name; the machine resolves names when it is built.

    Up to four integer arguments; one i64 result (truncated to the call's type). ``may_exit``: when the callee returns
    with the CPU's ``exit_now`` field set, the block is left at once for the execution loop.
    ``pure_state``: the callee neither reads nor writes guest state fields.
    """

    kind: CalleeKind
    name: str
    may_exit: bool = False
    pure_state: bool = False

    @property
    def description(self) -> str:
        """Kind and name, for messages."""
        return f"{_KIND_NAMES[self.kind]} {self.name!r}"


def native(name: str, *, may_exit: bool = False, pure_state: bool = False) -> Callee:
    """A C function of the runtime, listed in ``raddle.runtime.helpers``."""
    return Callee(CalleeKind.NATIVE, name, may_exit, pure_state)


def routine(name: str, *, may_exit: bool = False) -> Callee:
    """An IR routine of the target."""
    return Callee(CalleeKind.ROUTINE, name, may_exit)


def python(name: str, *, may_exit: bool = True) -> Callee:
    """A Python function of the target, called as ``function(cpu, *args) -> int | None`` with the GIL held."""
    return Callee(CalleeKind.PYTHON, name, may_exit)


class Builder:
    """Appends instructions to ``code``. Not thread-safe: one builder, one thread.

    ``word`` is the guest's address type. Python ints and holes are taken as operands wherever a value is; they get the
    type of the operation (ints are reduced modulo its width).
    """

    def __init__(self, word: Type = Type.I32, nzcv: tuple[Field, Field, Field, Field] | None = None) -> None:
        self.word = word
        self.nzcv = nzcv
        self.code: list[Instruction] = []
        self.locals: list[Local] = []

    # -- plumbing ------------------------------------------------------------------------------------------------------

    def _emit(self, op: Op, type: Type, args: tuple[Instruction, ...] = (), aux: object = None) -> Instruction:
        instruction = Instruction(op, type, args, aux)
        self.code.append(instruction)
        return instruction

    def value(self, operand: Operand, type: Type) -> Value:
        """``operand`` as a value of ``type``. Raises TypeError when it is a value of another type."""
        if isinstance(operand, Instruction):
            if operand.type is not type:
                raise TypeError(f"{operand!r} stands where {type.name.lower()} is wanted")
            return operand
        if isinstance(operand, Hole):
            return Instruction(Op.HOLE, type, (), operand)
        return Instruction(Op.CONST, type, (), operand & ((1 << type.bits) - 1))

    def const(self, value: int | Hole, type: Type | None = None) -> Value:
        """A constant (no instruction of its own) of ``type``, by default the guest's word."""
        return self.value(value, self.word if type is None else type)

    def _type_of(self, a: Operand, b: Operand, type: Type | None) -> Type:
        if type is not None:
            return type
        if isinstance(a, Instruction):
            return a.type
        if isinstance(b, Instruction):
            return b.type
        return self.word

    def _binary(self, op: Op, a: Operand, b: Operand, type: Type | None) -> Value:
        t = self._type_of(a, b, type)
        return self._emit(op, t, (self.value(a, t), self.value(b, t)))

    def _unary(self, op: Op, a: Operand, type: Type | None = None) -> Value:
        t = self._type_of(a, 0, type)
        return self._emit(op, t, (self.value(a, t),))

    def _shift(self, op: Op, a: Operand, n: Operand, type: Type | None) -> Value:
        t = self._type_of(a, 0, type)
        return self._emit(op, t, (self.value(a, t), self.value(n, Type.I32)))

    # -- state and locals ----------------------------------------------------------------------------------------------

    def pc(self, offset: int = 0, hole: Hole | None = None) -> Value:
        """The address of this guest instruction plus ``offset`` (plus the literal ``hole``), modulo the word."""
        args = () if hole is None else (self.value(hole, self.word),)
        return self._emit(Op.PC, self.word, args, offset)

    def get(self, field: Field) -> Value:
        return self._emit(Op.GET, field.type, (), field)

    def set(self, field: Field, value: Operand) -> None:
        self._emit(Op.SET, field.type, (self.value(value, field.type),), field)

    def get_at(self, array: FieldArray, index: Operand) -> Value:
        return self._emit(Op.GET_AT, array.type, (self.value(index, Type.I32),), array)

    def set_at(self, array: FieldArray, index: Operand, value: Operand) -> None:
        self._emit(Op.SET_AT, array.type, (self.value(index, Type.I32), self.value(value, array.type)), array)

    def local(self, type: Type, initial: Operand | None = None, name: str = "") -> Local:
        """A new mutable variable of this function (I1, I32 or I64)."""
        local = Local(len(self.locals), type, name)
        self.locals.append(local)
        if initial is not None:
            self.assign(local, initial)
        return local

    def read(self, local: Local) -> Value:
        return self._emit(Op.LOCAL_GET, local.type, (), local)

    def assign(self, local: Local, value: Operand) -> None:
        self._emit(Op.LOCAL_SET, local.type, (self.value(value, local.type),), local)

    def set_nzcv(self, value: Value) -> None:
        """Set all four flags from the add, sub, adc or sbc that yields ``value``."""
        self._emit(Op.SET_NZCV, value.type, (value,))

    def set_nz(self, value: Value) -> None:
        self._emit(Op.SET_NZ, value.type, (value,))

    def cond(self, condition: FlagCondition) -> Value:
        return self._emit(Op.COND, Type.I1, (), condition)

    # -- integer -------------------------------------------------------------------------------------------------------

    def add(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.ADD, a, b, type)

    def sub(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.SUB, a, b, type)

    def adc(self, a: Operand, b: Operand, carry: Operand, type: Type | None = None) -> Value:
        t = self._type_of(a, b, type)
        return self._emit(Op.ADC, t, (self.value(a, t), self.value(b, t), self.value(carry, Type.I1)))

    def sbc(self, a: Operand, b: Operand, carry: Operand, type: Type | None = None) -> Value:
        t = self._type_of(a, b, type)
        return self._emit(Op.SBC, t, (self.value(a, t), self.value(b, t), self.value(carry, Type.I1)))

    def and_(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.AND, a, b, type)

    def or_(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.OR, a, b, type)

    def xor(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.XOR, a, b, type)

    def not_(self, a: Operand, type: Type | None = None) -> Value:
        return self._unary(Op.NOT, a, type)

    def neg(self, a: Operand) -> Value:
        return self._unary(Op.NEG, a)

    def mul(self, a: Operand, b: Operand, type: Type | None = None) -> Value:
        return self._binary(Op.MUL, a, b, type)

    def umulh(self, a: Operand, b: Operand) -> Value:
        return self._binary(Op.UMULH, a, b, None)

    def smulh(self, a: Operand, b: Operand) -> Value:
        return self._binary(Op.SMULH, a, b, None)

    def udiv(self, a: Operand, b: Operand) -> Value:
        return self._binary(Op.UDIV, a, b, None)

    def sdiv(self, a: Operand, b: Operand) -> Value:
        return self._binary(Op.SDIV, a, b, None)

    def shl(self, a: Operand, n: Operand, type: Type | None = None) -> Value:
        return self._shift(Op.SHL, a, n, type)

    def shr(self, a: Operand, n: Operand, type: Type | None = None) -> Value:
        return self._shift(Op.SHR, a, n, type)

    def sar(self, a: Operand, n: Operand, type: Type | None = None) -> Value:
        return self._shift(Op.SAR, a, n, type)

    def ror(self, a: Operand, n: Operand, type: Type | None = None) -> Value:
        return self._shift(Op.ROR, a, n, type)

    def clz(self, a: Value) -> Value:
        return self._unary(Op.CLZ, a)

    def ctz(self, a: Value) -> Value:
        return self._unary(Op.CTZ, a)

    def popcnt(self, a: Value) -> Value:
        return self._unary(Op.POPCNT, a)

    def bswap(self, a: Value) -> Value:
        return self._unary(Op.BSWAP, a)

    def bitrev(self, a: Value) -> Value:
        return self._unary(Op.BITREV, a)

    def sext8(self, a: Value) -> Value:
        return self._unary(Op.SEXT8, a)

    def sext16(self, a: Value) -> Value:
        return self._unary(Op.SEXT16, a)

    def zext8(self, a: Value) -> Value:
        return self._unary(Op.ZEXT8, a)

    def zext16(self, a: Value) -> Value:
        return self._unary(Op.ZEXT16, a)

    def sext(self, a: Value) -> Value:
        """I32 to I64, sign-extended."""
        return self._emit(Op.SEXT, Type.I64, (a,))

    def zext(self, a: Value, type: Type) -> Value:
        """I1 or I32 to the wider ``type``, zero-extended."""
        return self._emit(Op.ZEXT, type, (a,))

    def trunc(self, a: Value, type: Type) -> Value:
        """Low bits of a wider value: I64 to I32, I64 or I32 to I1."""
        return self._emit(Op.TRUNC, type, (a,))

    def extract(self, a: Value, lsb: int, width: int) -> Value:
        return self._emit(Op.EXTRACT, a.type, (a,), (lsb, width))

    def sextract(self, a: Value, lsb: int, width: int) -> Value:
        return self._emit(Op.SEXTRACT, a.type, (a,), (lsb, width))

    def deposit(self, a: Operand, b: Operand, lsb: int, width: int) -> Value:
        t = self._type_of(a, b, None)
        return self._emit(Op.DEPOSIT, t, (self.value(a, t), self.value(b, t)), (lsb, width))

    def bit(self, a: Value, n: Operand) -> Value:
        """Bit number ``n`` of ``a`` as I1."""
        return self._emit(Op.BIT, Type.I1, (a, self.value(n, Type.I32)))

    def icmp(self, condition: Condition, a: Operand, b: Operand) -> Value:
        t = self._type_of(a, b, None)
        return self._emit(Op.ICMP, Type.I1, (self.value(a, t), self.value(b, t)), condition)

    def eq(self, a: Operand, b: Operand) -> Value:
        return self.icmp(Condition.EQ, a, b)

    def ne(self, a: Operand, b: Operand) -> Value:
        return self.icmp(Condition.NE, a, b)

    def select(self, condition: Value, a: Operand, b: Operand, type: Type | None = None) -> Value:
        t = self._type_of(a, b, type)
        return self._emit(Op.SELECT, t, (condition, self.value(a, t), self.value(b, t)))

    def carry_of(self, result: Value) -> Value:
        return self._emit(Op.CARRY_OF, Type.I1, (result,))

    def overflow_of(self, result: Value) -> Value:
        return self._emit(Op.OVERFLOW_OF, Type.I1, (result,))

    # -- memory --------------------------------------------------------------------------------------------------------

    def load(self, address: Operand, memop: MemOp, mmu_index: int, type: Type = Type.I32) -> Value:
        return self._emit(Op.LOAD, type, (self.value(address, self.word),), MemAccess(memop, mmu_index))

    def store(self, address: Operand, value: Operand, memop: MemOp, mmu_index: int, type: Type | None = None) -> None:
        t = self._type_of(value, 0, type) if type is None else type
        self._emit(Op.STORE, t, (self.value(address, self.word), self.value(value, t)), MemAccess(memop, mmu_index))

    def load_exclusive(self, address: Operand, memop: MemOp, mmu_index: int, type: Type = Type.I32) -> Value:
        return self._emit(Op.LOAD_EXCLUSIVE, type, (self.value(address, self.word),), MemAccess(memop, mmu_index))

    def store_exclusive(self, address: Operand, value: Value, memop: MemOp, mmu_index: int) -> Value:
        """Yields I32: 0 if the store took place, 1 if not. The value may be of another type."""
        args = (self.value(address, self.word), value)
        return self._emit(Op.STORE_EXCLUSIVE, Type.I32, args, MemAccess(memop, mmu_index))

    def clear_exclusive(self) -> None:
        self._emit(Op.CLEAR_EXCLUSIVE, Type.VOID)

    def atomic(self, op: Op, address: Operand, value: Value, memop: MemOp, mmu_index: int) -> Value:
        """``op`` is one of the ATOMIC_XCHG and ATOMIC_FETCH_… opcodes; yields the old value."""
        args = (self.value(address, self.word), value)
        return self._emit(op, value.type, args, MemAccess(memop, mmu_index))

    def atomic_cmpxchg(self, address: Operand, expected: Value, new: Value, memop: MemOp, mmu_index: int) -> Value:
        args = (self.value(address, self.word), expected, new)
        return self._emit(Op.ATOMIC_CMPXCHG, new.type, args, MemAccess(memop, mmu_index))

    def mb(self, order: MemoryOrder) -> None:
        self._emit(Op.MB, Type.VOID, (), order)

    # -- floating point ------------------------------------------------------------------------------------------------

    def bitcast(self, a: Value, type: Type) -> Value:
        return self._emit(Op.BITCAST, type, (a,))

    def fadd(self, a: Value, b: Value) -> Value:
        return self._emit(Op.FADD, a.type, (a, b))

    def fsub(self, a: Value, b: Value) -> Value:
        return self._emit(Op.FSUB, a.type, (a, b))

    def fmul(self, a: Value, b: Value) -> Value:
        return self._emit(Op.FMUL, a.type, (a, b))

    def fdiv(self, a: Value, b: Value) -> Value:
        return self._emit(Op.FDIV, a.type, (a, b))

    def fsqrt(self, a: Value) -> Value:
        return self._emit(Op.FSQRT, a.type, (a,))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c with one rounding."""
        return self._emit(Op.FMA, a.type, (a, b, c))

    def fneg(self, a: Value) -> Value:
        return self._emit(Op.FNEG, a.type, (a,))

    def fabs(self, a: Value) -> Value:
        return self._emit(Op.FABS, a.type, (a,))

    def fcmp(self, a: Value, b: Value, kind: FloatCompare) -> Value:
        """Yields I32: 0 less, 1 equal, 2 greater, 3 unordered."""
        return self._emit(Op.FCMP, Type.I32, (a, b), kind)

    def fcvt(self, a: Value, type: Type) -> Value:
        return self._emit(Op.FCVT, type, (a,))

    def ftoi(self, a: Value, type: Type, how: FloatToInt) -> Value:
        return self._emit(Op.FTOI, type, (a,), how)

    def itof(self, a: Value, type: Type, how: IntToFloat) -> Value:
        return self._emit(Op.ITOF, type, (a,), how)

    # -- control -------------------------------------------------------------------------------------------------------

    def call(self, callee: Callee, *args: Operand, type: Type = Type.VOID) -> Value:
        """Call with up to four integer arguments; ints count as words."""
        return self._emit(
            Op.CALL, type, tuple(a if isinstance(a, Instruction) else self.const(a) for a in args), callee
        )

    def label(self, name: str = "", *, rare: bool = False) -> Label:
        return Label(name, rare)

    def bind(self, label: Label) -> None:
        """Start the block ``label`` here. Raises ValueError when it stands already."""
        if label.bound:
            raise ValueError(f"{label!r} is bound twice")
        label.bound = True
        self._emit(Op.LABEL, Type.VOID, (), label)

    def br(self, label: Label) -> None:
        self._emit(Op.BR, Type.VOID, (), label)

    def brcond(self, condition: Value, if_true: Label, if_false: Label) -> None:
        self._emit(Op.BRCOND, Type.VOID, (condition,), (if_true, if_false))

    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        """Run the body only if ``condition``; values defined in it are not to be used after it."""
        then, end = Label(), Label()
        self.brcond(condition, then, end)
        self.bind(then)
        yield
        self.bind(end)

    @contextmanager
    def rarely(self, label: Label) -> Iterator[None]:
        """Run the body only if a branch leads to ``label``, a rare one. What stands before the body goes on after it.

        Hosts put the body into the cold part. It must not access guest memory, nor have a ``goto``. Branches
        in it stay in it, and only those to ``label`` lead into it. Values defined in it are not to be used after it.
        """
        end = Label()
        self.br(end)
        self.bind(label)
        yield
        self.bind(end)

    def goto(self, offset: int, hole: Hole | None = None) -> None:
        """Leave for this instruction's address + ``offset`` (+ ``hole``), in the same block mode; chainable."""
        self._emit(Op.GOTO, Type.VOID, () if hole is None else (self.value(hole, self.word),), offset)

    def goto_indirect(self, address: Operand) -> None:
        """Leave the block for a computed address; set the block-mode field before when it changes."""
        self._emit(Op.GOTO_INDIRECT, self.word, (self.value(address, self.word),))

    def exit_main(self) -> None:
        """Leave for the execution loop, which checks interrupts and goes on at the fields ``pc`` and ``mode``."""
        self._emit(Op.EXIT_MAIN, Type.VOID)

    def ret(self, value: Value | None = None) -> None:
        self._emit(Op.RET, Type.VOID, () if value is None else (value,))
