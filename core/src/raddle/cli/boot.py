# SPDX-License-Identifier: Apache-2.0
"""`raddle boot`: build a machine from QEMU-style options, run it on the terminal, and report how it ended."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO

from raddle import workers
from raddle.cli.drives import LoaderDevice
from raddle.cli.monitor import Monitor, show_stats
from raddle.cli.options import BootOptions, configure, parse
from raddle.errors import MachineError, OutputError, UsageError
from raddle.machine.chardev import CharDevice
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.machine import Machine
from raddle.machine.streams import ESCAPE_HELP, Command, StdioDevice, parse_chardev
from raddle.machine.terminal import give_back
from raddle.notices import notice, warn

__all__ = ["configure", "flash_banks", "main"]

TERMINATED: Final = 128
"""Plus the signal's number: exit status of a program that a signal has ended."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DEADLY: Final = (signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGXCPU)
"""Others that end a process unless it handles them, and that somebody may send."""

IMPATIENT: Final = 3.0
"""Seconds after the first signal: one that comes later ends the process though the machine has not ended."""

ABANDONED: Final = 10.0
"""Seconds after the first signal: a machine that has not ended then never will, since a vCPU's thread or a callback is
stuck. The process ends without it."""

FLASH_UNITS: Final = 64
"""No board has more flash banks; how many it has it says itself."""

MONITOR_PIECE: Final = 4096
"""Bytes that a monitor takes at a time; more are never waiting."""

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to the log fails with; of other files that are written to, the error says which one it is."""

INSIDE: Final = frozenset({"accel", "guest_errors", "stats"})
"""Log items that need nothing of the engine."""


def main(words: Sequence[str]) -> int:
    """Boot the machine that the command line describes; returns the exit status."""
    options = parse(words)
    if isinstance(options, str):
        print(options, end="")
        return 0
    try:
        with (
            _Signals(options.pid_file) as signals,
            _pid_file(options.pid_file),
            _log(options.log_file) as log,
            _guest_errors("guest_errors" in options.log, log),
            _devices(options) as (serial, monitor_device),
        ):
            machine = _build(options, serial, log)
            return _run(machine, options, serial, monitor_device, log, signals)
    except _Terminated as request:
        return TERMINATED + request.number


def _build(options: BootOptions, serial: list[CharDevice], log: TextIO) -> Machine:
    machine = Machine(
        options.machine,
        target=options.target,
        properties=options.properties,
        cpus=options.cpus,
        memory=options.memory,
        cpu=options.cpu,
        kernel=options.kernel,
        initrd=options.initrd,
        append=options.append,
        dtb=options.dtb,
        bios=options.bios,
        pflash=flash_banks(options),
        load=[_load(device) for device in options.loads],
        serial=serial,
        accelerator=options.accelerator,
        icount=options.icount,
        rtc=options.rtc,
        reboot=options.reboot,
    )
    for warning in (*machine.accel.warnings, *getattr(machine.engine, "warnings", ())):
        warn(warning)
    if "accel" in options.log:
        print(f"accel: {machine.accel.mode.value}: {'; '.join(machine.accel.reasons)}", file=log)
        print(f"accel: {getattr(machine.engine, 'code_memory', 'another engine')}", file=log)
    if "stats" in options.log:
        machine.profile()
    items = tuple(item for item in options.log if item not in INSIDE)
    if items:
        machine.log(items, log, options.log_within)
    return machine


def flash_banks(options: BootOptions) -> list[FlashFile | None]:
    """A file, or none, for each flash bank up to the last that has one."""
    given: dict[int, FlashFile] = {}
    for drive in options.flash:
        unit = next(n for n in count() if n not in given) if drive.unit is None else drive.unit
        if unit in given:
            raise UsageError(
                f"flash bank {unit} has two files: {given[unit].path} and {drive.file}; give one another unit="
            )
        if unit >= FLASH_UNITS:
            raise UsageError(
                f"there is no flash bank {unit}; units begin with unit=0, and no board has more than {FLASH_UNITS}"
            )
        given[unit] = FlashFile(drive.file, drive.readonly, drive.snapshot or options.snapshot)
    return [given.get(unit) for unit in range(max(given, default=-1) + 1)]


def _load(device: LoaderDevice) -> Load:
    what = device.what if isinstance(device.what, bytes) else Path(device.what)
    return Load(what, device.address, device.raw)


def _run(
    machine: Machine,
    options: BootOptions,
    serial: list[CharDevice],
    monitor_device: CharDevice | None,
    log: TextIO,
    signals: _Signals,
) -> int:
    for device in serial:
        if isinstance(device, StdioDevice):
            _share(machine, device)
    if monitor_device is not None:
        _dedicate(machine, monitor_device)
    started = False
    try:
        signals.check()
        for device in (*serial, *((monitor_device,) if monitor_device else ())):
            device.wait_for_peer()
        signals.machine = machine
        signals.check()
        if monitor_device is not None:
            monitor_device.start()
        machine.start(paused=options.paused)
        started = True
        status = _wait(machine)
    except MachineError as error:
        if not started or isinstance(error, OutputError):  # the guest has nothing to do with it
            raise
        with contextlib.suppress(OSError, ImportError, MemoryError):  # the fault is what is to be told
            print(_fault_report(machine, error), file=sys.stderr)
        raise
    finally:
        machine.stop()
        if "stats" in options.log:
            print(show_stats(machine.stats()), file=log)
        machine.close()
    return TERMINATED + signals.received[0] if signals.received else status


def _wait(machine: Machine) -> int:
    """Wait for the end, in pieces: signal handlers run between them."""
    while True:
        with contextlib.suppress(TimeoutError):
            return machine.wait(1.0)


class _Terminated(BaseException):
    """A signal asks for the end, and there is no machine yet that could be stopped."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Signals:
    """What signals do, until all is closed and the terminal is given back.

    SIGINT, SIGTERM and SIGHUP stop the machine in order; while there is none, the first one raises _Terminated. More
    of them do nothing: a storm of them must leave nothing half closed. But one that comes IMPATIENT seconds later ends
    the process, as the DEADLY ones do, with nothing but the terminal given back. A machine that has not ended after
    ABANDONED seconds is told of and left. Signals that are ignored stay so: nohup, a script's `&`.
    """

    def __init__(self, pid_file: str | None = None) -> None:
        self.machine: Machine | None = None
        self.received: list[int] = []
        self._pid_file = pid_file
        self._over: Final = workers.Latch()
        """All is closed."""
        self._watcher: workers.Thread | None = None
        self._first = 0.0
        self._old: dict[int, Any] = {}
        if threading.current_thread() is not threading.main_thread():  # Python handles signals there alone
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._handle)
        for number in DEADLY:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._old[number] = signal.signal(number, self._die)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) == 1:
            self._first = time.monotonic()
        elif time.monotonic() - self._first > IMPATIENT:
            self._die(number, frame)
        if self.machine is not None:
            if len(self.received) == 1:
                self._watch(self.machine)
            self.machine.request_stop(at_once=True)
        elif len(self.received) == 1:
            raise _Terminated(number)

    def _watch(self, machine: Machine) -> None:
        """Have a thread see to the end, which whatever is stuck cannot hold up."""
        with contextlib.suppress(MachineError):  # no thread is to be had: another signal ends the process
            watcher = workers.Thread(self._abandon, "raddle-end", (machine,))
            watcher.start_to("ends the process")
            self._watcher = watcher

    def _abandon(self, machine: Machine) -> None:
        """End the process if the machine does not end: nothing that is stuck is waited for, and nothing is freed."""
        if self._over.wait(ABANDONED):
            return
        places = "; ".join(getattr(machine.engine, "unanswered", list)()) or "what it waits for does not come"
        notice(f"the machine has not ended {ABANDONED:g} seconds after the signal, and is left: {places}")
        give_back()
        if self._pid_file is not None:
            with contextlib.suppress(OSError):
                Path(self._pid_file).unlink()
        os._exit(TERMINATED + self.received[0])

    def _die(self, number: int, _: FrameType | None) -> None:
        give_back()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def check(self) -> None:
        """Raise what the handler has, should it have come where Python lets no exception out."""
        if self.received:
            raise _Terminated(self.received[0])

    def __enter__(self) -> _Signals:
        return self

    def __exit__(self, *_: object) -> None:
        """Let them do what they did before."""
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
        while self._old:
            signal.signal(*self._old.popitem())


def _fault_report(machine: Machine, error: MachineError) -> str:
    """What a user wants to know first about a guest that was stopped by a fault: where, the registers, what to try."""
    where = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    return f"{where}{machine.describe()}\nFor a trace: add -d int,exec -D FILE"


# --- monitor ----------------------------------------------------------------------------------------------------


def _share(machine: Machine, device: StdioDevice) -> None:
    """Put a monitor beside the guest's console on the terminal: Ctrl-A C turns to the other one."""

    def write(text: str) -> None:
        device.write(text.encode())

    def turn() -> None:
        if device.divert is None:
            device.divert = monitor.feed
            monitor.open()
        else:
            device.divert = None
            write("\n")

    def on_command(command: Command) -> None:
        match command:
            case Command.QUIT:
                machine.request_stop(at_once=True)
            case Command.MONITOR:
                turn()
            case Command.HELP:
                write(ESCAPE_HELP)

    monitor = Monitor(machine, write, leave=turn)
    device.on_command = on_command


def _dedicate(machine: Machine, device: CharDevice) -> None:
    """Give a monitor a character device of its own."""

    def write(text: str) -> None:
        device.write(text.replace("\n", "\r\n").encode())

    monitor = Monitor(machine, write, leave=lambda: None)
    device.on_failure = machine.fail
    device.on_input(lambda: monitor.feed(device.take(MONITOR_PIECE)))


# --- terminal, files ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _devices(options: BootOptions) -> Iterator[tuple[list[CharDevice], CharDevice | None]]:
    """The serial ports' devices and the monitor's own one, if it has one; closed, and the terminal put back, at the
    end, whatever happens.
    """
    names = options.serial or ["mon:stdio"]
    monitor = options.monitor
    if monitor in ("none", "null") or (monitor == "stdio" and "mon:stdio" in names):
        monitor = None
    if sum(name in ("stdio", "mon:stdio") for name in (*names, monitor)) > 1:
        raise UsageError("only one device can use stdio; -serial mon:stdio shares it with the monitor")
    with contextlib.ExitStack() as opened:

        def open_device(name: str) -> CharDevice:
            device = parse_chardev(name)
            opened.callback(device.close)
            for note in device.notes:
                notice(note)
            return device

        serial = [open_device(name) for name in names]
        yield serial, None if monitor is None else open_device(monitor)


@contextlib.contextmanager
def _pid_file(path: str | None) -> Iterator[None]:
    """Our number in a file, which is locked while we run and removed at the end: who holds the lock is alive."""
    if path is None:
        yield
        return
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot open pid file {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            raise UsageError(f"pid file {path} is another process's, which runs") from None
        except OSError as error:
            raise UsageError(f"cannot write pid file {path}: {error.strerror}") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody has removed it already
                Path(path).unlink()
    finally:
        os.close(file)


@contextlib.contextmanager
def _log(path: str | None) -> Iterator[TextIO]:
    """Where `-d` writes to."""
    if path is None:
        yield sys.stderr
        return
    try:
        with _opened(path) as stream:
            yield stream
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            raise
        raise MachineError(f"cannot write to log file {path}: {error.strerror}") from None


@contextlib.contextmanager
def _guest_errors(wanted: bool, log: TextIO) -> Iterator[None]:
    """Have devices' complaints written to the log."""
    if not wanted:
        yield
        return
    import logging  # late: few ask for it

    class ToLog(logging.Handler):
        """Lets an error out, which stops the machine: logging's own handlers show it as a traceback and go on."""

        def emit(self, record: logging.LogRecord) -> None:
            log.write(f"{self.format(record)}\n")

    devices, handler = logging.getLogger("raddle.devices"), ToLog()
    devices.addHandler(handler)
    devices.setLevel(logging.INFO)
    try:
        yield
    finally:
        devices.removeHandler(handler)


def _opened(path: str) -> TextIO:
    try:
        return Path(path).open("w", encoding="utf-8", buffering=1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot open log file {path}: {getattr(error, 'strerror', None) or error}") from None
