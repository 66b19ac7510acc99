# SPDX-License-Identifier: Apache-2.0
"""Golden listings: the host code of common guest instructions and of IR, so that worse code shows in review.

``python tests/hosts/x86_64/test_listings.py`` writes the listings anew. A file in ``listings/ir/`` begins with the IR;
a new one needs nothing else. Those in ``listings/newest/ir/`` are for a CPU with all optional features.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.features import BASELINE, Features

pytest.importorskip("capstone")
sys.path.insert(0, str(Path(__file__).parents[1]))
from golden import CASES, Golden, ir_of, parse_ir

GOLDEN: Final = Golden(Path(__file__).with_name("listings"), lambda config: X86BackEnd(config, BASELINE))
NEWEST: Final = Golden(
    GOLDEN.directory / "newest", lambda config: X86BackEnd(config, Features(*[True] * len(Features._fields)))
)
IR: Final = GOLDEN.ir
block_of: Final = GOLDEN.block_of
ir_code: Final = GOLDEN.ir_code
assert parse_ir


@pytest.mark.parametrize(("table", "name"), CASES)
def test_listing(table: str, name: str) -> None:
    assert GOLDEN.listing(table, name) == GOLDEN.file_of(table, name).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted(GOLDEN.ir.glob("*.txt")), ids=lambda file: file.stem)
def test_ir_listing(file: Path) -> None:
    assert GOLDEN.ir_listing(ir_of(file)) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted(NEWEST.ir.glob("*.txt")), ids=lambda file: file.stem)
def test_newest_ir_listing(file: Path) -> None:
    assert NEWEST.ir_listing(ir_of(file)) == file.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write()
    NEWEST.write_ir()
