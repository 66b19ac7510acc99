# SPDX-License-Identifier: Apache-2.0
"""What a guest sends is held by native code for a while, and must come out as if it were not."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine
from raddle.devices import held_output
from raddle.errors import MachineError
from raddle.machine.chardev import CharDevice
from raddle.machine.machine import State

DR, FR, CR, RIS, ICR = 0x00, 0x18, 0x30, 0x3C, 0x44
RECEIVE_FULL = 0x40
LOOPBACK, ENABLED, TRANSMIT = 0x381, 0x301, 0x20
KERNEL = 0x4001_0000
"""Where a raw image is entered."""

MODES = (
    pytest.param({"accelerator": "tcg,thread=multi"}, id="multi"),
    pytest.param({"accelerator": "tcg,thread=single"}, id="single"),
    pytest.param({"icount": "shift=auto"}, id="icount"),
)

Guest = Callable[..., AbstractContextManager[Machine]]


def store(offset: int, value: int) -> list[int]:
    """movw r1, #value; str r1, [r0, #offset]"""
    return [0xE300_1000 | value >> 12 << 16 | value & 0xFFF, 0xE580_1000 | offset]


def send(text: str) -> list[int]:
    return [word for character in text for word in store(DR, ord(character))]


WATCHED = 0x4200_0000
STORE_TO_WATCHED = [0xE3A0_2442, 0xE582_1000]
"""mov r2, #WATCHED; str r1, [r2]"""
READ_RIS = [0xE590_2000 | RIS]
"""ldr r2, [r0, #RIS]"""


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Runs a program, with the UART's address in r0, until it has come to the endless loop that follows it; one that
    pauses itself is not waited for.
    """

    @contextmanager
    def started(
        program: list[int], pauses: Callable[[Machine], None] | None = None, **options: Any
    ) -> Iterator[Machine]:
        words = [0xE3A0_0409, *program, 0xEAFF_FFFE]
        path = tmp_path / "image"
        path.write_bytes(struct.pack(f"<{len(words)}I", *words))
        with Machine("virt", memory="64M", kernel=path, **options) as machine:
            end = KERNEL + 4 * (len(words) - 1)
            looping = threading.Event()
            machine.hook("block", lambda *_: looping.set(), end, end + 4)
            machine.profile()
            if pauses is not None:
                pauses(machine)
            machine.start()
            assert pauses is not None or looping.wait(240)
            yield machine

    return started


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is held until something else brings it out."""
    monkeypatch.setattr(held_output, "HOLD_NS", 1 << 50)


@pytest.mark.parametrize("mode", MODES)
def test_the_end_of_a_line_is_not_waited_for(guest: Guest, mode: dict[str, str]) -> None:
    with guest(send("one\ntwo"), **mode) as machine:
        machine.console.expect("^one\ntwo$", timeout=240)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("for_ever")
def test_a_pause_brings_out_what_is_held(guest: Guest, mode: dict[str, str]) -> None:
    with guest(send("abc"), **mode) as machine:
        assert machine.console.text == "a", "the control: the rest is held"
        machine.pause()
        assert machine.console.text == "abc"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("for_ever")
def test_a_pause_in_the_middle_of_a_block(guest: Guest, mode: dict[str, str]) -> None:
    """The block goes on to its end, and what it sends then is out when the machine is paused."""
    seen = []

    def pause(machine: Machine) -> None:
        def hook(*_: object) -> None:
            machine.pause()
            seen.append(machine.console.text)

        machine.add_memory_hook(hook, WATCHED, WATCHED + 4)

    with guest([*send("ab"), *STORE_TO_WATCHED, *send("cd")], pause, **mode) as machine:
        deadline = time.monotonic() + 240
        while machine.state is not State.PAUSED and time.monotonic() < deadline:
            time.sleep(0.001)
        assert (seen, machine.console.text) == (["a"], "abcd")
        machine.resume()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("for_ever")
def test_the_end_brings_out_what_is_held(guest: Guest, mode: dict[str, str]) -> None:
    with guest(send("abc"), **mode) as machine:
        console = machine.console
        console.expect("^a$", timeout=240)
    assert console.text == "abc"


@pytest.mark.usefixtures("for_ever")
def test_a_line_takes_python_twice(guest: Guest) -> None:
    with guest(send("x" * 100 + "\n" + "y" * 100 + "\n")) as machine:
        assert machine.console.text == "x" * 100 + "\n" + "y" * 100 + "\n"
        assert [sum(path["calls"]) for path in machine.stats()["paths"] if path["name"] == "pl011"] == [3]


@pytest.mark.usefixtures("for_ever")
def test_more_than_there_is_room_for(guest: Guest) -> None:
    with guest(send("z" * 10_000)) as machine:
        sent = len(machine.console.text)
        assert 10_000 - held_output.HELD_SIZE <= sent < 10_000
        machine.pause()
        assert machine.console.text == "z" * 10_000


@pytest.mark.usefixtures("for_ever")
def test_loopback_is_not_sent(guest: Guest) -> None:
    with guest([*send("ab"), *store(CR, LOOPBACK), *send("cd"), *store(CR, ENABLED), *send("e\n")]) as machine:
        assert machine.console.text == "abe\n"


@pytest.mark.usefixtures("for_ever")
def test_sending_raises_the_transmit_interrupt_again(guest: Guest) -> None:
    with guest([*send("ab"), *store(ICR, TRANSMIT), *send("c"), *READ_RIS]) as machine:
        machine.pause()
        assert machine.console.text == "abc"
        assert machine.cpus[0].regs.r2 == TRANSMIT


def test_what_waits_for_room_comes_after_a_reset(guest: Guest) -> None:
    with guest([]) as machine:
        machine.console.send("abc")
        machine.pause()
        with machine.engine.big_lock:
            uart = machine.board.uart  # type: ignore[attr-defined]
            assert uart.read(FR, 4) & RECEIVE_FULL
            uart.reset()
            assert [uart.read(DR, 1) for _ in range(3)] == [ord("b"), ord("c"), 0], "one was in the UART"


class Full(CharDevice):
    """Has room for one piece of output."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self.pieces:
            raise MachineError("no room")
        self.pieces.append(data)


@pytest.mark.parametrize("end", ["request_reset", "pause", "stop"])
@pytest.mark.usefixtures("for_ever")
def test_what_is_held_cannot_be_written(guest: Guest, end: str) -> None:
    console = Full()

    def run() -> None:
        with guest(send("abc"), serial=console) as machine:
            getattr(machine, end)()
            machine.wait(240)

    with pytest.raises(MachineError, match="no room"):
        run()
    assert console.pieces == [b"a"]


# --- readers that read nothing ----------------------------------------------------------------------------------

FOR_EVER = [*store(DR, ord("\n")), 0xEAFF_FFFD]
"""Sends line ends without end: str; b to it"""


@contextmanager
def stalled(tmp_path: Path, **options: Any) -> Iterator[tuple[Machine, int]]:
    """A machine that sends into a pipe, until that is full; and the pipe's other end."""
    path = tmp_path / "image"
    path.write_bytes(struct.pack(f"<{1 + len(FOR_EVER)}I", 0xE3A0_0409, *FOR_EVER))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    size = fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with Machine("virt", memory="64M", kernel=path, serial=f"file:{pipe}", **options) as machine:
            machine.start()
            there = array("i", [0])
            while there[0] < size:
                time.sleep(0.002)
                fcntl.ioctl(reader, termios.FIONREAD, there)
            yield machine, reader
    finally:
        os.close(reader)


@pytest.mark.parametrize("mode", MODES)
def test_the_end_waits_for_who_reads_unless_it_is_to_come_at_once(tmp_path: Path, mode: dict[str, str]) -> None:
    with stalled(tmp_path, **mode) as (machine, reader):
        machine.request_stop()
        with pytest.raises(TimeoutError):
            machine.wait(0.1)
        machine.request_stop(3, at_once=True)
        assert machine.wait(240) == 3
        assert set(os.read(reader, 4096)) == {ord("\n")}


def test_an_interrupt_waits_for_nobody(tmp_path: Path) -> None:
    def run() -> None:
        with pytest.raises(KeyboardInterrupt), stalled(tmp_path):
            raise KeyboardInterrupt

    running = threading.Thread(target=run, daemon=True)
    running.start()
    running.join(240)
    assert not running.is_alive()
