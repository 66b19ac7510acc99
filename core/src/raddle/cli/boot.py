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
from raddle.accel import Llsc
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
"""Plus a signal's number, this is the exit status of a program that the signal has ended."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DEADLY: Final = (signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGXCPU)
"""Other signals that users send, and that end a process unless it handles them."""

IMPATIENT: Final = 3.0
"""Seconds. A signal that comes later than this after the first one ends the process, even if the machine still runs."""

ABANDONED: Final = 10.0
"""Seconds. A machine that has not ended this long after the first signal never will, because a vCPU's thread or a
callback is stuck. The process then ends without it."""

FLASH_UNITS: Final = 64
"""No board has more flash banks. Each board checks its own number."""

MONITOR_PIECE: Final = 4096
"""Bytes that a monitor reads at a time. A device never has more waiting."""

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing to the log. They name no file; errors of other files do."""

INSIDE: Final = frozenset({"accel", "guest_errors", "stats"})
"""Log items that are handled here, and not by `Machine.log`."""


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
        llsc: Llsc = getattr(machine.engine, "llsc", Llsc.FAST)
        print(f"accel: {llsc.description}", file=log)
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
        if not started or isinstance(error, OutputError):  # not caused by the guest
            raise
        with contextlib.suppress(OSError, ImportError, MemoryError):  # the fault itself is reported anyway
            print(_fault_report(machine, error), file=sys.stderr)
        raise
    finally:
        machine.stop()
        if "stats" in options.log:
            print(show_stats(machine.stats()), file=log)
        machine.close()
    return TERMINATED + signals.received[0] if signals.received else status


def _wait(machine: Machine) -> int:
    """Wait for the machine's end, a second at a time, because Python runs signal handlers only between waits."""
    while True:
        with contextlib.suppress(TimeoutError):
            return machine.wait(1.0)


class _Terminated(BaseException):
    """A signal came before there was a machine to stop."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Signals:
    """What signals do, until everything is closed and the terminal is restored.

    The first SIGINT, SIGTERM or SIGHUP stops the machine in order; before there is a machine, it raises _Terminated.
    Further ones do nothing, so that a burst of them leaves nothing half closed. But one that comes IMPATIENT seconds
    after the first ends the process, as the DEADLY ones do; only the terminal is restored before. If the machine has
    not ended after ABANDONED seconds, the process says why and ends without it. Signals that were ignored when the
    process started (by nohup, or a script's `&`) stay ignored.
    """

    def __init__(self, pid_file: str | None = None) -> None:
        self.machine: Machine | None = None
        self.received: list[int] = []
        self._pid_file = pid_file
        self._over: Final = workers.Latch()
        """Everything is closed."""
        self._watcher: workers.Thread | None = None
        self._first = 0.0
        self._old: dict[int, Any] = {}
        if threading.current_thread() is not threading.main_thread():  # Python handles signals only there
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
        """Start a thread that ends the process if the machine does not end."""
        with contextlib.suppress(MachineError):  # no thread can be started: another signal can still end the process
            watcher = workers.Thread(self._abandon, "raddle-end", (machine,))
            watcher.start_to("ends the process")
            self._watcher = watcher

    def _abandon(self, machine: Machine) -> None:
        """End the process if the machine does not end in time, without waiting for it and without freeing anything."""
        if self._over.wait(ABANDONED):
            return
        places = "; ".join(getattr(machine.engine, "unanswered", list)()) or "it is not known what it waits for"
        notice(f"the machine has not ended {ABANDONED:g} seconds after the signal; exiting anyway: {places}")
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
        """Raise _Terminated if a signal has come. The handler's own exception is lost if Python ran the handler where
        exceptions are ignored, as in a destructor.
        """
        if self.received:
            raise _Terminated(self.received[0])

    def __enter__(self) -> _Signals:
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
        while self._old:
            signal.signal(*self._old.popitem())


def _fault_report(machine: Machine, error: MachineError) -> str:
    """What a user needs first when a fault has stopped the guest: where it was, its registers, and what to try."""
    where = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    return f"{where}{machine.describe()}\nFor a trace: add -d int,exec -D FILE"


# --- monitor ----------------------------------------------------------------------------------------------------


def _share(machine: Machine, device: StdioDevice) -> None:
    """Let the guest's console share the terminal with a monitor: Ctrl-A C switches between them."""

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
    """The devices of the serial ports, and the monitor's own device or None. At the end they are closed, and the
    terminal is restored.
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
    """Write this process's number into a file, which is locked while the process runs and removed at the end. So the
    process of a file that is not locked does not run any more.
    """
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
            raise UsageError(f"pid file {path} belongs to another process that is still running") from None
        except OSError as error:
            raise UsageError(f"cannot write pid file {path}: {error.strerror}") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it has been removed already
                Path(path).unlink()
    finally:
        os.close(file)


@contextlib.contextmanager
def _log(path: str | None) -> Iterator[TextIO]:
    """The stream that `-d` writes to."""
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
    """If `wanted`, write the guest's mistakes that devices report to the log."""
    if not wanted:
        yield
        return
    import logging  # late: few ask for it

    class ToLog(logging.Handler):
        """Lets errors through, so that they stop the machine. logging's own handlers print a traceback and go on."""

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
