# SPDX-License-Identifier: Apache-2.0
"""What host code does to memory, read back from its bytes: Unicorn executes them, capstone names the instructions.

A `Reader` runs the blocks of a thread from the `enter` thunk on, with everything that a block needs: the vCPU's state,
TLB entries that hit, thunks. It chooses the value of each load from the guest's memory, and notes each access to that
memory and each barrier as an event. Accesses to other memory (the vCPU's state, the stack) are no events, but
dependencies go through them.

Nothing here knows what the back end meant to emit. An unknown instruction that accesses the guest's memory, or that
could be a barrier, is an error.
"""

from __future__ import annotations

import functools
import re
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple

import capstone
import unicorn
from unicorn import arm64_const, x86_const

from raddle.codegen.backend import BackEnd
from raddle.codegen.runtime_calls import ATOMIC_OPS
from raddle.ir.header import HEADER, HEADER_SIZE, OFFSET, TLB_PAIRS
from raddle.ir.opcodes import Op
from raddle.ir.types import MMU_INDICES, Field
from raddle.litmus.executions import Choose, Event, Kind, Mark, Trace
from raddle.runtime.layout import (
    GRANULE_BITS,
    JUMP_CACHE_ENTRIES,
    TLB_ADDEND,
    TLB_BYTES,
    TLB_ENTRIES,
    TLB_ENTRY_SIZE,
    TLB_EXEC,
    TLB_INVALID,
    TLB_OFFSET,
    TLB_READ,
    TLB_WRITE,
)

PAGE: Final = 0x1000
WORD: Final = 4
RESERVATION: Final = 1
"""The vCPU's bit in the words of granules."""
CODE, CODE_BYTES = 0x10_0000, 0x10_0000
ENV_BASE, ENV_BYTES = 0x100_0000, -(-(HEADER_SIZE + TLB_BYTES + 0x8000) // 0x1000) * 0x1000
JUMPS = 0x200_0000
STACK, STACK_BYTES = 0x300_0000, 0x1_0000
ARENA: Final = 0x400_0000
"""The guest's page, in the host's memory."""
GRANULES: Final = 0x600_0000
"""Words of the granules of the guest's page."""
FUNCTIONS: Final = 0x500_0000
"""The runtime's C functions: each is a return instruction here, and `Reader` does its work."""
RETURN: Final = FUNCTIONS + 0x800
GUEST_PAGE: Final = 0x4000_0000
"""The guest's page that has all locations."""
C_FUNCTIONS: Final = ("raddle_slow_load", "raddle_slow_store", "raddle_slow_atomic", "raddle_call_helper")
FUNCTION_AT: Final = {name: FUNCTIONS + 64 * number for number, name in enumerate(C_FUNCTIONS)}
FUNCTION_NAMES: Final = {address: name for name, address in FUNCTION_AT.items()}
ENV: Final = ENV_BASE + (HEADER_SIZE + TLB_BYTES + 63) // 64 * 64
SIZES: Final = {field.name: field.size for field in HEADER}


TLB_AT: Final = ENV - ENV_BASE + TLB_OFFSET
TLB_SIZE: Final = TLB_ENTRIES * TLB_ENTRY_SIZE


def _tlb() -> bytes:
    """TLBs with nothing but the guest's page."""
    invalid = struct.pack("<3QQ", *[(TLB_INVALID | -PAGE) & (1 << 64) - 1] * 3, 0)
    table = bytearray(invalid * TLB_ENTRIES)
    at = GUEST_PAGE // PAGE % TLB_ENTRIES * TLB_ENTRY_SIZE
    for part in (TLB_READ, TLB_WRITE, TLB_EXEC):
        struct.pack_into("<Q", table, at + part, GUEST_PAGE)
    struct.pack_into("<Q", table, at + TLB_ADDEND, (ARENA - GUEST_PAGE) & (1 << 64) - 1)
    return bytes(table) * MMU_INDICES


TLB: Final = _tlb()
CHANGING: Final = slice(ENV - ENV_BASE - PAGE, ENV - ENV_BASE + PAGE)
"""The part of the environment that code changes: header and state, not the TLBs."""


class Site(NamedTuple):
    """Where an order comes from: a row of the mapping."""

    guest: str
    """The guest's operation, as litmus tests spell it."""
    host: str
    """The host's instruction."""

    def __str__(self) -> str:
        return f"{self.guest}: {self.host}"


class Effect(NamedTuple):
    """What an instruction means for the order of memory."""

    name: str
    fence: Mark = Mark.NONE
    """It is a barrier."""
    read: Mark = Mark.NONE
    write: Mark = Mark.NONE
    """Marks of its accesses to the guest's memory."""
    joined: bool = False
    """Its write belongs to its own read."""
    conditional: bool = False
    """Its write belongs to an earlier exclusive load."""
    compares: bool = False
    """It writes only if it has read the value of a register."""


Flow = tuple[list[str], list[str], list[str], bool]
"""Registers that an instruction's address depends on, its other sources, its destinations; whether it branches."""


class Program(NamedTuple):
    """The host code of a thread."""

    blocks: Mapping[int, tuple[bytes, list[tuple[int, int, str]]]]
    """By guest pc: code, and for parts of it (first offset, end) the guest's operation."""
    entry: int
    end: int
    """The guest pc at which the thread has ended."""
    registers: Mapping[str, Field]
    """The fields of the state that hold registers of the test."""


class Host(ABC):
    """A host's instruction set."""

    name: str
    returns: bytes
    """A return instruction."""

    disassembler: tuple[int, int]
    """Capstone's name for it."""

    @abstractmethod
    def start(self) -> unicorn.Uc: ...

    @functools.cache  # noqa: B019 - hosts are constants
    def decode(self, code: bytes) -> tuple[Any, Effect, Flow]:
        """One instruction, and what it means at any address."""
        disassembler = capstone.Cs(*self.disassembler)
        disassembler.detail = True
        (instruction,) = disassembler.disasm(code, 0)
        return instruction, self.effect(instruction), self.flow(instruction)

    @abstractmethod
    def effect(self, instruction: Any) -> Effect: ...

    @abstractmethod
    def call(self, uc: unicorn.Uc, env: int, code: int) -> None:
        """Set the registers of a call f(env, code) that returns to RETURN."""

    @abstractmethod
    def arguments(self, uc: unicorn.Uc) -> list[int]:
        """The arguments of a C function that is about to run."""

    @abstractmethod
    def result(self, uc: unicorn.Uc, value: int) -> None:
        """Set a C function's result."""

    @abstractmethod
    def expected(self, uc: unicorn.Uc, instruction: Any) -> int:
        """The value that an instruction compares with memory."""

    runtime: Effect
    """What the runtime's C functions do for atomic operations: __atomic builtins that are sequentially consistent."""

    tracks_dependencies = False

    def flow(self, instruction: Any) -> Flow:
        """What carries dependencies; empty if the host tracks none."""
        return [], [], [], False


class X86(Host):
    """x86-64. Dependencies order nothing in x86-TSO, so they are not tracked."""

    name = "x86_64"
    returns = b"\xc3"
    runtime = Effect("runtime: lock", Mark.NONE, Mark.ATOMIC, Mark.ATOMIC, joined=True)
    PLAIN: Final = re.compile(r"(mov|movzx|movsx|movsxd|movabs|cmp|test|add|sub|or|and|xor|push|pop|lea|cmpxchg)$")

    disassembler = capstone.CS_ARCH_X86, capstone.CS_MODE_64

    def start(self) -> unicorn.Uc:
        return unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)

    def effect(self, instruction: Any) -> Effect:
        mnemonic = instruction.mnemonic
        operation = mnemonic.removeprefix("lock ")
        compares = operation == "cmpxchg"
        if mnemonic == "mfence":
            return Effect(mnemonic, Mark.FULL)
        if operation in ("lfence", "sfence", "serialize", "cpuid"):
            raise AssertionError(f"what does {mnemonic} order?")
        if mnemonic != operation or (operation == "xchg" and "[" in instruction.op_str):
            # A locked instruction on memory of its own is a full barrier (Intel SDM 3A, 8.2.3.9).
            return Effect(f"lock {operation}", Mark.FULL, Mark.ATOMIC, Mark.ATOMIC, joined=True, compares=compares)
        return Effect(mnemonic, compares=compares)

    def call(self, uc: unicorn.Uc, env: int, code: int) -> None:
        sp = STACK + STACK_BYTES // 2 - 8
        uc.mem_write(sp, RETURN.to_bytes(8, "little"))
        uc.reg_write(x86_const.UC_X86_REG_RSP, sp)
        uc.reg_write(x86_const.UC_X86_REG_RDI, env)
        uc.reg_write(x86_const.UC_X86_REG_RSI, code)

    def arguments(self, uc: unicorn.Uc) -> list[int]:
        names = ("RDI", "RSI", "RDX", "RCX")
        return [uc.reg_read(getattr(x86_const, f"UC_X86_REG_{name}")) for name in names]

    def result(self, uc: unicorn.Uc, value: int) -> None:
        uc.reg_write(x86_const.UC_X86_REG_RAX, value)

    def expected(self, uc: unicorn.Uc, instruction: Any) -> int:
        return int(uc.reg_read(x86_const.UC_X86_REG_RAX)) & 0xFFFF_FFFF


class AArch64(Host):
    """AArch64, up to FEAT_LSE and FEAT_LRCPC."""

    name = "aarch64"
    returns = bytes.fromhex("c0035fd6")
    runtime = Effect("runtime: ldaxr, stlxr", Mark.NONE, Mark.ACQUIRE, Mark.RELEASE, joined=True)
    """Builtins on a CPU without LSE; with LSE they are stronger."""
    tracks_dependencies = True
    ATOMIC: Final = re.compile(r"(?P<op>swp|cas|ld(?:add|clr|eor|set|[su]max|[su]min))(?P<a>a?)(?P<l>l?)[bh]?")
    LOAD: Final = re.compile(r"ld(?P<kind>r|ur|p|ar|apr|xr|axr)(?:s?[bhw])?")
    STORE: Final = re.compile(r"st(?P<kind>r|ur|p|lr|xr|lxr)[bh]?")
    FENCES: Final = {
        "sy": Mark.FULL, "ish": Mark.FULL, "ld": Mark.LOADS, "ishld": Mark.LOADS, "st": Mark.STORES,
        "ishst": Mark.STORES,
    }  # fmt: skip

    disassembler = capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN

    def start(self) -> unicorn.Uc:
        uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        uc.ctl_set_cpu_model(arm64_const.UC_CPU_ARM64_MAX)
        uc.reg_write(arm64_const.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        return uc

    def effect(self, instruction: Any) -> Effect:
        mnemonic = instruction.mnemonic
        if mnemonic in ("dmb", "dsb"):
            return Effect(f"{mnemonic} {instruction.op_str}", self.FENCES[instruction.op_str])
        if mnemonic == "isb":
            return Effect("isb", Mark.INSTRUCTIONS)
        if found := self.ATOMIC.fullmatch(mnemonic):
            acquire = Mark.ACQUIRE if found["a"] else Mark.NONE
            release = Mark.RELEASE if found["l"] else Mark.NONE
            compares = found["op"] == "cas"
            return Effect(
                mnemonic, Mark.NONE, Mark.ATOMIC | acquire, Mark.ATOMIC | release, joined=True, compares=compares
            )
        if found := self.LOAD.fullmatch(mnemonic):
            marks = {"ar": Mark.ACQUIRE, "axr": Mark.ACQUIRE, "apr": Mark.ACQUIRE_PC}
            return Effect(mnemonic, read=marks.get(found["kind"], Mark.NONE))
        if found := self.STORE.fullmatch(mnemonic):
            release = Mark.RELEASE if found["kind"] in ("lr", "lxr") else Mark.NONE
            return Effect(mnemonic, write=release, conditional=found["kind"] in ("xr", "lxr"))
        if mnemonic.startswith(("ld", "st")):
            raise AssertionError(f"what does {mnemonic} order?")
        return Effect(mnemonic)

    def call(self, uc: unicorn.Uc, env: int, code: int) -> None:
        uc.reg_write(arm64_const.UC_ARM64_REG_SP, STACK + STACK_BYTES // 2)
        uc.reg_write(arm64_const.UC_ARM64_REG_X30, RETURN)
        uc.reg_write(arm64_const.UC_ARM64_REG_X0, env)
        uc.reg_write(arm64_const.UC_ARM64_REG_X1, code)

    def arguments(self, uc: unicorn.Uc) -> list[int]:
        return [uc.reg_read(getattr(arm64_const, f"UC_ARM64_REG_X{n}")) for n in range(4)]

    def result(self, uc: unicorn.Uc, value: int) -> None:
        uc.reg_write(arm64_const.UC_ARM64_REG_X0, value)

    def expected(self, uc: unicorn.Uc, instruction: Any) -> int:
        number = self.register(instruction, instruction.operands[0].reg).removeprefix("x")
        return int(uc.reg_read(getattr(arm64_const, f"UC_ARM64_REG_X{number}"))) & 0xFFFF_FFFF

    @staticmethod
    def register(instruction: Any, number: int) -> str:
        name = str(instruction.reg_name(number))
        return re.sub(r"^w(?=\d)", "x", name)

    NO_RESULT: Final = re.compile(r"f?cmpe?|cmn|tst|f?ccmpe?|ccmn|cbn?z|tbn?z|b\..*|br|blr|ret|msr|prfm")
    KEEPS_BITS: Final = re.compile(r"movk|bfi|bfxil|bfc|ins")
    """Instructions that also read the first operand. For others it is only a result: no dependency is invented."""
    READ_FLAGS: Final = re.compile(r"b\..*|cs.*|cinc|cneg|cinv|ccm[np]|adcs?|sbcs?|ngcs?|fcsel|fccmpe?")

    def flow(self, instruction: Any) -> Flow:
        mnemonic = instruction.mnemonic

        def names(numbers: Any) -> list[str]:
            return [name for name in (self.register(instruction, n) for n in numbers if n) if "zr" not in name]

        operands = instruction.operands
        memory = [operand.mem for operand in operands if operand.type == capstone.arm64.ARM64_OP_MEM]
        registers = names([operand.reg for operand in operands if operand.type == capstone.arm64.ARM64_OP_REG])
        if memory and mnemonic != "prfm":
            address = names([memory[0].base, memory[0].index])
            if found := self.ATOMIC.fullmatch(mnemonic):
                return address, registers, [registers[0]] if found["op"] == "cas" else registers[-1:], False
            if self.LOAD.fullmatch(mnemonic):
                return address, [], registers, False
            effect = self.effect(instruction)
            return (
                address,
                registers[1:] if effect.conditional else registers,
                registers[:1] * effect.conditional,
                False,
            )
        # capstone is wrong about which operands of comparisons are read.
        if self.NO_RESULT.fullmatch(mnemonic):
            sources, destinations = registers, []
        else:
            first = [operand.reg for operand in operands[:1] if operand.type == capstone.arm64.ARM64_OP_REG]
            destinations = names(first)
            sources = registers if self.KEEPS_BITS.fullmatch(mnemonic) else registers[len(destinations) :]
        if self.READ_FLAGS.fullmatch(mnemonic) or (mnemonic == "mrs" and "nzcv" in instruction.op_str):
            sources.append("nzcv")
        if instruction.update_flags or (mnemonic == "msr" and "nzcv" in instruction.op_str):
            destinations.append("nzcv")
        branches = mnemonic.startswith(("b.", "cb", "tb", "br", "blr", "ret"))
        return [], sources, destinations, branches


X86_64, ARM64 = X86(), AArch64()


class _Run:
    """What one execution has done so far."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.events: list[Event] = []
        self.sites: list[Site] = []
        self.registers: dict[str, frozenset[int]] = {}
        self.memory: dict[int, frozenset[int]] = {}
        """Taints of registers, and of words of memory that is not the guest's: the reads that they depend on."""
        self.control: frozenset[int] = frozenset()
        self.exclusive = -1
        """The number of the last exclusive load's read."""
        self.reserved: int | None = None
        """The number of a load-exclusive's read, before a store-exclusive."""
        self.linked = -1
        """The same, for the current exact store-exclusive: its write belongs to that read."""
        self.current: Any = None
        """The current instruction: a `_Current`."""
        self.label = ""


Paths = dict[tuple[int, ...], "str | tuple[Trace, list[Site]]"]
"""By the values read so far: the location that is read next, or the result."""
PATHS: Final[dict[Hashable, Paths]] = {}
"""By all that a thread's execution depends on, since many tests have the same threads."""


MOST_EMULATORS: Final = 4
"""As many as a test has threads. Each has megabytes."""
EMULATING: Final[deque[Reader]] = deque()
"""The readers that have one, the oldest first."""


class Reader:
    """A thread of host code for `raddle.litmus.executions`. Executes each path of the same code only once."""

    def __init__(self, host: Host, backend: BackEnd, program: Program, locations: Mapping[str, int]) -> None:
        """`locations` has the guest address of each, in GUEST_PAGE."""
        self.host, self.program = host, program
        self.names = {ARENA + address - GUEST_PAGE: name for name, address in locations.items()}
        self.weakened: frozenset[Site] = frozenset()
        """Orders that are left out."""
        self._thunks = backend.thunks(FUNCTION_AT)
        blocks = [(pc, code, *parts) for pc, (code, parts) in program.blocks.items()]
        self._known = PATHS.setdefault(
            (
                *(host.name, self._thunks.enter, *self._thunks.by_field.items(), *blocks, program.entry, program.end),
                *(*program.registers.items(), *self.names.items()),
            ),
            {},
        )
        self._taken: dict[tuple[int, ...], tuple[Trace, list[Site]]] = {}
        """The paths taken so far, by the values read."""
        self._decoded: dict[int, Any] = {}

    # --- as a thread

    def run(self, choose: Choose) -> Trace:
        values: tuple[int, ...] = ()
        while values in self._known:
            known = self._known[values]
            if not isinstance(known, str):
                self._taken[values] = known
                return self._without(*known)
            values += (choose(known),)
        replay = iter(values)

        def recorded(location: str) -> int:
            nonlocal taken
            value = next(replay, None)
            if value is None:
                value = choose(location)
            self._known[taken] = location
            taken += (value,)
            return value

        taken: tuple[int, ...] = ()
        made = self._execute(recorded)
        self._known[taken] = self._taken[taken] = made
        return self._without(*made)

    @property
    def sites(self) -> set[Site]:
        """The orders that any path so far has had."""
        return {
            site
            for trace, sites in self._taken.values()
            for event, site in zip(trace.events, sites, strict=True)
            if event.marks & self._removable
        }

    @property
    def _removable(self) -> Mark:
        """On Arm, an atomic instruction stays one when it orders nothing."""
        return ~Mark.ATOMIC if self.host.tracks_dependencies else ~Mark.NONE

    def _without(self, trace: Trace, sites: list[Site]) -> Trace:
        if not self.weakened:
            return trace
        events = []
        for event, site in zip(trace.events, sites, strict=True):
            if site in self.weakened:
                marks = event.marks & ~self._removable
                event = event._replace(marks=marks, read=event.read if self.host.tracks_dependencies else -1)
            events.append(event)
        return Trace(tuple(events), trace.registers)

    # --- executing

    @functools.cached_property
    def _uc(self) -> unicorn.Uc:
        """The emulator, with the code and all that it needs."""
        if len(EMULATING) == MOST_EMULATORS:
            EMULATING.popleft()._end_emulator()
        EMULATING.append(self)
        uc = self.host.start()
        for start, size in (
            (CODE, CODE_BYTES), (ENV_BASE, ENV_BYTES), (JUMPS, 32 * JUMP_CACHE_ENTRIES), (STACK, STACK_BYTES),
            (ARENA, PAGE), (FUNCTIONS, PAGE), (GRANULES, PAGE),
        ):  # fmt: skip
            uc.mem_map(start, -(-size // PAGE) * PAGE)
        uc.mem_write(JUMPS, b"\xff" * (32 * JUMP_CACHE_ENTRIES))
        for address in (*FUNCTION_AT.values(), RETURN):
            uc.mem_write(address, self.host.returns)
        self._position = CODE
        self._enter = self._place(uc, self._thunks.enter)
        self._env = bytearray(ENV_BYTES)
        for name, code in self._thunks.by_field.items():
            self._set(name, self._place(uc, code))
        self._set("jump_cache", JUMPS)
        self._set("exclusive_address", (1 << 64) - 1)
        self._set("granules", GRANULES - (ARENA >> GRANULE_BITS) * WORD)
        self._set("reservation", RESERVATION)
        self._fill_tlb()
        uc.mem_write(ENV_BASE, bytes(self._env))
        self._blocks: dict[int, int] = {}
        self._labels: list[tuple[int, int, str]] = []
        for pc, (code, parts) in self.program.blocks.items():
            at = self._blocks[pc] = self._place(uc, code)
            self._labels += [(at + start, at + end, label) for start, end, label in parts]
        self._hooks = [
            uc.hook_add(unicorn.UC_HOOK_CODE, self._on_code),
            uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._on_memory),
        ]
        return uc

    def _end_emulator(self) -> None:
        """The next path makes a new one. With its hooks, an emulator would keep itself alive."""
        for hook in self._hooks:
            self._uc.hook_del(hook)
        del self._uc

    def _place(self, uc: unicorn.Uc, code: bytes) -> int:
        at = self._position
        uc.mem_write(at, code)
        self._position += -(-len(code) // 64) * 64
        return at

    def _set(self, name: str, value: int) -> None:
        at = ENV - ENV_BASE + OFFSET[name]
        self._env[at : at + SIZES[name]] = value.to_bytes(SIZES[name], "little")

    def _fill_tlb(self) -> None:
        self._env[TLB_AT : TLB_AT + TLB_BYTES] = TLB
        for index in range(MMU_INDICES):
            for at, value in ((0, (TLB_ENTRIES - 1) * TLB_ENTRY_SIZE), (8, ENV_BASE + TLB_AT + index * TLB_SIZE)):
                at += ENV - ENV_BASE + TLB_PAIRS + 16 * index
                self._env[at : at + 8] = value.to_bytes(8, "little")

    def _execute(self, choose: Choose) -> tuple[Trace, list[Site]]:
        uc = self._uc
        self._run = _Run(choose)
        uc.mem_write(ENV_BASE + CHANGING.start, bytes(self._env[CHANGING]))
        uc.mem_write(GRANULES, bytes(PAGE))
        pc = self.program.entry
        while pc != self.program.end:
            self.host.call(uc, ENV, self._blocks[pc])
            uc.emu_start(self._enter, RETURN)
            self._finish_instruction()
            pc = self._read(OFFSET["pc"], 8) & 0xFFFF_FFFF
        registers = {name: self._read(field.offset, field.type.size) for name, field in self.program.registers.items()}
        return Trace(tuple(self._run.events), registers), self._run.sites

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self._uc.mem_read(ENV + offset, size), "little")

    def _instruction(self, address: int, size: int) -> Any:
        if address not in self._decoded:
            label = next((label for start, end, label in self._labels if start <= address < end), "")
            self._decoded[address] = *self.host.decode(bytes(self._uc.mem_read(address, size))), label
        return self._decoded[address]

    def _on_code(self, uc: unicorn.Uc, address: int, size: int, _: object) -> None:
        self._finish_instruction()
        if address in FUNCTION_NAMES:
            self._c_function(FUNCTION_NAMES[address])
            return
        if address == RETURN:
            return
        run = self._run
        instruction, effect, (address_registers, sources, destinations, branches), label = self._instruction(
            address, size
        )
        taint = self._taint
        run.current = _Current(
            instruction,
            effect,
            taint(address_registers),
            taint(sources),
            destinations,
            taint(sources),
            self._expected(effect, instruction),
        )
        run.label = label or run.label
        if branches:
            run.control |= taint(sources)

    def _expected(self, effect: Effect, instruction: Any) -> int:
        return self.host.expected(self._uc, instruction) if effect.compares else 0

    def _taint(self, registers: list[str]) -> frozenset[int]:
        return frozenset().union(*(self._run.registers.get(name, frozenset()) for name in registers))

    def _finish_instruction(self) -> None:
        """Note the results of the instruction that has been executed, and whether it was a barrier."""
        run = self._run
        current = run.current
        if current is None:
            return
        run.current = None
        if current.effect.fence and not current.touched:
            self._event(Event(Kind.FENCE, marks=current.effect.fence, control=tuple(sorted(run.control))), current)
        for name in current.destinations:
            run.registers[name] = current.result

    def _event(self, event: Event, current: _Current) -> None:
        self._run.events.append(event)
        self._run.sites.append(Site(self._run.label, current.effect.name))

    def _on_memory(self, uc: unicorn.Uc, kind: int, address: int, size: int, value: int, _: object) -> None:
        run, current = self._run, self._run.current
        if not ARENA <= address < ARENA + PAGE:
            self._lose_reservation(address)
            if self.host.tracks_dependencies and current is not None:
                self._private(kind == unicorn.UC_MEM_READ, address, size, current)
            return
        assert current is not None, "the guest's memory is accessed by no instruction"
        name = self.names[address]
        assert size == WORD, f"{current.instruction.mnemonic} accesses {size} bytes of {name}"
        current.touched = True
        effect = current.effect
        if kind == unicorn.UC_MEM_READ:
            if effect.conditional:
                return  # the emulator reads it to check the reservation
            value = run.choose(name)
            uc.mem_write(address, value.to_bytes(WORD, "little"))
            current.fails = effect.compares and value != current.expected
            number = len(run.events)
            self._event(self._access(Kind.READ, name, value, effect.read, current), current)
            current.result = frozenset({number})
            current.read = number
            if current.instruction.mnemonic in ("ldxr", "ldaxr"):
                run.exclusive = number
            if run.label.startswith("ll["):
                run.reserved = number
        elif not current.fails:
            read = current.read if effect.joined else run.exclusive if effect.conditional else run.linked
            run.linked = -1
            value &= 0xFFFF_FFFF
            event = self._access(Kind.WRITE, name, value, effect.write, current)
            data = current.sources | current.result if effect.joined and not effect.compares else current.sources
            self._event(event._replace(data=tuple(sorted(data)), read=read), current)
            if effect.conditional:
                current.result = frozenset()

    def _lose_reservation(self, address: int) -> None:
        """Let an exact store-exclusive that is about to read its granule's word find its reservation lost, or not."""
        run = self._run
        if not GRANULES <= address < GRANULES + PAGE or not run.label.startswith("sc[") or run.reserved is None:
            return
        run.linked, run.reserved = run.reserved, None
        if not run.choose(""):
            self._uc.mem_write(address, bytes(WORD))

    def _access(self, kind: Kind, name: str, value: int, marks: Mark, current: _Current) -> Event:
        return Event(kind, name, value, marks, tuple(sorted(current.address)), (), tuple(sorted(self._run.control)))

    def _private(self, reads: bool, address: int, size: int, current: _Current) -> None:
        """Pass on dependencies through an access to memory that is not the guest's."""
        words = range(address & -WORD, address + size, WORD)
        if reads:
            found = frozenset().union(*(self._run.memory.get(word, frozenset()) for word in words))
            current.result = current.result | found | current.address
        else:
            for word in words:
                self._run.memory[word] = current.sources | current.address

    # --- the runtime

    def _c_function(self, name: str) -> None:
        """Do what the called C function of the runtime does."""
        self._run.current = None
        assert name in ("raddle_slow_atomic", "raddle_call_helper"), f"{name}: every access hits the TLB"
        if name == "raddle_slow_atomic":
            operation = next(op for op, number in ATOMIC_OPS.items() if number == self.host.arguments(self._uc)[3])
            self._slow_atomic(operation)
        self.host.result(self._uc, 0)

    def _slow_atomic(self, operation: Op) -> None:
        """raddle_slow_atomic (slowpath.c, memory.c): one sequentially consistent builtin."""
        run = self._run
        address, first, second = (self._read(OFFSET[f"arg{n}"], 8) for n in range(3))
        name = self.names[address - GUEST_PAGE + ARENA]
        value = run.choose(name)
        mask = 0xFFFF_FFFF
        new: dict[Op, Callable[[], int]] = {
            Op.ATOMIC_XCHG: lambda: first,
            Op.ATOMIC_FETCH_ADD: lambda: value + first,
            Op.ATOMIC_CMPXCHG: lambda: second,
        }
        current = _Current(None, self.host.runtime, frozenset(), frozenset(), [], frozenset(), 0)
        number = len(run.events)
        self._event(self._access(Kind.READ, name, value, self.host.runtime.read, current), current)
        if operation is not Op.ATOMIC_CMPXCHG or value == first & mask:
            event = self._access(Kind.WRITE, name, new[operation]() & mask, self.host.runtime.write, current)
            self._event(event._replace(read=number), current)
        self._uc.mem_write(ENV + OFFSET["result"], value.to_bytes(8, "little"))
        run.memory[ENV + OFFSET["result"]] = frozenset({number})


class _Current:
    """The instruction that is being executed."""

    def __init__(
        self, instruction: Any, effect: Effect, address: frozenset[int], sources: frozenset[int],
        destinations: list[str], result: frozenset[int], expected: int,
    ) -> None:  # fmt: skip
        self.instruction, self.effect, self.address, self.sources = instruction, effect, address, sources
        self.destinations, self.result, self.expected = destinations, result, expected
        self.touched = False
        """Whether it has accessed the guest's memory."""
        self.fails = False
        """Whether it has compared, and does not write."""
        self.read = -1
        """The number of its read's event."""
