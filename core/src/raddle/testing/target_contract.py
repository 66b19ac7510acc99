# SPDX-License-Identifier: Apache-2.0
"""The tests that every guest must pass, of its declarations, its state, its tables, its semantics and its routines.

A guest's tests inherit them and set a few attributes::

    class TestMyGuest(TargetContract):
        target = "mine"
        encodings = (Encodings("mine", load_table().compile(), 4, modes=(0,)),)
        undefined_callees = frozenset({"undefined"})

The package must be installed, so that `raddle info` lists it. Tests that run code on the host need the host package of
this machine, and are skipped without it. The test's name is the seed of random choices, so a failure can be repeated.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from random import Random
from types import ModuleType
from typing import Final

import pytest

from raddle.ir.builder import Builder, Callee, CalleeKind, MemAccess
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, InterpreterError
from raddle.ir.parser import parse_function
from raddle.ir.printer import print_function
from raddle.ir.types import MMU_INDICES, Field, Type
from raddle.ir.verifier import verify
from raddle.plugins import API_VERSION, Target, registry
from raddle.runtime.calls import verify_calls
from raddle.testing.differential import DRAWS
from raddle.testing.guest_runs import (
    HostRunner,
    Surroundings,
    callees,
    differences,
    interpreted,
    interpreted_routine,
    outline,
)
from raddle.testing.guest_under_test import Encodings, random_value
from raddle.testing.interrupt_contract import InterruptContract
from raddle.threads.engine import Engine
from raddle.translate.decode import UNDEFINED, Pattern, has_word
from raddle.translate.frontend import FrontEnd, Halves, InstructionSet
from raddle.translate.sharing import Models, Sharing

__all__ = ["Encodings", "TargetContract"]

MOST_REGISTERS: Final = 64
CALLED_BY_RUNTIME: Final = ("tlb_fill", "fault", "interrupt")


class TargetContract(InterruptContract):
    """Inherit this, and set the attributes of `GuestUnderTest`."""

    # -- declarations --------------------------------------------------------------------------------------------------

    def test_declarations_agree(self, plugin: ModuleType, descriptor: Target, front_end: FrontEnd) -> None:
        assert plugin.RADDLE_API_VERSION == API_VERSION
        assert descriptor.name == self.target == front_end.name
        assert descriptor.supports_mttcg is plugin.TARGET_SUPPORTS_MTTCG
        assert descriptor.default_mo == plugin.TCG_GUEST_DEFAULT_MO
        assert descriptor.word_bits >= front_end.word.bits
        assert descriptor.cpus
        assert len(set(descriptor.cpus)) == len(descriptor.cpus)

    def test_boards_can_be_loaded(self, descriptor: Target) -> None:
        for board in registry().boards(self.target):
            registry().load(board)
        assert not [problem for problem in registry().problems() if problem.plugin == f"target.{self.target}"]

    def test_the_plug_in_module_is_light(self, plugin: ModuleType) -> None:
        """`raddle info` imports the module, so it must import neither the front end nor the native runtime."""
        heavy = "[m for m in sys.modules if m.startswith(('raddle.runtime', 'raddle.translate', 'raddle.ir'))]"
        code = f"import sys, {plugin.__name__}; print(*{heavy})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    # -- state ---------------------------------------------------------------------------------------------------------

    def test_state_layout(self, front_end: FrontEnd) -> None:
        state = front_end.state
        for name, field in state.fields.items():
            assert field.name == name
            assert field.offset >= 0, name
            assert field.offset % field.type.size == 0, name
            assert field.offset + field.type.size <= state.size, name
        hidden = state.fields.keys() & COMMON.keys()
        assert not hidden, f"the common fields {sorted(hidden)} are hidden by fields of the guest's own"
        ranks = [field.hot for field in state.hot_fields]
        assert ranks == list(range(len(ranks))), "hot fields are ranked 0, 1, 2 ..., no rank twice"
        assert all(field.type in (Type.I1, Type.I32, Type.I64, Type.F64) for field in state.hot_fields)
        for array in state.arrays.values():
            assert [f.offset for f in array] == [array.offset + n * array.type.size for n in range(len(array))]
            assert all(f.type is array.type for f in array)
        if state.nzcv is not None:
            assert len({field.offset for field in state.nzcv}) == 4
            assert all(field.type is Type.I1 and state.fields[field.name] is field for field in state.nzcv)
        assert all(state.fields[field.name] is field for field in front_end.registers if field is not None)

    def test_register_names(self, front_end: FrontEnd) -> None:
        fields = front_end.state.fields.keys()
        assert not front_end.views.keys() & (fields | COMMON.keys()), "a view would hide a field"
        unknown = set(front_end.register_names) - fields - front_end.views.keys()
        assert not unknown, f"registers that are neither fields nor views: {sorted(unknown)}"

    def test_limits(self, front_end: FrontEnd) -> None:
        """Limits and assumptions of the runtime."""
        assert front_end.word in (Type.I32, Type.I64), f"word is {front_end.word!r}: addresses are I32 or I64"
        limits = (
            ("page_bits", front_end.page_bits, 12, 31),
            ("mmu_indices", front_end.mmu_indices, 1, MMU_INDICES),
            ("fetch_index_shift", front_end.fetch_index_shift, 0, 30),
            ("the number of registers", len(front_end.registers), 0, MOST_REGISTERS),
            ("the number of mode_masks", len(front_end.mode_masks), 0, 2),
        )
        for name, value, least, most in limits:
            assert least <= value <= most, f"{name} is {value}, and must be {least} to {most}"
        linear = front_end.linear_indices
        assert set(linear) <= set(range(front_end.mmu_indices)), f"linear_indices has others than MMU indices: {linear}"

    # -- routines ------------------------------------------------------------------------------------------------------

    def test_what_the_runtime_calls_is_there(self, front_end: FrontEnd) -> None:
        for name in CALLED_BY_RUNTIME:
            places = [place for place in ("routines", "python_helpers") if name in getattr(front_end, place)]
            assert places, f"{name} is missing: it must be among routines or python_helpers"
            assert len(places) == 1, f"{name} is among {' and '.join(places)}: it must be among only one of them"

    def test_routine_is_valid(self, routine: str, front_end: FrontEnd) -> None:
        b = _function(front_end)
        front_end.routines[routine](b)
        self._check_function(b, front_end, routine=True)

    def test_routines_compile(self, engine: Engine, front_end: FrontEnd) -> None:
        for name in front_end.routines:
            assert engine.callees.table[engine.callees.routine_number(name)]

    def test_routine_runs_alike(self, routine: str, front_end: FrontEnd, host: HostRunner) -> None:
        random = Random(routine)
        for _ in range(10 * self.fills):
            start = self.random_start(random, front_end, random.choice(self._all_modes()))
            arguments = tuple(random_value(random, 64, front_end) for _ in range(4))
            try:
                expected = interpreted_routine(host.surroundings, start, routine, arguments)
            except InterpreterError:
                continue
            found = host.call(start, routine, arguments)
            lines = differences(front_end, expected, found)
            if expected.result is not None and expected.result != found.result:
                lines.append(f"returns {found.result}, not {expected.result}")
            assert not lines, "\n".join([f"{routine}{arguments}", *self._described(start, front_end), *lines])

    def _check_function(self, b: Builder, front_end: FrontEnd, *, routine: bool = False) -> str:
        """The IR must be valid, the same after printing and parsing, and have only known callees and MMU indices.
        Returns its text.
        """
        verify(b, routine=routine, layout=front_end.state)
        verify_calls(b, instruction=not routine)
        text = print_function(b)
        assert print_function(parse_function(text, front_end.state, b.word)) == text
        for instruction in b.code:
            aux = instruction.aux
            if isinstance(aux, Callee):
                if (aux.kind, aux.name) not in _known_callees(front_end):  # an assert would list them all
                    raise AssertionError(f"the IR calls the {aux.description}, which does not exist")
            elif isinstance(aux, MemAccess):
                assert aux.mmu_index < front_end.mmu_indices, f"MMU index {aux.mmu_index} is not declared"
        return text

    # -- reset ---------------------------------------------------------------------------------------------------------

    def test_reset(self, engine: Engine, front_end: FrontEnd) -> None:
        cpu = engine.cpus[0]
        page = 1 << front_end.page_bits
        states = []
        for entry in (page, page, 0x100 * page):
            front_end.reset(cpu, entry, 0x1234)
            assert cpu["pc"] == entry
            front_end.instruction_set(cpu["mode"])
            assert front_end.initial_decode_state(cpu["mode"]) == 0
            assert isinstance(front_end.describe(cpu), str)
            states.append([cpu[name] for name in (*front_end.state.fields, "mode", "exclusive_address")])
            for field in self._random_fields(front_end):
                cpu[field.name] = 1
        assert states[0] == states[1], "what ran before a reset can be seen after it"
        assert states[0] == states[2], "more than the pc depends on the entry"
        assert 0x1234 in states[0], "the argument is in no register"

    # -- instructions --------------------------------------------------------------------------------------------------

    def test_table_is_the_one_that_decodes(self, table: Encodings, front_end: FrontEnd) -> None:
        for mode in table.modes:
            instructions = front_end.instruction_set(mode)
            assert instructions.unit in (2, 4)
            assert table.size in (instructions.unit, 2 * instructions.unit)
            assert table.decoder.width == 8 * table.size

    def test_the_first_unit_tells_the_length(self, table: Encodings, front_end: FrontEnd) -> None:
        """For the first unit of every word of a table, `InstructionSet.wide` must give the length of the table's words.

        This also finds a table whose pictures have their halves in another order than `wide` says.
        """
        for mode in table.modes:
            instructions = front_end.instruction_set(mode)
            assert instructions.wide is None or instructions.unit == 2, "`wide` is for units of 2 bytes"
            for pattern in table.decoder.patterns:
                wrong = None if pattern.name == UNDEFINED else _wrong_length(instructions, pattern)
                assert wrong is None, (
                    f"{pattern.where}: words of {pattern.name} have {table.size} bytes, but begin with {wrong}, which "
                    f"by `wide` begins an instruction of {6 - table.size}; `wide` says too which half is the first"
                )

    def test_undefined_words_raise_the_exception(self, table: Encodings, surroundings: Surroundings) -> None:
        random = Random(table.name)
        for mode in table.modes:
            instructions = surroundings.instruction_set(mode)
            words = (random.getrandbits(8 * table.size) for _ in range(DRAWS))
            undefined = [word for word in words if instructions.decode(word, table.size) is None][:20]
            if not undefined:
                pytest.skip("no undefined word found")
            for word in undefined:
                start = self.random_start(random, surroundings.guest, mode)
                finish = interpreted(surroundings, start, mode, word, table.size)
                b = _function(surroundings.guest)
                surroundings.guest.instruction_set(mode).translate(b, None, word, table.decode_states[0], mode)
                self._check_function(b, surroundings.guest)
                called = {name.partition(" ")[2] for name, _ in finish.calls}
                assert called & self.undefined_callees, f"{word:#x} in mode {mode:#x} calls {called or 'nothing'}"
                assert finish.fault is None

    def test_translation(self, table: Encodings, pattern: Pattern, front_end: FrontEnd) -> None:
        """Every word of a line has valid IR, which depends only on the key of the translation."""
        random = Random(f"{table.name} {pattern.where}")
        for mode in table.modes:
            instructions = front_end.instruction_set(mode)
            for _ in range(self.fills):
                word = self._random_word(random, table, pattern)
                decode_state = random.choice(table.decode_states)
                b = _function(front_end)
                following = instructions.translate(b, pattern, word, decode_state, mode)
                text = self._check_function(b, front_end)
                assert isinstance(following, int), f"translate() returned {following!r}, not the next decode state"
                assert 0 <= following < 1 << 32
                other = _function(front_end)
                sibling = self._random_word(random, table, pattern, word)
                assert pattern.key(sibling) == pattern.key(word)
                assert instructions.translate(other, pattern, sibling, decode_state, mode) == following
                assert print_function(other) == text, f"{word:#x} and {sibling:#x} have one key"
                assert instructions.disassemble(word, table.size, 0)
                self._check_sharing(front_end, table, pattern, word, decode_state, mode, b, text)
                self._check_linear(pattern, word, sibling)

    def test_what_surrounds_blocks_is_valid(self, front_end: FrontEnd) -> None:
        """The IR of prologues and epilogues."""
        for table in self.encodings:
            for mode in table.modes:
                b = _function(front_end)
                front_end.prologue(b, mode)
                self._check_function(b, front_end)
                for decode_state in table.decode_states:
                    b = _function(front_end)
                    front_end.epilogue(b, mode, decode_state)
                    self._check_function(b, front_end)

    def _check_linear(self, pattern: Pattern, word: int, other: int) -> None:
        """Functions that are declared `Linear` must be linear, because the runtime computes them so."""
        values = pattern.values(word)
        for operand in (*pattern.knowns, *pattern.holes):
            selected = pattern.selector_bits(operand.name)
            base, terms = pattern.linear(operand.name, other & ~selected | word & selected)
            value = base + sum((word >> shift & mask) * factor for shift, mask, factor in terms)
            assert not (value ^ values[operand.name]) & _M32, f"{operand.name} of {word:#x} is not linear"

    def _check_sharing(
        self,
        front_end: FrontEnd,
        table: Encodings,
        pattern: Pattern,
        word: int,
        decode_state: int,
        mode: int,
        plain: Builder,
        text: str,
    ) -> None:
        """Words that share templates depend only on declared bits of the block mode, and not on register numbers.

        ``plain`` is the word's translation with its own register numbers, ``text`` that as text.
        """
        instructions = front_end.instruction_set(mode)
        sharing = instructions.sharing(pattern)
        if sharing is None:
            return
        numbers = sharing.numbers(word)
        named = _function(front_end)
        instructions.translate(named, pattern, word, decode_state, mode, sharing.operands(numbers))
        assert print_function(named) == text
        verify(named, layout=front_end.state)
        if sharing.closed(word) is not None:
            opened = _function(front_end)
            instructions.translate(opened, pattern, word, decode_state, mode, sharing.open_literal(word))
            verify(opened, layout=front_end.state)
        self._check_renaming(front_end, pattern, word, decode_state, mode, sharing, plain)
        if sharing.mode_class < 0 or decode_state or any(number >= len(front_end.registers) for number in numbers):
            return
        mask = front_end.mode_masks[sharing.mode_class]
        for other in table.modes:
            if (other ^ mode) & mask == 0:
                there = _function(front_end)
                front_end.instruction_set(other).translate(there, pattern, word, decode_state, other)
                assert print_function(there) == text, f"modes {mode:#x} and {other:#x} have one key"

    def _check_renaming(
        self,
        front_end: FrontEnd,
        pattern: Pattern,
        word: int,
        decode_state: int,
        mode: int,
        sharing: Sharing,
        plain: Builder,
    ) -> None:
        """The IR of the model of a word's registers must be the word's own IR with other registers."""
        registers = front_end.registers
        places = [None if field is None else number * 2 // len(registers) for number, field in enumerate(registers)]
        numbers = sharing.numbers(word)
        model = Models(places).model(numbers, len(numbers) - len(sharing.names))
        shared = _function(front_end)
        front_end.instruction_set(mode).translate(
            shared, pattern, word, decode_state, mode, sharing.operands(model.numbers)
        )
        renamed = {registers[m]: registers[n] for m, n in zip(model.chosen, model.renamed, strict=True)}
        fields = {one: other for one, other in renamed.items() if one is not None and other is not None}
        used = {instruction.aux for instruction in shared.code if isinstance(instruction.aux, Field)}
        if any(other in used and other not in fields for other in fields.values()):
            return  # the runtime does not rename to a register that the code uses in another way
        assert outline(plain.code, {}) == outline(shared.code, fields), (
            f"{pattern.where}: {pattern.name} does more with the numbers of its registers than `sharing` says: the IR "
            f"of {word:#x}, registers {numbers}, is not that of registers {model.numbers} with others in their place"
            + ("" if None in registers else "; a register that is always zero must be None in `FrontEnd.registers`")
        )

    def test_compiles(self, table: Encodings, pattern: Pattern, engine: Engine) -> None:
        front_end = engine.frontend
        random = Random(f"compiles {table.name} {pattern.where}")
        for mode in table.modes:
            word, decode_state = self._random_word(random, table, pattern), random.choice(table.decode_states)
            b = _function(front_end)
            following = front_end.instruction_set(mode).translate(b, pattern, word, decode_state, mode)
            template = engine.backend.template(b.code, b.locals, table.size, decode_state, following)
            joiner = engine.translator.joiner
            entry = joiner.enter(None, 0, template, pattern.hole_values(word))
            block = joiner.join([entry], 0x1000)
            assert block.code
            assert block.table[4] == table.size

    def test_execution(self, table: Encodings, pattern: Pattern, host: HostRunner) -> None:
        """Interpreter and host must do the same, and an access that faults must not change the state."""
        surroundings = host.surroundings
        guest = surroundings.guest
        random = Random(f"runs {table.name} {pattern.where}")
        for mode in table.modes:
            for _ in range(self.fills):
                word = self._random_word(random, table, pattern)
                start = self.random_start(random, guest, mode)
                try:
                    expected = interpreted(surroundings, start, mode, word, table.size)
                except InterpreterError:
                    continue
                if expected.endless:
                    continue
                lines = differences(guest, expected, host.run(start, mode, word, table.size))
                if expected.fault is not None:
                    lines += [
                        f"{field.name} is changed by an access that faults"
                        for field in _changed(guest, start.state, expected.state)
                        if not self.may_change_before_fault(pattern, word, field)
                    ]
                told = f"{pattern.name} {word:#x} in mode {mode:#x}"
                assert not lines, "\n".join([told, *self._described(start, guest), *lines])


_M32 = 0xFFFF_FFFF


def _wrong_length(instructions: InstructionSet, pattern: Pattern) -> str | None:
    """Describes a first unit of words of ``pattern`` for which the instruction set gives another length; None if there
    is none."""
    wide, long = instructions.wide, pattern.width == 32
    if instructions.unit == 4:
        return None
    if wide is None:
        return "any unit" if long else None
    half = 16 if long and wide.halves is Halves.HIGH_FIRST else 0
    bits = 31 << wide.shift & 0xFFFF
    for choice in range(32):
        unit = choice << wide.shift & 0xFFFF
        if wide.begins(unit) is not long and has_word(pattern, bits << half, unit << half):
            return f"a unit that has {unit:#06x} in its bits {bits:#06x}"
    return None


@functools.cache
def _known_callees(front_end: FrontEnd) -> frozenset[tuple[CalleeKind, str]]:
    return frozenset((callee.kind, callee.name) for callee in callees(front_end))


def _function(front_end: FrontEnd) -> Builder:
    return Builder(front_end.word, front_end.state.nzcv)


def _changed(guest: FrontEnd, before: bytes, after: bytes) -> list[Field]:
    one, other = CpuState(bytearray(before)), CpuState(bytearray(after))
    return [field for field in guest.state.fields.values() if one.read(field) != other.read(field)]
