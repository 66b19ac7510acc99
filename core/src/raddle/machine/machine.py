# SPDX-License-Identifier: Apache-2.0
"""A machine: a board with its devices and memory, and an engine that runs its vCPUs; as its user sees it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TextIO, TypeVar

from raddle import kinds, workers
from raddle.accel import Decision
from raddle.errors import MachineError, UsageError
from raddle.machine.arguments import Arguments
from raddle.machine.board import Board
from raddle.machine.build import build, default_engine
from raddle.machine.chardev import CharDevice, MemoryConsole
from raddle.machine.control import Control
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.parts import Engine, EngineFactory, Hook, Regs, State, VCpu
from raddle.memory import AddressSpace
from raddle.plugins import Registry
from raddle.unique import Unique

__all__ = ["Engine", "EngineFactory", "Hook", "Machine", "State", "VCpu"]


R = TypeVar("R")


class Machine(Unique, Generic[Regs]):
    """A guest machine. The constructor makes it ready and loads its images, and raises UsageError for faults in them;
    `start` runs it; `close` frees it, as does the end of a `with` block.

    Methods may be called from any thread. On a vCPU's own thread (in a hook) and under the big lock (in a timer
    callback), waiting for the vCPUs would deadlock: there `start`, `resume`, `stop`, `wait` and `close` raise
    UsageError, and `pause` does not wait; all other methods work. While another thread may close the machine, use
    `cpus` (registers, interrupt lines), `memory`, timers, the clock and the big lock only within
    `with machine.hold():`. The machine's methods do that themselves, and so do `Hook.remove`, `VCpu.info`, the methods
    that queue work for a vCPU, and those that make hooks, logs and timers. A closed machine raises MachineError when
    its freed parts are used.

    In a forked child, a machine still belongs to the parent: closing it does nothing, and all else raises MachineError.

    An exception from a signal handler (Ctrl-C) may come out of any method: the machine has then not begun what it was
    asked for, or finishes it, and can be used and closed as before. See raddle.workers.
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
        """`board` is a board's name, or GUEST/NAME; by default it is the guest's first board. The guest follows from
        the `kernel` file, from GUEST/NAME, or from `target`, the guest's name; contradictions are errors. `properties`
        are the board's, as in `-M NAME,property=value`; `raddle boot -M NAME,help` lists them. Sizes and settings are
        spelled as on the command line: `memory` is bytes or a text like "512M", `serial` one character device for each
        serial port ("stdio", "file:PATH" ...; None is a MemoryConsole), `accelerator`, `icount` and `rtc` the values of
        `--accel`, `-icount` and `-rtc`. `pflash` has a file for each flash bank, a FlashFile if it is not to be written
        back, None for no file; a single file is the first bank's. `load` puts files or bytes at physical addresses:
        `[("script.img", 0x4020_0000)]`. Without `reboot` a reset ends the machine.
        """

        given = Arguments(
            board=board,
            properties=properties,
            cpus=cpus,
            memory=memory,
            cpu=cpu,
            kernel=kernel,
            initrd=initrd,
            append=append,
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
        self._owner: Final = workers.call(lambda: _Owner(build(given)), undo=_Owner.close)

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
        """Resume a paused machine, or one that a hook is pausing. Does nothing to one that runs."""
        self._do(self._control.resume)

    def pause(self) -> None:
        """Stop all vCPUs and the clock; returns when none runs, and the guest's output is written. Does nothing to a
        paused machine. Does not wait in a hook (on a vCPU's thread) or a timer callback: the vCPU stops after its
        block, and the machine's state becomes PAUSED when all have stopped.
        """
        self._do(self._control.pause)

    def spread(self) -> None:
        """Pin each vCPU's thread to one of the cores that this process may use, in turn. A busy host may else keep all
        threads of a process on one core, so that vCPUs hardly ever run at the same time. Does nothing where one thread
        runs all vCPUs, or where the host cannot pin threads. Raises MachineError when the machine is closed.
        """
        self._control.require_open()
        self._control.engine.spread()

    def stop(self) -> None:
        """Power the machine off; returns when its threads have ended, and the guest's output is written (`request_stop`
        can stop without waiting for that). Does nothing to a machine that has stopped. Raises UsageError on a vCPU's
        thread (in a hook) and in a timer callback.
        """
        if not self._control.foreign:
            workers.call(self._control.stop)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the machine stops by itself (or is stopped); returns its exit status.

        Raises the error that stopped it: a guest's fatal fault, an exception in a device or a hook, or an OutputError
        of a serial port, also one from closing the port. Raises TimeoutError after `timeout` seconds; the machine goes
        on. Raises UsageError on a vCPU's thread (in a hook) and in a timer callback.
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
        """Stop the machine, and free everything it has as soon as no thread holds it any more. The console's text can
        still be read. Raises UsageError within `hold`, on a vCPU's thread (in a hook) and in a timer callback, where it
        would deadlock.
        """
        if self._control.held:
            raise UsageError("cannot close the machine within `with machine.hold()`, which would be waited for")
        if not self._control.foreign:
            workers.call(self._control.close)

    def hold(self) -> AbstractContextManager[object]:
        """Within this context manager, nothing is freed: `close` on another thread stops the machine, and waits.
        Several threads, also those of hooks, may hold the machine at the same time. Raises MachineError when the
        machine is closed.
        """
        return self._control.hold()

    def __enter__(self) -> Machine[Regs]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._control.foreign:
            return
        if error is not None and not isinstance(error, Exception):  # after Ctrl-C, wait for no reader
            self._control.hang_up()
        self.close()
        # Raise the error that stopped the machine, unless an exception already leaves the block.
        if self._control.error is not None and error is None:
            raise self._control.error

    # --- requests, from any thread

    def request_stop(self, status: int = 0, *, at_once: bool = False) -> None:
        """Power the machine off soon, with this exit status. The guest's output until then is written, however long its
        reader takes; with `at_once` the machine does not wait for the reader, and drops the rest. Does nothing to a
        closed machine.
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
        """Stop the machine soon, because of an error outside of it; `wait` raises the first error."""
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
        runs. An exception in `function` stops the machine, and `wait` raises it.
        """
        instruments = self._control.instruments
        if instruments is None:
            raise UsageError("this engine has no hooks")
        return self._looking(lambda: instruments.add_hook(kind, function, start, end), undo=_remove)

    def add_block_hook(
        self, function: Callable[[Any, int], object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function(cpu, pc)` before each block that is executed and begins from `start` up to `end`.

        Takes effect at once on all vCPUs. While there is a block hook the guest is far slower; without one, hooks cost
        nothing. The function runs on the thread of the vCPU that executes the block, without a lock: several may run at
        the same time. raddle.debug.hooks says what a hook may do, and from where it may be added and removed.
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
        """Measure calls into Python, and time by category, for `stats`. Raises UsageError after `start`."""
        self._control.require_open()
        if self.state is not State.READY:
            raise UsageError(f"a machine that is {self.state.value} cannot be profiled any more: before start it can")
        if (instruments := self._control.instruments) is not None:
            self._looking(instruments.profile)

    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Log these items (`in_asm`, `int` ...: those of `-d`) to `stream` from now on. With `within`, log only blocks
        at these guest addresses.
        """
        instruments = self._control.instruments
        if instruments is None:
            kinds.words("items of log()", items)
            raise UsageError(f"-d {','.join(items)} is not supported yet; the nearest that is: -d stats")
        self._looking(lambda: instruments.log(items, stream, within))

    def describe(self) -> str:
        """The registers of all CPUs, in the manner of the architecture, and the code around each pc. Without the code
        if the machine runs, if another thread is starting, pausing or resetting it, or in a hook or timer callback.
        Raises MachineError when the machine is closed.
        """
        return self._do(self._control.describe)

    # --- inside

    @property
    def _control(self) -> Control:
        return self._owner.control

    def _do(self, function: Callable[[], R]) -> R:
        """Call it on a worker, in the process that the machine belongs to."""
        self._control.require_here()
        return workers.call(function)

    def _looking(self, look: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
        """Call it on a worker while the machine is held."""
        control = self._control

        def held() -> R:
            with control.hold():
                return look()

        control.require_here()
        return workers.call(held, undo)


class _Owner:
    """The `Machine`'s only reference to its control: when the `Machine` is dropped, this closes the machine."""

    __slots__ = ("control",)

    def __init__(self, control: Control) -> None:
        self.control: Final = control

    def close(self) -> None:
        self.control.close()

    def __del__(self) -> None:
        control = self.control
        if control.closed or sys.is_finalizing():
            return
        # This may run on any thread, also a vCPU's: do not wait.
        workers.submit(control.close)
        if control.state in (State.RUNNING, State.PAUSED):
            warnings.warn(
                f"a machine that is {control.state.value} was dropped, which ends it; close it, or use `with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def _remove(hook: Hook) -> None:
    with suppress(MachineError):  # the machine has been closed meanwhile
        hook.remove()
