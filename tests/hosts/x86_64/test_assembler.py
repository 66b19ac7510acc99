# SPDX-License-Identifier: Apache-2.0
"""Every encoding of the assembler, with random operands, against capstone and the GNU assembler.

What an instruction should be is worked out from its name alone (`expect`), as a mnemonic and operands with sizes;
capstone must read that back from the bytes, and GNU as must assemble its text to bytes that mean the same.
"""

from __future__ import annotations

import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import capstone
import pytest
from capstone import x86

from raddle.codegen.locations import RegisterClass
from raddle.codegen.renaming import Operands
from raddle_host_x86_64 import conditions, registers
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.code_buffer import EncodingError
from raddle_host_x86_64.operands import OPERANDS
from raddle_host_x86_64.registers import FLOATING, GENERAL

CASES_PER_ENCODING = 32
NAMES = sorted(name for name in vars(Assembler) if re.fullmatch(r"[A-Z][A-Za-z0-9_]*", name))
LABELS = [name for name in NAMES if name.endswith("_near")]
ENCODINGS = [name for name in NAMES if name not in LABELS and name != "NOP"]

disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
disassembler.detail = True


# --- What an instruction is, from its name ---

REGISTER_NAMES = {
    8: (*registers.NAMES_8, "ah", "ch", "dh", "bh"),
    16: registers.NAMES_16,
    32: registers.NAMES_32,
    64: registers.NAMES_64,
    128: registers.NAMES_XMM,
}

SIZED_MNEMONICS = """
    mov movbe lea xchg bswap add or adc sbb and sub xor cmp test inc dec not neg imul mul div idiv
    rol ror rcl rcr shl shr sar shld shrd bsf bsr tzcnt lzcnt popcnt bt bts btr btc andn rorx shlx shrx sarx
    cmpxchg xadd
"""
SIZED = frozenset(SIZED_MNEMONICS.split())
COUNT_IS_SECOND = frozenset({"shlx", "shrx", "sarx"})
"""The methods take the count before the source, and instructions have it last."""
SUFFIXES = {"": 32, "Q": 64, "W": 16, "B": 8}

# Mnemonic and operand sizes, where the operands differ or the name says it in another way.
OTHERS: dict[str, tuple[str, list[int]]] = {
    "MOVABS": ("movabs", [64, 64]),
    "MOVZXB": ("movzx", [32, 8]),
    "MOVZXW": ("movzx", [32, 16]),
    "MOVSXB": ("movsx", [32, 8]),
    "MOVSXW": ("movsx", [32, 16]),
    "MOVSXBQ": ("movsx", [64, 8]),
    "MOVSXWQ": ("movsx", [64, 16]),
    "MOVSXD": ("movsxd", [64, 32]),
    "CMPXCHG8B": ("cmpxchg8b", [64]),
    "CMPXCHG16B": ("cmpxchg16b", [128]),
    "PUSH": ("push", [64]),
    "POP": ("pop", [64]),
    "JMP": ("jmp", [64]),
    "CALL": ("call", [64]),
    "LDMXCSR": ("ldmxcsr", [32]),
    "STMXCSR": ("stmxcsr", [32]),
    "MOVMSKPS": ("movmskps", [32, 128]),
    "MOVMSKPD": ("movmskpd", [32, 128]),
    "PMOVMSKB": ("pmovmskb", [32, 128]),
    "UCOMISS": ("ucomiss", [32, 32]),
    "UCOMISD": ("ucomisd", [64, 64]),
    "COMISS": ("comiss", [32, 32]),
    "COMISD": ("comisd", [64, 64]),
    "CVTSS2SD": ("cvtss2sd", [64, 32]),
    "CVTSD2SS": ("cvtsd2ss", [32, 64]),
    "MOVD": ("movd", [32, 32]),
}


def mnemonic_and_sizes(mnemonic: str, kinds: str) -> tuple[str, list[int]]:
    """`MOVZXB` -> ("movzx", [32, 8]). A memory or general register operand has its place's size."""
    if mnemonic in OTHERS:
        return OTHERS[mnemonic]
    if "v" in kinds:
        if mnemonic == "MOVQ":
            return "movq", [64, 64]
        if conversion := re.fullmatch(r"(CVTT?(?:SI2S[SD]|S[SD]2SI))(Q?)", mnemonic):
            return conversion[1].lower(), [SUFFIXES[conversion[2]]] * 2
        size = 32 if mnemonic.endswith("SS") else 64 if mnemonic.endswith("SD") else 128
        return mnemonic.lower(), [size] * 3
    stem, suffix = (mnemonic, "") if mnemonic.lower() in SIZED else (mnemonic[:-1], mnemonic[-1])
    assert stem.lower() in SIZED, f"no expectation for {mnemonic}_{kinds}"
    return stem.lower(), [SUFFIXES[suffix]] * 3


@dataclass(frozen=True)
class Operand:
    kind: str  # "reg", "imm", "mem", "rel"
    size: int
    value: int = 0  # register number, immediate or displacement
    base: str = ""
    index: str = ""
    scale: int = 1

    def text(self) -> str:
        """In GNU as's Intel syntax."""
        if self.kind == "reg":
            return REGISTER_NAMES[self.size][self.value]
        if self.kind == "imm":
            return str(self.value)
        if self.kind == "rel":
            return f".+{self.value}"
        address = "+".join(filter(None, (self.base, self.index and f"{self.index}*{self.scale}")))
        words = {8: "byte", 16: "word", 32: "dword", 64: "qword", 128: "xmmword"}
        return f"{words[self.size]} ptr [{address}{self.value:+d}]"


@dataclass(frozen=True)
class Case:
    name: str
    arguments: tuple[int, ...]
    mnemonic: str
    operands: tuple[Operand, ...]
    code: bytes

    def text(self) -> str:
        """In GNU as's Intel syntax."""
        return f"{self.mnemonic} {', '.join(operand.text() for operand in self.operands)}"


IMMEDIATES = [0, 1, -1, 2, 5, 100, 127, 128, 129, 200, 255, 256, 0x1234, 0x7FFF, 0x8000, 0xFF7F, 0xFF80, 0xFFFF]
IMMEDIATES += [-127, -128, -129, -0x8000, 0x12345678, 0x7FFFFFFF, -0x80000000, 0x80000000, 0xFFFFFF7F, 0xFFFFFF80]
IMMEDIATES += [0xFFFFFFFF, 1 << 32, -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x123456789ABCDEF0]
DISPLACEMENTS = [0, 0, 1, -1, 8, 64, 127, -128, 128, -129, 4096, -70000, 0x7FFFFFFF, -0x80000000]


class Draws:
    """Random operands. In 16 cases each register comes up in each place, in 256 each pair in the first two places."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.pairs = [
            (number, (number + distance) % 16)
            for distance in self.random.sample(range(16), 16)
            for number in self.random.sample(range(16), 16)
        ]
        self.orders: dict[int, list[int]] = {}

    def register(self, place: int) -> int:
        order = self.orders.setdefault(place, [])
        if not order:
            order += [pair[place] for pair in self.pairs] if place < 2 else self.random.sample(range(16), 16)
        return order.pop()

    def index(self, place: int) -> int:
        while (number := self.register(place)) == registers.RSP:
            pass
        return number

    def immediate(self, low: int, high: int) -> int:
        edges = [value for value in IMMEDIATES if low <= value <= high]
        return self.random.choice([*edges, self.random.randint(low, high)])


def immediate_range(name: str, mnemonic: str, size: int) -> tuple[int, int]:
    if mnemonic in {"rol", "ror", "rcl", "rcr", "shl", "shr", "sar", "shld", "shrd", "rorx", "bt", "bts", "btr", "btc"}:
        return 0, 63 if size == 64 else 31
    if re.match(r"CMPS[SD]_", name):
        return 0, 7
    if "v" in name.rsplit("_", 1)[1]:
        return 0, 255
    if name == "MOVABS_ri":
        return -(1 << 63), (1 << 64) - 1
    if size == 64:
        return -(1 << 31), (1 << 31) - 1
    return -(1 << size - 1), (1 << size) - 1


def expect(name: str, draws: Draws) -> Iterator[tuple[tuple[int, ...], str, tuple[Operand, ...]]]:
    """Arguments for the method, and the mnemonic and operands that they should make; for ever."""
    stem, _, kinds = name.removeprefix("LOCK_").partition("_")
    conditional = re.fullmatch(r"(J|SET|CMOV)cc(Q?)", stem)
    while True:
        arguments: list[int] = []
        operands: list[Operand] = []
        if not kinds:
            yield (), name.lower(), ()
            continue
        if conditional:
            condition = draws.random.randrange(16)
            arguments.append(condition)
            mnemonic = conditional[1].lower() + conditions.NAMES[condition]
            sizes = [8] if conditional[1] == "SET" else [SUFFIXES[conditional[2]]] * 2
        else:
            mnemonic, sizes = mnemonic_and_sizes(stem, kinds)
        if kinds == "rel32":
            relative = draws.immediate(-0x8000_0000, 0x7FFF_FFFF)
            size = 6 if conditional else 5
            yield (*arguments, relative), mnemonic, (Operand("rel", 64, relative + size),)
            continue
        for place, kind in enumerate(kinds):
            size = sizes[min(place, len(sizes) - 1)]
            match kind:
                case "r" | "v":
                    arguments.append(draws.register(place))
                    operands.append(Operand("reg", 128 if kind == "v" else size, arguments[-1]))
                case "h":
                    arguments.append(draws.random.randrange(4))
                    operands.append(Operand("reg", 8, 16 + arguments[-1]))
                case "m":
                    base, disp = draws.register(place), draws.random.choice(DISPLACEMENTS)
                    arguments += [base, disp]
                    operands.append(Operand("mem", size, disp, registers.NAMES_64[base]))
                case "x" | "s":
                    base, index = draws.register(place), draws.index(place + 8)
                    scale, disp = draws.random.choice([1, 2, 4, 8]), draws.random.choice(DISPLACEMENTS)
                    arguments += [base, index, scale, disp] if kind == "x" else [index, scale, disp]
                    base_name = registers.NAMES_64[base] if kind == "x" else ""
                    operands.append(Operand("mem", size, disp, base_name, registers.NAMES_64[index], scale))
                case "p":
                    disp = draws.random.choice(DISPLACEMENTS)
                    arguments.append(disp)
                    operands.append(Operand("mem", size, disp, "rip"))
                case "i" | "I":
                    low, high = immediate_range(name, mnemonic, size)
                    arguments.append(draws.immediate(low, high))
                    operands.append(Operand("imm", size, arguments[-1]))
                case "c":
                    operands.append(Operand("reg", 8, registers.RCX))
                case _:
                    pytest.fail(f"unknown operand kind {kind} in {name}")
        if mnemonic in COUNT_IS_SECOND:
            operands[1:] = reversed(operands[1:])
        lock = "lock " if name.startswith("LOCK_") else ""
        yield tuple(arguments), lock + mnemonic, tuple(operands)


def cases(name: str) -> list[Case]:
    made = []
    source = expect(name, Draws(name))
    _, _, kinds = name.removeprefix("LOCK_").partition("_")
    # All pairs of registers where only they decide, and for bytes, where a few pairs decide on REX.
    count = 256 if re.match("[rv]{2}", kinds) or re.search(r"[A-Z]B_", name) else CASES_PER_ENCODING if kinds else 1
    for _ in range(count):
        arguments, mnemonic, operands = next(source)
        asm = Assembler()
        getattr(asm, name)(*arguments)
        made.append(Case(name, arguments, mnemonic, operands, bytes(asm.code)))
    return made


# --- Against capstone ---

PREDICATES = ["eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"]


def read_back(case: Case) -> tuple[str, list[Operand]]:
    """What capstone says the bytes are, in our words."""
    instructions = list(disassembler.disasm(case.code, 0))
    assert len(instructions) == 1, f"{case}: not one instruction"
    instruction = instructions[0]
    assert instruction.size == len(case.code), f"{case}: bytes left over"
    operands = []
    for wanted, got in zip(case.operands, instruction.operands, strict=False):
        size = got.size * 8
        if got.type == x86.X86_OP_REG:
            name = instruction.reg_name(got.reg)
            size = 128 if name.startswith("xmm") else size
            operands.append(Operand("reg", size, REGISTER_NAMES[size].index(name)))
        elif got.type == x86.X86_OP_IMM:
            # As wide and as signed as the caller gave it.
            modulus = 1 << wanted.size
            same = (got.imm - wanted.value) % modulus == 0
            operands.append(Operand(wanted.kind, wanted.size, wanted.value if same else got.imm))
        else:
            memory = got.mem
            base = instruction.reg_name(memory.base) if memory.base else ""
            index = instruction.reg_name(memory.index) if memory.index else ""
            # lea accesses nothing; capstone takes the operand of comisd to be 128 bits wide, the manual says m64.
            size = wanted.size if case.mnemonic in {"lea", "comisd"} else size
            operands.append(Operand("mem", size, memory.disp, base, index, memory.scale))
    mnemonic, count = instruction.mnemonic, len(instruction.operands)
    if comparison := re.fullmatch(r"cmp(\w+)(s[sd])", mnemonic):
        # capstone knows the predicates by name.
        mnemonic, count = "cmp" + comparison[2], 3
        operands.append(Operand("imm", case.operands[2].size, PREDICATES.index(comparison[1])))
    assert count == len(case.operands), f"{case}: {instruction}"
    return mnemonic, operands


@pytest.mark.parametrize("name", ENCODINGS)
def test_capstone_reads_back_what_the_name_says(name: str) -> None:
    for case in cases(name):
        assert read_back(case) == (case.mnemonic, list(case.operands)), f"{case.arguments}: {case.code.hex(' ')}"


# --- Against the GNU assembler ---

# An x86-64 one: a cross assembler, or the system's own.
NATIVE = sys.platform == "linux" and platform.machine() == "x86_64"
AS = shutil.which("x86_64-linux-gnu-as") or (NATIVE and shutil.which("as")) or None
OBJCOPY = shutil.which("x86_64-linux-gnu-objcopy") or (NATIVE and shutil.which("objcopy")) or None

SLOT = 16  # no instruction is longer than 15 bytes
# Where it may choose other bytes: a short immediate or jump, a form for eax only, a shift by one, exchanged operands.
SYNONYMS = re.compile(r"\w+_(\w*[iI]|rel32)|XCHGQ?_rr")


def gnu_assemble(texts: list[str], directory: Path) -> bytes:
    """Each text at a multiple of SLOT, assembled in one run."""
    source, image = directory / "cases.s", directory / "cases.bin"
    lines = [".intel_syntax noprefix", ".text"]
    for text in texts:
        lines += [f".balign {SLOT}, 0xcc", text]
    source.write_text("\n".join([*lines, f".balign {SLOT}, 0xcc", ""]))
    assert AS is not None
    assert OBJCOPY is not None
    subprocess.run([AS, "--64", "-o", directory / "cases.o", source], check=True)
    subprocess.run([OBJCOPY, "-O", "binary", "-j", ".text", directory / "cases.o", image], check=True)
    return image.read_bytes()


def meaning(case: Case, code: bytes) -> tuple[str, list[Operand]]:
    """What the first instruction of the code does, whichever of its encodings was chosen."""
    size = next(disassembler.disasm(code, 0)).size
    mnemonic, operands = read_back(replace(case, code=code[:size]))
    return mnemonic, sorted(operands, key=repr) if mnemonic == "xchg" else operands


@pytest.mark.skipif(AS is None or OBJCOPY is None, reason="GNU binutils for x86-64 are not installed")
def test_the_gnu_assembler_agrees(tmp_path: Path) -> None:
    # GNU as knows that exchanging rax with itself is a nop.
    checked = [case for name in ENCODINGS for case in cases(name) if case.text() != "xchg rax, rax"]
    image = gnu_assemble([case.text() for case in checked], tmp_path)
    assert len(image) == SLOT * len(checked)
    wrong = []
    for number, case in enumerate(checked):
        theirs = image[number * SLOT : (number + 1) * SLOT]
        if theirs.startswith(case.code):
            continue
        if not SYNONYMS.fullmatch(case.name) or meaning(case, theirs) != meaning(case, case.code):
            wrong.append(f"{case.text()}: {case.code.hex(' ')}, GNU as {theirs.hex(' ')}")
    assert not wrong, "\n".join(wrong)


# --- Fields, lengths and limits ---


def assembled(name: str, *arguments: Any) -> bytes:
    asm = Assembler()
    getattr(asm, name)(*arguments)
    return bytes(asm.code)


RELOCATABLE = [
    *(name for name in ENCODINGS if re.search(r"_([rm]I|[rv]?p|rel32)$", name)),
    *["MOV_ri", "MOV_mi", "MOVQ_ri", "MOVQ_mi"],
]


@pytest.mark.parametrize("name", RELOCATABLE)
def test_a_field_for_relocation_is_as_wide_as_can_be_and_last(name: str) -> None:
    *first, _ = cases(name)[0].arguments
    size = 2 if re.match(r"[A-Z]+W_", name) else 4
    wide = assembled(name, *first, 0x1234)
    assert wide[-size:] == (0x1234).to_bytes(size, "little")
    assert assembled(name, *first, 0) == wide[:-size] + bytes(size)


@pytest.mark.parametrize(
    ("name", "arguments", "length"),
    [
        ("ADD_rr", (0, 1), 2),
        ("ADD_rr", (8, 1), 3),
        ("MOVB_mr", (0, 0, 3), 2),
        ("MOVB_mr", (0, 0, 4), 3),  # spl needs REX
        ("ADDB_ri", (3, 1), 3),
        ("ADDB_ri", (7, 1), 4),
        ("CMPB_rm", (3, 7, 0), 2),  # but not rdi as a base
        ("MOVZXB_rr", (7, 3), 3),  # nor edi as the wide operand
        ("ADD_ri", (0, 127), 3),
        ("ADD_ri", (0, 128), 6),
        ("ADD_ri", (0, -128), 3),
        ("ADD_ri", (0, 0xFFFFFF80), 3),
        ("ADD_ri", (0, 0xFFFFFF7F), 6),
        ("ADDQ_ri", (0, -129), 7),
        ("IMULQ_rri", (0, 1, -1), 4),
        ("MOV_rm", (0, 0, 0), 2),
        ("MOV_rm", (0, 5, 0), 3),  # rbp without a displacement would be rip
        ("MOV_rm", (0, 4, 0), 3),  # rsp needs SIB
        ("MOV_rm", (0, 0, 127), 3),
        ("MOV_rm", (0, 0, 128), 6),
        ("MOV_rx", (0, 0, 1, 1, 0), 3),
        ("MOV_rx", (0, 13, 12, 8, 0), 5),
        ("MOV_ri", (0, 0xFFFFFFFF), 5),
        ("MOVQ_ri", (0, -1), 7),
        ("MOVABS_ri", (0, -1), 10),
        ("CMPB_mi", (0, 0, 255), 3),
        ("RORX_rri", (0, 0, 1), 6),
    ],
)
def test_the_shortest_form_is_chosen(name: str, arguments: tuple[int, ...], length: int) -> None:
    assert len(assembled(name, *arguments)) == length


@pytest.mark.parametrize("size", range(1, 10))
def test_nop_is_one_instruction(size: int) -> None:
    (instruction,) = disassembler.disasm(assembled("NOP", size), 0)
    assert (instruction.mnemonic, instruction.size) == ("nop", size)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("NOP", (0,)),
        ("NOP", (10,)),
        ("ADD_rr", (16, 0)),
        ("ADD_rr", (0, 16)),
        ("ADD_rr", (0, -1)),
        ("ADD_rr", (-1, 0)),
        ("NOT_r", (16,)),
        ("NOT_r", (256,)),
        ("JMP_m", (256, 0)),
        ("BSWAP_r", (16,)),
        ("VFMADD213SS_vvv", (0, 16, 0)),
        ("ADDSS_vv", (0, 99)),
        ("MOV_rm", (16, 0, 0)),
        ("MOV_rm", (0, 16, 0)),
        ("MOV_rm", (0, 0, 1 << 31)),
        ("MOV_mr", (0, -(1 << 31) - 1, 0)),
        ("MOV_rx", (0, 0, 4, 1, 0)),  # rsp as an index
        ("MOV_rx", (0, 0, 1, 3, 0)),
        ("MOV_rx", (0, 0, 1, 0, 0)),
        ("MOV_rx", (0, 0, 1, 16, 0)),
        ("MOV_rx", (0, 0, 16, 1, 0)),
        ("LEA_rs", (0, 4, 1, 0)),
        ("LEA_rs", (0, 1, 5, 0)),
        ("LEAQ_rp", (16, 0)),
        ("ADD_ri", (0, 1 << 32)),
        ("ADD_ri", (0, -(1 << 31) - 1)),
        ("ADDQ_ri", (0, 1 << 31)),
        ("MOVW_mi", (0, 0, 1 << 16)),
        ("MOVW_mi", (0, 0, -0x8001)),
        ("ADDB_ri", (0, 256)),
        ("CMPB_mi", (0, 0, -129)),
        ("MOV_ri", (0, 1 << 32)),
        ("MOVQ_ri", (0, 1 << 31)),
        ("MOVABS_ri", (0, 1 << 64)),
        ("MOVABS_ri", (0, -(1 << 63) - 1)),
        ("JMP_rel32", (1 << 31,)),
    ],
)
def test_what_does_not_fit_is_refused(name: str, arguments: tuple[int, ...]) -> None:
    with pytest.raises(EncodingError):
        assembled(name, *arguments)


# --- Labels ---

JUMPS: list[tuple[str, tuple[int, ...], str]] = [
    ("JMP_near", (), "jmp"),
    ("Jcc_near", (conditions.B,), "jb"),
]


def test_every_user_of_labels_is_tested() -> None:
    assert {name for name, _, _ in JUMPS} == set(LABELS)


@pytest.mark.parametrize("distance", [0, 1, 100])
@pytest.mark.parametrize(("name", "arguments", "mnemonic"), JUMPS)
def test_a_jump_forward_and_back_reaches_its_label(
    name: str, arguments: tuple[int, ...], mnemonic: str, distance: int
) -> None:
    asm = Assembler()
    before, after = asm.label(), asm.label()
    asm.STC()
    asm.bind(before)
    asm.code += b"\x90" * distance
    getattr(asm, name)(*arguments, before)
    second = len(asm.code)
    getattr(asm, name)(*arguments, after)
    third = len(asm.code)
    getattr(asm, name)(*arguments, after)
    asm.code += b"\x90" * distance
    asm.bind(after)
    end = len(asm.code)
    code = asm.finish()
    jumps = [i for i in disassembler.disasm(code, 0) if i.mnemonic == mnemonic]
    assert [i.operands[0].imm for i in jumps] == [1, end, end]
    assert [i.address for i in jumps[1:]] == [second, third]


def test_a_label_never_bound_is_found() -> None:
    asm = Assembler()
    asm.label()
    assert asm.finish() == b""
    label = asm.label()
    asm.JMP_near(label)
    asm.Jcc_near(conditions.NE, label)
    with pytest.raises(EncodingError, match="2 uses"):
        asm.finish()
    asm.bind(label)
    asm.finish()


def test_a_label_is_bound_once() -> None:
    asm = Assembler()
    label = asm.label()
    asm.bind(label)
    with pytest.raises(EncodingError, match="twice"):
        asm.bind(label)


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_operands_that_renaming_looks_at_are_those_of_the_name(name: str) -> None:
    mnemonic, _, kinds = name.rpartition("_")
    position = int("cc" in mnemonic)
    named: list[tuple[int, RegisterClass]] = []
    base = -1
    for kind in kinds if mnemonic and re.fullmatch("[rmxsviIpc]+", kinds) else "":
        base = position if kind == "m" else base
        named += [(position, GENERAL)] * (kind in "rmsx") + [(position + 1, GENERAL)] * (kind == "x")
        named += [(position, FLOATING)] * (kind == "v")
        position += {"m": 2, "x": 4, "s": 3, "c": 0}.get(kind, 1)
    declared = OPERANDS.get(vars(Assembler)[name], Operands(()))
    assert declared == (tuple(named), base if named else -1)
