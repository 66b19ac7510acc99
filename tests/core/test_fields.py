# SPDX-License-Identifier: Apache-2.0
"""Fields as data: the runtime puts values into the bits that a host's shapes name, or says that they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.codegen.allocation import CodegenError
from raddle.codegen.backend import BackEnd, CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.fields import Chaining, Range, Reloc, Shape, Source, field_kind, pack_fixups, whole
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Template, Variant, pack_traits
from raddle.errors import MachineError
from raddle.ir.builder import Instruction, Local
from raddle.ir.types import Field, StateLayout, Type

PC = 0x1_2345_6788
SIZE = 4
FILLED = (1 << 64) - 1
CHAINING = Chaining(0, 4)
DISTANCE = whole(4, Range.SIGNED, relative=True)


class Given(Template):
    """Code that is given, with its fields."""

    def __init__(self, hot: bytes, cold: bytes = b"", fixups: bytes = b"", ends: bool = True) -> None:
        super().__init__(SIZE, 0, 0, ends)
        self.code = Variant(hot, cold, fixups, pack_traits(0, 0, 0, ends, False))

    def variant(self, host_flags: int, dead: bool) -> Variant:
        return self.code


class Host(BackEnd):
    """A host with these shapes, whose entry check and stubs are zeros of one length each, with these fields."""

    def __init__(
        self, shapes: Sequence[Shape], stubs: Mapping[str, tuple[Reloc, ...]] = {}, chaining: Chaining = CHAINING
    ) -> None:
        self.config = CodegenConfig(StateLayout(), Type.I64, 12, lambda callee: 0)
        entry, leave, chainable, indirect = (
            Stub(bytes(8 * length), stubs.get(name, ()))
            for length, name in enumerate(("entry", "leave", "chainable", "indirect"), 1)
        )
        self.given = JoinRules(entry, leave, chainable, indirect, Given(b"through!"), tuple(shapes), chaining)

    @staticmethod
    def constant(value: int) -> bytes | None:
        raise NotImplementedError

    def rules(self) -> JoinRules:
        return self.given

    def template(
        self,
        code: list[Instruction],
        locals: list[Local],
        size: int,
        decode_state: int,
        next_decode_state: int,
        open_registers: Mapping[int, Field] | None = None,
    ) -> Template:
        raise NotImplementedError

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        raise NotImplementedError

    def thunks(self, functions: dict[str, int]) -> Thunks:
        raise NotImplementedError


def joined(host: Host, template: Template, literals: Sequence[int] = (), count: int = 1) -> bytes:
    joiner = Joiner(host)
    return joiner.join([joiner.enter(None, 0, template, literals)] * count, PC).code


def unit_with(shape: Shape, x: int) -> bytes:
    """The unit of a field in code of nothing but ones, once it holds the literal x."""
    template = Given(b"\xff" * 8, b"", pack_fixups(0, [(field_kind(Source.LITERAL, 1), 0, x)]))
    return joined(Host([DISTANCE, shape]), template)[8 : 8 + shape.unit]


def pieces_of(shape: Shape, unit: bytes) -> tuple[int, int]:
    """The number in the pieces, and the unit with ones there."""
    number, value, done = int.from_bytes(unit, "little"), 0, 0
    for at, width in shape.pieces:
        ones = (1 << width) - 1
        value |= (number >> at & ones) << done
        number |= ones << at
        done += width
    return value, number


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    unit = draw(st.sampled_from((1, 2, 4, 8)))
    cuts = sorted(draw(st.sets(st.integers(0, 8 * unit), min_size=2, max_size=8)))
    pieces = [(low, high - low) for low, high in zip(cuts[::2], cuts[1::2], strict=False)][:4]
    pieces = draw(st.permutations(pieces))
    scale, bias = draw(st.integers(0, 63)), draw(st.integers(-(1 << 12), 1 << 12))
    return Shape(unit, tuple(pieces), draw(st.sampled_from(Range)), scale, bias)


@given(shape=shapes(), data=st.data())
def test_a_value_is_where_the_shape_says(shape: Shape, data: st.DataObject) -> None:
    most = min(1 << 10, 1 << 62 - min(shape.scale, 62))
    near = st.builds(lambda n, d: (n << shape.scale) + d, st.integers(-most, most - 1), st.integers(-1, 1))
    near = near.filter(lambda x: -(1 << 63) <= x < 1 << 63)
    x = data.draw(st.one_of(near, st.integers(-(1 << 63), (1 << 63) - 1)))
    value = x + shape.bias
    value -= (value + (1 << 63) >> 64) << 64
    scaled = value >> shape.scale
    low = {Range.SIGNED: -(1 << shape.width - 1), Range.UNSIGNED: 0}.get(shape.range)
    fits = low is None or (scaled << shape.scale == value and low <= scaled < low + (1 << shape.width))
    if shape.range is Range.UNSIGNED and shape.width == 64:
        fits = True  # a number of 64 bits has no sign
    if not fits:
        with pytest.raises(MachineError, match="too long for"):
            unit_with(shape, x)
        return
    found, others = pieces_of(shape, unit_with(shape, x))
    assert found == scaled & ((1 << shape.width) - 1)
    assert others == (1 << 8 * shape.unit) - 1


def words(code: bytes) -> list[int]:
    return [int.from_bytes(code[at : at + 8], "little") for at in range(0, len(code), 8)]


def test_sources_of_a_part() -> None:
    sources = (Source.LITERAL, Source.PC, Source.PAGE, Source.COUNT)
    relocs = [(field_kind(source, 1), 8 * at, 5) for at, source in enumerate(sources)]
    holes = [(32, 0, 5, field_kind(Source.PC, 1))]
    places = [(field_kind(source, 0), 40 + 4 * at, 12) for at, source in enumerate((Source.HOT, Source.COLD))]
    template = Given(bytes(48), bytes(16), pack_fixups(0, relocs + places, holes))
    code = joined(Host([DISTANCE, whole(8)]), template, [-3])
    assert words(code)[1:6] == [5, PC + 5, (PC & ~0xFFF) + 5, 1 + 5, PC + 2]
    assert [int.from_bytes(code[at : at + 4], "little", signed=True) for at in (48, 52)] == [12 - 40, 48 + 12 - 44]


def test_sources_of_stubs() -> None:
    """Two exits, to this page and to another one, behind the parts; then the stub that the entry check goes to."""
    stubs = {
        "entry": ((field_kind(Source.LEAVE, 0), 0, 0), (field_kind(Source.COUNT, 2), 4, 0)),
        "leave": ((field_kind(Source.PC, 1), 0, 0), (field_kind(Source.COUNT, 1), 8, 1)),
        "chainable": ((field_kind(Source.PC, 1), 0, 0), (field_kind(Source.JUMP, 0), 8, 0)),
        "indirect": ((field_kind(Source.PC, 1), 0, 0), (field_kind(Source.HOT, 0), 8, 16)),
    }
    exits = [(field_kind(Source.EXIT, 0), 8, 8), (field_kind(Source.EXIT, 0), 12, 0x1000)]
    template = Given(bytes(16), b"", pack_fixups(0, exits))
    code = joined(Host([DISTANCE, whole(8), whole(4)], stubs), template, count=1)
    ints = [int.from_bytes(code[at : at + 4], "little", signed=True) for at in range(0, len(code), 4)]
    chainable, indirect, leave = 24, 24 + 24, 24 + 24 + 32
    assert len(code) == leave + 16
    assert ints[:2] == [leave, 1]
    assert ints[4:6] == [chainable - 16, indirect - 20]
    assert words(code)[chainable // 8] == PC + 8
    assert ints[chainable // 4 + 2] == 16 - (chainable + 8)
    assert words(code)[indirect // 8] == PC + 0x1000
    assert ints[indirect // 4 + 2] == 16 - 8
    assert words(code)[leave // 8 :] == [PC, 2]


def test_exits_of_another_shape_are_not_chained() -> None:
    stubs = {"chainable": ((field_kind(Source.COUNT, 2), 0, 6),), "indirect": ((field_kind(Source.COUNT, 2), 0, 8),)}
    for shape, stub in ((0, 7), (1, 9)):
        template = Given(bytes(8), b"", pack_fixups(0, [(field_kind(Source.EXIT, shape), 0, 8)]))
        assert joined(Host([DISTANCE, DISTANCE, whole(4)], stubs), template)[16] == stub


def test_a_field_that_crosses_its_span_is_moved_by_what_does_nothing() -> None:
    """Or is not chained, where nothing of a length that would help does nothing."""
    stubs = {"chainable": ((field_kind(Source.COUNT, 1), 0, 6),), "indirect": ((field_kind(Source.COUNT, 1), 0, 8),)}
    template = Given(bytes(10), b"", pack_fixups(0, [(field_kind(Source.EXIT, 0), 6, 8)]))
    for nops, moved, stub in (((b"N", b"NN"), 2, 7), ((b"N", b"NNN"), 3, 7), ((b"N",), 0, 9), ((), 0, 9)):
        host = Host([DISTANCE, whole(4)], stubs, Chaining(0, 8))
        host.given = host.given._replace(nops=nops)
        code = joined(host, template)
        assert code[8 : 8 + moved] == b"N" * moved
        assert code[8 + moved + 10] == stub
        assert len(code) == 8 + moved + 10 + (24 if stub == 7 else 32) + 16


REFUSED = [
    ([whole(4, Range.SIGNED)], "shape 0, which is chained, must be relative and have 2 or 4 bytes"),
    ([whole(8, Range.SIGNED, relative=True)], "shape 0, which is chained, must be relative and have 2 or 4 bytes"),
    ([DISTANCE, whole(3)], "shape 1 has a unit of 3 bytes, and must have 1, 2, 4 or 8"),
    ([DISTANCE, Shape(4, ())], "shape 1 has 0 pieces, and must have 1 to 4"),
    ([DISTANCE, Shape(4, ((30, 3),))], "shape 1 has a piece of 3 bits at bit 30, which is not within its 32 bits"),
    ([DISTANCE, Shape(4, ((-1, 3),))], "shape 1 has a piece of 3 bits at bit -1, which is not within its 32 bits"),
    ([DISTANCE, Shape(4, ((0, 4), (3, 4)))], "shape 1 has pieces that overlap at bit 3"),
    ([DISTANCE, Shape(4, ((0, 0),))], "shape 1 has a piece of 0 bits at bit 0, which is not within its 32 bits"),
    ([DISTANCE, Shape(4, ((0, 4),), scale=64)], "shape 1 has scale 64, and must have 0 to 63"),
    ([DISTANCE, Shape(4, ((0, 4),), bias=1 << 63)], "shape 1 has bias 9223372036854775808, which is no signed number"),
    ([], "the shape that is chained is number 0; there are 0"),
    ([DISTANCE] * 33, "there are 33 shapes of fields; 32 is the most"),
]


@pytest.mark.parametrize(("shapes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_shapes_that_are_refused(shapes: Sequence[Shape], message: str) -> None:
    with pytest.raises(CodegenError, match=f"^its rules are refused: {message}"):
        Joiner(Host(shapes))


@pytest.mark.parametrize("span", [0, 2, 6, 32])
def test_spans_that_are_refused(span: int) -> None:
    with pytest.raises(CodegenError, match=f"the span of chaining is {span}; it is a power of two from 4 to 16"):
        Joiner(Host([DISTANCE], chaining=Chaining(0, span)))


@pytest.mark.parametrize("length", [0, 4])
def test_what_does_nothing_has_bytes_and_fewer_than_the_span(length: int) -> None:
    host = Host([DISTANCE])
    host.given = host.given._replace(nops=(bytes(length),))
    with pytest.raises(CodegenError, match=f"a code that does nothing has {length} bytes, and must have 1 to 3"):
        Joiner(host)


FIELDS = [
    (Source.LITERAL, 2, 0, "a field has shape 2; there are 2"),
    (Source.LITERAL, 1, 5, "a field of 4 bytes at offset 5 is not within the code's 8 bytes"),
    (Source.LITERAL, 0, 0, "a field's source LITERAL is no place in the block, and its shape 0 is relative"),
    (Source.HOT, 1, 0, "a field's source HOT is a place in the block, and its shape 1 is not relative"),
    (9, 1, 0, "a field has source 9, which there is not"),
]


@pytest.mark.parametrize(("source", "shape", "offset", "message"), FIELDS, ids=[row[-1] for row in FIELDS])
def test_fields_of_stubs_that_are_refused(source: int, shape: int, offset: int, message: str) -> None:
    stubs = {"entry": ((source | shape << 8, offset, 0),)}
    with pytest.raises(CodegenError, match=f"^its rules are refused: in stub entry {message}$"):
        Joiner(Host([DISTANCE, whole(4)], stubs))


def test_a_stub_has_at_most_eight_fields() -> None:
    stubs = {"leave": ((field_kind(Source.PC, 1), 0, 0),) * 9}
    with pytest.raises(CodegenError, match="stub leave has 9 fields; 8 is the most"):
        Joiner(Host([DISTANCE, whole(4)], stubs))


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(("source", "shape", "offset", "message"), FIELDS[:2], ids=[row[-1] for row in FIELDS[:2]])
def test_fields_of_an_instruction_that_are_refused(
    source: int, shape: int, offset: int, message: str, part: int
) -> None:
    """They would be filled in elsewhere in memory."""
    sizes = [16, 16]
    sizes[part] = 8
    template = Given(bytes(sizes[0]), bytes(sizes[1]), pack_fixups(part, [(source | shape << 8, offset, 0)]))
    with pytest.raises(CodegenError, match=f"^the host's code of one instruction is refused: {message}$"):
        joined(Host([DISTANCE, whole(4)]), template)
