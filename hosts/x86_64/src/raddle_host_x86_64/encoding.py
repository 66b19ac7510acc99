# SPDX-License-Identifier: Apache-2.0
"""Makes machine code from an encoding in the Intel SDM's notation and from register numbers.

An encoding is written as in the SDM, volume 2 (section 3.1.1.1), without the immediate, which the operand kind implies:

    "REX.W 83 /0"               /0 to /7: the digit in ModRM.reg; /r: a register is there
    "66 0F B1 /r"               legacy prefixes first, REX is put behind them
    "0F B6 /r rm8", "88 /r r8"  ModRM.rm, ModRM.reg is a byte register (4 to 7 need a REX prefix)
    "VEX.LZ.F2.0F3A.W0 F0 /r"

The slow, plain functions below build what depends on registers only, on first use, and `Encodings` keeps it. From then
on an instruction takes one look-up, and its displacement or immediate. A key of `Encodings` has eight bits for each
register, so that a wrong number cannot hit a valid key.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple

from raddle_host_x86_64.code_buffer import EncodingError

_WORD16: Final = Struct("<H").pack
_INT32: Final = Struct("<i").pack
_INT64: Final = Struct("<q").pack

_LEGACY_PREFIXES: Final = (0xF0, 0x66, 0xF2, 0xF3)
_VEX_PREFIXES: Final = {"NP": 0, "66": 1, "F3": 2, "F2": 3}
_VEX_MAPS: Final = {"0F38": 2, "0F3A": 3}
_SCALES: Final = {1: 0, 2: 1, 4: 2, 8: 3}


# --- Prefixes, opcode and ModRM: the slow part, once for each combination of registers ---


class _Vex(NamedTuple):
    """The fields of a VEX prefix; L is 0 in all that the table has (LZ, LIG)."""

    map: int
    pp: int


class Opcode(NamedTuple):
    prefixes: bytes
    w: int  # REX.W or VEX.W
    vex: _Vex | None
    opcode: bytes  # with the escape bytes, except for VEX
    digit: int | None  # what ModRM.reg holds, or None for a register
    byte_reg: bool
    byte_rm: bool


def parse(text: str, condition: int = 0) -> Opcode:
    """Read the table's notation. `condition` is added to the opcode's last byte."""
    prefixes, opcode = bytearray(), bytearray()
    w, vex, digit, byte_reg, byte_rm = 0, None, None, False, False
    for token in text.split():
        if token == "REX.W":
            w = 1
        elif token.startswith("VEX."):
            _, _, prefix, escape, wide = token.split(".")
            w = int(wide == "W1")
            vex = _Vex(_VEX_MAPS[escape], _VEX_PREFIXES[prefix])
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
    return Opcode(bytes(prefixes), w, vex, bytes(opcode), digit, byte_reg, byte_rm)


class Encodings(dict[int, bytes]):
    """The first bytes of one encoding's instructions, by their registers.

    The notation is read on first use: few encodings are ever used. Two threads may build the same bytes twice.
    """

    __slots__ = ("_build", "_condition", "_text")

    def __init__(self, text: str, build: Callable[[Opcode, int], bytes], condition: int = 0) -> None:
        super().__init__()
        self._text = text
        self._condition = condition
        self._build = build

    def __missing__(self, key: int) -> bytes:
        encoding = self[key] = self._build(parse(self._text, self._condition), key)
        return encoding


def _registers(key: int, count: int) -> list[int]:
    """The registers in a key, the lowest eight bits first."""
    numbers = [key >> 8 * place & 0xFF for place in range(count)]
    if key >> 8 * count or max(numbers) > 15:
        raise EncodingError(f"not {count} register numbers from 0 to 15: {numbers}, key {key:#x}")
    return numbers


def _reg_field(op: Opcode, register: int) -> int:
    """What ModRM.reg holds: the register, or the opcode's digit, with which there is no register."""
    if op.digit is None:
        return register
    if register:
        raise EncodingError("not a register number from 0 to 15")
    return op.digit


def _sib(scale: int, index: int, base: int) -> int:
    if index == 4:
        raise EncodingError("rsp cannot be an index")
    if scale not in _SCALES:
        raise EncodingError(f"scale is {scale}, must be 1, 2, 4 or 8")
    return _SCALES[scale] << 6 | (index & 7) << 3 | base & 7


def _lead(op: Opcode, reg: int, index: int, rm: int, vvvv: int = 0, *, rex: bool = False) -> bytes:
    """All bytes before ModRM."""
    r, x, b = reg >> 3, index >> 3, rm >> 3
    if op.vex is not None:
        last = (vvvv ^ 15) << 3 | op.vex.pp
        return bytes((0xC4, (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | op.vex.map, op.w << 7 | last)) + op.opcode
    bits = op.w << 3 | r << 2 | x << 1 | b
    if bits or rex or (op.byte_reg and reg >= 4):
        return op.prefixes + bytes((0x40 | bits,)) + op.opcode
    return op.prefixes + op.opcode


def direct(op: Opcode, key: int) -> bytes:
    """Key: vvvv << 16 | reg << 8 | rm, or vvvv << 16 | rm with a digit. Both operands are registers."""
    rm, reg, vvvv = _registers(key, 3 if op.vex is not None else 2) + [0] * (op.vex is None)
    reg = _reg_field(op, reg)
    return _lead(op, reg, 0, rm, vvvv, rex=op.byte_rm and rm >= 4) + bytes((0xC0 | (reg & 7) << 3 | rm & 7,))


def opcode_register(op: Opcode, key: int) -> bytes:
    """Key: the register, in the opcode's low three bits. No ModRM."""
    (register,) = _registers(key, 1)
    lead = _lead(op, 0, 0, register)
    return lead[:-1] + bytes((lead[-1] | register & 7,))


def memory(op: Opcode, key: int) -> bytes:
    """Key: (reg << 8 | base) << 2 | mod, where mod is 0 for no displacement, 1 for disp8 to follow, 2 for disp32."""
    mod = key & 3
    base, reg = _registers(key >> 2, 2)
    reg = _reg_field(op, reg)
    code = _lead(op, reg, 0, base)
    # rm = 4 says that a SIB byte follows: rsp and r12 need one, without an index. mod = 0 with rm = 5 is
    # rip-relative: rbp and r13 need a displacement of 0.
    sib = b"\x24" if base & 7 == 4 else b""
    if mod == 0 and base & 7 == 5:
        return code + bytes((0x40 | (reg & 7) << 3 | 5, 0))
    return code + bytes((mod << 6 | (reg & 7) << 3 | base & 7,)) + sib


def indexed(op: Opcode, key: int) -> bytes:
    """Key: (scale << 24 | index << 16 | reg << 8 | base) << 2 | mod, with mod as in `memory`."""
    mod, scale = key & 3, key >> 26
    base, reg, index = _registers(key >> 2 & 0xFFFFFF, 3)
    reg = _reg_field(op, reg)
    sib = _sib(scale, index, base)
    code = _lead(op, reg, index, base)
    if mod == 0 and base & 7 == 5:
        return code + bytes((0x44 | (reg & 7) << 3, sib, 0))
    return code + bytes((mod << 6 | (reg & 7) << 3 | 4, sib))


def scaled(op: Opcode, key: int) -> bytes:
    """Key: scale << 16 | index << 8 | reg. No base, disp32 to follow."""
    reg, index = _registers(key & 0xFFFF, 2)
    return _lead(op, reg, index, 0) + bytes(((reg & 7) << 3 | 4, _sib(key >> 16, index, 5)))


def rip_relative(op: Opcode, key: int) -> bytes:
    """Key: reg. rel32 to follow."""
    (register,) = _registers(key, 1)
    reg = _reg_field(op, register)
    return _lead(op, reg, 0, 0) + bytes(((reg & 7) << 3 | 5,))


# --- Displacements and immediates ---


def byte(value: int) -> int:
    """Eight bits, given signed or unsigned."""
    if not -128 <= value <= 255:
        raise EncodingError(f"{value:#x} does not fit an 8-bit field")
    return value & 0xFF


def int16(value: int) -> bytes:
    """Sixteen bits, given signed or unsigned."""
    if not -0x8000 <= value <= 0xFFFF:
        raise EncodingError(f"{value:#x} does not fit a 16-bit field")
    return _WORD16(value & 0xFFFF)


def int32(value: int) -> bytes:
    """A signed 32-bit field, which the instruction may extend to 64 bits."""
    try:
        return _INT32(value)
    except struct_error:
        raise EncodingError(f"{value:#x} does not fit a signed 32-bit field") from None


def word32(value: int) -> bytes:
    """Thirty-two bits, given signed or unsigned."""
    return int32(value - (1 << 32) if 0x7FFF_FFFF < value <= 0xFFFF_FFFF else value)


def word64(value: int) -> bytes:
    """Sixty-four bits, given signed or unsigned."""
    try:
        return _INT64(value - (1 << 64) if value >> 63 == 1 else value)
    except struct_error:
        raise EncodingError(f"{value:#x} does not fit a 64-bit field") from None


def append(code: bytearray, encodings: Encodings, key: int, disp: int) -> None:
    """Append what `memory` or `indexed` built for the key, with the shortest displacement."""
    if not disp:
        code += encodings[key]
    elif -128 <= disp <= 127:
        code += encodings[key | 1]
        code.append(disp & 0xFF)
    else:
        code += encodings[key | 2] + int32(disp)
