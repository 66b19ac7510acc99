# SPDX-License-Identifier: Apache-2.0
"""What the target contract knows of a guest: the attributes that its tests set, fixtures of it, random choices."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import ModuleType
from typing import ClassVar, Final

import pytest

from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd
from raddle.entry_points import entry_points
from raddle.errors import PluginError, UsageError
from raddle.ir.interpreter import CpuState
from raddle.ir.types import Field, Type
from raddle.memory import AddressSpace
from raddle.plugins import ENTRY_POINT_GROUP, Target, registry
from raddle.testing.differential import random_word
from raddle.testing.guest_runs import (
    ARENA,
    ARENA_PAGES,
    HostRunner,
    PlainCpu,
    Start,
    Surroundings,
    takes_interrupt,
)
from raddle.threads.engine import Engine
from raddle.translate.decode import UNDEFINED, Decoder, Pattern
from raddle.translate.frontend import FrontEnd

ALL_LINES: Final = 0xFFFF_FFFF


@dataclass(frozen=True)
class Encodings:
    """One decode table of a guest, and the block modes in which it is used.

    Instructions are ``size`` bytes long. ``modes`` are block modes in which this table decodes; give modes for which
    translations differ. ``decode_states`` are decode states in which instructions may be translated.
    """

    name: str
    decoder: Decoder
    size: int
    modes: tuple[int, ...]
    decode_states: tuple[int, ...] = (0,)


class GuestUnderTest:
    """The base of the parts of the target contract. A guest's tests inherit `TargetContract`."""

    target: ClassVar[str]
    """Name of the target plug-in."""
    cpu: ClassVar[str] = ""
    """CPU model; empty for the default. Inherit once for each model whose translations differ."""
    encodings: ClassVar[tuple[Encodings, ...]]
    undefined_callees: ClassVar[frozenset[str]]
    """Routines or helpers that enter the exception for undefined instructions."""
    random_fields: ClassVar[tuple[str, ...]] = ()
    """State fields that may have any value, in addition to hot integer fields and the flags."""
    small_fields: ClassVar[dict[str, tuple[int, ...]]] = {}
    """State and header fields that may have only these values."""
    fills: ClassVar[int] = 3
    """How many words of each line of a table are tried in each mode."""
    unmasking: ClassVar[frozenset[str]] = frozenset()
    """Instructions that can unmask interrupts: the contract fails unless one of many random words of each does so."""

    def may_change_before_fault(self, pattern: Pattern, word: int, field: Field) -> bool:
        """Whether the architecture allows ``field`` to change although an access of ``word`` faults.

        Override it for instructions with several accesses that are executed again as a whole.
        """
        return False

    def takes_interrupt(self, surroundings: Surroundings, pc: int, state: bytes, header: Mapping[str, int]) -> bool:
        """Whether the guest takes an interrupt in this state, with all lines pending.

        Override it for an ``interrupt`` in Python that needs more of a vCPU than fields.
        """
        return takes_interrupt(surroundings, pc, state, header, ALL_LINES)

    # -- surroundings --------------------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def descriptor(cls) -> Target:
        return registry().target(cls.target)

    @pytest.fixture(scope="class")
    @classmethod
    def front_end(cls, descriptor: Target) -> FrontEnd:
        return registry().front_end(descriptor, cls.cpu)

    @pytest.fixture(scope="class")
    @classmethod
    def surroundings(cls, front_end: FrontEnd) -> Surroundings:
        return Surroundings(front_end)

    @pytest.fixture(scope="class")
    @classmethod
    def plugin(cls) -> ModuleType:
        # The same distribution may be on sys.path twice: installed, and in a source tree.
        name = f"target.{cls.target}"
        module: ModuleType = next(one for one in entry_points(ENTRY_POINT_GROUP) if one.name == name).load()
        return module

    @pytest.fixture(scope="class")
    @classmethod
    def back_end(cls) -> type[BackEnd]:
        try:
            host = registry().host_for()
            back_end: type[BackEnd] = registry().load(host)
        except (UsageError, PluginError) as error:
            pytest.skip(str(error))
        return back_end

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, front_end: FrontEnd, back_end: type[BackEnd]) -> Iterator[HostRunner]:
        runner = HostRunner(front_end, back_end)
        yield runner
        runner.close()

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, front_end: FrontEnd, back_end: type[BackEnd]) -> Iterator[Engine]:
        """An engine with one vCPU of the guest. Making it compiles all routines."""
        memory = AddressSpace()
        engine = Engine(front_end, back_end, Decision(Mode.MULTI, ("a test",)), memory, 1)
        yield engine
        engine.close()
        memory.close()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        names = metafunc.fixturenames
        if "table" in names and "pattern" in names:
            rows = [
                pytest.param(table, pattern, id=f"{table.name}-{pattern.name}-{pattern.index}")
                for table in self.encodings
                for pattern in table.decoder.patterns
                if pattern.name != UNDEFINED
            ]
            metafunc.parametrize(("table", "pattern"), rows)
        elif "table" in names:
            metafunc.parametrize("table", self.encodings, ids=lambda table: table.name)
        elif "routine" in names:
            front_end = registry().front_end(registry().target(self.target), self.cpu)
            metafunc.parametrize("routine", list(front_end.routines))

    # -- random choices ------------------------------------------------------------------------------------------------

    def _all_modes(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(mode for table in self.encodings for mode in table.modes))

    def _random_word(self, random: Random, table: Encodings, pattern: Pattern, like: int | None = None) -> int:
        """A random word of the pattern. If ``like`` is given, the word has its key."""
        word = random_word(table.decoder, pattern, random, like)
        assert word is not None, f"{pattern.where}: no word of {pattern.name} could be found"
        return word

    def _random_fields(self, front_end: FrontEnd) -> list[Field]:
        state = front_end.state
        fields = [*state.hot_fields, *(state.nzcv or ()), *(state.fields[name] for name in self.random_fields)]
        return list(dict.fromkeys(fields))

    def random_start(self, random: Random, front_end: FrontEnd, mode: int) -> Start:
        """The reset state, but with random registers, flags and memory, and with ``mode`` as the block mode."""
        plain = PlainCpu(front_end)
        plain.cpu = _reset_state(front_end)
        for field in self._random_fields(front_end):
            bits = 1 if field.type is Type.I1 else 8 * field.type.size
            plain[field.name] = random_value(random, bits, front_end)
        for name, values in self.small_fields.items():
            plain[name] = random.choice(values)
        header = dict(plain.cpu.header) | {"mode": mode}
        return Start(bytes(plain.cpu.state), header, random.randbytes(ARENA_PAGES << front_end.page_bits))

    def _described(self, start: Start, front_end: FrontEnd) -> list[str]:
        cpu = CpuState(bytearray(start.state))
        values = [f"{field.name}={cpu.read(field):#x}" for field in self._random_fields(front_end)]
        return ["from " + " ".join(values)]


@functools.cache
def _state_after_reset(front_end: FrontEnd) -> tuple[bytes, Mapping[str, int]]:
    cpu = PlainCpu(front_end)
    front_end.reset(cpu, 0, 0)
    return bytes(cpu.cpu.state), cpu.cpu.header


def _reset_state(front_end: FrontEnd) -> CpuState:
    """A vCPU's state after a reset. A reset depends on nothing else, so it is done once."""
    state, header = _state_after_reset(front_end)
    return CpuState(bytearray(state), dict(header))


def random_value(random: Random, bits: int, front_end: FrontEnd) -> int:
    """A random number, often an address in the arena or near its edges, or an edge value of the type."""
    size = ARENA_PAGES << front_end.page_bits
    choice = random.randrange(8)
    if bits < 32 or choice == 0:
        return random.getrandbits(bits)
    if choice == 1:
        edges = (0, 1, 2, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1, 31, 32, 33)
        return random.choice(edges)
    if choice == 2:
        return ARENA + random.choice((0, size)) + random.randrange(-16, 16)
    if choice == 3:
        return ARENA + (random.randrange(1, ARENA_PAGES) << front_end.page_bits) + random.randrange(-16, 16)
    if choice == 4:
        return ARENA + random.randrange(size)
    return ARENA + size // 2 + (random.randrange(-size // 16, size // 16) & -8)
