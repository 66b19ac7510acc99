# SPDX-License-Identifier: Apache-2.0
"""The x86-64 back end: templates, routines, joining instructions to blocks, and the thunks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from struct import Struct
from typing import Final

from raddle.codegen import backend
from raddle.codegen.backend import CodegenConfig, Thunks
from raddle.codegen.template import ALL_FLAGS, Block, Entry, RelocKind, Template
from raddle.ir.builder import Instruction, Local
from raddle.ir.opcodes import TABLE, Effect, Op
from raddle.ir.types import Field, FieldArray, FlagCondition, Type
from raddle.runtime.layout import OFFSET
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64 import emit as _emit  # registers the emission functions
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.emitter import (
    CALLEE_SAVED,
    ENV,
    FAULTS,
    FRAME_SLOTS,
    KIND_KEPT,
    KIND_NONE,
    Emitter,
)
from raddle_host_x86_64.features import Features, detect
from raddle_host_x86_64.registers import (
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
)  # fmt: skip
from raddle_host_x86_64.variant import Variant, part

assert _emit

FRAME_BYTES: Final = 8 * FRAME_SLOTS
_SAVED: Final = (RBX, RBP, R12, R13, R14, R15)
_CALLER_SAVED: Final = (RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11)

_NOPS: Final = (
    b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00", b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00", b"\x0f\x1f\x80\x00\x00\x00\x00", b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
)  # fmt: skip

_ROW: Final = Struct("<HHBBH")
_PATCH: Final = Struct("<I").pack_into
_REL32: Final = Struct("<i").pack
_PATCH64: Final = Struct("<Q").pack_into
_HASH_FACTOR: Final = 0x01000193
"""Odd, so that multiplying loses nothing."""
_BRANCHES: Final = frozenset({Op.GOTO, Op.GOTO_INDIRECT})
_LEAVES: Final = _BRANCHES | {Op.EXIT_MAIN}
_PC32, _PC64, _CHAIN, _COLD, _HOT = (int(kind) for kind in RelocKind)
_M32: Final = 0xFFFFFFFF
_PLAIN: Final = ENV - 1
"""What is left of a location: the host register, or the offset in the state."""


class X86Template(Template):
    """A template of the x86-64 back end; its variants are compiled when they are first wanted.

    A renamed one takes its variants from the one that it was renamed from.
    """

    __slots__ = ("_backend", "_code", "_context", "_first", "_locals", "_places", "_source", "_touched", "_variants")

    def __init__(
        self, host: X86BackEnd, code: list[Instruction], locals: list[Local], size: int, context: int, next_context: int
    ) -> None:
        super().__init__(size, next_context)
        self._backend = host
        self._code = code
        self._locals = locals
        self._context = context
        self._first: Variant | None = None
        self._variants: dict[int, Variant] = {}
        self._source: X86Template | None = None
        self._places: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._touched: set[Field] | None = None

    def renamed(self, fields: Sequence[Field], others: Sequence[Field]) -> X86Template | None:
        touched = self._touched
        if touched is None:
            touched = self._touched = _touched(self._code)
        for other in others:
            if other in touched and other not in fields:
                return None
        template = X86Template(self._backend, self._code, self._locals, self.size, self._context, self.next_context)
        template._source = self
        where = self._backend.where
        template._places = tuple([where[field] for field in fields]), tuple([where[field] & _PLAIN for field in others])
        return template

    def _variant(self, kind: int, dead: bool) -> Variant:
        key = kind << 1 | dead
        variant = self._variants.get(key)
        if variant is None:
            source = self._source
            if source is None:
                variant = self._backend.compile(self._code, self._locals, self.size, self._context, kind, dead)
            else:
                variant = source._variant(kind, dead).renamed(*self._places)
            self._variants[key] = variant
        return variant

    def fill(self, values: tuple[int, ...]) -> Entry:
        first = self._first
        if first is None:
            first = self._first = self._variant(KIND_NONE, False)
        return first.fill(self, values)

    def by_kind(self, entry: Entry, kind: int) -> Entry:
        """The variant of `entry`, which this template filled, for what the host's flags hold before it."""
        kinds = entry.kinds
        if kinds is None:
            kinds = entry.kinds = {}
        variant = kinds.get(kind)
        if variant is None:
            variant = kinds[kind] = self._variant(kind, False).fill(self, entry.values)
        return variant

    def dead(self, entry: Entry) -> Entry:
        """The variant of `entry` that leaves the guest's flags alone."""
        dead = entry.dead
        if dead is None:
            dead = entry.dead = self._variant(entry.kind, True).fill(self, entry.values)
        return dead


def _touched(code: list[Instruction]) -> set[Field]:
    """The fields that the code reads or writes."""
    touched: set[Field] = set()
    for ins in code:
        if ins.op is Op.GET or ins.op is Op.SET:
            assert isinstance(ins.aux, Field)
            touched.add(ins.aux)
        elif ins.op is Op.GET_AT or ins.op is Op.SET_AT:
            assert isinstance(ins.aux, FieldArray)
            touched.update(ins.aux)
    return touched


class X86BackEnd(backend.BackEnd):
    """See `raddle.codegen.backend.BackEnd`."""

    def __init__(self, config: CodegenConfig, features: Features | None = None) -> None:
        self.config = config
        self.features = detect() if features is None else features
        self._lock = threading.Lock()
        """Guards `_emitter`: variants are compiled when a join first wants them, by any thread."""
        self._emitter = Emitter(config, self.features, routine=False)
        self._wide = config.word is Type.I64
        self._page_mask = -(1 << config.page_bits)
        self._flag_bits: dict[Field, int] = {}
        self.where: dict[Field, int] = {
            field: self._emitter.pinned.get(field.offset, ENV + field.offset) for field in config.state.fields.values()
        }
        """The location of each field as values have them."""
        if config.state.nzcv:
            self._flag_bits = dict(zip(config.state.nzcv, (8, 4, 2, 1), strict=True))
        self._stubs()
        fallthrough = [Instruction(Op.GOTO, Type.VOID, (), 0)]
        self._fallthrough = self.template(fallthrough, [], 0, 0, 0).fill(())

    # -- one instruction -----------------------------------------------------------------------------------------------

    def template(
        self, code: list[Instruction], locals: list[Local], size: int, context: int, next_context: int
    ) -> X86Template:
        template = X86Template(self, code, locals, size, context, next_context)
        template._first = template._variant(KIND_NONE, False)
        return template

    def place(self, field: Field) -> int:
        return -1 if field.offset in self._emitter.pinned else int(field.type)

    def compile(
        self, code: list[Instruction], locals: list[Local], size: int, context: int, kind: int, dead: bool
    ) -> Variant:
        """Compile one variant: for what the host's flags hold before, with or without the guest's flags."""
        # An exit on the side (an exception, say) lets the block go on after the instruction; a branch does not.
        ends = bool(code) and (code[-1].op is Op.EXIT_MAIN or any(ins.op in _BRANCHES for ins in code))
        if ends and code[-1].op not in _LEAVES:
            code = [*code, Instruction(Op.GOTO, Type.VOID, (), size)]
        if dead:
            code = _without_flags(code, self._flag_bits)
        defs, uses = _flag_effects(code, self._flag_bits)
        with self._lock:
            e = self._emitter
            e.run(code, locals, kind)
            return Variant(
                part(e.finish(), e.code, e.hot_relocs, [hole[1:] for hole in e.holes if not hole[0]], e.trace, e.jumps),
                part(bytes(e.cold), e.cold, e.cold_relocs, [hole[1:] for hole in e.holes if hole[0]], e.trace, e.jumps),
                (size, context),
                (defs, uses, e.kind if e.touched or e.kind != kind else KIND_KEPT, ends),
                kind,
                e.kinds_matter and kind == KIND_NONE,
            )

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _stubs(self) -> None:
        """The constant bytes of block entries and exit stubs."""
        a = Assembler()
        if self.config.icount:
            a.SUB_mI(RBP, OFFSET["icount_left"], 0x7FFFFFFF)
            self._icount_field = len(a.code) - 4
            a.Jcc_rel32(cc.S, 0)
        a.CMP_mi(RBP, OFFSET["exit_request"], 0)
        a.Jcc_rel32(cc.NE, 0)
        self._exit_field = len(a.code) - 4
        if self.config.icount:
            # The hash over the addresses of all blocks that run: two runs with the same input have the same.
            a.MOVQ_rm(RAX, RBP, OFFSET["trace_hash"])
            a.XORQ_rI(RAX, 0x7FFFFFFF)
            self._hash_field = len(a.code) - 4
            a.IMULQ_rri(RAX, RAX, _HASH_FACTOR)
            a.RORQ_ri(RAX, 29)
            a.MOVQ_mr(RBP, OFFSET["trace_hash"], RAX)
        self._entry = bytes(a.code)
        pc = OFFSET["pc"]
        self._store_pc = _store_pc(pc, self._wide)
        a = Assembler()
        a.LEAQ_rp(RAX, 0)
        self._lea_slot = bytes(a.code[:-4])
        self._to_chain = _jump(OFFSET["thunk_chain"])
        self._to_exit = _jump(OFFSET["thunk_exit"])
        self._to_indirect = _jump(OFFSET["thunk_indirect"])
        a = Assembler()
        if self._wide:
            a.MOVABS_ri(RAX, 0)
            self._move_pc = bytes(a.code[:-8])
        else:
            a.MOV_ri(RAX, 0)
            self._move_pc = bytes(a.code[:-4])
        pc_bytes, letter = (8, "Q") if self._wide else (4, "I")
        self._pc_mask = (1 << (8 * pc_bytes)) - 1
        self._far_stub = Struct(f"<{len(self._move_pc)}s{letter}{len(self._to_indirect)}s")
        # Of 32-bit guests, whose pc is stored by one instruction.
        self._near_stub = Struct(f"<{len(self._store_pc)}sI{len(self._lea_slot)}si{len(self._to_chain)}s")
        self._after_lea = len(self._store_pc) + 4 + len(self._lea_slot) + 4

    def _pc_store(self, pc: int) -> bytes:
        pc &= self._pc_mask
        if not self._wide:
            return self._store_pc + pc.to_bytes(4, "little")
        a = Assembler()
        a.MOVABS_ri(RAX, pc)
        a.MOVQ_mr(RBP, OFFSET["pc"], RAX)
        return bytes(a.code)

    def join(self, entries: Sequence[Entry], pc: int, falls_through: bool) -> Block:
        # What the host's flags hold before each instruction chooses its variant.
        kind = KIND_NONE
        defining = 0
        chosen: list[Entry] = []
        parts = [self._entry]
        rows: list[bytes] = []
        fixups: list[tuple[int, int, Entry]] = []
        position = hot_start = len(self._entry)
        address = pc
        for entry in entries:
            if kind and entry.by_kind:
                entry = (entry.kinds and entry.kinds.get(kind)) or entry.template.by_kind(entry, kind)
            chosen.append(entry)
            if entry.host_flags >= 0:
                kind = entry.host_flags
            if entry.flag_defs:
                defining += 1
            if entry.plain:
                rows.append(entry.row)
            else:
                row = entry.row
                if entry.pads is not None:
                    skip = entry.pads[position & 7]
                    if skip:
                        parts.append(_NOPS[skip])
                        position += skip
                        hot, cold, size, pad, extra = _ROW.unpack(row)
                        row = _ROW.pack(hot + skip, cold, size, pad, extra)
                rows.append(row)
                fixups.append((position, address, entry))
            code = entry.hot
            parts.append(code)
            position += len(code)
            address += entry.size
        if defining > 1 and _drop_dead_flags(chosen):
            return self.join(chosen, pc, falls_through)
        if falls_through:
            entry = self._fallthrough
            assert entry.pads is not None
            skip = entry.pads[position & 7]
            parts.append(_NOPS[skip])
            position += skip
            fixups.append((position, address, entry))
            parts.append(entry.hot)
            position += len(entry.hot)
        cold_start = position
        for _, _, entry in fixups:
            if entry.cold:
                parts.append(entry.cold)
        joined = bytearray(b"".join(parts))
        self._relocate(joined, fixups, pc, cold_start)
        self._finish_entry(joined, pc, len(chosen))
        return Block(bytes(joined), b"".join(rows), hot_start, cold_start)

    def _relocate(self, code: bytearray, fixups: list[tuple[int, int, Entry]], pc: int, cold_start: int) -> None:
        cold_base = cold_start
        for hot_base, address, entry in fixups:
            for kind, offset, value in entry.hot_relocs:
                at = hot_base + offset
                if kind == _COLD:
                    _PATCH(code, at, (cold_base + value - at - 4) & _M32)
                elif kind == _CHAIN:
                    self._exit(code, at, pc, address + value)
                elif kind == _PC32:
                    _PATCH(code, at, (address + value) & _M32)
                else:
                    _PATCH64(code, at, (address + value) & self._pc_mask)
            for kind, offset, value in entry.cold_relocs:
                at = cold_base + offset
                if kind == _HOT:
                    _PATCH(code, at, (hot_base + value - at - 4) & _M32)
                elif kind == _CHAIN:
                    self._exit(code, at, pc, address + value)
                elif kind == _PC32:
                    _PATCH(code, at, (address + value) & _M32)
                else:
                    _PATCH64(code, at, (address + value) & self._pc_mask)
            cold_base += len(entry.cold)

    def _exit(self, code: bytearray, at: int, pc: int, target: int) -> None:
        """Append the stub for the jump whose rel32 is at `at`, and aim the jump at it.

        A jump inside the block's page can be chained; any other goes through the jump cache each time, because what
        another page maps to can change while this block stays valid.
        """
        stub = len(code)
        _PATCH(code, at, (stub - at - 4) & _M32)
        target &= self._pc_mask
        if (target ^ pc) & self._page_mask or at & 7 > 4:
            code += self._far_stub.pack(self._move_pc, target, self._to_indirect)
        elif self._wide:
            code += self._pc_store(target) + self._lea_slot
            code += _REL32(at - len(code) - 4) + self._to_chain
        else:
            rel = at - stub - self._after_lea
            code += self._near_stub.pack(self._store_pc, target, self._lea_slot, rel, self._to_chain)

    def _finish_entry(self, code: bytearray, pc: int, count: int) -> None:
        """The stubs of the entry check: what it took from the budget is given back before the block is left."""
        stub = len(code)
        if self.config.icount:
            _PATCH(code, self._icount_field, count)
            _PATCH(code, self._icount_field + 6, (stub - self._icount_field - 10) & _M32)
            _PATCH(code, self._hash_field, pc & _M32)
        at = self._exit_field
        _PATCH(code, at, (stub - at - 4) & _M32)
        if self.config.icount:
            a = Assembler()
            a.ADD_mI(RBP, OFFSET["icount_left"], count)
            code += a.code
        code += self._pc_store(pc)
        code += self._to_exit

    # -- routines ------------------------------------------------------------------------------------------------------

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        e = Emitter(replace(self.config, fences=0), self.features, routine=True)
        e.run(code, locals, KIND_NONE)
        if e.routine_exit is None:
            e.routine_exit = e.label()
        body_exit = e.routine_exit
        # The frame is laid before the body, whose needs are known only now: emit again with the prologue in front.
        saved = [register for register in CALLEE_SAVED if register in e.callee_saved_used]
        frame = 8 * e.frame_used
        frame += (8 * (len(saved) + 2) + frame) % 16
        e.bind(body_exit)
        tail = Assembler()
        tail.ADDQ_ri(RSP, frame)
        for register in reversed(saved):
            tail.POP_r(register)
        tail.POP_r(RBP)
        tail.RET()
        head = Assembler()
        head.PUSH_r(RBP)
        for register in saved:
            head.PUSH_r(register)
        head.SUBQ_ri(RSP, frame)
        head.MOVQ_rr(RBP, RDI)
        return bytes(head.code) + e.finish() + bytes(tail.code)

    # -- thunks --------------------------------------------------------------------------------------------------------

    def thunks(self, functions: dict[str, int]) -> Thunks:
        by_field = {
            "thunk_exit": self._leave_thunk(0),
            "thunk_chain": self._leave_thunk(-1),
            "thunk_indirect": self._indirect_thunk(),
            "thunk_load": self._slow_thunk(functions["raddle_slow_load"], 1),
            "thunk_store": self._slow_thunk(functions["raddle_slow_store"], 1),
            "thunk_atomic": self._slow_thunk(functions["raddle_slow_atomic"], 2),
            "thunk_call": self._call_thunk(functions["raddle_call_helper"]),
        }
        return Thunks(self._enter_thunk(), by_field)

    def _load_pinned(self, a: Assembler) -> None:
        for field, register in self._emitter.pinned_fields:
            (a.MOVQ_rm if field.type is Type.I64 else a.MOV_rm)(register, RBP, field.offset)

    def _store_pinned(self, a: Assembler) -> None:
        for field, register in self._emitter.pinned_fields:
            (a.MOVQ_mr if field.type is Type.I64 else a.MOV_mr)(RBP, field.offset, register)

    def _enter_thunk(self) -> bytes:
        a = Assembler()
        for register in _SAVED:
            a.PUSH_r(register)
        a.SUBQ_ri(RSP, FRAME_BYTES + 8)
        a.MOVQ_rr(RBP, RDI)
        a.MOVQ_mr(RBP, OFFSET["saved_sp"], RSP)
        a.MOVQ_rr(RAX, RSI)
        self._load_pinned(a)
        a.JMP_r(RAX)
        return a.finish()

    @staticmethod
    def _return_to_loop(a: Assembler) -> None:
        """Back to the caller of `enter`; the state holds all guest registers, rax is the answer."""
        a.MOVQ_rm(RSP, RBP, OFFSET["saved_sp"])
        a.ADDQ_ri(RSP, FRAME_BYTES + 8)
        for register in reversed(_SAVED):
            a.POP_r(register)
        a.RET()

    def _leave_thunk(self, answer: int) -> bytes:
        a = Assembler()
        self._store_pinned(a)
        if answer >= 0:
            a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()

    def _indirect_thunk(self) -> bytes:
        """rax = guest address. The jump cache's index: see `raddle.runtime.layout.JUMP_CACHE_ENTRIES`."""
        a = Assembler()
        miss = a.label()
        a.MOVQ_mr(RBP, OFFSET["pc"], RAX)
        a.MOVQ_rr(RCX, RAX)
        a.SHRQ_ri(RCX, 1)
        a.MOVQ_rr(RDX, RAX)
        a.SHRQ_ri(RDX, 7)
        a.XOR_rr(RCX, RDX)
        a.AND_ri(RCX, 63)
        a.SHRQ_ri(RDX, 5)
        a.AND_ri(RDX, 63)
        a.SHL_ri(RDX, 6)
        a.OR_rr(RCX, RDX)
        a.SHL_ri(RCX, 5)
        a.ADDQ_rm(RCX, RBP, OFFSET["jump_cache"])
        a.CMPQ_rm(RAX, RCX, 0)
        a.Jcc_near(cc.NE, miss)
        a.MOV_rm(RDX, RBP, OFFSET["mode"])
        a.CMP_rm(RDX, RCX, 8)
        a.Jcc_near(cc.NE, miss)
        a.JMP_m(RCX, 16)
        a.bind(miss)
        self._store_pinned(a)
        a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()

    def _slow_thunk(self, function: int, extra: int) -> bytes:
        """Call f(env, return address, oi[, operation]): oi is in ecx, the operation in edx; 1 leaves the block."""
        a = Assembler()
        leave = a.label()
        self._store_pinned(a)
        kept = [r for r in self._emitter.value_registers if r in _CALLER_SAVED]
        for register in kept:
            a.PUSH_r(register)
        # The return address makes the count odd: keep the stack aligned to 16 bytes at the call.
        pad = 0 if len(kept) % 2 else 8
        if pad:
            a.SUBQ_ri(RSP, pad)
        if extra == 2:
            a.MOV_rr(R10, RDX)
        a.MOVQ_rr(RDI, RBP)
        a.MOVQ_rm(RSI, RSP, 8 * len(kept) + pad)
        a.MOV_rr(RDX, RCX)
        if extra == 2:
            a.MOV_rr(RCX, R10)
        a.MOVABS_ri(RAX, function)
        a.CALL_r(RAX)
        a.TEST_rr(RAX, RAX)
        a.Jcc_near(cc.NE, leave)
        if pad:
            a.ADDQ_ri(RSP, pad)
        for register in reversed(kept):
            a.POP_r(register)
        self._load_pinned(a)
        a.RET()
        a.bind(leave)
        a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()

    def _call_thunk(self, function: int) -> bytes:
        """eax = helper number; the runtime takes the arguments from the header and leaves the result there."""
        a = Assembler()
        leave = a.label()
        self._store_pinned(a)
        a.MOVQ_rr(RDI, RBP)
        a.MOV_rr(RSI, RAX)
        a.MOVQ_rm(RDX, RSP, 0)
        a.SUBQ_ri(RSP, 8)
        a.MOVABS_ri(RAX, function)
        a.CALL_r(RAX)
        a.TEST_rr(RAX, RAX)
        a.Jcc_near(cc.NE, leave)
        a.ADDQ_ri(RSP, 8)
        self._load_pinned(a)
        a.RET()
        a.bind(leave)
        a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()


def _drop_dead_flags(chosen: list[Entry]) -> bool:
    """From the last to the first: instructions whose flags nobody can see do without. Whether there were any."""
    live = ALL_FLAGS
    dropped = False
    for index in range(len(chosen) - 1, -1, -1):
        entry = chosen[index]
        defs = entry.flag_defs
        if defs and not defs & live:
            chosen[index] = entry = entry.dead or entry.template.dead(entry)
            dropped = True
        live = live & ~defs | entry.flag_uses
    return dropped


def _store_pc(pc: int, wide: bool) -> bytes:
    """`mov dword [rbp + pc], imm32` without the immediate; the upper half of a 32-bit guest's pc is always zero."""
    a = Assembler()
    if not wide:
        a.MOV_mi(RBP, pc, 0)
    return bytes(a.code[:-4])


def _jump(offset: int) -> bytes:
    a = Assembler()
    a.JMP_m(RBP, offset)
    return bytes(a.code)


def _without_flags(code: list[Instruction], flag_bits: dict[Field, int]) -> list[Instruction]:
    """The code less all stores to the guest's condition flags, and less what only they needed."""
    kept = [
        ins for ins in code if not (ins.op in (Op.SET_NZCV, Op.SET_NZ) or (ins.op is Op.SET and ins.aux in flag_bits))
    ]
    needed: set[int] = set()
    result: list[Instruction] = []
    for ins in reversed(kept):
        if ins.op not in _NEEDED and id(ins) not in needed:
            continue
        needed.update(id(arg) for arg in ins.args)
        result.append(ins)
    result.reverse()
    return result


_SHOWS_FLAGS: Final = FAULTS | {op for op, info in TABLE.items() if info.effects & Effect.EXIT}
_BRANCHES_INSIDE: Final = frozenset({Op.BRCOND, Op.LABEL, Op.BR})
_NEEDED: Final = frozenset(op for op, info in TABLE.items() if info.effects not in (Effect.NONE, Effect.READ_STATE)) | {
    Op.LABEL,
    Op.LOCAL_SET,
}
"""Operations that do something besides yielding a value."""
_CONDITION_USES: Final = {0: 4, 2: 2, 4: 8, 6: 1, 8: 6, 10: 9, 12: 13}
"""By flag condition less its lowest bit: the flags that it looks at, N = 8, Z = 4, C = 2, V = 1."""


def _flag_effects(code: list[Instruction], flag_bits: dict[Field, int]) -> tuple[int, int]:
    """(flags that are overwritten whatever happens, flags that must be in the state before).

    Only what stands before the first branch is certain to happen. What can fault or leaves the block shows all flags
    that have not been overwritten by then.
    """
    defs = uses = 0
    certain = True
    for ins in code:
        op = ins.op
        if op is Op.COND:
            assert isinstance(ins.aux, FlagCondition)
            uses |= _CONDITION_USES[ins.aux & ~1] & ~defs
        elif op is Op.GET and ins.aux in flag_bits:
            uses |= flag_bits[ins.aux] & ~defs
        elif op in _BRANCHES_INSIDE:
            certain = False
        elif op in _SHOWS_FLAGS:
            uses |= ALL_FLAGS & ~defs
        elif certain:
            if op is Op.SET_NZCV:
                defs |= ALL_FLAGS
            elif op is Op.SET_NZ:
                defs |= 12
            elif op is Op.SET and ins.aux in flag_bits:
                defs |= flag_bits[ins.aux]
    return defs, uses


__all__ = ["X86BackEnd", "X86Template"]
