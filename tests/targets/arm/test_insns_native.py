# SPDX-License-Identifier: Apache-2.0
"""Every integer instruction as generated code, from the translator to the native runtime, against the interpreter."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
if platform.machine() != "x86_64":
    pytest.skip("runs x86-64 code", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent))

from differential import LINES, InterpreterRunner, random_case

from native import NativeRunner
from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_ABT, MODE_FIQ, MODE_SVC, MODE_USR

CASES = 4
"""Cases of each line of a table, in each mode."""

MODES = {"svc": MODE_SVC, "usr": MODE_USR, "big-endian": MODE_SVC | CPSR_E}


@pytest.fixture(scope="module")
def native() -> Iterator[Any]:
    runner = NativeRunner()
    yield runner
    runner.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table", ["a32", "t16", "t32"])
def test_generated_code(table: str, mode: str, native: Any) -> None:
    interpreter = InterpreterRunner()
    for (of, name), patterns in LINES.items():
        if of != table or name in ("IT", "SWP", "SWPB"):
            continue  # IT would leave the ISB after the case in its block; swaps are not enabled here
        for pattern in patterns:
            random = Random(f"{table} {pattern.index} {mode} native")
            for _ in range(CASES):
                case = random_case(random, table, pattern, MODES[mode])
                if case is None:
                    continue
                expected = interpreter.run(case)
                if expected.cpsr & 0x1F in (MODE_ABT, MODE_FIQ):
                    continue  # the abort with which the native runner may end changes registers of these modes
                found = native.run(case).differences(expected)
                assert not found, f"{name} {case}: {found}"
