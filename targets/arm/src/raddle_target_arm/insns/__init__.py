# SPDX-License-Identifier: Apache-2.0
"""The instruction sets: decoding, conditions, and the semantics functions by the names of the decode tables.

One name is one function for A32, T16 and T32; ``common`` describes their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raddle.debug import disassembly
from raddle.ir.builder import Builder
from raddle.ir.opcodes import TABLE, Effect
from raddle.ir.types import FlagCondition, Hole
from raddle.translate.decode import Decoder, Fields, Pattern
from raddle.translate.frontend import InstructionSet
from raddle.translate.semantics import Semantics, semantics
from raddle.translate.sharing import Sharing
from raddle_target_arm import decode
from raddle_target_arm.exceptions import take_undefined
from raddle_target_arm.insns.common import set_next
from raddle_target_arm.insns.sharing import make_sharing
from raddle_target_arm.state import mmu_index

A32_LANGUAGE: Final = ("CS_ARCH_ARM", "CS_MODE_ARM")
T32_LANGUAGE: Final = ("CS_ARCH_ARM", "CS_MODE_THUMB")
"""As capstone calls them."""

MODULES: Final = (
    "bitfield",
    "branch",
    "coprocessor",
    "data_processing",
    "exclusive",
    "load_store",
    "load_store_multiple",
    "multiply",
    "parallel",
    "saturating",
    "system",
    "vfp",
    "vfp_convert",
    "vfp_memory",
    "vfp_transfer",
)
"""The modules of semantics functions, which are their functions whose names start with a capital letter."""


SEMANTICS: Final[dict[str, Semantics]] = semantics(__name__, MODULES)
"""Every semantics function by name."""

ALWAYS: Final = 14
"""Condition fields from here on mean: always."""


def _translate(b: Builder, f: Fields, name: str, condition: int) -> None:
    semantics = SEMANTICS[name]
    if condition >= ALWAYS:
        semantics(b, f)
    else:
        with b.if_(b.cond(FlagCondition(condition))):
            semantics(b, f)


class _Instructions(InstructionSet):
    """What A32 and T32 share."""

    def sharing(self, pattern: Pattern) -> Sharing | None:
        return make_sharing(pattern)

    def decode(self, word: int, size: int) -> Pattern | None:
        return self.decoder(size).decode(word)

    def decoder(self, size: int) -> Decoder:
        """The decoder of words of ``size`` bytes."""
        raise NotImplementedError

    def disassemble(self, word: int, size: int, pc: int) -> str:
        units = (word,) if size == self.unit else (word >> 16, word & 0xFFFF)
        code = b"".join(unit.to_bytes(self.unit, "little") for unit in units)
        text = disassembly.one(A32_LANGUAGE if self.unit == 4 else T32_LANGUAGE, code, pc)
        return super().disassemble(word, size, pc) if text is None else text


class A32(_Instructions):
    """The ARM instruction set: words of four bytes. Decode states are always 0."""

    unit = 4

    def __init__(self) -> None:
        self._a32 = decode.a32()

    def decode(self, word: int, size: int) -> Pattern | None:
        return self._a32.decode(word)

    def decoder(self, size: int) -> Decoder:
        return self._a32

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        if pattern is None:
            take_undefined(b, 0, mode)
            return 0
        f = pattern.fields(word)
        f.__dict__.update(mode=mode, mmu=mmu_index(mode), length=4, it=0, next_it=0)
        if operands:
            f.__dict__.update(operands)
        _translate(b, f, pattern.name, f.c if "c" in f else ALWAYS)
        return 0


def it_advance(it: int) -> int:
    """ITSTATE of the instruction after one whose ITSTATE is ``it`` (A2.5.2)."""
    return it & 0xE0 | it << 1 & 0x1F if it & 7 else 0


def _may_leave(b: Builder, start: int) -> bool:
    """Whether the code from ``start`` on may leave the block before its end, and does not leave it at its end.

    Such an instruction ends its block. If it does so within an IT block, then the rest of ITSTATE must go into the
    block mode.
    """
    effects = [TABLE[instruction.op].effects for instruction in b.code[start:]]
    return any(effect & Effect.EXIT for effect in effects) and not effects[-1] & Effect.EXIT


class T32(_Instructions):
    """The Thumb instruction set: words of two bytes, or of four with the first halfword on top.

    The decode_state is ITSTATE: bits 7:4 are the instruction's condition, all 0 outside IT blocks (A2.5.2).
    """

    unit = 2

    wide = decode.T32_WIDE

    def __init__(self) -> None:
        self._t16, self._t32 = decode.t16(), decode.t32()

    def decoder(self, size: int) -> Decoder:
        return self._t16 if size == 2 else self._t32

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        following = it_advance(decode_state)
        condition = decode_state >> 4 if decode_state else ALWAYS
        if pattern is None:
            take_undefined(b, decode_state, mode)
            return following
        f = pattern.fields(word)
        f.__dict__.update(mode=mode, mmu=mmu_index(mode), length=pattern.width // 8, it=decode_state, next_it=following)
        if operands:
            f.__dict__.update(operands)
        if pattern.name == "IT":
            return int(f.f << 4 | f.k)
        if pattern.name == "BKPT":
            condition = ALWAYS
        elif "c" in f:
            condition = f.c
        if "S" in f and f.S == decode.S_UNLESS_IN_IT:
            f.__dict__.update(S=0 if decode_state else 1)
        start = len(b.code)
        _translate(b, f, pattern.name, condition)
        if following and _may_leave(b, start):
            set_next(b, f)
            b.goto_indirect(b.pc(f.length))
        return following
