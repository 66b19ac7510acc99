# SPDX-License-Identifier: Apache-2.0
"""What is kept of translations has a budget: it is forgotten when that is used up, no vCPU sees that, counted runs
repeat themselves whatever it is, and what is said to be kept in Python is there."""

from __future__ import annotations

import gc
import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from raddle.runtime._native import lib

from raddle import Machine
from raddle.codegen.backend import CodegenConfig
from raddle.debug.report import report
from raddle.plugins import registry
from raddle.translate.translator import Translator
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import MODE_PRIVILEGED

pytestmark = pytest.mark.host

GUESTS = Path(__file__).resolve().parents[2] / "guests/arm/prebuilt"
LIMIT = 240
PC = 0x8000
BUDGET = 2 << 20
A_BLOCK = 1 << 20
"""Bytes that one block may need at the most beyond the budget, with a chunk of the runtime's memory."""


def _translator(memo_size: int = 0) -> Translator:
    config = CodegenConfig(FRONT_END.state, FRONT_END.word, FRONT_END.page_bits, lambda callee: 1)
    host = registry().load(registry().host_for())
    return Translator(FRONT_END, host(config), None, memo_size)


# --- whole machines


def _run(mode: str, cpus: int, memo_size: str, sizes: list[int] | None = None) -> dict[str, Any]:
    """The statistics of the guest `words`, which runs ever new words; `sizes` gets the memo's after each supply."""
    options: dict[str, Any] = {"icount": "shift=auto"} if mode == "icount" else {}
    accelerator = f"tcg,memo-size={memo_size}" + (f",thread={mode}" if mode != "icount" else "")
    kernel = GUESTS / "words.elf"
    with Machine("virt", cpus=cpus, memory="64M", kernel=kernel, accelerator=accelerator, **options) as machine:
        engine: Any = machine.engine
        if sizes is not None:
            supply = engine.translator._supply

            def supply_and_measure(want: Any) -> None:
                supply(want)
                sizes.append(engine.translator.statistics()["memo_bytes"])

            engine.translator._supply = supply_and_measure
        machine.start()
        assert machine.wait(LIMIT) == 0
        assert machine.console.text.splitlines()[-1].startswith(f"PASS words cpus={cpus}")
        return dict(machine.stats())


@pytest.mark.parametrize("mode", ["multi", "single", "icount"])
def test_a_guest_runs_on_when_the_memo_is_full(mode: str) -> None:
    sizes: list[int] = []
    stats = _run(mode, 2, "2M", sizes)
    assert stats["memo_emptied"] >= 5
    assert BUDGET * 3 // 4 < max(sizes) <= BUDGET + 2 * A_BLOCK
    assert stats["memo_size"] == BUDGET
    text = report(stats)
    assert "of 2 MiB" in text
    assert f"  emptied{stats['memo_emptied']:>39}" in text


def test_counted_runs_are_the_same_whatever_the_budget() -> None:
    """The control is the number of times that the memo was emptied."""
    small, large = _run("icount", 2, "1M"), _run("icount", 2, "256M")
    assert small["memo_emptied"] > 5
    assert large["memo_emptied"] == 0
    assert [cpu["trace_hash"] for cpu in small["cpus"]] == [cpu["trace_hash"] for cpu in large["cpus"]]
    assert small["cpus"][0]["trace_hash"]


# --- the translator


def test_undefined_words_share_one_template() -> None:
    translator = _translator()
    translator.block(MODE_PRIVILEGED, (0xE7F000F0).to_bytes(4, "little"), PC)
    before = translator.statistics()
    tables = translator._tables.footprint + translator.joiner.footprint
    for number in range(1, 1000):
        word = 0xE7F000F0 | (number & 0xFFF) << 8 | number >> 12
        translator.block(MODE_PRIVILEGED, word.to_bytes(4, "little"), PC)
    after = translator.statistics()
    assert after["words"] - before["words"] == 999
    assert after["templates"] == before["templates"]
    assert translator._tables.footprint + translator.joiner.footprint == tables


def test_what_was_wanted_of_a_memo_that_is_no_more_is_not_supplied(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = _translator()
    begun = []
    monkeypatch.setattr(translator, "_supply_kind", lambda kind, want: begun.append(kind))
    of_now, of_then = (
        SimpleNamespace(kind=lib.RADDLE_WANT_MODE, mode=0, generation=0),
        SimpleNamespace(kind=lib.RADDLE_WANT_VARIANT, generation=7),
    )
    translator._supply(of_then)
    assert begun == []
    translator._supply(of_now)
    assert begun == [lib.RADDLE_WANT_MODE]


def _random_words(rng: random.Random) -> bytes:
    return rng.randbytes(128)


def _shifted_adds(rng: random.Random) -> bytes:
    """Words of few patterns, most of which are derived."""
    return b"".join((0xE0800000 | rng.getrandbits(20) & 0xF7F6F | 0x1000).to_bytes(4, "little") for _ in range(32))


@pytest.mark.parametrize("words", [_random_words, _shifted_adds])
@pytest.mark.parametrize("mode", [MODE_PRIVILEGED, MODE_PRIVILEGED | 1])
def test_what_python_keeps_is_what_it_says(words: Any, mode: int) -> None:
    """And no more than half beyond: memory is given out in pieces of fixed sizes, which tracemalloc does not see."""
    seed = f"{words.__name__} {mode}"

    def fill(translator: Translator) -> int:
        rng = random.Random(seed)
        for _ in range(400):
            translator.block(mode, words(rng), PC)
        return translator._tables.footprint + translator.joiner.footprint + translator.backend.footprint

    fill(_translator())  # what is kept once in a process is made now
    gc.collect()
    tracemalloc.start()
    try:
        translator = _translator()
        before = tracemalloc.get_traced_memory()[0]
        said = fill(translator)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < said < kept * 3 // 2
