# SPDX-License-Identifier: Apache-2.0
"""The instruction set: decoding, what a CPU model lacks, and the semantics functions by the names of the decode tables.

What these functions get is described in ``common``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import FunctionType
from typing import Final

from raddle.ir.builder import Builder
from raddle.ir.types import Hole
from raddle.translate.decode import Pattern
from raddle.translate.frontend import InstructionSet
from raddle.translate.sharing import Sharing
from raddle_target_alpha import decode, pal
from raddle_target_alpha.cpus import CpuModel
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES, floating_disabled, opcdec
from raddle_target_alpha.insns.common import Semantics
from raddle_target_alpha.insns.sharing import make_sharing
from raddle_target_alpha.state import MODE_FEN, is_user, mmu_index

INTEGER: Final = ("branch", "integer", "memory", "miscellaneous", "parallel")
FLOATING: Final = ("float_arithmetic", "float_moves", "float_vax")
"""The modules of semantics functions: each of their functions whose name starts with a capital letter is one."""


def _semantics(modules: tuple[str, ...]) -> dict[str, Semantics]:
    return {
        name: function
        for module in modules
        for name, function in vars(import_module(f"{__name__}.{module}")).items()
        if isinstance(function, FunctionType) and name[0].isupper() and function.__module__.startswith(__name__)
    }


PAL: Final = {function.__name__: function for function in pal.TABLE.values()}
PRIVILEGED: Final = frozenset(
    function.__name__ for number, function in pal.TABLE.items() if number < pal.PRIVILEGED_END
)
FLOATS: Final = _semantics(FLOATING)
SEMANTICS: Final[dict[str, Semantics]] = _semantics(INTEGER) | FLOATS | PAL
"""Every semantics function by name."""


class AlphaInstructions(InstructionSet):
    """Words of four bytes. Decode states are always 0."""

    unit = INSTRUCTION_BYTES

    def __init__(self, model: CpuModel) -> None:
        self._decoder = decode.alpha()
        self._model = model
        self._sharing: dict[Pattern, Sharing] = {}

    def decode(self, word: int, size: int) -> Pattern | None:
        pattern = self._decoder.decode(word)
        if pattern is None or pattern.constants.get("feature", 0) & ~self._model.features:
            return None
        return pattern

    def sharing(self, pattern: Pattern) -> Sharing:
        try:
            return self._sharing[pattern]
        except KeyError:
            sharing = self._sharing[pattern] = make_sharing(pattern, pattern.name in FLOATS)
            return sharing

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        if pattern is None or (pattern.name in PRIVILEGED and is_user(mode)):
            opcdec(b)
            return 0
        if pattern.name in FLOATS and not mode & MODE_FEN:
            floating_disabled(b)
            return 0
        f = pattern.fields(word)
        f.__dict__.update(operands or {}, mode=mode, mmu=mmu_index(mode), model=self._model)
        SEMANTICS[pattern.name](b, f)
        return 0

    def disassemble(self, word: int, size: int, pc: int) -> str:
        pattern = self.decode(word, size)
        if pattern is None:
            return super().disassemble(word, size, pc)
        return f"{pattern.name} {' '.join(f'{name}={value}' for name, value in pattern.values(word).items())}".rstrip()
