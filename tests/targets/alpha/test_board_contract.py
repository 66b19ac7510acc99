# SPDX-License-Identifier: Apache-2.0
"""The `clipper` board passes the board contract."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import ClassVar

import pytest

from raddle.testing.board_contract import BoardContract
from raddle_target_alpha.assembler import BR, CALL_PAL, branch
from raddle_target_alpha.state import ZERO

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host


class TestClipper(BoardContract):
    target: ClassVar = "alpha"
    board: ClassVar = "clipper"

    @pytest.fixture
    def kernel(self, tmp_path: Path) -> Path:
        """A program that waits for interrupts for ever."""
        path = tmp_path / "sleeps"
        path.write_bytes(struct.pack("<2I", CALL_PAL["WTINT"], branch(BR, ZERO, -2)))
        return path
