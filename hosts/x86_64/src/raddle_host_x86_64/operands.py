# SPDX-License-Identifier: Apache-2.0
"""A factory for each kind of operands. It takes an encoding's notation and returns the method that appends the
instruction.

The method's arguments are the operands in the order of the factory's name. A memory operand is base and displacement
(m), or base, index, scale and displacement (x). Each method is spelled out, because it runs for each instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final, TypeVar, cast

from raddle.codegen.locations import RegisterClass
from raddle.codegen.renaming import Method, Operands
from raddle_host_x86_64.code_buffer import CodeBuffer, Label
from raddle_host_x86_64.encoding import (
    Encodings,
    Opcode,
    append,
    byte,
    direct,
    indexed,
    int16,
    int32,
    memory,
    opcode_register,
    parse,
    rip_relative,
    scaled,
    word32,
    word64,
)
from raddle_host_x86_64.registers import FLOATING, GENERAL

OPERANDS: Final[dict[Method, Operands]] = {}
"""For each method that a factory has made: which arguments are registers."""

Factory = TypeVar("Factory", bound=Callable[..., Method])


def declares(kinds: str) -> Callable[[Factory], Factory]:
    """Declare that methods of the factory have operands of these kinds, one after the other.

    r, m, x and s are as in `assembler.py`; v is an SSE register, i any number, c a condition.
    """
    registers: list[tuple[int, RegisterClass]] = []
    base = -1
    position = 0
    for kind in kinds:
        if kind == "m":
            base = position
        if kind in "rmxs":
            registers.append((position, GENERAL))
        if kind == "x":
            registers.append((position + 1, GENERAL))
        if kind == "v":
            registers.append((position, FLOATING))
        position += {"m": 2, "x": 4, "s": 3}.get(kind, 1)
    operands = Operands(tuple(registers), base)

    def declare(factory: Factory) -> Factory:
        @wraps(factory)
        def make(*texts: str) -> Method:
            method = factory(*texts)
            OPERANDS.pop(method, None)  # what the factory declared on which this one is built
            if registers:
                OPERANDS[method] = operands
            return method

        return cast(Factory, make)

    return declare


# By the number of integers.
Instruction0 = Callable[[CodeBuffer], None]
Instruction1 = Callable[[CodeBuffer, int], None]
Instruction2 = Callable[[CodeBuffer, int, int], None]
Instruction3 = Callable[[CodeBuffer, int, int, int], None]
Instruction4 = Callable[[CodeBuffer, int, int, int, int], None]
Instruction5 = Callable[[CodeBuffer, int, int, int, int, int], None]


def fixed(text: str) -> Instruction0:
    """No operands: all bytes are given."""
    encoding = bytes.fromhex(text)

    def emit(asm: CodeBuffer) -> None:
        asm.code += encoding

    return emit


@declares("r")
def r(text: str) -> Instruction1:
    """One register, in ModRM.rm."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, register: int) -> None:
        asm.code += encodings[register]

    return emit


@declares("r")
def o(text: str) -> Instruction1:
    """One register, in the opcode."""
    encodings = Encodings(text, opcode_register)

    def emit(asm: CodeBuffer, register: int) -> None:
        asm.code += encodings[register]

    return emit


@declares("m")
def m(text: str) -> Instruction2:
    """One memory operand: base, disp."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int) -> None:
        append(asm.code, encodings, base << 2, disp)

    return emit


def i32(text: str) -> Instruction1:
    """A relative or immediate field of four bytes, signed, the last four bytes."""
    encoding = bytes.fromhex(text)

    def emit(asm: CodeBuffer, value: int) -> None:
        asm.code += encoding + int32(value)

    return emit


@declares("rr")
def rr(text: str) -> Instruction2:
    """Two registers: ModRM.reg, ModRM.rm."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, reg: int, rm: int) -> None:
        asm.code += encodings[reg << 8 | rm]

    return emit


@declares("rr")
def rr_mr(text: str) -> Instruction2:
    """Two registers the other way round: ModRM.rm, ModRM.reg."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, rm: int, reg: int) -> None:
        asm.code += encodings[reg << 8 | rm]

    return emit


@declares("rm")
def rm(text: str) -> Instruction3:
    """Register, base, disp."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, reg: int, base: int, disp: int) -> None:
        append(asm.code, encodings, reg << 10 | base << 2, disp)

    return emit


@declares("mr")
def mr(text: str) -> Instruction3:
    """Base, disp, register."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, reg: int) -> None:
        append(asm.code, encodings, reg << 10 | base << 2, disp)

    return emit


@declares("rx")
def rx(text: str) -> Instruction5:
    """Register, base, index, scale, disp."""
    encodings = Encodings(text, indexed)

    def emit(asm: CodeBuffer, reg: int, base: int, index: int, scale: int, disp: int) -> None:
        append(asm.code, encodings, scale << 26 | index << 18 | reg << 10 | base << 2, disp)

    return emit


@declares("xr")
def xr(text: str) -> Instruction5:
    """Base, index, scale, disp, register."""
    encodings = Encodings(text, indexed)

    def emit(asm: CodeBuffer, base: int, index: int, scale: int, disp: int, reg: int) -> None:
        append(asm.code, encodings, scale << 26 | index << 18 | reg << 10 | base << 2, disp)

    return emit


@declares("rs")
def rs(text: str) -> Instruction4:
    """Register, index, scale, disp: memory without a base, disp32 the last four bytes."""
    encodings = Encodings(text, scaled)

    def emit(asm: CodeBuffer, reg: int, index: int, scale: int, disp: int) -> None:
        asm.code += encodings[scale << 16 | index << 8 | reg] + int32(disp)

    return emit


@declares("ri")
def rp(text: str) -> Instruction2:
    """Register, rip-relative memory: rel32, counted from the end of the instruction, its last four bytes."""
    encodings = Encodings(text, rip_relative)

    def emit(asm: CodeBuffer, reg: int, rel: int) -> None:
        asm.code += encodings[reg] + int32(rel)

    return emit


@declares("ri")
def ri8(text: str) -> Instruction2:
    """Register, a byte given signed or unsigned."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        code += encodings[register]
        code.append(byte(value))

    return emit


@declares("ri")
def ri(short: str, full: str) -> Instruction2:
    """32-bit register, immediate given signed or unsigned: `short` with imm8 where it fits, else `full` with imm32."""
    short_encodings, full_encodings = Encodings(short, direct), Encodings(full, direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFFFF_FF80 <= value <= 0xFFFF_FFFF:
            code += short_encodings[register]
            code.append(value & 0xFF)
        else:
            code += full_encodings[register] + word32(value)

    return emit


@declares("ri")
def riq(short: str, full: str) -> Instruction2:
    """64-bit register, signed immediate: `short` with imm8 where it fits, else `full` with imm32."""
    short_encodings, full_encodings = Encodings(short, direct), Encodings(full, direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            code += short_encodings[register]
            code.append(value & 0xFF)
        else:
            code += full_encodings[register] + int32(value)

    return emit


@declares("ri")
def rI(text: str) -> Instruction2:
    """32-bit register, immediate given signed or unsigned, always imm32: the last four bytes."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += encodings[register] + word32(value)

    return emit


@declares("ri")
def rIq(text: str) -> Instruction2:
    """64-bit register, signed immediate, always imm32: the last four bytes."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += encodings[register] + int32(value)

    return emit


@declares("ri")
def oI(text: str) -> Instruction2:
    """32-bit register in the opcode, imm32 given signed or unsigned: the last four bytes."""
    encodings = Encodings(text, opcode_register)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += encodings[register] + word32(value)

    return emit


@declares("ri")
def oI64(text: str) -> Instruction2:
    """64-bit register in the opcode, imm64 given signed or unsigned: the last eight bytes."""
    encodings = Encodings(text, opcode_register)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += encodings[register] + word64(value)

    return emit


@declares("mi")
def mi8(text: str) -> Instruction3:
    """Base, disp, a byte given signed or unsigned."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        append(code, encodings, base << 2, disp)
        code.append(byte(value))

    return emit


@declares("mi")
def mi(short: str, full: str) -> Instruction3:
    """32-bit memory at base, disp; immediate as in `ri`."""
    short_encodings, full_encodings = Encodings(short, memory), Encodings(full, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFFFF_FF80 <= value <= 0xFFFF_FFFF:
            append(code, short_encodings, base << 2, disp)
            code.append(value & 0xFF)
        else:
            append(code, full_encodings, base << 2, disp)
            code += word32(value)

    return emit


@declares("mi")
def miq(short: str, full: str) -> Instruction3:
    """64-bit memory at base, disp; immediate as in `riq`."""
    short_encodings, full_encodings = Encodings(short, memory), Encodings(full, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            append(code, short_encodings, base << 2, disp)
            code.append(value & 0xFF)
        else:
            append(code, full_encodings, base << 2, disp)
            code += int32(value)

    return emit


@declares("mi")
def mI(text: str) -> Instruction3:
    """32-bit memory at base, disp; immediate as in `rI`."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        append(code, encodings, base << 2, disp)
        code += word32(value)

    return emit


@declares("mi")
def mIq(text: str) -> Instruction3:
    """64-bit memory at base, disp; immediate as in `rIq`."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        append(code, encodings, base << 2, disp)
        code += int32(value)

    return emit


@declares("mi")
def mIw(text: str) -> Instruction3:
    """16-bit memory at base, disp; immediate as in `rIw`."""
    encodings = Encodings(text, memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        append(code, encodings, base << 2, disp)
        code += int16(value)

    return emit


@declares("rri")
def rri8(text: str) -> Instruction3:
    """Two registers, ModRM.reg and ModRM.rm, and a byte given signed or unsigned."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, value: int) -> None:
        code = asm.code
        code += encodings[reg << 8 | rm]
        code.append(byte(value))

    return emit


@declares("rri")
def rriq(short: str, full: str) -> Instruction3:
    """Two 64-bit registers, ModRM.reg and ModRM.rm; immediate as in `riq`."""
    short_encodings, full_encodings = Encodings(short, direct), Encodings(full, direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            code += short_encodings[reg << 8 | rm]
            code.append(value & 0xFF)
        else:
            code += full_encodings[reg << 8 | rm] + int32(value)

    return emit


@declares("rrr")
def rrr(text: str) -> Instruction3:
    """VEX, three registers: ModRM.reg, VEX.vvvv, ModRM.rm."""
    encodings = Encodings(text, direct)

    def emit(asm: CodeBuffer, reg: int, vvvv: int, rm: int) -> None:
        asm.code += encodings[vvvv << 16 | reg << 8 | rm]

    return emit


# --- The same encodings with SSE registers ---

vv = declares("vv")(rr)
vr = declares("vr")(rr)
rv = declares("rv")(rr)
rv_mr = declares("rv")(rr_mr)
vm = declares("vm")(rm)
mv = declares("mv")(mr)
vx = declares("vx")(rx)
xv = declares("xv")(xr)
vvv = declares("vvv")(rrr)


# --- Factories for conditional instructions; the condition code is the first argument ---


def _by_condition(text: str, build: Callable[[Opcode, int], bytes]) -> tuple[Encodings, ...]:
    return tuple(Encodings(text, build, condition) for condition in range(16))


@declares("cr")
def cc_r(text: str) -> Instruction2:
    """Condition, register in ModRM.rm."""
    encodings = _by_condition(text, direct)

    def emit(asm: CodeBuffer, condition: int, register: int) -> None:
        asm.code += encodings[condition][register]

    return emit


def cc_h(text: str) -> Instruction2:
    """Condition, one of ah, ch, dh and bh as 0 to 3 (the low byte is that of `cc_r`)."""
    encodings = _by_condition(text, direct)

    def emit(asm: CodeBuffer, condition: int, register: int) -> None:
        asm.code += encodings[condition][register + 4]

    return emit


@declares("crr")
def cc_rr(text: str) -> Instruction3:
    """Condition, ModRM.reg, ModRM.rm."""
    encodings = _by_condition(text, direct)

    def emit(asm: CodeBuffer, condition: int, reg: int, rm: int) -> None:
        asm.code += encodings[condition][reg << 8 | rm]

    return emit


def cc_rel32(text: str) -> Instruction2:
    """Condition, rel32: the last four bytes."""
    encodings = tuple(parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, rel: int) -> None:
        asm.code += encodings[condition] + int32(rel)

    return emit


# --- Factories for instructions that refer to a label ---


def near(text: str) -> Callable[[CodeBuffer, Label], None]:
    """A label, by rel32."""
    encoding = bytes.fromhex(text)

    def emit(asm: CodeBuffer, label: Label) -> None:
        asm.code += encoding
        asm.refer_near(label)

    return emit


def cc_near(text: str) -> Callable[[CodeBuffer, int, Label], None]:
    """Condition, a label, by rel32."""
    encodings = tuple(parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, label: Label) -> None:
        asm.code += encodings[condition]
        asm.refer_near(label)

    return emit
