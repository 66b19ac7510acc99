# SPDX-License-Identifier: Apache-2.0
"""Hooks: Python functions that are called when a guest does something.

Threads: a hook is called on its vCPU's thread, or on the timers' thread in its place, without a lock; in multi-threaded
mode several calls may run at the same time, so a hook must guard data that it shares. It may read and write its own
vCPU's registers and guest memory, add and remove hooks, and ask the machine to stop, reset or pause. It must not wait
for another vCPU: `Machine.stop`, `wait`, `close`, `start` and `resume` raise UsageError in it.

`add…` and `remove` may be called on any thread. When they return, they have taken effect on all vCPUs, unless a vCPU's
thread (a hook that removes itself) or a thread with the big lock (a timer callback) has called them: then vCPUs stop
calling a removed hook when they next read the tables, and everything else takes effect when they leave their blocks.

An exception in a hook stops the machine; `Machine.wait` and `Engine.join` raise it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from raddle import kinds, workers
from raddle.debug.probes import ExceptionTaken, Filled, Probes
from raddle.errors import MachineError, UsageError, unknown
from raddle.runtime._native import ffi, lib
from raddle.unique import Unique

if TYPE_CHECKING:
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu
    from raddle.translate.translator import BlockTrace

__all__ = ["MAX_WATCHED_PAGES", "Hook", "Hooks"]

MAX_WATCHED_PAGES: Final = 4096
"""The most pages that all memory hooks together may cover."""

ADDRESSES: Final = 1 << 64
"""How many addresses a guest can have."""

KINDS: Final = ("block", "memory", "exception")


class Hook(Unique):
    """A hook that was added."""

    def __init__(
        self, hooks: Hooks, kind: str, call: Callable[..., object], start: int | None, end: int | None
    ) -> None:
        self._hooks = hooks
        self.kind = kind
        self.call = call
        """The function that the engine calls."""
        self.start, self.end = start, end

    def remove(self) -> None:
        """Remove the hook; see above for threads. Does nothing the second time."""
        self._hooks.remove(self)


class Hooks:
    """The hooks of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probes = Probes(engine)
        self._lock = threading.Lock()
        """Guards the tables; a leaf."""
        self._applying = threading.Lock()
        """Held while waiting for vCPUs, only by threads outside the runtime."""
        self._hooks: tuple[Hook, ...] = ()
        self._tracing = False
        self._pages: tuple[int, ...] = ()

    # --- adding

    def add(self, kind: str, function: Callable[..., object], start: int | None, end: int | None) -> Hook:
        """Add a hook by the name of its kind. Raises UsageError."""
        match kind:
            case "block":
                return self.add_block(function, start, end)
            case "memory":
                return self.add_memory(function, start, end)
            case "exception":
                return self.add_exception(function, start, end)
            case _:
                kinds.text("the kind of a hook", kind)
                raise unknown("kind of hook", kind, KINDS)

    def add_block(
        self, function: Callable[[VCpu, int], object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function(cpu, pc)` before each block whose first instruction lies from `start` up to `end`.

        While there is a block hook, no block is chained to the next, whatever the range: the guest runs 50 to 1000
        times slower. The state is exact and may be changed, except pc.
        """
        low, high = _checked(function, start, end)
        call: Callable[[VCpu, int], object] = function
        if start is not None or end is not None:

            def call(cpu: VCpu, pc: int) -> None:
                if low <= pc < high:
                    function(cpu, pc)

        return self._add(Hook(self, "block", call, start, end))

    def add_memory(
        self, function: Callable[[VCpu, int, int, bool, int], object], start: int | None, end: int | None
    ) -> Hook:
        """Call `function(cpu, address, size, is_write, value)` for each access that touches the virtual addresses from
        `start` up to `end`: for loads after the access, for stores before it. Instruction fetches do not count.

        All accesses to these pages take the slow path; accesses to other pages cost nothing.
        """
        if start is None or end is None:
            raise UsageError("a memory hook needs the first address and the one after the last")
        low, high = _checked(function, start, end)

        def call(cpu: VCpu, address: int, size: int, is_write: bool, value: int) -> None:
            if address < high and low < address + size:
                function(cpu, address, size, is_write, value)

        return self._add(Hook(self, "memory", call, start, end))

    def add_exception(
        self, function: Callable[[VCpu, ExceptionTaken], object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """Call `function(cpu, event)` after each exception or interrupt that is entered at a pc from `start` up to
        `end`.
        """
        low, high = _checked(function, start, end)
        call: Callable[[VCpu, ExceptionTaken], object] = function
        if start is not None or end is not None:

            def call(cpu: VCpu, event: ExceptionTaken) -> None:
                if low <= event.pc < high:
                    function(cpu, event)

        return self._add(Hook(self, "exception", call, start, end))

    def add_fill(self, function: Callable[[VCpu, Filled], object]) -> Hook:
        """Call `function(cpu, event)` after each page-table look-up that a vCPU's TLB needs."""
        kinds.function("a hook", function)
        return self._add(Hook(self, "fill", function, None, None))

    def add_translation(self, function: Callable[[BlockTrace], object]) -> Hook:
        """Call `function(trace)` for each block that is translated from now on, on the translating thread.

        A block is translated once, and executed any number of times: see `add_block` for that.
        """
        kinds.function("a hook", function)
        return self._add(Hook(self, "translation", function, None, None))

    @workers.handed_over
    def _add(self, hook: Hook) -> Hook:
        with self._engine.use():
            with self._lock:
                hooks = (*self._hooks, hook)
                count = len(self._watched(hooks))
                if count > MAX_WATCHED_PAGES:
                    raise UsageError(f"memory hooks on {count} pages; {MAX_WATCHED_PAGES} are possible")
                self._set(hooks)
            self._settle()
        return hook

    @workers.handed_over
    def remove(self, hook: Hook) -> None:
        """Remove a hook; see `Hook.remove`."""
        with ExitStack() as using:
            try:
                using.enter_context(self._engine.use())
            except MachineError:  # closed: without hooks, or the parent's, in which threads may have the lock
                return
            with self._lock:
                if hook not in self._hooks:
                    return
                self._set(tuple(one for one in self._hooks if one is not hook))
            self._settle()

    def close(self) -> None:
        """The engine is closed: drop all hooks and their references."""
        with self._lock:
            for hook in self._hooks:
                hook.call = _nothing
            self._hooks = self._engine.block_hooks = self._engine.watch_hooks = ()
            self._probes.close()

    def _set(self, hooks: tuple[Hook, ...]) -> None:
        """Under the lock: set the tables that callbacks read from now on."""

        def calls(kind: str) -> tuple[Any, ...]:
            return tuple(hook.call for hook in hooks if hook.kind == kind)

        engine = self._engine
        others = [one for one in engine.translator.listeners if one not in [hook.call for hook in self._hooks]]
        self._hooks = hooks
        engine.block_hooks = calls("block")
        engine.watch_hooks = calls("memory")
        engine.translator.listeners = [*others, *calls("translation")]
        self._probes.exceptions = calls("exception")
        self._probes.fills = calls("fill")

    # --- taking effect

    def _settle(self) -> None:
        engine = self._engine
        cpu = engine.current_cpu or (engine.cpus[0] if engine.big_lock.held else None)
        if cpu is None:
            self._apply()
        else:
            # An exclusive section waits until all vCPUs leave the runtime, but this one may be in it, or wait for the
            # lock.
            cpu.async_run_on_cpu(self._apply)

    def _apply(self) -> None:
        """Make the runtime follow the tables. Every vCPU leaves its block meanwhile."""
        engine = self._engine
        with ExitStack() as using:
            try:
                using.enter_context(engine.use())
            except MachineError:
                return
            using.enter_context(self._applying)
            with engine.exclusive():
                if not self._probes.settled:
                    self._probes.apply()
            tracing = bool(engine.block_hooks)
            if tracing != self._tracing:
                self._tracing = tracing
                lib.raddle_trace(engine.context, tracing)
            pages = self._watched(self._hooks)
            if pages != self._pages:
                self._pages = pages
                lib.raddle_watch_set(engine.context, ffi.new("uint64_t[]", pages), len(pages))

    def _watched(self, hooks: tuple[Hook, ...]) -> tuple[int, ...]:
        """Virtual addresses of the pages that memory hooks touch."""
        size = 1 << self._engine.frontend.page_bits
        pages: set[int] = set()
        for hook in hooks:
            if hook.kind == "memory" and hook.start is not None and hook.end is not None:
                if (hook.end - hook.start) // size > MAX_WATCHED_PAGES:
                    raise UsageError(
                        f"a memory hook from {hook.start:#x} to {hook.end:#x}: "
                        f"{MAX_WATCHED_PAGES} pages of {size} bytes are possible"
                    )
                pages.update(range(hook.start & -size, hook.end, size))
        return tuple(sorted(pages))


def _nothing(*_: object) -> None:
    """Replaces the function of a closed engine's hook, so that the hook keeps no references."""


def _checked(function: Callable[..., object], start: int | None, end: int | None) -> tuple[int, int]:
    """The first address, and the one after the last. Raises UsageError for what is no hook."""
    kinds.function("a hook", function)
    kinds.address("the start of a hook", start)
    kinds.address("the end of a hook", end)
    low, high = start if start is not None else 0, end if end is not None else ADDRESSES
    if not 0 <= low < high:
        raise UsageError(f"a hook's addresses go from low to high, not from {low:#x} to {high:#x}")
    if high > ADDRESSES:
        raise UsageError(f"a hook's addresses end before {ADDRESSES:#x}, not at {high:#x}")
    return low, high
