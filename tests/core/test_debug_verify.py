# SPDX-License-Identifier: Apache-2.0
"""`-d verify`: IR that breaks a rule stops the machine, instead of being compiled to something else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from tests.core import mixed_guest
from tests.core.mixed_guest import Instructions, MixedFrontEnd, read, write

from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd
from raddle.debug.instruments import Instruments
from raddle.errors import MachineError, PluginError, UsageError
from raddle.ir.builder import Builder
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.testing.target_contract import TargetContract
from raddle.threads.engine import Engine
from raddle.translate.decode import Fields

PAGE = 0x1000
ADD_3_1_2, HALT = 0x0012_030B, 0x0002

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


def outside_its_branch(b: Builder, f: Fields) -> None:
    """ADD whose sum is defined only if ra is not 0."""
    with b.if_(b.ne(read(b, f.a), 0)):
        value = b.add(read(b, f.a), read(b, f.b))
    write(b, f.d, value)


WRONG = (
    r"the IR of ADD \(32 bits:3\), word 0x12030b in mode 0x0 and decode state 0x0, is invalid: .*does not dominate it"
)


def test_a_value_outside_its_branch_stops_the_machine(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", outside_its_branch)
    engine = make(MixedFrontEnd())
    Instruments(engine).log(["verify"], io.StringIO())
    engine.start()
    with pytest.raises(MachineError, match=WRONG) as found:
        engine.join(60)
    assert any("brcond" in note for note in found.value.__notes__), "the notes have the IR"


def test_without_it_nothing_is_noticed(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", outside_its_branch)
    engine = make(MixedFrontEnd())
    engine.start()
    assert engine.join(60)


def test_a_guest_in_order_runs(make: MakeEngine) -> None:
    engine = make(MixedFrontEnd())
    Instruments(engine).log(["verify"], io.StringIO())
    engine.start()
    assert engine.join(60)
    assert engine.cpus[0]["x3"] == 7


def test_routines_are_verified_at_once(make: MakeEngine) -> None:
    front_end = MixedFrontEnd()
    engine = make(front_end)
    # What it has compiled was in order; now its front end would make another.
    engine.callees._routines["tlb_fill"] = lambda b: b.exit_main()
    with pytest.raises(MachineError, match=r"the IR of routine 'tlb_fill' is invalid: .* cannot use exit_main"):
        Instruments(engine).log(["verify"], io.StringIO())


class Contract(TargetContract):
    target = "mixed"


def test_the_contract_verifies_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    front_end = MixedFrontEnd()
    table = front_end.encodings()[1]
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "ADD")
    Contract().test_translation(table, pattern, front_end)
    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", outside_its_branch)
    with pytest.raises(ValueError, match="does not dominate it"):
        Contract().test_translation(table, pattern, front_end)


class Prologue(MixedFrontEnd):
    def prologue(self, b: Builder, mode: int) -> None:
        b.ret()


def test_the_contract_verifies_what_surrounds_blocks() -> None:
    class Surrounded(TargetContract):
        encodings = MixedFrontEnd().encodings()

    Surrounded().test_what_surrounds_blocks_is_valid(MixedFrontEnd())
    with pytest.raises(ValueError, match="only a routine returns"):
        Surrounded().test_what_surrounds_blocks_is_valid(Prologue())
