# SPDX-License-Identifier: Apache-2.0
"""What a board is to a machine: memory map, devices and boot, wired to CPUs that come later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

from raddle.machine.chardev import CharDevice
from raddle.machine.clock import MachineClock
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.time_of_day import RtcOptions
from raddle.memory import SMALLEST_PAGE, AddressSpace
from raddle.plugins import Target

__all__ = ["Board", "BoardCpu", "BoardOptions", "Power"]


class BoardOptions(NamedTuple):
    """What was asked for. Sizes in bytes; a path is None where none was given."""

    cpus: int
    cpu: str
    """The CPU model, one of the target's."""
    memory: int
    target: Target
    """The guest, as its plug-in describes it: for loading its kernels."""
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    dtb: Path | None = None
    bios: Path | None = None
    flash: tuple[FlashFile | None, ...] = ()
    """For each of the board's flash banks; at most `Board.FLASH_BANKS`."""
    loads: tuple[Load, ...] = ()
    """What else a reset puts into memory: `-device loader`, `load=` of `Machine`. `raddle.machine.load.add_loads` reads
    them into a `Layout`."""
    page_size: int = SMALLEST_PAGE
    """Bytes of the guest's smallest page: regions of memory are made of whole ones."""
    properties: Mapping[str, str] = MappingProxyType({})
    """The value of each of the board's properties."""
    rtc: RtcOptions = RtcOptions()
    """Where the time of day starts and what it follows. A run that must repeat itself is given both."""

    def has_image(self, bank: int) -> bool:
        """Whether there is something for a flash bank. The first one's is firmware; a kernel is its affair then."""
        return (bank == 0 and self.bios is not None) or (bank < len(self.flash) and self.flash[bank] is not None)


class BoardCpu(Protocol):
    """A vCPU, as far as a board needs it. All of it may be called from any thread, the vCPU's own included."""

    index: int

    def interrupt_set(self, bits: int) -> None: ...

    def interrupt_clear(self, bits: int) -> None: ...

    def power_on(self, entry: int, argument: int) -> None:
        """Reset the CPU and let it run from `entry`, with `argument` as its first argument."""

    def drain(self) -> None:
        """Do what it has been told and has not done yet; before it runs."""

    def power_off(self) -> None: ...

    def halt(self) -> None:
        """Let the CPU wait until an interrupt is pending. On its own thread, when its guest has asked for it."""

    def power_down(self, entry: int, argument: int) -> None:
        """The same, but it wakes from its reset, as `power_on` says; what is always on, its timers, goes on."""


class Power(Protocol):
    """What a board may ask of its machine. May be called on a vCPU's thread: neither waits for anything."""

    def request_stop(self, status: int = 0) -> None:
        """Stop the machine for good; `status` becomes its exit status."""

    def request_reset(self) -> None:
        """Reset the machine, or stop it where it was told not to reboot."""


class Board(ABC):
    """Made in three steps: `__init__` builds the memory map and the devices and loads the images, `connect` wires the
    vCPUs, and `reset` (also the first one) puts everything into its state at power-on and starts the first CPU.

    `connect` is called before the machine runs, everything after it under the big lock.
    """

    NAME: ClassVar[str]
    SERIAL_PORTS: ClassVar[int] = 1
    """How many serial ports there can be to give a character device to."""
    FLASH_BANKS: ClassVar[int] = 0
    """How many flash banks there are to give a file to."""
    TAKES: ClassVar[frozenset[str]] = frozenset({"kernel"})
    """Which of the fields kernel, initrd, append, dtb, bios and loads of `BoardOptions` the board looks at. A user who
    gives another one gets a UsageError that names it: no option is ignored."""

    @abstractmethod
    def __init__(self, options: BoardOptions, consoles: Sequence[CharDevice], clock: MachineClock) -> None:
        """`consoles` has a device for each serial port that is wanted: one at least, SERIAL_PORTS at most. Raises
        UsageError for what cannot be built.
        """
        self.options = options
        self.clock = clock
        self.memory = AddressSpace(options.page_size)
        self.cpus: Sequence[BoardCpu] = ()
        self.power: Power

    def connect(self, cpus: Sequence[BoardCpu], power: Power, big_lock: AbstractContextManager[object]) -> None:
        """Wire what needs vCPUs. `big_lock` is for input that comes on threads of its own."""
        self.cpus = cpus
        self.power = power

    def disconnect(self) -> None:
        """The machine is closed: forget what `connect` has given, which knows the board in turn."""
        self.cpus = ()
        self.__dict__.pop("power", None)

    @abstractmethod
    def reset(self) -> None:
        """Power-on state, images in memory, first CPU on. All vCPUs are paused."""

    def settle(self) -> None:
        """All vCPUs have been paused, or have ended: bring out what devices hold back while they run."""

    def close(self) -> None:
        """Give back what the board holds of the host, its memory aside. Everything has ended, or has not begun."""
