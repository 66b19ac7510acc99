# SPDX-License-Identifier: Apache-2.0
"""An interrupt controller to try, alone and together with QEMU's."""

from tests.core.qtest import Qtest
from tests.targets.arm.interrupt_lines import Lines

from raddle.memory import AddressSpace
from raddle_target_arm.devices.gic import IRQ, Gic
from raddle_target_arm.devices.gic_registers import CpuInterface, Distributor

CTLR, TYPER, IGROUPR, ISENABLER, ICENABLER = 0x000, 0x004, 0x080, 0x100, 0x180
ISPENDR, ICPENDR, ISACTIVER, ICACTIVER = 0x200, 0x280, 0x300, 0x380
IPRIORITYR, ITARGETSR, ICFGR, SGIR, CPENDSGIR, SPENDSGIR = 0x400, 0x800, 0xC00, 0xF00, 0xF10, 0xF20
C_CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR, APR, IIDR, DIR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0xD0, 0xFC, 0x1000
ABPR, AIAR, AEOIR, AHPPIR, NSAPR = 0x1C, 0x20, 0x24, 0x28, 0xE0
OTHER_GROUP, SPURIOUS = 1022, 1023


class Rig:
    """A controller that is on, with its CPU interfaces on and everything let through."""

    def __init__(self, cpus):
        self.space = AddressSpace()
        self.gic = Gic(cpus, self.space)
        self.distributor, self.interface = Distributor(self.gic), CpuInterface(self.gic)
        self.cpus = [Lines() for _ in range(cpus)]
        self.gic.connect(self.cpus)
        self.d(CTLR, 1)
        for cpu in range(cpus):
            self.c(C_CTLR, 1, cpu)
            self.c(PMR, 0xF0, cpu)

    def d(self, offset, value=None, cpu=0, size=4):
        self.space.initiator = cpu
        if value is None:
            return self.distributor.read(offset, size)
        return self.distributor.write(offset, size, value)

    def c(self, offset, value=None, cpu=0):
        self.space.initiator = cpu
        if value is None:
            return self.interface.read(offset, 4)
        return self.interface.write(offset, 4, value)

    def enable(self, interrupt, priority=0xA0, targets=1, cpu=0):
        self.d(ISENABLER + 4 * (interrupt // 32), 1 << interrupt % 32, cpu)
        self.d(IPRIORITYR + interrupt, priority, cpu, size=1)
        if interrupt >= 32:
            self.d(ITARGETSR + interrupt, targets, size=1)

    def asserted(self):
        return [cpu.lines & IRQ for cpu in self.cpus]


DISTRIBUTOR, INTERFACE = 0x0800_0000, 0x0801_0000
# For random accesses: of each kind, at both ends of words, and in groups of priorities.
INTERRUPTS = (0, 3, 15, 27, 30, 33, 34, 40, 63, 64, 100, 287)
PRIORITIES = (0, 0x10, 0x18, 0x40, 0x80, 0xA0, 0xA8, 0xF0, 0xFF)


class Pair:
    """The same accesses on ours and on QEMU's, which must give the same."""

    def __init__(self, peer: Qtest) -> None:
        self.peer = peer
        self.gic = Gic(1, AddressSpace())
        self.distributor, self.interface = Distributor(self.gic), CpuInterface(self.gic)
        self.history = []

    def ours(self, address):
        if address < INTERFACE:
            return self.distributor, address - DISTRIBUTOR
        return self.interface, address - INTERFACE

    def write(self, address, value, size=4):
        self.history.append(f"write {address:#x} {value:#x}")
        device, offset = self.ours(address)
        device.write(offset, size, value)
        self.peer.store(address, value, size)

    def read(self, address, size=4):
        device, offset = self.ours(address)
        mine, theirs = device.read(offset, size), self.peer.load(address, size)
        self.history.append(f"read {address:#x}: {mine:#x}")
        assert mine == theirs, f"{address:#x}: QEMU has {theirs:#x}, after {self.history[-30:]}"
        return mine

    def clean(self):
        """Bring both into the same state, whatever was done to the peer before."""
        for register, value in ((C_CTLR, 0), (BPR, 0), (ABPR, 0)):
            self.write(INTERFACE + register, value)
        self.write(DISTRIBUTOR + CTLR, 0)
        for n in range(4):
            self.write(INTERFACE + APR + 4 * n, 0)
            self.write(INTERFACE + NSAPR + 4 * n, 0)
        for word in range(9):
            for register in (ICENABLER, ICPENDR, ICACTIVER):
                self.write(DISTRIBUTOR + register + 4 * word, 0xFFFF_FFFF)
            self.write(DISTRIBUTOR + IGROUPR + 4 * word, 0)
        for n in range(4):
            self.write(DISTRIBUTOR + CPENDSGIR + 4 * n, 0x0101_0101)
        for n in range(72):
            self.write(DISTRIBUTOR + IPRIORITYR + 4 * n, 0)
        for n in range(1, 18):
            self.write(DISTRIBUTOR + ICFGR + 4 * n, 0)
