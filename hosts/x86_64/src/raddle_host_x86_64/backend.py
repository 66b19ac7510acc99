# SPDX-License-Identifier: Apache-2.0
"""The x86-64 back end: templates, routines, and what surrounds the instructions of a block."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from raddle.codegen import backend
from raddle.codegen.backend import CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.fields import Reloc, pack_fixups
from raddle.codegen.locations import in_state
from raddle.codegen.renaming import Forms, Method
from raddle.codegen.template import Variant, pack_jump, pack_traits
from raddle.codegen.variants import CompiledTemplate, flag_bits, flag_effects, without_flags
from raddle.ir.builder import Instruction, Local, Location
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64 import emit as _emit  # registers the emission functions
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.emitter import CALLEE_SAVED, KIND_KEPT, KIND_NONE, Emitter
from raddle_host_x86_64.features import Features, detect
from raddle_host_x86_64.fields import (
    CHAINING,
    COUNT32,
    JUMP,
    LEAVE,
    NOPS,
    PC32,
    PC64,
    REL32,
    SHAPES,
)
from raddle_host_x86_64.operands import OPERANDS
from raddle_host_x86_64.registers import GENERAL, RAX, RBP, RDI, RSP
from raddle_host_x86_64.thunks import make_thunks

assert _emit

_HASH_FACTOR: Final = 0x01000193
"""Odd, so that multiplying loses nothing."""


class X86BackEnd(backend.BackEnd):
    """See `raddle.codegen.backend.BackEnd`."""

    renames = True
    disassembler = ("CS_ARCH_X86", "CS_MODE_64")

    def __init__(self, config: CodegenConfig, features: Features | None = None) -> None:
        self.config = config
        self.features = detect() if features is None else features
        self._lock = threading.Lock()
        """Guards `_emitter`: variants are compiled when a join first wants them, by any thread."""
        self._emitter = Emitter(config, self.features, routine=False)
        self._wide = config.word is Type.I64
        self._flag_bits = flag_bits(config.state)
        self._forms = _forms()
        self._where: dict[Field, Location] = {
            field: self._emitter.pinned.get(field.offset) or in_state(field.offset)
            for field in config.state.fields.values()
        }
        """The location of each field as values have them."""

    # -- one instruction -----------------------------------------------------------------------------------------------

    def template(
        self,
        code: list[Instruction],
        locals: list[Local],
        size: int,
        context: int,
        next_context: int,
        open_registers: Mapping[int, Field] | None = None,
    ) -> CompiledTemplate:
        where = self._where
        places = {where[field]: number for number, field in (open_registers or {}).items()}
        return CompiledTemplate(self.compile, code, locals, (size, context, next_context), places)

    def place(self, field: Field) -> int:
        return -1 if field.offset in self._emitter.pinned else int(field.type)

    def encode(self, form: int, fields: Sequence[Field]) -> bytes:
        return self._forms.encode(form, [self._where[field] for field in fields])

    def compile(self, template: CompiledTemplate, kind: int, dead: bool) -> Variant:
        """Compile one variant: for what the host's flags hold before, with or without the guest's flags."""
        code = without_flags(template.code, self._flag_bits) if dead else template.code
        defs, uses = flag_effects(code, self._flag_bits)
        with self._lock:
            e = self._emitter
            e.run(code, template.locals, kind)
            hot, cold = e.finish(), bytes(e.cold)
            kept = e.kind if e.touched or e.kind != kind else KIND_KEPT
            traits = pack_traits(defs, uses, kept, template.ends, e.kinds_matter and kind == KIND_NONE)
            holes = [[hole[1:] for hole in e.holes if hole[0] is in_cold] for in_cold in (False, True)]
            fixups = pack_fixups(0, e.hot_relocs, holes[0]) + pack_fixups(1, e.cold_relocs, holes[1])
            if not template.open_places:
                return Variant(hot, cold, fixups, traits)
            cuts = self._forms.cuts(e.code, e.trace, template.open_places)
            jumps = [pack_jump(at is e.cold, REL32, field, label.position) for at, field, label in e.jumps]
            return Variant(hot, cold, fixups, traits, cuts, b"".join(jumps))

    @property
    def footprint(self) -> int:
        return self._forms.footprint

    def forget(self) -> None:
        self._forms = _forms()

    # -- blocks --------------------------------------------------------------------------------------------------------

    def rules(self) -> JoinRules:
        falls_through = self.template([Instruction(Op.GOTO, Type.VOID, (), 0)], [], 0, 0, 0)
        stubs = self._entry(), self._leave(), self._chainable(), self._indirect()
        return JoinRules(*stubs, falls_through, SHAPES, CHAINING, NOPS)

    def _entry(self) -> Stub:
        """The entry check; with instruction counting, of the budget too, and the hash over the blocks that run."""
        a = Assembler()
        relocs: list[Reloc] = []
        if self.config.icount:
            a.SUB_mI(RBP, OFFSET["icount_left"], 0x7FFFFFFF)
            relocs.append((COUNT32, len(a.code) - 4, 0))
            a.Jcc_rel32(cc.S, 0)
            relocs.append((LEAVE, len(a.code) - 4, 0))
        a.CMP_mi(RBP, OFFSET["exit_request"], 0)
        a.Jcc_rel32(cc.NE, 0)
        relocs.append((LEAVE, len(a.code) - 4, 0))
        if self.config.icount:
            # Two runs with the same input have the same hash.
            a.MOVQ_rm(RAX, RBP, OFFSET["trace_hash"])
            a.XORQ_rI(RAX, 0x7FFFFFFF)
            relocs.append((PC32, len(a.code) - 4, 0))
            a.IMULQ_rri(RAX, RAX, _HASH_FACTOR)
            a.RORQ_ri(RAX, 29)
            a.MOVQ_mr(RBP, OFFSET["trace_hash"], RAX)
        return Stub(bytes(a.code), tuple(relocs))

    def _leave(self) -> Stub:
        """What the entry check took from the budget is given back before the block is left."""
        a = Assembler()
        relocs: list[Reloc] = []
        if self.config.icount:
            a.ADD_mI(RBP, OFFSET["icount_left"], 0x7FFFFFFF)
            relocs.append((COUNT32, len(a.code) - 4, 0))
        relocs.append(self._store_target(a))
        a.JMP_m(RBP, OFFSET["thunk_exit"])
        return Stub(bytes(a.code), tuple(relocs))

    def _chainable(self) -> Stub:
        a = Assembler()
        target = self._store_target(a)
        a.LEAQ_rp(RAX, 0)
        jump = JUMP, len(a.code) - 4, 0
        a.JMP_m(RBP, OFFSET["thunk_chain"])
        return Stub(bytes(a.code), (target, jump))

    def _indirect(self) -> Stub:
        a = Assembler()
        target = self._load_target(a)
        a.JMP_m(RBP, OFFSET["thunk_indirect"])
        return Stub(bytes(a.code), (target,))

    def _load_target(self, a: Assembler) -> Reloc:
        if self._wide:
            a.MOVABS_ri(RAX, 0)
            return PC64, len(a.code) - 8, 0
        a.MOV_ri(RAX, 0)
        return PC32, len(a.code) - 4, 0

    def _store_target(self, a: Assembler) -> Reloc:
        """A 32-bit guest's pc is stored by one instruction: its upper half is always zero."""
        if self._wide:
            target = self._load_target(a)
            a.MOVQ_mr(RBP, OFFSET["pc"], RAX)
            return target
        a.MOV_mi(RBP, OFFSET["pc"], 0)
        return PC32, len(a.code) - 4, 0

    @staticmethod
    def constant(value: int) -> bytes:
        a = Assembler()
        a.MOV_ri(RAX, value)
        a.RET()
        return bytes(a.code)

    # -- routines ------------------------------------------------------------------------------------------------------

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        e = Emitter(self.config._replace(fences=0), self.features, routine=True)
        e.run(code, locals, KIND_NONE)
        if e.routine_exit is None:
            e.routine_exit = e.label()
        body_exit = e.routine_exit
        # What the body needs of the frame is known only now: the prologue is made last and put in front.
        saved = [register for register in CALLEE_SAVED if GENERAL[register] in e.preserved_used]
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
        return make_thunks(functions, self._emitter.pinned_fields, self._emitter.general)


def _assemble(method: Method, operands: Sequence[int]) -> bytes:
    assembler = Assembler()
    method(assembler, *operands)
    return bytes(assembler.code)


def _forms() -> Forms:
    return Forms(OPERANDS, RBP, _assemble)


__all__ = ["X86BackEnd"]
