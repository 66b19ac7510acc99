# SPDX-License-Identifier: Apache-2.0
"""Messages of errors: one line that can be read, whatever a user has given."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import raddle
from raddle.cli.main import main
from raddle.errors import LIMIT, MachineError, RaddleError, UsageError, line, unknown
from raddle.notices import warn

GUEST = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"
LONG = "x" * 5000
WORDS = "many words " * 500
NASTY = "a\nb\r\tc\x1b[2J\x85\u2028d"
ESCAPED = r"a\nb\r\tc\x1b[2J\x85\u2028d"


@pytest.mark.parametrize(
    "error", [RaddleError, UsageError, MachineError, raddle.MemoryAccessError, raddle.ExpectTimeout]
)
def test_a_message_is_one_line_with_its_beginning_and_end(error: type[RaddleError]) -> None:
    for given in (LONG, WORDS):
        message = str(error(f"unknown machine {given!r}; did you mean virt?"))
        assert message.startswith(f"unknown machine '{given[:100]}")
        assert message.endswith("; did you mean virt?")
        assert len(message) == LIMIT
    assert str(error(f"cannot read {NASTY}: no")) == f"cannot read {ESCAPED}: no"
    assert str(error("two  spaces are a name's own")) == "two  spaces are a name's own"
    assert str(error("x" * LIMIT)) == "x" * LIMIT
    assert str(pickle.loads(pickle.dumps(error("once")))) == "once"


def test_names_of_plugins_and_files_are_lines() -> None:
    assert str(raddle.PluginError("target.a", f"cannot be imported: {NASTY}")) == (
        f"plug-in target.a: cannot be imported: {ESCAPED}"
    )


@pytest.mark.parametrize("name", ["board", "kernel", "accelerator", "serial", "icount", "rtc", "cpu", "target"])
@pytest.mark.parametrize("given", [LONG, f"no {NASTY}\udcff", f"{WORDS}\0"], ids=["long", "nasty", "words"])
def test_the_python_api_repeats_no_more_than_a_line(name: str, given: str) -> None:
    with pytest.raises(UsageError) as caught:
        raddle.Machine(**{"kernel": GUEST, name: given})
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= LIMIT


def test_neither_is_a_kernels_command_line_repeated() -> None:
    with pytest.raises(UsageError, match="is not text in UTF-8") as caught:
        raddle.Machine(kernel=GUEST, append=f"{LONG}\udcff")
    assert len(str(caught.value)) <= LIMIT


def printed(capfd: pytest.CaptureFixture[str]) -> str:
    (said,) = capfd.readouterr().err.splitlines()
    assert said.isprintable()
    return str(said)


@pytest.mark.parametrize(
    "words", [["-M", LONG], ["-kernel", LONG], [LONG], [f"-{LONG}"], ["-accel", WORDS], ["-d", WORDS]]
)
def test_the_command_prints_no_more_than_a_line(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", *words]) == 2
    assert len(printed(capfd)) <= len("raddle: ") + LIMIT


@pytest.mark.parametrize("words", [[LONG], ["info", LONG], ["info", f"--{LONG}"], ["fetch-demo-kernel", LONG, "x"]])
def test_neither_do_the_other_commands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert len(printed(capfd)) <= len("raddle: ") + LIMIT


@pytest.mark.parametrize("place", range(3))
def test_a_long_word_hides_no_other_mistake(place: int, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["-frobnicate", "-twiddle"]
    options.insert(place, f"-z{LONG}")
    assert main(["boot", *options, "-smp", LONG, "-m", "", "-zz"]) == 2
    said = printed(capfd)
    assert len(said) <= len("raddle: ") + LIMIT
    for option in ("-frobnicate", "-twiddle", "-zxxx", "-zz", "-smp cpus must be", "-m needs a size"):
        assert option in said


def test_of_many_mistakes_the_first_and_the_last_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    options = [f"-{name}{number}" for number in range(100) for name in ("frobnicate", "twiddle")]
    assert main(["boot", *options, f"-z{LONG}", "-m", "", "-smp", "x"]) == 2
    said = printed(capfd)
    assert len(said) <= len("raddle: ") + LIMIT
    for option in (*options[:20], "-smp cpus must be", "-m needs a size"):
        assert option in said


def test_a_line_is_cut_once() -> None:
    assert line(line(WORDS)) == line(WORDS)
    assert line(WORDS, 60) == f"{WORDS[:40]} ... {WORDS[-15:]}"


def test_warnings_are_lines(capfd: pytest.CaptureFixture[str]) -> None:
    warn(f"{LONG}\nis long")
    assert printed(capfd).endswith("xxx is long")


def test_a_line_keeps_what_it_can() -> None:
    assert line("short") == "short"
    assert len(line(LONG)) == LIMIT


def test_a_name_that_is_empty_is_said_to_be() -> None:
    assert (
        str(unknown("log item", "", ["int"])) == "log item without a name: is there a separator too many? (known: int)"
    )
    assert str(unknown("log item", "nit", ["int"])).startswith("unknown log item 'nit'; did you mean int?")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-accel ,,", "accelerator without a name: is there a separator too many? (known: tcg)"),
        ("-accel tcg,,", "--accel setting without a name: is there a separator too many?"),
        ("-rtc ,,", "-rtc setting without a name"),
        ("-d ,,", "log item without a name"),
        ("-m ,,", "-m needs a size of memory, as in -m 512M"),
        ("-m size=", "-m needs a size of memory, as in -m 512M"),
        ("-cpu ,,", "-cpu needs the name of a CPU model (-cpu help lists them)"),
    ],
)
def test_values_of_commas_alone(words: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "-kernel", str(GUEST), *words.split()]) == 2
    assert message in printed(capfd)
