# SPDX-License-Identifier: Apache-2.0
"""What `-M help`, `-M NAME,help`, `-cpu help` and `-device help` print, and what shells complete."""

from __future__ import annotations

from collections.abc import Iterable

from raddle.errors import RaddleError
from raddle.plugins import registry

__all__ = [
    "cpu_names",
    "cpus",
    "devices",
    "machine_names",
    "machines",
    "properties",
    "property_settings",
    "target_names",
]


def machine_names() -> list[str]:
    """The names of all boards, as NAME and as GUEST/NAME."""
    boards = registry().boards()
    return sorted({board.name for board in boards} | {f"{board.target}/{board.name}" for board in boards})


def property_settings(machine: str) -> list[str]:
    """The settings that may follow a board's name in -M. For an unknown board, those that follow any name."""
    try:
        boards = registry().boards_named(machine)
    except RaddleError:
        boards = ()
    settings = [f"{one.name}={value}" for board in boards for one in board.properties for value in one.values]
    return ["accel=tcg", *settings]


def target_names() -> list[str]:
    return list(registry().names("target"))


def cpu_names() -> list[str]:
    return ["max", *(name for target in registry().targets() for name in target.cpus)]


def machines() -> str:
    boards = registry().boards()
    rows = [
        (f"{board.target}/{board.name}", f"{board.description} ({board.target}, 1 to {board.max_cpus} CPUs)")
        for board in sorted(boards, key=lambda board: (board.target, board.name))
    ]
    return _table("Machines (-M NAME, or -M GUEST/NAME)", rows)


def properties(machine: str) -> str:
    """The properties of all boards of this name."""
    return "".join(
        _table(
            f"Properties (-M {board.name},PROPERTY=VALUE) of machine {board.target}/{board.name}",
            [
                ("accel=NAME", "the accelerator, where -accel does not name one"),
                *((f"{one.name}={'|'.join(one.values)}", one.meaning) for one in board.properties),
            ],
        )
        for board in registry().boards_named(machine)
    )


def cpus(machine: str, target: str) -> str:
    """The CPU models of all guests that have a board of this name, or any board if the name is empty. If `target` is
    not empty, only those of this guest.
    """
    found = registry()
    boards = found.boards_named(machine, target) if machine else found.boards(target)
    rows = []
    for target in sorted({board.target for board in boards}):
        first, *others = found.target(target).cpus
        rows += [(first, f"{target}; the default, and what max stands for"), *((other, target) for other in others)]
    return _table(f"CPUs (-cpu){f' of machine {machine}' if machine else ''}", rows)


def devices() -> str:
    rows = [(device.name, device.description) for device in registry().devices()]
    added = _table("Devices (-device)", [("loader", "puts a file, or a number, into memory")])
    return added + _table("Devices of plug-ins, which boards use and -device cannot add", rows)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"  {name:<24} {text}".rstrip() for name, text in rows] or ["  none"]
    return "\n".join([f"{title}:", *lines, ""])
