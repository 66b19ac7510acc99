# SPDX-License-Identifier: Apache-2.0
"""Which operands are core registers, so that instructions that differ only in them share templates.

The instructions listed here use a register's number only to read or write the register, to compare it with their other
registers, or to recognise the pc (``raddle.translate.sharing`` says why).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from raddle.translate.pattern import Pattern
from raddle.translate.sharing import Sharing
from raddle_target_arm.insns.common import LSL

_ALU: Final = [
    "AND",
    "EOR",
    "SUB",
    "RSB",
    "ADD",
    "ADC",
    "SBC",
    "RSC",
    "TST",
    "TEQ",
    "CMP",
    "CMN",
    "ORR",
    "MOV",
    "BIC",
    "MVN",
    "ORN",
]
_SINGLE: Final = ["LDR", "LDRB", "LDRH", "LDRSB", "LDRSH", "STR", "STRB", "STRH"]
_TRANSLATED: Final = ["LDRT", "LDRBT", "LDRHT", "LDRSBT", "LDRSHT", "STRT", "STRBT", "STRHT"]
_DOUBLE: Final = ["LDRD", "STRD"]

_OPERANDS: Final[tuple[tuple[str, list[str]], ...]] = (
    ("d n m", [f"{name}_reg" for name in _ALU]),
    ("d n m s", [f"{name}_rsr" for name in _ALU]),
    ("d n", [f"{name}_imm" for name in _ALU]),
    ("d", ["MOVT", "ADR", "BFC", "MRS"]),
    ("t n", [f"{name}_imm" for name in _SINGLE + _TRANSLATED]),
    ("t n m", [f"{name}_reg" for name in _SINGLE + _TRANSLATED]),
    ("t", [f"{name}_lit" for name in _SINGLE]),
    ("t u n", [f"{name}_imm" for name in _DOUBLE] + ["LDREXD"]),
    ("t u n m", [f"{name}_reg" for name in _DOUBLE]),
    ("t n", ["LDREX", "LDREXB", "LDREXH"]),
    ("d t n", ["STREX", "STREXB", "STREXH"]),
    ("d n m a", ["MUL", "MLA", "MLS", "SDIV", "UDIV", "SMLAxy", "SMLAWy", "SMULWy", "SMULxy"]),
    ("h l n m", ["UMULL", "UMLAL", "UMAAL", "SMULL", "SMLAL"]),
    ("d n", ["UBFX", "SBFX", "BFI"]),
    (
        "d n m",
        [
            "SXTB",
            "SXTH",
            "UXTB",
            "UXTH",
            "SXTB16",
            "UXTB16",
            "SXTAB",
            "SXTAH",
            "UXTAB",
            "UXTAH",
            "CLZ",
            "RBIT",
            "REV",
            "REV16",
            "REVSH",
            "PKHBT",
            "PKHTB",
        ],
    ),
    ("d t u n", ["STREXD"]),
    ("t", ["MRC", "MCR"]),
    ("n", ["MSR_reg"]),
    ("m", ["BX", "BLX_reg"]),
    ("n", ["CBZ", "CBNZ", "LDM", "STM"]),
    ("", ["B", "BL", "NOP", "DMB"]),
)

_NAMES: Final = {name: tuple(letters.split()) for letters, names in _OPERANDS for name in names}
_MODE_MATTERS: Final = frozenset({"BX", "BLX_reg", "MRC", "MCR", "MSR_reg", "MRS"})
"""Instructions that depend on all of the block mode: they write it, or may be undefined."""
_ACCESSES: Final = ("LD", "ST")
"""Prefixes of the names of instructions that access data."""
_LISTS: Final = {"LDM": "l", "STM": "l"}


_LOGICAL: Final = frozenset({"AND_reg", "EOR_reg", "ORR_reg", "BIC_reg", "ORN_reg", "MOV_reg", "MVN_reg"})
"""Instructions that set C to the last bit shifted out, so that the amount is more than an operand of the shift."""
_ARITHMETIC: Final = frozenset(f"{name}_reg" for name in ("ADD", "SUB", "RSB", "ADC", "SBC", "RSC", "CMP", "CMN"))
_LEFT_BY_LEA: Final = 3
"""Up to this amount, hosts shift left and add in one instruction, so these amounts are no literals."""


def _closed_amounts(pattern: Pattern) -> Callable[[int], range | None] | None:
    """A function that returns the amounts of a word's constant shift that are no literals, or None if no amount is one;
    None if the pattern has no such shift.

    The amount 0 is another shift (A8.4.3).
    """
    logical = pattern.name in _LOGICAL
    if not (logical or pattern.name in _ARITHMETIC) or "i" not in pattern.letters:
        return None
    sets_flags = "S" in pattern.operands()
    read = pattern.reader(("t", "S") if sets_flags else ("t",))

    def closed(word: int) -> range | None:
        t, *s = read(word)
        if logical and s != [0]:
            return None
        return range(_LEFT_BY_LEA + 1 if t == LSL else 1)

    return closed


@cache
def make_sharing(pattern: Pattern) -> Sharing | None:
    """How the words of ``pattern`` share templates."""
    names = _NAMES.get(pattern.name)
    if names is None:
        return None
    given = pattern.operands()
    given_names = [name for name in names if name in given]
    mode_class = -1 if pattern.name in _MODE_MATTERS else 0 if pattern.name.startswith(_ACCESSES) else 1
    closed = _closed_amounts(pattern)
    literal = "" if closed is None else "i"
    return Sharing(pattern, given_names, _LISTS.get(pattern.name, ""), mode_class, literal, closed)
