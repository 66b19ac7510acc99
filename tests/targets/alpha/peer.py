# SPDX-License-Identifier: Apache-2.0
"""QEMU's emulation of Linux programs for Alpha as a reference for `raddle.testing.differential`.

One process runs all cases: the program of peer.c and peer.S reads each from its standard input. Cases are up to
`WORDS` instructions at `Peer.slot`, and may use the 64 bytes of memory at ``WINDOW``. They end at the word after the
last one, or at the word after that, to which branches may go. What user programs cannot see is not compared: PALcode,
interrupt flags, and misaligned accesses, which the emulator serves.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile

from raddle.testing.differential import FAULT, UNDEFINED, Case, Outcome

HERE: Final = Path(__file__).parent
COMPILER: Final = "alpha-linux-gnu-gcc"
EMULATOR: Final = "qemu-alpha"

WINDOW: Final = 0x2001_0000
WINDOW_SIZE: Final = 64
ARITHMETIC: Final = "arithmetic"
"""Event: an arithmetic trap."""

NAMES: Final = (*(f"r{n}" for n in range(31)), *(f"f{n}" for n in range(31)), "fpcr")
WORDS: Final = 16
"""At most so many instructions."""
_RECORD: Final = struct.Struct(f"<{len(NAMES)}Q{WINDOW_SIZE}s{WORDS}I2Q")
_BRANCH: Final = 0xC3E0_0000
_SIGNALLED: Final = 0x100
_EVENTS: Final = {signal.SIGILL: UNDEFINED, signal.SIGFPE: ARITHMETIC, signal.SIGSEGV: FAULT}


def build(directory: Path) -> Path:
    """Compile the program. Raises CalledProcessError."""
    program = directory / "peer"
    options = (
        "-O1",
        "-ffreestanding",
        "-fno-builtin",
        "-nostdlib",
        "-static",
        "-mcpu=ev67",
        "-Wl,--no-warn-rwx-segments",
    )
    sources = (str(HERE / "peer.c"), str(HERE / "peer.S"))
    subprocess.run([COMPILER, *options, "-o", str(program), *sources], check=True)
    return program


class Peer:
    """A running reference. One thread; `close` it."""

    def __init__(self, cpu: str = "ev67") -> None:
        self._directory = tempfile.TemporaryDirectory()
        program = build(Path(self._directory.name))
        with program.open("rb") as file:
            symbols = ELFFile(file).get_section_by_name(".symtab")
            self.slot: int = symbols.get_symbol_by_name("slot")[0]["st_value"]
        self._process = subprocess.Popen(
            [EMULATOR, "-cpu", cpu, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        self._process.communicate()
        self._directory.cleanup()

    def run(self, case: Case) -> Outcome:
        assert case.pc == self.slot
        code = [int.from_bytes(case.code[at : at + 4], "little") for at in range(0, len(case.code), 4)]
        count = len(code)
        code += [_branch(count, WORDS), _branch(count + 1, WORDS + 1)]
        code = (code + [0] * WORDS)[:WORDS]
        memory = case.memory.get(WINDOW, bytes(WINDOW_SIZE))
        values = [case.registers.get(name, 0) for name in NAMES]
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(_RECORD.pack(*values, memory, *code, 0, 0))
        stdin.flush()
        *after, left, pc = _RECORD.unpack(stdout.read(_RECORD.size))
        memory = after[len(NAMES)]
        registers = dict(zip(NAMES, after, strict=False))
        if left >= _SIGNALLED:
            event = _EVENTS.get(signal.Signals(left - _SIGNALLED), "")
            assert event, f"signal {left - _SIGNALLED} of {case}"
            return Outcome(event, registers | {"pc": pc}, {WINDOW: memory})
        return Outcome("", registers | {"pc": self.slot + 4 * (count + left)}, {WINDOW: memory})


def _branch(at: int, to: int) -> int:
    """A branch from one word of the slot to another."""
    return _BRANCH | to - at - 1 & 0x1F_FFFF
