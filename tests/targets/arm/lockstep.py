# SPDX-License-Identifier: Apache-2.0
"""Runs a bare-metal guest on qemu-system-arm and on Raddle, one instruction at a time, and compares what the CPU holds.

    python tests/targets/arm/lockstep.py tests/guests/arm/prebuilt/exceptions.elf [--steps N] [--keep-going]

Compared after every instruction: r0 to r15 and the CPSR, so that a banked register shows when its mode is entered;
after coprocessor instructions and exceptions the system registers that QEMU's gdb stub shows as well, after VFP
instructions d0 to d31, FPSCR and FPEXC; and in the end RAM from the load address on. Counters that depend on time
are taken over from QEMU. QEMU's stub takes an exception as a step of its own, and so does this.

Exit status: 0 no difference, 1 a difference, which is shown with the instructions before it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from raddle.runtime._native import lib
from tests.targets.stepped import Stepped

from raddle.testing.gdb import Ended, Qemu
from raddle_target_arm.exceptions import FSR_WNR
from raddle_target_arm.state import MODE_E, MODE_T, REGISTERS, SYSTEM, D, it_state

EARLIER: Final = 8
"""Instructions that are shown before a difference."""
OFTEN: Final = 400
"""An instruction that was compared so often is run freely on both sides (clearing memory, printing), unless it is the
first one in another mode."""
LONGEST_SKIP: Final = 20_000_000
MEMORY: Final = 256 << 20
RAM: Final = 0x4010_0000
"""Where the guests are linked."""
STUB: Final = 64
"""Instructions that Raddle's board executes before the guest's first one at the most; QEMU has no such stub."""
COMPARED_RAM: Final = 0x4_0000
"""Bytes from there on that are compared in the end: the guests' code, data and tables."""

CORE: Final = (*(f"r{number}" for number in range(13)), "sp", "lr", "pc")
VFP: Final = (*(f"d{number}" for number in range(32)), "fpscr", "fpexc")

SYSTEM_NAMES: Final = {
    "SCTLR": "sctlr", "CPACR": "cpacr", "TTBCR": "ttbcr", "TTBR0": "ttbr0", "TTBR1": "ttbr1", "DACR": "dacr",
    "DFSR": "dfsr", "IFSR": "ifsr", "DFAR": "dfar", "IFAR": "ifar", "PAR": "par", "VBAR": "vbar",
    "CONTEXTIDR_EL1": "contextidr", "TPIDRURW": "tpidrurw", "TPIDRURO": "tpidruro", "TPIDRPRW": "tpidrprw",
    "CNTKCTL": "cntkctl", "MAIR0": "prrr", "MAIR1": "nmrr", "CSSELR": "csselr",
}  # fmt: skip
"""System registers: the stub's name, the field. The wider of two registers of one name counts."""

IGNORED_BITS: Final = {
    "cpacr": 0x8000_0000,  # ASEDIS: QEMU's CPU has Advanced SIMD
    "dfsr": 0x0000_3000,  # implementation defined: CM, ExT
    "ifsr": 0x0000_1000,
    "par": 0xFF00_0000_0000_0180,  # of long descriptors: memory attributes, which Raddle does not report
}
"""Bits that are not compared."""


class Difference(Exception):
    """The two do not agree; the text says in what."""


# --- QEMU -------------------------------------------------------------------------------------------------------


class Peer(Qemu):
    """A qemu-system-arm with one CPU that stands before the guest's first instruction."""

    def __init__(self, elf: Path, directory: Path) -> None:
        command = ["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", str(MEMORY >> 20)]
        command += ["-accel", "tcg,thread=single", "-kernel", str(elf)]
        super().__init__(command, directory, "xmlRegisters=arm")
        try:
            self.ask("Qqemu.sstep=1")  # interrupts and timers go on
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def end(self) -> None:
        """Go on for a moment: a power-off takes effect when QEMU's main loop sees it. Raises Ended."""
        for _ in range(100):
            self.step()
            time.sleep(0.01)

    def core(self) -> dict[str, int]:
        """r0 … r12, sp, lr, pc and cpsr."""
        raw = bytes.fromhex(self.ask("g").decode())
        values = [int.from_bytes(raw[4 * n : 4 * n + 4], "little") for n in range(17)]
        return dict(zip((*CORE, "cpsr"), values, strict=True))

    def registers(self, names: tuple[str, ...]) -> dict[str, int]:
        """Registers by the stub's names, as far as it has them."""
        return {name: self.read(name) for name in names if name in self.names}


# --- Raddle -----------------------------------------------------------------------------------------------------


class Own(Stepped):
    """Raddle's side."""

    def __init__(self, elf: Path) -> None:
        super().__init__("virt", elf, MEMORY)

    def core(self) -> dict[str, int]:
        cpu = self.cpu
        return {**{register.name: cpu[register.name] for register in REGISTERS}, "pc": cpu["pc"], "cpsr": self._cpsr()}

    def _cpsr(self) -> int:
        cpu = self.cpu
        mode = cpu["mode"]
        it = it_state(mode)
        flags = cpu["nf"] << 31 | cpu["zf"] << 30 | cpu["cf"] << 29 | cpu["vf"] << 28 | cpu["qf"] << 27
        state = (it & 3) << 25 | (it >> 2) << 10 | bool(mode & MODE_E) << 9 | bool(mode & MODE_T) << 5
        return flags | state | cpu["ge"] << 16 | cpu["masks"] | cpu["cpsr_m"]

    def system(self) -> dict[str, int]:
        return {field: self.cpu[SYSTEM[field].name] for field in SYSTEM_NAMES.values()}

    def vfp(self) -> dict[str, int]:
        return {f"d{number}": self.cpu[D[number].name] for number in range(32)}

    def take_over(self, core: Mapping[str, int]) -> None:
        """Let r0 … r14 and the flags be those of the other side."""
        for register in REGISTERS:
            self.cpu[register.name] = core[register.name]
        for name, bit in (("nf", 31), ("zf", 30), ("cf", 29), ("vf", 28), ("qf", 27)):
            self.cpu[name] = core["cpsr"] >> bit & 1

    def word(self, pc: int, thumb: bool) -> int | None:
        """The instruction at a virtual address: two halfwords as one number if it is a 32-bit one; None: no memory."""
        size = 2 if thumb else 4
        first = self._fetch(pc, size)
        if first is None or not thumb or first >> 11 < 0b11101:
            return first
        second = self._fetch(pc + 2, 2)
        return None if second is None else first << 16 | second

    def _fetch(self, address: int, size: int) -> int | None:
        page = lib.raddle_code_page(self.cpu.env, address)
        if page == (1 << 64) - 1:
            return None
        place = page + (address & 0xFFF)
        return int.from_bytes(bytes(self.machine.memory[place : place + size]), "little")


# --- side by side -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that is understood: the register, what QEMU has, what Raddle has, why."""

    register: str
    peer: int
    own: int
    reason: str


KNOWN: Final = (
    Known("prrr", 0, 0x0009_8AA4, "reset value by the Cortex-A15's manual; QEMU has 0"),
    Known("nmrr", 0, 0x44E0_48E0, "reset value by the Cortex-A15's manual; QEMU has 0"),
    Known("r2", 0x00A0_0FFC, 0, "LDRD whose second word aborts (exceptions: ldrd-post-index-across)"),
)

ACCESS_FLAG_FAULTS: Final = (0x3, 0x6)
PERMISSION_FAULTS: Final = (0xD, 0xF)
DOMAIN_FAULTS: Final = (0x9, 0xB)
BEFORE_DOMAIN_FAULTS: Final = (0x7, 0x3, 0x6, 0xE)
"""Second-level translation fault, access flag faults and second-level external abort on a walk: the walk comes to an
end before the domain is checked (B3.13, CheckDomain in TranslateAddressVS1Off). QEMU checks after the first level."""


def is_other_order(name: str, peer: int, own: int) -> bool:
    """Whether registers differ only in that QEMU reports a fault that comes later by the manual: a domain fault
    (exceptions: domain-2-translation), or for a fetch the permission fault of XN before the access flag's (B3.13).
    """
    if name == "par":
        peer, own = peer >> 1, own >> 1
    elif name not in ("dfsr", "ifsr"):
        return False
    if peer & ~0xF != own & ~0xF:
        return False
    if name == "ifsr" and peer & 0xF in PERMISSION_FAULTS and own & 0xF in ACCESS_FLAG_FAULTS:
        return True
    return peer & 0xF in DOMAIN_FAULTS and own & 0xF in BEFORE_DOMAIN_FAULTS


def is_coprocessor(word: int | None, thumb: bool, numbers: tuple[int, ...]) -> bool:
    """Whether a word is an access to one of these coprocessors."""
    if word is None or (thumb and word < 0x1_0000):
        return False
    group = word >> 24 & 0xF
    return group in (0xC, 0xD, 0xE) and (word >> 8 & 0xF) in numbers


def is_breakpoint(word: int | None, thumb: bool) -> bool:
    """Whether a word is BKPT, which leaves the IFAR UNKNOWN (B3.13.2)."""
    return word is not None and (word >> 8 == 0xBE if thumb else word & 0x0FF0_00F0 == 0x0120_0070)


def is_translation(word: int | None) -> bool:
    """Whether an A32 word is ATS1C…, whose data abort is to set DFSR.WnR (B4.1.52); QEMU's does not."""
    return word is not None and word & 0x0FFF_0F9F == 0x0E07_0F18


def reads_other(word: int | None, thumb: bool) -> bool:
    """Whether a word reads what the two may have otherwise: a counter (CNT…, PMCCNTR), or the 64-bit PAR."""
    if word is None or (thumb and word < 0x1_0000):
        return False
    if word & 0x0FF0_0F0F in (0x0C50_0F0E, 0x0C50_0F07):  # MRRC p15, …, c14 and c7
        return True
    return word & 0x0F10_0F10 == 0x0E10_0F10 and (word >> 16 & 0xF == 14 or word & 0x000F_000F == 0x0009_000D)


class Lockstep:
    """Both sides of one guest. ``steps`` counts; ``differences`` are those that ``keep_going`` went past."""

    def __init__(self, peer: Peer, own: Own, *, keep_going: bool = False, often: int = OFTEN) -> None:
        self.peer = peer
        self.own = own
        self.keep_going = keep_going
        self.often = often
        self.steps = 0
        self.skipped = 0
        """Instructions that were not compared one by one."""
        self.exceptions = 0
        self.differences: list[str] = []
        self._seen: Counter[int] = Counter()
        self._other: dict[int, bool] = {}
        self._before: deque[str] = deque(maxlen=EARLIER)
        self._reported: set[tuple[str, int, int]] = set()
        self._core = peer.core()
        for _ in range(STUB):
            if own.core()["pc"] == self._core["pc"]:
                break
            own.step()
        # Registers other than the pc are unknown after reset.
        own.take_over(self._core)
        self._compare(self._core, own.core())

    def run(self, limit: int | None) -> None:
        """Step until the guest ends, or so often. Raises Difference."""
        while limit is None or self.steps < limit:
            if not self._step():
                return

    def _step(self) -> bool:
        """One instruction on both sides, and what follows of code that has been compared often enough; whether the
        guest goes on.
        """
        pc, old = self._core["pc"], self._core["cpsr"]
        thumb = bool(old & 1 << 5)
        word = self.own.word(pc, thumb)
        self._before.append(f"{pc:08x}: {'no memory' if word is None else f'{word:08x}'} cpsr={old:08x}")
        self._seen[pc] += 1
        self.steps += 1
        other, interrupted, skipped, ended = reads_other(word, thumb), False, 0, 0
        try:
            self.own.step()
            while self._is_pause(word):
                word = self._next_word()
                self.own.step()
            interrupted = self.own.interrupted
            same_mode = (self.own.core()["cpsr"] ^ old) & 0x1F == 0
            while same_mode and self._seen[self.own.cpu["pc"]] >= self.often:
                other = other or self._reads_other()
                self.own.step()
                skipped += 1
                if skipped == LONGEST_SKIP:
                    raise Difference(self._report([f"Raddle runs in circles near {self.own.cpu['pc']:x}"]))
        except Ended:
            ended += 1
        try:
            self.peer.step()
            if interrupted:
                self.peer.step()
            if skipped:
                self.peer.run_to(self.own.cpu["pc"])
            if ended:
                self.peer.end()
        except Ended:
            ended += 2
        if ended in (1, 2):
            raise Difference(self._report([f"{'Raddle' if ended == 1 else 'QEMU'} alone has ended"]))
        if ended:
            return False
        self.skipped += skipped
        core = self.peer.core()
        if other:
            self.own.take_over(core)
        self._compare(core, self.own.core())
        changed = (core["cpsr"] ^ old) & 0x1F
        self.exceptions += bool(changed)
        if changed or is_coprocessor(word, thumb, (15,)):
            found = self.peer.registers(tuple(SYSTEM_NAMES))
            if is_breakpoint(word, thumb):
                self.own.cpu[SYSTEM["ifar"].name] = found["IFAR"]
            if is_translation(word) and self.own.cpu[SYSTEM["dfsr"].name] == found["DFSR"] | FSR_WNR:
                self.own.cpu[SYSTEM["dfsr"].name] = found["DFSR"]
            self._compare(
                {field: found[name] for name, field in SYSTEM_NAMES.items() if name in found}, self.own.system()
            )
        if is_coprocessor(word, thumb, (10, 11)):
            self._compare(self.peer.registers(VFP[:32]), self.own.vfp())
        self._core = core
        return True

    def _reads_other(self) -> bool:
        """Whether the instruction that is next on Raddle's side reads a counter."""
        pc = self.own.cpu["pc"]
        if pc not in self._other:
            self._other[pc] = reads_other(self._next_word(), bool(self.own.cpu["mode"] & MODE_T))
        return self._other[pc]

    def _next_word(self) -> int | None:
        return self.own.word(self.own.cpu["pc"], bool(self.own.cpu["mode"] & MODE_T))

    @staticmethod
    def _is_pause(word: int | None) -> bool:
        """YIELD or WFE: QEMU's single step goes on behind it."""
        return word in (0xE320F001, 0xE320F002, 0xBF10, 0xBF20, 0xF3AF8001, 0xF3AF8002)

    def _compare(self, peer: Mapping[str, int], own: Mapping[str, int]) -> None:
        if peer == own:
            return
        found = []
        for name, value in peer.items():
            ignored = IGNORED_BITS.get(name, 0)
            if value | ignored == own[name] | ignored or is_other_order(name, value, own[name]):
                continue
            if any((name, value, own[name]) == (one.register, one.peer, one.own) for one in KNOWN):
                if name in CORE:
                    self.own.take_over(peer)
                continue
            found.append((name, value, own[name]))
        if not found:
            return
        fresh = [one for one in found if one not in self._reported]
        text = self._report([f"{name}: QEMU {theirs:08x}, Raddle {ours:08x}" for name, theirs, ours in found])
        if not self.keep_going or any(name == "pc" for name, _, _ in found):
            raise Difference(text)
        self._reported.update(found)
        if fresh:
            self.differences.append(text)
        if "r0" in peer:
            self.own.take_over(peer)

    def _report(self, lines: list[str]) -> str:
        return "\n".join([f"after {self.steps} steps", *(f"  {line}" for line in self._before), *lines])

    def compare_memory(self) -> None:
        """The guest's RAM, as far as it is mapped where it is linked. Raises Difference."""
        theirs = self.peer.read_memory(RAM, COMPARED_RAM)
        ours = bytes(self.own.machine.memory[RAM : RAM + len(theirs)])
        for offset, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            if one != other:
                raise Difference(self._report([f"RAM at {RAM + offset:#x}: QEMU {one:02x}, Raddle {other:02x}"]))


@contextlib.contextmanager
def lockstep(elf: Path, *, keep_going: bool = False, often: int = OFTEN) -> Iterator[Lockstep]:
    """A guest on both sides, before its first instruction."""
    with tempfile.TemporaryDirectory() as directory, Peer(elf, Path(directory)) as peer, Own(elf) as own:
        yield Lockstep(peer, own, keep_going=keep_going, often=often)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("elf", type=Path)
    parser.add_argument("--steps", type=int, help="stop after so many instructions; the default is the guest's end")
    parser.add_argument("--keep-going", action="store_true", help="go on after a difference with QEMU's registers")
    parser.add_argument("--often", type=int, default=OFTEN, help="run freely what was compared so often")
    arguments = parser.parse_args()
    with lockstep(arguments.elf, keep_going=arguments.keep_going, often=arguments.often) as both:
        try:
            both.run(arguments.steps)
            if arguments.steps is not None:
                both.compare_memory()
        except Difference as difference:
            both.differences.append(str(difference))
        for text in both.differences:
            print(text)
        print(f"{both.steps} steps, {both.skipped} more in between, {both.exceptions} changes of mode")
        print(f"{len(both.differences)} differences")
    return 1 if both.differences else 0


if __name__ == "__main__":
    sys.exit(main())
