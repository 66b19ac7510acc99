# SPDX-License-Identifier: Apache-2.0
"""`raddle boot` ends at a signal though a vCPU's thread or a callback never comes back, and says where it is."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

KERNEL = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"
LIMIT = 60

BOOT = """
import os, sys
from raddle.cli import boot
from raddle.cli.main import main
boot.ABANDONED = 0.25
def say():
    os.write(1, b"stuck")
{stuck}
sys.exit(main(["boot", "-nographic", "-kernel", {kernel!r}, "-pidfile", {pid_file!r}, *{options!r}]))
"""

DEVICE = """
from raddle.devices import held_output, pl011
def send(self, *_):
    say()
    while True:
        pass
{method} = send
"""
TIMER = """
from raddle.machine.machine import Machine
start = Machine.start
def starts(machine, **options):
    def expired():
        say()
        while True:
            pass
    machine.engine.timer(expired).set(0)
    start(machine, **options)
Machine.start = starts
"""
ROUTINE = """
from raddle.ir.builder import python
from raddle_target_arm.plugin import load
front_end = load("cortex-a15")
def tlb_fill(b):
    b.call(python("say"))
    again = b.label()
    b.br(again)
    b.bind(again)
    b.br(again)
front_end.routines = {**front_end.routines, "tlb_fill": tlb_fill}
front_end.python_helpers = {**front_end.python_helpers, "say": lambda cpu: say()}
import raddle_target_arm.plugin as plugin
from raddle.plugins import Registry
Registry.front_end = lambda *_: front_end
"""


@pytest.mark.parametrize("options", [[], ["-icount", "shift=2"]], ids=["multi", "icount"])
@pytest.mark.parametrize(
    ("stuck", "where"),
    [
        pytest.param(DEVICE.format(method="pl011.PL011.write"), "is in send (<string>, line ", id="device"),
        pytest.param(
            DEVICE.format(method="held_output.HeldOutput._flush"),
            "is in send (<string>, line ",
            id="settling",
        ),
        pytest.param(TIMER, "is in starts.<locals>.expired (<string>, line ", id="timer"),
        pytest.param(ROUTINE, "is in translated code or the runtime", id="native"),
    ],
)
def test_one_signal_ends_it(stuck: str, where: str, options: list[str], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = BOOT.format(stuck=stuck, kernel=str(KERNEL), pid_file=str(pid_file), options=options)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        seen, deadline = b"", time.monotonic() + LIMIT
        while b"stuck" not in seen:
            assert select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0], "it is not stuck"
            piece = child.stdout.read1()  # type: ignore[attr-defined]
            assert piece, child.communicate()[1].decode()
            seen += piece
        assert pid_file.exists()
        child.send_signal(signal.SIGTERM)
        errors = child.communicate(timeout=LIMIT)[1].decode()
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 128 + signal.SIGTERM
    assert "the machine has not ended 0.25 seconds after the signal; exiting anyway: " in errors
    assert where in errors
    assert not pid_file.exists()
