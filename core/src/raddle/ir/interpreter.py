# SPDX-License-Identifier: Apache-2.0
"""The oracle: runs IR exactly as ``raddle.ir.opcodes`` says, slowly and plainly.

It takes verified functions. One run is one thread's affair; memory that other threads change is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from raddle.ir import floats
from raddle.ir.builder import (
    Builder,
    Callee,
    CalleeKind,
    FloatCompare,
    FloatToInt,
    Instruction,
    IntToFloat,
    Label,
    Local,
    MemAccess,
    Rounding,
)
from raddle.ir.header import NO_RESERVATION
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, FieldArray, FlagCondition, FloatRules, Hole, MemOp, Type

READ, WRITE = 0, 1


class InterpreterError(Exception):
    """The program does what IR leaves undefined, or does not end."""


class MemoryFault(Exception):
    """An access that the guest must be told about. ``access`` is READ or WRITE; ``alignment``: it was misaligned."""

    def __init__(self, address: int, access: int, alignment: bool = False) -> None:
        super().__init__(f"{'write' if access else 'read'} at {address:#x}")
        self.address = address
        self.access = access
        self.alignment = alignment


class Memory(Protocol):
    """Guest memory as the interpreter uses it; both methods raise MemoryFault."""

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        """The ``memop.size`` bytes at ``address`` as an unsigned number, byte order as ``memop`` says."""

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        """Store ``value``, which is below 2**(8 * memop.size)."""


@dataclass(slots=True)
class CpuState:
    """A vCPU's state: the guest's own bytes, and the common header's fields by name (absent ones are 0)."""

    state: bytearray
    header: dict[str, int] = field(default_factory=dict)

    def read(self, field: Field) -> int:
        """The field's value, unsigned."""
        if field.offset < 0:
            default = NO_RESERVATION if field.name == "exclusive_address" else 0
            return self.header.get(field.name, default)
        value = int.from_bytes(self.state[field.offset : field.offset + field.type.size], "little")
        return value & 1 if field.type is Type.I1 else value

    def write(self, field: Field, value: int) -> None:
        if field.offset < 0:
            self.header[field.name] = value
        else:
            self.state[field.offset : field.offset + field.type.size] = value.to_bytes(field.type.size, "little")


class Leave(Enum):
    """How control left the function."""

    NEXT = "fell through to the next guest instruction"
    GOTO = "goto"
    GOTO_INDIRECT = "goto_indirect"
    EXIT = "exit_main, or a callee's exit"
    RETURN = "ret"
    FAULT = "a memory access faulted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    ``value``: the address to go on at (GOTO, GOTO_INDIRECT), the value returned (RETURN; None for none) or the faulting
    address (FAULT). ``access`` and ``alignment`` as in MemoryFault.
    """

    how: Leave
    value: int | None = None
    access: int | None = None
    alignment: bool = False


PlainCallee = Callable[..., "int | None"]
"""A native or Python callee: called as ``callee(cpu, *arguments)``."""


def interpret(
    function: Builder,
    cpu: CpuState,
    memory: Memory,
    *,
    holes: tuple[int, ...] = (),
    pc: int = 0,
    callees: Mapping[str, Builder | PlainCallee] | None = None,
    steps: int = 100_000,
    values: dict[Instruction, int] | None = None,
    strict: bool = False,
) -> Outcome:
    """Run ``function``; ``cpu`` and ``memory`` are changed in place.

    ``holes``: values of the literals by index. ``pc``: address of the guest instruction. ``callees``: what CALL
    reaches by name, a routine's function or a Python callable. Raises InterpreterError after ``steps`` instructions.
    ``values``, if given, is filled with what each instruction of ``function`` yielded last. ``strict``: reservations
    are exact, and no other observer writes.
    """
    frame = _Frame(function, cpu, memory, holes, pc, callees or {}, [steps])
    frame.strict = strict
    if values is not None:
        frame.values = values
    try:
        return frame.run()
    except MemoryFault as fault:
        return Outcome(Leave.FAULT, fault.address, fault.access, fault.alignment)


class _CalleeExit(Exception):
    """A callee set ``exit_now``: the block is left at once."""


class _Frame:
    def __init__(
        self,
        function: Builder,
        cpu: CpuState,
        memory: Memory,
        holes: tuple[int, ...],
        pc: int,
        callees: Mapping[str, Builder | PlainCallee],
        steps: list[int],
    ) -> None:
        self.function = function
        self.cpu = cpu
        self.memory = memory
        self.holes = holes
        self.pc = pc
        self.callees = callees
        self.steps = steps
        self.strict = False
        self.values: dict[Instruction, int] = {}
        self.flags: dict[Instruction, tuple[int, int]] = {}
        self.locals: dict[Local, int] = {}
        self.labels = {i.aux: at for at, i in enumerate(function.code) if i.op is Op.LABEL}

    def run(self) -> Outcome:
        code = self.function.code
        at = 0
        while at < len(code):
            self.steps[0] -= 1
            if self.steps[0] < 0:
                raise InterpreterError("the step limit is reached")
            instruction = code[at]
            op = instruction.op
            if op in _LEAVE:
                return _LEAVE[op](self, instruction)
            if op in (Op.BR, Op.BRCOND):
                at = self.labels[self.target(instruction)]
                continue
            if op in _PURE:
                args = [self.value(arg) for arg in instruction.args]
                self.values[instruction] = _PURE[op](instruction, *args) & _mask(instruction.type)
            else:
                try:
                    result = _EFFECTS[op](self, instruction)
                except _CalleeExit:
                    return Outcome(Leave.EXIT)
                if result is not None:
                    self.values[instruction] = result & _mask(instruction.type)
            at += 1
        return Outcome(Leave.NEXT)

    def target(self, instruction: Instruction) -> object:
        if isinstance(instruction.aux, tuple):
            return instruction.aux[0 if self.value(instruction.args[0]) else 1]
        return instruction.aux

    def value(self, operand: Instruction) -> int:
        if operand.op is Op.CONST:
            return _int(operand)
        if operand.op is Op.HOLE:
            assert isinstance(operand.aux, Hole)
            return _signed(self.holes[operand.aux.index], 32) & _mask(operand.type)
        return self.values[operand]

    def arg(self, instruction: Instruction, position: int) -> int:
        return self.value(instruction.args[position])

    def nzcv(self) -> tuple[Field, Field, Field, Field]:
        if self.function.nzcv is None:
            raise InterpreterError("the guest state has no N, Z, C and V fields")
        return self.function.nzcv


def _mask(type: Type) -> int:
    return (1 << type.bits) - 1


def _signed(value: int, bits: int) -> int:
    """The low ``bits`` of ``value`` as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _int(instruction: Instruction) -> int:
    assert isinstance(instruction.aux, int)
    return instruction.aux


# -- values that depend on the operands alone --------------------------------------------------------------------------


def _signed_quotient(i: Instruction, a: int, b: int) -> int:
    a, b = _signed(a, i.type.bits), _signed(b, i.type.bits)
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def _high_product(i: Instruction, a: int, b: int) -> int:
    return _signed(a, i.type.bits) * _signed(b, i.type.bits) >> i.type.bits


def _rotate_right(i: Instruction, a: int, n: int) -> int:
    n %= i.type.bits
    return a >> n | a << (i.type.bits - n)


def _bit_range(i: Instruction) -> tuple[int, int]:
    assert isinstance(i.aux, tuple)
    lsb, width = i.aux
    return lsb, width


def _extract(i: Instruction, a: int) -> int:
    lsb, width = _bit_range(i)
    return a >> lsb & ((1 << width) - 1)


def _signed_extract(i: Instruction, a: int) -> int:
    lsb, width = _bit_range(i)
    return _signed(a >> lsb, width)


def _deposit(i: Instruction, a: int, b: int) -> int:
    lsb, width = _bit_range(i)
    mask = ((1 << width) - 1) << lsb
    return (a & ~mask) | (b << lsb & mask)


def _compare(i: Instruction, a: int, b: int) -> int:
    assert isinstance(i.aux, Condition)
    return int(compare(i.aux, a, b, i.args[0].type.bits))


def compare(condition: Condition, a: int, b: int, bits: int) -> bool:
    """Whether ``a`` and ``b``, unsigned numbers of ``bits`` bits, satisfy ``condition``."""
    if condition >= Condition.SLT:
        a, b = _signed(a, bits), _signed(b, bits)
    positive = Condition(condition & ~1)
    if positive is Condition.EQ:
        holds = a == b
    elif positive in (Condition.ULT, Condition.SLT):
        holds = a < b
    else:
        holds = a <= b
    return holds is not bool(condition & 1)


_FORMATS: dict[Type, floats.Format] = {Type.F32: floats.F32, Type.F64: floats.F64}

_PURE: dict[Op, Callable[..., int]] = {
    Op.AND: lambda i, a, b: a & b,
    Op.OR: lambda i, a, b: a | b,
    Op.XOR: lambda i, a, b: a ^ b,
    Op.NOT: lambda i, a: ~a,
    Op.NEG: lambda i, a: -a,
    Op.MUL: lambda i, a, b: a * b,
    Op.UMULH: lambda i, a, b: a * b >> i.type.bits,
    Op.SMULH: _high_product,
    Op.UDIV: lambda i, a, b: a // b if b else 0,
    Op.SDIV: _signed_quotient,
    Op.SHL: lambda i, a, n: a << n % i.type.bits,
    Op.SHR: lambda i, a, n: a >> n % i.type.bits,
    Op.SAR: lambda i, a, n: _signed(a, i.type.bits) >> n % i.type.bits,
    Op.ROR: _rotate_right,
    Op.CLZ: lambda i, a: i.type.bits - a.bit_length(),
    Op.CTZ: lambda i, a: (a & -a).bit_length() - 1 if a else i.type.bits,
    Op.POPCNT: lambda i, a: a.bit_count(),
    Op.BSWAP: lambda i, a: int.from_bytes(a.to_bytes(i.type.size, "little"), "big"),
    Op.BITREV: lambda i, a: int(f"{a:0{i.type.bits}b}"[::-1], 2),
    Op.SEXT8: lambda i, a: _signed(a, 8),
    Op.SEXT16: lambda i, a: _signed(a, 16),
    Op.ZEXT8: lambda i, a: a & 0xFF,
    Op.ZEXT16: lambda i, a: a & 0xFFFF,
    Op.SEXT: lambda i, a: _signed(a, 32),
    Op.ZEXT: lambda i, a: a,
    Op.TRUNC: lambda i, a: a,
    Op.EXTRACT: _extract,
    Op.SEXTRACT: _signed_extract,
    Op.DEPOSIT: _deposit,
    Op.BIT: lambda i, a, n: a >> n % i.args[0].type.bits,
    Op.ICMP: _compare,
    Op.SELECT: lambda i, condition, a, b: a if condition else b,
    Op.BITCAST: lambda i, a: a,
    Op.FNEG: lambda i, a: floats.neg(a, _FORMATS[i.type]),
    Op.FABS: lambda i, a: floats.absolute(a, _FORMATS[i.type]),
}


# -- state, locals, flags ----------------------------------------------------------------------------------------------


def _program_counter(f: _Frame, i: Instruction) -> int:
    return f.pc + _int(i) + (f.arg(i, 0) if i.args else 0)


def _get(f: _Frame, i: Instruction) -> int:
    assert isinstance(i.aux, Field)
    return f.cpu.read(i.aux)


def _set(f: _Frame, i: Instruction) -> None:
    assert isinstance(i.aux, Field)
    f.cpu.write(i.aux, f.arg(i, 0))


def _element(f: _Frame, i: Instruction) -> Field:
    assert isinstance(i.aux, FieldArray)
    index = f.arg(i, 0)
    if index >= len(i.aux):
        raise InterpreterError(f"{i.aux.name} has no element {index}")
    return i.aux[index]


def _get_at(f: _Frame, i: Instruction) -> int:
    return f.cpu.read(_element(f, i))


def _set_at(f: _Frame, i: Instruction) -> None:
    f.cpu.write(_element(f, i), f.arg(i, 1))


def _local_get(f: _Frame, i: Instruction) -> int:
    assert isinstance(i.aux, Local)
    return f.locals[i.aux]


def _local_set(f: _Frame, i: Instruction) -> None:
    assert isinstance(i.aux, Local)
    f.locals[i.aux] = f.arg(i, 0)


def _set_nz(f: _Frame, i: Instruction) -> None:
    negative, zero, _, _ = f.nzcv()
    value = f.arg(i, 0)
    f.cpu.write(negative, value >> (i.type.bits - 1))
    f.cpu.write(zero, int(value == 0))


def _set_nzcv(f: _Frame, i: Instruction) -> None:
    _, _, carry, overflow = f.nzcv()
    _set_nz(f, i)
    f.cpu.write(carry, f.flags[i.args[0]][0])
    f.cpu.write(overflow, f.flags[i.args[0]][1])


def holds(condition: FlagCondition, n: int, z: int, c: int, v: int) -> bool:
    """Whether the flags, each 0 or 1, satisfy ``condition``."""
    positive = (z, c, n, v, int(c and not z), int(n == v), int(not z and n == v))[condition >> 1]
    return bool(positive) is not bool(condition & 1)


def _cond(f: _Frame, i: Instruction) -> int:
    assert isinstance(i.aux, FlagCondition)
    n, z, c, v = (f.cpu.read(flag) for flag in f.nzcv())
    return int(holds(i.aux, n, z, c, v))


def _sum(f: _Frame, i: Instruction) -> int:
    """add, sub, adc and sbc: a sum of two numbers and a carry, whose carry and overflow are kept."""
    a, b = f.arg(i, 0), f.arg(i, 1)
    if i.op in (Op.SUB, Op.SBC):
        b ^= _mask(i.type)
    carry = f.arg(i, 2) if len(i.args) == 3 else int(i.op is Op.SUB)
    bits = i.type.bits
    total = a + b + carry
    signed_total = _signed(a, bits) + _signed(b, bits) + carry
    f.flags[i] = total >> bits, int(signed_total != _signed(total, bits))
    return total


# -- memory ------------------------------------------------------------------------------------------------------------


def _load_raw(f: _Frame, address: int, access: MemAccess, kind: int = READ) -> int:
    if address % access.memop.align_bytes:
        raise MemoryFault(address, kind, alignment=True)
    return f.memory.load(address, access.memop, access.mmu_index)


def _store_raw(f: _Frame, address: int, value: int, access: MemAccess) -> None:
    if address % access.memop.align_bytes:
        raise MemoryFault(address, WRITE, alignment=True)
    f.memory.store(address, value & ((1 << 8 * access.memop.size) - 1), access.memop, access.mmu_index)


def _extended(value: int, memop: MemOp) -> int:
    return _signed(value, 8 * memop.size) if memop.signed else value


def _access(i: Instruction) -> MemAccess:
    assert isinstance(i.aux, MemAccess)
    return i.aux


def _load(f: _Frame, i: Instruction) -> int:
    access = _access(i)
    return _extended(_load_raw(f, f.arg(i, 0), access), access.memop)


def _store(f: _Frame, i: Instruction) -> None:
    _store_raw(f, f.arg(i, 0), f.arg(i, 1), _access(i))


def _load_exclusive(f: _Frame, i: Instruction) -> int:
    address, access = f.arg(i, 0), _access(i)
    value = _load_raw(f, address, access)
    f.cpu.header.update(exclusive_address=address, exclusive_value=value, exclusive_size=access.memop.size)
    return _extended(value, access.memop)


def _store_exclusive(f: _Frame, i: Instruction) -> int:
    address, access, header = f.arg(i, 0), _access(i), f.cpu.header
    if address % access.memop.align_bytes:
        raise MemoryFault(address, WRITE, alignment=True)
    reserved = header.get("exclusive_address", NO_RESERVATION), header.get("exclusive_size", 0)
    stands = reserved == (address, access.memop.size)
    if stands:
        try:
            stands = _load_raw(f, address, access) == header.get("exclusive_value", 0) or f.strict
        except MemoryFault as fault:
            raise MemoryFault(fault.address, WRITE) from None
    if stands:
        _store_raw(f, address, f.arg(i, 1), access)
    header["exclusive_address"] = NO_RESERVATION
    return int(not stands)


def _clear_exclusive(f: _Frame, i: Instruction) -> None:
    f.cpu.header["exclusive_address"] = NO_RESERVATION


def _atomic(f: _Frame, i: Instruction) -> int:
    address, access = f.arg(i, 0), _access(i)
    try:
        old = _load_raw(f, address, access, WRITE)
    except MemoryFault as fault:
        raise MemoryFault(fault.address, WRITE, fault.alignment) from None
    operands = [f.arg(i, position) for position in range(1, len(i.args))]
    _store_raw(f, address, _NEW_VALUE[i.op](old, *operands, (1 << 8 * access.memop.size) - 1), access)
    return _extended(old, access.memop)


def _ordered(mask: int) -> Callable[[int], int]:
    """The value of a number of as many bits as ``mask`` has, as a signed one."""
    return lambda value: _signed(value, mask.bit_length())


_NEW_VALUE: dict[Op, Callable[..., int]] = {
    Op.ATOMIC_CMPXCHG: lambda old, expected, new, mask: new if old == expected & mask else old,
    Op.ATOMIC_XCHG: lambda old, new, mask: new,
    Op.ATOMIC_FETCH_ADD: lambda old, operand, mask: old + operand,
    Op.ATOMIC_FETCH_AND: lambda old, operand, mask: old & operand,
    Op.ATOMIC_FETCH_OR: lambda old, operand, mask: old | operand,
    Op.ATOMIC_FETCH_XOR: lambda old, operand, mask: old ^ operand,
    Op.ATOMIC_FETCH_SMIN: lambda old, operand, mask: min(old, operand & mask, key=_ordered(mask)),
    Op.ATOMIC_FETCH_SMAX: lambda old, operand, mask: max(old, operand & mask, key=_ordered(mask)),
    Op.ATOMIC_FETCH_UMIN: lambda old, operand, mask: min(old, operand & mask),
    Op.ATOMIC_FETCH_UMAX: lambda old, operand, mask: max(old, operand & mask),
}


def _barrier(f: _Frame, i: Instruction) -> None:
    """Nothing to do: one thread's accesses are in order."""


# -- floating point ----------------------------------------------------------------------------------------------------


def _in_environment(operation: Callable[[_Frame, Instruction, floats.FloatEnv], int]) -> Callable[..., int]:
    """``operation`` with the CPU's floating-point environment, whose flags go back to the header."""

    def run(f: _Frame, i: Instruction) -> int:
        header = f.cpu.header
        env = floats.FloatEnv(
            header.get("fp_rounding", 0),
            bool(header.get("fp_flush")),
            bool(header.get("fp_default_nan")),
            rules=FloatRules.from_bits(header.get("fp_rules", 0)),
        )
        result = operation(f, i, env)
        header["fp_flags"] = header.get("fp_flags", 0) | env.flags
        return result

    return run


def _arithmetic(operation: Callable[..., int]) -> Callable[..., int]:
    return _in_environment(lambda f, i, env: operation(*map(f.value, i.args), _FORMATS[i.type], env))


def _float_compare(f: _Frame, i: Instruction, env: floats.FloatEnv) -> int:
    signalling = i.aux is FloatCompare.SIGNALLING
    return floats.compare(f.arg(i, 0), f.arg(i, 1), _FORMATS[i.args[0].type], env, signalling)


def _float_convert(f: _Frame, i: Instruction, env: floats.FloatEnv) -> int:
    return floats.convert(f.arg(i, 0), _FORMATS[i.args[0].type], _FORMATS[i.type], env)


def _float_to_int(f: _Frame, i: Instruction, env: floats.FloatEnv) -> int:
    how = i.aux
    assert isinstance(how, FloatToInt)
    rounding = env.rounding if how.rounding is Rounding.CURRENT else how.rounding
    width = how.width or i.type.bits
    return floats.to_int(f.arg(i, 0), _FORMATS[i.args[0].type], env, how.signed, width, rounding, how.fraction)


def _int_to_float(f: _Frame, i: Instruction, env: floats.FloatEnv) -> int:
    how = i.aux
    assert isinstance(how, IntToFloat)
    rounding = None if how.rounding is Rounding.CURRENT else int(how.rounding)
    value = f.arg(i, 0)
    value = _signed(value, i.args[0].type.bits) if how.signed else value
    return floats.from_int(value, _FORMATS[i.type], env, rounding, how.fraction)


# -- calls and exits ---------------------------------------------------------------------------------------------------


def _call(f: _Frame, i: Instruction) -> int | None:
    callee = i.aux
    assert isinstance(callee, Callee)
    target = f.callees.get(callee.name)
    if target is None:
        raise InterpreterError(f"there is no callee {callee.name!r}")
    args = [f.value(arg) for arg in i.args]
    if isinstance(target, Builder):
        if callee.kind is not CalleeKind.ROUTINE:
            raise InterpreterError(f"{callee.name} is a routine, called as {callee.kind.name.lower()}")
        f.cpu.header.update({f"arg{n}": value for n, value in enumerate(args)})
        result = _Frame(target, f.cpu, f.memory, (), 0, f.callees, f.steps).run().value
    else:
        result = target(f.cpu, *args)
    if callee.may_exit and f.cpu.header.get("exit_now"):
        raise _CalleeExit
    return None if i.type is Type.VOID else result or 0


def _goto(f: _Frame, i: Instruction) -> Outcome:
    return Outcome(Leave.GOTO, _program_counter(f, i) & _mask(f.function.word))


def _goto_indirect(f: _Frame, i: Instruction) -> Outcome:
    return Outcome(Leave.GOTO_INDIRECT, f.arg(i, 0))


def _exit_main(f: _Frame, i: Instruction) -> Outcome:
    return Outcome(Leave.EXIT)


def _ret(f: _Frame, i: Instruction) -> Outcome:
    return Outcome(Leave.RETURN, f.arg(i, 0) if i.args else None)


def _label(f: _Frame, i: Instruction) -> None:
    assert isinstance(i.aux, Label)


_LEAVE: dict[Op, Callable[[_Frame, Instruction], Outcome]] = {
    Op.GOTO: _goto,
    Op.GOTO_INDIRECT: _goto_indirect,
    Op.EXIT_MAIN: _exit_main,
    Op.RET: _ret,
}

_EFFECTS: dict[Op, Callable[[_Frame, Instruction], int | None]] = {
    Op.PC: _program_counter,
    Op.GET: _get,
    Op.SET: _set,
    Op.GET_AT: _get_at,
    Op.SET_AT: _set_at,
    Op.LOCAL_GET: _local_get,
    Op.LOCAL_SET: _local_set,
    Op.SET_NZCV: _set_nzcv,
    Op.SET_NZ: _set_nz,
    Op.COND: _cond,
    **dict.fromkeys((Op.ADD, Op.SUB, Op.ADC, Op.SBC), _sum),
    Op.CARRY_OF: lambda f, i: f.flags[i.args[0]][0],
    Op.OVERFLOW_OF: lambda f, i: f.flags[i.args[0]][1],
    Op.LOAD: _load,
    Op.STORE: _store,
    Op.LOAD_EXCLUSIVE: _load_exclusive,
    Op.STORE_EXCLUSIVE: _store_exclusive,
    Op.CLEAR_EXCLUSIVE: _clear_exclusive,
    **dict.fromkeys(_NEW_VALUE, _atomic),
    Op.MB: _barrier,
    Op.FADD: _arithmetic(floats.add),
    Op.FSUB: _arithmetic(floats.sub),
    Op.FMUL: _arithmetic(floats.mul),
    Op.FDIV: _arithmetic(floats.div),
    Op.FSQRT: _arithmetic(floats.sqrt),
    Op.FMA: _arithmetic(floats.fma),
    Op.FCMP: _in_environment(_float_compare),
    Op.FCVT: _in_environment(_float_convert),
    Op.FTOI: _in_environment(_float_to_int),
    Op.ITOF: _in_environment(_int_to_float),
    Op.CALL: _call,
    Op.LABEL: _label,
}

COVERED = frozenset(_PURE) | frozenset(_LEAVE) | frozenset(_EFFECTS) | {Op.CONST, Op.HOLE, Op.BR, Op.BRCOND}
"""Operations that the interpreter knows; a test compares with ``TABLE``."""
