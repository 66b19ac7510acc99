# SPDX-License-Identifier: Apache-2.0
"""Templates that words share, where one register is always zero: it takes no other's place, and no other takes its."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from tests.core.mixed_guest import MixedFrontEnd, X

from raddle.codegen.backend import BackEnd
from raddle.errors import PluginError, UsageError
from raddle.plugins import registry
from raddle.testing.guest_runs import CODE, HostRunner, PlainCpu, Start
from raddle.testing.target_contract import TargetContract
from raddle.translate.sharing import Models

ADD, SUB = 0x0000_000B, 0x0100_000B
NUMBERS = (0, 1, 2, 13)


class Contract(TargetContract):
    target = "mixed"
    fills = 20


@pytest.fixture
def host() -> Iterator[HostRunner]:
    try:
        back_end: type[BackEnd] = registry().load(registry().host_for())
    except (UsageError, PluginError) as error:
        pytest.skip(str(error))
    runner = HostRunner(MixedFrontEnd(), back_end)
    yield runner
    runner.close()


def start() -> Start:
    """Every register holds its number times 0x101, but x0, whose place holds what nobody may see."""
    plain = PlainCpu(MixedFrontEnd())
    for number in range(16):
        plain[f"x{number}"] = 0x101 * number
    plain["x0"] = 0xBAD
    return Start(bytes(plain.cpu.state), {"mode": 0}, bytes(3 << 12))


@pytest.mark.parametrize(("opcode", "sign"), [(ADD, 1), (SUB, -1)], ids=["ADD", "SUB"])
def test_every_choice_of_registers(host: HostRunner, opcode: int, sign: int) -> None:
    before = start()
    for a, b, d in product(NUMBERS, repeat=3):
        finish = host.run(before, 0, opcode | a << 20 | b << 16 | d << 8, 4)
        expected = [0x101 * number for number in range(16)]
        expected[d] = 0x101 * a + sign * 0x101 * b & 0xFFFF_FFFF
        expected[0] = 0xBAD
        state = PlainCpu(MixedFrontEnd())
        state.cpu.state[:] = finish.state
        assert [state[register.name] for register in X] == expected, (a, b, d)
        assert finish.pc == CODE + 0x1000


def test_words_with_the_zero_register_are_compiled_once_a_kind(host: HostRunner) -> None:
    before = start()
    for a, b, d in product(range(1, 16), repeat=3):
        if (a + b + d) % 7 == 0:
            host.run(before, 0, ADD | a << 20 | b << 16 | d << 8, 4)
    without = host.engine.translator.compiled
    for a, d in product(range(1, 16), repeat=2):
        host.run(before, 0, ADD | a << 20 | d << 8, 4)  # ADD d, a, x0
    # A kind for equal and one for different registers, in each kind of place.
    assert 0 < host.engine.translator.compiled - without <= 2 * 3
    assert without < 40


def test_a_model_keeps_the_zero_register() -> None:
    models = Models([None, 0, 0, 0, 1, 1])
    assert models.model((0, 3, 0), 0).numbers == (0, 1, 0)
    assert models.model((3, 2, 5), 0).numbers == (1, 2, 4)
    assert models.model((0, 3), 0).inside
    assert models.model((0, 4), 2).chosen == (4,)


def contract(front_end: MixedFrontEnd) -> None:
    for table in front_end.encodings():
        for pattern in table.decoder.patterns:
            Contract().test_translation(table, pattern, front_end)


def test_the_contract_accepts_what_is_declared() -> None:
    contract(MixedFrontEnd())


def test_the_contract_refuses_a_zero_register_that_is_not_declared() -> None:
    front_end = MixedFrontEnd()
    front_end.registers = tuple(X)
    message = r"does more with the numbers of its registers than .*; a register that is always zero must be None in"
    with pytest.raises(AssertionError, match=message):
        contract(front_end)
