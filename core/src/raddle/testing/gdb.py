# SPDX-License-Identifier: Apache-2.0
"""Emulators with a GDB port, such as QEMU, as references for `raddle.testing.differential`.

The protocol is GDB's remote serial protocol (GDB manual, appendix E). Only the part for stepping, registers and memory
is implemented.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from raddle.errors import MachineError, UsageError
from raddle.testing.differential import Case, Outcome

__all__ = ["Ended", "GdbPort", "GdbReference", "Qemu"]

PIECE: Final = 1024
"""The most bytes of memory in one packet."""
CONNECTING: Final = 200
"""How often to try to connect to a new emulator's socket, every 50 ms."""


class Ended(Exception):
    """The emulator has ended, or its machine was powered off."""

    def __init__(self, message: str = "the emulator has ended, or its machine was powered off") -> None:
        super().__init__(message)


class GdbPort:
    """A client of an emulator's GDB port. Registers have the names of its target description. Not thread-safe."""

    def __init__(self, path: Path, features: str = "") -> None:
        """Connect to a Unix socket. ``features`` are sent with qSupported. Raises MachineError."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = b""
        try:
            self._connect(path)
            self.ask(f"qSupported{features and ':'}{features}")
            self._socket.sendall(b"+")
            self.ask("QStartNoAckMode")
            self._socket.sendall(b"+")
            self._numbers = self._register_numbers()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> GdbPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- running

    def step(self) -> None:
        """Execute one instruction, or enter one exception. Raises Ended."""
        if self.ask("s")[:1] in (b"W", b"X"):
            raise Ended

    def run_to(self, pc: int, kind: int = 2) -> None:
        """Run to an instruction's address, with a breakpoint of GDB's ``kind`` there. Raises Ended."""
        self.ask(f"Z0,{pc:x},{kind}")
        if self.ask("c")[:1] in (b"W", b"X"):
            raise Ended
        self.ask(f"z0,{pc:x},{kind}")

    # -- state

    @property
    def names(self) -> Iterable[str]:
        """The names of all registers."""
        return self._numbers.keys()

    def read(self, name: str) -> int:
        """The value of a register."""
        return int.from_bytes(bytes.fromhex(self.ask(f"p{self._number(name):x}").decode()), "little")

    def write(self, name: str, value: int) -> None:
        """Write a register. Raises UsageError if it cannot be written."""
        size = self._sizes[name] // 8
        if self.ask(f"P{self._number(name):x}={value.to_bytes(size, 'little').hex()}") != b"OK":
            raise UsageError(f"the emulator does not let register {name} be changed")

    def read_memory(self, address: int, size: int) -> bytes:
        """Read virtual memory. The result ends early where memory is not mapped."""
        data = b""
        while len(data) < size:
            answer = self.ask(f"m{address + len(data):x},{min(size - len(data), PIECE):x}")
            if not answer or answer.startswith(b"E"):
                break
            data += bytes.fromhex(answer.decode())
        return data

    def write_memory(self, address: int, data: bytes) -> None:
        """Write virtual memory. Raises UsageError where it is not mapped."""
        for offset in range(0, len(data), PIECE):
            piece = data[offset : offset + PIECE]
            if self.ask(f"M{address + offset:x},{len(piece):x}:{piece.hex()}") != b"OK":
                raise UsageError(f"the emulator has no memory at {address + offset:#x}")

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            raise UsageError(f"the emulator has no register {name!r} (it has: {', '.join(self._numbers)})")
        return self._numbers[name]

    # -- the protocol

    def ask(self, command: str) -> bytes:
        """Send one packet and return the answer. Raises Ended if the emulator has ended."""
        text = command.encode()
        try:
            self._socket.sendall(b"$%s#%02x" % (text, sum(text) & 0xFF))
            while (packet := re.search(rb"\$([^#]*)#..", self._received, re.DOTALL)) is None:
                more = self._socket.recv(1 << 16)
                if not more:
                    raise Ended
                self._received += more
        except ConnectionError:
            raise Ended from None
        self._received = self._received[packet.end() :]
        return packet[1]

    def _runs(self) -> bool:
        """Whether the emulator may still open its socket."""
        return True

    def _connect(self, path: Path) -> None:
        for _ in range(CONNECTING):
            with contextlib.suppress(OSError):
                self._socket.connect(str(path))
                self._socket.settimeout(60)
                return
            if not self._runs():
                raise Ended
            time.sleep(0.05)
        raise MachineError(f"the emulator does not open its GDB socket {path}")

    def _register_numbers(self) -> dict[str, int]:
        """The numbers of all registers in the target description. A register without a number has the one after the
        register before it. If two have the same name, the wider one counts."""
        numbers: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        number = 0
        top = self._description("target.xml")
        for part in (top, *map(self._description, re.findall(r'href="([^"]+)"', top))):
            for text in re.findall(r"<reg [^>]*>", part):
                given = dict(re.findall(r'(\w+)="([^"]*)"', text))
                number = int(given.get("regnum", number))
                name, size = given["name"], int(given["bitsize"])
                if size >= self._sizes.get(name, 0):
                    numbers[name], self._sizes[name] = number, size
                number += 1
        return numbers

    def _description(self, name: str) -> str:
        text = b""
        while True:
            answer = self.ask(f"qXfer:features:read:{name}:{len(text):x},ff0")
            text += re.sub(rb"}(.)", lambda match: bytes([match[1][0] ^ 0x20]), answer[1:], flags=re.DOTALL)
            if answer[:1] != b"m":  # the last piece, or there is no description
                return text.decode()


class Qemu(GdbPort):
    """A QEMU with one CPU, which is stopped before its first instruction, and its GDB port."""

    def __init__(self, command: Sequence[str], directory: Path, features: str = "") -> None:
        """``command`` is the program with its options, except those for display, serial ports and GDB. The socket is
        made in ``directory``. Raises UsageError if the program is not installed or refuses its options."""
        if shutil.which(command[0]) is None:
            raise UsageError(f"comparing with QEMU needs {command[0]}, which is not installed")
        path = directory / "gdb"
        with (directory / "errors").open("w+", errors="replace") as errors:
            self._process = subprocess.Popen(
                [*command, "-display", "none", "-nic", "none", "-serial", "null", "-monitor", "none", "-no-reboot"]
                + ["-S", "-chardev", f"socket,id=gdb,path={path},server=on,wait=off", "-gdb", "chardev:gdb"],
                stderr=errors,
            )
            try:
                super().__init__(path, features)
            except Ended:
                self._end()
                errors.seek(0)
                said = " ".join(errors.read().split()) or "it says nothing"
                raise UsageError(f"{shlex.join(command)} ends before its first instruction: {said}") from None
            except BaseException:
                self._end()
                raise

    def _runs(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


class GdbReference:
    """Runs cases with QEMU, in its machine's RAM, from the state that its CPU has after reset. Not thread-safe. Must be
    closed.
    """

    def __init__(
        self,
        command: Sequence[str],
        registers: Mapping[str, str],
        *,
        vectors: Mapping[int, str] | None = None,
        features: str = "",
    ) -> None:
        """``command``: see `Qemu`. ``registers`` has the emulator's name for each register, including "pc". ``vectors``
        maps the addresses of exception vectors to events: QEMU enters an exception as a step of its own."""
        self._registers = dict(registers)
        self._vectors = dict(vectors or {})
        self._directory = tempfile.TemporaryDirectory()
        try:
            self.port = Qemu(command, Path(self._directory.name), features)
        except BaseException:
            self._directory.cleanup()
            raise
        self._reset = {name: self.port.read(theirs) for name, theirs in self._registers.items()}

    def close(self) -> None:
        self.port.close()
        self._directory.cleanup()

    def __enter__(self) -> GdbReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, case: Case) -> Outcome:
        for address, data in case.memory.items():
            self.port.write_memory(address, bytes(data))
        self.port.write_memory(case.pc, bytes(case.code))
        for name, value in (self._reset | dict(case.registers) | {"pc": case.pc}).items():
            self.port.write(self._registers[name], value)
        event = ""
        for _ in range(case.steps):
            self.port.step()
            event = self._vectors.get(self.port.read(self._registers["pc"]), "")
            if event:
                break
        registers = {name: self.port.read(theirs) for name, theirs in self._registers.items()}
        memory = {address: self.port.read_memory(address, len(data)) for address, data in case.memory.items()}
        return Outcome(event, registers, memory)
