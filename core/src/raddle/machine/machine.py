# SPDX-License-Identifier: Apache-2.0
"""A machine: a board with its devices and memory, and an engine that runs its vCPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

from raddle import accel
from raddle.accel import AccelOptions, Decision, IcountOptions
from raddle.errors import MachineError, UsageError, machine_closed, unknown
from raddle.machine.board import Board, BoardCpu, BoardOptions
from raddle.machine.chardev import CharDevice, MemoryConsole, NullDevice
from raddle.machine.choice import choose_board
from raddle.machine.clock import MachineClock, Timer
from raddle.machine.flash_file import FlashFile, flash_files
from raddle.machine.load import Load, loads
from raddle.machine.sizes import parse_size
from raddle.machine.streams import parse_chardev
from raddle.machine.time_of_day import parse_rtc
from raddle.memory import AddressSpace
from raddle.plugins import Registry, registry

__all__ = ["Engine", "EngineFactory", "Hook", "Machine", "State", "VCpu"]


class VCpu(BoardCpu, Protocol):
    """A vCPU as a user meets it."""

    @property
    def regs(self) -> Any:
        """Registers by name: `cpu.regs.pc`. Exact while the machine is paused."""

    def __getitem__(self, name: str) -> int:
        """A field of the CPU's state."""

    def __setitem__(self, name: str, value: int) -> None: ...

    def info(self) -> Mapping[str, object]:
        """Thread, state and counters, for `info cpus`."""

    def run_on_cpu(self, work: Callable[[], None]) -> None:
        """Run `work` on the vCPU's thread, after what was queued before, and wait for it, a pause or not."""


class Engine(Protocol):
    """What runs the vCPUs: one of the schedulers of raddle.threads."""

    @property
    def cpus(self) -> Sequence[VCpu]: ...

    @property
    def big_lock(self) -> AbstractContextManager[object]: ...

    def start(self) -> None: ...

    def pause(self) -> None:
        """Returns when no vCPU runs."""

    def resume(self) -> None: ...

    def stop(self) -> None:
        """Ask for the end. Waits for nothing: a vCPU's thread may call it."""

    def join(self, timeout: float | None = None) -> object:
        """Wait until all threads have ended; raises the first error that stopped them."""

    def close(self) -> None:
        """Free what is native. All threads have ended."""

    def clock_ns(self) -> int: ...

    def timer(self, callback: Callable[[], None]) -> Timer: ...

    def stats(self) -> Mapping[str, object]: ...


EngineFactory = Callable[..., Engine]
"""Called as `factory(frontend, backend, decision, memory, ncpus, icount=..., settings=...)`."""


class Hook(Protocol):
    """A hook that was added, and can be taken away."""

    def remove(self) -> None: ...


class State(Enum):
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


def default_engine(
    frontend: Any,
    backend: Any,
    decision: Decision,
    memory: AddressSpace,
    ncpus: int,
    icount: IcountOptions | None,
    settings: AccelOptions,
) -> Engine:
    # Late, because it loads the native runtime, which looking at options and files does not need.
    from raddle.threads.engine import Engine as NativeEngine

    options: dict[str, Any] = {"split_wx": settings.split_wx}
    if icount is not None:
        options["icount_shift"] = AUTO_ICOUNT_SHIFT if icount.shift is None else icount.shift
        options["icount_sleep"] = icount.sleep
    if settings.memo_size is not None:
        options["memo_size"] = settings.memo_size
    if settings.code_size is not None:
        options["code_size"] = settings.code_size
    return NativeEngine(frontend, backend, decision, memory, ncpus, **options)


AUTO_ICOUNT_SHIFT: Final = 3
"""`-icount shift=auto`: 8 ns an instruction. A speed that followed the host's would not be deterministic."""


class Machine:
    """A guest machine. Made ready by the constructor, which loads its images and raises UsageError for what is wrong
    with them; run by `start`; given back by `close`, which leaving a `with` block does.

    All methods may be called from any thread but a vCPU's own (a hook's) and under the big lock (a timer's callback),
    where whoever would wait for the vCPUs would wait for itself: there `start`, `resume`, `stop`, `wait` and `close`
    raise UsageError, `pause` does not wait, and all others may be called. While another thread may close the machine,
    what is read of `cpus` and `memory` is read within `with machine.hold():`; the methods do that themselves. Asked for
    anything that is gone, a closed machine raises MachineError.
    """

    def __init__(
        self,
        board: str = "virt",
        *,
        cpus: int = 1,
        memory: int | str = "128M",
        cpu: str | None = None,
        kernel: str | Path | None = None,
        initrd: str | Path | None = None,
        append: str | None = None,
        dtb: str | Path | None = None,
        bios: str | Path | None = None,
        pflash: str | Path | FlashFile | Sequence[str | Path | FlashFile | None] | None = None,
        load: Sequence[Load | tuple[str | Path | bytes, int]] = (),
        serial: str | CharDevice | Sequence[str | CharDevice] | None = None,
        accelerator: str = "tcg",
        icount: str | None = None,
        rtc: str | None = None,
        reboot: bool = True,
        target: str = "",
        engine: EngineFactory = default_engine,
        plugins: Registry | None = None,
    ) -> None:
        """`board` is a board's name, or TARGET/NAME where several guests have one of that name; without TARGET it is
        the one of the guest that an ELF `kernel` is for. Sizes and settings are spelled as on the command line:
        `memory` is bytes or a text like "512M", `serial` one character device for each serial port ("stdio",
        "file:PATH" ...; None is a MemoryConsole), `accelerator`, `icount` and `rtc` the values of `--accel`, `-icount`
        and `-rtc`. `pflash` has a file for each flash bank, a FlashFile for one that is not to be written back, None
        for none; a single file is the first bank's. `load` puts files or bytes at physical addresses: `[("script.img",
        0x4020_0000)]`. Without `reboot` a reset ends the machine.
        """
        found = plugins if plugins is not None else registry()
        settings = accel.parse_accel(accelerator)
        counting: IcountOptions | None = accel.parse_icount(icount) if icount is not None else None
        described = choose_board(found, board, target, kernel)
        architecture = found.target(described.target)
        if cpu == "max":
            cpu = architecture.cpus[0]
        if cpu is not None and cpu not in architecture.cpus:
            raise unknown("CPU", cpu, architecture.cpus)
        if not 1 <= cpus <= described.max_cpus:
            raise UsageError(f"machine {board} has 1 to {described.max_cpus} CPUs, not {cpus}")
        size = parse_size(memory) if isinstance(memory, str) else memory
        host = found.host_for()
        self.accel: Final[Decision] = accel.decide(
            architecture, host, settings.thread, counting is not None, settings.order, settings.warnings
        )
        """The threading mode, with reasons and warnings."""
        board_class: type[Board] = found.load(described)
        self.frontend: Final[Any] = found.load(architecture)
        options = BoardOptions(
            cpus=cpus,
            cpu=cpu or architecture.cpus[0],
            memory=size,
            elf_machine=architecture.elf_machine or 0,
            kernel=_path(kernel),
            initrd=_path(initrd),
            append=_text(append),
            dtb=_path(dtb),
            bios=_path(bios),
            flash=flash_files(pflash),
            loads=loads(load),
            rtc=parse_rtc(rtc, counting is not None),
        )
        if len(options.flash) > board_class.FLASH_BANKS:
            raise UsageError(f"machine {board} has {board_class.FLASH_BANKS} flash banks, not {len(options.flash)}")
        self.consoles: Final = _consoles(serial, board_class.SERIAL_PORTS)
        """The character devices of the serial ports."""
        self.state = State.READY
        self.status = 0
        """Exit status of a machine that has stopped."""
        self._pausing = False
        """A hook has paused the engine, and nobody has waited for all vCPUs to stand yet. Set on a vCPU's thread before
        it stands, cleared under the machine's lock."""
        self._reboot = reboot
        self._lock = threading.RLock()
        self._finished = threading.Event()
        self._holders_changed = threading.Condition()
        """Guards what follows; nothing else is waited for under it, so that a signal's handler may take it, too."""
        self._ending = False
        """Somebody has asked for the end. Set, by any thread, before the engine is told so."""
        self._resetting = False
        """A reset was asked for, and the vCPUs do not stand for it yet."""
        self._closed = False
        self._freed = False
        self._holders = 0
        """How many `hold` the machine: `close` frees nothing before there is none."""
        self._error: BaseException | None = None
        self._supervisor: threading.Thread | None = None
        opened = ExitStack()
        try:
            clock = MachineClock()
            self.board: Final = board_class(options, self.consoles, clock)
            opened.callback(self.board.close)
            self._memory: Final[AddressSpace] = self.board.memory
            self.engine: Final = engine(
                self.frontend, found.load(host), self.accel, self._memory, cpus, icount=counting, settings=settings
            )
            clock.connect(self.engine)
            self.board.connect(self.engine.cpus, self, self.engine.big_lock)
            for device in self.consoles:
                device.on_failure = self.fail
                device.tell = self._tell
        except BaseException:
            opened.close()
            _close(self.consoles)
            raise

    @property
    def console(self) -> MemoryConsole:
        """The first serial port's console: `expect`, `read`, `send`. For machines made without `serial`."""
        device = self.consoles[0]
        if not isinstance(device, MemoryConsole):
            raise UsageError("this machine's serial port is not an in-memory console; leave `serial` out to have one")
        return device

    @property
    def cpus(self) -> Sequence[VCpu]:
        """The vCPUs: `machine.cpus[0].regs.pc`. Raises MachineError when the machine is closed."""
        self._require_open()
        return self.engine.cpus

    @property
    def memory(self) -> AddressSpace:
        """Guest-physical memory as a buffer: `machine.memory[a:b]`. Raises MachineError when the machine is closed."""
        self._require_open()
        return self._memory

    # --- running

    def start(self, paused: bool = False) -> None:
        """Power the machine on; returns at once. With `paused` it waits for `resume` before its first instruction."""
        self._require_outside("start")
        with self._lock:
            self._require(State.READY, "started")
            with self.engine.big_lock:  # input may come already
                self.board.reset()
            for cpu in self.engine.cpus:
                cpu.drain()  # so that what is set before the first instruction stays
            for device in self.consoles:
                device.start()
            self.state = State.PAUSED
            if not paused:
                self.resume()
            elif self._ending:
                self._watch()

    def resume(self) -> None:
        """Let a paused machine go on, or one that a hook is pausing. Does nothing to one that runs."""
        self._require_outside("resume")
        with self._lock:
            if self.state is State.RUNNING:
                if self._pausing:
                    self._pausing = False
                    self.engine.resume()
                return
            self._require(State.PAUSED, "resumed")
            self._pausing = False
            self.state = State.RUNNING
            if self._supervisor is None:
                self.engine.start()
                self._watch()
            else:
                self.engine.resume()

    def pause(self) -> None:
        """Stop all vCPUs and the clock; returns when none runs, and what the guest has sent is written. Does nothing to
        a paused machine. A vCPU's thread (a hook), or a timer's callback, does not wait: the vCPU stands after its
        block, and the machine's state becomes PAUSED when all do.
        """
        if self._inside:
            if self.state is not State.RUNNING:  # a timer's callback that a pause has overtaken
                return
            self.engine.pause()
            self._pausing = True
            threading.Thread(target=self._finish_pause, name="raddle-pause", daemon=True).start()
            return
        with self._lock:
            if self.state is State.PAUSED:
                return
            self._require(State.RUNNING, "paused")
            self.engine.pause()
            self._settle()
            self._pausing = False
            self.state = State.PAUSED

    def stop(self) -> None:
        """Power the machine off; returns when its threads have ended, and what the guest has sent is written (see
        `request_stop` for not waiting for that). Does nothing to a machine that has stopped. Raises UsageError on a
        vCPU's thread (in a hook) and in a timer's callback.
        """
        self._require_outside("stop")
        with self._lock:
            # Whether it was never started, or interrupted while it was: then nobody waits for its end.
            unwatched = self._supervisor is None and self.state is not State.STOPPED
            if self.state is not State.STOPPED:
                self.engine.stop()
        if unwatched:
            self._supervise()
        self._finished.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the machine stops by itself (or is stopped); returns its exit status.

        Raises the error that stopped it: a guest's fatal fault, an exception in a device or a hook, or an OutputError
        of a serial port, be it when the port was closed. Raises TimeoutError after `timeout` seconds; the machine goes
        on. Raises UsageError on a vCPU's thread (in a hook) and in a timer's callback.
        """
        self._require_outside("wait for")
        if not self._finished.wait(timeout):
            raise TimeoutError(f"the machine still runs after {timeout} s")
        if self._error is not None:
            raise self._error
        return self.status

    def close(self) -> None:
        """Stop the machine and give back everything it has, as soon as nobody holds it any more. The console's text can
        still be read. Not within `hold`, which would wait for itself. Raises UsageError on a vCPU's thread (in a hook)
        and in a timer's callback.
        """
        self._require_outside("close")
        self.stop()
        with self._holders_changed:
            self._closed = True
            while self._holders:
                self._holders_changed.wait()
            first, self._freed = not self._freed, True
        if first:  # not under the lock: it waits for timers, whose callbacks may ask for the machine's end
            self.engine.close()
            self.board.close()
            self._memory.close()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While this holds, nothing is freed: `close` on another thread stops the machine, and waits. Several threads
        may hold it at the same time, a hook's among them. Raises MachineError when the machine is closed.
        """
        with self._holders_changed:
            self._require_open()
            self._holders += 1
        try:
            yield
        finally:
            with self._holders_changed:
                self._holders -= 1
                self._holders_changed.notify_all()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):  # Ctrl-C, which nobody is to be waited for after
            self._hang_up()
        self.close()
        # What stopped the machine goes out of the block, unless it does already or something else does.
        if self._error is not None and error is None:
            raise self._error

    # --- requests, from any thread

    def request_stop(self, status: int = 0, *, at_once: bool = False) -> None:
        """Power the machine off soon, with this exit status. What the guest has sent until then is written, however
        long whoever reads it takes; with `at_once` the machine does not wait for that, and the rest is dropped. Does
        nothing to a machine that is closed.
        """
        with ExitStack() as holding:
            try:
                holding.enter_context(self.hold())
            except MachineError:
                return
            self.status = status
            self._end_soon()
        if at_once:
            self._hang_up()

    def request_reset(self) -> None:
        """Reset the machine soon; one made without `reboot` is powered off. A paused machine stays paused."""
        if not self._reboot:
            self.request_stop(0)
            return
        with self._holders_changed:
            if self._resetting:  # each CPU of a guest may ask for the same one
                return
            self._resetting = True
        # Resetting waits for all vCPUs, and one of them may be who asks.
        threading.Thread(target=self._reset, name="raddle-reset", daemon=True).start()

    def _reset(self) -> None:
        with self._lock:
            if self.state not in (State.RUNNING, State.PAUSED):  # it has stopped meanwhile
                return
            if self.state is State.RUNNING:
                self.engine.pause()
                self._settle()  # before devices forget what they hold; what fails stops the machine
            with self._holders_changed:
                self._resetting = False  # what the guest asks from now on, it asks after the reset
            with self.engine.big_lock:  # input still comes
                self.board.reset()
            if self.state is State.PAUSED:
                for cpu in self.engine.cpus:
                    cpu.run_on_cpu(cpu.drain)
            elif not self._pausing:
                self.engine.resume()

    def fail(self, error: Exception) -> None:
        """Stop the machine soon, with an error that has happened outside of it; `wait` raises the first one."""
        self._keep(error)
        with suppress(MachineError), self.hold():
            self._end_soon()

    def _end_soon(self) -> None:
        """Ask for the end. Whoever asks for it may be waited for by a thread that has the machine's lock: a vCPU, and
        who has the big lock. So that is taken only where neither is possible, before anything has run.
        """
        self._ending = True
        self.engine.stop()
        # Powered on, but it has not run yet: nobody waits for its end. While it is being started, the starter does.
        if self.state is State.PAUSED and self._supervisor is None:
            with self._lock:
                if self.state is State.PAUSED:
                    self._watch()

    def _keep(self, error: BaseException | None) -> None:
        """Let `wait` raise the error, if it is the first."""
        with self._holders_changed:
            if self._error is None:
                self._error = error

    # --- looking into it

    def stats(self) -> Mapping[str, object]:
        """The engine's counters. Raises MachineError when the machine is closed."""
        with self.hold():
            return self.engine.stats()

    def hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function` on each event of `kind` ("block", "memory", "exception") whose guest address lies from
        `start` up to `end` (None: anywhere; a memory hook needs both). Takes effect at once, also while the machine
        runs. An exception in it stops the machine and comes out of `wait`.
        """
        if not callable(function):
            raise UsageError(f"a hook is a function, and not {function!r}")
        add: Callable[..., Hook] | None = getattr(self.engine, "add_hook", None)
        if add is None:
            raise UsageError("this engine has no hooks")
        with self.hold():
            return add(kind, function, start, end)

    def add_block_hook(
        self, function: Callable[[Any, int], object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function(cpu, pc)` before each block that is executed and begins from `start` up to `end`.

        Takes effect at once on all vCPUs. While there is a block hook the guest is slower by far; a machine that has
        none pays nothing. The hook runs on its vCPU's thread, which it may share with no lock: several run at the same
        time. See raddle.debug.hooks for what a hook may do, and from where it may be added and removed.
        """
        return self.hook("block", function, start, end)

    def add_memory_hook(self, function: Callable[[Any, int, int, bool, int], object], start: int, end: int) -> Hook:
        """Call `function(cpu, address, size, is_write, value)` for each load or store that touches the virtual
        addresses from `start` up to `end`, 16 MiB at most. Threads as for `add_block_hook`.
        """
        return self.hook("memory", function, start, end)

    def add_exception_hook(
        self, function: Callable[[Any, Any], object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function(cpu, event)` after each exception or interrupt that is entered at a pc from `start` up to
        `end`; `event` is a raddle.debug.probes.ExceptionTaken. Threads as for `add_block_hook`.
        """
        return self.hook("exception", function, start, end)

    def profile(self) -> None:
        """Measure the paths into Python and the time by category, for `stats`. Before `start`."""
        profile: Callable[[], None] | None = getattr(self.engine, "profile", None)
        with self.hold():
            if profile is not None:
                profile()

    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Write about these items (`in_asm`, `int` ...: those of `-d`) to `stream` from now on. With `within`, what is
        written of blocks is of those at these guest addresses.
        """
        log: Callable[[Sequence[str], TextIO, Sequence[range]], None] | None = getattr(self.engine, "log", None)
        if log is None:
            raise UsageError(f"-d {','.join(items)} is not supported yet; the nearest that is: -d stats")
        with self.hold():
            log(items, stream, within)

    def describe(self) -> str:
        """The registers of all CPUs, in the manner of the architecture; with the code around each one's pc unless the
        machine runs, another thread is starting, pausing or resetting it, or a hook or a timer's callback asks. Raises
        MachineError when it is closed.
        """
        parts = []
        with self.hold():
            for cpu in self.engine.cpus:
                if cpu.info().get("state") == "off":
                    parts.append(f"CPU {cpu.index} is off")
                    continue
                parts += [f"CPU {cpu.index}", self.frontend.describe(cpu).rstrip()]
                parts += self._around(cpu)
        return "\n".join(parts)

    # --- inside

    def _require_open(self) -> None:
        if self._closed:
            raise machine_closed()

    @property
    def _inside(self) -> bool:
        """Whether the vCPUs wait for the calling thread, or may."""
        return bool(getattr(self.engine, "inside", False))

    def _require_outside(self, action: str) -> None:
        if self._inside:
            raise UsageError(
                f"cannot {action} the machine from a hook, a device or a timer's callback, which would be waited for: "
                "request_stop, request_reset and pause do not wait"
            )

    def _around(self, cpu: VCpu) -> list[str]:
        around: Callable[[VCpu], list[str]] | None = getattr(self.engine, "around", None)
        if around is None or self._inside:
            return []
        # Nobody may let the vCPU go on meanwhile: its TLB is looked at, and filled. Not waited for: a hook's thread may
        # be what the thread that has the lock waits for.
        if not self._lock.acquire(blocking=False):
            return []
        try:
            return [] if self.state is State.RUNNING else around(cpu)
        finally:
            self._lock.release()

    def _watch(self) -> None:
        if self._supervisor is None:
            supervisor = threading.Thread(target=self._supervise, name="raddle-machine", daemon=True)
            try:
                supervisor.start()
            except RuntimeError as error:
                self.engine.stop()
                raise MachineError(f"cannot start the thread that waits for the vCPUs: {error}") from None
            self._supervisor = supervisor

    def _supervise(self) -> None:
        """On a thread of its own: wait for the vCPUs' end, however it comes."""
        try:
            self.engine.join(None)
        except BaseException as error:
            self._finish(error)
        else:
            self._finish(None)

    def _tell(self, notify: Callable[[], None]) -> None:
        """Tell a port that there is input; nothing when the machine is closed."""
        with ExitStack() as holding:
            try:
                holding.enter_context(self.hold())
            except MachineError:
                return
            notify()

    def _hang_up(self) -> None:
        for device in self.consoles:
            device.hang_up()

    def _finish_pause(self) -> None:
        """A hook has paused the engine: wait in its place, unless somebody has done so, or has let the machine go on,
        already.
        """
        with self._lock:
            if self.state is State.RUNNING and self._pausing:
                self.pause()
            self._pausing = False

    def _settle(self) -> None:
        """When no vCPU runs any more, or for a while. What fails is kept, and stops the machine."""
        try:
            with self.engine.big_lock:
                self.board.settle()
        except Exception as error:
            self.fail(error)

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            self._keep(error)
            first, self.state = self.state is not State.STOPPED, State.STOPPED
        if not first:  # an interrupted start leaves it open who waits for the end: both do
            return
        try:
            self._settle()
        finally:
            # Not under the lock: closing waits for threads that may be about to take it (a monitor's `stop`).
            self._keep(_close(self.consoles))
            self._finished.set()

    def _require(self, state: State, action: str) -> None:
        if self.state is not state:
            raise UsageError(f"a machine that is {self.state.value} cannot be {action}")


def _text(append: str | None) -> str | None:
    """The kernel's command line, which goes into the device tree as it is."""
    if append is None:
        return None
    try:
        append.encode()
    except (AttributeError, UnicodeEncodeError):
        raise UsageError(f"the kernel's command line (-append) {append!r} is not text in UTF-8") from None
    if "\0" in append:
        raise UsageError("the kernel's command line (-append) has a NUL character, which would end it")
    return append


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _close(devices: Sequence[CharDevice]) -> BaseException | None:
    """Close all of them, whatever fails on the way; the first error."""
    first: BaseException | None = None
    for device in devices:
        try:
            device.close()
        except BaseException as error:
            first = first or error
    return first


def _consoles(serial: str | CharDevice | Sequence[str | CharDevice] | None, ports: int) -> tuple[CharDevice, ...]:
    """The character devices of the serial ports that are wanted; the first one is there without, too."""
    if serial is None:
        given: list[str | CharDevice] = [MemoryConsole()]
    elif isinstance(serial, (str, CharDevice)):
        given = [serial]
    else:
        given = list(serial)
    if len(given) > ports:
        raise UsageError(f"the machine has {ports} serial port{'s' * (ports != 1)}, not {len(given)}")
    devices: list[CharDevice] = []
    try:
        for one in given:
            devices.append(parse_chardev(one) if isinstance(one, str) else one)
    except BaseException:
        _close(devices)
        raise
    return tuple(devices) or (NullDevice(),)
