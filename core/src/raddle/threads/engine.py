# SPDX-License-Identifier: Apache-2.0
"""The engine: a context of the native runtime with its vCPUs, run by one host thread each or by one for all."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from raddle import workers
from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.debug.hooks import Hook, Hooks
from raddle.debug.profile import Profile, ThreadClock
from raddle.errors import MachineError, machine_closed
from raddle.ir.builder import Callee, CalleeKind
from raddle.memory import AddressSpace
from raddle.memory.space import IoHandler, Kind
from raddle.runtime import code_memory, helpers
from raddle.runtime._native import ffi, lib
from raddle.threads import callbacks, process, schedules
from raddle.threads.biglock import BigLock
from raddle.threads.callees import Callees, write_code
from raddle.threads.timer import Timer
from raddle.threads.vcpu import VCpu
from raddle.translate.frontend import FrontEnd
from raddle.translate.translator import Translator
from raddle.unique import Unique

CODE_SIZE: Final = 96 << 20
"""Bytes of the code buffer, with the records of what is in it; both are flushed as a whole when they are so many."""
MEMO_SIZE: Final = 64 << 20
"""Bytes of what is kept of translations besides their code, in the runtime and in Python; emptied when it is full."""
WFE_LIMIT_US: Final = 1000
"""Microseconds that a vCPU waits for an event at the most. Architectures let such a wait end at any time, and guests
that count on a stream of events must not wait for one that nobody sends."""

PARTS: Final = ("backend", "callees", "handlers", "hooks", "miss", "timer_callbacks", "translator")
"""What an engine has until it is closed."""

MEMORY_KINDS: Final = {
    Kind.RAM: lib.RADDLE_REGION_RAM,
    Kind.ROM: lib.RADDLE_REGION_ROM,
    Kind.ROM_DEVICE: lib.RADDLE_REGION_ROM_DEVICE,
}

BlockHook = Callable[[VCpu, int], None]
WatchHook = Callable[[VCpu, int, int, bool, int], None]


class Engine(Unique):
    """Runs the vCPUs of one machine.

    `start`, `pause`, `resume`, `stop`, `join` may be called from any thread; what each waits for stands there. The
    first error of any vCPU, device or hook stops everything and is raised by `join`. `big_lock` and `exclusive` are for
    threads of Raddle's own: an exception that a signal's handler raises would leave them taken.
    """

    def __init__(
        self,
        frontend: FrontEnd,
        backend: Callable[[CodegenConfig], BackEnd],
        decision: Decision,
        memory: AddressSpace,
        ncpus: int,
        *,
        icount_shift: int | None = None,
        icount_sleep: bool = False,
        split_wx: bool | None = None,
        memo_size: int = MEMO_SIZE,
        code_size: int = CODE_SIZE,
    ) -> None:
        """`split_wx`: see `raddle.runtime.code_memory`."""
        self.frontend = frontend
        self.decision = decision
        self.memory = memory
        self.parallel = decision.mode is Mode.MULTI
        self.icount = icount_shift is not None
        self.error: BaseException | None = None
        self.block_hooks: tuple[BlockHook, ...] = ()
        self.watch_hooks: tuple[WatchHook, ...] = ()
        self.hooks = Hooks(self)
        self.clocks: list[ThreadClock] = []
        """One a thread that runs or has run vCPUs."""
        self._profile: Profile | None = None
        self.timer_callbacks: list[Callable[[], None]] = []
        self._adding_timer = threading.Lock()
        """A timer's place in `timer_callbacks` is told to the runtime before it is taken: one is added at a time."""
        self.handlers: list[IoHandler] = []
        self._condition = threading.Condition()
        self._running = False
        self._paused = False
        self._stopping = False
        self._borrowed = False
        """The process has its settings for this engine."""
        self._parked = 0
        self._threads: list[workers.Thread] = []
        self._live = 0
        """Threads that run vCPUs, or are about to; those that come when the engine is stopping turn back."""
        self._users = 0
        """Threads of Raddle's own that are within `use`. Under the condition."""
        self._freeing = False
        """No vCPU runs any more, and nobody new comes into `use`. Set under the condition."""

        self.code_memory = code_memory.describe(split_wx)
        """How translated code is mapped, in words."""
        self.warnings = code_memory.warnings(split_wx)
        """What a user should know about the host."""
        flags = code_memory.flags(split_wx)
        if self.parallel:
            flags |= lib.RADDLE_FLAG_PARALLEL
        if self.icount:
            flags |= lib.RADDLE_FLAG_ICOUNT
            flags |= lib.RADDLE_FLAG_SLEEP if icount_sleep else 0
        config = ffi.new("struct raddle_config *")
        config.page_bits = frontend.page_bits
        config.word_bits = frontend.word.bits
        config.ncpus = ncpus
        config.flags = flags
        config.fetch_index_shift = frontend.fetch_index_shift
        config.wfe_limit_us = 0 if self.icount else WFE_LIMIT_US
        config.code_size = code_size
        self._context = lib.raddle_context_new(config, callbacks.CALLBACKS)
        if self.closed:
            reason = os.strerror(ffi.errno)
            raise MachineError(f"the runtime cannot be set up: {code_memory.refusal(split_wx) or reason}")
        callbacks.ENGINES[callbacks.address(self.context)] = self
        self.big_lock = BigLock(self.context)
        self.cpus: list[VCpu] = []
        try:
            self._build(backend, icount_shift, memo_size, ncpus)
        except BaseException:
            self.close()
            raise

    # -- building ------------------------------------------------------------------------------------------------------

    def _build(
        self, backend: Callable[[CodegenConfig], BackEnd], icount_shift: int | None, memo_size: int, ncpus: int
    ) -> None:
        frontend = self.frontend
        if icount_shift is not None:
            lib.raddle_icount_shift(self.context, icount_shift)
        self.callees = Callees(self.context, frontend, self.memory)
        self.backend = backend(
            CodegenConfig(
                state=frontend.state,
                word=frontend.word,
                page_bits=frontend.page_bits,
                callee_number=self.callees.number,
                parallel=self.parallel,
                icount=self.icount,
                fences=int(self.decision.fences) if self.parallel else 0,
                call_helper=_address_of("raddle_call_helper"),
                first_python=helpers.FIRST_PYTHON,
            )
        )
        self.translator = Translator(frontend, self.backend, self.context, memo_size)
        self.miss: Callable[[Any], int] = self.translator.miss
        """What a block look-up that fails runs."""
        self.callees.compile_routines(self.backend)
        self._map_memory()
        self._make_cpus(ncpus)

    @property
    def closed(self) -> bool:
        return bool(self._context == ffi.NULL)

    @property
    def context(self) -> Any:
        """The runtime's: raddle_context *. Raises MachineError when the engine is closed."""
        if self.closed:
            raise machine_closed()
        return self._context

    def _map_memory(self) -> None:
        regions = ffi.new("struct raddle_region[]", len(self.memory.regions))
        for entry, region in zip(regions, self.memory.regions, strict=True):
            entry.base = region.start
            entry.size = region.size
            if region.kind is Kind.IO:
                assert region.handler is not None
                entry.kind = lib.RADDLE_REGION_PYTHON
                entry.id = len(self.handlers)
                if region.routine is not None:
                    entry.kind = lib.RADDLE_REGION_ROUTINE
                    entry.memory = self.callees.region_routine(region)
                self.handlers.append(region.handler)
            else:
                entry.kind = MEMORY_KINDS[region.kind]
                if region.handler is not None:
                    entry.id = len(self.handlers)
                    self.handlers.append(region.handler)
                entry.memory = ffi.cast("void *", region.host_address)
        if lib.raddle_memory_set(self.context, regions, len(self.memory.regions)):
            raise MachineError(f"the runtime refuses the memory map: {os.strerror(ffi.errno)}")
        self.memory.fix()
        self.memory.on_write(lambda start, size: lib.raddle_code_invalidate(self.context, start, size))
        self.memory.on_serve_loads(
            lambda region, by_handler: lib.raddle_rom_device_loads(self.context, region.start, by_handler)
        )

    def flush_tlb(self, cpu: VCpu) -> None:
        """Empty a vCPU's software TLB. On its own thread, outside generated code, or before it runs; waits for the
        end of an exclusive section, so not in one.
        """
        lib.raddle_tlb_flush(cpu.env)

    def _make_cpus(self, ncpus: int) -> None:
        names = ("raddle_slow_load", "raddle_slow_store", "raddle_slow_atomic", "raddle_call_helper")
        thunks = self.backend.thunks({name: _address_of(name) for name in names})
        fields = {name: write_code(self.context, code) for name, code in thunks.by_field.items()}
        lib.raddle_set_enter(self.context, ffi.cast("void *", write_code(self.context, thunks.enter)))
        self.callees.connect()
        for index in range(ncpus):
            env = lib.raddle_cpu_new(self.context, index, self.frontend.state.size)
            if env == ffi.NULL:
                raise MachineError(f"no memory for vCPU {index}")
            cpu = VCpu(self, index, env)
            cpu.header.powered_off = 1
            cpu.header.helpers = ffi.cast("void *", self.callees.table)
            for name, address in fields.items():
                setattr(cpu.header, name, ffi.cast("void *", address))
            callbacks.CPUS[callbacks.address(env)] = cpu
            self.cpus.append(cpu)
        self.frontend.connect(self)

    # -- vCPUs ---------------------------------------------------------------------------------------------------------

    def cpu_at(self, env: Any) -> VCpu:
        """The vCPU of an env pointer."""
        return callbacks.CPUS[callbacks.address(env)]

    @property
    def current_cpu(self) -> VCpu | None:
        """A vCPU that the calling thread runs; None on a thread that runs none."""
        current = threading.current_thread()
        return next((cpu for cpu in self.cpus if cpu.thread is current), None)

    @property
    def inside(self) -> bool:
        """Whether the vCPUs wait for the calling thread, or may: it runs one, or has the big lock."""
        return self.big_lock.held or self.current_cpu is not None

    # -- hooks, logs ---------------------------------------------------------------------------------------------------

    @workers.handed_over
    def add_hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """See `raddle.debug.hooks.Hooks`. Any thread."""
        return self.hooks.add(kind, function, start, end)

    @workers.handed_over
    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Write about these items of `-d` to `stream` from now on; see `raddle.debug.log.Log`. Any thread."""
        from raddle.debug.log import Log

        Log(self, items, stream, within)

    @workers.handed_over
    def around(self, cpu: VCpu) -> list[str]:
        """See `raddle.debug.listing.around`. Neither in an exclusive section nor under the big lock."""
        from raddle.debug.listing import around

        # It looks at the TLB and the watched pages, which hooks change in exclusive sections.
        with self.exclusive():  # and nothing is freed
            return around(cpu)

    @workers.handed_over
    def profile(self) -> None:
        """Measure where the time goes, for `stats`. Before `start`."""
        if self._profile is None:
            self._profile = Profile(self)

    # -- clock ---------------------------------------------------------------------------------------------------------

    def clock_ns(self) -> int:
        """Virtual time in nanoseconds since the machine was started; it stands while the machine is paused.

        Raises MachineError when the engine is closed.
        """
        return int(lib.raddle_clock_ns(self.context))

    @workers.handed_over
    def timer(self, callback: Callable[[], None]) -> Timer:
        """A disarmed timer that calls `callback` under the big lock. Any thread. Raises MachineError when there are too
        many.
        """
        with self.use(), self._adding_timer:
            number = self._new_timer(lib.RADDLE_TIMER_PYTHON, len(self.timer_callbacks), ffi.NULL)
            self.timer_callbacks.append(self._profile.timer(callback) if self._profile else callback)
        return Timer(self, number)

    @workers.handed_over
    def routine_timer(self, cpu: VCpu, routine: str) -> Timer:
        """A disarmed timer at whose deadline `cpu`'s thread, between two blocks or in its sleep, runs an IR routine
        under the big lock, with the timer's number as its argument. It needs no GIL. Raises MachineError when there is
        no such routine, or there are too many timers.
        """
        with self.use():
            number = self.callees.number(Callee(CalleeKind.ROUTINE, routine))
            return Timer(self, self._new_timer(lib.RADDLE_TIMER_CALLEE, number, cpu.env))

    @workers.handed_over
    def event_timer(self, cpu: VCpu) -> Timer:
        """A disarmed timer at whose deadline `cpu`'s event register is set, as SEV does. It needs no GIL. Raises
        MachineError when there are too many timers.
        """
        with self.use():
            return Timer(self, self._new_timer(lib.RADDLE_TIMER_EVENT, 0, cpu.env))

    def _new_timer(self, kind: int, value: int, env: Any) -> int:
        number = int(lib.raddle_timer_new(self.context, kind, value, env))
        if number < 0:
            if ffi.errno == errno.ENOSPC:
                raise MachineError(f"a machine has at most {lib.RADDLE_TIMERS} timers")
            raise MachineError(f"cannot start the thread that watches the timers: {os.strerror(ffi.errno)}")
        return number

    # -- control -------------------------------------------------------------------------------------------------------

    @workers.handed_over
    def start(self) -> None:
        """Start the threads. Returns at once. Until they end the process has the settings of raddle.threads.process."""
        with self._condition:
            self._require_open()
            if self._running:
                return
            self._running = True
            process.borrow()
            self._borrowed = True
            if not self._paused:
                lib.raddle_clock_start(self.context)
            groups = [[cpu] for cpu in self.cpus] if self.parallel else [self.cpus]
            schedule = schedules.alone if self.parallel else schedules.in_turn
            for group in groups:
                name = f"vCPU {group[0].index}" if self.parallel else "vCPUs"
                thread = workers.Thread(self._thread, name, (schedule, group))
                for cpu in group:
                    cpu.thread = thread
                self._threads.append(thread)
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError as error:
                self.stop()
                raise MachineError(f"cannot start a thread for each vCPU: {error}") from None

    @property
    def paused(self) -> bool:
        """Whether the vCPUs stand, or are about to."""
        return self._paused

    @workers.handed_over
    def pause(self) -> None:
        """Stop all vCPUs between blocks; waits until they stand, or another thread lets them go on, unless called on
        one of their threads, or under the big lock.
        """
        inside = self.inside
        with self._condition:
            self._require_open()
            self._paused = True
            lib.raddle_clock_stop(self.context)
            lib.raddle_stop(self.context)
            if inside:
                return
            # Somebody may let them go on before they all stand: then there is nothing to wait for.
            while self._paused and self._parked < sum(thread.is_alive() for thread in self._threads):
                self._condition.wait(0.1)

    @workers.handed_over
    def resume(self) -> None:
        """Let the vCPUs go on. Returns at once."""
        with self._condition:
            if not self._paused or self._stopping:
                return
            self._paused = False
            lib.raddle_clock_start(self.context)
            lib.raddle_go(self.context)
            self._condition.notify_all()

    @workers.handed_over
    def stop(self) -> None:
        """End all threads for good. Returns at once; `join` waits."""
        with self._condition:
            self._stopping = True
            if not self._freeing:
                lib.raddle_stop(self.context)
            self._condition.notify_all()

    @workers.handed_over
    def join(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended, `timeout` seconds at most; whether they have. Raises the first error."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)
            if thread.is_alive():
                return False
        if self.error is not None:
            raise self.error
        return True

    @workers.handed_over
    def close(self) -> None:
        """Free everything native, when the threads have ended; they must have been stopped."""
        with self._condition:
            self._stopping = True
            while self._live:
                self._condition.wait()
            self._give_back()
            self._freeing = True
            while self._users:
                self._condition.wait()
            if self.closed:
                return
        # Before the addresses are free for another engine's; timers that call until then find nobody.
        for cpu in self.cpus:
            callbacks.CPUS.pop(callbacks.address(cpu.env), None)
        callbacks.ENGINES.pop(callbacks.address(self.context), None)
        lib.raddle_context_free(self.context)
        with self._condition:
            self._context = ffi.NULL
        self._forget()

    def leave_to_parent(self) -> None:
        """In a child that was forked, where nothing of this runs: it is closed, and what is native stays as it is, with
        the locks that others had.
        """
        self._condition = threading.Condition()
        self._freeing = True
        self._context = ffi.NULL
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()

    def _give_back(self) -> None:
        """No thread runs vCPUs any more. Under the condition."""
        if self._borrowed:
            self._borrowed = False
            process.give_back()

    def _forget(self) -> None:
        """Let go of all parts, which know the engine: what is left of it when it is closed is freed when nobody has it
        any more, without a search for cycles of references. What is asked of it from now on raises MachineError.
        """
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()
        self.hooks.close()
        self.memory.disconnect()
        self._profile = None
        self._threads.clear()
        for name in PARTS:
            self.__dict__.pop(name, None)
        lib.raddle_trim()

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there alone."""
        if name in PARTS:
            raise machine_closed()
        raise AttributeError(f"an engine has no {name!r}")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While this holds, no vCPU is in generated code. Not under the big lock. Raises MachineError as `use` does."""
        with self.use():
            lib.raddle_exclusive_begin(self.context)
            try:
                yield
            finally:
                lib.raddle_exclusive_end(self.context)

    @contextmanager
    def use(self) -> Iterator[None]:
        """While this holds, nothing native is freed: `close` waits, so that nothing is done within that waits for it.
        On threads of Raddle's own. Raises MachineError when the engine is closed, or about to be.
        """
        with self._condition:
            self._require_open()
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def _require_open(self) -> None:
        """Raise MachineError when the engine is being freed. Under the condition."""
        # Freeing begins with the end of the timers: a callback that has begun may go on.
        if self.closed or (self._freeing and threading.get_ident() != self.big_lock.timer_thread):
            raise machine_closed()

    def fail(self, error: BaseException, cpu: VCpu | None) -> None:
        """Keep the first error, with the vCPU and pc where it arose, and stop everything. Any thread."""
        with self._condition:
            if self.error is None:
                if cpu is not None:
                    error.add_note(f"on vCPU {cpu.index}, guest pc {cpu.pc:#x}")
                self.error = error
        lib.raddle_error(self.context, cpu.env if cpu is not None else ffi.NULL)
        self.stop()

    # -- threads -------------------------------------------------------------------------------------------------------

    def _thread(self, schedule: Callable[[Engine, Sequence[VCpu]], None], cpus: Sequence[VCpu]) -> None:
        with self._condition:
            if self._stopping:  # the start was interrupted, and the engine may be closed already
                return
            self._live += 1
        clock = ThreadClock([cpu.index for cpu in cpus])
        self.clocks.append(clock)
        try:
            schedule(self, cpus)
        except BaseException as error:
            self.fail(error, cpus[0] if len(cpus) == 1 else None)
        finally:
            clock.stop()
            self._leave()

    def _leave(self) -> None:
        with self._condition:
            self._live -= 1
            if self._stopping and not self._live:
                self._give_back()
            self._condition.notify_all()

    def park(self) -> bool:
        """A vCPU was told to stop: wait while the machine is paused, and do what `run_on_cpu` waits for meanwhile.
        Whether it is to go on.
        """
        own = [cpu for cpu in self.cpus if cpu.thread is threading.current_thread()]
        while self._stand(own):
            for cpu in own:
                cpu.drain()
        return not self._stopping

    def _stand(self, own: Sequence[VCpu]) -> bool:
        """Wait until there is no pause, or there is work for one of the thread's own vCPUs; whether there is."""
        with self._condition:
            self._parked += 1
            self._condition.notify_all()
            with self.idle():
                while self._paused and not self._stopping and not any(cpu.awaited for cpu in own):
                    self._condition.wait()
            self._parked -= 1
            # Who goes on leaves it as it is: a pause may come before the queue is looked at.
            if again := self._paused and not self._stopping:
                for cpu in own:
                    cpu.awaited = False
            return again

    @workers.handed_over
    def wake(self, cpu: VCpu) -> None:
        """Somebody waits for work in `cpu`'s queue: its thread does it though the machine is paused. Any thread."""
        with self._condition:
            cpu.awaited = True
            self._condition.notify_all()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Counts what the thread waits for nothing to do."""
        started = time.monotonic_ns()
        yield
        ident = threading.get_native_id()
        for clock in self.clocks:
            if clock.native_id == ident:
                clock.idle_ns += time.monotonic_ns() - started

    # -- information ---------------------------------------------------------------------------------------------------

    @workers.handed_over
    def stats(self) -> dict[str, object]:
        """Counters of the translator and the runtime, of each vCPU, its thread and, after `profile`, the paths into
        Python. Any thread; see raddle.debug.report for a text.
        """
        with self.use():
            return self._stats()

    def _stats(self) -> dict[str, object]:
        native = ffi.new("struct raddle_stats *")
        lib.raddle_stats(self.context, native)
        result: dict[str, object] = dict(self.translator.statistics())
        result.update({name: int(getattr(native, name)) for name, _ in ffi.typeof(native[0]).fields})
        result["code_bytes"] = int(lib.raddle_code_used(self.context))
        per_cpu: list[dict[str, object]] = []
        for cpu in self.cpus:
            one = ffi.new("struct raddle_cpu_stats *")
            lib.raddle_cpu_stats(cpu.env, one)
            per_cpu.append({**cpu.info(), **{name: int(getattr(one, name)) for name, _ in ffi.typeof(one[0]).fields}})
        result["cpus"] = per_cpu
        # While no vCPU can run, the thread that runs them in turn sleeps in the runtime.
        result["threads"] = [
            {**times, "idle_ns": times["idle_ns"] + native.idle_ns} for times in (clock.read() for clock in self.clocks)
        ]
        result["paths"] = self._profile.paths() if self._profile else []
        return result


def _address_of(name: str) -> int:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
