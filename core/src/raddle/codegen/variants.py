# SPDX-License-Identifier: Apache-2.0
"""Templates whose variants are compiled when they are wanted, and what an instruction does to the guest's flags.

A variant is for what the host's condition flags hold before the instruction, and for whether anything reads the guest
flags that it sets. The joiner chooses among them by their flag effects (`raddle.codegen.template.pack_traits`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raddle.codegen.template import ALL_FLAGS, FLAG_C, FLAG_N, FLAG_V, FLAG_Z, Template, Variant
from raddle.ir.builder import Instruction, Local, Location
from raddle.ir.opcodes import Effect, Op, operations_with
from raddle.ir.types import Field, FlagCondition, Hole, StateLayout, Type

_TEMPLATE_SIZE: Final = 450
_INSTRUCTION_SIZE: Final = 160
"""Bytes, about, of a template without code, and of an instruction of its IR."""

FAULTS: Final = operations_with(Effect.FAULT)
"""Operations at which a guest exception may be raised, so that all state must be exact."""
ENDS: Final = operations_with(Effect.END)
"""Operations that end a basic block."""
_BRANCHES: Final = frozenset({Op.GOTO, Op.GOTO_INDIRECT})
_LEAVES: Final = _BRANCHES | {Op.EXIT_MAIN}


class CompiledTemplate(Template):
    """The IR of one instruction, whose variants are compiled when they are first wanted. The IR does not change."""

    __slots__ = ("_compile", "_variants", "code", "locals", "open_places")

    def __init__(
        self,
        compile: Callable[[CompiledTemplate, int, bool], Variant],
        code: list[Instruction],
        locals: list[Local],
        row: tuple[int, int, int],
        open_places: Mapping[Location, int],
    ) -> None:
        """``compile(template, host_flags, dead)`` makes a variant. ``row`` is (size, decode state, next decode state);
        ``open_places`` has numbers of registers by where the host keeps them.
        """
        super().__init__(*row, bool(code) and (code[-1].op is Op.EXIT_MAIN or any(ins.op in _BRANCHES for ins in code)))
        self._compile = compile
        # With a side exit (such as an exception) the block goes on after the instruction, with a branch it does not.
        if self.ends and code[-1].op not in _LEAVES:
            code = [*code, Instruction(Op.GOTO, Type.VOID, (), self.size)]
        self.code = code
        self.locals = locals
        self.open_places = open_places
        self._variants: dict[int, Variant] = {}

    @property
    def footprint(self) -> int:
        return _TEMPLATE_SIZE + _INSTRUCTION_SIZE * len(self.code)

    @property
    def holes(self) -> Mapping[int, Hole]:
        return {
            arg.aux.index: arg.aux
            for ins in self.code
            for arg in ins.args
            if arg.op is Op.HOLE and isinstance(arg.aux, Hole)
        }

    def variant(self, host_flags: int, dead: bool) -> Variant:
        key = host_flags << 1 | dead
        variant = self._variants.get(key)
        if variant is None:
            variant = self._variants[key] = self._compile(self, host_flags, dead)
        return variant


# -- the guest's flags -------------------------------------------------------------------------------------------------


def flag_bits(state: StateLayout) -> dict[Field, int]:
    """The bit that stands for each of the guest's condition flags."""
    return dict(zip(state.nzcv or (), (FLAG_N, FLAG_Z, FLAG_C, FLAG_V), strict=False))


def without_flags(code: Sequence[Instruction], bits: Mapping[Field, int]) -> list[Instruction]:
    """The code without stores to the guest's condition flags, and without what only those needed."""
    kept = [ins for ins in code if not (ins.op in (Op.SET_NZCV, Op.SET_NZ) or (ins.op is Op.SET and ins.aux in bits))]
    needed: set[int] = set()
    result: list[Instruction] = []
    for ins in reversed(kept):
        if ins.op not in _NEEDED and id(ins) not in needed:
            continue
        needed.update(id(arg) for arg in ins.args)
        result.append(ins)
    result.reverse()
    return result


_SHOWS_FLAGS: Final = FAULTS | operations_with(Effect.EXIT)
_BRANCHES_INSIDE: Final = frozenset({Op.BRCOND, Op.LABEL, Op.BR})
_NEEDED: Final = operations_with(~Effect.READ_STATE) | {
    Op.LABEL,
    Op.LOCAL_SET,
}
"""Operations that do something besides yielding a value."""
_CONDITION_USES: Final[dict[int, int]] = {
    FlagCondition.EQ: FLAG_Z,
    FlagCondition.CS: FLAG_C,
    FlagCondition.MI: FLAG_N,
    FlagCondition.VS: FLAG_V,
    FlagCondition.HI: FLAG_Z | FLAG_C,
    FlagCondition.GE: FLAG_N | FLAG_V,
    FlagCondition.GT: FLAG_N | FLAG_Z | FLAG_V,
}
"""The flags that a condition tests; its negation tests the same ones."""


def flag_effects(code: Sequence[Instruction], bits: Mapping[Field, int]) -> tuple[int, int]:
    """(flags that are overwritten whatever happens, flags that must be in the state before).

    Only code before the first branch is certain to run. An operation that can fault or leave the block needs all flags
    that have not been overwritten by then.
    """
    defs = uses = 0
    certain = True
    for ins in code:
        op = ins.op
        if op is Op.COND:
            assert isinstance(ins.aux, FlagCondition)
            uses |= _CONDITION_USES[ins.aux & ~1] & ~defs
        elif op is Op.GET and ins.aux in bits:
            assert isinstance(ins.aux, Field)
            uses |= bits[ins.aux] & ~defs
        elif op in _BRANCHES_INSIDE:
            certain = False
        elif op in _SHOWS_FLAGS:
            uses |= ALL_FLAGS & ~defs
        elif certain:
            if op is Op.SET_NZCV:
                defs |= ALL_FLAGS
            elif op is Op.SET_NZ:
                defs |= FLAG_N | FLAG_Z
            elif op is Op.SET and ins.aux in bits:
                assert isinstance(ins.aux, Field)
                defs |= bits[ins.aux]
    return defs, uses
