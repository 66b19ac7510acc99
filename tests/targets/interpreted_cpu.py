# SPDX-License-Identifier: Apache-2.0
"""A CPU in reset state whose IR runs in the interpreter: routines, and instructions that a test makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Outcome, interpret
from raddle.ir.types import MemOp, Type
from raddle.ir.verifier import verify
from raddle.translate.frontend import FrontEnd


class NoMemory:
    """Routines of the system part make no guest accesses."""

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        raise AssertionError(f"load from {address:#x}")

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        raise AssertionError(f"store to {address:#x}")


_routines: dict[FrontEnd, dict[str, Builder]] = {}


def routines(front_end: FrontEnd) -> dict[str, Builder]:
    """A front end's routines, built and verified once."""
    if front_end not in _routines:
        made = _routines[front_end] = {}
        for name, build in front_end.routines.items():
            b = Builder(front_end.word, front_end.state.nzcv)
            build(b)
            verify(b, routine=True, layout=front_end.state)
            made[name] = b
    return _routines[front_end]


class InterpretedCpu:
    """One CPU. ``cpu["field"]`` reads and writes the state; ``calls`` lists the recorded calls that were made."""

    def __init__(
        self, front_end: FrontEnd, natives: Mapping[str, Callable[..., int | None]], recorded: Sequence[str]
    ) -> None:
        """``natives`` are callees other than routines, and may replace these; calls of ``recorded`` answer 0."""
        self.front_end = front_end
        self.layout = front_end.state
        self.cpu = CpuState(bytearray(self.layout.size))
        self.memory: Any = NoMemory()
        self.calls: list[tuple[Any, ...]] = []
        made = routines(front_end)
        self.callees: dict[str, Any] = {**made, **natives, **{name: self._recorder(name) for name in recorded}}
        front_end.reset(self, 0, 0)

    def _recorder(self, name: str) -> Callable[..., int]:
        def record(cpu: CpuState, *arguments: int) -> int:
            self.calls.append((name, *arguments))
            return 0

        return record

    def __getitem__(self, name: str) -> int:
        return self.cpu.read(self.layout.fields.get(name) or COMMON[name])

    def __setitem__(self, name: str, value: int) -> None:
        self.cpu.write(self.layout.fields.get(name) or COMMON[name], value)

    def update(self, **fields: int) -> None:
        for name, value in fields.items():
            self[name] = value

    def call(self, name: str, *arguments: int) -> int | None:
        """Run a routine; its result."""
        self.cpu.header.update({f"arg{n}": value for n, value in enumerate(arguments)})
        return interpret(routines(self.front_end)[name], self.cpu, self.memory, callees=self.callees).value

    def emit(self, build: Callable[[Builder], object], pc: int = 0) -> Outcome:
        """Run the IR of one instruction at ``pc``."""
        b = Builder(self.front_end.word, self.layout.nzcv)
        build(b)
        verify(b, layout=self.layout)
        return interpret(b, self.cpu, self.memory, pc=pc, callees=self.callees)

    def value(self, build: Callable[[Builder], Value]) -> int:
        """What the IR yields: I32 or I64."""

        def keep(b: Builder) -> None:
            value = build(b)
            b.set(COMMON["result"], value if value.type is Type.I64 else b.zext(value, Type.I64))

        self.emit(keep)
        return self["result"]
