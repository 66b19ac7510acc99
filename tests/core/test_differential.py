# SPDX-License-Identifier: Apache-2.0
"""`raddle.testing.differential`: cases, outcomes, vectors in files. The other references are tested with ARM."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.core import mixed_guest
from tests.core.mixed_guest import Instructions, MixedFrontEnd

from raddle.errors import UsageError
from raddle.ir.builder import Builder
from raddle.ir.types import FloatRules, NanChoice, Type
from raddle.testing.differential import Case, Interpreted, Outcome, Recorded, check, differences, record, words
from raddle.testing.gdb import GdbReference
from raddle.testing.unicorn_reference import UnicornReference
from raddle.translate.decode import Fields, Table

PC, DATA = 0x1000, 0x2000
ADD_3_1_2, ADDI_3_MINUS_1, LW_4_1, UNDEFINED, HALT = 0x0012_030B, 0xF305, 0x0041_040F, 0xFFFF_FFEF, 0x0002
REGISTERS = tuple(f"x{number}" for number in range(1, 16))


def code(*words: tuple[int, int]) -> bytes:
    return b"".join(Instructions().encoded(word, size) for word, size in words)


def interpreted() -> Interpreted:
    return Interpreted(MixedFrontEnd(), REGISTERS, events={"wfi": "waits"})


SUM = Case(code((ADD_3_1_2, 4), (ADDI_3_MINUS_1, 2)), PC, {"x1": 3, "x2": 4}, steps=2)
LOAD = Case(code((LW_4_1, 4)), PC, {"x1": DATA}, {DATA: bytes(4) + b"\x78\x56\x34\x12"})


def test_several_instructions_run_one_after_the_other() -> None:
    outcome = interpreted().run(SUM)
    assert (outcome.event, outcome.registers["x3"], outcome.registers["pc"]) == ("", 6, PC + 6)


def test_memory_is_what_the_case_has() -> None:
    assert interpreted().run(LOAD).registers["x4"] == 0x1234_5678
    outcome = interpreted().run(replace(LOAD, registers={"x1": DATA + 4}))
    assert (outcome.event, outcome.registers["pc"]) == ("fault", PC)
    assert outcome.memory == LOAD.memory


@pytest.mark.parametrize(("choice", "result"), [(NanChoice.FIRST, 0x7FC0_0001), (NanChoice.LAST, 0x7FC0_0002)])
def test_floats_follow_the_rules_of_the_guest(choice: NanChoice, result: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(b: Builder, f: Fields) -> None:
        one, other = (b.bitcast(mixed_guest.read(b, number), Type.F32) for number in (f.a, f.b))
        mixed_guest.write(b, f.d, b.bitcast(b.fadd(one, other), Type.I32))

    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", add)
    front_end = MixedFrontEnd()
    front_end.floats = FloatRules(nan=choice)
    case = Case(code((ADD_3_1_2, 4)), PC, {"x1": 0x7FC0_0001, "x2": 0x7FC0_0002})
    assert Interpreted(front_end, REGISTERS).run(case).registers["x3"] == result


def test_python_helpers_are_events() -> None:
    assert interpreted().run(Case(code((HALT, 2)), PC, steps=9)).event == "halt"
    assert interpreted().run(Case(code((UNDEFINED, 4)), PC)).event == "undefined"


def test_a_case_with_too_many_steps() -> None:
    with pytest.raises(UsageError, match="has no code at 0x1006, where it continues"):
        interpreted().run(replace(SUM, steps=3))


def test_differences_are_told() -> None:
    one = Outcome("", {"a": 0xF0, "b": 1, "only": 3}, {8: b"\1\2"})
    other = Outcome("", {"a": 0x0F, "b": 2}, {8: b"\1\3"})
    assert differences(one, one) == []
    assert differences(one, other) == ["a is 0xf0, not 0xf", "b is 0x1, not 0x2", "memory at 0x9 is 0x02, not 0x03"]
    assert differences(one, other, {"a": 0xFF, "b": 2}) == ["b is 0x1, not 0x2", "memory at 0x9 is 0x02, not 0x03"]
    assert differences(replace(one, event="fault"), other) == ["event 'fault', not ''"]


def test_what_was_recorded_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vectors.json"
    record(interpreted(), [SUM, LOAD], path)
    vectors = Recorded(path)
    assert vectors.cases == (SUM, LOAD)
    assert check(interpreted(), vectors, vectors.cases) == 2

    def wrong(b: Builder, f: Fields) -> None:
        mixed_guest.SUB(b, f)

    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", wrong)
    with pytest.raises(AssertionError, match=r"0b 03 12 00 05 f3 at 0x1000, 2 steps, from x1=0x3 x2=0x4\nx3 is 0x"):
        check(interpreted(), vectors, vectors.cases)


def test_vectors_may_be_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps([{"code": "05 f3", "pc": "0x1000", "registers_after": {"x3": "0xffffffff"}}]))
    vectors = Recorded(path)
    assert check(interpreted(), vectors, vectors.cases) == 1
    path.write_text(path.read_text().replace("ffffffff", "fffffffe"))
    with pytest.raises(AssertionError, match="x3 is 0xffffffff, not 0xfffffffe"):
        check(interpreted(), Recorded(path), vectors.cases)


def test_a_case_that_was_not_recorded(tmp_path: Path) -> None:
    record(interpreted(), [SUM], tmp_path / "vectors.json")
    with pytest.raises(UsageError, match="has no outcome of 0f 04 41 00 in this state; record it again"):
        Recorded(tmp_path / "vectors.json").run(LOAD)


@pytest.mark.parametrize("text", ["", "{}x", '[{"code": "00"}]', '[{"code": "zz", "pc": 0}]', "[1]"])
def test_a_file_that_has_no_vectors(text: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"cannot read the vectors in {path}"):
        Recorded(path)
    with pytest.raises(UsageError, match="cannot read the vectors"):
        Recorded(tmp_path / "missing")


def test_a_reference_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(UsageError, match=r"Unicorn is not installed .*: pip install unicorn"):
        UnicornReference("arm", "UC_MODE_ARM", ["r0"])
    with pytest.raises(UsageError, match="needs qemu-system-nothing, which is not installed"):
        GdbReference(["qemu-system-nothing"], {"pc": "pc"})


def test_an_emulator_that_refuses_its_options(tmp_path: Path) -> None:
    program = tmp_path / "emulator"
    program.write_text("#!/bin/sh\necho 'no machine of this name' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=r"emulator -M 'a b' ends before .*: no machine of this name$"):
        GdbReference([str(program), "-M", "a b"], {"pc": "pc"})


@pytest.mark.peer("unicorn")
def test_a_register_that_unicorn_does_not_know() -> None:
    with pytest.raises(UsageError, match=r"Unicorn does not know one of these names: .*UC_ARM_REG_R99"):
        UnicornReference("arm", "UC_MODE_ARM", ["r99"])


def test_random_words_are_of_their_lines() -> None:
    """Each line of a table has its share, and exceptions to a line and undefined words are nobody's."""
    lines = ("A   0000 aaaa bbbb cccc   a!=3", "    B   0000 1111 bbbb cccc", "UNDEFINED 0001 ---- ---- ----")
    text = "\n".join(lines)
    decoder = Table.parse(text, "test.dec", 16, {}).compile()
    found = list(words(decoder, Random("words"), 20))
    assert Counter(pattern.name for pattern, _ in found) == {"A": 20, "B": 20}
    assert all(decoder.decode(word) is pattern for pattern, word in found)
    assert len({word for _, word in found}) > 20
