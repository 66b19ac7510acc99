# SPDX-License-Identifier: Apache-2.0
"""The tests that every board must pass: it can be made, its regions and declarations are valid, a reset powers a CPU
on, its state can be saved and restored, and the machine can be ended in every mode, even if its guest waits for ever.

The tests of a board inherit them and say what it boots::

    class TestMyBoard(BoardContract):
        target = "mine"
        board = "my-board"

        @pytest.fixture
        def kernel(self, tmp_path):
            return program_that_sleeps(tmp_path)  # it must not power the machine off

The package must be installed, so that `raddle info` lists it, and so must the host package of this machine.
"""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from raddle.errors import PluginError, UsageError
from raddle.machine.arguments import BOOT_OPTIONS
from raddle.machine.machine import Machine, State
from raddle.plugins import Board, registry
from raddle.stateful import Stateful

__all__ = ["BoardContract"]

MODES: Final[dict[str, dict[str, str]]] = {
    "single": {"accelerator": "tcg,thread=single"},
    "multi": {"accelerator": "tcg,order=fenced"},
    "icount": {"icount": "shift=2"},
    "icount-sleep": {"icount": "shift=2,sleep=on"},
}


def _parts(value: object) -> list[Stateful]:
    """The parts with a state that an attribute is or has."""
    elements = value if isinstance(value, list | tuple) else (value,)
    return [one for one in elements if isinstance(one, Stateful)]


class BoardContract:
    """Inherit this, and set the attributes."""

    target: ClassVar[str]
    """Name of the target plug-in."""
    board: ClassVar[str]
    """Name of the board."""
    memory: ClassVar[str] = "16M"
    options: ClassVar[dict[str, Any]] = {}
    """Further arguments for `raddle.Machine`."""
    run_seconds: ClassVar[float] = 0.5
    """How long, by the host's clock, a machine runs before it is checked."""
    limit_seconds: ClassVar[float] = 60
    """How long each step may take on a busy host."""

    @pytest.fixture
    def kernel(self, tmp_path: Path) -> Path | None:
        """A program that runs or sleeps until the machine is ended; None for a board that needs no program."""
        return None

    @pytest.fixture
    def descriptor(self) -> Board:
        found = [one for one in registry().boards(self.target) if one.name == self.board]
        assert len(found) == 1, f"target {self.target} has no board {self.board}, or several: see `raddle info`"
        return found[0]

    @pytest.fixture
    def make(self, kernel: Path | None) -> Iterator[Callable[..., Machine]]:
        try:
            registry().host_for()
        except (UsageError, PluginError) as error:
            pytest.skip(str(error))
        made: list[Machine] = []

        def machine(**options: Any) -> Machine:
            given = {"memory": self.memory, "kernel": kernel, **self.options, **options}
            made.append(Machine(f"{self.target}/{self.board}", **given))
            return made[-1]

        yield machine
        for one in made:
            self._in_time("close the machine", one.close)

    def _in_time(self, what: str, do: Callable[[], object]) -> None:
        """Call `do` on another thread, so that the test fails, and does not hang, if it never returns."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                do()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(self.limit_seconds)
        assert not thread.is_alive(), f"it takes more than {self.limit_seconds:g} s to {what}: something is stuck"
        if errors:
            raise errors[0]

    def test_declarations_agree(self, descriptor: Board) -> None:
        board = registry().load(descriptor)
        assert descriptor.name == board.NAME
        assert descriptor.target == self.target
        unknown = board.TAKES - BOOT_OPTIONS.keys()
        assert not unknown, f"TAKES has {sorted(unknown)}; it may have {', '.join(BOOT_OPTIONS)}"

    def test_regions_are_apart(self, make: Callable[..., Machine], descriptor: Board) -> None:
        """With the least and the greatest number of CPUs. A machine whose regions overlap cannot be made."""
        for cpus in {1, descriptor.max_cpus}:
            regions = sorted(make(cpus=cpus).memory.regions, key=lambda region: region.start)
            for one, other in pairwise(regions):
                assert one.start + one.size <= other.start, f"{one.name} and {other.name} overlap"
            assert regions, "the board has no memory"

    def test_a_reset_powers_a_cpu_on(self, make: Callable[..., Machine]) -> None:
        machine = make()
        machine.start(paused=True)
        for _ in range(2):
            on = [cpu.index for cpu in machine.cpus if cpu.info().get("state") != "off"]
            assert on, "after a reset no CPU is on: Board.reset must call power_on of at least one"
            machine.request_reset()
            deadline = time.monotonic() + self.limit_seconds
            while machine.state is not State.PAUSED and time.monotonic() < deadline:
                time.sleep(0.001)
            assert machine.state is State.PAUSED

    def test_another_machine_can_take_over_its_state(self, make: Callable[..., Machine]) -> None:
        """And the state has each part that the board itself knows."""
        machine, other = make(), make()
        for one in (machine, other):
            one.start(paused=True)
        machine.resume()
        time.sleep(self.run_seconds)
        self._in_time("pause the machine", machine.pause)
        board = machine.board
        saved = board.save()
        assert ast.literal_eval(repr(saved)) == saved, "the state is not plain data"
        other.board.restore(saved)
        assert other.board.save() == saved
        listed = {id(part) for name in board.state_names() for part in _parts(getattr(board, name))}
        forgotten = [name for name, value in vars(board).items() if any(id(one) not in listed for one in _parts(value))]
        assert not forgotten, f"{type(board).__name__}.STATE lacks {', '.join(forgotten)}"

    @pytest.mark.parametrize("mode", MODES)
    def test_it_can_be_paused_reset_and_ended(self, make: Callable[..., Machine], mode: str) -> None:
        """Above all while the guest sleeps with counted instructions, when time jumps from deadline to deadline."""
        machine = make(**MODES[mode])
        machine.start()
        for _ in range(2):
            time.sleep(self.run_seconds)
            assert machine.state is State.RUNNING, "the program has ended the machine: give one that runs or sleeps"
            self._in_time("pause the machine", machine.pause)
            self._in_time("resume the machine", machine.resume)
            self._in_time("ask for a reset", machine.request_reset)
        self._in_time("stop the machine", machine.stop)
        assert machine.wait(self.limit_seconds) == 0
