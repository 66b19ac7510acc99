# SPDX-License-Identifier: Apache-2.0
"""Runs single IR programs for the host contract, with the back end of this machine.

Only the joiner of the runtime is used. The C functions that generated code calls are replaced by Python callbacks.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from struct import pack
from typing import Any

from raddle.codegen.allocation import Allocation
from raddle.codegen.backend import BackEnd, CodegenConfig, Thunks
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Template
from raddle.ir.builder import Callee
from raddle.ir.header import COMMON, HEADER, HEADER_SIZE, OFFSET, TLB_PAIRS
from raddle.ir.interpreter import READ, WRITE, Leave, MemoryFault, Outcome
from raddle.ir.opcodes import Op
from raddle.ir.types import MMU_INDICES, Align, MemOp, Type
from raddle.runtime._native import ffi
from raddle.runtime.layout import (
    GRANULE_BITS,
    GRANULE_LOCK,
    JUMP_CACHE_ENTRIES,
    TLB_ADDEND,
    TLB_APART,
    TLB_BYTES,
    TLB_ENTRIES,
    TLB_ENTRY_SIZE,
    TLB_EXEC,
    TLB_INVALID,
    TLB_OFFSET,
    TLB_READ,
    TLB_WRITE,
)
from raddle.testing.generate import ARENA_BASE, Program
from raddle.testing.ir_programs import LAYOUT, ArenaMemory, Execution, interpreted

PAGE = 4096
GUEST_BYTES = 4
"""Of the guest instruction that a program stands for."""
CODE_BYTES = 1 << 20
ARENA_BYTES = 1 << 20
RESERVATION = 1 << 5
"""The vCPU's bit in the words of granules."""
CUSHION = 4096
_COMPARATORS = (TLB_READ // 8, TLB_WRITE // 8, TLB_EXEC // 8)
_SIZES = {f.name: f.size for f in HEADER}
ENV = HEADER_SIZE + TLB_BYTES + CUSHION


def shared_by(config: CodegenConfig) -> CodegenConfig:
    """The same for programs with the same thunks: thunks have no callees, so their numbers make no difference."""
    return config._replace(callee_number=_no_number)


def _no_number(callee: Callee) -> int:
    raise AssertionError(f"a thunk calls {callee.name}")


def _empty_tlbs() -> bytes:
    """The content of the software TLBs of all MMU indices when they map nothing."""
    assert TLB_ENTRY_SIZE == 32
    invalid = TLB_INVALID | (1 << 64) - PAGE
    return pack("<4Q", *[invalid if part in _COMPARATORS else 0 for part in range(4)]) * (MMU_INDICES * TLB_ENTRIES)


_EMPTY_TLBS = _empty_tlbs()
_NO_JUMPS = b"\xff" * (32 * JUMP_CACHE_ENTRIES)


def outcome_of(program: Program, template: Template, pc: int) -> Outcome:
    """How a run of ``program`` ended that left its block with this ``pc``.

    Code leaves through one thunk whatever the reason; the interpreter tells which exit it was.
    """
    following = program.pc + GUEST_BYTES & (1 << program.function.word.bits) - 1
    if any(ins.op is Op.EXIT_MAIN for ins in program.function.code) and _interpreted(program) is Leave.EXIT:
        return Outcome(Leave.EXIT)
    if not template.ends:
        return Outcome(Leave.NEXT) if pc == following else Outcome(Leave.EXIT)
    if pc == following and _interpreted(program) is Leave.NEXT:
        return Outcome(Leave.NEXT)
    return Outcome(Leave.GOTO, pc)


def _interpreted(program: Program) -> Leave:
    return interpreted(program).outcome.how


def returned(program: Program, result: int) -> Outcome:
    """How a routine ended that gave back ``result``."""
    ret = next((ins for ins in program.function.code if ins.op is Op.RET and ins.args), None)
    if ret is None:
        return Outcome(Leave.RETURN)
    return Outcome(Leave.RETURN, result & ((1 << ret.args[0].type.bits) - 1))


class Harness:
    """One CPU and one code area; a `raddle.testing.host_contract.Backend`. One thread at a time."""

    def __init__(
        self,
        backend: Callable[[CodegenConfig], BackEnd],
        tlb: bool,
        enter: Callable[[CodegenConfig, int, int], object] | None = None,
        apart: bool | None = None,
    ) -> None:
        """`backend` makes the host's back end, for each program. `tlb`: whether the arena's pages are in the software
        TLB, or every access misses. `enter` runs generated code in place of the thunk `enter`, for a machine that is
        simulated: it gets the configuration, the address of the CPU's state and that of the code. `apart`, for hosts
        with `BackEnd.common_addends`: whether the entries' addend is another than the common one; None: there is none.
        """
        self.backend = backend
        self.tlb = tlb
        self.enter = enter
        self.apart = apart
        self.code = mmap.mmap(-1, CODE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.base = int(ffi.cast("uintptr_t", ffi.from_buffer(self.code)))
        self.block = ffi.new("char[]", ENV + CUSHION)
        self.env = self.block + ENV
        self.arena = ffi.new("char[]", ARENA_BYTES)
        self.granules = ffi.new("uint32_t[]", (ARENA_BYTES >> GRANULE_BITS) + 2)
        """Words of granules from the arena's first one on."""
        signature = "uint32_t(void *, uint64_t, uint32_t)"
        self.slow_load = ffi.callback(signature, self._slow_load)
        self.slow_store = ffi.callback(signature, self._slow_store)
        self.call_helper = ffi.callback("uint32_t(void *, uint32_t, uint64_t)", self._call_helper)
        self.callees: list[Callee] = []
        self.thunks: dict[CodegenConfig, Thunks] = {}
        """The thunks of the back end for each configuration, by `shared_by`."""

    # -- header --------------------------------------------------------------------------------------------------------

    def _field(self, name: str) -> Any:
        return ffi.cast("uint64_t *" if _SIZES[name] == 8 else "uint32_t *", self.env + OFFSET[name])

    def get(self, name: str) -> int:
        return int(self._field(name)[0])

    def set(self, name: str, value: int) -> None:
        pointer = self._field(name)
        pointer[0] = value

    # -- running -------------------------------------------------------------------------------------------------------

    def number(self, callee: Callee) -> int:
        if callee not in self.callees:
            self.callees.append(callee)
        return self.callees.index(callee)

    def place(self, code: bytes) -> int:
        address = self.base + self.position
        self.code[self.position : self.position + len(code)] = code
        self.position += len(code) + 15 & ~15
        return address

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        self.program = program
        self.callees = []
        self.position = 0
        self.fault: MemoryFault | None = None
        self.error: BaseException | None = None
        function = program.function
        config = CodegenConfig(LAYOUT, function.word, 12, self.number, allocation=allocation, strict=program.strict)
        if self.apart is not None:
            config = config._replace(common_indices=(1 << MMU_INDICES) - 1)
        backend = self.backend(config)
        ffi.memmove(self.arena, program.memory, len(program.memory))
        ffi.buffer(self.block, ENV + CUSHION)[:] = bytes(ENV + CUSHION)
        ffi.memmove(self.env, program.state, len(program.state))
        self.set("exclusive_address", (1 << 64) - 1)
        self._reserve_nothing()
        for name, value in program.header.items():
            self.set(name, value)
        self._fill_tlb(len(program.memory))
        self.table = ffi.new("void *[64]")
        self._set_pointer("helpers", self.table)
        functions = {
            "raddle_slow_load": self.slow_load,
            "raddle_slow_store": self.slow_store,
            "raddle_slow_atomic": self.slow_load,
            "raddle_call_helper": self.call_helper,
        }
        if shared_by(config) not in self.thunks:
            addresses = {name: int(ffi.cast("uintptr_t", f)) for name, f in functions.items()}
            self.thunks[shared_by(config)] = backend.thunks(addresses)
        thunks = self.thunks[shared_by(config)]
        enter = self.place(thunks.enter)
        for name, code in thunks.by_field.items():
            self._set_pointer(name, ffi.cast("void *", self.place(code)))
        self.jumps = ffi.new("char[]", _NO_JUMPS)
        self._set_pointer("jump_cache", self.jumps)
        if any(i.op is Op.RET for i in function.code):
            outcome = self._run_routine(backend, program)
        else:
            outcome = self._run_instruction(backend, program, enter)
        if self.error is not None:
            raise self.error
        assert not self._a_granule_is_locked(), "a granule has been left locked"
        header = {name: self.get(name) for name in COMMON}
        state = bytes(ffi.buffer(self.env, LAYOUT.size))
        return Execution(outcome, state, header, bytes(ffi.buffer(self.arena, len(program.memory))))

    def _set_pointer(self, name: str, pointer: Any) -> None:
        ffi.cast("void **", self.env + OFFSET[name])[0] = ffi.cast("void *", pointer)

    def _reserve_nothing(self) -> None:
        ffi.buffer(self.granules)[:] = bytes(ffi.sizeof(self.granules))
        arena, words = (int(ffi.cast("uintptr_t", one)) for one in (self.arena, self.granules))
        self.set("granules", words - (arena >> GRANULE_BITS) * ffi.sizeof("uint32_t") & (1 << 64) - 1)
        self.set("reservation", RESERVATION)

    def _a_granule_is_locked(self) -> bool:
        used = bytes(ffi.buffer(self.granules)).strip(b"\0")  # much faster than to look at each one
        return bool(used) and any(word >> GRANULE_LOCK for word in self.granules)

    def _fill_tlb(self, size: int) -> None:
        entries = ffi.cast("uint64_t *", self.env + TLB_OFFSET)
        ffi.memmove(entries, _EMPTY_TLBS, len(_EMPTY_TLBS))
        if self.tlb and size % PAGE == 0:
            for mmu_index in range(2):
                for page in range(ARENA_BASE, ARENA_BASE + size, PAGE):
                    at = 4 * (mmu_index * TLB_ENTRIES + (page // PAGE) % TLB_ENTRIES)
                    for part in _COMPARATORS:
                        entries[at + part] = page
                    if self.apart:
                        entries[at + TLB_READ // 8] |= TLB_APART
                    host = int(ffi.cast("uintptr_t", self.arena)) - ARENA_BASE
                    self.set(f"tlb{mmu_index}_addend", (0 if self.apart else host) & (1 << 64) - 1)
                    entries[at + TLB_ADDEND // 8] = host & (1 << 64) - 1
        pairs = ffi.cast("uint64_t *", self.env + TLB_PAIRS)
        for index in range(MMU_INDICES):
            pairs[2 * index] = (TLB_ENTRIES - 1) * TLB_ENTRY_SIZE
            pairs[2 * index + 1] = int(ffi.cast("uintptr_t", entries + 4 * index * TLB_ENTRIES))

    def _run_instruction(self, backend: BackEnd, program: Program, enter: int) -> Outcome:
        template = backend.template(program.function.code, program.function.locals, GUEST_BYTES, 0, 0)
        joiner = Joiner(backend)
        entry = joiner.enter(None, 0, template, program.holes + (0,) * 16)
        self.place_routines(backend, program)
        block = joiner.join([entry], program.pc)
        code = self.place(block.code)
        marker = (1 << 64) - 1
        self.set("pc", marker if program.function.word is Type.I64 else 0)
        for name, value in program.header.items():
            self.set(name, value)
        if self.enter is None:
            ffi.cast("uint64_t(*)(void *, uint64_t)", enter)(self.env, code)
        else:
            self.enter(backend.config, int(ffi.cast("uintptr_t", self.env)), code)
        if self.fault is not None:
            return Outcome(Leave.FAULT, self.fault.address, self.fault.access, self.fault.alignment)
        return outcome_of(program, template, self.get("pc"))

    def _run_routine(self, backend: BackEnd, program: Program) -> Outcome:
        code = self.place(backend.routine(program.function.code, program.function.locals))
        self.place_routines(backend, program)
        call = ffi.cast("uint64_t(*)(void *, uint64_t, uint64_t, uint64_t, uint64_t)", code)
        result = int(call(self.env, 0, 0, 0, 0))
        return returned(program, result)

    def place_routines(self, backend: BackEnd, program: Program) -> None:
        number = 0
        while number < len(self.callees):
            routine = program.routines[self.callees[number].name]
            code = self.place(backend.routine(routine.code, routine.locals))
            self.table[number] = ffi.cast("void *", code)
            number += 1

    # -- what the code calls -------------------------------------------------------------------------------------------

    def _guarded(self, body: Callable[[], int]) -> int:
        try:
            return body()
        except MemoryFault as fault:
            self.fault = fault
            return 1
        except BaseException as error:
            self.error = error
            return 1

    def _decode(self, oi: int) -> tuple[MemOp, int]:
        return MemOp(1 << (oi & 7), bool(oi & 8), bool(oi & 16), Align(oi >> 5 & 7)), oi >> 8

    def _memory(self) -> ArenaMemory:
        memory = ArenaMemory(b"")
        memory.content = ffi.buffer(self.arena, len(self.program.memory))
        return memory

    def _checked_address(self, memop: MemOp, access: int) -> int:
        address = self.get("arg0")
        if address & (memop.align_bytes - 1):
            raise MemoryFault(address, access, alignment=True)
        return address

    def _slow_load(self, _env: Any, _retaddr: int, oi: int) -> int:
        def body() -> int:
            memop, index = self._decode(oi)
            value = self._memory().load(self._checked_address(memop, READ), memop, index)
            self.set("result", _extend(value, memop))
            return 0

        return self._guarded(body)

    def _slow_store(self, _env: Any, _retaddr: int, oi: int) -> int:
        def body() -> int:
            memop, index = self._decode(oi)
            address = self._checked_address(memop, WRITE)
            self._memory().store(address, self.get("arg1") & ((1 << (8 * memop.size)) - 1), memop, index)
            return 0

        return self._guarded(body)

    def _call_helper(self, _env: Any, number: int, _retaddr: int) -> int:
        def body() -> int:
            call = ffi.cast("uint64_t(*)(void *, uint64_t, uint64_t, uint64_t, uint64_t)", self.table[number])
            self.set("result", int(call(self.env, *(self.get(f"arg{i}") for i in range(4)))))
            leave = self.get("exit_now")
            self.set("exit_now", 0)
            return int(leave != 0)

        return self._guarded(body)


def _extend(value: int, memop: MemOp) -> int:
    bits = 8 * memop.size
    if memop.signed and value >> (bits - 1):
        return value | ((1 << 64) - 1) & ~((1 << bits) - 1)
    return value
