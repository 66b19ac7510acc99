# SPDX-License-Identifier: Apache-2.0
"""The AArch64 back end: templates, routines, and what surrounds the instructions of a block."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from raddle.codegen import backend
from raddle.codegen.backend import CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.fields import Reloc, pack_fixups
from raddle.codegen.renaming import Forms, Method
from raddle.codegen.template import Variant, pack_jump, pack_traits
from raddle.codegen.values import STATE
from raddle.codegen.variants import CompiledTemplate, flag_bits, flag_effects, without_flags
from raddle.ir.builder import Instruction, Local
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type
from raddle.runtime.layout import OFFSET
from raddle_host_aarch64 import code_buffer, fields
from raddle_host_aarch64 import emit as _emit  # registers the emission functions
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.emitter import CALLEE_SAVED, ENV, SCRATCH, SCRATCH2, Emitter, emit_constant
from raddle_host_aarch64.features import Features, detect
from raddle_host_aarch64.fields import CHAINING, COUNT12, JUMP21, LEAVE14, LEAVE19, PC16, SHAPES
from raddle_host_aarch64.operands import OPERANDS
from raddle_host_aarch64.registers import SP, X0, X30
from raddle_host_aarch64.thunks import make_thunks

assert _emit

_HASH_FACTOR: Final = 0x01000193
"""Odd, so that multiplying loses nothing."""
_SHAPES: Final = {
    code_buffer.BRANCH26: fields.BRANCH26,
    code_buffer.BRANCH19: fields.BRANCH19,
    code_buffer.BRANCH14: fields.BRANCH14,
}


class AArch64BackEnd(backend.BackEnd):
    """See `raddle.codegen.backend.BackEnd`."""

    renames = True
    disassembler = ("CS_ARCH_ARM64", "CS_MODE_LITTLE_ENDIAN")

    def __init__(self, config: CodegenConfig, features: Features | None = None) -> None:
        self.config = config
        self.features = detect() if features is None else features
        self._lock = threading.Lock()
        """Guards `_emitter`: variants are compiled when a join first wants them, by any thread."""
        self._emitter = Emitter(config, self.features, routine=False)
        self._wide = config.word is Type.I64
        self._flag_bits = flag_bits(config.state)
        self._forms = _forms()
        self._where: dict[Field, int] = {
            field: self._emitter.pinned.get(field.offset, STATE + field.offset)
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
        """Compile one variant: with or without the guest's flags. The host's hold them always, so there is one kind."""
        code = without_flags(template.code, self._flag_bits) if dead else template.code
        defs, uses = flag_effects(code, self._flag_bits)
        with self._lock:
            e = self._emitter
            e.run(code, template.locals)
            hot, cold = e.finish(), bytes(e.cold)
            holes = [[hole for is_cold, hole in e.holes if is_cold is in_cold] for in_cold in (False, True)]
            fixups = pack_fixups(0, e.hot_relocs, holes[0]) + pack_fixups(1, e.cold_relocs, holes[1])
            traits = pack_traits(defs, uses, 0, template.ends, by_kind=False)
            if not template.open_places:
                return Variant(hot, cold, fixups, traits)
            cuts = self._forms.cuts(e.code, e.trace, template.open_places)
            jumps = [pack_jump(at is e.cold, _SHAPES[reach], field, to.position) for at, field, reach, to in e.jumps]
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
        return JoinRules(*stubs, falls_through, SHAPES, CHAINING)

    def _entry(self) -> Stub:
        """The entry check; with instruction counting, of the budget too, and the hash over the blocks that run. The
        host's flags are the guest's here."""
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
            emit_constant(a, SCRATCH2, _HASH_FACTOR)
            a.MUL_xxx(SCRATCH, SCRATCH, SCRATCH2)
            a.ROR_xxi(SCRATCH, SCRATCH, 29)
            a.PUT_xxi(SCRATCH, ENV, OFFSET["trace_hash"])
        return Stub(bytes(a.code), tuple(relocs))

    def _leave(self) -> Stub:
        """What the entry check took from the budget is given back before the block is left."""
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
        """A guest address to a register, of 64 bits or of 32 that are zero-extended."""
        relocs: list[Reloc] = []
        pieces = (a.MOVZ_xi, a.MOVK_xi_16, a.MOVK_xi_32, a.MOVK_xi_48)
        for move, kind in zip(pieces[: 4 if wide else 2], PC16, strict=False):
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
        if e.routine_exit is None:
            e.routine_exit = e.label()
        # What the body needs of the frame is known only now: the prologue is made last and put in front.
        saved = [ENV, X30, *(register for register in CALLEE_SAVED if register in e.preserved_used)]
        frame = 8 * e.frame_used
        size = -(-(frame + 8 * len(saved)) // 16) * 16
        e.bind(e.routine_exit)
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


def _assemble(method: Method, operands: Sequence[int]) -> bytes:
    assembler = Assembler()
    method(assembler, *operands)
    return bytes(assembler.code)


def _forms() -> Forms:
    return Forms(OPERANDS, ENV, _assemble)


__all__ = ["AArch64BackEnd"]
