# SPDX-License-Identifier: Apache-2.0
"""The decode table, read in full: no overlaps, a function for every name, and what the encodings mean by binutils."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from raddle.testing.differential import words
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode, insns

DUMP = "alpha-linux-gnu-objdump"
OTHER_NAMES = {
    "ADDL": {"addl", "sextl"},
    "ORNOT": {"ornot", "not"},
    "LDQ_U": {"ldq_u", "unop"},
    "JSR_COROUTINE": {"jcr"},
    "BIC": {"andnot", "bic"},
    "BIS": {"or", "bis", "mov", "nop", "unop", "clr"},
    "RDUNIQUE": {"rduniq"},
    "WRUNIQUE": {"wruniq"},
    "CPYS": {"cpys", "fabs", "fmov", "fnop", "fclr"},
    "CPYSN": {"cpysn", "fneg"},
    **{name: {name.lower(), "call_pal"} for name in insns.PAL if name not in ("RDUNIQUE", "WRUNIQUE")},
}
"""As binutils writes them."""
STRICTER = {"FETCH", "FETCH_M", "ECB", "WH64", "WH64EN", "IMPLVER", "SEXTB", "SEXTW", "MT_FPCR", "MF_FPCR"}
"""Where binutils asks for more of bits that the manual ignores, or knows no literal."""


def test_the_table_has_no_overlaps_and_a_function_for_every_name() -> None:
    table = decode.table()
    table.compile()
    table.check_names(insns.SEMANTICS)


def objdump(code: bytes, directory: Path) -> list[str]:
    """The mnemonic of each word."""
    path = directory / "code.bin"
    path.write_bytes(code)
    command = [DUMP, "-D", "-z", "-b", "binary", "-m", "alpha:ev6", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split("\t")[2].split()[0] for line in lines if line[:1] == " " and line.count("\t") >= 2]


def qualified(line: Pattern, word: int) -> str:
    """The name as binutils writes it, with its qualifiers."""
    values = line.values(word)
    traps, rounding = values.get("t", 0), "cm d"[values.get("r", 2)].strip()
    precise = "v" if line.name in ("CVTTQ", "CVTGQ", "CVTQL") else "u"
    qualifiers = "".join(letter for letter, bit in (("s", 4), (precise, 1), ("i", 2)) if traps & bit) + rounding
    return line.name.lower().replace("_v", "/v") + (f"/{qualifiers}" if qualifiers else "")


@pytest.mark.peer(DUMP)
def test_the_encodings_are_those_of_binutils(tmp_path: Path) -> None:
    lines = list(words(decode.alpha(), Random(1), 5))
    mnemonics = objdump(b"".join(word.to_bytes(4, "little") for _, word in lines), tmp_path)
    for (line, word), mnemonic in zip(lines, mnemonics, strict=True):
        if line.name in STRICTER and mnemonic == ".long":
            continue
        names = OTHER_NAMES.get(line.name) or {qualified(line, word)}
        assert names & {mnemonic, mnemonic.replace("neg", "sub")}, f"{word:#x} is {mnemonic}, not {names}"
