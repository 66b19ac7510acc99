# SPDX-License-Identifier: Apache-2.0
"""The decode-table language: what it means, what it refuses, and the decoder that comes out of it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raddle.ir.types import ANY_LITERAL, Hole, LiteralKind
from raddle.translate.decode import UNDEFINED, Function, Linear, Pattern, Table, TableError, check_names
from raddle.translate.families import Families
from raddle.translate.sharing import Sharing

FUNCTIONS: dict[str, Function] = {
    "value": lambda a: a,
    "negative": lambda a: -a,
    "joined": lambda a, b: a << 4 | b,
    "even": lambda a: int(a % 2 == 0),
}


def parse(text: str, width: int = 8) -> Table:
    return Table.parse(text, "test.dec", width, FUNCTIONS, pictures={"top": "11"}, constants={"seven": 7})


def pattern_of(line: str, word: int, width: int = 8) -> Pattern:
    pattern = parse(line, width).compile().decode(word)
    assert pattern is not None
    return pattern


def vars_of(pattern: Pattern, word: int) -> dict[str, object]:
    return dict(pattern.fields(word).__dict__)


def test_fields_are_joined_from_the_highest_bit() -> None:
    pattern = pattern_of("A a0bb a1ba", 0b1011_0110)
    assert vars_of(pattern, 0b1011_0110) == {"a": 0b100, "b": 0b111}


def test_ignored_bits_are_no_part_of_the_key() -> None:
    pattern = pattern_of("A 1-0- aaaa", 0b1101_0101)
    assert pattern.key_mask == 0b0000_1111
    assert vars_of(pattern, 0b1101_0101) == {"a": 5}


def test_constants_known_operands_and_holes() -> None:
    pattern = pattern_of("A aabb cccc x=3 y=-0x10 z=seven k=joined(a,b) h~joined(a,c) g~negative(c)", 0b1001_0110)
    assert vars_of(pattern, 0b1001_0110) == {
        "a": 2,
        "b": 1,
        "x": 3,
        "y": -16,
        "z": 7,
        "k": 0x21,
        "h": Hole(0, "h"),
        "g": Hole(1, "g"),
    }
    assert pattern.hole_names == ("h", "g")
    assert pattern.hole_values(0b1001_0110) == (0x26, -6)
    assert pattern.hole_values(0b1001_1111) == (0x2F, -15)
    assert pattern.key_mask == 0b1111_0000
    assert pattern.values(0b1001_0110)["h"] == 0x26


def test_a_field_that_a_hole_shares_with_a_known_operand_stays_in_the_key() -> None:
    assert pattern_of("A 0000 aaaa k=value(a) h~value(a)", 3).key_mask == 0b1111


def test_a_pattern_without_holes_has_none() -> None:
    assert pattern_of("A 0000 aaaa", 3).hole_values(3) == ()


def test_the_key_tells_patterns_apart_whose_masked_words_are_equal() -> None:
    decoder = parse("A 1aaa 0bbb h~value(b)\nB 0aaa 0000\n").compile()
    one, other = decoder.decode(0b1000_0000), decoder.decode(0b0000_0000)
    assert one is not None
    assert other is not None
    assert one.key(0b1001_0011) == one.key(0b1001_0100) != one.key(0b1010_0011)
    assert one.key(0b1001_0011) != other.key(0b0001_0000)


def test_conditions() -> None:
    decoder = parse("A 00aa bbbb a!=1 a!=2\nB 00aa bbbb a==1\nC 00aa bbbb a==2 b!=15\n").compile()
    names = {word: getattr(decoder.decode(word), "name", None) for word in range(256)}
    for word in range(64):
        expected = "ABCA"[word >> 4]
        assert names[word] == (None if word == 0x2F else expected)
    assert all(names[word] is None for word in range(64, 256))


def test_a_condition_on_a_field_in_pieces() -> None:
    decoder = parse("A a00a 0000 a!=2").compile()
    assert decoder.decode(0b1000_0000) is None
    assert decoder.decode(0b1001_0000) is not None


def test_a_required_condition_holds_for_each_following_line_with_the_field() -> None:
    decoder = parse("A 00cc 0000\n%require c!=3\nB 01cc 0000\nC 11dd 0000").compile()
    assert decoder.decode(0b0011_0000) is not None
    assert decoder.decode(0b0111_0000) is None
    assert decoder.decode(0b1111_0000) is not None


def test_a_predicate_makes_words_undefined_and_does_not_give_them_away() -> None:
    decoder = parse("A aaaa bbbb\n  B 0000 bbbb ?even(b)\n").compile()
    assert [getattr(decoder.decode(word), "name", None) for word in (0x10, 0x00, 0x01)] == ["A", "B", None]


def test_an_indented_line_wins_and_nests() -> None:
    text = "A aaaa bbbb\n    B 0aaa bbbb\n        C 00aa bbbb\n    UNDEFINED 1111 ----\nD 1111 0000\n"
    with pytest.raises(TableError, match=r"test\.dec:5: D and \w+ at test\.dec:\d match the same words"):
        parse(text).compile()
    decoder = parse(text.replace("D 1111 0000\n", "")).compile()
    names = [getattr(decoder.decode(top << 4), "name", None) for top in range(16)]
    assert names == ["C"] * 4 + ["B"] * 4 + ["A"] * 7 + [None]
    assert decoder.names == {"A", "B", "C"}


def test_pictures_are_inserted() -> None:
    assert pattern_of("A <top> aa bbbb", 0b1110_0001).mask == 0b1100_0000


def test_tables_are_joined_and_checked_together() -> None:
    first = parse("A 0000 aaaa")
    decoder = first.extend(parse("B 1aaa bbbb\n  C 1111 bbbb")).compile()
    assert [pattern.index for pattern in decoder.patterns] == [0, 1, 2]
    assert decoder.decode(0xF0).name == "C"  # type: ignore[union-attr]
    with pytest.raises(TableError, match="match the same words"):
        first.extend(parse("D 00-- aaaa")).compile()
    with pytest.raises(TableError, match="16-bit words cannot join 8-bit"):
        first.extend(parse("E 0000 0000 0000 0000", 16))


def test_names_must_be_those_of_the_semantics_functions() -> None:
    table, other = parse("A 0000 aaaa\nB 0001 aaaa\nUNDEFINED 0010 ----"), parse("C 0000 0000")
    table.check_names(["A", "B"])
    check_names([table, other], ["A", "B", "C"])
    with pytest.raises(TableError, match=r"test\.dec:2: there is no semantics function B"):
        table.check_names(["A"])
    with pytest.raises(TableError, match=r"test\.dec: no line for the semantics functions C, D"):
        table.check_names(["D", "A", "C", "B"])


REFUSED = [
    ("A 0000 aaa", "the picture of A has 7 bits of 8"),
    ("A 0000 aaaa 1", "the picture of A has 9 bits of 8"),
    ("A 0000 <none>", "nothing is given for <none>"),
    ("a 0000 aaaa", "'a' is no name of an instruction"),
    ("A 0000 aaaa x=none(a)", "unknown function none"),
    ("A 0000 aaaa x~none(a)", "unknown function none"),
    ("A 0000 aaaa ?none(a)", "unknown function none"),
    ("A 0000 aaaa x=value(b)", "value is given b, which is no field of the picture"),
    ("A 0000 aaaa x=joined(a)", "joined takes 2 fields, and is given 1"),
    ("A 0000 aaaa x=none", "no value is given for the constant none"),
    ("A 0000 aaaa a=1", "a is a field of the picture and cannot be given a value"),
    ("A 0000 aaaa a~value(a)", "a is a field of the picture and cannot be given a value"),
    ("A 0000 aaaa x=1 x=2", "x is given twice"),
    ("A 0000 aaaa x=1 x~value(a)", "x is given twice"),
    ("A 0000 aaaa b!=1", "the condition b!=1 is about no field of the picture"),
    ("A 0000 aaaa a!=16", "16 in a!=16 is wider than the field"),
    ("A 0000 aaaa a==1 a==2", "the condition a==2 is never true"),
    ("A 0000 aaaa a==1 a!=1", "the conditions of A exclude all its words"),
    ("A 0000 aaaa a<3", "cannot read 'a<3'"),
    ("A 0000 aaaa x=value(a", r"cannot read 'x=value\(a'"),
    ("UNDEFINED 0000 ---- x=1", "UNDEFINED has no operands"),
    ("  A 0000 aaaa", "indented, but there is no line that this one could be an exception to"),
    ("A\t0000 aaaa", "a tab; indent with spaces"),
    ("%demand c!=1", "the one directive is %require"),
    ("%require", "the one directive is %require"),
    ("%require c", "the one directive is %require"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_refused_lines(line: str, message: str) -> None:
    with pytest.raises(TableError, match=rf"^test\.dec:2: .*{message}"):
        parse("# a comment, and a good line after it\n" + line + "\n")


OVERLAPPING = [
    ("A 0000 aaaa\nB 0000 1111\n", r"test\.dec:2: B and A at test\.dec:1 match the same words"),
    ("A 0000 aaaa a!=15\nB 0000 111-\n", r"test\.dec:2: B and A at test\.dec:1 match the same words"),
    ("A 0000 aaaa\nA 0000 aaaa\n", r"test\.dec:2: A and A at test\.dec:1 match the same words"),
    ("A aaaa 0000\nB 1111 ----\n  C 1111 1---\n", r"test\.dec:2: B and A at test\.dec:1 match the same words"),
    ("A aaaa 0000\n  B 1111 ----\nC 1111 1111\n", r"test\.dec:3: C and B at test\.dec:2 match the same words"),
    ("A 0000 aaaa\n  B 1111 0000\n", r"test\.dec:2: B has no word in common with A at test\.dec:1 above it"),
]


@pytest.mark.parametrize(("text", "message"), OVERLAPPING)
def test_refused_tables(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        parse(text).compile()


# Trusted tables


def parse_trusted(text: str) -> Table:
    return Table.parse(text, "test.dec", 8, FUNCTIONS, constants={"seven": 7}, trusted=True)


def test_a_trusted_line_is_read_when_it_is_met() -> None:
    decoder = parse_trusted("A 0000 aaaa x~value(a)\nB 0001 aaaa x=none(a)\nC 0010 aaaa ?even(a)\n").compile()
    pattern = decoder.decode(0x03)
    assert pattern is not None
    assert (pattern.hole_names, pattern.hole_values(3), pattern.key_mask) == (("x",), (3,), 0)
    assert decoder.decode(0x21) is None
    with pytest.raises(TableError, match=r"test\.dec:2: unknown function none"):
        decoder.decode(0x10)


def test_the_patterns_of_a_trusted_table_are_read() -> None:
    table = parse_trusted("A 0000 aaaa x=seven\n  B 0000 0001")
    assert [sorted(pattern.operands()) for pattern in table.patterns] == [["a", "x"], []]
    assert table.compile().patterns == table.patterns


def test_a_trusted_table_must_still_have_pictures() -> None:
    with pytest.raises(TableError, match=r"test\.dec:1: the picture of A has 7 bits of 8"):
        parse_trusted("A 0000 aaa")


def test_overlaps_are_looked_for_unless_all_lines_are_trusted() -> None:
    text = "A 0000 aaaa\nB 0000 1111\n"
    parse_trusted(text).compile()
    with pytest.raises(TableError, match="match the same words"):
        parse_trusted(text).extend(parse("C 0001 0000")).compile()


lines = st.tuples(
    st.text("01-aab", min_size=6, max_size=6),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=2),
    st.integers(0, 2),
)


@given(st.lists(lines, min_size=1, max_size=7))
def test_decoder_and_overlaps_against_every_word(drawn: list[tuple[str, list[tuple[str, int]], int]]) -> None:
    """Random tables of 6-bit words: what is refused, and what each word decodes to, is what trying all lines says."""
    text = ""
    depth = -1
    parents: list[int] = []
    open_lines: list[int] = []
    for number, (picture, conditions, indent) in enumerate(drawn):
        depth = min(indent, depth + 1)
        del open_lines[depth:]
        parents.append(open_lines[-1] if open_lines else -1)
        open_lines.append(number)
        wanted = [
            f"{letter}!={value}"
            for letter, value in conditions
            if letter in picture and value >> picture.count(letter) == 0
        ]
        text += f"{'  ' * depth}P{number} {picture} {' '.join(wanted)}\n"
    try:
        table = parse(text, 6)
    except TableError:
        assume(False)
    matching = [{index for index, line in enumerate(table.patterns) if line.matches(word)} for word in range(64)]

    def ancestors(index: int) -> set[int]:
        return set() if parents[index] < 0 else {parents[index]} | ancestors(parents[index])

    apart = all(
        one in ancestors(other) or other in ancestors(one)
        for found in matching
        for one in found
        for other in found
        if one != other
    )
    joined = all(
        parent < 0 or any({index, parent} <= found for found in matching) for index, parent in enumerate(parents)
    )
    try:
        decoder = table.compile()
    except TableError:
        assert not (apart and joined)
        return
    assert apart
    assert joined
    trusting = Table.parse(text, "test.dec", 6, FUNCTIONS, trusted=True).compile()
    for word, found in enumerate(matching):
        pattern = decoder.decode(word)
        same = trusting.decode(word)
        assert (pattern and pattern.where) == (same and same.where)
        deepest = max(found, key=lambda index: len(ancestors(index)), default=None)
        assert (None if pattern is None else pattern.index) == deepest


def test_undefined_words_have_no_pattern() -> None:
    assert parse(f"{UNDEFINED} 0000 ----").compile().decode(0) is None


def test_a_family_is_of_one_number_where_a_predicate_may_fail_for_another() -> None:
    """Also for numbers beyond the registers that can be renamed: 0 to 7 here, of four bits."""
    table = Table.parse("A 0000 aaaa bbbb cccc ?even(a) ?value(b)", "test.dec", 16, FUNCTIONS | {"value": lambda a: 1})
    pattern = table.compile().decode(0x0246)
    assert pattern is not None
    fixed = Families(Sharing(pattern, ("a", "b", "c")), 8).fixed_bits(0x0246, open_literal=False)
    assert fixed == 0xFFFF_FF00


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Linear(lambda a: a), (0, 255)),
        (Linear(lambda a: (a ^ 128) - 128 << 2), (-512, 508)),
        (Linear(lambda a: 5 - a), (-250, 5)),
        (Linear(lambda a: a - 1 if a & 1 else -a, a=1), (-254, 254)),
        (Linear(lambda a: a << 22), (0, 255 << 22)),
        (lambda a: a * a % 100, (0, 96)),
        (Linear(lambda a: a << 24), ANY_LITERAL),
        (Linear(lambda a: 0x7FFF_FF80 + a), ANY_LITERAL),
    ],
    ids=["plain", "signed", "falling", "two ways", "large", "not linear", "too large", "over the edge"],
)
def test_the_range_of_a_literal(function: Function | Linear, expected: tuple[int, int]) -> None:
    """What it is in any word; a sum that leaves 32 signed bits can be anything."""
    table = Table.parse("A 1111 aaaa 0000 aaaa i~f(a)", "test.dec", 16, {"f": function})
    pattern = table.compile().decode(0xF000)
    assert pattern is not None
    hole = pattern.fields(0xF000).i
    assert hole.range == expected
    if expected != ANY_LITERAL:
        values = [pattern.hole_values(0xF000 | a >> 4 << 8 | a & 15)[0] for a in range(256)]
        assert (min(values), max(values)) == expected


@pytest.mark.parametrize(
    ("function", "word", "expected"),
    [
        (Linear(lambda a: (a & 15) << (a >> 4), a=0xF0), 0x4000, (0, 15 << 4, 1 << 4)),
        (Linear(lambda a: (a & 15) << (a >> 4), a=0xF0), 0x0000, (0, 15, 1)),
        (Linear(lambda a: (a & 15) << 2 * (a >> 4), a=0xF0), 0xF000, (*ANY_LITERAL, 1 << 30)),
        (Linear(lambda a: 8 - 2 * a), 0x0000, (-502, 8, 2)),
        (Linear(lambda a: 0), 0x0000, (0, 0, 1 << 31)),
    ],
    ids=["shifted", "not shifted", "over the edge", "falling", "constant"],
)
def test_the_literals_of_like_words(function: Linear, word: int, expected: tuple[int, int, int]) -> None:
    table = Table.parse("A aaaa 0000 0000 aaaa i~f(a)", "test.dec", 16, {"f": function})
    pattern = table.compile().decode(word)
    assert pattern is not None
    assert pattern.literals_near("i", word) == expected
    assert pattern.hole("i", LiteralKind(*expected)).range == expected[:2]
    assert pattern.hole("i", LiteralKind(*expected)).step == expected[2]


def test_families_are_told_apart_by_kinds_of_literals() -> None:
    """The first kind that has all literals of the family; none where no kind has, and where all families are alike."""
    text = "A 00 ssss aaaa bbbbbb i~shifted(a,s) j~value(b)"
    shifted = Linear(lambda a, s: a << s, s=15)
    table = Table.parse(text, "test.dec", 16, {"shifted": shifted, "value": Linear(lambda b: b)})
    pattern = table.compile().decode(0)
    assert pattern is not None
    small, even, large = LiteralKind(0, 15), LiteralKind(0, 255, 4), LiteralKind(0, 255)
    families = Families(Sharing(pattern), 8, (small, even, large))
    kinds = [families.literal_kinds(shift << 10) for shift in range(6)]
    assert kinds == [(("i", small),), (("i", large),), (("i", even),), (("i", even),), (("i", even),), ()]
    assert Families(Sharing(pattern), 8).literal_kinds(0) == ()


def test_the_range_of_a_literal_of_which_little_is_known() -> None:
    table = Table.parse("A 1111 aaaa aaaa aaaa i~f(a)", "test.dec", 16, {"f": lambda a: a})
    pattern = table.compile().decode(0xF000)
    assert pattern is not None
    assert pattern.fields(0xF000).i.range == ANY_LITERAL
    assert Hole(0, "i").range == ANY_LITERAL


def test_a_range_makes_no_other_hole() -> None:
    pattern = pattern_of("A 1111 aaaa i~value(a)", 0xF0)
    assert pattern.fields(0xF0).i == Hole(0, "i")
    assert hash(pattern.fields(0xF0).i) == hash(Hole(0, "i"))


@pytest.mark.parametrize(
    ("question", "operator"),
    [
        (bool, "condition"),
        (lambda hole: hole == 0, "=="),
        (lambda hole: hole != 0, "=="),
        (lambda hole: hole in (0, 1), "=="),
        (lambda hole: hole < 3, "comparison"),
        (lambda hole: hole >= 3, "comparison"),
        (lambda hole: hole + 1, r"\+"),
        (lambda hole: 1 << hole, "<<"),
        (lambda hole: ~hole, "~"),
        (range, r"int\(\)"),
        (lambda hole: [1, 2][hole], r"int\(\)"),
    ],
)
def test_python_cannot_look_at_a_hole(question, operator) -> None:
    """Else a semantics function would emit one arm of `if f.imm` for all words."""
    with pytest.raises(TypeError, match=rf"Python's {operator} cannot look at imm, which is a literal hole: .*imm="):
        question(Hole(0, "imm"))


def test_a_hole_says_what_it_never_is() -> None:
    hole = Hole(0, "amount", never=frozenset({0, 31}))
    assert hole
    assert hole != 0
    assert hole not in (0, 31)
    assert hole != "amount"
    with pytest.raises(TypeError, match="=="):
        _ = hole == 1


def test_an_operand_that_there_is_not() -> None:
    fields = pattern_of("A 1111 aaaa i~value(a)", 0xF0).fields(0xF0)
    with pytest.raises(AttributeError, match=r"the instruction has no operand 'dd'; it has .*i"):
        _ = fields.dd
    assert not hasattr(fields, "dd")
