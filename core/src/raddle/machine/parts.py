# SPDX-License-Identifier: Apache-2.0
"""The parts of a machine, as its user and its control see them: vCPUs, an engine, instruments; and its states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from raddle.machine.board import BoardCpu
from raddle.machine.clock import Timer

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Regs = TypeVar("Regs", covariant=True, default="Registers")
else:
    from typing import TypeVar

    Regs = TypeVar("Regs", covariant=True)

__all__ = ["Engine", "EngineFactory", "Hook", "Instruments", "Registers", "Regs", "State", "VCpu"]


class Registers(Protocol):
    """A vCPU's registers by name, for any guest. A guest's package names its own: `Machine[ArmRegisters]`.

    Read as unsigned numbers. A register of N bits takes numbers from -2**(N-1) to 2**N - 1, a negative one as its two's
    complement, and raises UsageError for anything else.
    """

    pc: int

    def __getattr__(self, name: str) -> int: ...

    def __setattr__(self, name: str, value: int) -> None: ...


class VCpu(BoardCpu, Protocol[Regs]):
    """A vCPU as a user sees it."""

    @property
    def regs(self) -> Regs:
        """Registers by name: `cpu.regs.pc`. Exact while the machine is paused."""

    def __getitem__(self, name: str) -> int:
        """A field of the CPU's state."""

    def __setitem__(self, name: str, value: int) -> None:
        """Write a field; see `Registers` for what it takes."""

    def info(self) -> Mapping[str, object]:
        """Thread, state and counters, for `info cpus`."""

    def run_on_cpu(self, work: Callable[[], None]) -> None:
        """Run `work` on the vCPU's thread, after work that was queued before, and wait for it, also in a pause."""


class Engine(Protocol):
    """Runs the vCPUs: raddle.threads.engine.Engine, or another class like it."""

    @property
    def cpus(self) -> Sequence[VCpu]: ...

    @property
    def big_lock(self) -> AbstractContextManager[object]: ...

    def start(self) -> None: ...

    def pause(self) -> None:
        """Returns when no vCPU runs."""

    def resume(self) -> None: ...

    def spread(self) -> None:
        """Pin each thread to a core, in turn, now or when it begins."""

    def stop(self) -> None:
        """Request the end. Does not wait: a vCPU's thread may call it."""

    def join(self, timeout: float | None = None) -> object:
        """Wait until all threads have ended; raises the first error that stopped them."""

    def close(self) -> None:
        """Free native memory. All threads have ended."""

    def clock_ns(self) -> int: ...

    def timer(self, callback: Callable[[], None]) -> Timer: ...

    def native_timer(self, routine: str) -> Timer: ...

    def stats(self) -> Mapping[str, object]: ...


EngineFactory = Callable[..., Engine]
"""Called as `factory(frontend, backend, decision, memory, ncpus, icount=..., settings=...)`."""


class Hook(Protocol):
    """A hook that was added, and can be removed."""

    def remove(self) -> None: ...


class Instruments(Protocol):
    """Hooks, logs and profile of an engine that has an observer: see `raddle.debug.instruments`."""

    def add_hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook: ...

    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None: ...

    def around(self, cpu: Any) -> list[str]:
        """The instructions around a vCPU's pc."""

    def profile(self) -> None:
        """Before the engine is started."""


class State(Enum):
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
