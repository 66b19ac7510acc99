# SPDX-License-Identifier: Apache-2.0
"""Refuses IR that breaks the rules of ``raddle.ir.opcodes`` and ``raddle.ir.builder``.

A function that passes can be interpreted and compiled without further checks. Tests verify every instruction that they
translate; production code does not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from raddle.ir.builder import (
    Builder,
    Callee,
    FloatCompare,
    FloatToInt,
    Instruction,
    IntToFloat,
    Label,
    Local,
    MemAccess,
    Rounding,
)
from raddle.ir.header import COMMON
from raddle.ir.invalid import VerifyError, verify_end
from raddle.ir.opcodes import TABLE, Effect, Op, operations_with
from raddle.ir.printer import operand_type, print_instruction, yields
from raddle.ir.types import MMU_INDICES, Condition, Field, FieldArray, FlagCondition, Hole, StateLayout, Type
from raddle.ordering import MemoryOrder, names

_ACQUIRE = MemoryOrder.LD_LD | MemoryOrder.LD_ST
_RELEASE = MemoryOrder.LD_ST | MemoryOrder.ST_ST

ACCESS_ORDERS = {
    **{op: _ACQUIRE | _RELEASE for op, info in TABLE.items() if info.aux == "MemAccess"},
    **dict.fromkeys((Op.LOAD, Op.LOAD_EXCLUSIVE), _ACQUIRE),
    **dict.fromkeys((Op.STORE, Op.STORE_EXCLUSIVE), _RELEASE),
}
"""What each access may order by itself (``MemOp.order``); all else is a barrier of its own."""

WITH_FLAGS = frozenset({Op.ADD, Op.SUB, Op.ADC, Op.SBC})
"""Operations whose carry and overflow can be asked for."""

_INTEGERS = (Type.I1, Type.I32, Type.I64)
_FLOATS = (Type.F32, Type.F64)
_LEAVES_BLOCK = frozenset({Op.GOTO, Op.GOTO_INDIRECT, Op.EXIT_MAIN})
_ENDS_BLOCK = operations_with(Effect.END)
_MAY_FAULT = operations_with(Effect.FAULT) - {Op.CALL}
_MAY_BE_CALLS = frozenset(
    {Op.CALL, Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT, Op.FMA, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF}
)
_ARGUMENTS = frozenset(COMMON[f"arg{number}"] for number in range(4))
_MOST_ARGUMENTS = 4
_MOST_FRACTION = 64


def verify(function: Builder, *, routine: bool = False, layout: StateLayout | None = None) -> None:
    """Raise VerifyError for the first rule that ``function`` breaks.

    ``routine``: it is an IR routine, which ends in ``ret`` and knows no guest instruction around it; otherwise it is
    the IR of a guest instruction. ``layout``: the guest state whose fields it may use (None: fields are not looked up).
    """
    _Verifier(function, routine, layout).run()


class _Problem(Exception):
    """A broken rule; the verifier adds the place."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _Problem(message)


class _Verifier:
    def __init__(self, function: Builder, routine: bool, layout: StateLayout | None) -> None:
        self.function = function
        self.code = function.code
        self.routine = routine
        self.layout = layout
        self.place: dict[Instruction, int] = {}
        self.starts = [0]
        self.called = False
        self.locals = frozenset(function.locals)

    def run(self) -> None:
        at = 0
        try:
            for at, instruction in enumerate(self.code):
                _require(instruction not in self.place, "stands in the code twice")
                self.check(instruction, at)
                self.place[instruction] = at
            blocks = self.blocks()
            for at, instruction in enumerate(self.code):
                if isinstance(instruction.aux, Label) and instruction.op is Op.LABEL and instruction.aux.rare:
                    self.check_rare(instruction.aux, at)
            if self.routine:
                verify_end(self.function)
            for block in blocks:
                for at in range(block.start, block.end):
                    self.check_flow(block, at)
        except _Problem as problem:
            text = print_instruction(self.function, self.code[at]) if self.code else "empty function"
            raise VerifyError(f"instruction {at} ({text}): {problem}", at) from None

    # -- one instruction, without its surroundings ---------------------------------------------------------------------

    def check(self, instruction: Instruction, at: int) -> None:
        op, type = instruction.op, instruction.type
        info = TABLE[op]
        _require(op not in (Op.CONST, Op.HOLE), "constants and holes are operands, no instructions of their own")
        _require(type in info.types, f"{info.name} does not work in {type.name.lower()}")
        self.check_operands(instruction)
        for arg in instruction.args:
            if arg.op is Op.HOLE:
                _require(not self.routine, "a routine has no holes")
                _require(isinstance(arg.aux, Hole) and arg.aux.index >= 0, "the hole names no literal")
                _require(arg.type in (Type.I32, Type.I64), f"a hole cannot be {arg.type.name.lower()}")
            elif arg.op is Op.CONST:
                fits = isinstance(arg.aux, int) and 0 <= arg.aux < 1 << arg.type.bits
                _require(fits, f"constant {arg.aux!r} is out of range for {arg.type.name.lower()}")
            else:
                _require(arg in self.place, "uses a value that is not defined before it")
        self.check_aux(instruction)
        rule = _RULES.get(op)
        if rule is not None:
            rule(instruction)
        if op in (Op.SET_NZCV, Op.SET_NZ, Op.COND):
            _require(self.function.nzcv is not None, "the guest state has no N, Z, C and V fields")
        if op in _LEAVES_BLOCK or op is Op.PC:
            _require(not self.routine, f"a routine cannot use {info.name}")
        if op in _MAY_FAULT:
            message = (
                f"a routine cannot use {info.name}: no instruction could take the fault; call phys_load or phys_store"
            )
            _require(not self.routine, message)
        if op is Op.GET and instruction.aux in _ARGUMENTS:
            _require(not self.called, "reads an argument after a call, which may have overwritten it")
        self.called |= op in _MAY_BE_CALLS
        if op is Op.RET:
            _require(self.routine, "only a routine returns")
        if at and self.code[at - 1].op in _ENDS_BLOCK:
            _require(op is Op.LABEL, "cannot be reached: the instruction before it ends the block")

    def check_operands(self, instruction: Instruction) -> None:
        op, args = instruction.op, instruction.args
        kinds = TABLE[op].operands
        if op in (Op.PC, Op.GOTO):
            _require(len(args) <= 1, f"takes at most one operand, not {len(args)}")
            _require(all(arg.op is Op.HOLE for arg in args), "the operand must be a hole")
        elif kinds != "*":
            plural = "s" if len(kinds) != 1 else ""
            _require(len(args) == len(kinds), f"takes {len(kinds) or 'no'} operand{plural}, not {len(args)}")
        for position, arg in enumerate(args):
            literal = arg.op in (Op.CONST, Op.HOLE)
            _require(literal or yields(arg), f"operand {position} is an instruction without a value")
            wanted = operand_type(op, position, instruction.type, self.function.word)
            if wanted is not None:
                message = f"operand {position} is {arg.type.name.lower()}, not {wanted.name.lower()}"
                _require(arg.type is wanted, message)
            elif kinds == "*":
                _require(arg.type in _INTEGERS, f"operand {position} is {arg.type.name.lower()}, no integer")

    def check_aux(self, instruction: Instruction) -> None:
        aux, kind = instruction.aux, TABLE[instruction.op].aux
        _require(_AUX[kind](aux), f"needs {kind} beside its operands, not {aux!r}")
        if isinstance(aux, Local):
            _require(aux in self.locals, f"local {aux!r} belongs to another function")
        elif isinstance(aux, Field) and self.layout is not None:
            known = self.layout.fields.get(aux.name) if aux.offset >= 0 else COMMON.get(aux.name)
            _require(known is aux, f"field {aux.name} is not in this guest's state")
        elif isinstance(aux, FieldArray) and self.layout is not None:
            _require(self.layout.arrays.get(aux.name) is aux, f"field array {aux.name} is not in this guest's state")

    # -- control flow --------------------------------------------------------------------------------------------------

    def blocks(self) -> list[_Block]:
        starts = [0] + [at for at, i in enumerate(self.code) if i.op is Op.LABEL and at]
        self.starts = starts
        blocks = [_Block(n, a, b) for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(self.code)], strict=True))]
        bound: dict[Label, _Block] = {}
        for block in blocks:
            label = self.code[block.start].aux if block.start < block.end else None
            if isinstance(label, Label) and self.code[block.start].op is Op.LABEL:
                if label in bound:
                    raise VerifyError(f"instruction {block.start}: label {label!r} is bound twice", block.start)
                bound[label] = block
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            last = self.code[block.end - 1] if block.end > block.start else None
            if last is not None and last.op in _ENDS_BLOCK:
                for label in _targets(last):
                    if label not in bound:
                        text = print_instruction(self.function, last)
                        raise VerifyError(
                            f"instruction {block.end - 1} ({text}): label is bound nowhere", block.end - 1
                        )
                    bound[label].predecessors.append(block)
            elif following is not None:
                following.predecessors.append(block)
        if len(blocks) > 1:
            self.find_dominators(blocks)
        self.find_assigned(blocks)
        return blocks

    def check_rare(self, label: Label, start: int) -> None:
        """Code from a rare label on, which hosts put elsewhere: one way in, and one out besides leaving the block."""
        before = self.code[start - 1] if start else None
        _require(before is not None and before.op is Op.BR, "a rare label must stand right behind a br")
        assert before is not None
        bound = {i.aux: at for at, i in enumerate(self.code) if i.op is Op.LABEL and isinstance(i.aux, Label)}
        end = next(at for inside, at in bound.items() if inside is before.aux)
        _require(end > start, "rare code must end where the br before it leads")
        within = range(start + 1, end)
        inner = {inside for inside, at in bound.items() if at in within}
        _require(not any(inside.rare for inside in inner), "rare code must not have rare code in it")
        for at, instruction in enumerate(self.code):
            targets = _targets(instruction) if instruction.op is not Op.LABEL else ()
            once = targets.count(label) if instruction.op is Op.BRCOND else 2 * len(targets)
            _require(
                label not in targets or once == 1, f"instruction {at}: only a brcond leads to a rare label, or past it"
            )
            effects = TABLE[instruction.op].effects
            if at not in within:
                message = f"instruction {at} leads into rare code past its label"
                _require(inner.isdisjoint(targets), message)
                continue
            if effects & Effect.END:
                _require(inner.issuperset(targets), f"instruction {at} leads out of rare code")
            barred = instruction.op is Op.GOTO or (effects & Effect.FAULT and instruction.op is not Op.CALL)
            _require(not barred, f"instruction {at}: rare code cannot use {TABLE[instruction.op].name}")

    @staticmethod
    def find_dominators(blocks: list[_Block]) -> None:
        everything = (1 << len(blocks)) - 1
        for block in blocks[1:]:
            block.dominators = everything
        changed = True
        while changed:
            changed = False
            for block in blocks[1:]:
                dominators = everything
                for predecessor in block.predecessors:
                    dominators &= predecessor.dominators
                dominators |= 1 << block.number
                changed |= dominators != block.dominators
                block.dominators = dominators

    def find_assigned(self, blocks: list[_Block]) -> None:
        """Which locals are surely set at each block's start."""
        everything = (1 << len(self.function.locals)) - 1
        if not everything:
            return
        sets = []
        for block in blocks:
            mask = 0
            for i in self.code[block.start : block.end]:
                if i.op is Op.LOCAL_SET and isinstance(i.aux, Local):
                    mask |= 1 << i.aux.index
            sets.append(mask)
            block.assigned = everything if block.number else 0
        changed = True
        while changed:
            changed = False
            for block in blocks[1:]:
                assigned = everything
                for predecessor in block.predecessors:
                    assigned &= predecessor.assigned | sets[predecessor.number]
                changed |= assigned != block.assigned
                block.assigned = assigned

    def check_flow(self, block: _Block, at: int) -> None:
        instruction = self.code[at]
        for arg in instruction.args:
            place = self.place.get(arg)
            if place is not None and place < block.start:
                definer = bisect_right(self.starts, place) - 1
                message = "uses a value whose definition does not dominate it: some path comes here without it"
                _require(bool(block.dominators >> definer & 1), message)
        if instruction.op is Op.LOCAL_GET and isinstance(instruction.aux, Local):
            message = f"local {instruction.aux!r} is read where some path has not set it"
            _require(bool(block.assigned >> instruction.aux.index & 1), message)
        elif instruction.op is Op.LOCAL_SET and isinstance(instruction.aux, Local):
            block.assigned |= 1 << instruction.aux.index


class _Block:
    """``dominators`` and ``assigned`` are sets of block and local numbers, as bits."""

    def __init__(self, number: int, start: int, end: int) -> None:
        self.number = number
        self.start = start
        self.end = end
        self.predecessors: list[_Block] = []
        self.dominators = 1
        self.assigned = 0


def _targets(instruction: Instruction) -> Sequence[Label]:
    aux = instruction.aux
    return [label for label in (aux if isinstance(aux, tuple) else (aux,)) if isinstance(label, Label)]


def _is_pair(aux: object, kind: type) -> bool:
    return isinstance(aux, tuple) and len(aux) == 2 and all(isinstance(item, kind) for item in aux)


_AUX: dict[str, Callable[[object], bool]] = {
    "None": lambda aux: aux is None,
    "int": lambda aux: isinstance(aux, int),
    "Field": lambda aux: isinstance(aux, Field),
    "FieldArray": lambda aux: isinstance(aux, FieldArray),
    "Local": lambda aux: isinstance(aux, Local),
    "FlagCondition": lambda aux: isinstance(aux, FlagCondition),
    "Condition": lambda aux: isinstance(aux, Condition),
    "tuple[int, int]": lambda aux: _is_pair(aux, int),
    "MemAccess": lambda aux: isinstance(aux, MemAccess),
    "MemoryOrder": lambda aux: isinstance(aux, MemoryOrder),
    "FloatCompare": lambda aux: isinstance(aux, FloatCompare),
    "FloatToInt": lambda aux: isinstance(aux, FloatToInt),
    "IntToFloat": lambda aux: isinstance(aux, IntToFloat),
    "Callee": lambda aux: isinstance(aux, Callee),
    "Label": lambda aux: isinstance(aux, Label),
    "tuple[Label, Label]": lambda aux: _is_pair(aux, Label),
}


# -- rules of single opcodes -------------------------------------------------------------------------------------------


def _field_type(i: Instruction) -> None:
    assert isinstance(i.aux, Field | FieldArray | Local)
    name = f"local {i.aux!r}" if isinstance(i.aux, Local) else i.aux.name
    _require(i.aux.type is i.type, f"{name} is {i.aux.type.name.lower()}, not {i.type.name.lower()}")


def _element(i: Instruction) -> None:
    _field_type(i)
    assert isinstance(i.aux, FieldArray)
    index = i.args[0]
    if index.op is Op.CONST and isinstance(index.aux, int):
        _require(index.aux < len(i.aux), f"{i.aux.name} has no element {index.aux}")


def _flags(i: Instruction) -> None:
    _require(i.args[0].op in WITH_FLAGS, "the operand must be the result of an add, sub, adc or sbc")


def _bit_range(i: Instruction) -> None:
    lsb, width = i.aux if isinstance(i.aux, tuple) else (0, 0)
    message = f"bits {lsb} .. {lsb + width - 1} are not within {i.type.name.lower()}"
    _require(lsb >= 0 and width >= 1 and lsb + width <= i.type.bits, message)


def _sext(i: Instruction) -> None:
    _require(i.args[0].type is Type.I32, f"the operand is {i.args[0].type.name.lower()}, not i32")


def _narrower(i: Instruction) -> None:
    operand = i.args[0].type
    _require(operand in _INTEGERS and operand.bits < i.type.bits, f"{operand.name.lower()} is no narrower integer")


def _wider(i: Instruction) -> None:
    operand = i.args[0].type
    _require(operand in _INTEGERS and operand.bits > i.type.bits, f"{operand.name.lower()} is no wider integer")


def _word(i: Instruction) -> None:
    _require(i.args[0].type in (Type.I32, Type.I64), f"operand 0 is {i.args[0].type.name.lower()}, not i32 or i64")


def _same_integers(i: Instruction) -> None:
    a, b = i.args[0].type, i.args[1].type
    message = f"compares {a.name.lower()} with {b.name.lower()}, not two integers of one type"
    _require(a is b and a in _INTEGERS, message)
    ordered = i.aux not in (Condition.EQ, Condition.NE)
    _require(a is not Type.I1 or not ordered, "truth values have no order: only eq and ne compare them")


def _access(i: Instruction) -> None:
    assert isinstance(i.aux, MemAccess)
    memop = i.aux.memop
    value = i.args[1].type if i.op is Op.STORE_EXCLUSIVE else i.type
    _require(value in (Type.I32, Type.I64), f"{value.name.lower()} cannot be stored exclusively")
    _require(
        memop.size in (1, 2, 4, 8) and memop.size <= value.size, f"{memop.size} bytes do not fit {value.name.lower()}"
    )
    _require(0 <= i.aux.mmu_index < MMU_INDICES, f"there is no MMU index {i.aux.mmu_index}")
    _require(0 <= memop.order <= MemoryOrder.ALL, f"{memop.order} is no memory order")
    beyond = MemoryOrder(memop.order) & ~ACCESS_ORDERS[i.op]
    message = f"{TABLE[i.op].name} cannot give the order {'|'.join(names(beyond))} by itself: emit mb for it"
    _require(not beyond, message)
    if i.op not in (Op.LOAD, Op.STORE):
        _require(memop.align_bytes >= memop.size, "exclusive and atomic accesses must be aligned to their size")


def _same_width(i: Instruction) -> None:
    operand = i.args[0].type
    _require(operand.bits == i.type.bits, f"{operand.name.lower()} and {i.type.name.lower()} differ in width")


def _same_floats(i: Instruction) -> None:
    a, b = i.args[0].type, i.args[1].type
    _require(a is b and a in _FLOATS, f"compares {a.name.lower()} with {b.name.lower()}, not two floats of one type")


def _other_float(i: Instruction) -> None:
    operand = i.args[0].type
    _require(operand in _FLOATS and operand is not i.type, f"converts {operand.name.lower()} to {i.type.name.lower()}")


def _float_to_int(i: Instruction) -> None:
    assert isinstance(i.aux, FloatToInt)
    _require(i.args[0].type in _FLOATS, f"the operand is {i.args[0].type.name.lower()}, no float")
    _require(isinstance(i.aux.rounding, Rounding), f"{i.aux.rounding!r} is no rounding")
    _require(0 <= i.aux.fraction <= _MOST_FRACTION, f"fraction is {i.aux.fraction}, not 0 .. {_MOST_FRACTION}")
    _require(i.aux.width in (0, 16, 32, 64) and i.aux.width <= i.type.bits, f"{i.aux.width} bits cannot be yielded")


def _int_to_float(i: Instruction) -> None:
    assert isinstance(i.aux, IntToFloat)
    _word(i)
    _require(isinstance(i.aux.rounding, Rounding), f"{i.aux.rounding!r} is no rounding")
    _require(0 <= i.aux.fraction <= _MOST_FRACTION, f"fraction is {i.aux.fraction}, not 0 .. {_MOST_FRACTION}")


def _call(i: Instruction) -> None:
    _require(len(i.args) <= _MOST_ARGUMENTS, f"{len(i.args)} arguments; at most {_MOST_ARGUMENTS} can be passed")
    _require(i.type in (Type.VOID, *_INTEGERS), f"a callee cannot yield {i.type.name.lower()}")


def _ret(i: Instruction) -> None:
    _require(len(i.args) <= 1, f"returns {len(i.args)} values")


_RULES: dict[Op, Callable[[Instruction], None]] = {
    Op.GET: _field_type,
    Op.SET: _field_type,
    Op.GET_AT: _element,
    Op.SET_AT: _element,
    Op.LOCAL_GET: _field_type,
    Op.LOCAL_SET: _field_type,
    Op.SET_NZCV: _flags,
    Op.CARRY_OF: _flags,
    Op.OVERFLOW_OF: _flags,
    Op.EXTRACT: _bit_range,
    Op.SEXTRACT: _bit_range,
    Op.DEPOSIT: _bit_range,
    Op.SEXT: _sext,
    Op.ZEXT: _narrower,
    Op.TRUNC: _wider,
    Op.BIT: _word,
    Op.ICMP: _same_integers,
    **dict.fromkeys((Op.LOAD, Op.STORE, Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE), _access),
    **dict.fromkeys((Op.ATOMIC_CMPXCHG, Op.ATOMIC_XCHG, Op.ATOMIC_FETCH_ADD), _access),
    **dict.fromkeys((Op.ATOMIC_FETCH_AND, Op.ATOMIC_FETCH_OR, Op.ATOMIC_FETCH_XOR), _access),
    **dict.fromkeys((Op.ATOMIC_FETCH_SMIN, Op.ATOMIC_FETCH_SMAX, Op.ATOMIC_FETCH_UMIN, Op.ATOMIC_FETCH_UMAX), _access),
    Op.BITCAST: _same_width,
    Op.FCMP: _same_floats,
    Op.FCVT: _other_float,
    Op.FTOI: _float_to_int,
    Op.ITOF: _int_to_float,
    Op.CALL: _call,
    Op.RET: _ret,
}
