# SPDX-License-Identifier: Apache-2.0
"""Random cases of integer instructions for `Peer`."""

from __future__ import annotations

from random import Random

from tests.targets.alpha.peer import ARITHMETIC, WINDOW, WINDOW_SIZE

from raddle.testing.differential import UNDEFINED, Case, Interpreted, random_word
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.exceptions import Entry
from raddle_target_alpha.frontend import front_end

REGISTERS = tuple(f"r{number}" for number in range(31))
EVENTS = {Entry.ARITH.routine: ARITHMETIC, Entry.IF.routine: UNDEFINED}
SIZES = {"B": 1, "W": 2, "L": 4, "Q": 8}
BRANCHES = ("BR", "BSR", "BEQ", "BNE", "BLT", "BLE", "BGT", "BGE", "BLBC", "BLBS")
JUMPS = ("JMP", "JSR", "RET", "JSR_COROUTINE")
UNSEEN = frozenset({"RPCC", "RC", "RS"})
"""What user programs see depends on more than registers."""

LINES = [p for p in decode.alpha().patterns if p.where.startswith("integer.dec") and p.name not in UNSEEN]


def interpreted(cpu: str = "ev67") -> Interpreted:
    return Interpreted(front_end(cpu), REGISTERS, events=EVENTS)


def random_value(random: Random) -> int:
    match random.randrange(6):
        case 0:
            return random.getrandbits(64)
        case 1:
            return random.getrandbits(random.randrange(1, 64))
        case 2:
            return -random.getrandbits(random.randrange(1, 64)) & (1 << 64) - 1
        case 3:
            return random.choice((0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF))
        case 4:
            return int.from_bytes(random.choices((0, 1, 0x7F, 0x80, 0xFF), k=8), "little")
        case _:
            return random.randrange(-80, 80) & (1 << 64) - 1


def access_size(name: str) -> int:
    """Bytes that must be aligned for the access of an instruction; 0 for what accesses nothing."""
    if name in ("LDA", "LDAH") or not name.startswith(("LD", "ST")):
        return 0
    return 1 if name.endswith("_U") else SIZES[name[2]]


def random_case(random: Random, pattern: Pattern, slot: int) -> Case:
    word = random_word(decode.alpha(), pattern, random)
    assert word is not None
    registers = {name: random_value(random) for name in REGISTERS}
    values = pattern.values(word)
    if pattern.name in BRANCHES:
        word = word & ~0x1F_FFFF | 1
    if pattern.name in JUMPS and values["b"] != 31:
        registers[f"r{values['b']}"] = slot + 8 + random.randrange(4)
    elif pattern.name in JUMPS:
        word = word & ~(31 << 16) | 5 << 16
        registers["r5"] = slot + 8
    size = access_size(pattern.name)
    if size:
        place = random.randrange(0, WINDOW_SIZE, size)
        if values["b"] == 31:
            word ^= 1 << 16
        registers[f"r{word >> 16 & 31}"] = WINDOW + place - values["disp"] & (1 << 64) - 1
    memory = {WINDOW: random.randbytes(WINDOW_SIZE)}
    return Case(word.to_bytes(4, "little"), slot, registers, memory)
