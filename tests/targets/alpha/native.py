# SPDX-License-Identifier: Apache-2.0
"""Runs cases of `raddle.testing.differential` as generated code, in kernel mode on a machine with one CPU.

A case's code is at `CODE`, where it ends in a branch to itself; its memory is in RAM. Exceptions are those of
`raddle_target_alpha.delivery`: what they store on the stack, to which r30 must point, is taken back afterwards.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from tests.targets.alpha.peer import ARITHMETIC, NAMES
from tests.targets.stepped import Stepped

from raddle.testing.differential import FAULT, UNDEFINED, Case, Outcome
from raddle_target_alpha.delivery import FRAME_BYTES
from raddle_target_alpha.mmu import KSEG

KERNEL: Final = Path(__file__).resolve().parents[2] / "guests/alpha/prebuilt/hello.elf"
MEMORY: Final = 32 << 20
ENTRY: Final = KSEG + 0x31_0000
FIRST_STEPS: Final = 100
"""Instructions of the console before the kernel's first one at the most."""
CODE: Final = KSEG + 0x40_0000
STACK: Final = KSEG + 0x60_0000
TO_ITSELF: Final = 0xC3FF_FFFF
"""BR."""
HANDLERS: Final = {0x70_0000: FAULT, 0x70_1000: ARITHMETIC, 0x70_2000: UNDEFINED}
"""Physical addresses of exceptions' entry points, which are not executed."""
ENTRIES: Final = ("ent_mm", "ent_arith", "ent_if")
NOTHING_RESERVED: Final = (1 << 64) - 1


class Native(Stepped):
    """Raddle's generated code. Must be closed, as a context manager."""

    def __init__(self) -> None:
        super().__init__("clipper", KERNEL, MEMORY)
        for _ in range(FIRST_STEPS):
            if self.cpu["pc"] == ENTRY:
                break
            self.step()
        assert self.cpu["pc"] == ENTRY
        for name, address in zip(ENTRIES, HANDLERS, strict=True):
            self.cpu[name] = KSEG + address

    def run(self, case: Case) -> Outcome:
        assert case.pc == CODE
        cpu, end = self.cpu, case.pc + len(case.code)
        self._write(CODE, case.code + TO_ITSELF.to_bytes(4, "little"))
        for address, data in case.memory.items():
            self._write(address, data)
        for name in NAMES:
            setattr(cpu.regs, name, case.registers.get(name, 0))
        cpu["exclusive_address"] = NOTHING_RESERVED
        cpu["pc"] = CODE
        self._run(case.steps + 1)
        registers = {name: getattr(cpu.regs, name) for name in (*NAMES, "pc")}
        event = HANDLERS.get(registers["pc"] - KSEG, "")
        if event:
            saved = struct.unpack("<6Q", self._read(registers["r30"], FRAME_BYTES))
            registers |= dict(zip(("pc", "r29", "r16", "r17", "r18"), saved[1:], strict=True))
            registers["r30"] += FRAME_BYTES
        else:
            assert registers["pc"] == end, f"pc {registers['pc']:x}"
        memory = {address: self._read(address, len(data)) for address, data in case.memory.items()}
        return Outcome(event, registers, memory)

    def _write(self, address: int, data: bytes) -> None:
        place = address - KSEG
        self.machine.memory[place : place + len(data)] = data

    def _read(self, address: int, size: int) -> bytes:
        place = address - KSEG
        return bytes(self.machine.memory[place : place + size])
