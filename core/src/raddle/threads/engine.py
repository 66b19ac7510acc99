# SPDX-License-Identifier: Apache-2.0
"""The engine: a context of the native runtime with its vCPUs, run by one host thread each or by one for all."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from raddle import kinds, workers
from raddle.accel import Decision, Llsc, Mode
from raddle.codegen.backend import BackEnd, Thunks
from raddle.errors import MachineError, UsageError, machine_closed
from raddle.ir.builder import Callee, CalleeKind
from raddle.memory import AddressSpace
from raddle.memory.space import IoHandler, Kind
from raddle.runtime import code_memory
from raddle.runtime._native import ffi, lib
from raddle.threads import callbacks, host_code, schedules
from raddle.threads.biglock import BigLock
from raddle.threads.callees import write_code
from raddle.threads.lifecycle import Lifecycle, Schedule
from raddle.threads.observer import Observer
from raddle.threads.timer import Timer
from raddle.threads.vcpu import VCpu
from raddle.translate.frontend import FrontEnd

CODE_SIZE: Final = 96 << 20
"""Bytes of the code buffer and the records of its blocks together; when they are used up, both are flushed as a
whole."""
MEMO_SIZE: Final = 64 << 20
"""Bytes of the memo, in the runtime and in Python; it is emptied when it is full."""
WFE_LIMIT_US: Final = 1000
"""The longest time, in microseconds, that a vCPU waits for an event. Architectures let such a wait end at any time, and
a guest that relies on a stream of events must not wait for one that never comes."""

PARTS: Final = ("backend", "callees", "handlers", "miss", "observer", "timer_callbacks", "translator")
"""What an engine has until it is closed."""

MEMORY_KINDS: Final = {
    Kind.RAM: lib.RADDLE_REGION_RAM,
    Kind.ROM: lib.RADDLE_REGION_ROM,
    Kind.ROM_DEVICE: lib.RADDLE_REGION_ROM_DEVICE,
}

BlockHook = Callable[[VCpu, int], None]
WatchHook = Callable[[VCpu, int, int, bool, int], None]


class Engine(Lifecycle):
    """Runs the vCPUs of one machine.

    For how they start, pause and end see `Lifecycle`. `big_lock` and `exclusive` are only for Raddle's own threads.
    """

    def __init__(
        self,
        frontend: FrontEnd,
        backend: type[BackEnd],
        decision: Decision,
        memory: AddressSpace,
        ncpus: int,
        *,
        icount_shift: int | None = None,
        icount_sleep: bool = False,
        split_wx: bool | None = None,
        llsc: Llsc = Llsc.FAST,
        memo_size: int = MEMO_SIZE,
        code_size: int = CODE_SIZE,
    ) -> None:
        """`split_wx`: see `raddle.runtime.code_memory`. Raises UsageError where there is no such `llsc`."""
        super().__init__()
        self.frontend = frontend
        self.decision = decision
        self.memory = memory
        self.parallel = decision.mode is Mode.MULTI
        self.icount = icount_shift is not None
        self.llsc = llsc
        host_code.check_reservations(backend, llsc, ncpus)
        self.block_hooks: tuple[BlockHook, ...] = ()
        self.watch_hooks: tuple[WatchHook, ...] = ()
        self.observer = Observer()
        self.timer_callbacks: list[Callable[[], None]] = []
        self._adding_timer = threading.Lock()
        """The runtime gets a timer's place in `timer_callbacks` before the callback is put there, so only one timer is
        added at a time."""
        self.handlers: list[IoHandler] = []

        chosen = code_memory.choose(split_wx, backend.constant)
        self.code_memory = chosen.description
        """How translated code is mapped, as text."""
        self.warnings = chosen.warnings
        """Warnings about the host, for the user."""
        flags = chosen.flags
        if self.parallel:
            flags |= lib.RADDLE_FLAG_PARALLEL
        if llsc is Llsc.STRICT:
            flags |= lib.RADDLE_FLAG_RESERVE
        if self.icount:
            flags |= lib.RADDLE_FLAG_ICOUNT
            flags |= lib.RADDLE_FLAG_SLEEP if icount_sleep else 0
        config = ffi.new("struct raddle_config *")
        config.page_bits = frontend.page_bits
        config.word_bits = frontend.word.bits
        config.ncpus = ncpus
        config.flags = flags
        config.fetch_index_shift = frontend.fetch_index_shift
        config.common_indices = host_code.common_indices(frontend, backend)
        config.wfe_limit_us = 0 if self.icount else WFE_LIMIT_US
        config.code_size = code_size
        self._context = ffi.NULL if chosen.refusal else lib.raddle_context_new(config, callbacks.CALLBACKS)
        if self.closed:
            raise MachineError(f"the runtime cannot be set up: {chosen.refusal or os.strerror(ffi.errno)}")
        callbacks.ENGINES[callbacks.address(self.context)] = self
        self.big_lock = BigLock(self.context)
        self.cpus: list[VCpu] = []
        try:
            self._build(backend, icount_shift, memo_size, ncpus)
        except BaseException:
            self.close()
            raise

    # -- building ------------------------------------------------------------------------------------------------------

    def _build(self, backend: type[BackEnd], icount_shift: int | None, memo_size: int, ncpus: int) -> None:
        frontend = self.frontend
        if icount_shift is not None:
            lib.raddle_icount_shift(self.context, icount_shift)
        code = host_code.make(
            self.context,
            frontend,
            backend,
            self.decision,
            self.memory,
            icount=self.icount,
            llsc=self.llsc,
            memo_size=memo_size,
        )
        self.callees, self.backend, self.translator = code.callees, code.backend, code.translator
        self.callees.put(code.routines)
        self.miss: Callable[[Any], int] = self.translator.miss
        """Called when the runtime finds no block and the memo lacks something."""
        self._map_memory()
        self._make_cpus(ncpus, code.thunks)

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
        if self.llsc is Llsc.STRICT:
            self.memory.write_by(self._write_memory)
        self.memory.on_write(lambda start, size: lib.raddle_code_invalidate(self.context, start, size))
        self.memory.on_serve_loads(
            lambda region, by_handler: lib.raddle_rom_device_loads(self.context, region.start, by_handler)
        )

    def _write_memory(self, address: int, data: bytes | memoryview) -> None:
        """As one of the observers that reservations are lost to."""
        lib.raddle_phys_write(self.context, address, ffi.from_buffer(data), len(data))

    def flush_tlb(self, cpu: VCpu) -> None:
        """Empty a vCPU's software TLB. Call it on the vCPU's own thread outside generated code, or before the vCPU
        runs. Not in an exclusive section, since it waits for the end of one.
        """
        self.check_cpu("whose TLB is emptied", cpu)
        lib.raddle_tlb_flush(cpu.env)

    def _make_cpus(self, ncpus: int, thunks: Thunks) -> None:
        fields = {name: write_code(self.context, code) for name, code in thunks.by_field.items()}
        lib.raddle_set_enter(self.context, ffi.cast("void *", write_code(self.context, thunks.enter)))
        if thunks.synchronise:
            lib.raddle_set_synchronise(self.context, ffi.cast("void *", write_code(self.context, thunks.synchronise)))
        self.callees.connect()
        timers = lib.raddle_timers_env(self.context, self.frontend.state.size)
        if timers == ffi.NULL:
            raise MachineError("no memory for the timers")
        self._connect_header(ffi.cast("struct raddle_cpu_header *", lib.raddle_cpu_header(timers)), fields)
        for index in range(ncpus):
            env = lib.raddle_cpu_new(self.context, index, self.frontend.state.size)
            if env == ffi.NULL:
                raise MachineError(f"no memory for vCPU {index}")
            cpu = VCpu(self, index, env)
            cpu.header.powered_off = 1
            self._connect_header(cpu.header, fields)
            callbacks.CPUS[callbacks.address(env)] = cpu
            self.cpus.append(cpu)
        self.frontend.connect(self)

    def _connect_header(self, header: Any, fields: Mapping[str, int]) -> None:
        """Let generated code find what it calls; `fields` are the addresses of thunks."""
        header.fp_rules = self.frontend.floats.bits
        header.helpers = ffi.cast("void *", self.callees.table)
        for name, address in fields.items():
            setattr(header, name, ffi.cast("void *", address))

    # -- vCPUs ---------------------------------------------------------------------------------------------------------

    def cpu_at(self, env: Any) -> VCpu:
        """The vCPU of an env pointer."""
        return callbacks.CPUS[callbacks.address(env)]

    def check_cpu(self, what: str, cpu: VCpu) -> None:
        """Raise UsageError, in which `what` names it, unless `cpu` is one of this engine's vCPUs."""
        kinds.instance(what, "a vCPU", cpu, VCpu)
        if cpu.engine is not self:
            raise UsageError(f"{what} must be one of this machine's, not vCPU {cpu.index} of another machine")

    # -- clock ---------------------------------------------------------------------------------------------------------

    def clock_ns(self) -> int:
        """Virtual time in nanoseconds since the machine was started; it stands still while the machine is paused.

        Raises MachineError when the engine is closed.
        """
        return int(lib.raddle_clock_ns(self.context))

    @workers.handed_over
    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer that calls `callback` under the big lock at the deadline that `Timer.set` gives it. Any thread.
        Raises MachineError when there are too many timers.
        """
        kinds.function("what a timer calls", callback)
        with self.use(), self._adding_timer:
            number = self._new_timer(lib.RADDLE_TIMER_PYTHON, len(self.timer_callbacks), ffi.NULL)
            self.timer_callbacks.append(self.observer.timer(callback))
        return Timer(self, number)

    @workers.handed_over
    def native_timer(self, routine: str) -> Timer:
        """A timer that runs an IR routine at its deadline, under the big lock, with the timer's number as argument and
        without the GIL. The routine runs on any thread and belongs to no vCPU: it uses nothing of one's state. Raises
        MachineError when there is no such routine, when it calls Python, or when there are too many timers.
        """
        kinds.text("the routine of a timer", routine)
        with self.use():
            number = self.callees.number(Callee(CalleeKind.ROUTINE, routine))
            self.callees.require_native(routine)
            return Timer(self, self._new_timer(lib.RADDLE_TIMER_ROUTINE, number, ffi.NULL))

    @workers.handed_over
    def routine_timer(self, cpu: VCpu, routine: str) -> Timer:
        """A timer that runs an IR routine at its deadline: on `cpu`'s thread, between two blocks or while it sleeps,
        under the big lock, with the timer's number as argument and without the GIL. Raises MachineError when there is
        no such routine, or there are too many timers.
        """
        self.check_cpu("the vCPU of a timer", cpu)
        kinds.text("the routine of a timer", routine)
        with self.use():
            number = self.callees.number(Callee(CalleeKind.ROUTINE, routine))
            return Timer(self, self._new_timer(lib.RADDLE_TIMER_CALLEE, number, cpu.env))

    @workers.handed_over
    def event_timer(self, cpu: VCpu) -> Timer:
        """A timer that sets `cpu`'s event register at its deadline, like an event from another CPU, without the GIL.
        Raises MachineError when there are too many timers.
        """
        self.check_cpu("the vCPU of a timer", cpu)
        with self.use():
            return Timer(self, self._new_timer(lib.RADDLE_TIMER_EVENT, 0, cpu.env))

    def _new_timer(self, kind: int, value: int, env: Any) -> int:
        number = int(lib.raddle_timer_new(self.context, kind, value, env))
        if number < 0:
            if ffi.errno == errno.ENOSPC:
                raise MachineError(f"a machine has at most {lib.RADDLE_TIMERS} timers")
            raise MachineError(f"cannot start the thread that watches the timers: {os.strerror(ffi.errno)}")
        return number

    # -- threads -------------------------------------------------------------------------------------------------------

    def _groups(self) -> tuple[Schedule, list[list[VCpu]]]:
        if self.parallel:
            return schedules.alone, [[cpu] for cpu in self.cpus]
        return schedules.in_turn, [self.cpus]

    def _forget(self) -> None:
        super()._forget()
        self.observer.close()
        self.memory.disconnect()
        for name in PARTS:
            self.__dict__.pop(name, None)
        lib.raddle_trim()

    def __getattr__(self, name: str) -> Any:
        """Called only for attributes that do not exist."""
        if name in PARTS:
            raise machine_closed()
        raise AttributeError(f"an engine has no {name!r}")

    # -- information ---------------------------------------------------------------------------------------------------

    @workers.handed_over
    def stats(self) -> dict[str, object]:
        """Counters of the translator, the runtime, each vCPU and its thread and, if the observer measures them, of the
        calls into Python. Any thread; raddle.debug.report makes a text of them.
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
        result["paths"] = self.observer.paths()
        return result
