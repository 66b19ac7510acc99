# SPDX-License-Identifier: Apache-2.0
"""The pytest plug-in: machines for tests of guest code, in every mode that a test names.

    @pytest.mark.guest_modes("multi", "single", "icount")
    def test_it_starts(guest):
        machine = guest("virt", cpus=4, kernel="hello.elf")
        machine.console.expect("ready", timeout=60)

``guest`` takes what ``raddle.Machine`` takes, starts the machine and gives it back. A test without the marker runs
once, in the mode that is the default for its guest. Machines are closed when the test ends; what the guests of a test
that failed had printed is shown with its report.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from raddle.machine.machine import Machine

MODES: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "multi": {"accelerator": "tcg,thread=multi"},
    "single": {"accelerator": "tcg,thread=single"},
    "icount": {"icount": "shift=auto"},
}
"""By the name in the marker: what it sets of a machine."""


class Guests:
    """Makes and starts machines in one mode, and closes them in the end. On the test's thread."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        """The mode's name, as the marker has it; "default" without one."""
        self.machines: list[Machine] = []

    def __call__(self, board: str = "", *, start: bool = True, **options: Any) -> Machine:
        """A machine made with ``options``, which win over the mode's; not started with ``start=False``."""
        # Late: most runs of pytest have no use for machines.
        from raddle.machine.machine import Machine

        machine = Machine(board, **{**MODES[self.mode], **options})
        self.machines.append(machine)
        if start:
            machine.start()
        return machine

    def close(self) -> None:
        """Close all machines."""
        while self.machines:
            self.machines.pop().close()


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guests]:
    """Makes machines, in each mode of the marker ``guest_modes``."""
    guests = Guests(getattr(request, "param", "default"))
    yield guests
    guests.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the machines of a test that failed had printed."""
    report = yield
    guests = getattr(item, "funcargs", {}).get("guest")
    if report.failed and isinstance(guests, Guests):
        for number, machine in enumerate(guests.machines):
            text = getattr(machine.consoles[0], "text", "")
            report.sections.append((f"console of machine {number}, {machine.accel.mode.value}", text))
    return report


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"guest_modes(mode, ...): run the test's guests in each of {', '.join(MODES)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("guest_modes")
    if marker is None or "guest" not in metafunc.fixturenames:
        return
    unknown = [mode for mode in marker.args if mode not in MODES]
    if unknown or not marker.args:
        raise pytest.UsageError(f"guest_modes takes some of {', '.join(MODES)}, not {', '.join(unknown) or 'nothing'}")
    metafunc.parametrize("guest", marker.args, indirect=True)
