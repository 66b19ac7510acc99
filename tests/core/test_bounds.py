# SPDX-License-Identifier: Apache-2.0
"""What grows with what a guest does has a bound: each is taken past it several times. docs/memory.md lists all."""

from __future__ import annotations

import io
import itertools
import socket
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("raddle_target_arm")

from raddle import Machine
from raddle.debug import log
from raddle.debug.probes import ExceptionTaken
from raddle.machine import chardev
from raddle.machine.chardev import KEPT, MemoryConsole
from raddle.machine.peers import OUTPUT_LIMIT
from raddle.machine.streams import parse_chardev
from raddle_target_arm import psci

GUESTS = Path(__file__).resolve().parents[1] / "guests/arm/prebuilt"
LIMIT = 240.0


def until(condition: Any) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- consoles for programs


@pytest.mark.parametrize("piece", [b"0123456789abcdef\n" * 512, b"x"])
def test_a_guest_that_prints_for_ever(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chardev, "KEPT", KEPT // 128)
    monkeypatch.setattr(chardev, "PIECES", chardev.PIECES // 128)
    kept, console = KEPT // 128, MemoryConsole()
    tracemalloc.start()
    try:
        for _ in range(10 * kept // len(piece)):
            console.write(piece)
        console.write(b"\nthe end")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 16 * kept + 2 * len(piece)
    assert len(console.text) == kept
    assert console.text.endswith("\nthe end")
    assert console.expect("the (end)", timeout=0)[1] == "end"
    assert console.read() == ""
    console.write(b"more")
    assert console.read() == "more"
    assert console.text.endswith("\nthe endmore")


def test_a_character_in_pieces_is_one() -> None:
    console = MemoryConsole()
    for byte in "é".encode() * 3:
        console.write(bytes([byte]))
    assert console.text == console.read() == "ééé"


# --- logs


def test_a_log_of_ever_new_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_SEEN", 20)
    stream = io.StringIO()
    sizes: list[int] = []
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        engine: Any = machine.engine
        one = log.Log(engine, engine.observer.hooks, ["op"], stream)
        engine.observer.hooks.add_translation(lambda trace: sizes.append(len(one._seen)))
        machine.start()
        assert machine.wait(LIMIT) == 0
    assert max(sizes) <= 20
    assert sum(later < earlier for earlier, later in itertools.pairwise(sizes)) > 3, "it was full several times"
    assert stream.getvalue().count("op: ") > 100


def test_a_log_of_undefined_instructions_at_ever_new_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PLACES", 20)
    stream = io.StringIO()
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        engine: Any = machine.engine
        one: Any = log.Log(engine, engine.observer.hooks, ["unimp"], stream)
        for pc in range(0, 400, 4):
            one._unimplemented(machine.cpus[0], ExceptionTaken("undefined", pc, 4))
    assert len(one._places) == 20
    assert stream.getvalue().count("\n") == 20


# --- what waits for a vCPU


class Held:
    """A vCPU that comes to none of its work until `go`."""

    def __init__(self, cpu: Any) -> None:
        self._go, held = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            self._go.wait(LIMIT)

        cpu.async_run_on_cpu(hold)
        assert held.wait(LIMIT)

    def go(self) -> None:
        self._go.set()


def test_who_asks_where_a_vcpu_is_that_does_not_answer() -> None:
    with Machine(cpus=2, kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        machine.console.expect("ready", timeout=LIMIT)
        cpu: Any = machine.cpus[1]
        held = Held(cpu)
        for _ in range(20):
            cpu.info()
        assert len(cpu._work) == 1
        held.go()
        until(lambda: not cpu._work)
        assert cpu.info()["state"] == "running"


def test_a_cpu_that_is_turned_on_again_and_again() -> None:
    with Machine(cpus=2, kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        machine.console.expect("ready", timeout=LIMIT)
        board: Any = machine.board
        cpu: Any = machine.cpus[1]
        held = Held(cpu)
        with machine.engine.big_lock:
            board.cpu_off(1)
            answers = [psci._cpu_on(board, machine.cpus[0], 1, 0x4000_0000, 0) for _ in range(1000)]
        assert answers == [psci.SUCCESS] + [psci.ALREADY_ON] * 999
        assert len(cpu._work) == 2
        held.go()


def test_a_reset_that_all_ask_for_is_one() -> None:
    def resetting() -> int:
        return sum(thread.name == "raddle-reset" for thread in threading.enumerate())

    with Machine(cpus=2, kernel=GUESTS / "endless-loop.elf") as machine:
        for _ in range(3):
            if machine.state.value == "ready":
                machine.start()
            machine.console.expect("ready", timeout=LIMIT)
            held = Held(machine.cpus[1])
            for _ in range(100):
                machine.request_reset()
            assert resetting() == 1
            held.go()
        machine.console.expect("ready", timeout=LIMIT)  # the third one's, too
        until(lambda: not resetting())


# --- peers


def test_output_that_a_peer_does_not_read(tmp_path: Path) -> None:
    where = tmp_path / "socket"
    device: Any = parse_chardev(f"unix:{where},server=on,wait=off")
    piece = b"x" * 65535 + b"\n"
    try:
        device.start()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(where))
            until(lambda: device._peer is not None)
            for _ in range(5 * OUTPUT_LIMIT // len(piece)):
                device.write(piece)
                assert len(device._output) <= OUTPUT_LIMIT
            assert len(device._output) > OUTPUT_LIMIT - len(piece)
            device.write(b"the end")
            received = b""
            while not received.endswith(b"the end"):
                received = received[-10:] + peer.recv(1 << 20)
    finally:
        device.close()
