# SPDX-License-Identifier: Apache-2.0
"""What a machine answers before it runs, and after it is closed."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from raddle import Machine
from raddle.errors import MachineError, UsageError

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the host package makes code for x86-64")

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 30


def test_a_closed_machine_says_so() -> None:
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        machine.start()
        machine.wait(LIMIT)
    for question in (machine.describe, machine.stats, lambda: machine.hook("block", print)):
        with pytest.raises(UsageError, match="the machine is closed"):
            question()
    with pytest.raises(MachineError, match="closed"):
        machine.engine.clock_ns()
    with pytest.raises(TypeError):
        _ = machine.cpus[0]["r0"]
    machine.request_stop()
    machine.close()


def test_what_is_set_before_the_first_instruction_stays() -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start(paused=True)
        entry = machine.cpus[0].regs.pc
        assert entry >= 0x4000_0000
        machine.cpus[0].regs.r5 = 0x1234
        machine.cpus[0].regs.pc = 0x4800_0000 - 8  # nothing there: it takes exceptions for ever
        seen: list[int] = []
        machine.hook("block", lambda cpu, pc: seen.append(cpu.regs.r5))
        machine.resume()
        machine.pause()
        while not seen:
            machine.resume()
            machine.pause()
        assert set(seen) == {0x1234}


@pytest.mark.parametrize("pc", [0x4000_0FFE, 0x47FF_FFFE])
def test_a_misaligned_pc_at_the_end_of_a_page_is_a_fault(pc: int) -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf", memory="128M") as machine:
        taken: list[object] = []
        machine.hook("exception", lambda cpu, event: taken.append(event))
        machine.start(paused=True)
        machine.cpus[0].regs.pc = pc
        machine.resume()
        machine.pause()
        while not taken:
            machine.resume()
            machine.pause()


@pytest.mark.parametrize("line", ["\udcff", b"quiet", "a\0b"])
def test_a_command_line_that_is_no_text(line: str) -> None:
    with pytest.raises(UsageError, match="command line"):
        Machine(kernel=GUESTS / "hello.elf", append=line)


def rearm_for_ever(machine: Machine) -> None:
    def again() -> None:
        timer.set(machine.engine.clock_ns() + 20_000)

    timer = machine.engine.timer(again)
    machine.start()
    timer.set(0)


def test_timers_that_fire_while_a_machine_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
            rearm_for_ever(machine)
    assert not capfd.readouterr().err
