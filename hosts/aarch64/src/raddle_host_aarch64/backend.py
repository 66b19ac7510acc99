# SPDX-License-Identifier: Apache-2.0
"""The AArch64 back end: templates, routines, and what surrounds the instructions of a block."""

from __future__ import annotations

from functools import partial
from typing import Final

from raddle.codegen.backend import TRACE_HASH_FACTOR, TRACE_HASH_ROTATION, CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.compiling import CompilingBackEnd
from raddle.codegen.fields import Reloc
from raddle.codegen.renaming import Forms
from raddle.ir.builder import Instruction, Local
from raddle.ir.header import OFFSET, Reaches
from raddle.ir.types import ANY_LITERAL, LiteralKind, Type
from raddle_host_aarch64 import emit as _emit  # registers the emission functions
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.emitter import CALLEE_SAVED, ENV, SCRATCH, SCRATCH2, Emitter, emit_constant
from raddle_host_aarch64.features import Features, detect
from raddle_host_aarch64.fields import CHAINING, COUNT12, JUMP21, LEAVE14, LEAVE19, PC16, PC_LOW32, SHAPES
from raddle_host_aarch64.operands import OPERANDS
from raddle_host_aarch64.registers import GENERAL, SP, X0, X30
from raddle_host_aarch64.thunks import make_thunks

assert _emit

_LDUR: Final = (-256, 255)
_LDP: Final = (-512, 504)
"""Displacements at which one instruction accesses a register of any size, and a pair of 64-bit registers."""


class AArch64BackEnd(CompilingBackEnd):
    """See `raddle.codegen.backend.BackEnd`."""

    features: Features
    _emitter: Emitter
    disassembler = ("CS_ARCH_ARM64", "CS_MODE_LITTLE_ENDIAN")
    literal_kinds = (
        LiteralKind(0, 0xFFF),
        LiteralKind(0, 0xFFFF),
        LiteralKind(0, 0xFFF000, 0x10000),
        LiteralKind(0, 0xFFF000, 0x1000),
        LiteralKind(*ANY_LITERAL, 0x10000),
        LiteralKind(0, 0xFFFF00, 0x100),
    )
    """Literals for which one addition does, or one move, with or without a shift; last, one move and an addition that
    shifts."""
    strict = True
    reaches = Reaches(short=_LDUR, long=_LDUR, pair=_LDP)

    def __init__(self, config: CodegenConfig, features: Features | None = None) -> None:
        self.features = detect() if features is None else features
        emitter = Emitter(config, self.features, routine=False)
        super().__init__(config, emitter, partial(Forms, OPERANDS, ENV, Assembler))
        self._wide = config.word is Type.I64

    # -- blocks --------------------------------------------------------------------------------------------------------

    def rules(self) -> JoinRules:
        stubs = self._entry(), self._leave(), self._chainable(), self._indirect()
        return JoinRules(*stubs, self.falls_through(), SHAPES, CHAINING)

    def _entry(self) -> Stub:
        """The entry check. With instruction counting it also checks the budget, and hashes the block's address.

        NZCV holds the guest's flags, and stays as it is.
        """
        a = Assembler()
        relocs: list[Reloc] = []
        if self.config.icount:
            a.GET_wxi(SCRATCH, ENV, OFFSET["icount_left"])
            a.SUB_wwi(SCRATCH, SCRATCH, 0)
            relocs.append((COUNT12, len(a.code) - 4, 0))
            a.PUT_wxi(SCRATCH, ENV, OFFSET["icount_left"])
            a.TBNZ_wii(SCRATCH, 31, 0)
            relocs.append((LEAVE14, len(a.code) - 4, 0))
        a.GET_wxi(SCRATCH, ENV, OFFSET["exit_request"])
        a.CBNZ_wi(SCRATCH, 0)
        relocs.append((LEAVE19, len(a.code) - 4, 0))
        if self.config.icount:
            # Two runs with the same input have the same hash.
            a.GET_xxi(SCRATCH, ENV, OFFSET["trace_hash"])
            relocs += self._target(a, SCRATCH2, wide=False)
            a.EOR_xxx(SCRATCH, SCRATCH, SCRATCH2)
            emit_constant(a, SCRATCH2, TRACE_HASH_FACTOR)
            a.MUL_xxx(SCRATCH, SCRATCH, SCRATCH2)
            a.ROR_xxi(SCRATCH, SCRATCH, TRACE_HASH_ROTATION)
            a.PUT_xxi(SCRATCH, ENV, OFFSET["trace_hash"])
        return Stub(bytes(a.code), tuple(relocs))

    def _leave(self) -> Stub:
        """Give back what the entry check took from the budget, and leave the block."""
        a = Assembler()
        relocs: list[Reloc] = []
        if self.config.icount:
            a.GET_wxi(SCRATCH, ENV, OFFSET["icount_left"])
            a.ADD_wwi(SCRATCH, SCRATCH, 0)
            relocs.append((COUNT12, len(a.code) - 4, 0))
            a.PUT_wxi(SCRATCH, ENV, OFFSET["icount_left"])
        relocs += self._target(a, X0, self._wide)
        a.PUT_xxi(X0, ENV, OFFSET["pc"])
        self._jump(a, "thunk_exit")
        return Stub(bytes(a.code), tuple(relocs))

    def _chainable(self) -> Stub:
        a = Assembler()
        relocs = self._target(a, X0, self._wide)
        a.PUT_xxi(X0, ENV, OFFSET["pc"])
        a.ADR_xi(X0, 0)
        relocs.append((JUMP21, len(a.code) - 4, 0))
        self._jump(a, "thunk_chain")
        return Stub(bytes(a.code), tuple(relocs))

    def _indirect(self) -> Stub:
        a = Assembler()
        relocs = self._target(a, X0, self._wide)
        self._jump(a, "thunk_indirect")
        return Stub(bytes(a.code), tuple(relocs))

    @staticmethod
    def _jump(a: Assembler, thunk: str) -> None:
        a.GET_xxi(SCRATCH2, ENV, OFFSET[thunk])
        a.BR_x(SCRATCH2)

    @staticmethod
    def _target(a: Assembler, register: int, wide: bool) -> list[Reloc]:
        """Load all 64 bits of a guest address, or its low 32, zero-extended."""
        relocs: list[Reloc] = []
        pieces = (a.MOVZ_xi, a.MOVK_xi_16, a.MOVK_xi_32, a.MOVK_xi_48)
        for move, kind in zip(pieces, PC16 if wide else PC_LOW32, strict=False):
            move(register, 0)
            relocs.append((kind, len(a.code) - 4, 0))
        return relocs

    @staticmethod
    def constant(value: int) -> bytes:
        a = Assembler()
        emit_constant(a, X0, value)
        a.RET()
        return bytes(a.code)

    # -- routines ------------------------------------------------------------------------------------------------------

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        e = Emitter(self.config._replace(fences=0), self.features, routine=True)
        e.run(code, locals)
        # The prologue is made last and put in front: only now it is known which registers and slots the body uses.
        saved = [ENV, X30, *(register for register in CALLEE_SAVED if GENERAL[register] in e.preserved_used)]
        frame = 8 * e.frame_used
        size = -(-(frame + 8 * len(saved)) // 16) * 16
        e.bind(e.end_label())
        head, tail = Assembler(), Assembler()
        head.SUB_xxi(SP, SP, size)
        for n, register in enumerate(saved):
            head.STR_xxi(register, SP, frame + 8 * n)
            tail.LDR_xxi(register, SP, frame + 8 * n)
        head.MOV_xx(ENV, X0)
        tail.ADD_xxi(SP, SP, size)
        tail.RET()
        return bytes(head.code) + e.finish() + bytes(tail.code)

    # -- thunks --------------------------------------------------------------------------------------------------------

    def thunks(self, functions: dict[str, int]) -> Thunks:
        return make_thunks(functions, self._emitter)


__all__ = ["AArch64BackEnd"]
