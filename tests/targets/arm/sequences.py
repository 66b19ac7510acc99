# SPDX-License-Identifier: Apache-2.0
"""Random programs of several instructions for Unicorn and for Raddle's generated code.

A program computes, loads and stores (what is missing or misaligned too), uses exclusives and VFP registers, and goes
forward only: over conditions, IT blocks, and branches to later instructions or to its end. Some registers are kept for
addresses, so that most accesses hit the data memory. ``random_program`` avoids what the architecture leaves open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from tests.targets.arm.differential import (
    CODE,
    INSTRUCTION_SETS,
    LINES,
    WINDOW,
    Case,
    encoded,
    is_predictable,
    random_cpsr,
    random_value,
    random_word,
    with_letter,
)
from tests.targets.arm.differential_vfp import Vfp, random_double, vfp_lines

from raddle.translate.decode import Pattern
from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_IRQ, MODE_SVC, MODE_SYS, MODE_USR

LONGEST: Final = 24
"""Groups of instructions; an IT block is one group."""
NOWHERE: Final = 0x0070_0000
"""Neither code nor data."""
NOP: Final = {"a32": 0xE320_F000, "t16": 0xBF00, "t32": 0xF3AF_8000}

Line = tuple[str, Pattern]
Word = tuple[str, int]

_MODES: Final = (MODE_SVC, MODE_SVC, MODE_USR, MODE_USR, MODE_SYS, MODE_IRQ)
_MEMORY: Final = ("LDR", "STR", "LDM", "STM", "SWP", "VLD", "VST", "PLD", "PLI")
_STORES: Final = ("STR", "STM", "VST")
_SYSTEM: Final = ("MRS", "MSR", "CPS", "SETEND", "DMB", "DSB", "ISB", "NOP", "CLREX", "DBG", "PLD", "PLI")
_ENDS: Final = ("SVC", "UDF", "BKPT", "UNDEFINED")
_BRANCHES: Final = ("B", "BL", "BLX_imm", "BLX_reg", "BX", "BXJ", "CBZ", "CBNZ", "TBB", "TBH", "IT")
_ELSEWHERE: Final = (*_BRANCHES, "ERET", "RFE", "SRS")
"""Branches are made apart; exception returns and the like are compared alone."""


def _is_exclusive(name: str) -> bool:
    return "REX" in name and name != "CLREX"


def _kind(pattern: Pattern) -> str | None:
    """The kind of instruction of which ``_WEIGHTS`` speaks; None: of no use in a program."""
    name = pattern.name
    if name in _ELSEWHERE or name.endswith(("_eret", "_user")) or name == "VCVT_from_fixed":
        return None  # the peer converts fixed point by the rounding mode (test_vfp.py)
    if name == "SMLAD":
        return None  # see SATURATES_BETWEEN in fuzz.py
    if name in _ENDS:
        return "end"
    if _is_exclusive(name):
        return "exclusive"
    if name.startswith(_SYSTEM):
        return "system"
    if name.startswith("V"):
        return "vfp"
    return "memory" if name.startswith(_MEMORY) else "compute"


_WEIGHTS: Final = {"compute": 50, "memory": 22, "exclusive": 7, "vfp": 10, "system": 5, "end": 1, "branch": 9}


def _by_kind() -> dict[tuple[bool, str], list[Line]]:
    found: dict[tuple[bool, str], list[Line]] = {}
    everything = [(table, pattern) for (table, _), patterns in LINES.items() for pattern in patterns]
    for table, pattern in everything + vfp_lines():
        kind = _kind(pattern)
        if kind is not None:
            found.setdefault((table == "a32", kind), []).append((table, pattern))
    return found


LINES_BY_KIND: Final = _by_kind()


@dataclass(frozen=True)
class Branch:
    """A branch forward over ``over`` groups of instructions. ``form`` is its name in ``_FORMS``."""

    form: str
    over: int
    condition: int
    register: int

    @property
    def size(self) -> int:
        return 2 if self.form.startswith("t16") else 4

    def word(self, distance: int) -> Word:
        """The instruction, for a target ``distance`` bytes behind it."""
        ahead = distance - (8 if self.form.startswith("a32") else 4)
        return _FORMS[self.form](self, ahead)


def _t32_branch(ahead: int, last: int) -> int:
    """BL (0xD000) or B.W (0x9000), encodings T1 and T4: J1 and J2 are 1 for short distances forward."""
    sign = ahead < 0
    j = 0x2800
    return 0xF000 << 16 | sign << 26 | (ahead >> 12 & 0x3FF) << 16 | last | j | (ahead >> 1 & 0x7FF)


_FORMS: Final[dict[str, Callable[[Branch, int], Word]]] = {
    "a32 B": lambda branch, ahead: ("a32", branch.condition << 28 | 0x0A00_0000 | ahead >> 2 & 0xFF_FFFF),
    "a32 BL": lambda branch, ahead: ("a32", branch.condition << 28 | 0x0B00_0000 | ahead >> 2 & 0xFF_FFFF),
    "a32 BX": lambda branch, ahead: ("a32", branch.condition << 28 | 0x012F_FF10 | branch.register),
    "a32 BLX": lambda branch, ahead: ("a32", branch.condition << 28 | 0x012F_FF30 | branch.register),
    "t16 B cond": lambda branch, ahead: ("t16", 0xD000 | branch.condition << 8 | ahead >> 1 & 0xFF),
    "t16 B": lambda branch, ahead: ("t16", 0xE000 | ahead >> 1 & 0x7FF),
    "t16 CBZ": lambda branch, ahead: ("t16", 0xB100 | (ahead >> 6 & 1) << 9 | (ahead >> 1 & 31) << 3 | branch.register),
    "t16 CBNZ": lambda branch, ahead: (
        "t16",
        0xB900 | (ahead >> 6 & 1) << 9 | (ahead >> 1 & 31) << 3 | branch.register,
    ),
    "t16 BX": lambda branch, ahead: ("t16", 0x4700 | branch.register << 3),
    "t16 BLX": lambda branch, ahead: ("t16", 0x4780 | branch.register << 3),
    "t32 BL": lambda branch, ahead: ("t32", _t32_branch(ahead, 0xD000)),
    "t32 B": lambda branch, ahead: ("t32", _t32_branch(ahead, 0x9000)),
}
_REGISTER_FORMS: Final = ("a32 BX", "a32 BLX", "t16 BX", "t16 BLX")
"""They go to the end of the program: a register that nothing writes has its address."""
_IN_IT: Final = ("t16 B", "t16 BX", "t32 BL", "t32 B")


@dataclass
class _Kept:
    """Registers by what is kept in them."""

    byte: int
    """Address of any alignment, in the window."""
    word: int
    """Address in the window that stays a multiple of 4, and may be written back."""
    double: int
    """Address in the window that is a multiple of 8."""
    nowhere: int
    """Address where nothing is."""
    index: int
    """A small multiple of 8."""
    end: int
    """Address of the end of the program."""
    all: frozenset[int] = field(default_factory=frozenset)


def _keep(random: Random) -> _Kept:
    low = random.sample(range(8), 4)
    high = random.sample(range(8, 13), 2)
    kept = _Kept(low[0], low[1], low[2], high[0], low[3], high[1])
    kept.all = frozenset((*low, *high, 13))
    return kept


def _written(pattern: Pattern, values: dict[str, int]) -> set[int]:
    """Core registers that an instruction writes, write-back aside."""
    name = pattern.name
    if name.startswith(("LDM", "STM")):
        return {n for n in range(16) if values["l"] >> n & 1} if name.startswith("LDM") else set()
    if name.startswith("V"):
        return {values[x] for x in "tu" if x in pattern.letters} if name.startswith(("VMOV_core", "VMRS")) else set()
    written = {values[x] for x in "dhl" if x in values}
    if "t" in pattern.letters and (name.startswith(("LDR", "SWP"))):
        written |= {values["t"], values.get("u", values["t"])}
    return written


class _Generator:
    """Makes one program."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.a32 = bool(random.randrange(2))
        self.mode = random.choice(_MODES)
        self.kept = _keep(random)
        self.vfp = random.randrange(3) == 0
        # Store-exclusive of another size than load-exclusive is UNPREDICTABLE (A3.4.5).
        self.exclusive_size = random.choice(("", "B", "H", "D"))
        self.starts_in_it = not self.a32 and random.randrange(8) == 0
        unused = {"vfp": not self.vfp, "exclusive": self.starts_in_it}
        kinds = [kind for kind in _WEIGHTS if not unused.get(kind)]
        self.kinds, self.weights = kinds, [_WEIGHTS[kind] for kind in kinds]

    # -- one instruction -----------------------------------------------------------------------------------------------

    def instruction(self, kind: str, in_it: bool) -> Word:
        """An instruction of a kind, or one that computes if none of it was found."""
        for _ in range(40):
            table, pattern = self.random.choice(LINES_BY_KIND[self.a32, kind])
            word = self._word(table, pattern)
            if word is None:
                continue
            word = self._aimed(pattern, word)
            if word is not None and self._is_wanted(table, pattern, word, in_it):
                return table, word
        table = "a32" if self.a32 else "t16"
        return table, NOP[table]

    def _word(self, table: str, pattern: Pattern) -> int | None:
        random = self.random
        if pattern.name.startswith("V"):
            word = pattern.value | random.getrandbits(32) & ~pattern.mask
            if table == "a32":
                word = word & 0x0FFF_FFFF | 14 << 28
        else:
            found = random_word(random, table, pattern)
            if found is None:
                return None
            word = found
        if table == "a32" and "c" in pattern.letters:
            word = with_letter(pattern, word, "c", random.choice((14, random.randrange(14))))
        return word

    def _aimed(self, pattern: Pattern, word: int) -> int | None:
        """``word`` with a kept register as its base, and one as its index; None if it has no room for them."""
        random, kept, name = self.random, self.kept, pattern.name
        if not name.startswith(_MEMORY):
            return word
        values = pattern.values(word)
        whole_words = name.startswith(("LDM", "STM", "LDRD", "STRD", "VLD", "VST"))
        back = bool(values.get("W"))
        if "n" in pattern.letters and values["n"] != 15:
            if _is_exclusive(name):
                # A store-exclusive that would fail anyway is no alignment fault for the peer, but is one (A3.4.5).
                base = kept.double if random.randrange(16) or name.startswith("STREX") else kept.byte
            elif random.randrange(30) == 0:
                base = kept.nowhere
            else:
                base = kept.word if whole_words or back else random.choice((kept.byte, kept.word, 13))
            word = with_letter(pattern, word, "n", base)
            if pattern.values(word)["n"] != base:
                return None
        elif values.get("n", 15) == 15 and not name.endswith("_lit") and not name.startswith(("PL", "VLD")):
            return None
        if name.endswith("_reg") and "m" in pattern.letters:
            word = with_letter(pattern, word, "m", kept.index)
            values = pattern.values(word)
            if values["m"] != kept.index or (back and (values.get("h") or values.get("i", 0) > 3)):
                return None
            if values.get("h", 0) or values.get("i", 0) > 5:
                return None
        values = pattern.values(word)
        offset = values.get("offset", 0)
        if back and name.endswith("_imm") and (offset & 3 or abs(offset) > 64) and not name.startswith("V"):
            return None
        return word

    def _is_wanted(self, table: str, pattern: Pattern, word: int, in_it: bool) -> bool:
        name, mode = pattern.name, self.mode
        if INSTRUCTION_SETS[table][1]().decode(word) is not pattern:
            return False
        values = pattern.values(word)
        if name.startswith("V"):
            if name in ("VMRS", "VMSR") and (values["r"] != 1 or (values["t"] == 15 and name == "VMSR")):
                return False  # identification is not the peer's; switching VFP off is tested alone
            if name.startswith("VMOV") and 15 in (values.get("t"), values.get("u")):
                return False
            if table == "t32" and 13 in (values.get("t"), values.get("u")):
                return False
        elif not is_predictable(table, pattern, word):
            return False
        if _is_exclusive(name) and (name.partition("REX")[2] != self.exclusive_size or values.get("offset", 0) & 7):
            return name == "CLREX"
        written = _written(pattern, values)
        if 15 in written and name != "VMRS":
            return False
        if written & self.kept.all:
            return False
        if in_it and not self._may_be_in_it(table, pattern):
            return False
        if name.endswith("_banked") and mode in (MODE_IRQ, MODE_SYS):
            return False  # their own registers are UNPREDICTABLE
        if name == "MSR_banked":
            return False  # of sp, where addresses are kept
        if name in ("MSR_reg", "MSR_imm", "MRS") and values.get("R") and mode in (MODE_USR, MODE_SYS):
            return False  # no SPSR
        if name in ("MSR_reg", "MSR_imm") and values["R"] and values["k"] & 4:
            return False  # the peer keeps bits 23 to 20, which are reserved, and MRS would show them
        if name in ("MSR_reg", "MSR_imm") and not values["R"]:
            # Changes of mode are compared alone. In User mode the peer does not write E, which is allowed (B1.3.3).
            return not values["k"] & 1 and not (mode == MODE_USR and values["k"] & 2)
        if name == "CPS":
            return not values["M"]
        # Its lr would have to be told from the one that the exception writes.
        return not (name == "SVC" and mode == MODE_SVC)

    @staticmethod
    def _may_be_in_it(table: str, pattern: Pattern) -> bool:
        name = pattern.name
        if name in ("CPS", "SETEND", "BKPT") or "c" in pattern.letters:
            return False
        return name != "ISB" and not name.endswith("_banked")  # the peer loses ITSTATE there

    # -- branches ------------------------------------------------------------------------------------------------------

    def branch(self, in_it: bool) -> Branch:
        random = self.random
        if in_it:
            form = random.choice(_IN_IT)
        else:
            form = random.choice([form for form in _FORMS if form.startswith("a32") == self.a32])
        condition = random.choice((14, random.randrange(14))) if self.a32 else random.randrange(14)
        register = self.kept.end if form in _REGISTER_FORMS else random.randrange(8)
        return Branch(form, random.choice((0, 1, 1, 2, 3, 5, LONGEST)), condition, register)

    # -- the program ---------------------------------------------------------------------------------------------------

    def group(self, length: int = 1, *, in_it: bool = False) -> list[Word | Branch]:
        """``length`` instructions; a branch only as the last one of an IT block."""
        items: list[Word | Branch] = []
        for number in range(length):
            kind = self.random.choices(self.kinds, self.weights)[0]
            if kind == "branch" and number == length - 1:
                items.append(self.branch(in_it))
            else:
                items.append(self.instruction("compute" if kind == "branch" else kind, in_it))
        return items

    def program(self) -> Vfp:
        random = self.random
        count = random.randrange(2, LONGEST)
        groups: list[list[Word | Branch]] = []
        it = 0
        if self.starts_in_it:
            # ITSTATE with which the program starts: a condition, and so many instructions left
            left = random.randrange(1, 5)
            it = random.randrange(7) << 5 | random.getrandbits(left) << 5 - left | 1 << 4 - left
            groups.append(self.group(left, in_it=True))
        else:
            # CLREX, for what an earlier program has left in the peer's monitor
            groups.append([("a32", 0xF57F_F01F) if self.a32 else ("t32", 0xF3BF_8F2F)])
        while len(groups) < count:
            if not self.a32 and random.randrange(5) == 0:
                mask, condition = random.randrange(1, 16), random.randrange(14)
                length = 5 - (mask & -mask).bit_length()
                groups.append([("t16", 0xBF00 | condition << 4 | mask), *self.group(length, in_it=True)])
            else:
                groups.append(self.group())
        words = _resolved(groups)
        cpsr = random_cpsr(random, not self.a32, self.mode) | (it & 3) << 25 | (it & 0xFC) << 8
        if random.randrange(6) == 0:
            cpsr |= CPSR_E
        case = Case(*words[0], self._registers(words), cpsr, random.randbytes(256), tuple(words[1:]))
        pattern = random.choice(LINES_BY_KIND[self.a32, "vfp"])[1]
        doubles = tuple(random_double(random, pattern, {"double": random.randrange(2)}) for _ in range(32))
        fpscr = random.getrandbits(4) << 28 | random.getrandbits(5) << 22 | random.choice((0, 0, 0x10, 0x9F))
        return Vfp(case, doubles, fpscr) if self.vfp else Vfp(case)

    def _registers(self, words: list[Word]) -> tuple[int, ...]:
        random, kept = self.random, self.kept
        registers = [random_value(random) for _ in range(15)]
        end = CODE + sum(len(encoded(table, word)) for table, word in words)
        registers[kept.byte] = WINDOW + random.randrange(-0x200, 0x200)
        registers[kept.word] = WINDOW + random.randrange(-0x200, 0x200, 4)
        registers[kept.double] = WINDOW + random.randrange(-0x200, 0x200, 8)
        registers[kept.nowhere] = NOWHERE + random.randrange(0, 0x1000, 8)
        registers[kept.index] = random.randrange(0, 0x80, 8)
        registers[kept.end] = end | (not self.a32)
        registers[13] = WINDOW + random.randrange(-0x200, 0x200, 8)
        return tuple(registers)


def _size(item: Word | Branch) -> int:
    return item.size if isinstance(item, Branch) else len(encoded(*item))


def _resolved(groups: list[list[Word | Branch]]) -> list[Word]:
    """The instructions, with branches to where the groups have come to lie."""
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + sum(_size(item) for item in group))
    words: list[Word] = []
    at = 0
    for number, group in enumerate(groups):
        for item in group:
            if isinstance(item, Branch):
                target = starts[min(number + 1 + item.over, len(groups))]
                reach = 126 if "CB" in item.form else 254 if item.form == "t16 B cond" else 1 << 20
                if not 4 <= target - at <= reach and item.form.startswith("t16"):
                    words.append(("t16", NOP["t16"]))
                else:
                    words.append(item.word(target - at))
            else:
                words.append(item)
            at += _size(item)
    return words


def random_program(random: Random) -> Vfp:
    """A random program with its initial state."""
    return _Generator(random).program()


def shortened(program: Vfp, fails: Callable[[Vfp], bool]) -> Vfp:
    """``program`` with as many instructions made NOPs, from the last one on, as leave it one that ``fails``."""
    words = list(program.case.words)
    for number in range(len(words) - 1, -1, -1):
        table = words[number][0]
        attempt = [*words[:number], (table, NOP[table]), *words[number + 1 :]]
        if attempt != words and fails(_of_words(program, attempt)):
            words = attempt
    while len(words) > 1 and words[-1][1] == NOP[words[-1][0]] and fails(_of_words(program, words[:-1])):
        words.pop()
    return _of_words(program, words)


def _of_words(program: Vfp, words: list[Word]) -> Vfp:
    return replace(program, case=replace(program.case, table=words[0][0], word=words[0][1], more=tuple(words[1:])))
