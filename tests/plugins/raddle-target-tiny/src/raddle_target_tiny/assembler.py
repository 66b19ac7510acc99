# SPDX-License-Identifier: Apache-2.0
"""An assembler of one page for the tiny guest: `label:` lines, `NAME rd, ra, 12` lines, `#` comments."""

from __future__ import annotations

import struct
from typing import Final

OPERANDS: Final = {
    "MOVI": "di",
    "MOVHI": "di",
    "ADDI": "dai",
    "ADD": "dab",
    "SUB": "dab",
    "XOR": "dab",
    "LDW": "dai",
    "STW": "dai",
    "FETCHADD": "dab",
    "BEQ": "dal",
    "BLT": "dal",
    "JAL": "dl",
    "JR": "a",
    "CPUID": "d",
}
"""The operands of each instruction by place: d, a, b registers from bits 20, 16, 12; i an immediate, l a label.

Opcodes are numbered from 1 in this order.
"""

PLACES: Final = {"d": 20, "a": 16, "b": 12}


def assemble(source: str) -> bytes:
    """Little-endian machine code that can stand at any address. Raises ValueError for what it cannot read."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in source.splitlines():
        text = line.partition("#")[0].strip()
        if text.endswith(":"):
            labels[text[:-1]] = len(lines)
        elif text:
            lines.append(text)
    return b"".join(struct.pack("<I", _encode(text, here, labels)) for here, text in enumerate(lines))


def _encode(text: str, here: int, labels: dict[str, int]) -> int:
    name, _, rest = text.partition(" ")
    operands = [operand.strip() for operand in rest.split(",")] if rest else []
    kinds = OPERANDS.get(name)
    if kinds is None or len(kinds) != len(operands):
        raise ValueError(f"cannot assemble {text!r}")
    word = (list(OPERANDS).index(name) + 1) << 24
    for kind, operand in zip(kinds, operands, strict=True):
        match kind:
            case "i":
                word |= int(operand, 0) & 0xFFFF
            case "l":
                word |= (labels[operand] - here) & 0xFFFF
            case _:
                word |= int(operand.removeprefix("r")) << PLACES[kind]
    return word
