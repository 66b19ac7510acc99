# SPDX-License-Identifier: Apache-2.0
"""The x86-64 back end: templates, routines, and what surrounds the instructions of a block."""

from __future__ import annotations

from functools import partial
from typing import Final

from raddle.codegen.backend import TRACE_HASH_FACTOR, TRACE_HASH_ROTATION, CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.compiling import CompilingBackEnd
from raddle.codegen.fields import Reloc
from raddle.codegen.renaming import Forms
from raddle.ir.builder import Instruction, Local
from raddle.ir.header import OFFSET, Reaches
from raddle.ir.types import Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64 import emit as _emit  # registers the emission functions
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.emitter import CALLEE_SAVED, Emitter
from raddle_host_x86_64.features import Features, detect
from raddle_host_x86_64.fields import (
    CHAINING,
    COUNT32,
    JUMP,
    LEAVE,
    NOPS,
    PC32,
    PC64,
    PC_LOW32,
    SHAPES,
)
from raddle_host_x86_64.operands import OPERANDS
from raddle_host_x86_64.registers import GENERAL, RAX, RBP, RDI, RSP
from raddle_host_x86_64.thunks import make_thunks

assert _emit

_INT8: Final = (-(1 << 7), (1 << 7) - 1)
_INT32: Final = (-(1 << 31), (1 << 31) - 1)
"""A displacement has one byte or four (Intel SDM 2A, table 2-2)."""


class X86BackEnd(CompilingBackEnd):
    """See `raddle.codegen.backend.BackEnd`."""

    features: Features
    _emitter: Emitter
    strict = True
    common_addends = True
    reaches = Reaches(short=_INT8, long=_INT32, pair=_INT32)
    disassembler = ("CS_ARCH_X86", "CS_MODE_64")

    def __init__(self, config: CodegenConfig, features: Features | None = None) -> None:
        self.features = detect() if features is None else features
        emitter = Emitter(config, self.features, routine=False)
        super().__init__(config, emitter, partial(Forms, OPERANDS, RBP, Assembler))
        self._wide = config.word is Type.I64

    # -- blocks --------------------------------------------------------------------------------------------------------

    def rules(self) -> JoinRules:
        stubs = self._entry(), self._leave(), self._chainable(), self._indirect()
        return JoinRules(*stubs, self.falls_through(), SHAPES, CHAINING, NOPS)

    def _entry(self) -> Stub:
        """The entry check. With instruction counting it also checks the budget, and hashes the block's address."""
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
            relocs.append((PC_LOW32, len(a.code) - 4, 0))
            a.IMULQ_rri(RAX, RAX, TRACE_HASH_FACTOR)
            a.RORQ_ri(RAX, TRACE_HASH_ROTATION)
            a.MOVQ_mr(RBP, OFFSET["trace_hash"], RAX)
        return Stub(bytes(a.code), tuple(relocs))

    def _leave(self) -> Stub:
        """Give back what the entry check took from the budget, and leave the block."""
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
        """Store the target as the pc. One instruction does for a 32-bit guest: its pc's upper half is always zero."""
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
        e.run(code, locals)
        # The prologue is made last and put in front: only now it is known which registers and slots the body uses.
        saved = [register for register in CALLEE_SAVED if GENERAL[register] in e.preserved_used]
        frame = 8 * e.frame_used
        frame += (8 * (len(saved) + 2) + frame) % 16
        e.bind(e.end_label())
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


__all__ = ["X86BackEnd"]
