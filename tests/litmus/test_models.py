# SPDX-License-Identifier: Apache-2.0
"""The models of memory say of the classic tests what is published of them."""

from __future__ import annotations

from typing import Final

import pytest

from raddle.errors import UsageError
from raddle.litmus.executions import outcomes
from raddle.litmus.files import load
from raddle.litmus.models import known
from raddle.litmus.parser import parse
from raddle.plugins import registry

MODELS: Final = known(registry())

SDM = "Intel SDM 3A, 8.2.3"
TSO = "Owens, Sarkar, Sewell: A better x86 memory model: x86-TSO (TPHOLs 2009)"
POP = "Pulte, Flur, Deacon, French, Sarkar, Sewell: Simplifying ARM concurrency (POPL 2018)"
DDI = "Arm DDI 0487, B2.3 and K14"
TUTORIAL = "Maranget, Sarkar, Sewell: A tutorial introduction to the ARM and POWER relaxed memory models (2012)"
CATS = "Alglave, Maranget, Tautschnig: Herding cats (TOPLAS 2014)"
HANDBOOK = "Alpha Architecture Handbook, version 4, 5.6.2"
RISOTTO = "Gouicem et al.: Risotto: a dynamic binary translator for weak memory model architectures (ASPLOS 2023)"
DEFINITION = "the definition of sequential consistency"

ALLOWED, FORBIDDEN = True, False

PUBLISHED: Final = [
    ("SB", "sc", FORBIDDEN, DEFINITION),
    ("MP", "sc", FORBIDDEN, DEFINITION),
    ("LB", "sc", FORBIDDEN, DEFINITION),
    ("IRIW", "sc", FORBIDDEN, DEFINITION),
    ("2+2W", "sc", FORBIDDEN, DEFINITION),
    ("MP", "x86-tso", FORBIDDEN, f"{SDM}.2"),
    ("LB", "x86-tso", FORBIDDEN, f"{SDM}.3"),
    ("SB", "x86-tso", ALLOWED, f"{SDM}.4"),
    ("WRC", "x86-tso", FORBIDDEN, f"{SDM}.6"),
    ("IRIW", "x86-tso", FORBIDDEN, f"{SDM}.7"),
    ("SB+xchg-stores", "x86-tso", FORBIDDEN, f"{SDM}.9"),
    ("SB+mbs", "x86-tso", FORBIDDEN, f"{TSO}, amd5"),
    ("SB+mb+po", "x86-tso", ALLOWED, TSO),
    ("RWC", "x86-tso", ALLOWED, CATS),
    ("R", "x86-tso", ALLOWED, CATS),
    ("R+po+mb", "x86-tso", FORBIDDEN, CATS),
    ("S", "x86-tso", FORBIDDEN, CATS),
    ("2+2W", "x86-tso", FORBIDDEN, CATS),
    ("SBQ", "x86-tso", FORBIDDEN, RISOTTO),
    ("MPQ", "x86-tso", FORBIDDEN, RISOTTO),
    ("SB", "armv8", ALLOWED, POP),
    ("MP", "armv8", ALLOWED, POP),
    ("LB", "armv8", ALLOWED, POP),
    ("2+2W", "armv8", ALLOWED, POP),
    ("IRIW", "armv8", ALLOWED, POP),
    ("SB+mbs", "armv8", FORBIDDEN, DDI),
    ("SB+rels+acqs", "armv8", FORBIDDEN, POP),
    ("SB+rels+acqpcs", "armv8", ALLOWED, DDI),
    ("MP+mb+addr", "armv8", FORBIDDEN, POP),
    ("MP+mb+ctrl", "armv8", ALLOWED, POP),
    ("MP+mb+ctrlisb", "armv8", FORBIDDEN, POP),
    ("MP+rel+acq", "armv8", FORBIDDEN, DDI),
    ("MP+rel+acqpc", "armv8", FORBIDDEN, DDI),
    ("MP+wmb+rmb", "armv8", FORBIDDEN, DDI),
    ("PPOCA", "armv8", ALLOWED, POP),
    ("PPOAA", "armv8", FORBIDDEN, POP),
    ("LB+addrs", "armv8", FORBIDDEN, POP),
    ("LB+datas", "armv8", FORBIDDEN, POP),
    ("LB+ctrls", "armv8", FORBIDDEN, POP),
    ("WRC+addrs", "armv8", FORBIDDEN, f"{POP}: other-multi-copy atomicity"),
    ("IRIW+addrs", "armv8", FORBIDDEN, f"{POP}: other-multi-copy atomicity"),
    ("IRIW+acqs", "armv8", FORBIDDEN, POP),
    ("ISA2+mb+addrs", "armv8", FORBIDDEN, POP),
    ("SBQ", "armv8", ALLOWED, RISOTTO),
    ("MPQ", "armv8", ALLOWED, RISOTTO),
    ("SB", "armv7", ALLOWED, TUTORIAL),
    ("MP", "armv7", ALLOWED, TUTORIAL),
    ("LB", "armv7", ALLOWED, TUTORIAL),
    ("MP+mbs", "armv7", FORBIDDEN, TUTORIAL),
    ("MP+mb+addr", "armv7", FORBIDDEN, TUTORIAL),
    ("MP+mb+ctrl", "armv7", ALLOWED, TUTORIAL),
    ("MP+mb+ctrlisb", "armv7", FORBIDDEN, TUTORIAL),
    ("PPOCA", "armv7", ALLOWED, TUTORIAL),
    ("PPOAA", "armv7", FORBIDDEN, TUTORIAL),
    ("LB+addrs", "armv7", FORBIDDEN, TUTORIAL),
    ("LB+datas", "armv7", FORBIDDEN, TUTORIAL),
    ("LB+ctrls", "armv7", FORBIDDEN, TUTORIAL),
    ("SB+mbs", "armv7", FORBIDDEN, TUTORIAL),
    ("WRC+addrs", "armv7", ALLOWED, TUTORIAL),
    ("WRC+mb+addr", "armv7", FORBIDDEN, TUTORIAL),
    ("WRC+data+mb", "armv7", ALLOWED, CATS),
    ("ISA2+mb+addrs", "armv7", FORBIDDEN, TUTORIAL),
    ("IRIW+addrs", "armv7", ALLOWED, TUTORIAL),
    ("IRIW+mbs", "armv7", FORBIDDEN, TUTORIAL),
    ("RWC+mbs", "armv7", FORBIDDEN, TUTORIAL),
    ("RWC+addr+mb", "armv7", ALLOWED, CATS),
    ("R+mbs", "armv7", FORBIDDEN, CATS),
    ("S+mb+addr", "armv7", FORBIDDEN, CATS),
    ("2+2W+mbs", "armv7", FORBIDDEN, CATS),
    ("2+2W+wmbs", "armv7", FORBIDDEN, CATS),
    ("MP", "alpha", ALLOWED, f"{HANDBOOK}.4"),
    ("MP+mb+po", "alpha", ALLOWED, f"{HANDBOOK}.5"),
    ("MP+po+mb", "alpha", ALLOWED, f"{HANDBOOK}.6"),
    ("MP+mbs", "alpha", FORBIDDEN, f"{HANDBOOK}.7"),
    ("MP+wmb+mb", "alpha", FORBIDDEN, f"{HANDBOOK}.7"),
    ("SB+mbs", "alpha", FORBIDDEN, f"{HANDBOOK}.8"),
    ("MP+mb+addr", "alpha", ALLOWED, f"{HANDBOOK}, 5.6.1.7: DP does not impose BEFORE"),
    ("LB", "alpha", ALLOWED, f"{HANDBOOK}, 5.6.1.3"),
    ("LB+datas", "alpha", FORBIDDEN, f"{HANDBOOK}, 5.6.1.7: causal loops"),
]
"""Test, model, whether the condition may come about, and who says so. `mb` is MFENCE, DMB SY or MB."""

COHERENT: Final = ["CoRR", "CoWW", "CoRW", "CoWR", "LLSC", "LLSC+LLSC", "ADD+ADD"]
"""Forbidden in every model (Alglave, Maranget and Tautschnig 2014, section 4; Alpha's litmus tests 1 to 3)."""


def condition_is_allowed(name: str, memory: str) -> bool:
    test = load(name)
    return any(test.condition(dict(one)) for one in outcomes(test.initial, test.programs(), MODELS[memory].allows))


@pytest.mark.parametrize(
    ("name", "memory", "expected", "source"), PUBLISHED, ids=[f"{a}-{b}" for a, b, *_ in PUBLISHED]
)
def test_published_outcomes(name: str, memory: str, expected: bool, source: str) -> None:
    assert condition_is_allowed(name, memory) is expected, source


@pytest.mark.parametrize("memory", MODELS)
@pytest.mark.parametrize("name", COHERENT)
def test_every_memory_is_coherent(name: str, memory: str) -> None:
    assert not condition_is_allowed(name, memory)


STRONGER: Final = [("sc", "x86-tso"), ("x86-tso", "armv8"), ("armv8", "armv7"), ("armv8", "alpha")]
"""The second allows what the first does, where tests have nothing but plain accesses and full barriers."""


@pytest.mark.parametrize(("strong", "weak"), STRONGER)
@pytest.mark.parametrize("name", ["SB", "MP+mbs", "LB", "R+mbs", "2+2W", "WRC+mbs", "RWC", "ISA2", "IRIW"])
def test_a_weaker_memory_allows_more(name: str, strong: str, weak: str) -> None:
    test = load(name)
    few, many = (outcomes(test.initial, test.programs(), MODELS[one].allows) for one in (strong, weak))
    assert few <= many


@pytest.mark.parametrize(("operation", "expected"), [("", ALLOWED), ("acquirerelease", FORBIDDEN)])
def test_an_arm_instruction_that_acquires_and_releases_is_a_barrier(operation: str, expected: bool) -> None:
    """The change of Arm's model that Risotto's authors asked for."""
    text = (
        "Raddle T\n{ }\n P0 | P1 ;\n w[] x 1 | w[] y 1 ;\n"
        f" rmw[{operation}] r1 z (cas 0 1) | rmw[{operation}] r1 t (cas 0 1) ;\n"
        " r[] r0 y | r[] r0 x ;\nexists (0:r0=0 /\\ 1:r0=0)\n"
    )
    test = parse(text)
    found = outcomes(test.initial, test.programs(), MODELS["armv8"].allows)
    assert any(test.condition(dict(one)) for one in found) is expected


@pytest.mark.parametrize("step", [1, 0])
def test_too_large_a_test_is_refused(step: int) -> None:
    """At once, not after an hour."""
    cells = "\n".join(f" w[] x {step * 2 * n + 2} | w[] x {step * (2 * n + 1) + 2} ;" for n in range(8))
    test = parse(f"Raddle T\n{{ }}\n P0 | P1 ;\n{cells}\nexists (x=1)\n")
    with pytest.raises(UsageError, match="smaller"):
        outcomes(test.initial, test.programs(), MODELS["sc"].allows)


@pytest.mark.parametrize("cell", ["r[] r1 x+r0", "w[] x+r0 1"])
def test_a_register_that_is_added_to_an_address_must_be_0(cell: str) -> None:
    program = " mov r0 4096 | w[] x 2 ;\n " + cell + " | ;\nexists (x=2)\n"
    test = parse(f"Raddle T\n{{ x=0; }}\n P0 | P1 ;\n{program}", "T")
    with pytest.raises(UsageError, match=r"^register r0 is added to the address of x: it must be 0, and may be 4096$"):
        outcomes(test.initial, test.programs(), MODELS["sc"].allows)
