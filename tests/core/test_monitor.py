# SPDX-License-Identifier: Apache-2.0
"""The monitor: its commands on a pretended machine, its line editing, and Ctrl-A C on the terminal."""

from contextlib import nullcontext

import pytest

from raddle.cli.monitor import PROMPT, Monitor
from raddle.errors import UsageError
from raddle.machine.machine import State


class Cpu:
    def __init__(self, index):
        self.index = index

    def info(self):
        return {"thread": 100 + self.index, "state": "running"}


class Machine:
    def __init__(self):
        self.cpus = [Cpu(0), Cpu(1)]
        self.calls = []
        self.state = State.RUNNING

    def hold(self):
        return nullcontext()

    def stats(self):
        return {"blocks": 12, "waits": {"gil": 3}}

    def describe(self):
        return "r0 = 0"

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        if "fail" in self.calls:
            raise UsageError("a machine that is stopped cannot be resumed")
        self.calls.append("resume")

    def request_stop(self, *, at_once):
        self.calls.append("stop")

    def request_reset(self):
        self.calls.append("reset")


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def monitor(machine):
    shown = []
    left = []
    monitor = Monitor(machine, shown.append, lambda: left.append(True))
    monitor.shown, monitor.left = shown, left
    return monitor


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("info cpus", "CPU 0: thread 100, state running\nCPU 1: thread 101, state running"),
        ("  info   stats ", "blocks                          12\nwaits.gil                       3"),
        ("info registers", "r0 = 0"),
        ("info status", "machine running"),
        ("", ""),
        (
            "stp",
            "unknown monitor command 'stp'; did you mean stop? (known: info cpus, info status, "
            "info registers, info stats, stop, "
            "cont, system_reset, quit, help)",
        ),
        (
            "info",
            "unknown monitor command 'info'; did you mean info cpus? "
            "(known: info cpus, info status, info registers, info stats)",
        ),
        (
            "info cpu",
            "unknown monitor command 'info cpu'; did you mean info cpus? "
            "(known: info cpus, info status, info registers, info stats)",
        ),
    ],
)
def test_answers(monitor, line, answer):
    assert monitor.execute(line) == answer


@pytest.mark.parametrize(
    ("line", "call"), [("stop", "pause"), ("cont", "resume"), ("quit", "stop"), ("system_reset", "reset")]
)
def test_steering(monitor, machine, line, call):
    assert monitor.execute(line) == ""
    assert machine.calls == [call]


def test_help_lists_every_command(monitor):
    for word in ("info cpus", "info stats", "stop", "cont", "quit", "help"):
        assert f"\n{word} " in "\n" + monitor.execute("help")


def test_errors_are_answers(monitor, machine):
    machine.calls.append("fail")
    assert monitor.execute("cont") == "a machine that is stopped cannot be resumed"


def test_a_defect_leaves_the_monitor_alive(monitor, machine):
    machine.describe = lambda: {}["r15"]
    monitor.feed(b"info registers\r")
    assert "".join(monitor.shown).endswith(f"internal error: KeyError: 'r15'\n{PROMPT}")


def test_lines_are_edited(monitor, machine):
    monitor.open()
    monitor.feed(b"stox\x7f")
    monitor.feed(b"p\r")
    assert machine.calls == ["pause"]
    assert "".join(monitor.shown).endswith(f"{PROMPT}stox\b \bp\n{PROMPT}")
    monitor.feed(b"quit\x15\r")
    assert machine.calls == ["pause"]
    monitor.feed(b"\xff\x1b\n" + b"x" * 5000 + b"\n")


def test_control_d_leaves_an_empty_line_alone(monitor):
    monitor.feed(b"x\x04")
    assert monitor.left == []
    monitor.feed(b"\x7f\x04")
    assert monitor.left == [True]
