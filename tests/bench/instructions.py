# SPDX-License-Identifier: Apache-2.0
"""How many host instructions a guest instruction takes on each host, counted over the benchmark's kernels and a boot.

The guests run on x86-64 with a counter in each block. What ran is then translated for both hosts, each with all its
optional features, and counts as often as it ran: the entry check, the hot parts, and the look-up of an indirect jump's
target. Cold parts are left out, and code that a guest condition jumps over is not. What only pads is no instruction.
The runs count instructions (``-icount``), so that they always do the same.

    python tests/bench/instructions.py [--payload DIRECTORY] [--only NAME] [--json FILE] [--patterns N]
"""

from __future__ import annotations

import argparse
import json
import mmap
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import capstone
from raddle.runtime._native import ffi

from raddle import Machine
from raddle.codegen.backend import BackEnd, CodegenConfig, Stub
from raddle.codegen.template import Block
from raddle.translate.translator import BlockTrace, Translator
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import Features as AArch64Features
from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.features import Features as X86Features
from raddle_host_x86_64.fields import PC32
from raddle_target_arm.frontend import FRONT_END

ROOT: Final = Path(__file__).resolve().parents[2]
GUESTS: Final = ROOT / "tests" / "guests" / "arm" / "prebuilt"
KERNELS: Final = ("crc32", "sha256", "matmul", "qsort", "sieve", "strhash")
BOOT: Final = "Debian boot"

WANTED: Final = 0.75
SECONDS: Final = 3600.0


class Code(NamedTuple):
    """The guest instructions of a block: all that a translation depends on, but for addresses."""

    mode: int
    words: tuple[tuple[int, int], ...]
    """Instruction words and their bytes."""

    @property
    def length(self) -> int:
        return len(self.words)

    def begins_with(self, other: Code) -> bool:
        return self.mode == other.mode and self.words[: other.length] == other.words


Runs = Counter[Code]
"""How often each block ran."""


# -- what runs ---------------------------------------------------------------------------------------------------------


class Counters:
    """A counter of 32 bits for every even guest address, in memory that exists where it is used.

    Blocks that have the same address at different times have a counter each, in effect: it is read when the next one is
    translated. Of those that are there at the same time, in several address spaces, the last one gets all.
    """

    _SIZE: Final = 2 << 32
    _NORESERVE: Final = 0x4000
    """Linux, include/uapi/asm-generic/mman-common.h."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | self._NORESERVE)
        self._values = memoryview(self._memory).cast("I")
        self._last: dict[int, tuple[Code, int]] = {}
        """By address: the block, and the counter when it was made."""
        self.runs = Runs()

    def entry(self, entry: Callable[[X86BackEnd], Stub]) -> Callable[[X86BackEnd], Stub]:
        """The entry check and a counter behind it. Nothing is in rax and in the host's flags then."""
        base = int(ffi.cast("uintptr_t", ffi.from_buffer(self._memory)))

        def counting(backend: X86BackEnd) -> Stub:
            code, relocs = entry(backend)
            # push rcx; movabs rcx, base; mov eax, pc; inc dword [rcx+rax*2]; pop rcx
            code += b"\x51\x48\xb9" + base.to_bytes(8, "little") + b"\xb8"
            address = PC32, len(code), 0
            return Stub(code + b"\0\0\0\0\xff\x04\x41\x59", (*relocs, address))

        return counting

    def made(self, trace: BlockTrace) -> None:
        """Listens to translations."""
        code = Code(trace.mode, tuple(word for word in trace.words if word[1]))
        known = self._last.get(trace.pc)
        if known is not None and known[0].begins_with(code):
            return  # a part of it, for once, so that the budget is met exactly
        self._settle(trace.pc)
        self._last[trace.pc] = code, self._values[trace.pc >> 1]

    def _settle(self, pc: int) -> None:
        if pc in self._last:
            code, before = self._last[pc]
            self.runs[code] += self._values[pc >> 1] - before & 0xFFFFFFFF

    def settle(self) -> Runs:
        for pc in self._last:
            self._settle(pc)
        return self.runs


def run(said: str, **arguments: Any) -> Runs:
    """Run a machine of one CPU to its end and count the runs of each block. SystemExit if it never says ``said``."""
    counters = Counters()
    plain = X86BackEnd._entry
    X86BackEnd._entry = counters.entry(plain)  # type: ignore[method-assign]
    try:
        with Machine("virt", cpus=1, icount="shift=auto", reboot=False, **arguments) as machine:
            machine.engine.observer.hooks.add_translation(counters.made)
            machine.start()
            status = machine.wait(SECONDS)
            text = machine.console.text
    finally:
        X86BackEnd._entry = plain  # type: ignore[method-assign]
    if status or said not in text:
        raise SystemExit(f"the guest ended with status {status}, and said\n{text[-2000:]}")
    return counters.settle()


def run_kernel(name: str) -> Runs:
    return run("PASS", memory="256M", kernel=GUESTS / f"bench-{name}.elf")


def run_boot(payload: Path) -> Runs:
    files = {"kernel": payload / "vmlinuz", "initrd": payload / "initramfs.cpio.gz"}
    return run("PAYLOAD-OK", memory="512M", append="console=ttyAMA0 panic=-1", **files)


# -- what a host makes of it -------------------------------------------------------------------------------------------


class Host:
    """Counts the host instructions of blocks."""

    def __init__(self, make: Callable[[CodegenConfig], BackEnd], nops: Sequence[str], leaves: str) -> None:
        """``nops`` are the mnemonics of padding; ``leaves`` is how code goes where a register or memory says."""
        config = CodegenConfig(
            FRONT_END.state, FRONT_END.word, FRONT_END.page_bits, lambda callee: 0, call_helper=1, first_python=4096
        )
        backend = make(config)
        self._translator = Translator(FRONT_END, backend, None)
        assert backend.disassembler is not None
        self._disassembler = capstone.Cs(*(getattr(capstone, name) for name in backend.disassembler))
        self._nops = frozenset(nops)
        self._leaves = leaves
        self.count = lru_cache(maxsize=None)(self._count)
        called = ("raddle_slow_load", "raddle_slow_store", "raddle_slow_atomic", "raddle_call_helper")
        look_up = list(self._disassemble(backend.thunks(dict.fromkeys(called, 1)).by_field["thunk_indirect"]))
        self._look_up = 1 + next(n for n, (name, operands) in enumerate(look_up) if self._is_indirect(name, operands))
        """Instructions of the look-up of an indirect jump's target that is found."""

    def _disassemble(self, code: bytes) -> Iterator[tuple[str, str]]:
        for _, _, name, operands in self._disassembler.disasm_lite(code, 0):
            yield name, operands

    def _is_indirect(self, name: str, operands: str) -> bool:
        return name == self._leaves and not operands[0].isdigit()

    def _count(self, code: bytes) -> int:
        """Instructions in a piece of a hot part, with what an indirect jump in it does."""
        total = 0
        for name, operands in self._disassemble(code):
            if name not in self._nops:
                total += 1 + self._look_up * self._is_indirect(name, operands)
        return total

    def block(self, code: Code) -> Block:
        instructions = FRONT_END.instruction_set(code.mode)
        halves = instructions.wide is not None
        data = b"".join(
            (word >> 16).to_bytes(2, "little") + (word & 0xFFFF).to_bytes(2, "little")
            if halves and size == 4
            else word.to_bytes(size, "little")
            for word, size in code.words
        )
        return self._translator.block(code.mode, data, 0x8000)

    def pieces(self, code: Code) -> list[int]:
        """Instructions of each guest instruction; in the last place of the entry check and of the jump at the end."""
        block = self.block(code)
        counts, position = [], block.hot_start
        others = self.count(block.code[:position])
        for row in range(0, len(block.table), 8):
            end = position + int.from_bytes(block.table[row : row + 2], "little")
            if block.table[row + 4]:
                counts.append(self.count(block.code[position:end]))
            else:
                others += self.count(block.code[position:end])
            position = end
        return [*counts, others + self.count(block.code[position : block.cold_start])]


def hosts(newest: bool = True) -> dict[str, Host]:
    """The hosts by name, with all optional features or with none."""
    x86 = X86Features(*[newest] * len(X86Features._fields))
    aarch64 = AArch64Features(*[newest] * len(AArch64Features._fields))
    return {
        "x86-64": Host(lambda config: X86BackEnd(config, x86), ("nop",), "jmp"),
        "AArch64": Host(lambda config: AArch64BackEnd(config, aarch64), ("nop",), "br"),
    }


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One guest: instructions that ran, of the guest and of each host."""

    name: str
    guest: int
    x86_64: int
    aarch64: int

    @property
    def ratio(self) -> float:
        return self.aarch64 / self.x86_64


def weigh(name: str, runs: Runs, patterns: int) -> Row:
    x86, aarch64 = hosts().values()
    totals = [0, 0, 0]
    by_pattern: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for code, times in runs.items():
        ours, theirs = aarch64.pieces(code), x86.pieces(code)
        totals[0] += times * code.length
        totals[1] += times * sum(theirs)
        totals[2] += times * sum(ours)
        if patterns:
            instructions = FRONT_END.instruction_set(code.mode)
            names = [found.name if (found := instructions.decode(*word)) else "undefined" for word in code.words]
            for pattern, a, b in zip([*names, "entry and end"], theirs, ours, strict=True):
                for n, count in enumerate((times, times * a, times * b)):
                    by_pattern[pattern][n] += count
    row = Row(name, *totals)
    print(
        f"{name:16s} {row.guest:14,d} {row.x86_64 / row.guest:8.3f} {row.aarch64 / row.guest:8.3f} {row.ratio:8.3f}",
        flush=True,
    )
    for pattern, (times, a, b) in sorted(by_pattern.items(), key=lambda item: -item[1][2])[:patterns]:
        print(f"    {pattern:20s} {times / row.guest:7.3f} {a / times:7.2f} {b / times:7.2f} {b / max(a, 1):8.3f}")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--payload", type=Path, help="directory with vmlinuz and initramfs.cpio.gz, for the boot")
    parser.add_argument("--only", choices=(*KERNELS, "boot"), action="append", help="one of the guests")
    parser.add_argument("--patterns", type=int, default=0, metavar="N", help="show the N costliest instructions")
    parser.add_argument("--json", type=Path, help="where to write the table")
    options = parser.parse_args()
    if platform.machine() != "x86_64":
        parser.error("the guests are counted on x86-64, and this is another machine")
    print(f"{'':16s} {'guest':>14s} {'x86-64':>8s} {'AArch64':>8s} {'ratio':>8s}")
    rows = [
        weigh(f"kernel {name}", run_kernel(name), options.patterns)
        for name in KERNELS
        if options.only is None or name in options.only
    ]
    if options.payload is not None and (options.only is None or "boot" in options.only):
        rows.append(weigh(BOOT, run_boot(options.payload), options.patterns))
    if options.json is not None:
        options.json.write_text(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=1) + "\n")
    return int(any(row.ratio > WANTED for row in rows))


if __name__ == "__main__":
    sys.exit(main())
