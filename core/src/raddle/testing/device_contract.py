# SPDX-License-Identifier: Apache-2.0
"""The test that every device must pass: its state is plain data, and another device that takes it over cannot be told
from it by anything that happens afterwards.

The tests of a device inherit it and say how the device is made::

    class TestMyTimer(DeviceContract):
        def make(self, bench):
            return MyTimer(bench.clock, bench.line())

A device that is no `Device` also says how it is accessed, with `bench.access`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from contextlib import closing
from random import Random
from typing import Any, ClassVar, Final, NamedTuple

from raddle.devices.base import SIZES, Device
from raddle.machine.chardev import CharDevice
from raddle.machine.lines import Line
from raddle.machine.time_of_day import RtcClock, RtcOptions, TimeOfDay
from raddle.memory import AddressSpace
from raddle.testing.device_bench import BenchCpu, HandClock, Native

__all__ = ["Bench", "DeviceContract"]

MOVES: Final = (1e-7, 1e-5, 1e-3, 0.02, 1.2)
"""Seconds that pass at a time."""
TYPED: Final = (b"a", b"bcd", b"0123456789abcdefghij")
WAITING: Final = 40
"""Bytes of input that may wait."""


class _Console(CharDevice):
    """Keeps what the device sends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def type(self, data: bytes) -> None:
        """Input comes, unless a lot is waiting."""
        if len(self._input) < WAITING:
            self.feed(data, wait=False)

    def take_over(self, other: _Console) -> None:
        self.sent = other.sent
        self._input[:] = other._input


class _Place(NamedTuple):
    """A register, or several bytes of any kind."""

    handler: Any
    offset: int
    size: int


class Bench:
    """What a device is made with, and what happens to it."""

    def __init__(self, begins: int = 0, cpus: int = 2) -> None:
        """The time of day begins so many seconds after 1970."""
        self.clock = HandClock()
        self.time_of_day = TimeOfDay(RtcOptions(begins, RtcClock.VM), self.clock)
        self.time_of_day.begin()
        self.console = _Console()
        self.memory = AddressSpace()
        self.cpus = [BenchCpu(index) for index in range(cpus)]
        self.inputs: list[Line] = []
        """Lines that others drive: add the device's inputs."""
        self.events: list[Callable[[], object]] = []
        """What else may happen to the device, such as accesses that mean something one after the other: add functions
        without arguments."""
        self.value: Callable[[Random, int], int] = _value
        """Makes a value that is written, of so many bytes."""
        self._lines: list[Line] = []
        self._places: list[_Place] = []
        self._routines: dict[Any, Native] = {}
        self._by_handler: dict[str, bool] = {}
        self.memory.on_serve_loads(lambda region, by: self._by_handler.update({region.name: by}))

    def line(self) -> Line:
        """A line that the device drives."""
        self._lines.append(Line())
        return self._lines[-1]

    def access(self, handler: Any, places: Sequence[tuple[int, int]]) -> None:
        """Let `handler` be read and written at these offsets, with so many bytes."""
        self._places += [_Place(handler, *place) for place in places]

    def close(self) -> None:
        self.memory.close()

    # --- what happens

    def drive(self, random: Random, steps: int) -> list[tuple[str, object]]:
        """Let so many things happen; returns all that can be seen of them. What happens does not depend on what was
        seen."""
        return [(self._step(random), self.seen()) for _ in range(steps)]

    def seen(self) -> object:
        """What the device shows without an access."""
        lines = [line.level for line in self._lines]
        loads = [name for name, by in self._by_handler.items() if by]
        return lines, [cpu.lines for cpu in self.cpus], self.console.sent, loads

    def _step(self, random: Random) -> str:
        kind = random.random()
        if kind < 0.1:
            self.clock.move(seconds := random.choice(MOVES))
            return f"{seconds} s pass"
        if kind < 0.2 and self.inputs:
            number, level = random.randrange(len(self.inputs)), bool(random.getrandbits(1))
            self.inputs[number].set(level)
            return f"input {number} is {level}"
        if kind < 0.4 and self.events:
            number = random.randrange(len(self.events))
            return f"event {number} gives {self.events[number]()}"
        if kind < 0.44:
            self.console.type(random.choice(TYPED))
            return "input comes"
        self.memory.initiator = cpu = random.randrange(len(self.cpus))
        handler, offset, size = random.choice(self._places)
        through = self.native(handler, cpu) if random.getrandbits(1) else handler
        value, where = self.value(random, size), f"{size} bytes at {offset:#x} of {type(handler).__name__}"
        if random.getrandbits(1):
            through.write(offset, size, value)
            return f"{value:#x} is written to {where}"
        return f"{through.read(offset, size):#x} is read from {where}"

    def native(self, handler: Any, cpu: int = 0) -> Any:
        """What reads and writes a `Device` through its routine, as a CPU does; other handlers as they are."""
        if not isinstance(handler, Device):
            return handler
        if handler not in self._routines:

            def change(number: int, set_to: bool, bits: int) -> int:
                one = self.cpus[number]
                (one.interrupt_set if set_to else one.interrupt_clear)(bits)
                return 0

            callees: dict[str, Callable[..., int]] = {
                "clock_ns": lambda _: self.clock.now,
                "interrupt_set": lambda _, number, bits: change(number, True, bits),
                "interrupt_clear": lambda _, number, bits: change(number, False, bits),
            }
            self._routines[handler] = Native(handler, callees)
        self._routines[handler].header["cpu_index"] = cpu
        return self._routines[handler]

    # --- for a device that takes over the state of another one

    def take_over(self, other: Bench) -> None:
        """All of the other bench that is no state of its device."""
        self.clock.now = other.clock.now
        self.memory.initiator = other.memory.initiator
        self.console.take_over(other.console)
        for cpu, same in zip(self.cpus, other.cpus, strict=True):
            cpu.lines = same.lines
        for line, one in zip(self.inputs, other.inputs, strict=True):
            line.restore(one.save())
        for region, known in zip(self.memory.regions, other.memory.regions, strict=True):
            if region.memory is not None and known.memory is not None:
                region.memory.bytes[:] = known.memory.bytes


def _value(random: Random, size: int) -> int:
    bits = 8 * size
    return random.choice((random.getrandbits(bits), 1 << random.randrange(bits), random.randrange(8), (1 << bits) - 1))


class DeviceContract:
    """Inherit this, and define `make`."""

    rounds: ClassVar[int] = 150
    """How often a state is taken over."""
    steps: ClassVar[int] = 15
    """How much happens before that, and afterwards."""

    def make(self, bench: Bench) -> Any:
        """A new device, a `Stateful`, which the test resets first."""
        raise NotImplementedError

    def _made(self, bench: Bench) -> Any:
        device = self.make(bench)
        device.reset()
        if isinstance(device, Device):
            for one in device.REGISTERS:
                bench.access(device, [(one.offset + n * one.size, one.size) for n in range(one.count)])
                bench.access(device, [(one.offset, size) for size in SIZES if size < one.size])
        return device

    def test_a_saved_state_is_plain_data(self) -> None:
        with closing(Bench()) as bench:
            device = self._made(bench)
            bench.drive(Random(0), 10 * self.steps)
            saved = device.save()
            assert ast.literal_eval(repr(saved)) == saved
            assert device.save() == saved, "saving changes the state"

    def test_a_device_that_takes_over_a_state_goes_on_like_the_other_one(self) -> None:
        """One that was in use: something else happened to it meanwhile."""
        with closing(Bench()) as bench, closing(Bench(begins=1000)) as other:
            device, copy = self._made(bench), self._made(other)
            for number in range(self.rounds):
                bench.drive(Random(3 * number), self.steps)
                other.drive(Random(3 * number + 1), self.steps)
                self._take_over(bench, device, other, copy, 3 * number + 2)

    def test_a_new_device_goes_on_like_the_other_one(self) -> None:
        for number in range(3):
            with closing(Bench()) as bench, closing(Bench(begins=1000)) as other:
                device = self._made(bench)
                bench.drive(Random(number), 10 * self.steps)
                self._take_over(bench, device, other, self._made(other), number)

    def _take_over(self, bench: Bench, device: Any, other: Bench, copy: Any, seed: int) -> None:
        saved = ast.literal_eval(repr(device.save()))
        other.take_over(bench)
        copy.restore(saved)
        assert copy.save() == saved, f"seed {seed}: what was restored is saved as something else"
        assert other.seen() == bench.seen(), f"seed {seed}: it shows something else"
        seen, same = (one.drive(Random(seed), self.steps) for one in (bench, other))
        for number, (expected, found) in enumerate(zip(seen, same, strict=True)):
            assert expected == found, f"seed {seed}, step {number}: {expected} became {found}"
        assert copy.save() == device.save(), f"seed {seed}: the states are different at the end"
