# SPDX-License-Identifier: Apache-2.0
"""Calls of native helpers, and the ends of routines, are checked whenever IR is compiled; so is what tlb_fill does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.core import mixed_guest
from tests.core.mixed_guest import Instructions, MixedFrontEnd

from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd
from raddle.errors import MachineError, PluginError, UsageError
from raddle.ir.builder import Builder, native, python, routine
from raddle.ir.header import COMMON
from raddle.ir.invalid import VerifyError
from raddle.ir.types import MemOp, StateLayout, Type
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.runtime.calls import verify_calls
from raddle.runtime.helpers import HELPERS
from raddle.threads.engine import Engine
from raddle.translate.decode import Fields

PAGE = 0x1000
ADD_3_1_2, HALT = 0x0012_030B, 0x0002

Emit = Callable[[Builder], object]


def set_pc(b: Builder) -> None:
    b.set(COMMON["pc"], b.pc(4) if b.word is Type.I64 else b.zext(b.pc(4), Type.I64))


def wfi(b: Builder) -> None:
    b.call(native("wfi", may_exit=True))
    b.exit_main()


def set_in_one_arm(b: Builder) -> None:
    with b.if_(b.eq(b.const(1), 1)):
        set_pc(b)
    wfi(b)


def set_in_both_arms(b: Builder) -> None:
    other, end = b.label(), b.label()
    first = b.label()
    b.brcond(b.eq(b.const(1), 1), first, other)
    b.bind(first)
    set_pc(b)
    b.br(end)
    b.bind(other)
    set_pc(b)
    b.bind(end)
    wfi(b)


def set_before_a_loop(b: Builder) -> None:
    set_pc(b)
    again, end = b.label(), b.label()
    b.bind(again)
    b.call(native("yield_", may_exit=True))
    b.brcond(b.eq(b.const(1), 1), again, end)
    b.bind(end)


def left_early(b: Builder) -> None:
    with b.if_(b.eq(b.const(1), 1)):
        b.goto(8)
    wfi(b)


@pytest.mark.parametrize(
    ("emit", "message"),
    [
        (lambda b: b.call(native("tlb_set"), 0, 7), r"tlb_set takes 3 arguments \(address, paddr, prot .*\), not 2"),
        (lambda b: b.call(native("tlb_flush"), 1), "tlb_flush takes no arguments, not 1"),
        (lambda b: b.call(native("clock_ns"), 1, 2), "clock_ns takes no arguments, not 2"),
        (lambda b: b.call(native("wfi")), r'call native\("wfi", may_exit=True\)'),
        (wfi, r'the field pc, which is not set on every path to here: b.set\(COMMON\["pc"\]'),
        (set_in_one_arm, "not set on every path to here"),
        (left_early, "not set on every path to here"),
        (lambda b: b.load(0, MemOp(3), 0), "3 bytes cannot be accessed at once"),
        (lambda b: b.exit_main(), r"instruction 0 \(exit_main\): .* not set on every path to here"),
    ],
)
def test_wrong_calls_are_refused(emit: Emit, message: str) -> None:
    b = Builder()
    emit(b)
    with pytest.raises(VerifyError, match=message):
        verify_calls(b, instruction=True)


@pytest.mark.parametrize(
    "emit",
    [
        lambda b: b.call(native("tlb_set"), 0, 0, 7),
        lambda b: (set_pc(b), wfi(b)),
        set_in_both_arms,
        set_before_a_loop,
        lambda b: (b.call(routine("enter_exception")), b.exit_main()),
        lambda b: (b.call(python("stop")), b.exit_main()),
        lambda b: b.call(native("fp_f16_to_f32"), 1, 2),
    ],
)
def test_right_calls_are_not(emit: Emit) -> None:
    b = Builder()
    emit(b)
    verify_calls(b, instruction=True)


def test_a_routine_may_leave_the_pc_to_its_caller() -> None:
    b = Builder()
    wfi(b)
    verify_calls(b, instruction=False)


def test_every_helper_says_what_it_takes() -> None:
    for helper in HELPERS:
        assert helper.arity is None if helper.name.startswith("fp_") else 0 <= helper.arity <= 4, helper.name


# --- in a machine -------------------------------------------------------------------------------------------------

MakeEngine = Callable[[MixedFrontEnd], Engine]


@pytest.fixture
def make() -> Iterator[MakeEngine]:
    try:
        back_end: type[BackEnd] = registry().load(registry().host_for())
    except (UsageError, PluginError) as error:
        pytest.skip(str(error))
    engines: list[Engine] = []

    def make_engine(front_end: MixedFrontEnd) -> Engine:
        memory = AddressSpace()
        memory.add_ram("RAM", 0, 4 * PAGE)
        instructions = Instructions()
        memory.write(PAGE, instructions.encoded(ADD_3_1_2, 4) + instructions.encoded(HALT, 2))
        engine = Engine(front_end, back_end, Decision(Mode.MULTI, ("a test",)), memory, 1)
        engines.append(engine)
        engine.cpus[0].power_on(PAGE, 7)
        return engine

    yield make_engine
    for engine in engines:
        engine.stop()
        engine.close()
        engine.memory.close()


def front_end_with(tlb_fill: Callable[[Builder], None]) -> MixedFrontEnd:
    front_end = MixedFrontEnd()
    front_end.routines = {**front_end.routines, "tlb_fill": tlb_fill}
    return front_end


def test_an_instruction_that_calls_wrongly_ends_the_machine(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(b: Builder, f: Fields) -> None:
        b.call(native("wfi"))

    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", add)
    engine = make(MixedFrontEnd())
    engine.start()
    with pytest.raises(MachineError, match=r"the IR of ADD .* is invalid: .*may_exit=True") as found:
        engine.join(60)
    assert any("call" in note for note in found.value.__notes__), "the notes have the IR"


def no_ret(b: Builder) -> None:
    b.set(COMMON["result"], b.get(COMMON["arg0"]))


def two_arguments(b: Builder) -> None:
    b.call(native("tlb_set"), b.get(COMMON["arg0"]), b.const(7, Type.I64))
    b.ret(b.const(0, Type.I64))


@pytest.mark.parametrize(
    ("tlb_fill", "message"),
    [(no_ret, "runs off its end without ret"), (two_arguments, "tlb_set takes 3 arguments")],
)
def test_a_wrong_routine_is_refused(make: MakeEngine, tlb_fill: Callable[[Builder], None], message: str) -> None:
    with pytest.raises(MachineError, match=f"the IR of routine 'tlb_fill' is invalid: .*{message}"):
        make(front_end_with(tlb_fill))


def sets_nothing(b: Builder) -> None:
    b.ret(b.const(0, Type.I64))


def sets_another_page(b: Builder) -> None:
    address = b.add(b.get(COMMON["arg0"]), PAGE)
    b.call(native("tlb_set"), address, address, b.const(7, Type.I64))
    b.ret(b.const(0, Type.I64))


def sets_no_right_to_execute(b: Builder) -> None:
    address = b.get(COMMON["arg0"])
    b.call(native("tlb_set"), address, address, b.const(3, Type.I64))
    b.ret(b.const(0, Type.I64))


@pytest.mark.parametrize("tlb_fill", [sets_nothing, sets_another_page, sets_no_right_to_execute])
def test_a_tlb_fill_that_fills_nothing_is_named(make: MakeEngine, tlb_fill: Callable[[Builder], None]) -> None:
    engine = make(front_end_with(tlb_fill))
    engine.start()
    message = (
        r"tlb_fill of target .* returned 0 for 0x1000 \(an instruction fetch, MMU index 0\) and did not call tlb_set"
    )
    with pytest.raises(MachineError, match=message):
        engine.join(60)


def test_a_translation_without_a_decode_state(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    translate = Instructions.translate

    def returns_nothing(*given: object, **named: object) -> None:
        translate(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Instructions, "translate", returns_nothing)
    engine = make(MixedFrontEnd())
    engine.start()
    with pytest.raises(MachineError, match=r"translate\(\) returned None for ADD .* not the decode state of the next"):
        engine.join(60)


def test_an_element_that_there_is_not() -> None:
    registers = StateLayout().array("r", Type.I32, 16)
    with pytest.raises(IndexError, match="r has 16 elements, and none has the number 16"):
        _ = registers[16]


def test_a_field_that_there_is_not(make: MakeEngine) -> None:
    with pytest.raises(KeyError, match="r99: neither a field of the guest's state nor a common one"):
        make(MixedFrontEnd()).cpus[0]["r99"] = 1
