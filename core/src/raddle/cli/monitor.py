# SPDX-License-Identifier: Apache-2.0
"""The monitor: a few commands that show and control a machine, typed after Ctrl-A C or on a character device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Protocol

from raddle.errors import RaddleError, unknown

__all__ = ["Monitor", "MonitoredCpu", "MonitoredMachine", "show", "show_stats"]

PROMPT: Final = "(raddle) "
LINE_LIMIT: Final = 1000

BACKSPACE, DELETE, CTRL_C, CTRL_D, CTRL_U = 0x08, 0x7F, 0x03, 0x04, 0x15


class MonitoredCpu(Protocol):
    index: int

    def info(self) -> Mapping[str, object]: ...


class MonitoredMachine(Protocol):
    """What the monitor needs of a machine."""

    @property
    def state(self) -> Enum: ...

    @property
    def cpus(self) -> Sequence[MonitoredCpu]: ...

    def hold(self) -> AbstractContextManager[object]: ...

    def stats(self) -> Mapping[str, object]: ...

    def describe(self) -> str: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def request_stop(self, *, at_once: bool = False) -> None: ...

    def request_reset(self) -> None: ...


class Monitor:
    """Edits and executes command lines. Not thread-safe: only the thread that reads the user's input may call it."""

    def __init__(self, machine: MonitoredMachine, write: Callable[[str], None], leave: Callable[[], None]) -> None:
        """`write` shows text, whose lines end in "\\n"; `leave` is called for Ctrl-D on an empty line."""
        self._machine = machine
        self._write = write
        self._leave = leave
        self._line = bytearray()

    def open(self) -> None:
        """Show the prompt."""
        self._line.clear()
        self._write(f"\nRaddle monitor, `help` lists its commands\n{PROMPT}")

    def feed(self, data: bytes) -> None:
        """Take what was typed on a terminal that does not echo."""
        for byte in data:
            if byte in b"\r\n":
                self._write("\n")
                line = self._line.decode(errors="replace")
                self._line.clear()
                answer = self.execute(line)
                self._write(f"{answer}\n{PROMPT}" if answer else PROMPT)
            elif byte in (BACKSPACE, DELETE):
                if self._line:
                    del self._line[-1]
                    self._write("\b \b")
            elif byte in (CTRL_C, CTRL_U):
                self._line.clear()
                self._write(f"\n{PROMPT}")
            elif byte == CTRL_D:
                if not self._line:
                    self._leave()
            elif 0x20 <= byte < 0x7F and len(self._line) < LINE_LIMIT:
                self._line.append(byte)
                self._write(chr(byte))

    def execute(self, line: str) -> str:
        """Execute one line. Returns the answer, which may be an error's message."""
        words = line.split()
        if not words:
            return ""
        try:
            given = " ".join(words)
            if given in COMMANDS:
                return COMMANDS[given].function(self._machine)
            family = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
            raise unknown("monitor command", given, family or COMMANDS)
        except RaddleError as error:
            return str(error)
        except Exception as error:  # the monitor must survive a defect, because it helps to find it
            return f"internal error: {type(error).__name__}: {error}"


# --- commands ---------------------------------------------------------------------------------------------------


class Command:
    """A command's function, and a line of help."""

    def __init__(self, function: Callable[[MonitoredMachine], str], meaning: str) -> None:
        self.function = function
        self.meaning = meaning


def _help(_: MonitoredMachine) -> str:
    return "\n".join(f"{name:<16}{command.meaning}" for name, command in COMMANDS.items())


def _info_cpus(machine: MonitoredMachine) -> str:
    with machine.hold():
        infos = {cpu.index: cpu.info() for cpu in machine.cpus}
    if all("pc" in info for info in infos.values()):
        from raddle.debug import report

        return report.cpus(infos.values())
    return "\n".join(f"CPU {index}: {_pairs(info)}" for index, info in infos.items())


def _info_status(machine: MonitoredMachine) -> str:
    return f"machine {machine.state.value}"


def _info_registers(machine: MonitoredMachine) -> str:
    return machine.describe()


def _info_stats(machine: MonitoredMachine) -> str:
    return show_stats(machine.stats())


def _stop(machine: MonitoredMachine) -> str:
    machine.pause()
    return ""


def _continue(machine: MonitoredMachine) -> str:
    machine.resume()
    return ""


def _reset(machine: MonitoredMachine) -> str:
    machine.request_reset()
    return ""


def _quit(machine: MonitoredMachine) -> str:
    machine.request_stop(at_once=True)
    return ""


def _pairs(values: Mapping[str, object]) -> str:
    """What is known of a CPU in one line, without its number."""
    shown = {name: f"{value:#x}" if name == "pc" else value for name, value in values.items() if name != "index"}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def show_stats(values: Mapping[str, object]) -> str:
    """An engine's counters as a report. If another kind of engine counts other things, as a list."""
    if "threads" not in values:
        return show(values)
    from raddle.debug import report  # late: most runs show none

    return report.report(values)


def show(values: Mapping[str, object], prefix: str = "") -> str:
    """Counters, one per line. A group's name stands before the names of its counters."""
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines.append(show(value, f"{prefix}{name}."))
        elif isinstance(value, list):
            lines += [show(one, f"{prefix}{name}.{index}.") for index, one in enumerate(value)]
        else:
            lines.append(f"{prefix + name:<32}{value}")
    return "\n".join(lines)


COMMANDS: Final = {
    "info cpus": Command(_info_cpus, "thread, state and counters of each vCPU"),
    "info status": Command(_info_status, "whether the machine runs"),
    "info registers": Command(_info_registers, "registers of each CPU; exact after `stop`"),
    "info stats": Command(_info_stats, "counters of the machine"),
    "stop": Command(_stop, "stop all CPUs and the clock"),
    "cont": Command(_continue, "go on after `stop`, or start a machine that was given -S"),
    "system_reset": Command(_reset, "reset the machine"),
    "quit": Command(_quit, "end the machine"),
    "help": Command(_help, "this list"),
}
