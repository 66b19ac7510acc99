# SPDX-License-Identifier: Apache-2.0
"""Single ARM instructions run by Raddle and by Unicorn, from the same state.

``Case`` is an instruction word, or several, with all the state it sees; ``Result`` is what became of it. A *runner*
turns the one into the other: ``InterpreterRunner`` by the IR interpreter, ``UnicornRunner`` by the peer; whoever
compiles IR adds its own. ``random_case`` makes cases of one line of a decode table that the architecture defines: it
avoids UNPREDICTABLE operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol

from raddle.ir.builder import Builder
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Leave, MemoryFault, interpret
from raddle.ir.types import MemOp, Type
from raddle.ir.verifier import verify
from raddle.testing.unicorn_reference import UnicornReference
from raddle.translate.decode import Pattern
from raddle_target_arm import decode
from raddle_target_arm.exceptions import CPSR_E, CPSR_T, ROUTINES
from raddle_target_arm.insns import A32, T32
from raddle_target_arm.state import (
    BANK,
    BANK_OF_MODE,
    BANKED_LR,
    BANKED_SP,
    CF,
    CPSR_M,
    FIQ_R8_R12,
    GE,
    MASKS,
    MODE_E,
    MODE_FIQ,
    MODE_IT,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_SVC,
    MODE_SYS,
    MODE_T,
    MODE_USR,
    NF,
    QF,
    REGISTERS,
    SPSR,
    STATE,
    VF,
    ZF,
)

CODE, CODE_SIZE = 0x0500_5000, 0x1000
"""Address of the instruction; no small register shifted leads there from the data."""
DATA, DATA_SIZE = 0x0002_0000, 0x2000
"""The only memory that loads and stores reach besides the code, which no case stores to."""
WINDOW = DATA + DATA_SIZE // 2
"""Base registers of memory instructions point near here."""

BANKS = {bank: mode for mode, bank in BANK_OF_MODE.items() if mode != MODE_SYS}
"""Processor modes by the number of their bank."""


def banked(bank: int) -> tuple[int, int, int]:
    """sp, lr and SPSR that every case finds in a bank that is not current; the SPSR is for User mode, T32 if odd."""
    return WINDOW + 0x20 * bank, 0x1234_5678 + bank, 0xA005_0010 | (CPSR_T if bank & 1 else 0)


FIQ_HIGH = tuple(0xF000 + number for number in range(8, 13))
"""r8 … r12 of FIQ mode."""

FLAGS = ((NF, 31), (ZF, 30), (CF, 29), (VF, 28), (QF, 27))
COMPARED = 0xF80F_0000 | 0x0600_FC00 | CPSR_E | 0x1C0 | CPSR_T | 0x1F
"""The bits of the CPSR that results are compared in."""

INSTRUCTION_SETS = {"a32": (A32(), decode.a32, 4), "t16": (T32(), decode.t16, 2), "t32": (T32(), decode.t32, 4)}


def encoded(table: str, word: int) -> bytes:
    """An instruction as it lies in memory."""
    instructions, _, size = INSTRUCTION_SETS[table]
    return instructions.encoded(word, size)


@dataclass(frozen=True)
class Case:
    """One instruction with its initial state. ``data`` fills the data memory by repetition.

    ``more`` are instructions that follow; a case of several is not to branch.
    """

    table: str
    word: int
    registers: tuple[int, ...]
    cpsr: int
    data: bytes = b"\0"
    more: tuple[tuple[str, int], ...] = ()

    @property
    def words(self) -> tuple[tuple[str, int], ...]:
        """All instructions, each with its table."""
        return ((self.table, self.word), *self.more)

    @property
    def code(self) -> bytes:
        """The instructions as they lie in memory."""
        return b"".join(encoded(table, word) for table, word in self.words)

    @property
    def it(self) -> int:
        """ITSTATE, from its two places in the CPSR."""
        return self.cpsr >> 25 & 3 | self.cpsr >> 8 & 0xFC

    @property
    def image(self) -> bytes:
        """The code with an ISB after it, which ends a block."""
        return self.code + (b"\x6f\xf0\x7f\xf5" if self.table == "a32" else b"\xbf\xf3\x6f\x8f")

    def memory(self) -> bytearray:
        return bytearray((self.data * (DATA_SIZE // len(self.data) + 1))[:DATA_SIZE])


@dataclass(frozen=True)
class Result:
    """The state after a case. ``event``: what it did instead of going on, such as "svc", "undefined", "fault"."""

    event: str
    registers: tuple[int, ...]
    pc: int
    cpsr: int
    memory: bytes = field(repr=False)

    def differences(self, other: Result) -> list[str]:
        """What differs, in words; [] when nothing does."""
        if self.event != other.event:
            return [f"event {self.event!r}, {other.event!r}"]
        found = [
            f"r{n} {one:#x}, {two:#x}"
            for n, (one, two) in enumerate(zip(self.registers, other.registers, strict=True))
            if one != two
        ]
        # A32 addresses with bit 1 set are UNPREDICTABLE
        if not self.event and (self.pc ^ other.pc) & (~0 if self.cpsr & CPSR_T else ~2):
            found.append(f"pc {self.pc:#x}, {other.pc:#x}")
        if not self.event and (self.cpsr ^ other.cpsr) & COMPARED:
            found.append(f"cpsr {self.cpsr:#010x}, {other.cpsr:#010x}")
        if self.memory != other.memory:
            at = next(n for n, (one, two) in enumerate(zip(self.memory, other.memory, strict=True)) if one != two)
            found.append(
                f"memory from {DATA + at:#x}: {self.memory[at : at + 8].hex()}, {other.memory[at : at + 8].hex()}"
            )
        return found


class Runner(Protocol):
    """Runs cases."""

    def run(self, case: Case) -> Result: ...


# -- Raddle ------------------------------------------------------------------------------------------------------------


class CaseMemory:
    """The code and data memory of a case, for the interpreter."""

    def __init__(self, case: Case) -> None:
        self.content = case.memory()
        self.code = case.image.ljust(CODE_SIZE, b"\0")

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        place, at = (self.code, address - CODE) if address >= CODE else (self.content, address - DATA)
        if not 0 <= at <= len(place) - memop.size:
            raise MemoryFault(address, 0)
        return int.from_bytes(place[at : at + memop.size], "big" if memop.big_endian else "little")

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        at = address - DATA
        if not 0 <= at <= DATA_SIZE - memop.size:
            raise MemoryFault(address, 1)
        self.content[at : at + memop.size] = value.to_bytes(memop.size, "big" if memop.big_endian else "little")


def block_mode(cpsr: int, extra: int = 0) -> int:
    """The block mode of a processor status, within a block (no ITSTATE), with more bits."""
    mode = extra
    mode |= MODE_T if cpsr & CPSR_T else 0
    mode |= MODE_E if cpsr & CPSR_E else 0
    mode |= MODE_PRIVILEGED if cpsr & 0x1F != MODE_USR else 0
    return mode


def emit(table: str, word: int, decode_state: int, mode: int) -> tuple[Builder, int, tuple[int, ...]]:
    """The verified IR of an instruction, the next decode_state, and the values of its holes."""
    instructions, decoder, _ = INSTRUCTION_SETS[table]
    pattern = decoder().decode(word)
    b = Builder(Type.I32, STATE.nzcv)
    following = instructions.translate(b, pattern, word, decode_state, mode)
    verify(b, layout=STATE)
    return b, following, pattern.hole_values(word) if pattern else ()


def load_state(cpu: CpuState, case: Case, mode: int) -> None:
    """Put a case's initial state into a vCPU."""
    for register, value in zip(REGISTERS, case.registers, strict=True):
        cpu.write(register, value)
    for flag, place in FLAGS:
        cpu.write(flag, case.cpsr >> place & 1)
    cpu.write(GE, case.cpsr >> 16 & 0xF)
    cpu.write(MASKS, case.cpsr & 0x1C0)
    cpu.write(CPSR_M, case.cpsr & 0x1F)
    cpu.write(BANK, BANK_OF_MODE[case.cpsr & 0x1F])
    for bank in BANKS:
        for array, value in zip((BANKED_SP, BANKED_LR, SPSR), banked(bank), strict=True):
            cpu.write(array[bank], value)
    for register, value in zip(FIQ_R8_R12, FIQ_HIGH, strict=True):
        cpu.write(register, value)
    cpu.write(COMMON["mode"], mode)


def status(cpu: CpuState, it: int) -> int:
    """The CPSR of a vCPU whose next instruction has ITSTATE ``it``."""
    mode = cpu.read(COMMON["mode"])
    cpsr = cpu.read(CPSR_M) | cpu.read(MASKS) | cpu.read(GE) << 16 | (it & 3) << 25 | (it & 0xFC) << 8
    cpsr |= (CPSR_T if mode & MODE_T else 0) | (CPSR_E if mode & MODE_E else 0)
    return cpsr | sum(cpu.read(flag) << place for flag, place in FLAGS)


def _routine(name: str) -> Builder:
    b = Builder(Type.I32, STATE.nzcv)
    ROUTINES[name](b)
    return b


class InterpreterRunner:
    """Runs cases by the IR interpreter. ``extra`` is or-ed to the block mode.

    Exceptions are noted, not entered; instructions that fault leave the state as the fault finds it.
    """

    def __init__(self, extra: int = 0) -> None:
        self.extra = extra
        self.events: list[str] = []
        self.callees: dict[str, Any] = {
            name: self._noted(name)
            for name in ("undefined", "svc", "breakpoint", "psci", "wfi", "wfe", "yield_", "sev")
        }
        self.callees["tlb_sync"] = lambda cpu: 0
        self.callees["cpsr_write"] = _routine("cpsr_write")

    def _noted(self, name: str) -> Callable[..., int]:
        def callee(*arguments: object) -> int:
            self.events.append(name)
            return 0

        return callee

    def run(self, case: Case) -> Result:
        cpu, memory = CpuState(bytearray(STATE.size)), CaseMemory(case)
        load_state(cpu, case, block_mode(case.cpsr, self.extra))
        self.events.clear()
        pc, it = CODE, case.it
        for table, word in case.words:
            size = INSTRUCTION_SETS[table][2]
            b, following, holes = emit(table, word, it, cpu.read(COMMON["mode"]))
            outcome = interpret(b, cpu, memory, holes=holes, pc=pc, callees=self.callees)
            if outcome.how is Leave.NEXT:
                pc, it = pc + size, following
                continue
            if outcome.how is Leave.FAULT:
                self.events.append("misaligned" if outcome.alignment else "fault")
            pc = (cpu.header.get("pc") if outcome.how is Leave.EXIT else outcome.value) or 0
            mode = cpu.read(COMMON["mode"])
            it = (mode & MODE_IT) >> MODE_IT_SHIFT
            cpu.write(COMMON["mode"], mode & ~MODE_IT)
            if self.events or pc != CODE + size:
                break
        registers = tuple(cpu.read(register) for register in REGISTERS)
        return Result(" ".join(self.events), registers, pc, status(cpu, it), bytes(memory.content))


# -- the peer ----------------------------------------------------------------------------------------------------------


class UnicornRunner(UnicornReference):
    """Runs cases by Unicorn, with a Cortex-A15, in a memory of code and data that stays."""

    EVENTS = {1: "undefined", 2: "svc", 7: "breakpoint"}

    def __init__(self) -> None:
        names = [f"r{number}" for number in range(15)]
        super().__init__("arm", "UC_MODE_ARM", names, model="UC_CPU_ARM_CORTEX_A15", interrupts=self.EVENTS)
        self.u, self.arm = self.unicorn, self.constants
        self.uc.mem_map(CODE, CODE_SIZE, self.u.UC_PROT_READ | self.u.UC_PROT_EXEC)
        self.uc.mem_map(DATA, DATA_SIZE)
        self.numbers = [getattr(self.arm, f"UC_ARM_REG_R{number}") for number in range(15)]

    def run(self, case: Case) -> Result:
        uc, arm = self.uc, self.arm
        uc.mem_write(CODE, case.image)
        uc.ctl_remove_cache(CODE, CODE + len(case.image))
        uc.mem_write(DATA, bytes(case.memory()))
        for bank, mode in BANKS.items():
            uc.reg_write(arm.UC_ARM_REG_CPSR, 0x1C0 | (mode if mode != MODE_USR else MODE_SYS))
            sp, lr, spsr = banked(bank)
            uc.reg_write(arm.UC_ARM_REG_SP, sp)
            uc.reg_write(arm.UC_ARM_REG_LR, lr)
            if mode != MODE_USR:
                uc.reg_write(arm.UC_ARM_REG_SPSR, spsr)
            if mode == MODE_FIQ:
                for number, value in zip(self.numbers[8:13], FIQ_HIGH, strict=True):
                    uc.reg_write(number, value)
        uc.reg_write(arm.UC_ARM_REG_CPSR, case.cpsr)
        for number, value in zip(self.numbers, case.registers, strict=True):
            uc.reg_write(number, value)
        thumb = bool(case.cpsr & CPSR_T)
        uc.reg_write(arm.UC_ARM_REG_PC, CODE | thumb)
        uc.reg_write(arm.UC_ARM_REG_CPSR, case.cpsr)
        # It does not count an instruction whose condition fails in an IT block: so both a count and an end.
        event = self.execute(CODE | thumb, CODE + len(case.code), len(case.words))
        registers = tuple(uc.reg_read(number) for number in self.numbers)
        pc = uc.reg_read(arm.UC_ARM_REG_PC)
        cpsr = uc.reg_read(arm.UC_ARM_REG_CPSR)
        return Result(event, registers, pc, cpsr, bytes(uc.mem_read(DATA, DATA_SIZE)))


# -- random cases ------------------------------------------------------------------------------------------------------

EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0x8000_8000, 0xFFFF_FFFF)


def random_value(random: Random) -> int:
    """A register's value: an edge, a small number, or anything."""
    kind = random.randrange(4)
    if kind == 0:
        return random.choice(EDGES)
    if kind == 1:
        return random.getrandbits(random.randrange(1, 33))
    return random.getrandbits(32)


def random_cpsr(random: Random, thumb: bool, mode: int = MODE_SVC) -> int:
    return random.getrandbits(5) << 27 | random.getrandbits(4) << 16 | 0x1C0 | (CPSR_T if thumb else 0) | mode


def random_word(random: Random, table: str, pattern: Pattern) -> int | None:
    """A word of a line of a table, most of them always executed; None when none was found soon."""
    decoder = INSTRUCTION_SETS[table][1]()
    for _ in range(50):
        word = pattern.value | random.getrandbits(pattern.width) & ~pattern.mask
        if "c" in pattern.letters and random.randrange(4):
            word = with_letter(pattern, word, "c", 14 if table == "a32" else random.randrange(14))
        if decoder.decode(word) is pattern and is_predictable(table, pattern, word):
            return word
    return None


def with_letter(pattern: Pattern, word: int, letter: str, value: int) -> int:
    """``word`` with a field of its picture set."""
    for shift, width in reversed(pattern.letters[letter]):
        mask = (1 << width) - 1
        word = word & ~(mask << shift) | (value & mask) << shift
        value >>= width
    return word


def is_predictable(table: str, pattern: Pattern, word: int) -> bool:
    """Whether the architecture says what the word does; errs towards False."""
    values, name = pattern.values(word), pattern.name
    block = name.startswith(("LDM", "STM", "SRS", "RFE"))
    get = values.get
    if table == "a32" and name == "MOV_imm" and "r" not in pattern.letters and values["d"] == 15:
        return False  # MOVW
    memory = name.startswith(("LDR", "STR", "SWP", "LDREX", "STREX"))
    for letter in "dnmastuhl":
        value = get(letter)
        if letter not in pattern.letters or value is None or (letter == "l" and block):
            continue
        if value == 15 and not _pc_allowed(table, name, letter, values):
            return False
        if value == 13 and table == "t32" and not _sp_allowed(name, letter):
            return False
    if "h" in pattern.letters and "l" in pattern.letters and values["h"] == values["l"] and not block:
        return False
    if memory and get("W") and get("n") in (get("t"), get("u"), get("m") if "_reg" in name else None):
        return False
    if name == "TBB" or name == "TBH":
        return get("n") != 15
    if name.startswith(("LDRD", "STRD")) and (get("u") == 15 or get("t") == get("u") or get("offset", 0) & 3):
        return False
    if name in ("LDRD_reg", "STRD_reg") and get("m") in (get("t"), get("u")):
        return False
    if name == "CPS":
        return not values["M"] or values["o"] in BANK_OF_MODE
    if block:
        registers = get("l", 0)
        return not (get("W") and registers >> get("n", 0) & 1 and registers & (1 << get("n", 0)) - 1)
    return True


def _pc_allowed(table: str, name: str, letter: str, values: dict[str, int]) -> bool:
    if table == "a32":
        if letter == "d":
            # As exception returns the peer knows MOVS and SUBS only.
            operation, _, form = name.partition("_")
            return (
                form in ("reg", "imm")
                and values.get("S") is not None
                and (not values["S"] or operation in ("MOV", "SUB"))
            )
        if letter == "t":
            return name.startswith(("LDR_", "STR_")) or name == "MRC"
        if letter in "nm" and name.startswith(("LDR", "STR")):
            return letter == "n" and not values.get("W") and name.startswith("LDR")
        return letter in "nm" and name.endswith(("_reg", "_imm")) and name not in ("MSR_reg", "BLX_reg")
    if letter == "t":
        return name.startswith("LDR_")
    if table == "t16":
        return name in ("ADD_reg", "MOV_reg", "BX")
    return False


def _sp_allowed(name: str, letter: str) -> bool:
    if name in ("ADD_imm", "SUB_imm", "ADD_reg", "SUB_reg"):
        return letter == "n"
    if name in ("CMP_imm", "CMN_imm", "CMP_reg", "CMN_reg"):
        return letter == "n"
    return letter == "n" and name.startswith(("LDR", "STR", "LDM", "STM", "RFE"))


def random_case(random: Random, table: str, pattern: Pattern, mode: int = MODE_SVC) -> Case | None:
    """A case of a line of a table; None when the line has no predictable word."""
    word = random_word(random, table, pattern)
    if word is None:
        return None
    registers = [random_value(random) for _ in range(15)]
    values, name = pattern.values(word), pattern.name
    if name.startswith(("LDR", "STR", "SWP", "LDM", "STM", "RFE", "SRS", "TB")):
        _aim(random, registers, name, values)
    data = random.randbytes(64)
    case = Case(table, word, tuple(registers), random_cpsr(random, table != "a32", mode), data)
    if table != "a32" and not random.randrange(4) and _may_be_last_in_it_block(pattern):
        it = random.randrange(14) << 4 | 8
        case = replace(case, cpsr=case.cpsr | (it & 3) << 25 | (it & 0xFC) << 8)
    return case


def _may_be_last_in_it_block(pattern: Pattern) -> bool:
    return pattern.name not in ("IT", "CPS", "SETEND", "CBZ", "CBNZ", "SRS") and "c" not in pattern.letters


def _aim(random: Random, registers: list[int], name: str, values: dict[str, int]) -> None:
    """Point the base register at the data memory, and make register offsets small."""
    alignment = 1 if random.randrange(4) == 0 else 4
    if name.startswith(("LDM", "STM", "RFE", "SRS", "LDRD", "STRD")):
        alignment = 4
    if "EX" in name or name.startswith("SWP"):
        alignment = 8
    base = WINDOW + random.randrange(-0x100, 0x100, alignment)
    n = 13 if name == "SRS" else values.get("n", 15)
    m = values.get("m", 15) if name.endswith("_reg") or name.startswith("TB") else 15
    if m != 15:
        registers[m] = random.randrange(0, 0x40, 4 if name.startswith(("LDRD", "STRD")) else 1)
    offset = values.get("offset", 0)
    if n != 15:
        registers[n] = base - (offset if values.get("P") else 0) & 0xFFFF_FFFF


ELSEWHERE = frozenset(
    {"WFI", "WFE", "YIELD", "SEV", "HVC", "SMC", "MCR", "MRC", "MCRR", "MRRC", "CDP", "LDC", "STC", "UNDEFINED"}
)
"""What the peer cannot show: waiting, firmware and system registers have tests of their own; VFP too."""


def lines() -> dict[tuple[str, str], list[Pattern]]:
    """The lines that ``random_case`` is for, by table and name."""
    found: dict[tuple[str, str], list[Pattern]] = {}
    for table, (_, decoder, _) in INSTRUCTION_SETS.items():
        for pattern in decoder().patterns:
            if pattern.name not in ELSEWHERE and not pattern.name.startswith("V"):
                found.setdefault((table, pattern.name), []).append(pattern)
    return found


LINES = lines()
