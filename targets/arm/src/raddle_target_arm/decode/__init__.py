# SPDX-License-Identifier: Apache-2.0
"""The decode tables of ARMv7-A: A32, and T32 as two tables for its 16-bit and 32-bit instructions.

The heads of the `.dec` files list the operands in a `Fields` of these tables. A 32-bit T32 instruction is a word with
its first halfword on top. If its fields have `c`, an instruction's own encoding has its condition.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from raddle.translate.decode import Decoder, Table, table_text
from raddle.translate.frontend import Halves, Wide
from raddle_target_arm.decode.operands import FUNCTIONS

__all__ = ["S_UNLESS_IN_IT", "T32_WIDE", "a32", "a32_table", "t16", "t16_table", "t32", "t32_table", "tables"]

S_UNLESS_IN_IT = 2
"""The value of S of a 16-bit instruction that sets the flags only outside IT blocks."""


def _parse(name: str, width: int, condition: str, trusted: bool) -> Table:
    pictures, constants = {"cond": condition}, {"it": S_UNLESS_IN_IT}
    text = table_text(__name__, name)
    return Table.parse(text, name, width, FUNCTIONS, pictures=pictures, constants=constants, trusted=trusted)


def _parse_with_coprocessors(name: str, condition: str, trusted: bool) -> Table:
    table = _parse(name, 32, condition, trusted)
    for other in ("coprocessor.dec", "vfp.dec"):
        table = table.extend(_parse(other, 32, condition, trusted))
    return table


def a32_table(trusted: bool = False) -> Table:
    """The A32 table: words of 32 bits."""
    return _parse_with_coprocessors("a32.dec", "cccc", trusted)


def t16_table(trusted: bool = False) -> Table:
    """The table of T32's 16-bit instructions."""
    return _parse("t16.dec", 16, "", trusted)


def t32_table(trusted: bool = False) -> Table:
    """The table of T32's 32-bit instructions, first halfword in bits 31 to 16."""
    return _parse_with_coprocessors("t32.dec", "1110", trusted)


def tables() -> tuple[Table, Table, Table]:
    """All tables, read and checked in full. Tests do that, so that `a32`, `t16` and `t32` need not."""
    return a32_table(), t16_table(), t32_table()


@cache
def a32() -> Decoder:
    """The decoder of A32 words. Built at the first call."""
    return a32_table(trusted=True).compile()


@cache
def t16() -> Decoder:
    """The decoder of T32's 16-bit words. Built at the first call."""
    return t16_table(trusted=True).compile()


@cache
def t32() -> Decoder:
    """The decoder of T32's 32-bit words. Built at the first call."""
    return t32_table(trusted=True).compile()


T32_WIDE: Final = Wide(11, 1 << 0b11101 | 1 << 0b11110 | 1 << 0b11111, Halves.HIGH_FIRST)
"""The 32-bit T32 instructions: their first halfwords, which are the high halves (A6.1)."""
