# SPDX-License-Identifier: Apache-2.0
"""Runs a bare-metal guest on qemu-system-alpha and on Raddle, one instruction at a time, and compares the registers.

    python tests/targets/alpha/lockstep.py tests/guests/alpha/prebuilt/exceptions.elf [--steps N]

Compared after every instruction: the pc, r0 to r30, f0 to f30. PALcode is instructions on QEMU, and one step here: QEMU
runs on to where Raddle is. Taken over from QEMU are the registers that PALcode may change (r1 and r22 to r25, in a call
r16 to r18, too), and results that depend on time.

Exit status: 0 no difference, 1 a difference, which is shown with the instructions before it.
"""

from __future__ import annotations

import argparse
import contextlib
import struct
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from raddle.runtime._native import lib
from tests.targets.stepped import Stepped

from raddle.testing.gdb import Ended, Qemu
from raddle_target_alpha.delivery import FRAME_BYTES
from raddle_target_alpha.exceptions import Fault
from raddle_target_alpha.hwrpb import CONSOLE_END, HWRPB_PAGES, VIRTUAL
from raddle_target_alpha.mmu import KSEG, PAGE_SIZE
from raddle_target_alpha.state import ZERO, F, R
from raddle_target_alpha.system_state import ENTRY_POINTS

MEMORY: Final = 256 << 20
ENTRY: Final = KSEG + 0x31_0000
"""Where the guests are linked."""
PALCODE_END: Final = KSEG + 0x10_0000
"""QEMU's PALcode is below this address in KSEG."""
FIRST_STEPS: Final = 100
"""Instructions of Raddle's console before the guest's first one at the most."""
EARLIER: Final = 8
"""Instructions that are shown before a difference."""
OFTEN: Final = 3
"""An instruction that was compared so often is run freely on both sides."""
LONGEST_SKIP: Final = 20_000_000
BREAKPOINT_BYTES: Final = 4

NAMES: Final = tuple(field.name for field in (*R, *F))
CALL_PAL: Final = 0
CHANGED_BY_CALL: Final = ("r1", "r16", "r17", "r18", "r22", "r23", "r24", "r25")
CHANGED_BY_EXCEPTION: Final = ("r1", "r22", "r23", "r24", "r25")
UNDEFINED_BY_ENTRY: Final = {"ent_arith": ("r18",), "ent_if": ("r17", "r18")}
"""Arguments of the operating system's handler that say nothing (II-B 5)."""
CSERVE, SWPCTX, RPCC, RPCC_MASK = 0x09, 0x30, 0x6000_C000, 0xFC00_FFFF
RESULT: Final = "r0"
LDQ: Final = 0x29

KNOWN: Final = {
    ("r17", 0, 1 << number): "QEMU's integer overflows have no register in the mask" for number in range(31)
} | {
    ("r17", 0, 1 << 32 + number): "nor have its invalid operations" for number in range(31)
} | {
    ("r16", 1, summary): "QEMU's summary of an instruction with /S has no exception" for summary in (0x05, 0x21)
} | {
    ("r17", 0, 1): "QEMU takes an entry that is not valid and has no right to read for not valid alone",
}  # fmt: skip
"""Differences that are understood, by register, QEMU's value and Raddle's, for the first instruction of a handler:
test_on_raddle.py of the guests has the manual's sections."""


class Difference(Exception):
    """The two do not agree; the text says in what."""


class Peer(Qemu):
    """A qemu-system-alpha with one CPU that stands before the guest's first instruction."""

    def __init__(self, elf: Path, directory: Path) -> None:
        command = ["qemu-system-alpha", "-M", "clipper", "-m", str(MEMORY >> 20), "-vga", "none"]
        super().__init__([*command, "-accel", "tcg,thread=single", "-kernel", str(elf)], directory)
        try:
            self.run_to(ENTRY, BREAKPOINT_BYTES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def core(self) -> dict[str, int]:
        """r0 … r30, f0 … f30 and pc."""
        values = struct.unpack_from("<65Q", bytes.fromhex(self.ask("g").decode()))
        return {"pc": values[64]} | dict(zip(NAMES, (*values[:31], *values[32:63]), strict=True))


class Own(Stepped):
    """Raddle's side."""

    def __init__(self, elf: Path) -> None:
        super().__init__("clipper", elf, MEMORY)

    def core(self) -> dict[str, int]:
        return {name: self.cpu[name] for name in ("pc", *NAMES)}

    def take_over(self, names: tuple[str, ...], core: Mapping[str, int]) -> None:
        for name in names:
            self.cpu[name] = core[name]

    def word(self) -> int | None:
        """The instruction at the pc; None: no memory."""
        pc = self.cpu["pc"]
        page = lib.raddle_code_page(self.cpu.env, pc)
        if page == (1 << 64) - 1:
            return None
        place = page + pc % PAGE_SIZE
        return int.from_bytes(bytes(self.machine.memory[place : place + 4]), "little")


class Lockstep:
    """Both sides of one guest. ``steps`` counts what was compared."""

    def __init__(self, peer: Peer, own: Own) -> None:
        self.peer, self.own = peer, own
        self.steps = self.calls = self.exceptions = 0
        self._seen: Counter[int] = Counter()
        self._before: deque[str] = deque(maxlen=EARLIER)
        for _ in range(FIRST_STEPS):
            if own.cpu["pc"] == ENTRY:
                break
            own.step()
        own.take_over(NAMES, peer.core())

    def run(self, limit: int | None = None) -> None:
        """Step until the guest ends, or so often. Raises Difference."""
        while limit is None or self.steps < limit:
            try:
                self._step()
            except Ended:
                return

    def _step(self) -> None:
        pc, word = self.own.cpu["pc"], self.own.word()
        self._before.append(f"{pc:x}: {'no memory' if word is None else f'{word:08x}'}")
        self._seen[pc] += 1
        self.steps += 1
        exceptions = self.own.exceptions
        loaded = self._loads_from_console(word)
        self.own.step()
        clock = word is not None and (word == CSERVE or word & RPCC_MASK == RPCC)
        skipped = 0
        while self.own.exceptions == exceptions and self._seen[self.own.cpu["pc"]] >= OFTEN:
            self.own.step()
            skipped += 1
            if skipped == LONGEST_SKIP:
                raise Difference(self._report([f"Raddle runs in circles near {self.own.cpu['pc']:x}"]))
        self.peer.step()
        target = self.own.cpu["pc"]
        core = self.peer.core()
        if core["pc"] != target and (skipped or KSEG <= core["pc"] < PALCODE_END):
            self.peer.run_to(target, BREAKPOINT_BYTES)
            core = self.peer.core()
        called = word is not None and word >> 26 == CALL_PAL
        raised = self.own.exceptions != exceptions
        self.calls += called
        self.exceptions += raised
        if skipped or clock:
            self.own.take_over((*CHANGED_BY_CALL, RESULT), core)
        elif called and not raised:
            self.own.take_over(CHANGED_BY_CALL, core)
        elif raised:
            undefined = UNDEFINED_BY_ENTRY.get(self._entry(), ())
            self.own.take_over((*CHANGED_BY_EXCEPTION, *undefined), core)
        if word == SWPCTX and self.own.cpu[RESULT] < CONSOLE_END:
            self.own.take_over((RESULT,), core)  # the console's own process control block
        if loaded is not None:
            self.own.take_over((loaded,), core)
        if raised:
            self._compare_frames(core["r30"])
        self._compare(core, self.own.core(), raised)

    def _compare_frames(self, stack: int) -> None:
        """What an exception has stored, on a stack in KSEG."""
        place = stack - KSEG
        theirs = struct.unpack("<6Q", self.peer.read_memory(stack, FRAME_BYTES))
        ours = struct.unpack("<6Q", bytes(self.own.machine.memory[place : place + FRAME_BYTES]))
        if self._is_float_disabled() and theirs[1] == ours[1] + 4:
            self.own.machine.memory[place + 8 : place + 16] = theirs[1].to_bytes(8, "little")
        elif theirs[:3] != ours[:3] or (self._entry() != "ent_sys" and theirs != ours):
            raise Difference(self._report([f"stack frame: QEMU {theirs}, Raddle {ours}"]))

    def _entry(self) -> str:
        """The entry point at which Raddle is; empty for none."""
        return next((one.name for one in ENTRY_POINTS.elements if self.own.cpu[one.name] == self.own.cpu["pc"]), "")

    def _is_float_disabled(self) -> bool:
        """Whether this is the fault whose PC is that of the instruction, but for QEMU."""
        return self._entry() == "ent_if" and self.own.cpu["r16"] == Fault.FEN

    def _loads_from_console(self, word: int | None) -> str | None:
        """The register that an LDQ is about to load from the restart block, which consoles fill in as they like."""
        if word is None or word >> 26 != LDQ:
            return None
        base, displacement = word >> 16 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000
        address = (self.own.cpu[f"r{base}"] if base != ZERO else 0) + displacement
        return f"r{word >> 21 & 31}" if 0 <= address - VIRTUAL < HWRPB_PAGES * PAGE_SIZE else None

    def _compare(self, peer: Mapping[str, int], own: Mapping[str, int], raised: bool) -> None:
        found = []
        for name, value in peer.items():
            if value == own[name]:
                continue
            if raised and (name, value, own[name]) in KNOWN:
                self.own.take_over((name,), peer)
                continue
            found.append(f"{name}: QEMU {value:x}, Raddle {own[name]:x}")
        if found:
            raise Difference(self._report(found))

    def _report(self, lines: list[str]) -> str:
        return "\n".join([f"after {self.steps} steps", *(f"  {line}" for line in self._before), *lines])


@contextlib.contextmanager
def lockstep(elf: Path) -> Iterator[Lockstep]:
    """A guest on both sides, before its first instruction."""
    with tempfile.TemporaryDirectory() as directory, Peer(elf, Path(directory)) as peer, Own(elf) as own:
        yield Lockstep(peer, own)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("elf", type=Path)
    parser.add_argument("--steps", type=int, help="stop after so many instructions; the default is the guest's end")
    arguments = parser.parse_args()
    with lockstep(arguments.elf) as both:
        try:
            both.run(arguments.steps)
        except Difference as difference:
            print(difference)
            return 1
        print(f"no difference in {both.steps} steps, {both.calls} calls of PALcode, {both.exceptions} exceptions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
