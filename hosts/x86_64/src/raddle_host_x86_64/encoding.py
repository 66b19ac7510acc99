# SPDX-License-Identifier: Apache-2.0
"""How operands become machine code: the notation of `assembler.py`'s table, and one factory a kind of operands.

An encoding is written as in the Intel SDM, volume 2 (section 3.1.1.1), less the immediate, which the factory knows:

    "REX.W 83 /0"               /0 to /7: the digit in ModRM.reg; /r: a register is there
    "66 0F B1 /r"               legacy prefixes first, REX is put behind them
    "0F B6 /r rm8", "88 /r r8"  ModRM.rm, ModRM.reg is a byte register (4 to 7 need a REX prefix)
    "VEX.LZ.F2.0F3A.W0 F0 /r"

A factory parses that once and returns the method that appends the instruction. What depends on the registers alone is
built on first use by the slow, plain functions below and kept in a `_Forms`; a call is then a look-up, an append
and the displacement or immediate. A `_Forms` key has eight bits a register: a wrong number cannot hit a valid key.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple

_WORD16: Final = Struct("<H").pack
_INT32: Final = Struct("<i").pack
_INT64: Final = Struct("<q").pack
_PATCH32: Final = Struct("<i").pack_into

_LEGACY_PREFIXES: Final = (0xF0, 0x66, 0xF2, 0xF3)
_VEX_PREFIXES: Final = {"NP": 0, "66": 1, "F3": 2, "F2": 3}
_VEX_MAPS: Final = {"0F": 1, "0F38": 2, "0F3A": 3}
_SCALES: Final = {1: 0, 2: 1, 4: 2, 8: 3}


class EncodingError(ValueError):
    """An operand that the instruction cannot hold, or a label used and never bound."""


# --- Labels and the buffer ---


class Label:
    """A place in one buffer's code: made by `CodeBuffer.label`, jumped to before or after `CodeBuffer.bind`."""

    __slots__ = ("fixups", "position")

    def __init__(self) -> None:
        self.position = -1  # offset in the code, -1 until bound
        self.fixups: list[tuple[int, int]] = []  # (offset, bytes) of the relative fields that wait for the position


class CodeBuffer:
    """Machine code under construction, in `code`. One thread uses it at a time."""

    __slots__ = ("_waiting", "code")

    def __init__(self) -> None:
        self.code = bytearray()
        self._waiting = 0  # fields that wait for a label

    def label(self) -> Label:
        """A new label, not bound yet."""
        return Label()

    def bind(self, label: Label) -> None:
        """Let `label` be the end of the code so far. EncodingError when it is bound or a short jump cannot reach it."""
        if label.position >= 0:
            raise EncodingError(f"label bound twice, at {label.position:#x} and {len(self.code):#x}")
        position = label.position = len(self.code)
        for offset, size in label.fixups:
            if size == 4:
                _PATCH32(self.code, offset, position - offset - 4)
            else:
                self.code[offset] = _short(position - offset - 1)
        self._waiting -= len(label.fixups)
        label.fixups.clear()

    def finish(self) -> bytes:
        """The code. EncodingError when a label was used and never bound."""
        if self._waiting:
            raise EncodingError(f"{self._waiting} uses of labels that were never bound")
        return bytes(self.code)

    def _refer_near(self, label: Label) -> None:
        offset = len(self.code)
        if label.position >= 0:
            self.code += _INT32(label.position - offset - 4)
        else:
            label.fixups.append((offset, 4))
            self._waiting += 1
            self.code += b"\0\0\0\0"

    def _refer_short(self, label: Label) -> None:
        offset = len(self.code)
        if label.position >= 0:
            self.code.append(_short(label.position - offset - 1))
        else:
            label.fixups.append((offset, 1))
            self._waiting += 1
            self.code.append(0)


# --- Fields that follow the opcode ---


def _short(distance: int) -> int:
    if not -128 <= distance <= 127:
        raise EncodingError(f"a short jump cannot reach {distance} bytes; use the near form")
    return distance & 0xFF


def _byte(value: int) -> int:
    """Eight bits, given signed or unsigned."""
    if not -128 <= value <= 255:
        raise EncodingError(f"{value:#x} does not fit an 8-bit field")
    return value & 0xFF


def _int16(value: int) -> bytes:
    """Sixteen bits, given signed or unsigned."""
    if not -0x8000 <= value <= 0xFFFF:
        raise EncodingError(f"{value:#x} does not fit a 16-bit field")
    return _WORD16(value & 0xFFFF)


def _int32(value: int) -> bytes:
    """A signed 32-bit field, which the instruction may extend to 64 bits."""
    try:
        return _INT32(value)
    except struct_error:
        raise EncodingError(f"{value:#x} does not fit a signed 32-bit field") from None


def _word32(value: int) -> bytes:
    """Thirty-two bits, given signed or unsigned."""
    return _int32(value - (1 << 32) if 0x7FFF_FFFF < value <= 0xFFFF_FFFF else value)


def _word64(value: int) -> bytes:
    """Sixty-four bits, given signed or unsigned."""
    try:
        return _INT64(value - (1 << 64) if value >> 63 == 1 else value)
    except struct_error:
        raise EncodingError(f"{value:#x} does not fit a 64-bit field") from None


# --- Prefixes, opcode and ModRM: the slow part, once for each combination of registers ---


class _Vex(NamedTuple):
    map: int
    length_and_prefix: int  # L and pp, as in the last VEX byte


class _Opcode(NamedTuple):
    prefixes: bytes
    w: int  # REX.W or VEX.W
    vex: _Vex | None
    opcode: bytes  # escape bytes included, but for VEX
    digit: int | None  # what ModRM.reg holds, or None for a register
    byte_reg: bool
    byte_rm: bool


def _parse(text: str, condition: int = 0) -> _Opcode:
    """Read the table's notation. `condition` is added to the opcode's last byte."""
    prefixes, opcode = bytearray(), bytearray()
    w, vex, digit, byte_reg, byte_rm = 0, None, None, False, False
    for token in text.split():
        if token == "REX.W":
            w = 1
        elif token.startswith("VEX."):
            _, length, prefix, escape, wide = token.split(".")
            w = int(wide == "W1")
            vex = _Vex(_VEX_MAPS[escape], (length == "256") << 2 | _VEX_PREFIXES[prefix])
        elif token == "r8":
            byte_reg = True
        elif token == "rm8":
            byte_rm = True
        elif token.startswith("/"):
            digit = None if token == "/r" else int(token[1:])
        elif vex is None and not opcode and int(token, 16) in _LEGACY_PREFIXES:
            prefixes.append(int(token, 16))
        else:
            opcode.append(int(token, 16))
    opcode[-1] += condition
    return _Opcode(bytes(prefixes), w, vex, bytes(opcode), digit, byte_reg, byte_rm)


class _Forms(dict[int, bytes]):
    """What one encoding's instructions start with, by their registers.

    Filled on demand, the notation read only then: few encodings are ever used. A race of two threads builds one twice.
    """

    __slots__ = ("_build", "_condition", "_text")

    def __init__(self, text: str, build: Callable[[_Opcode, int], bytes], condition: int = 0) -> None:
        super().__init__()
        self._text = text
        self._condition = condition
        self._build = build

    def __missing__(self, key: int) -> bytes:
        form = self[key] = self._build(_parse(self._text, self._condition), key)
        return form


def _registers(key: int, count: int) -> list[int]:
    """The registers in a key, the lowest eight bits first."""
    numbers = [key >> 8 * place & 0xFF for place in range(count)]
    if key >> 8 * count or max(numbers) > 15:
        raise EncodingError(f"not {count} register numbers from 0 to 15: {numbers}, key {key:#x}")
    return numbers


def _lead(op: _Opcode, reg: int, index: int, rm: int, vvvv: int = 0, *, rex: bool = False) -> bytes:
    """All bytes before ModRM."""
    r, x, b = reg >> 3, index >> 3, rm >> 3
    if op.vex is not None:
        last = (vvvv ^ 15) << 3 | op.vex.length_and_prefix
        if op.vex.map == 1 and not (op.w or x or b):
            return bytes((0xC5, (r ^ 1) << 7 | last)) + op.opcode
        return bytes((0xC4, (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | op.vex.map, op.w << 7 | last)) + op.opcode
    bits = op.w << 3 | r << 2 | x << 1 | b
    if bits or rex or (op.byte_reg and reg >= 4):
        return op.prefixes + bytes((0x40 | bits,)) + op.opcode
    return op.prefixes + op.opcode


def _direct(op: _Opcode, key: int) -> bytes:
    """Key: vvvv << 16 | reg << 8 | rm, or vvvv << 16 | rm with a digit. Both operands are registers."""
    rm, reg, vvvv = _registers(key, 3 if op.vex is not None else 2) + [0] * (op.vex is None)
    if op.digit is not None:
        if reg:
            raise EncodingError(f"not a register number from 0 to 15: {key:#x}")
        reg = op.digit
    return _lead(op, reg, 0, rm, vvvv, rex=op.byte_rm and rm >= 4) + bytes((0xC0 | (reg & 7) << 3 | rm & 7,))


def _opcode_register(op: _Opcode, key: int) -> bytes:
    """Key: the register, in the opcode's low three bits. No ModRM."""
    (register,) = _registers(key, 1)
    lead = _lead(op, 0, 0, register)
    return lead[:-1] + bytes((lead[-1] | register & 7,))


def _memory(op: _Opcode, key: int) -> bytes:
    """Key: (reg << 8 | base) << 2 | mod, where mod is 0 for no displacement, 1 for disp8 to follow, 2 for disp32."""
    mod = key & 3
    base, reg = _registers(key >> 2, 2)
    if op.digit is not None:
        reg = op.digit
    code = _lead(op, reg, 0, base)
    # rm = 4 says that a SIB byte follows, which then says rsp or r12 without an index; mod = 0 with rm = 5 is
    # rip-relative, so rbp and r13 take a displacement of 0.
    sib = b"\x24" if base & 7 == 4 else b""
    if mod == 0 and base & 7 == 5:
        return code + bytes((0x40 | (reg & 7) << 3 | 5, 0))
    return code + bytes((mod << 6 | (reg & 7) << 3 | base & 7,)) + sib


def _indexed(op: _Opcode, key: int) -> bytes:
    """Key: (scale << 24 | index << 16 | reg << 8 | base) << 2 | mod, with mod as in `_memory`."""
    mod, scale = key & 3, key >> 26
    base, reg, index = _registers(key >> 2 & 0xFFFFFF, 3)
    if op.digit is not None:
        reg = op.digit
    if index == 4:
        raise EncodingError("rsp cannot be an index")
    if scale not in _SCALES:
        raise EncodingError(f"scale is {scale}, must be 1, 2, 4 or 8")
    sib = _SCALES[scale] << 6 | (index & 7) << 3 | base & 7
    code = _lead(op, reg, index, base)
    if mod == 0 and base & 7 == 5:
        return code + bytes((0x44 | (reg & 7) << 3, sib, 0))
    return code + bytes((mod << 6 | (reg & 7) << 3 | 4, sib))


def _scaled(op: _Opcode, key: int) -> bytes:
    """Key: scale << 16 | index << 8 | reg. No base, disp32 to follow."""
    reg, index = _registers(key & 0xFFFF, 2)
    scale = key >> 16
    if index == 4:
        raise EncodingError("rsp cannot be an index")
    if scale not in _SCALES:
        raise EncodingError(f"scale is {scale}, must be 1, 2, 4 or 8")
    sib = _SCALES[scale] << 6 | (index & 7) << 3 | 5
    return _lead(op, reg, index, 0) + bytes(((reg & 7) << 3 | 4, sib))


def _rip_relative(op: _Opcode, key: int) -> bytes:
    """Key: reg. rel32 to follow."""
    (reg,) = _registers(key, 1)
    if op.digit is not None:
        reg = op.digit
    return _lead(op, reg, 0, 0) + bytes(((reg & 7) << 3 | 5,))


def _append(code: bytearray, forms: _Forms, key: int, disp: int) -> None:
    """Append what `_memory` or `_indexed` built for the key, with the shortest displacement."""
    if not disp:
        code += forms[key]
    elif -128 <= disp <= 127:
        code += forms[key | 1]
        code.append(disp & 0xFF)
    else:
        code += forms[key | 2] + _int32(disp)


# --- Factories, one a kind of operands; the method's arguments are the operands in the order of the name ---

# By the number of integers.
Instruction0 = Callable[[CodeBuffer], None]
Instruction1 = Callable[[CodeBuffer, int], None]
Instruction2 = Callable[[CodeBuffer, int, int], None]
Instruction3 = Callable[[CodeBuffer, int, int, int], None]
Instruction4 = Callable[[CodeBuffer, int, int, int, int], None]
Instruction5 = Callable[[CodeBuffer, int, int, int, int, int], None]
Instruction6 = Callable[[CodeBuffer, int, int, int, int, int, int], None]


def fixed(text: str) -> Instruction0:
    """No operands: all bytes are given."""
    form = bytes.fromhex(text)

    def emit(asm: CodeBuffer) -> None:
        asm.code += form

    return emit


def r(text: str) -> Instruction1:
    """One register, in ModRM.rm."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, register: int) -> None:
        asm.code += forms[register]

    return emit


def o(text: str) -> Instruction1:
    """One register, in the opcode."""
    forms = _Forms(text, _opcode_register)

    def emit(asm: CodeBuffer, register: int) -> None:
        asm.code += forms[register]

    return emit


def m(text: str) -> Instruction2:
    """One memory operand: base, disp."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int) -> None:
        _append(asm.code, forms, base << 2, disp)

    return emit


def x(text: str) -> Instruction4:
    """One indexed memory operand: base, index, scale, disp."""
    forms = _Forms(text, _indexed)

    def emit(asm: CodeBuffer, base: int, index: int, scale: int, disp: int) -> None:
        _append(asm.code, forms, scale << 26 | index << 18 | base << 2, disp)

    return emit


def p(text: str) -> Instruction1:
    """One rip-relative memory operand: rel32, counted from the end of the instruction, its last four bytes."""
    form = _Forms(text, _rip_relative)[0]

    def emit(asm: CodeBuffer, rel: int) -> None:
        asm.code += form + _int32(rel)

    return emit


def i8(text: str) -> Instruction1:
    """A relative or immediate byte, signed."""
    form = bytes.fromhex(text)

    def emit(asm: CodeBuffer, value: int) -> None:
        code = asm.code
        code += form
        code.append(_short(value))

    return emit


def i32(text: str) -> Instruction1:
    """A relative or immediate field of four bytes, signed, the last four bytes."""
    form = bytes.fromhex(text)

    def emit(asm: CodeBuffer, value: int) -> None:
        asm.code += form + _int32(value)

    return emit


def rr(text: str) -> Instruction2:
    """Two registers: ModRM.reg, ModRM.rm."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, reg: int, rm: int) -> None:
        asm.code += forms[reg << 8 | rm]

    return emit


def rr_mr(text: str) -> Instruction2:
    """Two registers the other way round: ModRM.rm, ModRM.reg."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, rm: int, reg: int) -> None:
        asm.code += forms[reg << 8 | rm]

    return emit


def rm(text: str) -> Instruction3:
    """Register, base, disp."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, reg: int, base: int, disp: int) -> None:
        _append(asm.code, forms, reg << 10 | base << 2, disp)

    return emit


def mr(text: str) -> Instruction3:
    """Base, disp, register."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, reg: int) -> None:
        _append(asm.code, forms, reg << 10 | base << 2, disp)

    return emit


def rx(text: str) -> Instruction5:
    """Register, base, index, scale, disp."""
    forms = _Forms(text, _indexed)

    def emit(asm: CodeBuffer, reg: int, base: int, index: int, scale: int, disp: int) -> None:
        _append(asm.code, forms, scale << 26 | index << 18 | reg << 10 | base << 2, disp)

    return emit


def xr(text: str) -> Instruction5:
    """Base, index, scale, disp, register."""
    forms = _Forms(text, _indexed)

    def emit(asm: CodeBuffer, base: int, index: int, scale: int, disp: int, reg: int) -> None:
        _append(asm.code, forms, scale << 26 | index << 18 | reg << 10 | base << 2, disp)

    return emit


def rs(text: str) -> Instruction4:
    """Register, index, scale, disp: memory without a base, disp32 the last four bytes."""
    forms = _Forms(text, _scaled)

    def emit(asm: CodeBuffer, reg: int, index: int, scale: int, disp: int) -> None:
        asm.code += forms[scale << 16 | index << 8 | reg] + _int32(disp)

    return emit


def rp(text: str) -> Instruction2:
    """Register, rip-relative memory: rel32, counted from the end of the instruction, its last four bytes."""
    forms = _Forms(text, _rip_relative)

    def emit(asm: CodeBuffer, reg: int, rel: int) -> None:
        asm.code += forms[reg] + _int32(rel)

    return emit


def ri8(text: str) -> Instruction2:
    """Register, a byte given signed or unsigned."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        code += forms[register]
        code.append(_byte(value))

    return emit


def ri(short: str, full: str) -> Instruction2:
    """32-bit register, immediate given signed or unsigned: `short` with imm8 where it fits, else `full` with imm32."""
    short_forms, full_forms = _Forms(short, _direct), _Forms(full, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFFFF_FF80 <= value <= 0xFFFF_FFFF:
            code += short_forms[register]
            code.append(value & 0xFF)
        else:
            code += full_forms[register] + _word32(value)

    return emit


def riq(short: str, full: str) -> Instruction2:
    """64-bit register, signed immediate: `short` with imm8 where it fits, else `full` with imm32."""
    short_forms, full_forms = _Forms(short, _direct), _Forms(full, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            code += short_forms[register]
            code.append(value & 0xFF)
        else:
            code += full_forms[register] + _int32(value)

    return emit


def riw(short: str, full: str) -> Instruction2:
    """16-bit register, immediate given signed or unsigned: `short` with imm8 where it fits, else `full` with imm16."""
    short_forms, full_forms = _Forms(short, _direct), _Forms(full, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFF80 <= value <= 0xFFFF:
            code += short_forms[register]
            code.append(value & 0xFF)
        else:
            code += full_forms[register] + _int16(value)

    return emit


def rI(text: str) -> Instruction2:
    """32-bit register, immediate given signed or unsigned, always imm32: the last four bytes."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += forms[register] + _word32(value)

    return emit


def rIq(text: str) -> Instruction2:
    """64-bit register, signed immediate, always imm32: the last four bytes."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += forms[register] + _int32(value)

    return emit


def rIw(text: str) -> Instruction2:
    """16-bit register, immediate given signed or unsigned, always imm16: the last two bytes."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += forms[register] + _int16(value)

    return emit


def oI(text: str) -> Instruction2:
    """32-bit register in the opcode, imm32 given signed or unsigned: the last four bytes."""
    forms = _Forms(text, _opcode_register)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += forms[register] + _word32(value)

    return emit


def oI64(text: str) -> Instruction2:
    """64-bit register in the opcode, imm64 given signed or unsigned: the last eight bytes."""
    forms = _Forms(text, _opcode_register)

    def emit(asm: CodeBuffer, register: int, value: int) -> None:
        asm.code += forms[register] + _word64(value)

    return emit


def mi8(text: str) -> Instruction3:
    """Base, disp, a byte given signed or unsigned."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        _append(code, forms, base << 2, disp)
        code.append(_byte(value))

    return emit


def mi(short: str, full: str) -> Instruction3:
    """32-bit memory at base, disp; immediate as in `ri`."""
    short_forms, full_forms = _Forms(short, _memory), _Forms(full, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFFFF_FF80 <= value <= 0xFFFF_FFFF:
            _append(code, short_forms, base << 2, disp)
            code.append(value & 0xFF)
        else:
            _append(code, full_forms, base << 2, disp)
            code += _word32(value)

    return emit


def miq(short: str, full: str) -> Instruction3:
    """64-bit memory at base, disp; immediate as in `riq`."""
    short_forms, full_forms = _Forms(short, _memory), _Forms(full, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            _append(code, short_forms, base << 2, disp)
            code.append(value & 0xFF)
        else:
            _append(code, full_forms, base << 2, disp)
            code += _int32(value)

    return emit


def miw(short: str, full: str) -> Instruction3:
    """16-bit memory at base, disp; immediate as in `riw`."""
    short_forms, full_forms = _Forms(short, _memory), _Forms(full, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFF80 <= value <= 0xFFFF:
            _append(code, short_forms, base << 2, disp)
            code.append(value & 0xFF)
        else:
            _append(code, full_forms, base << 2, disp)
            code += _int16(value)

    return emit


def mI(text: str) -> Instruction3:
    """32-bit memory at base, disp; immediate as in `rI`."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        _append(code, forms, base << 2, disp)
        code += _word32(value)

    return emit


def mIq(text: str) -> Instruction3:
    """64-bit memory at base, disp; immediate as in `rIq`."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        _append(code, forms, base << 2, disp)
        code += _int32(value)

    return emit


def mIw(text: str) -> Instruction3:
    """16-bit memory at base, disp; immediate as in `rIw`."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, base: int, disp: int, value: int) -> None:
        code = asm.code
        _append(code, forms, base << 2, disp)
        code += _int16(value)

    return emit


def rri8(text: str) -> Instruction3:
    """Two registers, ModRM.reg and ModRM.rm, and a byte given signed or unsigned."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, value: int) -> None:
        code = asm.code
        code += forms[reg << 8 | rm]
        code.append(_byte(value))

    return emit


def rri8_mr(text: str) -> Instruction3:
    """Two registers, ModRM.rm and ModRM.reg, and a byte given signed or unsigned."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, rm: int, reg: int, value: int) -> None:
        code = asm.code
        code += forms[reg << 8 | rm]
        code.append(_byte(value))

    return emit


def rri(short: str, full: str) -> Instruction3:
    """Two 32-bit registers, ModRM.reg and ModRM.rm; immediate as in `ri`."""
    short_forms, full_forms = _Forms(short, _direct), _Forms(full, _direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127 or 0xFFFF_FF80 <= value <= 0xFFFF_FFFF:
            code += short_forms[reg << 8 | rm]
            code.append(value & 0xFF)
        else:
            code += full_forms[reg << 8 | rm] + _word32(value)

    return emit


def rriq(short: str, full: str) -> Instruction3:
    """Two 64-bit registers, ModRM.reg and ModRM.rm; immediate as in `riq`."""
    short_forms, full_forms = _Forms(short, _direct), _Forms(full, _direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, value: int) -> None:
        code = asm.code
        if -128 <= value <= 127:
            code += short_forms[reg << 8 | rm]
            code.append(value & 0xFF)
        else:
            code += full_forms[reg << 8 | rm] + _int32(value)

    return emit


def rmi8(text: str) -> Instruction4:
    """Register, base, disp, a byte given signed or unsigned."""
    forms = _Forms(text, _memory)

    def emit(asm: CodeBuffer, reg: int, base: int, disp: int, value: int) -> None:
        code = asm.code
        _append(code, forms, reg << 10 | base << 2, disp)
        code.append(_byte(value))

    return emit


def rrr(text: str) -> Instruction3:
    """VEX, three registers: ModRM.reg, VEX.vvvv, ModRM.rm."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, reg: int, vvvv: int, rm: int) -> None:
        asm.code += forms[vvvv << 16 | reg << 8 | rm]

    return emit


def rrr_rmv(text: str) -> Instruction3:
    """VEX, three registers: ModRM.reg, ModRM.rm, VEX.vvvv."""
    forms = _Forms(text, _direct)

    def emit(asm: CodeBuffer, reg: int, rm: int, vvvv: int) -> None:
        asm.code += forms[vvvv << 16 | reg << 8 | rm]

    return emit


# --- Factories for conditional instructions; the condition code is the first argument ---


def _by_condition(text: str, build: Callable[[_Opcode, int], bytes]) -> tuple[_Forms, ...]:
    return tuple(_Forms(text, build, condition) for condition in range(16))


def cc_r(text: str) -> Instruction2:
    """Condition, register in ModRM.rm."""
    forms = _by_condition(text, _direct)

    def emit(asm: CodeBuffer, condition: int, register: int) -> None:
        asm.code += forms[condition][register]

    return emit


def cc_m(text: str) -> Instruction3:
    """Condition, base, disp."""
    forms = _by_condition(text, _memory)

    def emit(asm: CodeBuffer, condition: int, base: int, disp: int) -> None:
        _append(asm.code, forms[condition], base << 2, disp)

    return emit


def cc_rr(text: str) -> Instruction3:
    """Condition, ModRM.reg, ModRM.rm."""
    forms = _by_condition(text, _direct)

    def emit(asm: CodeBuffer, condition: int, reg: int, rm: int) -> None:
        asm.code += forms[condition][reg << 8 | rm]

    return emit


def cc_rm(text: str) -> Instruction4:
    """Condition, register, base, disp."""
    forms = _by_condition(text, _memory)

    def emit(asm: CodeBuffer, condition: int, reg: int, base: int, disp: int) -> None:
        _append(asm.code, forms[condition], reg << 10 | base << 2, disp)

    return emit


def cc_rel8(text: str) -> Instruction2:
    """Condition, rel8."""
    forms = tuple(_parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, rel: int) -> None:
        code = asm.code
        code += forms[condition]
        code.append(_short(rel))

    return emit


def cc_rel32(text: str) -> Instruction2:
    """Condition, rel32: the last four bytes."""
    forms = tuple(_parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, rel: int) -> None:
        asm.code += forms[condition] + _int32(rel)

    return emit


# --- Factories for instructions that refer to a label ---


def short(text: str) -> Callable[[CodeBuffer, Label], None]:
    """A label in reach of rel8."""
    form = bytes.fromhex(text)

    def emit(asm: CodeBuffer, label: Label) -> None:
        asm.code += form
        asm._refer_short(label)

    return emit


def near(text: str) -> Callable[[CodeBuffer, Label], None]:
    """A label, by rel32."""
    form = bytes.fromhex(text)

    def emit(asm: CodeBuffer, label: Label) -> None:
        asm.code += form
        asm._refer_near(label)

    return emit


def cc_short(text: str) -> Callable[[CodeBuffer, int, Label], None]:
    """Condition, a label in reach of rel8."""
    forms = tuple(_parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, label: Label) -> None:
        asm.code += forms[condition]
        asm._refer_short(label)

    return emit


def cc_near(text: str) -> Callable[[CodeBuffer, int, Label], None]:
    """Condition, a label, by rel32."""
    forms = tuple(_parse(text, condition).opcode for condition in range(16))

    def emit(asm: CodeBuffer, condition: int, label: Label) -> None:
        asm.code += forms[condition]
        asm._refer_near(label)

    return emit


def r_label(text: str) -> Callable[[CodeBuffer, int, Label], None]:
    """Register, rip-relative memory at a label."""
    forms = _Forms(text, _rip_relative)

    def emit(asm: CodeBuffer, reg: int, label: Label) -> None:
        asm.code += forms[reg]
        asm._refer_near(label)

    return emit
