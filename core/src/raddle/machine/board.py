# SPDX-License-Identifier: Apache-2.0
"""Boards: memory map, devices and boot of a machine, wired to CPUs that are made later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol
from weakref import WeakKeyDictionary, ref

from raddle.errors import UsageError
from raddle.layout import Segment
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import MachineClock
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.time_of_day import RtcOptions
from raddle.memory import SMALLEST_PAGE, AddressSpace
from raddle.plugins import Target
from raddle.sizes import size_text
from raddle.stateful import Stateful
from raddle.unique import Unique

__all__ = ["Board", "BoardCpu", "BoardOptions", "Power", "SerialPort", "attach", "board_of"]


class BoardOptions(NamedTuple):
    """What the user asked for. Sizes are in bytes; a path that was not given is None.

    cpu: the CPU model, one of the target's.
    target: the guest's descriptor, for loading its kernels.
    flash: a file for each of the board's flash banks; at most `Board.FLASH_BANKS`.
    loads: what else is loaded into memory at each reset: `-device loader`, `load=` of `Machine`.
        `raddle.machine.load.add_loads` reads them into a `Layout`.
    page_size: bytes of the guest's smallest page: regions of memory consist of whole pages.
    properties: the value of each of the board's properties.
    rtc: where the time of day starts and which clock it follows. A run that must repeat itself needs both.
    """

    cpus: int
    cpu: str
    memory: int
    target: Target
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    dtb: Path | None = None
    bios: Path | None = None
    flash: tuple[FlashFile | None, ...] = ()
    loads: tuple[Load, ...] = ()
    page_size: int = SMALLEST_PAGE
    properties: Mapping[str, str] = MappingProxyType({})
    rtc: RtcOptions = RtcOptions()

    def has_image(self, bank: int) -> bool:
        """Whether the first flash bank has contents: that is firmware, and it loads the kernel."""
        return (bank == 0 and self.bios is not None) or (bank < len(self.flash) and self.flash[bank] is not None)


class BoardCpu(Protocol):
    """A vCPU, as far as a board needs it. Methods may be called from any thread, the vCPU's own included."""

    index: int

    def interrupt_set(self, bits: int) -> None: ...

    def interrupt_clear(self, bits: int) -> None: ...

    def power_on(self, entry: int, argument: int) -> None:
        """Reset the CPU and let it run from `entry`, with `argument` as its first argument."""

    def drain(self) -> None:
        """Do the work that is queued for the CPU; before it runs."""

    def power_off(self) -> None: ...

    def halt(self) -> None:
        """Let the CPU wait until an interrupt is pending. On its own thread, when the guest asks for it."""

    def power_down(self, entry: int, argument: int) -> None:
        """The same, but the CPU wakes from reset, as `power_on` says; its timers, which are always on, go on."""


class Power(Protocol):
    """What a board may ask of its machine. The methods may be called on a vCPU's thread: neither waits."""

    def request_stop(self, status: int = 0) -> None:
        """Stop the machine; `status` becomes its exit status."""

    def request_reset(self) -> None:
        """Reset the machine, or stop it if it was made without `reboot`."""


class SerialPort(Protocol):
    """A device on a character device."""

    def receive(self) -> None:
        """Take input that waits in the character device. Called under the big lock when there is new input."""

    def settle(self) -> None:
        """Send what the port holds back. It changes nothing that the guest sees."""


class Board(Stateful, Unique, ABC):
    """Made in three steps: `__init__` builds the memory map and the devices and loads the images, `connect` wires the
    vCPUs, and `reset` (also the first one) puts everything into its state at power-on and starts the first CPU.

    `connect` is called before the machine runs, everything after it under the big lock.
    """

    NAME: ClassVar[str]
    SERIAL_PORTS: ClassVar[int] = 1
    """The most serial ports that can have a character device."""
    FLASH_BANKS: ClassVar[int] = 0
    """The number of flash banks that can have a file."""
    TAKES: ClassVar[frozenset[str]] = frozenset({"kernel"})
    """Which of the fields kernel, initrd, append, dtb, bios and loads of `BoardOptions` the board looks at. A user who
    gives another one gets a UsageError that names it: no option is ignored."""
    STATE: ClassVar[tuple[str, ...]] = ()
    """The attributes that are state: devices, and what the board itself remembers. Not memory, and not vCPUs."""

    @abstractmethod
    def __init__(self, options: BoardOptions, consoles: Sequence[CharDevice], clock: MachineClock) -> None:
        """`consoles` has a device for each serial port: at least one, at most SERIAL_PORTS. Raises UsageError for a
        machine that cannot be built.
        """
        self.options = options
        self.consoles = consoles
        self.clock = clock
        self.memory = AddressSpace(options.page_size)
        self.cpus: Sequence[BoardCpu] = ()
        self.power: Power
        self.ports: Sequence[SerialPort] = ()
        """The serial ports on `consoles`, in the same order, that the methods here are to serve."""

    def ram_size(self, least: int, most: int) -> int:
        """The bytes of RAM that the user asked for, in whole pages. Raises UsageError if it is less or more."""
        size = self.options.memory & -self.options.page_size
        if not least <= size <= most:
            given = size_text(self.options.memory)
            raise UsageError(f"machine {self.NAME} has {size_text(least)} to {size_text(most)} of RAM, not {given}")
        return size

    def connect(self, cpus: Sequence[BoardCpu], power: Power, big_lock: AbstractContextManager[object]) -> None:
        """Wire the devices that need vCPUs. `big_lock` is for input, which comes on other threads."""
        self.cpus = cpus
        self.power = power
        attach(self, cpus)

        def receive(port: SerialPort) -> None:
            with big_lock:
                port.receive()

        for port, console in zip(self.ports, self.consoles, strict=False):
            console.on_input(partial(receive, port))

    def disconnect(self) -> None:
        """The machine is closed: drop the references that `connect` gave, to parts that refer back to the board."""
        self.cpus = ()
        self.__dict__.pop("power", None)

    @abstractmethod
    def reset(self) -> None:
        """Set the power-on state, load images into memory, power the first CPU on. All vCPUs are paused."""

    def load(self, segments: Iterable[Segment]) -> None:
        """For `reset`: write what lies in memory before anything runs."""
        for segment in segments:
            self.memory.write(segment.address, segment.data)
            if segment.size > len(segment.data):
                self.memory.clear(segment.address + len(segment.data), segment.size - len(segment.data))

    def restored(self) -> None:
        for port in self.ports:  # there will be no other call for input that waits
            port.receive()

    def settle(self) -> None:
        """All vCPUs are paused, or have ended: write out what devices hold back while vCPUs run."""
        for port in self.ports:
            port.settle()

    def close(self) -> None:
        """Release the host's resources, except the memory. Everything has ended, or has not begun."""


_boards: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
"""Both sides are weak: a board knows its CPUs, and would keep them and itself for ever. Its machine holds it."""


def attach(board: Any, cpus: Sequence[Any]) -> None:
    """Put vCPUs on a board, where `board_of` finds it. Before the machine runs."""
    for cpu in cpus:
        _boards[cpu] = ref(board)


def board_of(cpu: Any) -> Any:
    """The vCPU's board; None for a machine without one. Any thread."""
    board = _boards.get(cpu)
    return None if board is None else board()
