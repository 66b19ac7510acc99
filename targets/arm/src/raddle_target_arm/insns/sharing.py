# SPDX-License-Identifier: Apache-2.0
"""Which operands are core registers, so that instructions that differ in them alone share templates.

Listed here are instructions that do nothing with a register's number but read or write that register, compare it with
their other registers, or know the pc by it (``raddle.translate.sharing`` has the reasons).
"""

from __future__ import annotations

from typing import Final

from raddle.translate.decode import Pattern
from raddle.translate.sharing import Sharing

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
"""Those that depend on all of the block mode: they write it, or may be undefined."""
_ACCESSES: Final = ("LD", "ST")
"""How the names of those begin that access data."""
_LISTS: Final = {"LDM": "l", "STM": "l"}


def make_sharing(pattern: Pattern) -> Sharing | None:
    """How the words of ``pattern`` share templates."""
    names = _NAMES.get(pattern.name)
    if names is None:
        return None
    given = pattern.operands()
    given_names = [name for name in names if name in given]
    mode_class = -1 if pattern.name in _MODE_MATTERS else 0 if pattern.name.startswith(_ACCESSES) else 1
    return Sharing(pattern, given_names, _LISTS.get(pattern.name, ""), mode_class)
