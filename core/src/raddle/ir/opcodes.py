# SPDX-License-Identifier: Apache-2.0
"""The opcode table: every IR operation with its operands, result, effects and meaning, in one place.

The builder's methods, the printer, the parser, the verifier, the interpreter's and the back ends' completeness checks all
derive from ``TABLE``.

Operand kinds
    ``v``   a value of the instruction's own type         ``i``   an I32 value          ``l``   an I64 value
    ``b``   an I1 value                                   ``a``   a guest address (the target's word type)
    ``*``   any number of values of any integer type      ``x``   a value of any type (the opcode says which)
Attribute kinds (the instruction's ``aux``)
    see the ``aux`` column: the Python type that stands there.
"""

from __future__ import annotations

from enum import Enum, Flag, IntEnum, auto
from typing import NamedTuple

from raddle.ir.types import Type


class Effect(Flag):
    """What an operation does beyond yielding its value."""

    NONE = 0
    READ_STATE = auto()
    WRITE_STATE = auto()
    READ_MEMORY = auto()
    WRITE_MEMORY = auto()
    FAULT = auto()
    """May raise a guest exception at this instruction: all state must be exact here."""
    END = auto()
    """Ends a basic block."""
    EXIT = auto()
    """Leaves the translated block."""


class Result(Enum):
    """How the result's type follows."""

    NONE = "none"
    SAME = "the instruction's type"
    I1 = "i1"
    I32 = "i32"


class Op(IntEnum):
    """Operation codes; ``TABLE[op]`` describes each."""

    # operands that are no instruction of their own
    CONST = 0
    HOLE = auto()
    # state and locals
    PC = auto()
    GET = auto()
    SET = auto()
    GET_AT = auto()
    SET_AT = auto()
    LOCAL_GET = auto()
    LOCAL_SET = auto()
    SET_NZCV = auto()
    SET_NZ = auto()
    COND = auto()
    # integer
    ADD = auto()
    SUB = auto()
    ADC = auto()
    SBC = auto()
    AND = auto()
    OR = auto()
    XOR = auto()
    NOT = auto()
    NEG = auto()
    MUL = auto()
    UMULH = auto()
    SMULH = auto()
    UDIV = auto()
    SDIV = auto()
    SHL = auto()
    SHR = auto()
    SAR = auto()
    ROR = auto()
    CLZ = auto()
    CTZ = auto()
    POPCNT = auto()
    BSWAP = auto()
    BITREV = auto()
    SEXT8 = auto()
    SEXT16 = auto()
    ZEXT8 = auto()
    ZEXT16 = auto()
    SEXT = auto()
    ZEXT = auto()
    TRUNC = auto()
    EXTRACT = auto()
    SEXTRACT = auto()
    DEPOSIT = auto()
    BIT = auto()
    ICMP = auto()
    SELECT = auto()
    CARRY_OF = auto()
    OVERFLOW_OF = auto()
    # memory
    LOAD = auto()
    STORE = auto()
    LOAD_EXCLUSIVE = auto()
    STORE_EXCLUSIVE = auto()
    CLEAR_EXCLUSIVE = auto()
    ATOMIC_CMPXCHG = auto()
    ATOMIC_XCHG = auto()
    ATOMIC_FETCH_ADD = auto()
    ATOMIC_FETCH_AND = auto()
    ATOMIC_FETCH_OR = auto()
    ATOMIC_FETCH_XOR = auto()
    ATOMIC_FETCH_SMIN = auto()
    ATOMIC_FETCH_SMAX = auto()
    ATOMIC_FETCH_UMIN = auto()
    ATOMIC_FETCH_UMAX = auto()
    MB = auto()
    # floating point
    BITCAST = auto()
    FADD = auto()
    FSUB = auto()
    FMUL = auto()
    FDIV = auto()
    FSQRT = auto()
    FMA = auto()
    FNEG = auto()
    FABS = auto()
    FCMP = auto()
    FCVT = auto()
    FTOI = auto()
    ITOF = auto()
    # control
    CALL = auto()
    LABEL = auto()
    BR = auto()
    BRCOND = auto()
    GOTO = auto()
    GOTO_INDIRECT = auto()
    EXIT_MAIN = auto()
    RET = auto()


class OpInfo(NamedTuple):
    """One row of the table."""

    op: Op
    name: str
    operands: str
    result: Result
    types: frozenset[Type]
    effects: Effect
    aux: str
    meaning: str


_INT = frozenset({Type.I32, Type.I64})
_INT1 = _INT | {Type.I1}
_FP = frozenset({Type.F32, Type.F64})
_ALL = frozenset(Type) - {Type.VOID, Type.V128}  # no operation and no host works on vectors
_VOID = frozenset({Type.VOID})

_S, _N, _B, _W = Result.SAME, Result.NONE, Result.I1, Result.I32
_PURE = Effect.NONE
_RD, _WR = Effect.READ_STATE, Effect.WRITE_STATE
_LD = Effect.READ_MEMORY | Effect.FAULT
_ST = Effect.WRITE_MEMORY | Effect.FAULT
_LS = Effect.READ_MEMORY | Effect.WRITE_MEMORY | Effect.FAULT
_END = Effect.END
_EXIT = Effect.END | Effect.EXIT

_ROWS: tuple[tuple[Op, str, Result, frozenset[Type], Effect, str, str], ...] = (
    (Op.CONST, "", _S, _ALL, _PURE, "int", "a constant, unsigned, below 2**bits; printed in place as an operand"),
    (Op.HOLE, "", _S, _INT, _PURE, "Hole", "a 32-bit literal of the instruction word, sign-extended; printed as an operand"),
    (Op.PC, "", _S, _INT, _PURE, "int", "address of this guest instruction + aux, modulo the word (+ operand hole if given)"),
    (Op.GET, "", _S, _ALL, _RD, "Field", "read a field of the guest state"),
    (Op.SET, "v", _N, _ALL, _WR, "Field", "write a field of the guest state"),
    (Op.GET_AT, "i", _S, _INT1, _RD, "FieldArray", "read element number operand; the index must be in range"),
    (Op.SET_AT, "iv", _N, _INT1, _WR, "FieldArray", "write element number operand 0 with operand 1"),
    (Op.LOCAL_GET, "", _S, _INT1, _PURE, "Local", "read a mutable local variable; undefined before it is first set"),
    (Op.LOCAL_SET, "v", _N, _INT1, _PURE, "Local", "write a mutable local variable"),
    (Op.SET_NZCV, "v", _N, _INT, _WR, "None", "set the N, Z, C and V fields from the add, sub, adc or sbc that yields the operand"),
    (Op.SET_NZ, "v", _N, _INT, _WR, "None", "set the N and Z fields from the operand's sign and zeroness"),
    (Op.COND, "", _B, frozenset({Type.I1}), _RD, "FlagCondition", "whether the N, Z, C and V fields satisfy the condition"),
    (Op.ADD, "vv", _S, _INT, _PURE, "None", "a + b"),
    (Op.SUB, "vv", _S, _INT, _PURE, "None", "a - b"),
    (Op.ADC, "vvb", _S, _INT, _PURE, "None", "a + b + carry"),
    (Op.SBC, "vvb", _S, _INT, _PURE, "None", "a - b - (1 - carry)"),
    (Op.AND, "vv", _S, _INT1, _PURE, "None", "bitwise and"),
    (Op.OR, "vv", _S, _INT1, _PURE, "None", "bitwise or"),
    (Op.XOR, "vv", _S, _INT1, _PURE, "None", "bitwise exclusive or"),
    (Op.NOT, "v", _S, _INT1, _PURE, "None", "bitwise complement"),
    (Op.NEG, "v", _S, _INT, _PURE, "None", "0 - a"),
    (Op.MUL, "vv", _S, _INT, _PURE, "None", "low half of a * b"),
    (Op.UMULH, "vv", _S, _INT, _PURE, "None", "high half of the unsigned product"),
    (Op.SMULH, "vv", _S, _INT, _PURE, "None", "high half of the signed product"),
    (Op.UDIV, "vv", _S, _INT, _PURE, "None", "unsigned quotient; 0 when b is 0"),
    (Op.SDIV, "vv", _S, _INT, _PURE, "None", "signed quotient towards zero; 0 when b is 0; the minimum divided by -1 is the minimum"),
    (Op.SHL, "vi", _S, _INT, _PURE, "None", "a << (n mod bits)"),
    (Op.SHR, "vi", _S, _INT, _PURE, "None", "a >> (n mod bits), zeros shifted in"),
    (Op.SAR, "vi", _S, _INT, _PURE, "None", "a >> (n mod bits), copies of the sign shifted in"),
    (Op.ROR, "vi", _S, _INT, _PURE, "None", "a rotated right by n mod bits"),
    (Op.CLZ, "v", _S, _INT, _PURE, "None", "number of leading zeros; bits for 0"),
    (Op.CTZ, "v", _S, _INT, _PURE, "None", "number of trailing zeros; bits for 0"),
    (Op.POPCNT, "v", _S, _INT, _PURE, "None", "number of ones"),
    (Op.BSWAP, "v", _S, _INT, _PURE, "None", "bytes reversed"),
    (Op.BITREV, "v", _S, _INT, _PURE, "None", "bits reversed"),
    (Op.SEXT8, "v", _S, _INT, _PURE, "None", "sign-extended low 8 bits"),
    (Op.SEXT16, "v", _S, _INT, _PURE, "None", "sign-extended low 16 bits"),
    (Op.ZEXT8, "v", _S, _INT, _PURE, "None", "zero-extended low 8 bits"),
    (Op.ZEXT16, "v", _S, _INT, _PURE, "None", "zero-extended low 16 bits"),
    (Op.SEXT, "x", _S, frozenset({Type.I64}), _PURE, "None", "sign-extended i32 operand"),
    (Op.ZEXT, "x", _S, _INT, _PURE, "None", "zero-extended operand of a narrower type (i1 or i32)"),
    (Op.TRUNC, "x", _S, _INT1, _PURE, "None", "low bits of an operand of a wider type"),
    (Op.EXTRACT, "v", _S, _INT, _PURE, "tuple[int, int]", "bits lsb .. lsb+width-1, zero-extended; aux is (lsb, width)"),
    (Op.SEXTRACT, "v", _S, _INT, _PURE, "tuple[int, int]", "bits lsb .. lsb+width-1, sign-extended; aux is (lsb, width)"),
    (Op.DEPOSIT, "vv", _S, _INT, _PURE, "tuple[int, int]", "operand 0 with bits lsb .. lsb+width-1 from operand 1's low bits"),
    (Op.BIT, "xi", _B, frozenset({Type.I1}), _PURE, "None", "bit number operand 1 (mod bits) of operand 0, an i32 or i64"),
    (Op.ICMP, "xx", _B, frozenset({Type.I1}), _PURE, "Condition", "comparison of two integers of one type; of I1 values only EQ and NE"),
    (Op.SELECT, "bvv", _S, _INT1, _PURE, "None", "operand 1 if operand 0 else operand 2"),
    (Op.CARRY_OF, "x", _B, frozenset({Type.I1}), _PURE, "None", "carry out of the add/adc, inverted borrow of the sub/sbc, that yields the operand"),
    (Op.OVERFLOW_OF, "x", _B, frozenset({Type.I1}), _PURE, "None", "signed overflow of the add, adc, sub or sbc that yields the operand"),
    (Op.LOAD, "a", _S, _INT, _LD, "MemAccess", "load; narrower than the type: extended as the MemOp says"),
    (Op.STORE, "av", _N, _INT, _ST, "MemAccess", "store the low MemOp.size bytes of operand 1"),
    (Op.LOAD_EXCLUSIVE, "a", _S, _INT, _LD, "MemAccess", "load and set this vCPU's reservation"),
    (Op.STORE_EXCLUSIVE, "ax", _W, frozenset({Type.I32}), _LS, "MemAccess", "store if the reservation stands; 0 for success, 1 for failure; ends the reservation. Without one nothing is accessed, and only a misaligned address faults"),
    (Op.CLEAR_EXCLUSIVE, "", _N, _VOID, _WR, "None", "end this vCPU's reservation"),
    (Op.ATOMIC_CMPXCHG, "avv", _S, _INT, _LS, "MemAccess", "if memory == operand 1 store operand 2; yields the old value"),
    (Op.ATOMIC_XCHG, "av", _S, _INT, _LS, "MemAccess", "exchange; yields the old value"),
    (Op.ATOMIC_FETCH_ADD, "av", _S, _INT, _LS, "MemAccess", "add to memory; yields the old value"),
    (Op.ATOMIC_FETCH_AND, "av", _S, _INT, _LS, "MemAccess", "and to memory; yields the old value"),
    (Op.ATOMIC_FETCH_OR, "av", _S, _INT, _LS, "MemAccess", "or to memory; yields the old value"),
    (Op.ATOMIC_FETCH_XOR, "av", _S, _INT, _LS, "MemAccess", "exclusive or to memory; yields the old value"),
    (Op.ATOMIC_FETCH_SMIN, "av", _S, _INT, _LS, "MemAccess", "store the smaller one, as signed numbers of MemOp.size; yields the old value"),
    (Op.ATOMIC_FETCH_SMAX, "av", _S, _INT, _LS, "MemAccess", "store the larger one, as signed numbers of MemOp.size; yields the old value"),
    (Op.ATOMIC_FETCH_UMIN, "av", _S, _INT, _LS, "MemAccess", "store the smaller one, as unsigned numbers of MemOp.size; yields the old value"),
    (Op.ATOMIC_FETCH_UMAX, "av", _S, _INT, _LS, "MemAccess", "store the larger one, as unsigned numbers of MemOp.size; yields the old value"),
    (Op.MB, "", _N, _VOID, Effect.READ_MEMORY | Effect.WRITE_MEMORY, "MemoryOrder", "barrier: every named pair of earlier and later accesses stays in order"),
    (Op.BITCAST, "x", _S, _INT | _FP, _PURE, "None", "the same bits as another type of the same width"),
    (Op.FADD, "vv", _S, _FP, _WR, "None", "a + b in the CPU's floating-point environment"),
    (Op.FSUB, "vv", _S, _FP, _WR, "None", "a - b in the CPU's floating-point environment"),
    (Op.FMUL, "vv", _S, _FP, _WR, "None", "a * b in the CPU's floating-point environment"),
    (Op.FDIV, "vv", _S, _FP, _WR, "None", "a / b in the CPU's floating-point environment"),
    (Op.FSQRT, "v", _S, _FP, _WR, "None", "square root in the CPU's floating-point environment"),
    (Op.FMA, "vvv", _S, _FP, _WR, "None", "a * b + c rounded once, in the CPU's floating-point environment"),
    (Op.FNEG, "v", _S, _FP, _PURE, "None", "sign bit inverted, NaN included; never an exception"),
    (Op.FABS, "v", _S, _FP, _PURE, "None", "sign bit cleared, NaN included; never an exception"),
    (Op.FCMP, "xx", _W, frozenset({Type.I32}), _WR, "FloatCompare", "0 less, 1 equal, 2 greater, 3 unordered; QUIET raises invalid for signalling NaNs only"),
    (Op.FCVT, "x", _S, _FP, _WR, "None", "conversion between f32 and f64 in the CPU's floating-point environment"),
    (Op.FTOI, "x", _S, _INT, _WR, "FloatToInt", "float to integer, saturating, NaN to 0, by the rounding that aux names"),
    (Op.ITOF, "x", _S, _FP, _WR, "IntToFloat", "integer to float by the CPU's rounding mode"),
    (Op.CALL, "*", _S, _ALL | {Type.VOID}, _RD | _WR | _LS, "Callee", "call a native helper, an IR routine or a Python helper"),
    (Op.LABEL, "", _N, _VOID, _PURE, "Label", "starts a basic block; a rare one, code that seldom runs, up to the label of the br before it"),
    (Op.BR, "", _N, _VOID, _END, "Label", "jump within this function"),
    (Op.BRCOND, "b", _N, _VOID, _END, "tuple[Label, Label]", "jump to the first label if operand 0 is true, else to the second"),
    (Op.GOTO, "", _N, _VOID, _EXIT, "int", "go on at this instruction's address + aux (+ operand hole if given); chainable"),
    (Op.GOTO_INDIRECT, "a", _N, _INT, _EXIT, "None", "go on at the guest address, in the block mode that the state holds"),
    (Op.EXIT_MAIN, "", _N, _VOID, _EXIT, "None", "back to the execution loop, which looks at interrupts and goes on at the state's pc"),
    (Op.RET, "*", _N, _VOID, _EXIT, "None", "return from an IR routine with at most one value"),
)

TABLE: dict[Op, OpInfo] = {
    op: OpInfo(op, op.name.lower(), operands, result, types, effects, aux, meaning)
    for op, operands, result, types, effects, aux, meaning in _ROWS
}


def operations_with(effects: Effect) -> frozenset[Op]:
    """The operations that have any of the effects."""
    wanted = effects.value
    return frozenset([op for op, info in TABLE.items() if info.effects.value & wanted])
