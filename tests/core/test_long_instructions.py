# SPDX-License-Identifier: Apache-2.0
"""Instructions of one or two 16-bit units, of which the low half comes first. ARM's own tests have the other order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.core.mixed_guest import WIDE, Instructions, MixedFrontEnd

from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd
from raddle.debug.instruments import Instruments
from raddle.errors import PluginError, UsageError
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.testing.target_contract import TargetContract
from raddle.threads.engine import Engine
from raddle.translate.frontend import Halves, Wide
from raddle.translate.translator import BlockTrace

PAGE = 0x1000
MV_3_1, ADDI_2_MINUS_1, HALT = 0x1301, 0xF205, 0x0002
LUI_1, ADD_3_1_2, WITHOUT_UPPER_HALF = 0x12345_103, 0x0012_030B, 0x0000_040B
"""LUI x1, 0x12345; ADD x3, x1, x2; ADD x4, x0, x0, whose upper half is 0."""


@pytest.fixture
def back_end() -> type[BackEnd]:
    try:
        found: type[BackEnd] = registry().load(registry().host_for())
    except (UsageError, PluginError) as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def engine(back_end: type[BackEnd]) -> Iterator[Engine]:
    memory = AddressSpace()
    memory.add_ram("RAM", 0, 4 * PAGE)
    engine = Engine(MixedFrontEnd(), back_end, Decision(Mode.MULTI, ("a test",)), memory, 1)
    yield engine
    engine.stop()
    engine.close()
    memory.close()


def run(engine: Engine, entry: int, *code: tuple[int, int]) -> None:
    """Run a program of words with their sizes, and HALT behind it."""
    instructions = Instructions()
    image = b"".join(instructions.encoded(word, size) for word, size in (*code, (HALT, 2)))
    engine.memory.write(entry, image)
    engine.cpus[0].power_on(entry, 0)
    engine.start()
    assert engine.join(60)


def test_the_low_half_comes_first_in_memory() -> None:
    instructions = Instructions()
    assert instructions.encoded(LUI_1, 4) == LUI_1.to_bytes(4, "little")
    assert instructions.encoded(MV_3_1, 2) == MV_3_1.to_bytes(2, "little")
    data = instructions.encoded(MV_3_1, 2) + instructions.encoded(LUI_1, 4)
    assert instructions.word_at(data) == (MV_3_1, 2)
    assert instructions.word_at(data, 2) == (LUI_1, 4)
    assert instructions.word_at(data[:4], 2) is None
    assert instructions.word_at(data, 6) is None


@pytest.mark.parametrize("entry", [PAGE, 2 * PAGE - 2, 2 * PAGE - 4], ids=["within", "across", "between"])
def test_a_field_in_both_halves_is_decoded_as_it_is_drawn(engine: Engine, entry: int) -> None:
    """Within a page, across the end of one, and in the page after."""
    code = ((LUI_1, 4), (ADDI_2_MINUS_1, 2), (ADD_3_1_2, 4), (WITHOUT_UPPER_HALF, 4))
    run(engine, entry, *code)
    cpu = engine.cpus[0]
    assert [cpu[f"x{n}"] for n in range(5)] == [0, 0x1234_5000, 0xFFFF_FFFF, 0x1234_4FFF, 0]


def test_a_listener_sees_the_words_as_they_are_drawn(engine: Engine) -> None:
    traces: list[BlockTrace] = []
    Instruments(engine).hooks.add_translation(traces.append)
    code = [(LUI_1, 4), (MV_3_1, 2), (ADD_3_1_2, 4)]
    run(engine, PAGE, *code)
    assert traces[0].words == [*code, (HALT, 2)]


def test_a_block_from_bytes_has_the_same_words(back_end: type[BackEnd], engine: Engine) -> None:
    instructions = Instructions()
    data = instructions.encoded(LUI_1, 4) + instructions.encoded(HALT, 2)
    assert list(engine.translator.block(0, data, PAGE).table[4::8]) == [4, 2]


class Contract(TargetContract):
    target = "mixed"


def check(front_end: MixedFrontEnd) -> None:
    for table in front_end.encodings():
        Contract().test_the_first_unit_tells_the_length(table, front_end)


def test_the_contract_accepts_the_guest() -> None:
    check(MixedFrontEnd())


@pytest.mark.parametrize(
    "wide",
    [Wide(WIDE.shift, WIDE.firsts, Halves.HIGH_FIRST), Wide(0, 1 << 3, Halves.LOW_FIRST), None],
    ids=["halves", "units", "none"],
)
def test_the_contract_refuses_pictures_of_other_lengths(wide: Wide | None) -> None:
    front_end = MixedFrontEnd()
    front_end.instructions.wide = wide
    with pytest.raises(AssertionError, match=r"32 bits:\d+: words of \w+ have 4 bytes, but begin with"):
        check(front_end)


def test_the_contract_refuses_short_pictures_that_begin_long_instructions() -> None:
    front_end = MixedFrontEnd()
    front_end.instructions.wide = Wide(0, WIDE.firsts | 1 << 1, Halves.LOW_FIRST)
    short, _ = front_end.encodings()
    with pytest.raises(AssertionError, match=r"16 bits:2: words of MV have 2 bytes.*an instruction of 4"):
        Contract().test_the_first_unit_tells_the_length(short, front_end)


@pytest.mark.parametrize(("shift", "firsts"), [(-1, 2), (16, 2), (0, 0), (0, 1 << 32)])
def test_a_set_of_first_units_that_cannot_be(shift: int, firsts: int) -> None:
    with pytest.raises(ValueError, match="the shift is 0 to 15"):
        Wide(shift, firsts, Halves.LOW_FIRST)


def test_words_of_two_lengths_are_never_the_same() -> None:
    """With the high half first, the units 0 and h would be the word h."""
    with pytest.raises(ValueError, match="bits 4:0 are 0"):
        Wide(0, 1, Halves.HIGH_FIRST)
    assert Wide(0, 1, Halves.LOW_FIRST).word(0, 1) == 1 << 16
