# SPDX-License-Identifier: Apache-2.0
"""The comparison of two trees' code finds what differs, and what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import identical

ROWS: list[dict[str, Any]] = [
    {"part": "listings", "name": "add", "code": "90"},
    {"part": "boot", "name": "0: 0x8000, 0", "code": "c3"},
    {"part": "boot", "name": "1: 0x8004, 0", "code": "c390"},
]


def dump(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_equal_dumps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [dump(tmp_path / name, ROWS) for name in ("one", "other")]
    assert identical.compare(*files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(", sha256")[0] for line in lines] == [
        "listings: 1 and 1, 1 bytes, 0 differ",
        "boot: 2 and 2, 3 bytes, 0 differ",
    ]


@pytest.mark.parametrize(
    "rows",
    [ROWS[1:], ROWS[:2], [*ROWS[:2], ROWS[2] | {"code": "c391"}], [*ROWS[:2], ROWS[2] | {"name": "1: 0x8008, 0"}]],
    ids=["a part", "a block", "a byte", "a name"],
)
def test_dumps_that_differ(rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = dump(tmp_path / "one", ROWS), dump(tmp_path / "other", rows)
    assert identical.compare(*files) == identical.compare(*reversed(files)) == 1
    assert capsys.readouterr().out.count("1 differ") == 2


def test_a_dump_has_the_golden_code() -> None:
    rows = list(identical._listings())
    assert len(rows) > 60
    assert all(row["code"] for row in rows)
