# SPDX-License-Identifier: Apache-2.0
"""The instruction set: decoding, what a CPU model lacks, and the semantics functions by the names of the decode tables.

What these functions get is described in ``common``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raddle.ir.builder import Builder
from raddle.ir.types import Hole
from raddle.translate.decode import Pattern
from raddle.translate.frontend import InstructionSet
from raddle.translate.semantics import Semantics, semantics
from raddle.translate.sharing import Sharing
from raddle_target_alpha import decode, pal
from raddle_target_alpha.cpus import CpuModel
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES, floating_disabled, opcdec
from raddle_target_alpha.insns.sharing import make_sharing
from raddle_target_alpha.state import MODE_FEN, is_user, mmu_index

INTEGER: Final = ("branch", "integer", "memory", "miscellaneous", "parallel")
FLOATING: Final = ("float_arithmetic", "float_moves", "float_vax")
"""The modules of semantics functions: each of their functions whose name starts with a capital letter is one."""


PAL: Final = {function.__name__: function for function in pal.TABLE.values()}
PRIVILEGED: Final = frozenset(
    function.__name__ for number, function in pal.TABLE.items() if number < pal.PRIVILEGED_END
)
FLOATS: Final = semantics(__name__, FLOATING)
SEMANTICS: Final[dict[str, Semantics]] = semantics(__name__, INTEGER) | FLOATS | PAL
"""Every semantics function by name."""


class AlphaInstructions(InstructionSet):
    """Words of four bytes. Decode states are always 0."""

    unit = INSTRUCTION_BYTES

    def __init__(self, model: CpuModel) -> None:
        self._decoder = decode.alpha()
        self._model = model

    def decode(self, word: int, size: int) -> Pattern | None:
        pattern = self._decoder.decode(word)
        if pattern is None or pattern.constants.get("feature", 0) & ~self._model.features:
            return None
        return pattern

    def sharing(self, pattern: Pattern) -> Sharing:
        return make_sharing(pattern, pattern.name in FLOATS)

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
