# SPDX-License-Identifier: Apache-2.0
"""The state of the interrupt controller, saved and restored."""

from __future__ import annotations

from tests.targets.arm.gic_rig import C_CTLR, CTLR, EOIR, IAR, ISENABLER, PMR

from raddle.stateful import Stateful
from raddle.testing.device_contract import Bench, DeviceContract
from raddle_target_arm.devices.gic import Gic
from raddle_target_arm.devices.gic_registers import CpuInterface, Distributor

WORD = 4


class TestGic(DeviceContract):
    def make(self, bench: Bench) -> Stateful:
        gic = Gic(len(bench.cpus), bench.memory)
        gic.connect(bench.cpus)
        distributor, interface = Distributor(gic), CpuInterface(gic)
        for face in (distributor, interface):
            bench.access(
                face, [(one.offset + WORD * n, WORD) for one in face.REGISTERS for n in range(min(2, one.count))]
            )
        bench.inputs += [gic.spi(0), gic.spi(1), gic.spi(40), gic.ppi(0, 11), gic.ppi(1, 11)]

        def let_through() -> None:
            distributor.write(CTLR, WORD, 3)
            for bank in range(3):
                distributor.write(ISENABLER + WORD * bank, WORD, (1 << 32) - 1)
            interface.write(C_CTLR, WORD, 3)
            interface.write(PMR, WORD, 0xFF)

        def handle() -> int:
            taken = interface.read(IAR, WORD)
            interface.write(EOIR, WORD, taken)
            return taken

        bench.events += [let_through, let_through, handle, lambda: interface.read(IAR, WORD)]
        return gic
