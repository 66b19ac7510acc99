# SPDX-License-Identifier: Apache-2.0
"""The decode tables of ARMv7-A: A32, and T32 as two tables for its 16-bit and 32-bit instructions.

A `Fields` of these tables has the operands that the heads of the `.dec` files list. A 32-bit T32 instruction is a word
with its first halfword on top. An instruction is conditional by its own encoding where its fields have `c`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from raddle.translate.decode import Decoder, Table
from raddle_target_arm.decode.operands import FUNCTIONS

__all__ = ["S_UNLESS_IN_IT", "a32", "a32_table", "is_t32_prefix", "t16", "t16_table", "t32", "t32_table", "tables"]

S_UNLESS_IN_IT = 2
"""The value of S where a 16-bit instruction sets the flags outside IT blocks only."""


def _parse(name: str, width: int, condition: str) -> Table:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    return Table.parse(text, name, width, FUNCTIONS, pictures={"cond": condition}, constants={"it": S_UNLESS_IN_IT})


@cache
def a32_table() -> Table:
    """The A32 table: words of 32 bits."""
    condition = "cccc"
    table = _parse("a32.dec", 32, condition)
    return table.extend(_parse("coprocessor.dec", 32, condition)).extend(_parse("vfp.dec", 32, condition))


@cache
def t16_table() -> Table:
    """The table of T32's 16-bit instructions."""
    return _parse("t16.dec", 16, "")


@cache
def t32_table() -> Table:
    """The table of T32's 32-bit instructions, first halfword in bits 31 to 16."""
    condition = "1110"
    table = _parse("t32.dec", 32, condition)
    return table.extend(_parse("coprocessor.dec", 32, condition)).extend(_parse("vfp.dec", 32, condition))


def tables() -> tuple[Table, Table, Table]:
    """All tables, for `raddle.translate.decode.check_names`."""
    return a32_table(), t16_table(), t32_table()


@cache
def a32() -> Decoder:
    """The decoder of A32 words. Built at the first call."""
    return a32_table().compile()


@cache
def t16() -> Decoder:
    """The decoder of T32's 16-bit words. Built at the first call."""
    return t16_table().compile()


@cache
def t32() -> Decoder:
    """The decoder of T32's 32-bit words. Built at the first call."""
    return t32_table().compile()


def is_t32_prefix(halfword: int) -> bool:
    """Whether `halfword` is the first half of a 32-bit T32 instruction (A6.1)."""
    return halfword >= 0xE800
