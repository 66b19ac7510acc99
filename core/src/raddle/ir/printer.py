# SPDX-License-Identifier: Apache-2.0
"""IR as text, one instruction a line, in the form that ``raddle.ir.parser`` reads back.

::

      local.i32 $0.count                 ; locals are declared first
      local_set.i32 $0.count, 4
    @0.loop:                             ; a label; of code that seldom runs: @0.loop rare:
      v0 = get.i32 r3                    ; fields by name; those of the common CPU header as cpu.name
      v1 = add.i32 v0, %0.imm            ; a hole: its index and name
      v2 = icmp.i1 ult, v1, 5:i32        ; a constant carries a type where the opcode leaves it open
           brcond v2, @0.loop, @1
    @1:
      v3 = load.i32 [u4 align=natural mmu=1], v0

What stands for the instruction's ``aux`` comes first, then the operands; labels come last.
"""

from __future__ import annotations

from collections.abc import Callable

from raddle.ir.builder import Builder, Callee, FloatToInt, Instruction, IntToFloat, Label, Local, MemAccess
from raddle.ir.opcodes import TABLE, Op, Result
from raddle.ir.types import Align, Condition, Field, FlagCondition, Hole, Type
from raddle.ordering import MemoryOrder, names

LARGEST_DECIMAL = 4096
"""Constants up to here are printed in decimal, larger ones in hexadecimal."""


def yields(instruction: Instruction) -> bool:
    """Whether the instruction has a value."""
    return TABLE[instruction.op].result is not Result.NONE and instruction.type is not Type.VOID


def operand_type(op: Op, position: int, type: Type, word: Type) -> Type | None:
    """The type that operand number ``position`` must have; None where the opcode leaves it open.

    ``type`` is the instruction's, ``word`` the guest's address type.
    """
    if op in (Op.PC, Op.GOTO):
        return word
    kinds = TABLE[op].operands
    kind = kinds[position] if position < len(kinds) else "*"
    if kind == "v":
        return type
    return {"i": Type.I32, "l": Type.I64, "b": Type.I1, "a": word}.get(kind)


def print_function(function: Builder) -> str:
    """The whole function; every line ends in a newline. Prints invalid functions, too, as well as it can."""
    printer = _Printer(function)
    lines = [f"  local.{local.type.name.lower()} {_local(local)}" for local in function.locals]
    lines += [printer.line(instruction) for instruction in function.code]
    return "".join(line + "\n" for line in lines)


def print_instruction(function: Builder, instruction: Instruction) -> str:
    """One instruction of ``function``, named as in the whole function's text; for messages."""
    return _Printer(function).line(instruction).strip()


def _signed(value: int) -> str:
    return f"{'-' if value < 0 else '+'}{abs(value)}"


def _suffixed(prefix: str, index: int, name: str) -> str:
    return f"{prefix}{index}.{name}" if name else f"{prefix}{index}"


def _local(local: Local) -> str:
    return _suffixed("$", local.index, local.name)


def _field(field: Field) -> str:
    return f"cpu.{field.name}" if field.offset < 0 else field.name


def _orders(order: int) -> str:
    return "|".join(names(MemoryOrder(order))) or "NONE"


def _access(access: MemAccess) -> str:
    memop = access.memop
    words = [f"{'s' if memop.signed else 'u'}{memop.size}"]
    if memop.big_endian:
        words.append("be")
    if memop.align is not Align.NONE:
        words.append(f"align={memop.align.name.lower()}")
    if memop.order:
        words.append(f"order={_orders(memop.order)}")
    words.append(f"mmu={access.mmu_index}")
    return f"[{' '.join(words)}]"


def _float_to_int(how: FloatToInt) -> str:
    words = ["signed" if how.signed else "unsigned", f"rounding={how.rounding.name.lower()}"]
    if how.fraction:
        words.append(f"fraction={how.fraction}")
    if how.width:
        words.append(f"width={how.width}")
    return f"[{' '.join(words)}]"


def _int_to_float(how: IntToFloat) -> str:
    words = ["signed" if how.signed else "unsigned", f"rounding={how.rounding.name.lower()}"]
    if how.fraction:
        words.append(f"fraction={how.fraction}")
    return f"[{' '.join(words)}]"


def _callee(callee: Callee) -> str:
    words = [callee.kind.name.lower(), callee.name]
    if callee.may_exit:
        words.append("may_exit")
    if callee.pure_state:
        words.append("pure_state")
    return f"[{' '.join(words)}]"


def _bits(aux: tuple[int, int]) -> str:
    return f"[{aux[0]} {aux[1]}]"


_AUX: dict[str, Callable[..., str]] = {
    "int": _signed,
    "Field": _field,
    "FieldArray": lambda array: array.name,
    "Local": _local,
    "FlagCondition": lambda condition: FlagCondition(condition).name.lower(),
    "Condition": lambda condition: Condition(condition).name.lower(),
    "tuple[int, int]": _bits,
    "MemAccess": _access,
    "MemoryOrder": _orders,
    "FloatCompare": lambda kind: kind.name.lower(),
    "FloatToInt": _float_to_int,
    "IntToFloat": _int_to_float,
    "Callee": _callee,
}


class _Printer:
    def __init__(self, function: Builder) -> None:
        self.word = function.word
        self.numbers: dict[Instruction, int] = {}
        for instruction in function.code:
            if yields(instruction):
                self.numbers[instruction] = len(self.numbers)
        self.labels: dict[Label, int] = {}
        for instruction in function.code:
            aux = instruction.aux
            for label in aux if isinstance(aux, tuple) else (aux,):
                if isinstance(label, Label):
                    self.labels.setdefault(label, len(self.labels))

    def line(self, instruction: Instruction) -> str:
        if instruction.op is Op.LABEL and isinstance(instruction.aux, Label):
            return f"{self.label(instruction.aux)}{' rare' if instruction.aux.rare else ''}:"
        info = TABLE[instruction.op]
        text = info.name
        if instruction.type is not Type.VOID:
            text += f".{instruction.type.name.lower()}"
        items = [self.operand(instruction, position) for position in range(len(instruction.args))]
        if info.aux in ("Label", "tuple[Label, Label]"):
            labels = instruction.aux if isinstance(instruction.aux, tuple) else (instruction.aux,)
            items += [self.label(label) for label in labels]
        elif info.aux in _AUX:
            items.insert(0, _describe(info.aux, instruction.aux))
        if items:
            text += " " + ", ".join(items)
        if yields(instruction):
            return f"  v{self.numbers.get(instruction, '?')} = {text}"
        return f"       {text}"

    def label(self, label: object) -> str:
        if isinstance(label, Label) and label in self.labels:
            return _suffixed("@", self.labels[label], label.name)
        return "@?"

    def operand(self, instruction: Instruction, position: int) -> str:
        value = instruction.args[position]
        if value.op is Op.CONST and isinstance(value.aux, int):
            text = str(value.aux) if value.aux <= LARGEST_DECIMAL else hex(value.aux)
        elif value.op is Op.HOLE and isinstance(value.aux, Hole):
            text = _suffixed("%", value.aux.index, value.aux.name)
        else:
            return f"v{self.numbers.get(value, '?')}"
        if operand_type(instruction.op, position, instruction.type, self.word) is None:
            text += f":{value.type.name.lower()}"
        return text


def _describe(kind: str, aux: object) -> str:
    try:
        return _AUX[kind](aux)
    except (AttributeError, TypeError, ValueError, IndexError):
        return f"<{aux!r}>"
