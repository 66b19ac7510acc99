# SPDX-License-Identifier: Apache-2.0
"""Fields as data: the runtime puts values into the bits that a host's shapes name, or says that they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.codegen.allocation import CodegenError
from raddle.codegen.backend import BackEnd, CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.faults import SET_UP, of_the_host, package
from raddle.codegen.fields import Chaining, Range, Reloc, Shape, Source, field_kind, pack_fixups, whole
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Template, Variant, pack_traits
from raddle.errors import MachineError
from raddle.ir.builder import Instruction, Local
from raddle.ir.types import Field, Hole, StateLayout, Type

PC = 0x1_2345_6788
SIZE = 4
FILLED = (1 << 64) - 1
CHAINING = Chaining(0, 4)
DISTANCE = whole(4, Range.SIGNED, relative=True)


class Given(Template):
    """Code that is given, with its fields."""

    def __init__(
        self,
        hot: bytes,
        cold: bytes = b"",
        fixups: bytes = b"",
        ends: bool = True,
        holes: Mapping[int, Hole] | None = None,
    ) -> None:
        super().__init__(SIZE, 0, 0, ends)
        self._holes = holes
        self.code = Variant(hot, cold, fixups, pack_traits(0, 0, 0, ends, False))

    @property
    def holes(self) -> Mapping[int, Hole] | None:
        return self._holes

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
    shape = shape._replace(range=Range.MODULO) if shape.range is Range.ANY else shape
    if not fits:
        with pytest.raises(MachineError):
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
    (
        [DISTANCE, Shape(4, ((0, 4),), bias=1 << 63)],
        "shape 1 has bias 9223372036854775808, which is not a signed number",
    ),
    ([whole(4, relative=True)], "shape 0, which is chained, must have range SIGNED or UNSIGNED: it is the reach of"),
    ([DISTANCE, whole(4, Range.MODULO, relative=True)], "shape 1 is relative and has range MODULO"),
    ([], "chaining names shape 0, but there are only 0, numbered from 0"),
    ([DISTANCE] * 33, "there are 33 shapes of fields; at most 32 are allowed"),
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
    with pytest.raises(CodegenError, match=f"a nop has {length} bytes, and must have 1 to 3"):
        Joiner(host)


FIELDS = [
    (Source.LITERAL, 2, 0, "a field has shape 2, but there are only 2, numbered from 0"),
    (Source.LITERAL, 1, 5, "a field of 4 bytes at offset 5 is not within the code's 8 bytes"),
    (Source.LITERAL, 0, 0, "a field's source LITERAL is no place in the block, and its shape 0 is relative"),
    (Source.HOT, 1, 0, "a field's source HOT is a place in the block, and its shape 1 is not relative"),
    (9, 1, 0, "a field has source 9, which does not exist"),
]


@pytest.mark.parametrize(("source", "shape", "offset", "message"), FIELDS, ids=[row[-1] for row in FIELDS])
def test_fields_of_stubs_that_are_refused(source: int, shape: int, offset: int, message: str) -> None:
    stubs = {"entry": ((source | shape << 8, offset, 0),)}
    with pytest.raises(CodegenError, match=f"^its rules are refused: in stub entry {message}$"):
        Joiner(Host([DISTANCE, whole(4)], stubs))


def test_a_stub_has_at_most_eight_fields() -> None:
    stubs = {"leave": ((field_kind(Source.PC, 1), 0, 0),) * 9}
    with pytest.raises(CodegenError, match="stub leave has 9 fields; at most 8 are allowed"):
        Joiner(Host([DISTANCE, whole(4)], stubs))


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(("source", "shape", "offset", "message"), FIELDS, ids=[row[-1] for row in FIELDS])
def test_fields_of_an_instruction_that_are_refused(
    source: int, shape: int, offset: int, message: str, part: int
) -> None:
    """They would be filled in elsewhere in memory."""
    sizes = [16, 16]
    sizes[part] = 8
    template = Given(bytes(sizes[0]), bytes(sizes[1]), pack_fixups(part, [(source | shape << 8, offset, 0)]))
    with pytest.raises(MachineError, match=f"^the host's package [a-z_]+ makes code that is refused: {message}$"):
        joined(Host([DISTANCE, whole(4)]), template)


def test_the_code_that_a_host_gives_with_its_rules_is_refused_in_one_sentence() -> None:
    """It is what a block falls through by. The message names the package once, as for any other code."""
    host = Host([DISTANCE, whole(4)])
    misplaced = Given(bytes(8), b"", pack_fixups(0, [(field_kind(Source.LITERAL, 1), 6, 0)]))
    host.given = host.given._replace(falls_through=misplaced)
    with pytest.raises(MachineError) as raised, of_the_host(Host, SET_UP):
        Joiner(host)
    assert str(raised.value) == (
        f"{package(Host)} makes code that is refused: a field of 4 bytes at offset 6 is not within the code's 8 bytes"
    )


def test_a_source_that_means_nothing_there_is_refused() -> None:
    """The runtime would fill in the number that the field gives."""
    for source in (Source.COLD, Source.EXIT, Source.JUMP):
        with pytest.raises(CodegenError, match=f"in stub entry a field has source {source.name}, which has no meaning"):
            Joiner(Host([DISTANCE], {"entry": ((field_kind(source, 0), 0, 0),)}))
    for source in (Source.JUMP, Source.LEAVE):
        template = Given(bytes(8), b"", pack_fixups(0, [(field_kind(source, 0), 0, 0)]))
        with pytest.raises(
            MachineError, match=f"refused: a field has source {source.name}, which has no meaning there"
        ):
            joined(Host([DISTANCE]), template)


def test_fields_that_overlap_are_refused() -> None:
    halves = Shape(4, ((0, 16),), Range.MODULO), Shape(4, ((16, 16),), Range.MODULO), Shape(4, ((15, 2),), Range.MODULO)
    relocs = [(field_kind(Source.LITERAL, number), 4, 1) for number in (1, 2)]
    joined(Host([DISTANCE, *halves]), Given(bytes(8), b"", pack_fixups(0, relocs)))
    relocs.append((field_kind(Source.LITERAL, 3), 4, 1))
    with pytest.raises(MachineError, match="a field of shape 3 at offset 4 overlaps another one"):
        joined(Host([DISTANCE, *halves]), Given(bytes(8), b"", pack_fixups(0, relocs)))


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("offsets", [(4, 4), (4, 2), (2, 4), (0, 3)], ids=str)
def test_fields_that_overlap_in_a_later_instruction_are_refused(offsets: tuple[int, int], part: int) -> None:
    """It has the same fields as an earlier one, in which they are apart."""
    joiner = Joiner(Host([DISTANCE, whole(4)]))

    def put(places: tuple[int, int]) -> None:
        fixups = pack_fixups(part, [(field_kind(Source.LITERAL, 1), offset, 1) for offset in places])
        joiner.enter(None, 0, Given(bytes(8), bytes(8), fixups), [])

    put((0, 4))
    put((4, 0))
    message = f"a field of shape 1 at offset {offsets[1]} overlaps another one"
    with pytest.raises(MachineError, match=f"{package(Host)} makes code that is refused: {message}"):
        put(offsets)


SMALL = Hole(0, "imm", lambda: (-8, 7))
AMOUNT = Hole(0, "amount", lambda: (0, 31))
PAGES = Hole(0, "pages", lambda: (0, 0xFFF000), step=0x1000)
ANY = Hole(0, "imm")
LITERALS = [
    (ANY, whole(4), ""),
    (ANY, whole(2), "shape 1 leaves out bits 16 to 31 of literal imm, which is -2147483648 to 2147483647"),
    (ANY, whole(2, Range.MODULO), ""),
    (ANY, Shape(4, ((0, 32),), scale=1), "shape 1 leaves out bit 0 of literal imm, which is -2147483648 to 2147483647"),
    (ANY, whole(4, Range.SIGNED), ""),
    (ANY, whole(4, Range.UNSIGNED), "shape 1, of 32 bits unsigned, does not hold literal imm, which is -2147483648 to"),
    (SMALL, Shape(1, ((0, 4),)), ""),
    (SMALL, Shape(1, ((0, 3),)), "shape 1 leaves out bit 3 of literal imm, which is -8 to 7"),
    (SMALL, Shape(1, ((0, 4),), Range.SIGNED), ""),
    (
        SMALL,
        Shape(1, ((0, 4),), Range.SIGNED, bias=1),
        "shape 1, of 4 bits signed, does not hold literal imm, which is",
    ),
    (SMALL, Shape(1, ((0, 4),), bias=1), "shape 1 leaves out bit 4 of literal imm, which is -8 to 7"),
    (AMOUNT, Shape(1, ((0, 5),)), ""),
    (AMOUNT, Shape(1, ((0, 5),), Range.UNSIGNED), ""),
    (
        AMOUNT,
        Shape(1, ((0, 4),), Range.UNSIGNED),
        "shape 1, of 4 bits unsigned, does not hold literal amount, which is",
    ),
    (PAGES, Shape(4, ((0, 12),), scale=12), ""),
    (PAGES, Shape(4, ((0, 12),), Range.UNSIGNED, scale=12), ""),
    (PAGES, Shape(4, ((0, 11),), scale=12), "shape 1 leaves out bit 23 of literal pages, which is 0 to 16773120"),
    (
        PAGES,
        Shape(4, ((0, 12),), Range.UNSIGNED, scale=13),
        "shape 1 holds multiples of 8192, and literal pages, which",
    ),
]


@pytest.mark.parametrize(("hole", "shape", "message"), LITERALS)
@pytest.mark.parametrize("part", [0, 1])
def test_a_shape_holds_each_value_of_a_literal(hole: Hole, shape: Shape, message: str, part: int) -> None:
    """Whatever the word at hand has: words with other literals share the template."""
    fixups = pack_fixups(part, [], [(0, 0, 0, field_kind(Source.LITERAL, 1))])
    template, host = Given(bytes(8), bytes(8), fixups, holes={0: hole}), Host([DISTANCE, shape])
    if not message:
        joined(host, template, [0])
        return
    with pytest.raises(MachineError, match=f"^the host's package [a-z_]+ makes code that is refused: {message}"):
        joined(host, template, [0])


def test_parts_hold_all_of_a_literal_together() -> None:
    low, high = whole(2), Shape(2, ((0, 16),), scale=16)
    for shapes, holes in (
        ([low, high], [(0, 0), (2, 0)]),
        ([low, low], [(0, 0), (2, 0)]),
        ([low, high], [(0, 0), (2, 4)]),
    ):
        fixups = pack_fixups(
            0, [], [(at, 0, x, field_kind(Source.LITERAL, number)) for number, (at, x) in enumerate(holes, 1)]
        )
        host, template = Host([DISTANCE, *shapes]), Given(bytes(8), b"", fixups, holes={0: ANY})
        if shapes[1] is high and holes[1][1] == 0:
            assert joined(host, template, [0x12345678])[8:12] == bytes.fromhex("78563412")
        else:  # twice the same half, or halves of two numbers
            with pytest.raises(MachineError, match=r"leaves? out bits (16 to 31|0 to 15) of literal imm"):
                joined(host, template, [0])


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (Shape(2, ((0, 8),), Range.MODULO, scale=16), ""),
        (Shape(2, ((0, 5),), Range.MODULO), "shape 1 leaves out bits 16 to 31 of literal imm"),
        (Shape(2, ((0, 8),), Range.MODULO, scale=20), "shapes 1, 2 leave out bits 16 to 19 of literal imm"),
    ],
)
def test_bits_above_the_highest_part_may_be_dropped(beside: Shape, message: str) -> None:
    """And only those: a field of low bits says nothing of the others."""
    fixups = pack_fixups(0, [], [(at, 0, 0, field_kind(Source.LITERAL, 1 + at // 2)) for at in (0, 2)])
    host, template = Host([DISTANCE, whole(2), beside]), Given(bytes(8), b"", fixups, holes={0: ANY})
    if not message:
        assert joined(host, template, [0x12345678])[8:12] == bytes.fromhex("78563400")
        return
    with pytest.raises(MachineError, match=message):
        joined(host, template, [0])


def test_a_literal_that_the_instruction_has_not_is_refused() -> None:
    fixups = pack_fixups(0, [], [(0, 3, 0, field_kind(Source.LITERAL, 1))])
    with pytest.raises(MachineError, match="a field holds literal number 3, which the instruction does not have"):
        joined(Host([DISTANCE, whole(4)]), Given(bytes(8), b"", fixups, holes={0: ANY}), [0])


IN_STUBS = [
    (Source.PC, whole(8), 0, ""),
    (Source.PC, whole(4), 0, "shape 1 leaves out bits 32 to 63 of a guest address, which is 0 to 18446744073709551615"),
    (Source.PC, whole(4, Range.MODULO), 0, ""),
    (Source.PC, whole(4, Range.UNSIGNED), 0, "shape 1, of 32 bits unsigned, does not hold a guest address, which is 0"),
    (Source.PAGE, Shape(8, ((0, 52),), scale=12), 0, ""),
    (Source.PAGE, Shape(8, ((0, 52),), scale=12), 4, "shape 1 leaves out bits 2 to 11 of the address of a page, which"),
    (Source.COUNT, whole(1), 0, ""),
    (Source.COUNT, Shape(1, ((0, 6),)), 0, "shape 1 leaves out bit 6 of the number of instructions, which is 1 to 66"),
    (Source.COUNT, Shape(1, ((0, 2),), Range.UNSIGNED), 0, ""),
    (Source.COUNT, whole(1, Range.UNSIGNED), 255, "shape 1, of 8 bits unsigned, does not hold the number of instruct"),
    (Source.LITERAL, whole(1), 255, ""),
    (Source.LITERAL, whole(1), 256, "shape 1 leaves out bit 8 of the number 256"),
    (Source.LITERAL, whole(1), -129, "shape 1 leaves out bit 8 of the number -129"),
    (Source.LITERAL, whole(1, Range.SIGNED), 128, "shape 1, of 8 bits signed, does not hold the number 128"),
    (Source.HOT, whole(4, relative=True), 0, ""),
    (
        Source.HOT,
        whole(2, relative=True),
        0,
        "shape 1 leaves out bits 16 to 31 of a distance, which is 0 to 4294967295",
    ),
    (Source.HOT, whole(2, Range.SIGNED, relative=True), 0, ""),
]


@pytest.mark.parametrize(("source", "shape", "x", "message"), IN_STUBS)
@pytest.mark.parametrize("stub", ["entry", "leave", "chainable", "indirect"])
def test_a_shape_holds_what_a_stub_may_have_there(
    source: Source, shape: Shape, x: int, message: str, stub: str
) -> None:
    host = Host([DISTANCE, shape], {stub: ((field_kind(source, 1), 0, x),)})
    if not message:
        Joiner(host)
        return
    with pytest.raises(CodegenError, match=f"^its rules are refused: in stub {stub} {message}"):
        Joiner(host)


def test_a_distance_that_does_not_fit_is_named() -> None:
    near = Shape(4, ((0, 3),), Range.SIGNED, relative=True)
    template = Given(bytes(8), b"", pack_fixups(0, [(field_kind(Source.HOT, 1), 0, 4)]))
    with pytest.raises(
        MachineError,
        match=r"^the host's package [a-z_]+ makes code .*: source HOT, shape 1 \(3 bits, "
        r"signed\), distance 4: a mistake in the host's package",
    ):
        joined(Host([DISTANCE, near]), template)
