# SPDX-License-Identifier: Apache-2.0
"""The timers' thread runs vCPUs that sleep: for Python it is their thread meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests import patience

from raddle import Machine, workers

pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests"
LIMIT = patience.seconds(20)


def test_python_takes_the_timers_thread_for_the_vcpus() -> None:
    seen: list[tuple[bool, ...]] = []
    lent = threading.Event()

    def look(cpu: Any, *_: object) -> None:
        if lent.is_set() or not cpu.borrower:
            return
        done: list[int] = []
        cpu.run_on_cpu(lambda: done.append(threading.get_ident()))
        engine = cpu.engine
        where = f"vCPU {cpu.index} is in Lifecycle.unanswered "
        seen.append(
            (
                threading.get_ident() != cpu.thread.ident,
                workers.own(),
                engine.current_cpu is cpu,
                engine.inside,
                done == [threading.get_ident()],
                any(place.startswith(where) for place in engine.unanswered()),
            )
        )
        lent.set()
        machine.pause()  # from within: it must not wait for this vCPU

    kernel = GUESTS / "alpha/prebuilt/ticks.elf"
    with Machine("alpha/clipper", cpus=2, memory="64M", kernel=kernel, accelerator="tcg,thread=multi") as machine:
        machine.add_block_hook(look)
        machine.start()
        assert lent.wait(LIMIT), "no vCPU is lent"
        machine.pause()
        assert not any(cpu.borrower for cpu in machine.cpus)
    assert seen == [(True,) * 6]
