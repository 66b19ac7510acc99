# SPDX-License-Identifier: Apache-2.0
"""The text format of litmus tests: what it says, and where a mistake is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.errors import UsageError
from raddle.litmus.files import load, names
from raddle.litmus.parser import parse
from raddle.litmus.program import Branch, Compute, Fence, Load, Store, StoreConditional

EVERYTHING = r"""Raddle all (* of it *)
"What there is"
{ x=0;
  y=0x10 }
 P0              | P1                  ;
 w[release] x 1  | r[acquire] r0 y     ;
 f[wmb]          | mov r1 (xor r0 r0)  ;
 w[] y+r1 r1     | r[] r2 x+r1         ;
                 | b[] r2 END          ;
                 | ll[] r3 x           ;
                 | sc[] r4 x 7         ;
                 | END:                ;
~exists (1:r0=1 /\ (x=2 \/ ~ 1:r2=0))
"""


def test_everything_is_read() -> None:
    test = parse(EVERYTHING.replace("w[] y+r1 r1 ", "w[] y 3     "))
    assert (test.name, test.comment, test.initial) == ("all", "What there is", {"x": 0, "y": 16})
    assert test.threads == (
        (Store("x", 1, "release"), Fence("wmb"), Store("y", 3)),
        (
            Load("r0", "y", "acquire"),
            Compute("r1", "xor", ("r0", "r0")),
            Load("r2", "x", "", "r1"),
            Branch("r2", 6),
            *load_linked(),
        ),
    )
    assert test.quantifier.word == "~exists"
    assert test.observed == ("1:r0", "1:r2", "x")
    assert test.condition({"1:r0": 1, "1:r2": 0, "x": 2})
    assert not test.condition({"1:r0": 1, "1:r2": 0, "x": 1})
    assert test.condition({"1:r0": 1, "1:r2": 1, "x": 1})


def load_linked() -> tuple[object, ...]:
    from raddle.litmus.program import LoadLinked

    return LoadLinked("r3", "x"), StoreConditional("r4", "x", 7)


def made(cells: str = " w[] x 1 | r[] r0 x ;", condition: str = "exists (1:r0=0)", state: str = "{ x=0; }") -> str:
    return f"Raddle T\n{state}\n P0 | P1 ;\n{cells}\n{condition}\n"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "expected Raddle and the test's name, not the end of the file"),
        ("X86 SB\n", "1:1", "expected 'Raddle' and the test's name"),
        ("Raddle\n", "1:1", "expected 'Raddle' and the test's name"),
        ("Raddle T\n", "2:1", "expected the initial state"),
        ("\ufeffRaddle T\n", "1:1", "the file begins with a byte-order mark: save it as UTF-8 without one"),
        ("Raddle T\n(* one *) (* two\n{ }\n", "2:11", "this comment does not end: '*)' is missing"),
        (made(condition="exists (x=0)\n(*"), "6:1", "this comment does not end"),
        ('Raddle T\n"no end \n{ }\n', "2:8", "which ends the description"),
        ('Raddle T\n"\n{ }\n', "2:2", "which ends the description"),
        (made(state="x=0"), "2:1", "expected '{'"),
        (made(state="{ x=0; x=1; }"), "2:8", "location 'x' is given twice"),
        (made(state="{ r0=0; }"), "2:3", "expected a location, not a register"),
        (made(state="{ x=4294967296; }"), "2:5", "at most 32 bits"),
        (made(state="{ x=0 y=1 }"), "2:7", "expected ';'"),
        ("Raddle T\n{ }\n P0 | P2 ;\n", "3:6", "expected the heading 'P1'"),
        ("Raddle T\n{ }\n P0 | P1 | P2 | P3 | P4 ;\n", "3:1", "1 to 4 threads, not 5"),
        (made(" w[] x 1 | r[] r0 x "), "4:20", "expected ';'"),
        (made(" w[] x 1 ;"), "4:1", "expected 2 cells"),
        (made(" w[] x 1 | load r0 x ;"), "4:12", "expected an instruction"),
        (made(" w[acquire] x 1 | r[] r0 x ;"), "4:4", "expected an order: release, not 'acquire'"),
        (made(" f[sync] | r[] r0 x ;"), "4:4", "expected a barrier: mb, rmb, wmb, isb"),
        (made(" w[] x 1 | r[] r0 x y ;"), "4:21", "expected the end of the instruction"),
        (made(" w[] x | r[] r0 x ;"), "4:8", "expected a register, r0 to r99, not the end"),
        (made(" w[] x 1 | b[] r0 END ;"), "4:19", "there is no label 'END'"),
        (made(" w[] x 1 | L: r[] r0 x ;\n | b[] r0 L;"), "5:11", "no loops"),
        (made(" w[] x 1 | L: r[] r0 x ;\n | L: ;"), "5:4", "label 'L' is defined twice"),
        (made(" w[] x r1 | r[] r0 x ;"), "5:1", "thread 0 reads r1 before it has written it"),
        (made(condition="exists (1:r1=0)"), "5:9", "thread 1 never writes r1"),
        (made(condition="exists (2:r0=0)"), "5:9", "expected a thread, 0 to 1"),
        (made(condition="exists (z=0)"), "5:9", "there is no location 'z'"),
        (made(condition="exists (1:r0=0"), "6:1", "expected ')'"),
        (made(condition="exists (1:r0=0) x"), "5:17", "expected the end of the condition"),
        (made(condition="exists " + "(" * 40 + "x=0" + ")" * 40), "5:40", "at most 32 levels of parentheses"),
        (made(condition="exists " + "~" * 40 + "x=0"), "5:40", "at most 32 levels of parentheses"),
        (made("".join(" w[] x 1 | ;\n" for _ in range(17))), "20:1", "at most 16 instructions"),
        (
            made("".join(f" w[] l{n} 1 | ;\n" for n in range(7)), condition="exists (x=0)"),
            "12:1",
            "at most 6 locations",
        ),
    ],
)
def test_a_mistake_is_named_with_line_and_column(text: str, place: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text, "t.litmus")
    assert str(raised.value).startswith(f"t.litmus:{place}: "), raised.value
    assert message in str(raised.value)


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 65536 characters"):
        parse("Raddle T\n" * 10_000)


def assert_read_or_refused(text: str) -> None:
    """No other exception, and no message of two lines."""
    message = ""
    try:
        parse(text)
    except UsageError as error:
        message = str(error)
    assert "\n" not in message


@given(st.text(alphabet='Raddle SB{}=;|[]()/\\~:xyr01wfmov\n *"P', max_size=200))
def test_any_text_is_a_test_or_an_error(text: str) -> None:
    for whole in (text, "Raddle T\n{ }\n P0 | P1 ;\n" + text, made(text), made(condition=text)):
        assert_read_or_refused(whole)


@given(st.data())
def test_damaged_tests_of_the_suite_are_tests_or_errors(data: st.DataObject) -> None:
    text = EVERYTHING
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    assert_read_or_refused(text)


@pytest.mark.parametrize("name", names())
def test_the_suite_is_read(name: str) -> None:
    assert load(name).name == name
