# SPDX-License-Identifier: Apache-2.0
"""What the runtime makes of a family's other words must be what compiling them would give."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from raddle.runtime._native import lib

from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.codegen.template import Block
from raddle.ir.builder import Builder
from raddle.plugins import registry
from raddle.translate import translator as translator_module
from raddle.translate.decode import Decoder, Pattern
from raddle.translate.families import Families
from raddle.translate.sharing import Sharing
from raddle.translate.translator import Translator
from raddle_target_arm import decode
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import MODE_PRIVILEGED, MODE_T, MODE_VFP

pytestmark = pytest.mark.host

DECODERS = {"a32": (decode.a32(), 4, 0), "t16": (decode.t16(), 2, MODE_T), "t32": (decode.t32(), 4, MODE_T)}
CASES = [
    pytest.param(name, p, id=f"{name}-{p.index}-{p.name}")
    for name in DECODERS
    for p in DECODERS[name][0].patterns
    if p.name != "UNDEFINED"
]
WORDS = 30
PC = 0x1000


def words_of(decoder: Decoder, pattern: Pattern, rng: random.Random) -> Iterator[int]:
    """Words of the pattern; most have the condition AL, and bits in common with the one before."""
    word = pattern.value
    for _ in range(WORDS):
        free = ~pattern.mask & (1 << pattern.width) - 1
        word = word & ~free | rng.getrandbits(pattern.width) & free | pattern.value
        if "c" in pattern.letters and rng.randrange(4):
            word = word & ~pattern.letter_bits("c") | pattern.letter_bits("c", 14)
        if decoder.decode(word) is pattern:
            yield word


def make_translator(renames: bool = True, host: str = "") -> Translator:
    """One for this machine's host, or the one named, which compiles each choice of registers unless it ``renames``."""
    descriptor = registry().host(host) if host else registry().host_for()
    back_end: type[BackEnd] = registry().load(descriptor)
    backend = back_end(CodegenConfig(FRONT_END.state, FRONT_END.word, FRONT_END.page_bits, lambda callee: 1))
    if not renames:
        backend.renames = False
    return Translator(FRONT_END, backend, None)


@pytest.fixture(scope="module")
def translator() -> Translator:
    return make_translator()


@pytest.fixture(scope="module")
def plain() -> Translator:
    return make_translator(renames=False)


def alone(translator: Translator, pattern: Pattern, word: int, size: int, decode_state: int, mode: int) -> Block:
    """The block of the one instruction, compiled with its own registers."""
    instructions = FRONT_END.instruction_set(mode)
    sharing = instructions.sharing(pattern)
    values = pattern.hole_values(word)
    families = Families(sharing or Sharing(pattern), 0, translator.backend.literal_kinds)
    operands = {name: pattern.hole(name, kind) for name, kind in families.literal_kinds(word)}
    if sharing is not None and sharing.closed(word) is not None:
        operands |= sharing.open_literal(word)
        values += (pattern.letter(sharing.literal, word),)
    b = Builder(FRONT_END.word, FRONT_END.state.nzcv)
    following = instructions.translate(b, pattern, word, decode_state, mode, operands)
    template = translator.backend.template(b.code, b.locals, size, decode_state, following)
    return translator.joiner.join([translator.joiner.enter(None, 0, template, values)], PC)


@pytest.mark.parametrize(("table", "pattern"), CASES)
def test_literals_are_in_their_ranges(table: str, pattern: Pattern) -> None:
    for word in words_of(DECODERS[table][0], pattern, random.Random(f"ranges {table} {pattern.index}")):
        for name, value in zip(pattern.hole_names, pattern.hole_values(word), strict=True):
            signed = (value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
            low, high = pattern.literal_range(name)
            assert low <= signed <= high, f"{name} of {word:#x}"
            near = pattern.literals_near(name, word)
            assert near.low <= signed <= near.high, f"{name} of {word:#x}"
            assert signed % near.step == 0, f"{name} of {word:#x}"


def test_ranges_are_as_narrow_as_the_fields() -> None:
    """The control: distances of branches and offsets of loads, which hosts have short forms for."""
    patterns = {pattern.name: pattern for pattern in DECODERS["a32"][0].patterns}
    ranges = {pattern.literal_range(name) for pattern in patterns.values() for name in pattern.hole_names}
    assert {(-4095, 4095), (-(1 << 25), (1 << 25) - 4)} <= ranges


@pytest.mark.parametrize(("table", "pattern"), CASES)
def test_derived_code_is_compiled_code(table: str, pattern: Pattern, translator: Translator, plain: Translator) -> None:
    decoder, size, base_mode = DECODERS[table]
    rng = random.Random(f"families {table} {pattern.index}")
    for number, word in enumerate(words_of(decoder, pattern, rng)):
        mode = base_mode | rng.choice((0, MODE_PRIVILEGED, MODE_VFP, MODE_PRIVILEGED | MODE_VFP))
        decode_state = rng.choice((0, 0, 0x08, 0x1C, 0xE8)) if base_mode else 0
        expected = alone(translator, pattern, word, size, decode_state, mode)
        for one in (translator, plain)[: 1 + (number < WORDS // 4)]:
            block = one.instruction(mode, word, size, decode_state, PC)
            where = f"{word:#x} in {decode_state:#x}, {mode:#x}"
            assert (block.code, block.table) == (expected.code, expected.table), where


def test_most_words_are_derived(translator: Translator) -> None:
    """The control: with the words above, and a few of a kind, compiling is the exception."""
    before = translator.statistics()
    rng = random.Random(0)
    data = b"".join((0xE0800000 | rng.getrandbits(20) & 0xF700F | 0x1000).to_bytes(4, "little") for _ in range(1000))
    for start in range(0, len(data), 128):
        translator.block(0, data[start : start + 128], PC)
    after = translator.statistics()
    assert after["words"] - before["words"] > 500
    assert after["compiled"] - before["compiled"] < 50


class _Lib:
    """The runtime, where another thread runs as soon as it knows a new block mode."""

    def __init__(self, other: threading.Thread, met: threading.Event) -> None:
        self._other = other
        self._met = met

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)

    def raddle_memo_mode(self, memo: Any, mode: Any) -> int:
        result = int(lib.raddle_memo_mode(memo, mode))
        self._other.start()
        self._met.wait()
        return result


def test_a_word_of_a_mode_that_another_thread_is_about_to_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    translator, lock = make_translator(), threading.Lock()
    met = threading.Event()
    """The other thread waits for the lock, or is done."""
    of_mode = SimpleNamespace(kind=lib.RADDLE_WANT_MODE, mode=MODE_PRIVILEGED, generation=0)
    want = SimpleNamespace(
        kind=lib.RADDLE_WANT_WORD, mode=MODE_PRIVILEGED, word=0xE0810002, word_size=4, decode_state=0, generation=0
    )
    failures: list[BaseException] = []

    class Lock:
        def __enter__(self) -> None:
            if threading.current_thread() is other:
                met.set()
            lock.acquire()

        def __exit__(self, *error: object) -> None:
            lock.release()

    def supply() -> None:
        try:
            translator._supply(want)
        except BaseException as error:
            failures.append(error)
        finally:
            met.set()

    other = threading.Thread(target=supply)
    monkeypatch.setattr(translator_module, "lib", _Lib(other, met))
    monkeypatch.setattr(translator, "_lock", Lock())
    translator._supply(of_mode)
    other.join()
    assert failures == []
