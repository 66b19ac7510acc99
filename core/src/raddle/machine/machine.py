# SPDX-License-Identifier: Apache-2.0
"""A machine: a board with its devices and memory, and an engine that runs its vCPUs; as its user sees it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TextIO, TypeVar

from raddle import accel, kinds, workers
from raddle.accel import AccelOptions, Decision, IcountOptions
from raddle.errors import MachineError, UsageError
from raddle.machine import arguments
from raddle.machine.board import Board, BoardOptions
from raddle.machine.chardev import CharDevice, MemoryConsole
from raddle.machine.choice import choose_board
from raddle.machine.clock import MachineClock
from raddle.machine.control import Control, close_devices
from raddle.machine.flash_file import FlashFile, flash_files
from raddle.machine.load import Load, loads
from raddle.machine.parts import Engine, EngineFactory, Hook, Instruments, Regs, State, VCpu
from raddle.machine.time_of_day import parse_rtc
from raddle.memory import AddressSpace
from raddle.plugins import Registry, registry
from raddle.sizes import parse_size
from raddle.unique import Unique

__all__ = ["Engine", "EngineFactory", "Hook", "Machine", "State", "VCpu"]


R = TypeVar("R")


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


def instruments(engine: Engine) -> Instruments | None:
    """What hooks, logs and profile of `engine` are made by; None for one that nobody can watch."""
    if not hasattr(engine, "observer"):
        return None
    from raddle.debug import instruments as native  # late, as the engine

    return native.Instruments(engine)  # type: ignore[arg-type]  # only raddle.threads.engine's has an observer


AUTO_ICOUNT_SHIFT: Final = 3
"""`-icount shift=auto`: 8 ns an instruction. A speed that followed the host's would not be deterministic."""


class Machine(Unique, Generic[Regs]):
    """A guest machine. Made ready by the constructor, which loads its images and raises UsageError for what is wrong
    with them; run by `start`; given back by `close`, which leaving a `with` block does.

    All methods may be called from any thread but a vCPU's own (a hook's) and under the big lock (a timer's callback),
    where whoever would wait for the vCPUs would wait for itself: there `start`, `resume`, `stop`, `wait` and `close`
    raise UsageError, `pause` does not wait, and all others may be called. While another thread may close the machine,
    what is read and set of `cpus` (registers, interrupt lines), `memory`, timers, the clock and the big lock is so
    within `with machine.hold():`. The machine's methods do that themselves, and so do `Hook.remove`, `VCpu.info`, what
    queues work for a vCPU, and what makes hooks, logs and timers. Asked for anything that is gone, a closed machine
    raises MachineError.

    In a child that was forked from the process of a machine, closing it does nothing, and what it is asked for raises
    MachineError: it is the parent's.

    An exception that a signal's handler raises (Ctrl-C) may come out of any method: the machine then does what it was
    asked for to its end, or has not begun it, and can be used and closed as before. See raddle.workers.
    """

    def __init__(
        self,
        board: str = "",
        *,
        properties: Mapping[str, str] | None = None,
        cpus: int = 1,
        memory: int | str = "128M",
        cpu: str | None = None,
        kernel: str | os.PathLike[str] | None = None,
        initrd: str | os.PathLike[str] | None = None,
        append: str | None = None,
        dtb: str | os.PathLike[str] | None = None,
        bios: str | os.PathLike[str] | None = None,
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
        """`board` is a board's name, or GUEST/NAME; left out, it is the guest's first one. Which guest that is follows
        from the `kernel` file, from GUEST/NAME, or from `target`, the guest's name; contradictions are refused.
        `properties` are the board's, as in `-M NAME,property=value`; `raddle boot -M NAME,help` lists them. Sizes and
        settings are spelled as on the command line: `memory` is bytes or a text like "512M", `serial` one character
        device for each serial port ("stdio", "file:PATH" ...; None is a MemoryConsole), `accelerator`, `icount` and
        `rtc` the values of `--accel`, `-icount` and `-rtc`. `pflash` has a file for each flash bank, a FlashFile for
        one that is not to be written back, None for none; a single file is the first bank's. `load` puts files or
        bytes at physical addresses: `[("script.img", 0x4020_0000)]`. Without `reboot` a reset ends the machine.
        """

        def build() -> _Owner:
            arguments.check_kinds(
                board=board,
                properties=properties,
                cpus=cpus,
                memory=memory,
                cpu=cpu,
                kernel=kernel,
                initrd=initrd,
                dtb=dtb,
                bios=bios,
                pflash=pflash,
                load=load,
                serial=serial,
                accelerator=accelerator,
                icount=icount,
                rtc=rtc,
                reboot=reboot,
                target=target,
                engine=engine,
                plugins=plugins,
            )
            found = plugins if plugins is not None else registry()
            settings = accel.parse_accel(accelerator)
            counting: IcountOptions | None = accel.parse_icount(icount) if icount is not None else None
            flash = flash_files(pflash)
            firmware = bios is not None or (bool(flash) and flash[0] is not None)
            described = choose_board(found, board, target, arguments.path(kernel), firmware=firmware)
            architecture = found.target(described.target)
            model = architecture.cpu_model(cpu or "")
            settled = arguments.properties(described, properties or {})
            if not 1 <= cpus <= described.max_cpus:
                raise UsageError(f"machine {described.name} has 1 to {described.max_cpus} CPUs, not {cpus}")
            size = parse_size(memory) if isinstance(memory, str) else memory
            host = found.host_for()
            decision = accel.decide(
                architecture, host, settings.thread, counting is not None, settings.order, settings.warnings
            )
            board_class: type[Board] = found.load(described)
            frontend = found.front_end(architecture, model)
            options = BoardOptions(
                cpus=cpus,
                cpu=model,
                memory=size,
                target=architecture,
                kernel=arguments.path(kernel),
                initrd=arguments.path(initrd),
                append=arguments.text(append),
                dtb=arguments.path(dtb),
                bios=arguments.path(bios),
                flash=flash,
                loads=loads(load),
                page_size=1 << frontend.page_bits,
                properties=settled,
                rtc=parse_rtc(rtc, counting is not None),
            )
            arguments.check_taken(described.name, board_class.TAKES, options)
            arguments.check_banks(described.name, board_class.FLASH_BANKS, len(options.flash))
            with ExitStack() as opened:  # closed in reverse order if something fails
                consoles = arguments.consoles(serial, board_class.SERIAL_PORTS)
                opened.callback(close_devices, consoles)
                clock = MachineClock()
                built = board_class(options, consoles, clock)
                opened.callback(built.close)
                running = engine(
                    frontend, found.load(host), decision, built.memory, cpus, icount=counting, settings=settings
                )
                opened.callback(running.close)
                clock.connect(running)
                owner = _Owner(Control(decision, frontend, built, consoles, running, instruments(running), reboot))
                opened.pop_all()
            return owner

        self._owner: Final = workers.call(build, undo=_Owner.close)

    # --- what it is

    @property
    def accel(self) -> Decision:
        """The threading mode, with reasons and warnings."""
        return self._control.accel

    @property
    def frontend(self) -> Any:
        """The guest architecture: a raddle.translate.frontend.FrontEnd."""
        return self._control.frontend

    @property
    def board(self) -> Board:
        return self._control.board

    @property
    def engine(self) -> Engine:
        return self._control.engine

    @property
    def consoles(self) -> tuple[CharDevice, ...]:
        """The character devices of the serial ports."""
        return self._control.consoles

    @property
    def state(self) -> State:
        return self._control.state

    @property
    def status(self) -> int:
        """Exit status of a machine that has stopped."""
        return self._control.status

    @property
    def console(self) -> MemoryConsole:
        """The first serial port's console: `expect`, `read`, `send`. For machines made without `serial`."""
        device = self.consoles[0]
        if not isinstance(device, MemoryConsole):
            raise UsageError("this machine's serial port is not an in-memory console; leave `serial` out to have one")
        return device

    @property
    def cpus(self) -> Sequence[VCpu[Regs]]:
        """The vCPUs: `machine.cpus[0].regs.pc`. Raises MachineError when the machine is closed."""
        self._control.require_open()
        cpus: Any = self._control.engine.cpus
        return cpus  # type: ignore[no-any-return]

    @property
    def memory(self) -> AddressSpace:
        """Guest-physical memory as a buffer: `machine.memory[a:b]`. Raises MachineError when the machine is closed."""
        self._control.require_open()
        return self._control.memory

    # --- running

    def start(self, paused: bool = False) -> None:
        """Power the machine on; returns at once. With `paused` it waits for `resume` before its first instruction."""
        control = self._control
        kinds.switch("paused of start()", paused)
        control.require_here()
        control.require_ready()
        for device in control.consoles:
            device.wait_for_peer()  # here, where Ctrl-C ends it
        workers.call(lambda: control.start(paused))

    def resume(self) -> None:
        """Let a paused machine go on, or one that a hook is pausing. Does nothing to one that runs."""
        self._do(self._control.resume)

    def pause(self) -> None:
        """Stop all vCPUs and the clock; returns when none runs, and what the guest has sent is written. Does nothing to
        a paused machine. A vCPU's thread (a hook), or a timer's callback, does not wait: the vCPU stands after its
        block, and the machine's state becomes PAUSED when all do.
        """
        self._do(self._control.pause)

    def stop(self) -> None:
        """Power the machine off; returns when its threads have ended, and what the guest has sent is written (see
        `request_stop` for not waiting for that). Does nothing to a machine that has stopped. Raises UsageError on a
        vCPU's thread (in a hook) and in a timer's callback.
        """
        if not self._control.foreign:
            workers.call(self._control.stop)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the machine stops by itself (or is stopped); returns its exit status.

        Raises the error that stopped it: a guest's fatal fault, an exception in a device or a hook, or an OutputError
        of a serial port, be it when the port was closed. Raises TimeoutError after `timeout` seconds; the machine goes
        on. Raises UsageError on a vCPU's thread (in a hook) and in a timer's callback.
        """
        control = self._control
        control.require_here()
        control.require_outside("wait for")
        if not control.finished.wait(None if timeout is None else kinds.seconds("the timeout of wait()", timeout)):
            raise TimeoutError(f"the machine still runs after {timeout} s")
        if control.error is not None:
            raise control.error
        return control.status

    def close(self) -> None:
        """Stop the machine and give back everything it has, as soon as nobody holds it any more. The console's text can
        still be read. Raises UsageError within `hold`, on a vCPU's thread (in a hook) and in a timer's callback, which
        would wait for themselves.
        """
        if self._control.held:
            raise UsageError("cannot close the machine within `with machine.hold()`, which would be waited for")
        if not self._control.foreign:
            workers.call(self._control.close)

    def hold(self) -> AbstractContextManager[object]:
        """While this holds, nothing is freed: `close` on another thread stops the machine, and waits. Several threads
        may hold it at the same time, a hook's among them. Raises MachineError when the machine is closed.
        """
        return self._control.hold()

    def __enter__(self) -> Machine[Regs]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._control.foreign:
            return
        if error is not None and not isinstance(error, Exception):  # Ctrl-C, which nobody is to be waited for after
            self._control.hang_up()
        self.close()
        # What stopped the machine goes out of the block, unless it does already or something else does.
        if self._control.error is not None and error is None:
            raise self._control.error

    # --- requests, from any thread

    def request_stop(self, status: int = 0, *, at_once: bool = False) -> None:
        """Power the machine off soon, with this exit status. What the guest has sent until then is written, however
        long whoever reads it takes; with `at_once` the machine does not wait for that, and the rest is dropped. Does
        nothing to a machine that is closed.
        """
        control = self._control
        kinds.number("the exit status of request_stop()", status)
        kinds.switch("at_once of request_stop()", at_once)
        if not control.foreign:
            workers.call(lambda: control.request_stop(status, at_once=at_once))

    def request_reset(self) -> None:
        """Reset the machine soon; one made without `reboot` is powered off. A paused machine stays paused. Raises
        UsageError for one that is not on.
        """
        self._control.require_here()
        if self.state in (State.READY, State.STOPPED):
            raise UsageError(f"a machine that is {self.state.value} cannot be reset")
        self._do(self._control.request_reset)

    def fail(self, error: Exception) -> None:
        """Stop the machine soon, with an error that has happened outside of it; `wait` raises the first one."""
        control = self._control
        kinds.instance("the error of fail()", "an exception", error, Exception)
        self._do(lambda: control.fail(error))

    # --- looking into it

    def stats(self) -> Mapping[str, object]:
        """The engine's counters. Raises MachineError when the machine is closed."""
        return self._looking(self.engine.stats)

    def hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function` on each event of `kind` ("block", "memory", "exception") whose guest address lies from
        `start` up to `end` (None: anywhere; a memory hook needs both). Takes effect at once, also while the machine
        runs. An exception in it stops the machine and comes out of `wait`.
        """
        instruments = self._control.instruments
        if instruments is None:
            raise UsageError("this engine has no hooks")
        return self._looking(lambda: instruments.add_hook(kind, function, start, end), undo=_remove)

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
        """Measure the paths into Python and the time by category, for `stats`. Raises UsageError after `start`."""
        self._control.require_open()
        if self.state is not State.READY:
            raise UsageError(f"a machine that is {self.state.value} cannot be profiled any more: before start it can")
        if (instruments := self._control.instruments) is not None:
            self._looking(instruments.profile)

    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Write about these items (`in_asm`, `int` ...: those of `-d`) to `stream` from now on. With `within`, what is
        written of blocks is of those at these guest addresses.
        """
        instruments = self._control.instruments
        if instruments is None:
            kinds.words("items of log()", items)
            raise UsageError(f"-d {','.join(items)} is not supported yet; the nearest that is: -d stats")
        self._looking(lambda: instruments.log(items, stream, within))

    def describe(self) -> str:
        """The registers of all CPUs, in the manner of the architecture; with the code around each one's pc unless the
        machine runs, another thread is starting, pausing or resetting it, or a hook or a timer's callback asks. Raises
        MachineError when it is closed.
        """
        return self._do(self._control.describe)

    # --- inside

    @property
    def _control(self) -> Control:
        return self._owner.control

    def _do(self, function: Callable[[], R]) -> R:
        """Hand it over, in the process that the machine belongs to."""
        self._control.require_here()
        return workers.call(function)

    def _looking(self, look: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
        """Do something for which the machine must not be freed."""
        control = self._control

        def held() -> R:
            with control.hold():
                return look()

        control.require_here()
        return workers.call(held, undo)


class _Owner:
    """What keeps a machine from its end: when nobody has the `Machine` any more, it is closed."""

    __slots__ = ("control",)

    def __init__(self, control: Control) -> None:
        self.control: Final = control

    def close(self) -> None:
        self.control.close()

    def __del__(self) -> None:
        control = self.control
        if control.closed or sys.is_finalizing():
            return
        # On whichever thread, a vCPU's perhaps: it waits for nothing.
        workers.submit(control.close)
        if control.state in (State.RUNNING, State.PAUSED):
            warnings.warn(
                f"a machine that is {control.state.value} was dropped, which ends it; close it, or use `with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def _remove(hook: Hook) -> None:
    with suppress(MachineError):  # its machine has been closed meanwhile
        hook.remove()
