# SPDX-License-Identifier: Apache-2.0
"""Instructions that share templates must be the same but for their registers: the promise of ``insns/sharing.py``."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from raddle.ir.builder import Builder
from raddle.ir.types import Field
from raddle.testing.guest_runs import outline
from raddle.translate.decode import Decoder, Pattern
from raddle.translate.sharing import Models
from raddle_target_arm import decode
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import (
    MODE_ALIGN,
    MODE_E,
    MODE_PRIVILEGED,
    MODE_SWP,
    MODE_T,
    MODE_VECTOR,
    MODE_VFP,
    REGISTERS,
)

DECODERS = {"a32": (decode.a32(), 4, 0), "t16": (decode.t16(), 2, MODE_T), "t32": (decode.t32(), 4, MODE_T)}
PLACES = [0] * 8 + [1] * 5 + [0] * 2
"""As a host with ten registers for them keeps them."""
WORDS = 40


def _shared(name: str) -> Iterator[Pattern]:
    decoder, _, mode = DECODERS[name]
    instruction_set = FRONT_END.instruction_set(mode)
    return (p for p in decoder.patterns if p.name != "UNDEFINED" and instruction_set.sharing(p) is not None)


CASES = [pytest.param(name, p, id=f"{name}-{p.index}-{p.name}") for name in DECODERS for p in _shared(name)]


def _words(decoder: Decoder, pattern: Pattern, rng: random.Random) -> Iterator[int]:
    for _ in range(WORDS):
        word = pattern.value | rng.getrandbits(pattern.width) & ~pattern.mask
        if decoder.decode(word) is pattern:
            yield word


@pytest.mark.parametrize(("table", "pattern"), CASES)
def test_differs_in_registers_only(table: str, pattern: Pattern) -> None:
    decoder, _, base_mode = DECODERS[table]
    rng = random.Random(pattern.index)
    instruction_set = FRONT_END.instruction_set(base_mode)
    sharing = instruction_set.sharing(pattern)
    assert sharing is not None
    models = Models(PLACES)
    for word in _words(decoder, pattern, rng):
        bits = (MODE_PRIVILEGED, MODE_E, MODE_ALIGN, MODE_VFP, MODE_VECTOR, MODE_SWP)
        mode = base_mode | sum(rng.choice((0, bit)) for bit in bits)
        decode_state = rng.choice((0, 0, 0x08, 0x1C, 0xE8)) if base_mode else 0
        numbers = sharing.numbers(word)
        model = models.model(numbers, len(numbers) - len(sharing.names))
        own = Builder(FRONT_END.word, FRONT_END.state.nzcv)
        following = instruction_set.translate(own, pattern, word, decode_state, mode)
        shared = Builder(FRONT_END.word, FRONT_END.state.nzcv)
        # Any word with the same kept bits will do for the model.
        free = rng.getrandbits(pattern.width) & ~(sharing.key_mask | pattern.mask)
        alike = word & sharing.key_mask | free | pattern.value
        registers = sharing.operands(model.numbers)
        common = model.inside and sharing.mode_class >= 0 and not decode_state
        shared_mode = mode & FRONT_END.mode_masks[sharing.mode_class] if common else mode
        assert following == instruction_set.translate(shared, pattern, alike, decode_state, shared_mode, registers)
        to_own = {REGISTERS[m]: REGISTERS[n] for m, n in zip(model.chosen, model.renamed, strict=True)}
        used = {ins.aux for ins in shared.code if isinstance(ins.aux, Field)}
        if any(REGISTERS[n] in used and REGISTERS[n] not in to_own for n in model.renamed):
            continue
        assert outline(own.code, {}) == outline(shared.code, to_own), f"{word:#x} {numbers} {model.numbers}"
