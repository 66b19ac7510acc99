# SPDX-License-Identifier: Apache-2.0
"""The state of the 21272 chipset, saved and restored."""

from __future__ import annotations

from raddle.stateful import Stateful
from raddle.testing.device_contract import Bench, DeviceContract
from raddle_target_alpha.devices.chipset import Cchip, Dchip, Pchip


class TestCchip(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        chip = Cchip(len(bench.cpus), [0x4000])
        chip.connect(bench.cpus)  # type: ignore[arg-type]
        bench.inputs.append(chip.isa)
        bench.clock.routines["tick"] = chip.tick
        bench.clock.callees["interrupt_set"] = lambda _, number, lines: bench.cpus[number].interrupt_set(lines)
        bench.events.append(lambda: bench.clock.run("tick", 1))
        return chip


class TestDchip(DeviceContract):
    rounds = 3

    def make(self, bench: Bench) -> Stateful:
        return Dchip()


class TestPchip(DeviceContract):
    rounds = 30

    def make(self, bench: Bench) -> Stateful:
        return Pchip()
