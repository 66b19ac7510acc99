# SPDX-License-Identifier: Apache-2.0
"""The `virt` board passes the board contract, and the contract finds boards that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from raddle import Machine
from raddle.plugins import Board
from raddle.testing.board_contract import BoardContract
from raddle_target_arm.boards.virt import Virt

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[2] / "guests/arm/prebuilt"


class Contract(BoardContract):
    target: ClassVar = "arm"
    board: ClassVar = "virt"

    @pytest.fixture
    def kernel(self) -> Path:
        return GUESTS / "endless-sleep.elf"


class TestVirt(Contract):
    pass


class TestControls(Contract):
    """Boards with a mistake each. What the contract itself asks is asked here of nothing else."""

    test_declarations_agree: ClassVar = None
    test_regions_are_apart: ClassVar = None
    test_a_reset_powers_a_cpu_on: ClassVar = None
    test_it_can_be_paused_reset_and_ended: ClassVar = None
    run_seconds: ClassVar = 0.1
    limit_seconds: ClassVar = 5

    def test_an_option_that_does_not_exist(self, descriptor: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Virt, "TAKES", Virt.TAKES | {"kernal"})
        with pytest.raises(AssertionError, match=r"TAKES has \['kernal'\]; it may have kernel"):
            BoardContract.test_declarations_agree(self, descriptor)

    def test_nobody_is_on(self, make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Virt, "reset", lambda board: None)
        with pytest.raises(AssertionError, match="after a reset no CPU is on"):
            BoardContract.test_a_reset_powers_a_cpu_on(self, make)

    def test_regions_overlap(
        self, make: Callable[..., Machine], descriptor: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built = Virt.__init__

        def overlaps(board: Virt, *given: Any) -> None:
            built(board, *given)
            board.memory.add_ram("more", 0x4000_0000, 0x1000)

        monkeypatch.setattr(Virt, "__init__", overlaps)
        with pytest.raises(Exception, match=r"more.*RAM|RAM.*more"):
            BoardContract.test_regions_are_apart(self, make, descriptor)

    def test_the_program_ends(self, make: Callable[..., Machine]) -> None:
        def ends(**options: Any) -> Machine:
            return make(**{**options, "kernel": GUESTS / "hello.elf"})

        self.__dict__["run_seconds"] = 5.0
        with pytest.raises(AssertionError, match="the program has ended the machine"):
            BoardContract.test_it_can_be_paused_reset_and_ended(self, ends, "single")
