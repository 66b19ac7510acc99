# SPDX-License-Identifier: Apache-2.0
"""One virtual CPU as Python sees it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from raddle import kinds, workers
from raddle.errors import UsageError, machine_closed
from raddle.ir.header import COMMON
from raddle.ir.types import Field, Type
from raddle.runtime._native import ffi, lib
from raddle.unique import Unique

if TYPE_CHECKING:
    from raddle.threads.engine import Engine

_POINTERS = {
    Type.I1: "uint8_t *",
    Type.I32: "uint32_t *",
    Type.I64: "uint64_t *",
    Type.F32: "uint32_t *",
    Type.F64: "uint64_t *",
}

LINES: Final = 32
"""How many interrupt lines a vCPU has."""


class Registers(Unique):
    """A vCPU's state as attributes: ``cpu.regs.pc``, ``cpu.regs.r0``. Exact while the machine is paused.

    Registers are read as unsigned numbers. A register of N bits takes numbers from -2**(N-1) to 2**N - 1; a negative
    one is kept as its two's complement. Anything else is a UsageError.
    """

    __slots__ = ("_cpu",)
    _cpu: VCpu

    def __init__(self, cpu: VCpu) -> None:
        object.__setattr__(self, "_cpu", cpu)

    def __getattr__(self, name: str) -> int:
        cpu = self._cpu
        view = cpu.engine.frontend.views.get(name)
        try:
            return cpu[name] if view is None else view.get(cpu)
        except KeyError:
            raise AttributeError(f"there is no register {name!r}") from None

    def __setattr__(self, name: str, value: int) -> None:
        cpu = self._cpu
        view = cpu.engine.frontend.views.get(name)
        try:
            if view is None:
                cpu[name] = value
            else:
                view.set(cpu, kinds.register(name, value, view.bits))
        except ValueError as error:
            raise UsageError(f"register {name} cannot be {value:#x}: {error}") from None
        except KeyError:
            raise AttributeError(f"there is no register {name!r}") from None

    def __dir__(self) -> list[str]:
        frontend = self._cpu.engine.frontend
        return ["pc", *(frontend.register_names or frontend.state.fields)]


class _Look:
    """Queued work that reads the vCPU's pc."""

    def __init__(self, cpu: VCpu) -> None:
        self._cpu = cpu
        self.pc: int | None = None
        self.answered = workers.Latch()

    def __call__(self) -> None:
        self._cpu._look = None
        self.pc = int(self._cpu.header.pc)
        self.answered.set()


class VCpu(Unique):
    """A virtual CPU.

    Fields of the state (``cpu["r0"]``) are exact, and may be written, while the machine is paused, on the vCPU's own
    thread (in helpers, and device handlers that it calls), and in work that runs on the vCPU. The request methods may
    be called from any thread.
    They raise UsageError for an argument of another kind, or a number of too many bits, and then ask for nothing.
    """

    def __init__(self, engine: Engine, index: int, env: Any) -> None:
        self.engine = engine
        self.index = index
        self.env: Any = env
        self.header: Any = ffi.cast("struct raddle_cpu_header *", lib.raddle_cpu_header(env))
        self.regs = Registers(self)
        self.thread: threading.Thread | None = None
        self.borrower = 0
        """The ident of the timers' thread while that runs this vCPU in its thread's place and calls Python for it."""
        self._adopted = False
        self._work: deque[Callable[[], None]] = deque()
        self.awaited = False
        """A thread waits for queued work, even in a pause; under the engine's condition."""
        self._look: _Look | None = None
        """The queued request for the vCPU's pc. Threads share it: at most one is queued."""

    def close(self) -> None:
        """The native part is about to be freed: using it from now on raises MachineError."""
        self._work.clear()
        self._look = None
        for name in ("engine", "env", "header", "regs"):  # they may be missing: a forked child closes it again
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        """Called only for attributes that do not exist: a closed vCPU has no native part."""
        if name in ("engine", "env", "header", "regs"):
            raise machine_closed()
        raise AttributeError(f"a vCPU has no {name!r}")

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread runs this vCPU."""
        return workers.is_current(self.thread) or self.borrower == threading.get_ident()

    def lend(self, begins: bool) -> None:
        """The timers' thread, which runs this vCPU, begins or ends a call of Python. Until the end it counts as the
        vCPU's thread.
        """
        if begins:
            self.borrower, self._adopted = threading.get_ident(), workers.adopt()
            return
        self.borrower = 0
        if self._adopted:
            workers.release()

    # -- state ---------------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> int:
        """A field of the guest state, or of the common header, as an unsigned number. Raises KeyError."""
        field = self._field(name)
        return int(ffi.cast(_POINTERS[field.type], ffi.cast("char *", self.env) + field.offset)[0])

    def __setitem__(self, name: str, value: int) -> None:
        """Write a field; numbers as for `Registers`. Raises KeyError."""
        field = self._field(name)
        # The header has room for the pc of any guest.
        bits = kinds.register(name, value, self.engine.frontend.word.bits if name == "pc" else field.type.bits)
        if field.offset < 0:  # in the header: other threads write some of these fields, and read others (`pc`)
            lib.raddle_field_store(self.env, field.offset, field.type.size, bits)
            return
        ffi.cast(_POINTERS[field.type], ffi.cast("char *", self.env) + field.offset)[0] = bits

    def _field(self, name: str) -> Field:
        try:
            return self.engine.frontend.state.fields.get(name) or COMMON[name]
        except (KeyError, TypeError):
            kinds.text("the name of a vCPU's field", name)
            raise KeyError(f"{name}: neither a field of the guest's state nor a common one") from None

    @property
    def pc(self) -> int:
        """The vCPU's pc: while a hook, a device or a helper runs for it, the address of the instruction that called.

        Exact on the vCPU's own thread and while the machine is paused.
        """
        return int(lib.raddle_pc(self.env))

    # -- requests ------------------------------------------------------------------------------------------------------

    def interrupt_set(self, bits: int) -> None:
        """Raise interrupt lines; wakes a halted vCPU."""
        kinds.unsigned("what interrupt_set() raises", bits, LINES)
        lib.raddle_interrupt_set(self.env, bits)

    def interrupt_clear(self, bits: int) -> None:
        """Lower interrupt lines."""
        kinds.unsigned("what interrupt_clear() lowers", bits, LINES)
        lib.raddle_interrupt_clear(self.env, bits)

    @workers.handed_over
    def async_run_on_cpu(self, work: Callable[[], None]) -> None:
        """Run `work` soon on this vCPU's thread, outside generated code, after work that was queued before. A pause
        delays it. Does not wait.
        """
        kinds.function("the work of async_run_on_cpu()", work)
        with self.engine.use():
            self._work.append(work)
            lib.raddle_work(self.env)

    @workers.handed_over
    def run_on_cpu(self, work: Callable[[], None]) -> None:
        """Run `work` on this vCPU's thread, after work that was queued before, and wait for it, also while the machine
        is paused: then the vCPU waits again afterwards. Runs `work` at once when called on that thread, or when there
        is none: before the start and after the end.

        Not under the big lock: the vCPU may be waiting for it. Raises what `work` raises.
        """
        kinds.function("the work of run_on_cpu()", work)
        if self.thread is None or not self.thread.is_alive() or self.runs_here:
            work()
            return
        done = workers.Latch()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        self.async_run_on_cpu(run)
        self.engine.wake(self)
        while not done.wait(0.2):
            if not self.thread.is_alive():
                self.drain()
        if errors:
            raise errors[0]

    def async_safe_run_on_cpu(self, work: Callable[[], None]) -> None:
        """Run `work` soon on this vCPU's thread while no vCPU is in generated code; otherwise as `async_run_on_cpu`.
        Does not wait.
        """
        kinds.function("the work of async_safe_run_on_cpu()", work)

        def run() -> None:
            with self.engine.exclusive():
                work()

        self.async_run_on_cpu(run)

    def power_on(self, entry: int, argument: int) -> None:
        """Reset this vCPU and let it run from `entry`, with `argument` as its first argument: numbers that fit into a
        word of the guest. Does not wait.
        """
        self._check_words("power_on()", entry, argument)

        def run() -> None:
            self.engine.flush_tlb(self)
            self.engine.frontend.reset(self, entry, argument)
            self.header.halted = 0
            self.header.powered_off = 0

        self.async_run_on_cpu(run)

    def halt(self) -> None:
        """Let this vCPU wait until an interrupt line is pending. Call it on its own thread, from a helper of its
        block's last instruction.
        """
        self.header.halted = 1

    def power_down(self, entry: int, argument: int) -> None:
        """Halt as well, and reset the vCPU to run from `entry`, as `power_on` does, except for state that the guest's
        front end keeps. Does not wait.
        """
        self._check_words("power_down()", entry, argument)

        def run() -> None:
            self.engine.flush_tlb(self)
            self.engine.frontend.power_down_reset(self, entry, argument)
            self.header.halted = 1

        self.async_run_on_cpu(run)

    def _check_words(self, method: str, entry: int, argument: int) -> None:
        bits = self.engine.frontend.word.bits
        kinds.unsigned(f"the entry of {method}", entry, bits)
        kinds.unsigned(f"the argument of {method}", argument, bits)

    def power_off(self) -> None:
        """Stop this vCPU until it is powered on again. Does not wait."""

        def run() -> None:
            self.header.powered_off = 1

        self.async_run_on_cpu(run)

    def drain(self) -> None:
        """Run queued work: on this vCPU's thread, or on any thread before that has started or after it has ended."""
        while True:
            try:
                work = self._work.popleft()
            except IndexError:  # not tested before: another thread may be draining, too
                return
            work()

    # -- information ---------------------------------------------------------------------------------------------------

    @workers.handed_over
    def info(self) -> dict[str, object]:
        """Thread, state and counters, for `info cpus`. Asks a running vCPU for its pc and waits up to 50 ms; the rest
        is a snapshot that may be inconsistent. Any thread.
        """
        with self.engine.use():
            return self._info()

    def _info(self) -> dict[str, object]:
        header = self.header
        state = "off" if header.powered_off else "halted" if header.halted else "running"
        counters = {name: self[name] for name in COMMON if name.startswith("count_")}
        counters["trace_hash"] = self["trace_hash"]
        thread = self.thread
        return {
            "index": self.index,
            "thread": thread.native_id if thread is not None and thread.is_alive() else None,
            "state": state,
            "pc": self._where(),
            **counters,
        }

    def _where(self) -> int:
        """The pc; exact if the vCPU's thread answers in time."""
        thread = self.thread
        resting = self.header.halted or self.header.powered_off or self.engine.paused
        if resting or thread is None or not thread.is_alive() or self.runs_here:
            return self.pc
        look = self._ask_where()
        look.answered.wait(0.05)
        return int(self.header.pc) if look.pc is None else look.pc

    def _ask_where(self) -> _Look:
        look = self._look
        if look is None:
            self._look = look = _Look(self)  # two threads may get here at once, and queue one each
            self.async_run_on_cpu(look)
        return look

    def __repr__(self) -> str:
        return f"<VCpu {self.index}>"
