# SPDX-License-Identifier: Apache-2.0
"""Every encoding of the assembler, with random operands, against the GNU assembler or capstone.

What an instruction should be is worked out from its name alone (`text`), as GNU as writes it; that must assemble to the
same word, or, where there is no GNU assembler for AArch64, capstone must read it back from the word.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from itertools import compress, product
from pathlib import Path

import capstone
import pytest

from raddle.codegen.renaming import Operands
from raddle_host_aarch64 import conditions
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.code_buffer import BRANCH14, BRANCH19, EncodingError, Reach
from raddle_host_aarch64.encoding import bitmask, is_arithmetic, parse
from raddle_host_aarch64.operands import ADDRESS, OPERANDS
from raddle_host_aarch64.registers import GENERAL

CASES_PER_ENCODING = 24
NAMES = [name for name in vars(Assembler) if re.fullmatch(r"[A-Z][A-Za-z0-9_]*", name)]
LABELS = [name for name in NAMES if name.endswith("_label")]
FIELDS = [name for name in NAMES if name.startswith(("GET", "PUT"))]
ENCODINGS = [name for name in NAMES if name not in LABELS and name not in FIELDS]

EXTENSIONS = ("sxtw",)
LOADS_AND_STORES = re.compile(r"(LD|ST)U?R(S?[BHW])?_")


# --- Operands by the letters of a name ---


def register(random: random.Random, sp: bool = False) -> int:
    """Seldom 31, and never where that is the stack pointer."""
    return random.choice((0, 7, 15, 16, 29, 30, random.randrange(31), *(() if sp else (31,))))


def general(kind: str, number: int) -> str:
    return f"{kind}{number}" if number != 31 else f"{kind}zr"


def mask(random: random.Random, bits: int) -> int:
    """A logical immediate: a run of ones, rotated, over and over."""
    size = random.choice([size for size in (2, 4, 8, 16, 32, 64) if size <= bits])
    run = (1 << random.randrange(1, size)) - 1
    by = random.randrange(size)
    element = (run >> by | run << size - by) & (1 << size) - 1
    return sum(element << at for at in range(0, bits, size))


def distance(random: random.Random, width: int, scale: int = 2) -> int:
    """Signed, and one of the farthest at times."""
    limit = 1 << width - 1
    return random.choice((0, 1, -1, -limit, limit - 1, random.randrange(-limit, limit))) << scale


Case = tuple[tuple[int, ...], str]
"""(operands, text)"""


def case(name: str, random: random.Random) -> Case:
    """Random operands of an encoding, and what it is then."""
    stem, _, kinds = name.partition("_")
    for known, make in SPECIAL:
        if match := known.fullmatch(name):
            return make(match, random)
    return plain(stem, kinds, random)


def plain(stem: str, kinds: str, random: random.Random) -> Case:
    """Registers, conditions and numbers as they come."""
    kinds, _, modifier = kinds.partition("_")
    values: list[int] = []
    words: list[str] = []
    bits = 64 if "x" in kinds else 32
    for kind in kinds:
        if kind in "wx":
            values.append(register(random, sp=modifier in EXTENSIONS and len(values) < 2))
            words.append(general(kind, values[-1]))
        elif kind in "sd":
            values.append(random.randrange(32))
            words.append(f"{kind}{values[-1]}")
        elif kind == "b":
            values.append(random.randrange(32))
            words.append(f"b{values[-1]}")
        elif kind == "v":
            values.append(random.randrange(32))
            words.append(f"v{values[-1]}.8b")
        elif kind == "c":
            values.append(random.randrange(14))
            words.append(conditions.NAMES[values[-1]])
        else:
            assert kind == "i", f"no expectation for {stem}_{kinds}"
            values.append(random.randrange(bits))
            words.append(f"#{values[-1]}")
    if modifier in EXTENSIONS:
        words.append(modifier)
    elif modifier:
        values.append(random.randrange(bits))
        words.append(f"{modifier} #{values[-1]}")
    return tuple(values), f"{stem.lower()} {', '.join(words)}".strip()


def _addition(match: re.Match[str], random: random.Random) -> Case:
    stem, kind = match[1], match[2]
    d, n = register(random, sp=not match[1].endswith("S")), register(random, sp=True)
    value = random.choice((0, 1, 4095, random.randrange(4096), random.randrange(4096) << 12))
    return (d, n, value), f"{stem} {general(kind, d)}, {kind}{n}, #{value}"


def _logical(match: re.Match[str], random: random.Random) -> Case:
    stem, kind = match[1], match[2]
    d, n = register(random, sp=stem != "ANDS"), register(random)
    value = mask(random, 64 if kind == "x" else 32)
    return (d, n, value), f"{stem} {general(kind, d)}, {general(kind, n)}, #{value:#x}"


def _moved(match: re.Match[str], random: random.Random) -> Case:
    d, value, shift = register(random), random.choice((0, 0xFFFF, random.randrange(1 << 16))), match[3] or "0"
    return (d, value), f"{match[1]} {general(match[2], d)}, #{value}, lsl #{shift}"


def _from_sp(match: re.Match[str], random: random.Random) -> Case:
    r = register(random, sp=True)
    return (r,), f"mov x{r}, sp"


def _bit_field(match: re.Match[str], random: random.Random) -> Case:
    stem, kind = match[1], match[2]
    bits = 64 if kind == "x" else 32
    lowest = random.randrange(bits)
    width = random.randrange(1, bits - lowest + 1)
    d, n = register(random), register(random)
    return (d, n, lowest, width), f"{stem} {general(kind, d)}, {general(kind, n)}, #{lowest}, #{width}"


def _system(match: re.Match[str], random: random.Random) -> Case:
    t = register(random)
    words = [match[2], general("x", t)] if match[1] == "MSR" else [general("x", t), match[2]]
    return (t,), f"{match[1]} {', '.join(words)}"


def _barrier(match: re.Match[str], random: random.Random) -> Case:
    kinds = {1: "oshld", 2: "oshst", 3: "osh", 9: "ishld", 10: "ishst", 11: "ish", 13: "ld", 14: "st", 15: "sy"}
    value = random.choice(list(kinds))
    return (value,), f"{match[1]} {kinds[value]}"


def _memory(match: re.Match[str], random: random.Random) -> Case:
    stem, kind = match[1], match[4]
    size = {"B": 0, "H": 1, "SB": 0, "SH": 1, "SW": 2}.get(match[3] or "", {"w": 2, "x": 3, "s": 2, "d": 3}[kind])
    t = random.randrange(32)
    text = f"{kind}{t}" if kind in "sd" else general(kind, t)
    n = register(random, sp=True)
    if match[5] == "xi":
        value = distance(random, 9, 0) if match[2] else random.choice((0, 4095, random.randrange(4096))) << size
        return (t, n, value), f"{stem} {text}, [x{n}, #{value}]"
    m = register(random)
    return (t, n, m), f"{stem} {text}, [x{n}, {general('x', m)}]"


def _pair(match: re.Match[str], random: random.Random) -> Case:
    stem, kind = match[1], match[2]
    t, u, n = random.sample(range(31), 3)
    value = distance(random, 7, 3 if kind == "x" else 2)
    return (t, u, n, value), f"{stem} {kind}{t}, {kind}{u}, [x{n}, #{value}]"


ACCESS = re.compile(r"(LD|ST|CAS|SWP)(\w*)_z(q?l?)(w?r+)x")
"""Of a size and with an order that operands say."""


def accesses(match: re.Match[str], random: random.Random) -> list[Case]:
    """With each size and each order."""
    start, end, orders, kinds = match.groups()
    found = []
    for size, suffix in ((1, "B"), (2, "H"), (4, ""), (8, "")):
        for chosen in product((False, True), repeat=len(orders)):
            order = "".join({"q": "A", "l": "L"}[letter] for letter in compress(orders, chosen))
            name = f"{start}{order}{end}" if end.startswith("X") else f"{start}{end}{order}"
            *values, n = random.sample(range(31), len(kinds) + 1)
            values[-1] = random.choice((values[-1], 31))
            names = ["x" if kind == "r" and size == 8 else "w" for kind in kinds]
            words = [general(one, value) for one, value in zip(names, values, strict=True)]
            found.append(((size, *chosen, *values, n), f"{name}{suffix} {', '.join(words)}, [x{n}]"))
    return found


def _jump(match: re.Match[str], random: random.Random) -> Case:
    value = distance(random, 26)
    return (value,), f"{match[1]} .{value:+d}"


def _conditional(match: re.Match[str], random: random.Random) -> Case:
    c, value = random.randrange(14), distance(random, 19)
    return (c, value), f"b.{conditions.NAMES[c]} .{value:+d}"


def _zero(match: re.Match[str], random: random.Random) -> Case:
    t, value = register(random), distance(random, 19)
    return (t, value), f"{match[1]} {general(match[2], t)}, .{value:+d}"


def _bit(match: re.Match[str], random: random.Random) -> Case:
    kind = match[2]
    t, bit, value = register(random), random.randrange(64 if kind == "x" else 32), distance(random, 14)
    return (t, bit, value), f"{match[1]} {general(kind, t)}, #{bit}, .{value:+d}"


def _place(match: re.Match[str], random: random.Random) -> Case:
    d, value = register(random), distance(random, 21, 0)
    return (d, value), f"adr {general('x', d)}, .{value:+d}"


def _through_register(match: re.Match[str], random: random.Random) -> Case:
    n = register(random)
    return (n,), f"{match[1]} {general('x', n)}"


def _fixed_point(match: re.Match[str], random: random.Random) -> Case:
    a, b = random.randrange(31), random.randrange(31)
    bits = random.randrange(1, 65 if "x" in match[2] else 33)
    return (a, b, bits), f"{match[1]} {match[2][0]}{a}, {match[2][1]}{b}, #{bits}"


SPECIAL: list[tuple[re.Pattern[str], Callable[[re.Match[str], random.Random], Case]]] = [
    (re.compile(pattern), make)
    for pattern, make in (
        (r"(ADDS?|SUBS?)_([wx])\2i", _addition),
        (r"(ANDS?|ORR|EOR)_([wx])\2i", _logical),
        (r"(MOV[NZK])_([wx])i(?:_(\d+))?", _moved),
        (r"MOV_xsp", _from_sp),
        (r"((?:UB|SB)FX|BFXIL|BFI)_([wx])\2ii", _bit_field),
        (r"(MRS|MSR)_(?:x_)?(NZCV|FPCR|FPSR)(?:_x)?", _system),
        (r"(DMB)_i", _barrier),
        (r"((?:LD|ST)(U?)R(S?[BHW])?)_([wxsd])(xi|xx)", _memory),
        (r"(LDP|STP)_([wx])\2xi", _pair),
        (r"(B)_i", _jump),
        (r"B_ci", _conditional),
        (r"(CBN?Z)_([wx])i", _zero),
        (r"(TBN?Z)_([wx])ii", _bit),
        (r"ADR_xi", _place),
        (r"(BL?R)_x", _through_register),
        (r"(FCVTZ[SU]|[SU]CVTF)_([wxsd]{2})i", _fixed_point),
    )
]


def cases(name: str) -> list[Case]:
    generator = random.Random(name)
    if match := ACCESS.fullmatch(name):
        return [one for _ in range(4) for one in accesses(match, generator)]
    return [case(name, generator) for _ in range(CASES_PER_ENCODING)]


def encoded(name: str, operands: tuple[int, ...]) -> bytes:
    assembler = Assembler()
    getattr(assembler, name)(*operands)
    return assembler.finish()


@pytest.mark.peer("aarch64-linux-gnu-as")
def test_the_gnu_assembler_says_the_same(tmp_path: Path) -> None:
    rows = [(name, *one) for name in ENCODINGS for one in cases(name)]
    source, result, raw = (tmp_path / name for name in ("all.s", "all.o", "all.bin"))
    source.write_text(".arch armv8.4-a\n" + "".join(f"{text}\n" for _, _, text in rows))
    subprocess.run(["aarch64-linux-gnu-as", "-o", result, source], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", result, raw], check=True)
    expected = raw.read_bytes()
    assert len(expected) == 4 * len(rows)
    wrong = [
        f"{name}{operands}: {code.hex()}, and {text} is {expected[4 * at : 4 * at + 4].hex()}"
        for at, (name, operands, text) in enumerate(rows)
        if (code := encoded(name, operands)) != expected[4 * at : 4 * at + 4]
    ]
    assert not wrong, "\n".join(wrong[:40])


@pytest.mark.parametrize("name", ENCODINGS)
def test_capstone_reads_the_mnemonic(name: str) -> None:
    """Aliases aside, which capstone prefers, it is another reader of the same manual."""
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    for operands, _ in cases(name):
        assert len(list(engine.disasm(encoded(name, operands), 0))) == 1


# --- Immediates, fields that are out of range, labels ---


@pytest.mark.parametrize("bits", [32, 64])
def test_logical_immediates_are_the_patterns(bits: int) -> None:
    """Each of the numbers that the manual's DecodeBitMasks yields, and no other."""
    found = {}
    for n in range(2):
        for immr in range(64):
            for imms in range(64):
                value = decoded(n, immr, imms, bits)
                if value is not None:
                    found[value] = n << 12 | immr << 6 | imms
    assert len(found) == {32: 1302, 64: 5334}[bits]
    for value in found:
        field = bitmask(value, bits)
        assert field is not None
        assert decoded(field >> 12, field >> 6 & 63, field & 63, bits) == value
    generator = random.Random(bits)
    for _ in range(2000):
        value = generator.getrandbits(bits)
        assert (bitmask(value, bits) is not None) == (value in found)
    assert bitmask(0, bits) is bitmask(-1, bits) is None


def decoded(n: int, immr: int, imms: int, bits: int) -> int | None:
    """Arm DDI 0487, DecodeBitMasks; None where it is undefined."""
    length = (n << 6 | ~imms & 63).bit_length() - 1
    if length < 1 or bits < 1 << length:
        return None
    size = 1 << length
    s, r = imms & size - 1, immr & size - 1
    if s == size - 1 or immr & ~(size - 1):
        return None
    run = (1 << s + 1) - 1
    element = (run >> r | run << size - r) & (1 << size) - 1
    return sum(element << at for at in range(0, bits, size))


@pytest.mark.parametrize("value", [0, 1, 4095, 4096, 0xFFF000])
def test_arithmetic_immediates(value: int) -> None:
    assert is_arithmetic(value)


@pytest.mark.parametrize(
    ("name", "operands"),
    [
        ("ADD_wwi", (0, 1, 4097)),
        ("ADD_wwi", (0, 1, -1)),
        ("ADD_xxi", (0, 1, 1 << 24)),
        ("AND_wwi", (0, 1, 5)),
        ("AND_xxi", (0, 1, 0)),
        ("ADD_www", (32, 0, 0)),
        ("ADD_www", (0, -1, 0)),
        ("LDR_wxi", (0, 1, 2)),
        ("LDR_wxi", (0, 1, -4)),
        ("LDR_xxi", (0, 1, 32768)),
        ("LDUR_xxi", (0, 1, 256)),
        ("LDP_xxxi", (0, 1, 2, 512)),
        ("LDP_xxxi", (0, 1, 2, 4)),
        ("B_i", (1 << 27,)),
        ("B_ci", (0, 2)),
        ("ADR_xi", (0, 1 << 20)),
        ("LSL_wwi", (0, 1, 32)),
        ("UBFX_wwii", (0, 1, 20, 13)),
        ("MOVZ_wi", (0, 1 << 16)),
        ("TBZ_wii", (0, 32, 0)),
        ("FCVTZS_wsi", (0, 0, 0)),
        ("LDAR_zrx", (3, 0, 1)),
        ("SWP_zqlrrx", (4, 2, 0, 0, 1, 2)),
        ("STXR_zlwrx", (8, 0, 32, 1, 2)),
    ],
)
def test_operands_that_do_not_fit_are_errors(name: str, operands: tuple[int, ...]) -> None:
    with pytest.raises(EncodingError):
        encoded(name, operands)


def test_labels_before_and_after_the_jump() -> None:
    assembler = Assembler()
    start, end = assembler.label(), assembler.label()
    assembler.bind(start)
    assembler.CBZ_w_label(1, end)
    assembler.TBNZ_xii(2, 40, 0)
    assembler.refer(start, BRANCH14)
    assembler.B_ci(conditions.NE, 0)
    assembler.refer(end, BRANCH19)
    assembler.B_label(start)
    assembler.bind(end)
    expected = (
        encoded("CBZ_wi", (1, 16)) + encoded("TBNZ_xii", (2, 40, -4)) + encoded("B_ci", (conditions.NE, 8))
    ) + encoded("B_i", (-12,))
    assert assembler.finish() == expected


def test_misuse_of_labels() -> None:
    assembler = Assembler()
    label = assembler.label()
    assembler.B_label(label)
    with pytest.raises(EncodingError, match="never bound"):
        assembler.finish()
    assembler.bind(label)
    with pytest.raises(EncodingError, match="bound twice"):
        assembler.bind(label)
    with pytest.raises(EncodingError, match="cannot reach"):
        Reach(5, 14).encode(1 << 15)


@pytest.mark.parametrize("text", ["01", "0" * 31 + "n0", "nn0n" + "0" * 28])
def test_pictures_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize("displacement", [0, 4, 255, -1, -256, -257, -320, 252, 4095, 16380, 16384, 65536 + 8, -70000])
@pytest.mark.parametrize("name", FIELDS)
def test_fields_at_any_displacement(name: str, displacement: int) -> None:
    """One access whose base and displacement add up; at most one addition to the link register before it."""
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    engine.detail = True
    wanted = displacement & ~7 if abs(displacement) > 255 else displacement
    *before, access = engine.disasm(encoded(name, (3, 28, wanted)), 0)
    operand = access.operands[1].mem
    found = operand.disp
    for one in before:
        assert one.mnemonic in ("add", "sub")
        shift = one.operands[2].shift.value
        found += (one.operands[2].imm << shift) * (1 if one.mnemonic == "add" else -1)
    assert found == wanted
    assert len(before) <= 1
    assert (access.reg_name(operand.base) == "x28") == (not before)
    assert ADDRESS == 30


# --- What is declared for renaming ---


@pytest.mark.parametrize("name", [*ENCODINGS, *FIELDS])
def test_declared_registers_are_those_of_the_name(name: str) -> None:
    """Each operand that names a general register is declared as one, and no other."""
    kinds = name.partition("_")[2].split("_")[0]
    if name.startswith(("MRS", "MSR")):
        kinds = "x"
    kinds = kinds.replace("xsp", "x")
    declared = OPERANDS.get(vars(Assembler)[name], Operands(()))
    assert declared.registers == tuple((at, GENERAL) for at, kind in enumerate(kinds) if kind in "wxr")
    displaced = bool(LOADS_AND_STORES.match(name) or name.startswith(("LDP", "STP", "GET", "PUT"))) and kinds.endswith(
        "xi"
    )
    assert declared.base == (len(kinds) - 2 if displaced else -1)
