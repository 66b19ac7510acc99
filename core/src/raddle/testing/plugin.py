# SPDX-License-Identifier: Apache-2.0
"""The pytest plug-in: machines for tests of guest code, in each mode that a test names.

    @pytest.mark.guest_modes("multi", "single", "icount")
    def test_it_starts(guest):
        machine = guest("virt", cpus=4, kernel="hello.elf")
        machine.console.expect("ready", timeout=60)

``guest`` takes the arguments of ``raddle.Machine``, starts the machine and returns it. A test without the marker runs
once, in the default mode of its guest. Machines are closed when the test ends. If the test fails, its report shows what
the guests had printed.
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
"""The arguments of `raddle.Machine` for each mode, by the mode's name in the marker."""


class Guests:
    """Makes and starts machines in one mode, and closes them at the end. Only for the test's thread."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        """The mode's name in the marker; "default" if there is none."""
        self.machines: list[Machine] = []

    def __call__(self, board: str = "", *, start: bool = True, **options: Any) -> Machine:
        """Make a machine with ``options``, which override the mode's. With ``start=False`` it is not started."""
        # Imported late, because most runs of pytest make no machines.
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
    """Adds what the machines of a failed test had printed to its report."""
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
