# SPDX-License-Identifier: Apache-2.0
"""AArch64 code of the ARM guest's instructions: all of them compile, and renamed code is what compiling gives."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from tests.targets.arm.test_families import CASES, DECODERS, PC, alone, make_translator, words_of

from raddle.translate.decode import Pattern
from raddle.translate.translator import Translator
from raddle_target_arm.state import MODE_PRIVILEGED, MODE_VFP

WORDS = 3


@pytest.fixture(scope="module")
def translator() -> Translator:
    return make_translator(host="aarch64")


@pytest.mark.parametrize(("table", "pattern"), CASES)
def test_derived_code_is_compiled_code(table: str, pattern: Pattern, translator: Translator) -> None:
    decoder, size, base_mode = DECODERS[table]
    rng = random.Random(f"families {table} {pattern.index}")
    for word in islice(words_of(decoder, pattern, rng), WORDS):
        mode = base_mode | rng.choice((0, MODE_PRIVILEGED, MODE_VFP, MODE_PRIVILEGED | MODE_VFP))
        decode_state = rng.choice((0, 0, 0x08, 0x1C, 0xE8)) if base_mode else 0
        expected = alone(translator, pattern, word, size, decode_state, mode)
        block = translator.instruction(mode, word, size, decode_state, PC)
        where = f"{word:#x} in {decode_state:#x}, {mode:#x}"
        assert (block.code, block.table) == (expected.code, expected.table), where
