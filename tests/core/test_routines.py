# SPDX-License-Identifier: Apache-2.0
"""Compiled routines are kept for later machines, if nothing that their code depends on differs, and not without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")

from raddle import Machine, MachineError
from raddle.codegen.allocation import Allocation
from raddle.codegen.backend import CodegenConfig
from raddle.ir.builder import Builder, native, routine
from raddle.ir.types import MemOp, StateLayout, Type
from raddle.threads import routines
from raddle.threads.routines import compiled, same_code

STATE = StateLayout()
FIELD, OTHER_FIELD = STATE.field("one", Type.I32), STATE.field("other", Type.I32)
CALLEE = native("icache_sync")
CONFIG = CodegenConfig(STATE, Type.I32, 12, lambda callee: 0)


class BackEnd:
    """Counts what it compiles."""

    features: Any = ("one",)

    def __init__(self, config: CodegenConfig = CONFIG) -> None:
        self.config = config
        self.compiled = 0

    def routine(self, code: object, locals: object) -> bytes:
        self.compiled += 1
        return self.compiled.to_bytes(2)


class OtherBackEnd(BackEnd):
    pass


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routines, "_kept", {})


def function(
    literal: int = 1,
    callee: Any = CALLEE,
    field: Any = FIELD,
    size: int = 4,
    local: Type = Type.I32,
    second: bool = False,
    back: bool = False,
) -> Builder:
    """A routine of every kind of operand; `second`: one operation has another operand, `back`: a branch goes back."""
    b = Builder(Type.I32)
    variable = b.local(local)
    value = b.add(b.get(field), literal)
    other = b.add(value, value)
    start, middle, end = b.label(), b.label(), b.label()
    b.bind(start)
    b.brcond(b.eq(other if second else value, 0), start if back else middle, end)
    b.bind(middle)
    b.assign(variable, 3)
    b.store(value, b.load(value, MemOp(size), 0), MemOp(4), 0)
    b.bind(end)
    b.call(callee)
    b.ret(b.zext(other, Type.I64))
    return b


def compile_with(backend: Any, b: Builder, numbers: object = ()) -> bytes:
    return compiled(b, "one", backend, same_code(backend, numbers))


def test_what_is_the_same_is_compiled_once() -> None:
    first, second = BackEnd(), BackEnd(CONFIG._replace(callee_number=lambda callee: 1))
    assert compile_with(first, function()) == compile_with(second, function())
    assert (first.compiled, second.compiled) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"literal": 2}, {"callee": native("icache_sync", may_exit=True)}, {"callee": routine("icache_sync")},
        {"field": OTHER_FIELD}, {"size": 2}, {"local": Type.I64}, {"second": True}, {"back": True},
    ],
    ids=str,
)  # fmt: skip
def test_another_function_is_compiled(change: dict[str, Any]) -> None:
    backend = BackEnd()
    compile_with(backend, function())
    compile_with(backend, function(**change))
    assert backend.compiled == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: OtherBackEnd(),
        lambda: BackEnd(CONFIG._replace(fences=1)),
        lambda: BackEnd(CONFIG._replace(allocation=Allocation(1))),
        lambda: BackEnd(CONFIG._replace(state=StateLayout())),
    ],
    ids=["class", "fences", "allocation", "state"],
)
def test_another_back_end_compiles(other: Callable[[], BackEnd]) -> None:
    compile_with(BackEnd(), function())
    second = other()
    compile_with(second, function())
    assert second.compiled == 1


def test_other_features_and_other_numbers_are_other_code() -> None:
    backend = BackEnd()
    compile_with(backend, function(), numbers=1)
    compile_with(backend, function(), numbers=2)
    backend.features = ("other",)
    compile_with(backend, function(), numbers=2)
    assert backend.compiled == 3


def test_nothing_is_kept_for_a_back_end_that_does_not_say_its_features() -> None:
    backend = BackEnd()
    backend.features = None
    compile_with(backend, function())
    compile_with(backend, function())
    assert backend.compiled == 2
    assert routines._kept == {}


def test_so_many_are_kept_and_no_more() -> None:
    backend = BackEnd()
    for literal in range(routines.MOST + 10):
        compile_with(backend, function(literal))
        assert 0 < sum(map(len, routines._kept.values())) <= routines.MOST


def test_a_routine_that_is_wrong_is_refused_each_time() -> None:
    backend, wrong = BackEnd(), Builder(Type.I32)
    wrong.set(FIELD, 1)
    for _ in range(2):
        with pytest.raises(MachineError, match="routine 'one'"):
            compile_with(backend, wrong)
    assert backend.compiled == 0


@pytest.mark.host
def test_a_second_machine_compiles_none_of_its_guests_routines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of devices may have the address of the machine's own memory in them."""
    kernel = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"
    with Machine(kernel=kernel) as machine:
        backend, guests = type(machine.engine.backend), machine.frontend.routines
        devices = machine.engine.callees._routines.keys() - guests.keys()
    made = backend.routine
    count: list[int] = []
    monkeypatch.setattr(backend, "routine", lambda *given: count.append(1) or made(*given))
    with Machine(kernel=kernel):
        pass
    assert len(count) <= len(devices)
    with Machine(kernel=kernel, accelerator="tcg,thread=single"):
        pass
    assert len(count) >= len(guests), "the control: other code is compiled"
