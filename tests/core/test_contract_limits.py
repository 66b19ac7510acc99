# SPDX-License-Identifier: Apache-2.0
"""The target contract refuses a front end that asks for what the runtime does not have, and names it."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest
from raddle.runtime._native import lib
from tests.core import mixed_guest
from tests.core.mixed_guest import MixedFrontEnd, X

from raddle.ir.builder import Builder, Callee, Value, native, python, routine
from raddle.ir.header import COMMON
from raddle.ir.types import StateLayout, Type
from raddle.testing.guest_runs import CODE, Surroundings
from raddle.testing.masks import Masks
from raddle.testing.target_contract import MOST_REGISTERS, Encodings, TargetContract
from raddle.translate.decode import Fields


class Contract(TargetContract):
    target = "mixed"
    undefined_callees = frozenset({"undefined"})


def test_limits_that_are_kept() -> None:
    front_end = MixedFrontEnd()
    Contract().test_limits(front_end)
    front_end.page_bits, front_end.mmu_indices, front_end.word = 31, 4, Type.I64
    Contract().test_limits(front_end)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("page_bits", 11, "page_bits is 11, and must be 12 to 31"),
        ("page_bits", 32, "page_bits is 32"),
        ("mmu_indices", 0, "mmu_indices is 0, and must be 1 to 4"),
        ("mmu_indices", 5, "mmu_indices is 5"),
        ("fetch_index_shift", 31, "fetch_index_shift is 31"),
        ("linear_indices", (4,), "linear_indices has others than MMU indices: .4,."),
        ("registers", (None,) * 65, "the number of registers is 65, and must be 0 to 64"),
        ("mode_masks", (1, 2, 4), "the number of mode_masks is 3"),
        ("word", Type.F32, "word is .*: addresses are I32 or I64"),
    ],
)
def test_limits_that_are_not(name: str, value: object, message: str) -> None:
    front_end = MixedFrontEnd()
    setattr(front_end, name, value)
    with pytest.raises(AssertionError, match=message):
        Contract().test_limits(front_end)


@pytest.mark.parametrize(
    ("callee", "named"),
    [
        (native("tlb_fush"), "native helper 'tlb_fush'"),
        (routine("halt"), "routine 'halt'"),
        (python("hold"), "Python helper 'hold'"),
    ],
)
def test_a_callee_that_is_not_there(callee: Callee, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def halt(b: Builder, f: Fields) -> None:
        b.call(callee)

    monkeypatch.setitem(mixed_guest.SEMANTICS, "HALT", halt)
    front_end = MixedFrontEnd()
    table = front_end.encodings()[0]
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "HALT")
    with pytest.raises(AssertionError, match=f"^the IR calls the {named}, which does not exist$"):
        Contract().test_translation(table, pattern, front_end)


def _interrupt(b: Builder) -> None:
    """Routine(pending lines): takes one while the sum of all registers is odd."""
    odd: Value = b.const(0)
    for register in X.elements[1:]:
        odd = b.xor(odd, b.get(register))
    b.ret(b.zext(b.and_(odd, 1), Type.I64))


@pytest.fixture(params=["routine", "Python helper"])
def interrupted(request: pytest.FixtureRequest) -> Surroundings:
    """A guest that takes interrupts while the sum of all registers is odd: most instructions may unmask them."""
    front_end = MixedFrontEnd()
    if request.param == "routine":
        front_end.routines = front_end.routines | {"interrupt": _interrupt}
        front_end.python_helpers = {k: v for k, v in front_end.python_helpers.items() if k != "interrupt"}
    else:
        odd = {"interrupt": lambda cpu, pending: sum(cpu[register.name] for register in X.elements[1:]) & 1}
        front_end.python_helpers = front_end.python_helpers | odd
    return Surroundings(front_end)


NO_MASKS: Final = Masks(MixedFrontEnd(), (), (), (), frozenset())
"""With it, the contract tries random words only."""


def _contract_of(*names: str) -> Contract:
    class Unmasking(Contract):
        encodings = MixedFrontEnd().encodings()
        unmasking = frozenset(names)

    return Unmasking()


def test_an_instruction_that_unmasks_interrupts_and_goes_on(interrupted: Surroundings) -> None:
    with pytest.raises(AssertionError, match=r"^ADD 0x.* in mode 0x0 lets in an interrupt .*; end it with exit_main"):
        _contract_of("ADD").test_interrupts_are_unmasked(interrupted)
    table = MixedFrontEnd().encodings()[1]
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "LUI")
    many = Encodings(table.name, table.decoder, table.size, modes=(0,) * 50)
    with pytest.raises(AssertionError, match=r"^LUI .* lets in an interrupt"):
        Contract().test_unmasked_interrupts_are_taken(many, pattern, interrupted, NO_MASKS)


def test_an_instruction_that_unmasks_interrupts_and_ends_its_block(
    interrupted: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = mixed_guest.SEMANTICS["ADD"]

    def ends(b: Builder, f: Fields) -> None:
        add(b, f)
        b.set(COMMON["pc"], b.zext(b.pc(4), Type.I64))
        b.exit_main()

    monkeypatch.setitem(mixed_guest.SEMANTICS, "ADD", ends)
    contract = _contract_of("ADD")
    contract.test_interrupts_are_unmasked(interrupted)


@pytest.mark.parametrize(("name", "message"), [("HALT", "no word of it unmasks an interrupt"), ("STI", "in no table")])
def test_an_instruction_that_does_not_unmask(name: str, message: str, interrupted: Surroundings) -> None:
    with pytest.raises(AssertionError, match=f"^{name} is among `unmasking`, but {message}"):
        _contract_of(name).test_interrupts_are_unmasked(interrupted)


CONTROLS: Final = 16
ENABLED: Final = 11
"""The number of the control register that enables interrupts."""


def _with_controls(monkeypatch: pytest.MonkeyPatch, ends: bool) -> Surroundings:
    """A guest whose LUI writes one of many control registers; ``ends``: the block ends with the one that enables."""
    state = StateLayout()
    state.array("x", Type.I32, 16, hot=tuple(range(16)))
    controls = [state.field(f"control{n}", Type.I32) for n in range(CONTROLS)]

    def set_control(b: Builder, f: Fields) -> None:
        b.set(controls[f.d], b.const(f.imm))
        if ends and f.d == ENABLED:
            b.set(COMMON["pc"], b.zext(b.pc(4), Type.I64))
            b.exit_main()

    def interrupt(b: Builder) -> None:
        b.ret(b.zext(b.ne(b.get(controls[ENABLED]), 0), Type.I64))

    monkeypatch.setitem(mixed_guest.SEMANTICS, "LUI", set_control)
    monkeypatch.delitem(mixed_guest.SHARED, "LUI")
    front_end = MixedFrontEnd()
    front_end.state = state
    front_end.registers = (None, *state.arrays["x"].elements[1:])
    front_end.reset = lambda cpu, entry, argument: front_end.clear(cpu)  # type: ignore[method-assign]
    front_end.routines = front_end.routines | {"interrupt": interrupt}
    front_end.python_helpers = {k: v for k, v in front_end.python_helpers.items() if k != "interrupt"}
    return Surroundings(front_end)


def test_one_of_many_control_registers_that_unmasks_without_being_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few random words have this control register: the IR tells which ones."""
    guest = _with_controls(monkeypatch, ends=False)
    contract, table = _contract_of(), MixedFrontEnd().encodings()[1]
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "LUI")
    masks = contract.find_masks(guest)
    assert [field.name for field in masks.fields] == [f"control{ENABLED}"]
    with pytest.raises(AssertionError, match=r"^LUI 0x.* in mode 0x0 lets in an interrupt .*; end it with exit_main"):
        contract.test_unmasked_interrupts_are_taken(table, pattern, guest, masks)
    contract.test_unmasked_interrupts_are_taken(table, pattern, guest, NO_MASKS)


def test_one_of_many_control_registers_that_unmasks_and_ends_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = _with_controls(monkeypatch, ends=True)
    contract = _contract_of()
    for table in contract.encodings:
        for pattern in table.decoder.patterns:
            contract.test_unmasked_interrupts_are_taken(table, pattern, guest, contract.find_masks(guest))


def test_a_control_register_that_is_written_in_one_mode_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word is looked at in each mode: in the first one, these do nothing."""
    guest = _with_controls(monkeypatch, ends=False)
    contract, table, front_end = _contract_of(), MixedFrontEnd().encodings()[1], guest.guest
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "LUI")
    masks = contract.find_masks(guest)
    translate = front_end.instructions.translate

    def privileged(b: Builder, pattern: Any, word: int, decode_state: int, mode: int) -> Any:
        return translate(b, pattern, word, decode_state, mode) if mode else None

    monkeypatch.setattr(front_end.instructions, "translate", privileged)
    words = masks.words(Random("one mode"), table.decoder, pattern, (0, 1))
    assert {mode for _, mode in words} == {1}


def test_an_interrupt_that_depends_on_the_pc() -> None:
    """Every instruction changes the pc, so that any may unmask, whatever else it writes."""
    front_end = MixedFrontEnd()
    elsewhere = {"interrupt": lambda cpu, pending: int(cpu["pc"] != CODE)}
    front_end.python_helpers = front_end.python_helpers | elsewhere
    guest, contract, table = Surroundings(front_end), _contract_of(), front_end.encodings()[1]
    with pytest.raises(AssertionError, match="lets in an interrupt"):
        contract.test_unmasked_interrupts_are_taken(table, table.decoder.patterns[0], guest, contract.find_masks(guest))


def test_the_limit_is_the_runtimes() -> None:
    assert MOST_REGISTERS == lib.RADDLE_REGISTERS
