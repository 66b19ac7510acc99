# SPDX-License-Identifier: Apache-2.0
"""The `virt` board: a machine of standard parts for any kernel that reads device trees.

Addresses and interrupt numbers are those of the board of the same name that users know from other emulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from raddle.devices.cfi_flash import CfiFlash
from raddle.devices.flash_banks import FlashBanks
from raddle.devices.fw_cfg import FwCfg
from raddle.devices.pl011 import PL011
from raddle.devices.pl031 import PL031
from raddle.devices.virtio_mmio import SLOT_SIZE, SLOTS, VirtioSlots
from raddle.layout import Area
from raddle.machine.board import Board, BoardCpu, BoardOptions, Power
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import MachineClock
from raddle.machine.devicetree import Tree, cells, make_tree
from raddle.machine.lines import Line
from raddle.machine.time_of_day import TimeOfDay
from raddle_target_arm.boot import for_firmware, plan, plan_firmware
from raddle_target_arm.devices import gic_routines
from raddle_target_arm.devices.gic import Gic
from raddle_target_arm.devices.gic_layout import SGIS
from raddle_target_arm.devices.gic_registers import CpuInterface, Distributor

__all__ = ["Virt"]

FLASH: Final = tuple(Area("flash", CfiFlash.SIZE * bank, CfiFlash.SIZE) for bank in range(2))
GIC_DISTRIBUTOR: Final = 0x0800_0000
GIC_CPU_INTERFACE: Final = 0x0801_0000
UARTS: Final = (0x0900_0000, 0x0904_0000)
"""The second exists only if it has a character device: guests may use any serial port as their console."""
RTC: Final = 0x0901_0000
FW_CFG: Final = 0x0902_0000
VIRTIO: Final = 0x0A00_0000
RAM: Final = 0x4000_0000

RAM_MIN: Final = 1 << 20
RAM_MAX: Final = 3 << 30
MAX_CPUS: Final = 8

UART_SPIS: Final = (1, 8)
RTC_SPI: Final = 2
VIRTIO_SPI: Final = 16
"""Of the first virtio-mmio slot; the others follow."""
TIMER_PPIS: Final = {"secure": 13, "non-secure": 14, "virtual": 11, "hypervisor": 10}
"""In the order that the device-tree binding arm,armv7-timer requires."""

UART_CLOCK_HZ: Final = 24_000_000

# The device tree's interrupt specifiers: kind, number, flags.
SPI, PPI = 0, 1
EDGE_RISING: Final = 1
LEVEL_HIGH: Final = 4
GIC_PHANDLE: Final = 1
CLOCK_PHANDLE: Final = 2


class Virt(Board):
    """1 to 8 CPUs, up to 3 GiB of RAM, two banks of flash, GICv2, PL011, PL031, PSCI, 32 empty virtio-mmio slots; a
    second PL011 when there is a second console.
    """

    NAME = "virt"
    SERIAL_PORTS: ClassVar[int] = len(UARTS)
    FLASH_BANKS: ClassVar[int] = len(FLASH)
    TAKES: ClassVar[frozenset[str]] = frozenset({"kernel", "initrd", "append", "dtb", "bios", "loads"})
    STATE: ClassVar[tuple[str, ...]] = ("gic", "uarts", "rtc", "virtio", "fw_cfg", "flash", "_powered")

    def __init__(self, options: BoardOptions, consoles: Sequence[CharDevice], clock: MachineClock) -> None:
        super().__init__(options, consoles, clock)
        size = self.ram_size(RAM_MIN, RAM_MAX)
        self.gic = Gic(options.cpus, self.memory)
        self.console = consoles[0]
        self.uarts = [
            PL011(console, self.gic.spi(spi), clock) for console, spi in zip(consoles, UART_SPIS, strict=False)
        ]
        self.uart = self.uarts[0]
        self.ports = self.uarts
        self.rtc = PL031(clock, self.gic.spi(RTC_SPI), TimeOfDay(options.rtc, clock))
        self.virtio = VirtioSlots()
        self._powered = [False] * options.cpus
        ram = Area("RAM", RAM, size, RAM_MAX)
        blank = [area for number, area in enumerate(FLASH) if not options.has_image(number)]
        self._boot = (
            plan_firmware(options, ram, self.tree, blank, FLASH[0].start)
            if options.has_image(0)
            else plan(options, ram, self.tree, blank)
        )
        self.fw_cfg = FwCfg(self.memory, for_firmware(options, size))
        self._add_gic()
        for number, (uart, start) in enumerate(zip(self.uarts, UARTS, strict=False)):
            self.memory.add_io(f"pl011.{number}" if number else "pl011", start, uart.SIZE, uart, uart.routine)
        rtc_routine = self.rtc.routine if self.rtc.is_native else None
        self.memory.add_io("pl031", RTC, self.rtc.SIZE, self.rtc, rtc_routine)
        self.memory.add_io("fw_cfg", FW_CFG, self.fw_cfg.SIZE, self.fw_cfg)
        self.memory.add_io("virtio-mmio", VIRTIO, self.virtio.SIZE, self.virtio, self.virtio.routine)
        self.memory.add_ram("RAM", RAM, size)
        # Last, because it opens files, which only `close` closes.
        self.flash = FlashBanks(
            self.memory, [area.start for area in FLASH], options.flash, options.bios, options.target.foreign_files
        )

    def _add_gic(self) -> None:
        """Add the controller's two regions, its native routines and the one for the timers' lines."""
        gic = self.gic
        self.memory.add_routines(gic_routines.routines(gic))
        timers = [SGIS + TIMER_PPIS[name] for name in ("non-secure", "virtual")]
        self.memory.add_routines({"timer_line": gic_routines.drive_private(timers)})
        for name, start, registers, routine in (
            ("gic distributor", GIC_DISTRIBUTOR, Distributor(gic), gic_routines.distributor(gic)),
            ("gic cpu interface", GIC_CPU_INTERFACE, CpuInterface(gic), gic_routines.interface(gic)),
        ):
            self.memory.add_io(name, start, registers.SIZE, registers, routine)

    def connect(self, cpus: Sequence[BoardCpu], power: Power, big_lock: AbstractContextManager[object]) -> None:
        super().connect(cpus, power, big_lock)
        self.gic.connect(cpus)

    def disconnect(self) -> None:
        super().disconnect()
        self.gic.disconnect()
        self.flash.disconnect()

    def timer_line(self, cpu: int, name: str) -> Line:
        """The input that a CPU's generic timer drives: `secure`, `non-secure`, `virtual` or `hypervisor`."""
        return self.gic.ppi(cpu, TIMER_PPIS[name])

    def reset(self) -> None:
        for uart in self.uarts:
            uart.reset()
        for device in (self.gic, self.rtc, self.fw_cfg, self.flash):
            device.reset()
        self.load(self._boot.segments)
        self._powered = [cpu.index == 0 for cpu in self.cpus]
        for cpu in self.cpus[1:]:
            cpu.power_off()
        self.cpus[0].power_on(self._boot.entry, 0)

    def settle(self) -> None:
        super().settle()
        self.flash.sync()

    def close(self) -> None:
        self.flash.close()

    # --- power, for PSCI; under the big lock

    def is_powered(self, cpu: int) -> bool:
        """Whether the CPU is on, or has been told to come on."""
        return self._powered[cpu]

    def cpu_on(self, cpu: int, entry: int, context_id: int) -> None:
        """Start a CPU that is off at `entry` (bit 0: Thumb) with `context_id` in r0."""
        self._powered[cpu] = True
        self.cpus[cpu].power_on(entry, context_id)

    def cpu_off(self, cpu: int) -> None:
        """Turn off the calling CPU."""
        self._powered[cpu] = False
        self.cpus[cpu].power_off()

    def cpu_standby(self, cpu: int) -> None:
        """Halt the calling CPU until an interrupt is pending."""
        self.cpus[cpu].halt()

    def cpu_power_down(self, cpu: int, entry: int, context_id: int) -> None:
        """The same, but the CPU loses its state and goes on at `entry`, like `cpu_on`. It counts as on."""
        self.cpus[cpu].power_down(entry, context_id)

    def system_off(self) -> None:
        """End the machine with exit status 0."""
        self.power.request_stop(0)

    def system_reset(self) -> None:
        """Reset the machine soon; every CPU stands still until then."""
        for cpu in self.cpus:
            cpu.power_off()
        self.power.request_reset()

    # --- device tree

    def tree(self, bootargs: str | None, initrd: tuple[int, int] | None) -> bytes:
        """The device tree of this machine."""
        ram_size = self.options.memory & -self.options.page_size
        chosen: dict[str, str | list[int]] = {"stdout-path": _uart_path(0)}
        if bootargs is not None:
            chosen["bootargs"] = bootargs
        if initrd is not None:
            chosen["linux,initrd-start"], chosen["linux,initrd-end"] = cells(initrd[0]), cells(initrd[1])
        tree: Tree = {
            "#address-cells": 2,
            "#size-cells": 2,
            "interrupt-parent": GIC_PHANDLE,
            "model": "linux,dummy-virt",
            "compatible": "linux,dummy-virt",
            "chosen": chosen,
            "aliases": {f"serial{number}": _uart_path(number) for number in range(len(self.uarts))},
            "memory@40000000": {"device_type": "memory", "reg": [*cells(RAM), *cells(ram_size)]},
            "cpus": self._cpu_nodes(),
            "psci": {
                "compatible": ["arm,psci-1.0", "arm,psci-0.2"],
                "method": "hvc",
            },
            "timer": {
                "compatible": "arm,armv7-timer",
                "always-on": None,
                "interrupts": [cell for ppi in TIMER_PPIS.values() for cell in (PPI, ppi, self._every_cpu())],
            },
            f"intc@{GIC_DISTRIBUTOR:x}": {
                "compatible": "arm,cortex-a15-gic",
                "#address-cells": 0,
                "#interrupt-cells": 3,
                "interrupt-controller": None,
                "reg": [
                    *(*cells(GIC_DISTRIBUTOR), *cells(Distributor.SIZE)),
                    *(*cells(GIC_CPU_INTERFACE), *cells(CpuInterface.SIZE)),
                ],
                "phandle": GIC_PHANDLE,
            },
            "apb-pclk": {
                "compatible": "fixed-clock",
                "#clock-cells": 0,
                "clock-frequency": UART_CLOCK_HZ,
                "clock-output-names": "clk24mhz",
                "phandle": CLOCK_PHANDLE,
            },
            **{_uart_path(number)[1:]: self._uart_node(number) for number in range(len(self.uarts))},
            f"pl031@{RTC:x}": {
                "compatible": ["arm,pl031", "arm,primecell"],
                "reg": [*cells(RTC), *cells(self.rtc.SIZE)],
                "interrupts": [SPI, RTC_SPI, LEVEL_HIGH],
                "clocks": CLOCK_PHANDLE,
                "clock-names": "apb_pclk",
            },
            f"flash@{FLASH[0].start:x}": {
                "compatible": "cfi-flash",
                "reg": [cell for area in FLASH for cell in (*cells(area.start), *cells(area.size))],
                "bank-width": 4,
            },
            f"fw-cfg@{FW_CFG:x}": {
                "compatible": "qemu,fw-cfg-mmio",
                "reg": [*cells(FW_CFG), *cells(FwCfg.REGISTERS_SIZE)],
                "dma-coherent": None,
            },
            **self._virtio_nodes(),
        }
        return make_tree(tree)

    def _uart_node(self, number: int) -> Tree:
        return {
            "compatible": ["arm,pl011", "arm,primecell"],
            "reg": [*cells(UARTS[number]), *cells(self.uarts[number].SIZE)],
            "interrupts": [SPI, UART_SPIS[number], LEVEL_HIGH],
            "clocks": [CLOCK_PHANDLE, CLOCK_PHANDLE],
            "clock-names": ["uartclk", "apb_pclk"],
        }

    def _cpu_nodes(self) -> Tree:
        nodes: dict[str, Tree] = {
            f"cpu@{cpu:x}": {
                "device_type": "cpu",
                "compatible": f"arm,{self.options.cpu}",
                "reg": cpu,
                "enable-method": "psci",
            }
            for cpu in range(self.options.cpus)
        }
        return {"#address-cells": 1, "#size-cells": 0, **nodes}

    @staticmethod
    def _virtio_nodes() -> Tree:
        return {
            f"virtio_mmio@{VIRTIO + SLOT_SIZE * slot:x}": {
                "compatible": "virtio,mmio",
                "reg": [*cells(VIRTIO + SLOT_SIZE * slot), *cells(SLOT_SIZE)],
                "interrupts": [SPI, VIRTIO_SPI + slot, EDGE_RISING],
                "dma-coherent": None,
            }
            for slot in range(SLOTS)
        }

    def _every_cpu(self) -> int:
        """The flags of a PPI: level, on every CPU."""
        return ((1 << self.options.cpus) - 1) << 8 | LEVEL_HIGH


def _uart_path(number: int) -> str:
    return f"/pl011@{UARTS[number]:x}"
