# SPDX-License-Identifier: Apache-2.0
"""`raddle litmus`: runs litmus tests in each threading mode. Shows how often each outcome occurred, and whether the
guest's architecture allows it. With `--model` it runs nothing, and shows what models of memory allow.

The exit status is 1 if a forbidden outcome occurred.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from raddle.accel import Mode, Order, Thread, decide, parse_accel
from raddle.cli.guests import only_guest
from raddle.errors import UsageError, unknown
from raddle.litmus.executions import Outcome, outcomes
from raddle.litmus.files import load, names
from raddle.litmus.models import Model, known
from raddle.litmus.program import LitmusTest
from raddle.plugins import Registry, Target, registry

if TYPE_CHECKING:
    from raddle.litmus.guest import LitmusGuest
    from raddle.litmus.run import Result

__all__ = ["configure", "run"]

DEFAULT_ITERATIONS: Final = 100_000
MOST_ITERATIONS: Final = 10_000_000_000
CPUS: Final = range(2, 9)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tests", metavar="TEST", nargs="*", help="tests of the suite by name, or files; by default the whole suite"
    )
    parser.add_argument("--list", action="store_true", help="list the suite")
    parser.add_argument(
        "--model",
        nargs="?",
        const="",
        metavar="NAME[,NAME]",
        help="run nothing, and show what these models of memory allow: sc, those of installed guests and hosts, or "
        "all; by default the guest's",
    )
    parser.add_argument("--target", metavar="GUEST", help="guest architecture, where several are installed")
    parser.add_argument("-cpu", "--cpu", metavar="MODEL", default="", help="CPU model")
    parser.add_argument(
        "-smp",
        "--smp",
        metavar="N",
        help=f"vCPUs, {CPUS[0]} to {CPUS[-1]}: as many copies of a test run as there are vCPUs for; by default one",
    )
    parser.add_argument(
        "--iterations",
        metavar="N",
        default=str(DEFAULT_ITERATIONS),
        help=f"iterations of each test ({DEFAULT_ITERATIONS})",
    )
    parser.add_argument(
        "-accel",
        "--accel",
        metavar="tcg[,SETTING=VALUE]",
        help="run in this mode only; by default in all: multi-threaded, single-threaded, counting instructions",
    )
    parser.add_argument("-icount", metavar="shift=N|auto", help="run in this mode only")


class _Run(NamedTuple):
    """A mode to run in, with the arguments of Machine for it."""

    name: str
    """For the table; empty if the accelerator's settings decide."""
    accelerator: str
    icount: str | None


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name in names():
            test = load(name)
            print(f"{name:<16}{test.comment}".rstrip())
        return 0
    found = registry()
    tests = [load(name) for name in (arguments.tests or names())]
    if arguments.model is not None:
        return _show_models(tests, _models(arguments.model, found, arguments))
    target = _target(found, arguments.target)
    cpu = target.cpu_model(arguments.cpu)
    guest: LitmusGuest = found.litmus_guest(target)
    iterations = _number("--iterations", arguments.iterations, range(1, MOST_ITERATIONS + 1))
    cpus = None if arguments.smp is None else _number("-smp", arguments.smp, CPUS)
    modes = _modes(found, target, arguments.accel, arguments.icount)
    forbidden = ran = 0
    began = time.monotonic()
    left_out = []
    for test in tests:
        from raddle.litmus.assembly import lacking

        missing = lacking(test, guest)
        if missing:
            left_out.append(f"{test.name} (no {', '.join(missing)})")
            continue
        if cpus is not None and cpus < len(test.threads):
            left_out.append(f"{test.name} ({len(test.threads)} threads)")
            continue
        forbidden += _run_test(test, guest, target, cpu, guest.models[cpu], modes, cpus, iterations)
        ran += 1
    if left_out:
        print(f"not run: {', '.join(left_out)}")
    if not ran:
        raise UsageError(f"none of these tests can run on the {target.name} guest: {', '.join(left_out)}")
    rate = ran * len(modes) * iterations / (time.monotonic() - began)
    count = "1 test" if ran == 1 else f"{ran} tests"
    print(f"{count}, {iterations} iterations in each mode, {rate:.0f} a second; forbidden outcomes: {forbidden}")
    return 1 if forbidden else 0


def _number(option: str, text: str, allowed: range) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) not in allowed:
        raise UsageError(f"{option} must be a number from {allowed[0]} to {allowed[-1]}, not {text!r}")
    return int(text)


def _target(found: Registry, name: str | None) -> Target:
    return found.target(name) if name else only_guest(found, lambda one: one.litmus is not None, "litmus tests")


def _modes(found: Registry, target: Target, accel: str | None, icount: str | None) -> list[_Run]:
    if accel is not None or icount is not None:
        return [_Run("" if icount is None else "icount", accel or "tcg", icount)]
    several = "tcg,thread=multi"
    # If the host does not keep an order that the guest's architecture requires, threads need barriers.
    settings = parse_accel(several)
    if decide(target, found.host_for(), Thread.MULTI, order=Order.FENCED, warnings=settings.warnings).fences:
        several += ",order=fenced"
    return [_Run("multi", several, None), _Run("single", "tcg,thread=single", None), _Run("icount", "tcg", "shift=0")]


def _run_test(
    test: LitmusTest,
    guest: LitmusGuest,
    target: Target,
    cpu: str,
    memory: Model,
    modes: Sequence[_Run],
    cpus: int | None,
    iterations: int,
) -> int:
    """Run a test in each mode and show its outcomes; returns how often a forbidden one occurred."""
    from raddle.litmus.run import run as run_test  # late, because it loads the native runtime

    allowed = allowed_outcomes(test, memory)
    results: dict[str, Result] = {}
    for mode in modes:
        result = run_test(
            test,
            guest,
            target.name,
            cpu,
            cpus=len(test.threads) if cpus is None else cpus,
            iterations=iterations,
            accelerator=mode.accelerator,
            icount=mode.icount,
        )
        name = mode.name or ("multi" if result.decision.mode is Mode.MULTI else "single")
        results[name] = result
    seen: set[Outcome] = set().union(*(result.counts for result in results.values()))
    number = next(iter(results.values())).cpus
    print(f"{_title(test)}\n  {target.name} ({cpu}), {number} vCPUs")
    _table(
        test,
        allowed | seen,
        [*results, memory.name],
        lambda outcome: [
            *(str(result.counts[outcome]) for result in results.values()),
            "allowed" if outcome in allowed else "FORBIDDEN",
        ],
    )
    positive = sum(result.counts[one] for result in results.values() for one in seen if holds(test, one))
    total = sum(result.counts.total() for result in results.values())
    print(f"  {_asked(test)}: {positive} of {total}; {memory.name} {_verdict(test, allowed)}\n")
    return sum(result.counts[one] for result in results.values() for one in seen - allowed)


# --- models -----------------------------------------------------------------------------------------------------------


def _models(text: str, found: Registry, arguments: argparse.Namespace) -> list[Model]:
    if text:
        models = known(found)
        names = [*models] if text == "all" else text.split(",")
        for name in names:
            if name not in models:
                raise unknown("memory model", name, models)
        return [models[name] for name in names]
    target = _target(found, arguments.target)
    guest: LitmusGuest = found.litmus_guest(target)
    return [guest.models[target.cpu_model(arguments.cpu)]]


def allowed_outcomes(test: LitmusTest, memory: Model) -> frozenset[Outcome]:
    """The outcomes that a model allows, each with the values that the test observes."""
    return frozenset(test.project(one) for one in outcomes(test.initial, test.programs(), memory.allows))


def holds(test: LitmusTest, outcome: Outcome) -> bool:
    return test.condition(dict(outcome))


def _show_models(tests: Iterable[LitmusTest], models: Sequence[Model]) -> int:
    for test in tests:
        allowed = {memory.name: allowed_outcomes(test, memory) for memory in models}
        print(_title(test))
        every = frozenset[Outcome]().union(*allowed.values())
        _table(
            test,
            every,
            list(allowed),
            lambda outcome, by=allowed: ["allowed" if outcome in one else "-" for one in by.values()],
        )
        for memory in models:
            print(f"  {_asked(test)}: {memory.name} {_verdict(test, allowed[memory.name])}")
        print()
    return 0


# --- showing ----------------------------------------------------------------------------------------------------------


def _title(test: LitmusTest) -> str:
    return f"{test.name}: {test.comment}" if test.comment else test.name


def _asked(test: LitmusTest) -> str:
    return f"{test.quantifier.word} {test.text}"


def _verdict(test: LitmusTest, allowed: frozenset[Outcome]) -> str:
    """Whether a model that allows these outcomes forbids, allows or requires the test's condition."""
    positive = sum(holds(test, one) for one in allowed)
    if not positive:
        return "forbids it"
    return "requires it" if positive == len(allowed) else "allows it"


def _table(test: LitmusTest, shown: Iterable[Outcome], columns: Sequence[str], cells: Any) -> None:
    """Print a line for each outcome. A star marks outcomes for which the test's condition holds."""
    rows = [
        (f"{'*' if holds(test, one) else ' '} {' '.join(f'{name}={value}' for name, value in one)}", *cells(one))
        for one in sorted(shown)
    ]
    heads = ("  outcome", *columns)
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print(f"  {row[0].ljust(widths[0])}  {numbers}")
    sys.stdout.flush()
