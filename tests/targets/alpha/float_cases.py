# SPDX-License-Identifier: Apache-2.0
"""Random cases of floating-point instructions for `Peer`. `peers_own` says where the peer differs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from tests.targets.alpha.peer import ARITHMETIC, NAMES, WINDOW, WINDOW_SIZE

from raddle.testing.differential import UNDEFINED, Case, Interpreted, Outcome, differences, random_word
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.exceptions import Entry
from raddle_target_alpha.fpcr import DNOD, DNZ, DYN_SHIFT, INE, INED, INVD_TO_OVFD, STATUS_SHIFT, UNDZ, UNF, UNFD
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.state import FIRST_FLOAT

EVENTS = {Entry.ARITH.routine: ARITHMETIC, Entry.IF.routine: UNDEFINED}
SIGN, INFINITY = 1 << 63, 0x7FF << 52
LEAST_NORMAL = (0x001 << 52, 0x381 << 52)
UNDERFLOW = UNF << STATUS_SHIFT
EASY = INED | UNFD | INVD_TO_OVFD | DNOD
VAX = re.compile(r"(ADD|SUB|MUL|DIV|SQRT)[FG]|CMPG..|CVT(D|G|QF|QG).*")
"""Compared with the manual in test_vax.py."""
LINES = [p for p in decode.alpha().patterns if p.where.startswith("float.dec") and not VAX.fullmatch(p.name)]


def interpreted() -> Interpreted:
    return Interpreted(front_end("ev67"), NAMES, events=EVENTS)


EXPONENTS = (0, 1, 2, 0x37F, 0x380, 0x381, 0x3C0, 0x3FE, 0x3FF, 0x400, 0x41E, 0x43E, 0x43F, 0x47E, 0x47F, 0x7FE, 0x7FF)
FRACTIONS = (0, 1, (1 << 52) - 1, 1 << 51, 0x7 << 28, 0x1 << 28, 0xF_FFFF_F000_0000, 0x8_0000_0000_0001)


QUIET = 0x7FF8 << 48


def random_t(random: Random) -> int:
    """A number of the T format, often an odd one."""
    sign = random.getrandbits(1) << 63
    match random.randrange(5):
        case 0:
            return random.getrandbits(64)
        case 1:
            return sign | random.choice(EXPONENTS) << 52 | random.choice(FRACTIONS)
        case 2:
            return sign | random.randrange(0x3F0, 0x440) << 52 | random.getrandbits(52)
        case 3:
            return sign | 0x3FF << 52 | random.choice(FRACTIONS)
        case _:
            return sign | random.choice((0, 0x3FF << 52, 0x7FF << 52, QUIET | 0x123, 0x7FF << 52 | 0x456 << 30))


def s_in_register(bits: int) -> int:
    exponent = bits >> 23 & 0xFF
    moved = 0x7FF if exponent == 0xFF else exponent + 0x380 if exponent else 0
    return bits >> 31 << 63 | moved << 52 | (bits & 0x7F_FFFF) << 29


def random_s(random: Random) -> int:
    """A number of the S format, as registers have it."""
    if random.getrandbits(1):
        return s_in_register(random.getrandbits(32))
    sign = random.getrandbits(1) << 31
    exponent = random.choice((0, 1, 2, 0x40, 0x7E, 0x7F, 0x80, 0xC0, 0xFE, 0xFF))
    return s_in_register(sign | exponent << 23 | random.choice((0, 1, 0x7F_FFFF, 0x40_0001, random.getrandbits(23))))


def takes_s(name: str) -> bool:
    return (name[-1] == "S" and name not in ("CVTTS", "CVTQS", "FTOIS", "ITOFS", "CPYS")) or name == "CVTST"


def random_case(random: Random, pattern: Pattern, slot: int) -> Case:
    word = random_word(decode.alpha(), pattern, random)
    assert word is not None
    values = pattern.values(word)
    operand = random_s if takes_s(pattern.name) else random_t
    registers = {name: operand(random) for name in NAMES if name[0] == "f"}
    registers |= {name: random.getrandbits(64) for name in NAMES if name[0] == "r"}
    if pattern.name in ("CVTQS", "CVTQT", "CVTQL", "CVTLQ"):
        narrow = random.randrange(1, 65)
        for name in NAMES[31:62]:
            registers[name] = random.getrandbits(narrow) - random.choice((0, 1 << narrow - 1)) & (1 << 64) - 1
    control = random.choice(
        (EASY, DNOD | INED | UNFD, DNOD, DNOD | DNZ | INVD_TO_OVFD, EASY | UNDZ, DNOD | UNDZ | UNFD)
    )
    status = random.choice((0, INE << STATUS_SHIFT, random.getrandbits(6) << STATUS_SHIFT)) & ~UNDERFLOW
    registers["fpcr"] = control | random.randrange(4) << DYN_SHIFT | status
    if pattern.name.startswith("FB"):
        word = word & ~0x1F_FFFF | 1
    if pattern.name.startswith(("LD", "ST")):
        if values["b"] == 31:
            word ^= 1 << 16
        size = 4 if pattern.name[2] in "SF" else 8
        place = WINDOW + random.randrange(0, WINDOW_SIZE, size)
        registers[f"r{word >> 16 & 31}"] = place - values["disp"] & (1 << 64) - 1
    memory = {WINDOW: random.randbytes(WINDOW_SIZE)}
    return Case(word.to_bytes(4, "little"), slot, registers, memory)


IGNORED = {"fpcr": 1 << 63 | (1 << 47) - 1}
"""SUM, which QEMU keeps as it is written, and bits that are no part of FPCR."""


def is_nan(number: int) -> bool:
    return number & ~SIGN > INFINITY


def peers_own(
    pattern: Pattern, word: int, operands: Sequence[int], ours: Outcome, theirs: Outcome, found: list[str]
) -> str:
    """Why the manual, and Raddle, have another result than QEMU; empty where they ought to have the same."""
    values = pattern.values(word)
    traps = values.get("t", 0)
    if pattern.name in ("LDF", "STF", "ITOFF"):
        return "2.2.5.1: the exponent of an F number is 896 greater in a register"
    if pattern.name == "MF_FPCR":
        return "4.7.8: SUM is 1 if a status bit is"
    if pattern.name in ("CVTQS", "CVTQT") and not traps and found == ["fpcr"]:
        return "4.7.7.8: a result that is inexact is recorded"
    if traps & 5 == 5 and pattern.name in ("CVTTQ", "CVTQL") and (ours.event, theirs.event) == (ARITHMETIC, ""):
        return "4.7.7.9: FPCR cannot disable integer overflow; Linux completes it for user programs"
    register = f"f{values.get('c', 63) - FIRST_FLOAT}"
    if register not in theirs.registers:
        return "4.7.7.7: an underflow is recorded" if ours.registers["fpcr"] & UNDERFLOW else ""
    result, theirs_result = ours.registers[register], theirs.registers[register]
    quiet = [operand | QUIET for operand in operands if is_nan(operand)]
    if len(quiet) == 2 and [theirs_result, result] == quiet:
        return "4.7.10.4: of two NaNs, the result comes from the second"
    if result == SIGN | QUIET and theirs_result == QUIET:
        return "4.7.10.3: the canonical NaN is negative"
    is_zeroed = not result & ~SIGN and theirs_result & ~SIGN < LEAST_NORMAL[0]
    if ours.registers["fpcr"] & UNDERFLOW and (is_zeroed or not (result ^ theirs_result) & ~SIGN):
        return "4.7.7.7: an underflow is recorded, traps with /U though it is exact, or gives a true zero"
    if result & ~SIGN in LEAST_NORMAL and not theirs_result & ~SIGN:
        return "4.7.5: rounding comes before the detection of underflow"
    return ""


def wrong(pattern: Pattern, case: Case, ours: Outcome, theirs: Outcome) -> str:
    """What differs, and is not the peer's own; empty for nothing."""
    found = differences(ours, theirs, IGNORED)
    if not found:
        return ""
    word = int.from_bytes(case.code, "little")
    values = pattern.values(word)
    numbers = [values[name] - FIRST_FLOAT for name in "ab" if FIRST_FLOAT <= values.get(name, 0) < 63]
    operands = [case.registers[f"f{number}"] for number in numbers]
    if peers_own(pattern, word, operands, ours, theirs, [text.split()[0] for text in found]):
        return ""
    return f"{pattern.name} {values} of {[hex(one) for one in operands]}, FPCR {case.registers['fpcr']:#x}: {found}"
