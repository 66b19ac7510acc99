# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of ``differential`` as generated code: translator, back end and native runtime, on one vCPU.

An ISB after the case ends its block. The runtime then asks for the block that comes next, which is where the case has
ended; nothing else is translated. Where there is no memory for that block, a prefetch abort is taken first.
"""

from __future__ import annotations

from dataclasses import replace

from differential import CODE, CODE_SIZE, DATA, DATA_SIZE, Case, Result, block_mode, encoded, load_state, status
from raddle.runtime._native import lib

from raddle.accel import Decision, Mode
from raddle.ir.interpreter import CpuState
from raddle.ir.types import Field
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.threads.engine import Engine
from raddle.threads.vcpu import VCpu
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import (
    BANK_ABT,
    BANK_OF_MODE,
    BANK_SVC,
    BANKED_LR,
    BANKED_SP,
    MODE_IT_SHIFT,
    REGISTERS,
    SPSR,
    SYSTEM,
)

VECTORS = 0x0A00_0000
"""No AND, BIC or ORR of the pc leads there: it has bits that `CODE` has not, and lacks others."""
"""Where exceptions are entered; no data."""
EVENTS = {0x04: "undefined", 0x08: "svc", 0x0C: "breakpoint", 0x10: "fault"}
"""By exception vector."""
MISALIGNED = 1
"""Fault status of an alignment fault."""
BREAKPOINT = 2
"""Fault status of BKPT."""


class State(CpuState):
    """A vCPU's fields, read and written as the interpreter's are."""

    def __init__(self, cpu: VCpu) -> None:
        super().__init__(bytearray())
        self.cpu = cpu

    def read(self, field: Field) -> int:
        return self.cpu[field.name]

    def write(self, field: Field, value: int) -> None:
        self.cpu[field.name] = value


class NativeRunner:
    """Runs cases on the host. ``extra`` is or-ed to the block mode. Close it in the end."""

    def __init__(self, extra: int = 0) -> None:
        self.extra = extra
        self._longest = 0
        """Bytes of the longest image that was in memory."""
        self.memory = AddressSpace()
        self.memory.add_ram("vectors", VECTORS, 0x1000)
        self.memory.add_rom("code", CODE, CODE_SIZE)
        self.memory.add_ram("data", DATA, DATA_SIZE)
        host = registry().load(registry().host_for())
        self.engine = Engine(FRONT_END, host, Decision(Mode.MULTI, ("a test",)), self.memory, 1)
        lib.raddle_memo_listen(self.engine.translator.joiner.memo, 1)  # the block after the case is not to be run
        self.cpu = self.engine.cpus[0]
        self.state = State(self.cpu)

    def close(self) -> None:
        self.engine.close()
        self.memory.close()

    def run(self, case: Case) -> Result:
        self._start(case)
        self._until_elsewhere(case)
        return self._result(case)

    def differences(self, case: Case, expected: Result) -> list[str]:
        """Run the case: what differs from ``expected``, in words. A branch that leads just behind the ISB after the
        code cannot be told from going on to the ISB.
        """
        end = CODE + len(case.code)
        return self.run(case).differences(replace(expected, pc=end) if expected.pc == end + 4 else expected)

    def _start(self, case: Case) -> None:
        cpu, header = self.cpu, self.cpu.header
        FRONT_END.reset(cpu, CODE, 0)
        header.powered_off = 0
        load_state(self.state, case, block_mode(case.cpsr, self.extra))
        cpu["mode"] |= case.it << MODE_IT_SHIFT
        cpu[SYSTEM["vbar"].name] = VECTORS
        header.pc = CODE
        # Nothing of an earlier case stays behind it, where a load relative to the pc would find it.
        image = case.image.ljust(self._longest, b"\0")
        self._longest = len(image)
        self.memory.write(CODE, image)
        self.memory.write(DATA, case.memory())

    def _until_elsewhere(self, case: Case) -> None:
        """Run until the block that is wanted does not start with an instruction of the case or with the ISB."""
        cpu, starts, at = self.cpu, set(), CODE
        for table, word in case.words:
            starts.add(at)
            at += len(encoded(table, word))
        starts.add(at)
        while True:
            reason = lib.raddle_run(cpu.env)
            if reason == lib.RADDLE_MISS and cpu.header.pc in starts:
                starts.discard(cpu.header.pc)  # so that a branch to itself ends, too
                self.engine.translator.miss(cpu.env)
            elif reason == lib.RADDLE_WORK:
                cpu.drain()
            else:
                assert reason == lib.RADDLE_MISS, reason
                return

    def _result(self, case: Case) -> Result:
        cpu = self.cpu
        pc = int(cpu.header.pc)
        cpsr = status(self.state, cpu["mode"] >> MODE_IT_SHIFT & 0xFF)
        event = EVENTS.get(pc - VECTORS, "")
        banks = [cpu[register.name] for register in REGISTERS[13:]]
        if event:
            fault = cpu[SYSTEM["ifsr" if event == "breakpoint" else "dfsr"].name] & 0xF
            if event == "breakpoint" and fault != BREAKPOINT:
                event = ""
                pc, cpsr = banks[1] - 4 & 0xFFFF_FFFF, cpu[SPSR[BANK_ABT].name]
            elif event == "fault" and fault == MISALIGNED:
                event = "misaligned"
            bank = BANK_OF_MODE[(case.cpsr if event else cpsr) & 0x1F]
            if event == "svc" and bank == BANK_SVC:
                banks[1] = case.registers[14]  # which the exception has overwritten
            elif bank != cpu["bank"]:
                banks = [cpu[array[bank].name] for array in (BANKED_SP, BANKED_LR)]
        end = CODE + len(case.code)
        pc = end if pc == end + 4 else pc
        registers = (*(cpu[register.name] for register in REGISTERS[:13]), *banks)
        return Result(event, registers, pc, cpsr, self.memory.read(DATA, DATA_SIZE))
