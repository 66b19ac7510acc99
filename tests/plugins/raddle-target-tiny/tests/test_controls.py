# SPDX-License-Identifier: Apache-2.0
"""Controls of the target contract: each mistake that it is there to find, made on purpose, is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from raddle_target_tiny import frontend, insns
from raddle_target_tiny.frontend import FRONT_END
from test_contract import TestTiny as Contract

from raddle.ir.builder import Builder
from raddle.plugins import registry
from raddle.testing.guest_runs import HostRunner, Surroundings
from raddle.translate.decode import Fields, Pattern

TABLE = Contract.encodings[0]


def pattern(name: str) -> Pattern:
    return next(pattern for pattern in TABLE.decoder.patterns if pattern.name == name)


@pytest.fixture
def host() -> Iterator[HostRunner]:
    runner = HostRunner(FRONT_END, registry().load(registry().host_for()))
    yield runner
    runner.close()


def test_a_register_changed_before_a_fault(monkeypatch: pytest.MonkeyPatch, host: HostRunner) -> None:
    def LDW(b: Builder, f: Fields) -> None:
        insns.write(b, f.d, b.const(0))
        insns.LDW(b, f)

    monkeypatch.setitem(insns.SEMANTICS, "LDW", LDW)
    with pytest.raises(AssertionError, match="is changed by an access that faults"):
        Contract().test_execution(TABLE, pattern("LDW"), host)


def test_a_translation_that_depends_on_a_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    translate = frontend.TinyInstructions.translate

    def peeking(self: Any, b: Builder, pattern: Pattern | None, word: int, *rest: Any) -> int:
        insns.write(b, 0, b.const(word & 0xFF))
        return translate(self, b, pattern, word, *rest)

    monkeypatch.setattr(frontend.TinyInstructions, "translate", peeking)
    with pytest.raises(AssertionError, match="have one key"):
        Contract().test_translation(TABLE, pattern("ADDI"), FRONT_END)


def test_an_undefined_word_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    translate: Callable[..., int] = frontend.TinyInstructions.translate

    def lenient(self: Any, b: Builder, pattern: Pattern | None, *rest: Any) -> int:
        return 0 if pattern is None else translate(self, b, pattern, *rest)

    monkeypatch.setattr(frontend.TinyInstructions, "translate", lenient)
    with pytest.raises(AssertionError, match="calls nothing"):
        Contract().test_undefined_words_raise_the_exception(TABLE, Surroundings(FRONT_END))


def test_a_reset_that_forgets(monkeypatch: pytest.MonkeyPatch, host: HostRunner) -> None:
    def reset(cpu: Any, entry: int, argument: int) -> None:
        cpu["r1"], cpu["pc"], cpu["mode"] = argument, entry, 0

    monkeypatch.setattr(FRONT_END, "reset", reset)
    with pytest.raises(AssertionError, match="can be seen after it"):
        Contract().test_reset(host.engine, FRONT_END)


def test_a_host_that_differs(monkeypatch: pytest.MonkeyPatch, host: HostRunner) -> None:
    """What the host runs is another instruction than what the interpreter runs."""
    run = host.run
    monkeypatch.setattr(host, "run", lambda start, mode, word, size: run(start, mode, word ^ 1 << 24, size))
    with pytest.raises(AssertionError, match="is 0x"):
        Contract().test_execution(TABLE, pattern("ADD"), host)
