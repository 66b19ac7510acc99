# SPDX-License-Identifier: Apache-2.0
"""Python between the runtime and the guest's own routines, while there are listeners.

The runtime reaches a guest's exceptions and TLB fills through three callees and a table of routines. While there are
listeners, Python functions replace these; they call the routine and then the listeners. Without listeners, the routines
are back in place and nothing costs time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from raddle.ir.builder import Builder, native
from raddle.ir.opcodes import Op
from raddle.runtime._native import ffi, lib
from raddle.runtime.layout import (
    TLB_ADDEND,
    TLB_ENTRIES,
    TLB_ENTRY_SIZE,
    TLB_EXEC,
    TLB_INVALID,
    TLB_MMIO,
    TLB_OFFSET,
    TLB_READ,
    TLB_WRITE,
)
from raddle.translate.frontend import FAULT_ALIGNMENT, FAULT_BUS

if TYPE_CHECKING:
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu

__all__ = ["ACCESSES", "ExceptionTaken", "Filled", "Probes"]

ACCESSES: Final = ("read", "write", "fetch")
_RUNTIMES_OWN: Final = {FAULT_ALIGNMENT: "FAULT_ALIGNMENT", FAULT_BUS: "FAULT_BUS"}


def _shown(code: int) -> str:
    """A fault's code for the log; those that the runtime gives have names."""
    return _RUNTIMES_OWN.get(code, f"{code:#x}")


class ExceptionTaken(NamedTuple):
    """An exception or interrupt that a vCPU has entered. Addresses are the guest's virtual ones."""

    kind: str
    """"interrupt"; "read fault", "write fault", "fetch fault"; or what the target calls it ("svc", "undefined" ...)."""
    pc: int
    """Address of the instruction that raised it, or before which it came."""
    target: int
    """Where the vCPU goes on: the exception's vector."""
    address: int | None = None
    """Of the access that faulted."""
    code: int = 0
    """A fault's code: the guest's own, FAULT_ALIGNMENT or FAULT_BUS. An interrupt's pending lines."""

    def __str__(self) -> str:
        detail = ""
        if self.address is not None:
            detail = f" of {self.address:#x}, code {_shown(self.code)},"
        elif self.kind == "interrupt":
            detail = f", lines {self.code:#x},"
        return f"{self.kind}{detail} at pc {self.pc:#x}, to {self.target:#x}"


class Filled(NamedTuple):
    """A look-up in the guest's page tables that a vCPU's TLB needed."""

    address: int
    access: int
    """0 read, 1 write, 2 fetch."""
    mmu_index: int
    code: int
    """0, or the fault's code, as for `ExceptionTaken`."""
    permissions: str = ""
    """"rwx" with "-" for what is not permitted; empty for a fault."""
    physical: int | None = None
    """Physical address; None for a fault and for I/O."""

    def __str__(self) -> str:
        what = f"{ACCESSES[self.access]} {self.address:#x} mmu {self.mmu_index}"
        if self.code:
            return f"{what}: fault, code {_shown(self.code)}"
        where = "I/O" if self.physical is None else f"{self.physical:#x}"
        return f"{what}: {where} {self.permissions}"


class Probes:
    """The listeners of one engine. They are called on the vCPU's thread, after the event.

    Change the tuples, then let `apply` run; see raddle.debug.hooks, which does both.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.exceptions: tuple[Callable[[VCpu, ExceptionTaken], object], ...] = ()
        self.fills: tuple[Callable[[VCpu, Filled], object], ...] = ()
        self._listens = (False, False)
        self._numbers: dict[str, int] = {}
        self._closures: dict[str, tuple[int, Any, Any]] = {}
        """By routine: its number, its own address, its replacement. Kept, since a vCPU may be in it."""

    def close(self) -> None:
        """The engine is closed: nothing is called any more."""
        self.exceptions = self.fills = ()
        self._closures.clear()

    @property
    def settled(self) -> bool:
        """Whether `apply` has nothing to do."""
        return self._listens == (bool(self.exceptions), bool(self.fills))

    def apply(self) -> None:
        """Begin or end listening. In an exclusive section."""
        exceptions, fills = listens = bool(self.exceptions), bool(self.fills)
        for name, wanted, function in (
            ("fault", exceptions, self._fault),
            ("interrupt", exceptions, self._interrupt),
            ("tlb_fill", fills, self._fill),
        ):
            if not wanted:
                self._engine.callees.set(name)
                continue
            if name not in self._numbers:
                self._numbers[name] = self._engine.callees.add_python(function, 3)
            self._engine.callees.set(name, self._numbers[name])
        if exceptions and not self._closures:
            self._make_closures()
        for number, routine, closure in self._closures.values():
            self._engine.callees.table[number] = ffi.cast("void *", closure) if exceptions else routine
        self._listens = listens

    # --- the callees

    def _call(self, cpu: VCpu, name: str, *values: int) -> int:
        """Call what the runtime would have called."""
        found = self._engine.callees.get(name)
        if not isinstance(found, tuple):
            return self._routine(cpu, found, *values)
        function, count = found
        return function(cpu, *values[:count]) or 0

    def _routine(self, cpu: VCpu, address: Any, *values: int) -> int:
        given = (*values, 0, 0, 0, 0)[:4]
        header = cpu.header
        header.arg0, header.arg1, header.arg2, header.arg3 = given
        return int(ffi.cast("raddle_function", address)(cpu.env, *given))

    def _fault(self, cpu: VCpu, address: int, access: int, code: int) -> None:
        pc = int(cpu.header.pc)
        self._call(cpu, "fault", address, access, code)
        self._taken(cpu, f"{ACCESSES[access & 0xFF]} fault", pc, address, code)

    def _interrupt(self, cpu: VCpu, lines: int, _a1: int, _a2: int) -> int:
        pc = int(cpu.header.pc)
        taken = self._call(cpu, "interrupt", lines)
        if taken == 1:
            self._taken(cpu, "interrupt", pc, None, lines)
        return taken

    def _taken(self, cpu: VCpu, kind: str, pc: int, address: int | None = None, code: int = 0) -> None:
        event = ExceptionTaken(kind, pc, int(cpu.header.pc), address, code)
        self._tell(cpu, self.exceptions, event)

    def _fill(self, cpu: VCpu, address: int, access: int, size: int) -> int:
        code = self._call(cpu, "tlb_fill", address, access, size)
        index = access >> 8
        permissions, physical = ("", None) if code else self._entry(cpu, address, index)
        # Looking at the guest's memory from another thread fills the TLB, too; that is no access of the guest's.
        if cpu.thread is None or cpu.runs_here:
            self._tell(cpu, self.fills, Filled(address, access & 0xFF, index, code, permissions, physical))
        return code

    def _entry(self, cpu: VCpu, address: int, index: int) -> tuple[str, int | None]:
        """Permissions and physical address in the vCPU's TLB entry for `address`."""
        bits = self._engine.frontend.page_bits
        slot = index * TLB_ENTRIES + ((address >> bits) & (TLB_ENTRIES - 1))
        entry = ffi.cast("uint64_t *", ffi.cast("char *", cpu.env) + TLB_OFFSET + slot * TLB_ENTRY_SIZE)
        read, write, fetch, addend = (int(entry[at // 8]) for at in (TLB_READ, TLB_WRITE, TLB_EXEC, TLB_ADDEND))
        comparators = {"r": read, "w": write, "x": fetch}
        permissions = "".join(letter if not value & TLB_INVALID else "-" for letter, value in comparators.items())
        if any(not value & TLB_INVALID and value & TLB_MMIO for value in (read, fetch)):
            return permissions, None
        pointer = (addend + address) & 0xFFFF_FFFF_FFFF_FFFF
        for region in self._engine.memory.regions:
            if region.memory is not None and 0 <= pointer - region.host_address < region.size:
                return permissions, region.start + pointer - region.host_address
        return permissions, None

    def _tell(self, cpu: VCpu, listeners: tuple[Callable[[VCpu, Any], object], ...], event: object) -> None:
        try:
            for listener in listeners:
                listener(cpu, event)
        except BaseException as error:
            self._engine.fail(error, cpu)

    # --- routines that instructions call

    def _make_closures(self) -> None:
        frontend = self._engine.frontend
        for name, build in frontend.routines.items():
            b = Builder(frontend.word, frontend.state.nzcv)
            build(b)
            # The runtime itself counts the exceptions that it delivers; a routine that counts an exception enters one.
            if any(one.op is Op.CALL and one.aux == native("exception") for one in b.code):
                number = self._engine.callees.routine_number(name)
                routine = self._engine.callees.table[number]
                closure = ffi.callback("raddle_function", partial(self._instruction, name, routine), error=0)
                self._closures[name] = (number, routine, closure)

    def _instruction(self, name: str, routine: Any, env: Any, a0: int, a1: int, a2: int, a3: int) -> int:
        cpu = self._engine.cpu_at(env)
        pc = int(lib.raddle_pc(env))
        result = self._routine(cpu, routine, a0, a1, a2, a3)
        self._taken(cpu, name, pc)
        return result
