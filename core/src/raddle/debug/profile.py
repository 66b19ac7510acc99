# SPDX-License-Identifier: Apache-2.0
"""Where a machine's time goes: the paths from the vCPUs' threads into Python.

A thread's wall time (`raddle.threads.clock`) is the sum of three: CPU time, which the paths divide into translation,
Python and execution; sleep and waits for the big lock, which the runtime measures; and the rest, waits for the GIL and
for a core. The kernel tells how long a thread was ready with no core free, and each path the time in which it had no
CPU. On a loaded machine both include the cost of a contended GIL; with a core for every thread, only the second does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raddle.memory.space import IoHandler

if TYPE_CHECKING:
    from raddle.threads.engine import Engine

__all__ = ["Profile"]


class _Path:
    """A kind of call from the runtime into Python: counts and nanoseconds for each vCPU, and in the last place for no
    vCPU.
    """

    __slots__ = ("calls", "cpu_ns", "kind", "name", "wall_ns")

    def __init__(self, kind: str, name: str, cpus: int) -> None:
        self.kind = kind
        self.name = name
        self.calls = [0] * (cpus + 1)
        self.wall_ns = [0] * (cpus + 1)
        self.cpu_ns = [0] * (cpus + 1)

    def add(self, cpu: int, started: int, cpu_started: int) -> None:
        """Count a call that began at these times. Only a vCPU's own thread writes its place."""
        self.cpu_ns[cpu] += time.thread_time_ns() - cpu_started
        self.wall_ns[cpu] += time.monotonic_ns() - started
        self.calls[cpu] += 1


class Profile:
    """Puts a stopwatch around everything that the runtime calls in Python. For the rest of the engine's life."""

    def __init__(self, engine: Engine) -> None:
        self._count = len(engine.cpus)
        self._paths: list[_Path] = []
        self._timers: dict[str, _Path] = {}
        names = [region.name for region in engine.memory.regions if region.handler is not None]
        engine.handlers = [
            _TimedHandler(handler, self._path("MMIO", name), engine)
            for name, handler in zip(names, engine.handlers, strict=True)
        ]
        named = list(engine.frontend.python_helpers)
        engine.callees.python[: len(named)] = [
            (self._helper(self._path("helper", name), function), count)
            for name, (function, count) in zip(named, engine.callees.python, strict=False)
        ]
        engine.timer_callbacks = [self.timer(callback) for callback in engine.timer_callbacks]
        engine.miss = self._miss(self._path("translation", "blocks"), engine.miss)

    def paths(self) -> list[dict[str, Any]]:
        """Every path: `kind` ("MMIO", "helper", "timer", "translation"), `name`, and lists of `calls`, `wall_ns` and
        `cpu_ns` with a place for each vCPU and a last one for other threads.
        """
        return [{name: getattr(path, name) for name in _Path.__slots__} for path in self._paths]

    def _path(self, kind: str, name: str) -> _Path:
        path = _Path(kind, name, self._count)
        self._paths.append(path)
        return path

    def timer(self, callback: Callable[[], None]) -> Callable[[], None]:
        """A timer's callback with a stopwatch."""
        name = _name(callback)
        if name not in self._timers:
            self._timers[name] = self._path("timer", name)
        path, nobody = self._timers[name], self._count

        def timed() -> None:
            started, cpu_started = time.monotonic_ns(), time.thread_time_ns()
            callback()
            path.add(nobody, started, cpu_started)

        return timed

    @staticmethod
    def _helper(path: _Path, function: Callable[..., int | None]) -> Callable[..., int | None]:
        def timed(cpu: Any, *values: int) -> int | None:
            started, cpu_started = time.monotonic_ns(), time.thread_time_ns()
            result = function(cpu, *values)
            path.add(cpu.index, started, cpu_started)
            return result

        return timed

    @staticmethod
    def _miss(path: _Path, function: Callable[[Any], int]) -> Callable[[Any], int]:
        # late, because checks of options do not need the native runtime
        from raddle.threads.callbacks import CPUS, address

        def timed(env: Any) -> int:
            started, cpu_started = time.monotonic_ns(), time.thread_time_ns()
            result = function(env)
            path.add(CPUS[address(env)].index, started, cpu_started)
            return result

        return timed


def _name(callback: Callable[..., object]) -> str:
    """The qualified name of the method or function."""
    if isinstance(callback, partial):
        arguments = ", ".join(str(one) for one in callback.args if isinstance(one, int))
        return f"{_name(callback.func)}({arguments})" if arguments else _name(callback.func)
    return str(getattr(callback, "__qualname__", type(callback).__name__))


class _TimedHandler:
    """A device with a stopwatch."""

    def __init__(self, handler: IoHandler, path: _Path, engine: Engine) -> None:
        self._handler: Final = handler
        self._path: Final = path
        self._memory: Final = engine.memory

    def read(self, offset: int, size: int) -> int:
        started, cpu_started = time.monotonic_ns(), time.thread_time_ns()
        value = self._handler.read(offset, size)
        self._path.add(self._memory.initiator, started, cpu_started)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        started, cpu_started = time.monotonic_ns(), time.thread_time_ns()
        self._handler.write(offset, size, value)
        self._path.add(self._memory.initiator, started, cpu_started)
