# SPDX-License-Identifier: Apache-2.0
"""The registry: lazy discovery, the checks on a plug-in, and that a broken one stands in nobody's way."""

from __future__ import annotations

import gzip
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from raddle.errors import PluginError, UsageError
from raddle.machine.choice import choose_board
from raddle.ordering import MemoryOrder
from raddle.plugins import API_VERSION, EntryPoint, Registry

TARGET = """
from raddle.ordering import MemoryOrder
from raddle.plugins import Board, Device, ElfFormat, HelperPackage, Magic, Target, hookimpl

RADDLE_API_VERSION = 1
TARGET_SUPPORTS_MTTCG = True
TCG_GUEST_DEFAULT_MO = MemoryOrder.ALL

def load(cpu):
    return f"front end for {cpu}"

@hookimpl
def raddle_target():
    return Target("good", 32, TARGET_SUPPORTS_MTTCG, TCG_GUEST_DEFAULT_MO, 4242, ("one", "two"), load)
"""

HOST = """
from raddle.ordering import MemoryOrder
from raddle.plugins import Host, hookimpl

RADDLE_API_VERSION = 1
TCG_TARGET_DEFAULT_MO = MemoryOrder.NONE

@hookimpl
def raddle_host():
    return Host("here", 64, TCG_TARGET_DEFAULT_MO, ("here", "HERE"), lambda: "back end")
"""

BOARD = """
from raddle.plugins import Board, Device, HelperPackage, Property, hookimpl

RADDLE_API_VERSION = 1

@hookimpl
def raddle_boards():
    yield Board("desk", "good", "a flat one", 4, lambda: "desk")

@hookimpl
def raddle_devices():
    return [Device("lamp", "on or off", lambda: "lamp")]
"""

HELPER = """
from raddle.plugins import HelperPackage, hookimpl

RADDLE_API_VERSION = 1

@hookimpl
def raddle_helpers():
    return (HelperPackage("sums", "adds", lambda: {"add": lambda a, b: a + b}),)
"""


@dataclass
class FakeEntryPoint:
    name: str
    value: str
    loads: list[str] = field(default_factory=list)

    def load(self) -> Any:
        import importlib

        self.loads.append(self.name)
        module, _, attribute = self.value.partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded


Installed = Callable[..., tuple[Registry, dict[str, FakeEntryPoint]]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Put plug-in modules on the path (source by entry-point name), and give a registry that finds just them."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(**sources: str) -> tuple[Registry, dict[str, FakeEntryPoint]]:
        entry_points = {}
        for mangled, source in sources.items():
            name = mangled.replace("__", ".")
            module = f"plugin_{tmp_path.name}_{mangled}".replace("-", "_")
            (tmp_path / f"{module}.py").write_text(dedent(source))
            entry_points[name] = FakeEntryPoint(name, module)
        return Registry(lambda: list[EntryPoint](entry_points.values())), entry_points

    return installed


def imported(entry_points: dict[str, FakeEntryPoint]) -> set[str]:
    return {name for name, entry_point in entry_points.items() if entry_point.value in sys.modules}


# --- finding and loading


def test_names_imports_nothing(install: Installed) -> None:
    registry, entry_points = install(target__good=TARGET, host__here=HOST, board__desk=BOARD)
    assert registry.names("target") == ("good",)
    assert registry.names("host") == ("here",)
    assert registry.names("device") == ()
    assert imported(entry_points) == set()


def test_a_run_imports_the_pair_it_needs_alone(install: Installed) -> None:
    registry, entry_points = install(target__good=TARGET, target__other=TARGET, host__here=HOST, host__there=HOST)
    assert registry.target("good").cpus == ("one", "two")
    assert registry.host_for("here").name == "here"
    assert imported(entry_points) == {"target.good", "host.here"}
    assert registry.problems() == ()


def test_a_front_end_is_made_for_the_cpu_model_that_is_chosen(install: Installed) -> None:
    registry, _ = install(target__good=TARGET)
    target = registry.target("good")
    assert registry.front_end(target) == registry.load(target) == "front end for one"
    assert registry.front_end(target, "max") == "front end for one"
    assert registry.front_end(target, "two") == "front end for two"
    with pytest.raises(UsageError, match=r"unknown CPU 'three' \(known: one, two\)"):
        registry.front_end(target, "three")
    assert registry.problems() == ()


def test_a_plugin_is_imported_once(install: Installed) -> None:
    registry, entry_points = install(target__good=TARGET)
    assert registry.target("good") == registry.target("good")
    registry.targets()
    assert entry_points["target.good"].loads == ["target.good"]


def test_a_host_is_found_under_another_machine_name(install: Installed) -> None:
    registry, _ = install(host__here=HOST)
    assert registry.host_for("HERE").name == "here"


def test_no_usable_host_says_what_is_installed_and_what_to_do(install: Installed) -> None:
    registry, _ = install(host__here=HOST)
    with pytest.raises(UsageError, match=r"this machine \(vax\): installed: here; remedy: pip install 'raddle\[arm\]'"):
        registry.host_for("vax")
    registry, _ = install()
    with pytest.raises(UsageError, match=rf"this machine \({platform.machine()}\): installed: none"):
        registry.host_for()
    registry, _ = install(host__vax="import no_such_module")
    with pytest.raises(UsageError, match=r"plug-in host\.vax: cannot be imported: .*no_such_module"):
        registry.host_for("vax")


def test_unknown_names_list_the_known_ones(install: Installed) -> None:
    registry, _ = install(target__good=TARGET, host__here=HOST)
    with pytest.raises(UsageError, match=r"unknown target plug-in 'goood'; did you mean good\? \(known: good\)"):
        registry.target("goood")
    with pytest.raises(UsageError, match=r"unknown host plug-in 'there'"):
        registry.host("there")
    with pytest.raises(UsageError, match=r"unknown target plug-in 'vax'"):
        registry.boards("vax")
    with pytest.raises(UsageError, match=r"unknown machine 'desk': no installed package brings one; .*'raddle\[arm\]'"):
        registry.board("desk")


def test_a_target_is_found_by_its_elf_number(install: Installed) -> None:
    registry, _ = install(target__bad="1 / 0", target__good=TARGET)
    assert registry.target_for_elf(4242).name == "good"
    with pytest.raises(UsageError, match="no installed target runs ELF programs of machine 1"):
        registry.target_for_elf(1)


def test_boards_devices_and_helpers(install: Installed) -> None:
    registry, _ = install(target__good=TARGET, board__desk=BOARD, helper__sums=HELPER)
    assert [board.name for board in registry.boards()] == ["desk"]
    assert registry.boards("good") == registry.boards()
    assert registry.load(registry.board("desk")) == "desk"
    assert [device.name for device in registry.devices()] == ["lamp"]
    (helpers,) = registry.helpers()
    assert registry.load(helpers)["add"](2, 3) == 5
    assert registry.problems() == ()


def test_a_board_name_of_two_guests_asks_which(install: Installed) -> None:
    registry, _ = install(
        target__good=TARGET,
        board__desk=BOARD,
        board__more=BOARD.replace('"good"', '"fine"'),
    )
    with pytest.raises(UsageError, match=r"several guests: say which one \(good/desk, fine/desk\)"):
        registry.board("desk")
    assert registry.board("desk", "good").target == "good"
    assert registry.board("good/desk").target == "good"
    with pytest.raises(UsageError, match="'fine/desk' is none of the good guest"):
        registry.board("fine/desk", "good")
    with pytest.raises(UsageError, match="unknown target plug-in 'bad'"):
        registry.board("bad/desk")


def elf(machine: int, order: str) -> bytes:
    return b"\x7fELF\x01" + (b"\x02" if order == ">" else b"\x01") + bytes(10) + struct.pack(f"{order}HH", 2, machine)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_elf_kernel_says_which_guest_it_is_for(
    install: Installed, tmp_path: Path, order: str, pack: Callable[[bytes], bytes]
) -> None:
    registry, _ = install(
        target__good=TARGET,
        target__fine=TARGET.replace('"good"', '"fine"').replace("4242", "4243"),
        board__desk=BOARD,
        board__more=BOARD.replace('"good"', '"fine"'),
    )
    kernel = tmp_path / "kernel"
    for machine, target in ((4242, "good"), (4243, "fine")):
        kernel.write_bytes(pack(elf(machine, order)))
        assert choose_board(registry, "desk", "", kernel).target == target
        assert choose_board(registry, "desk", "good", kernel).target == "good"
        assert choose_board(registry, "fine/desk", "", kernel).target == "fine"
    for contents in (elf(4244, order), elf(4242, order)[:19], b"\x7fELF", b"", b"\x1f\x8b\x08", b"raw" * 100):
        kernel.write_bytes(pack(contents))
        with pytest.raises(UsageError, match=r"several guests: say which one \(good/desk, fine/desk\)|fine/desk, good"):
            choose_board(registry, "desk", "", kernel)
    for name in ("/desk", "good/", "/"):
        with pytest.raises(UsageError, match=f"machine '{name}' is not GUEST/NAME, as in arm/virt"):
            choose_board(registry, name, "", kernel)
    with pytest.raises(UsageError, match=r"unknown machine 'good/disk'; did you mean good/desk\? \(known: good/desk\)"):
        choose_board(registry, "good/disk", "", kernel)
    with pytest.raises(UsageError, match=r"unknown machine 'disk'; did you mean desk\? \(known: desk\)"):
        choose_board(registry, "disk", "", kernel)
    for path in (None, tmp_path, tmp_path / "nothing", "a\0b", "/dev/zero"):
        with pytest.raises(UsageError, match="say which one"):
            choose_board(registry, "desk", "", path)


def test_the_same_distribution_twice_on_the_path_is_no_conflict() -> None:
    twice: list[EntryPoint] = [FakeEntryPoint("target.x", "module_x"), FakeEntryPoint("target.x", "module_x")]
    registry = Registry(lambda: twice)
    assert registry.names("target") == ("x",)
    assert registry.problems() == ()


# --- broken plug-ins

BROKEN = [
    ("raise RuntimeError('two\\nlines')", "cannot be imported: RuntimeError: two lines"),
    ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    ("def (", "cannot be imported: SyntaxError"),
    ("", "does not declare RADDLE_API_VERSION"),
    (
        TARGET.replace("API_VERSION = 1", "API_VERSION = 99"),
        f"is written for API version 99; this Raddle has {API_VERSION}",
    ),
    (TARGET.replace("TARGET_SUPPORTS_MTTCG = True", ""), "does not declare TARGET_SUPPORTS_MTTCG"),
    (
        TARGET.replace("TARGET_SUPPORTS_MTTCG = True", "TARGET_SUPPORTS_MTTCG = 1"),
        "TARGET_SUPPORTS_MTTCG must be a bool",
    ),
    (
        TARGET.replace("TCG_GUEST_DEFAULT_MO = MemoryOrder.ALL", "TCG_GUEST_DEFAULT_MO = 15"),
        "TCG_GUEST_DEFAULT_MO must be a MemoryOrder",
    ),
    (TARGET.replace("@hookimpl", ""), "does not implement raddle_target"),
    (TARGET.replace("def raddle_target()", "def raddle_tarket()"), "hooks are not in order: .*raddle_tarket"),
    (TARGET.replace("def raddle_target()", "def raddle_target(extra)"), "hooks are not in order: .*extra"),
    (TARGET.replace("return Target", "return"), "raddle_target must return a Target"),
    (TARGET.replace("return Target", "return 1 / 0 or Target"), "raddle_target failed: ZeroDivisionError"),
    (TARGET.replace('"good"', '"bad"'), "its descriptor is called 'bad', its entry point 'good'"),
    (
        TARGET.replace('two"), load)', 'two"), load, elf_formats=(ElfFormat(16, "little"),))'),
        "elf_formats has 16 bits, 'little': it is 32 or 64, and little or big",
    ),
    (
        TARGET.replace('two"), load)', 'two"), load, foreign_files=(Magic(4095, b"ab", "a thing"),))'),
        "the magic of a thing must lie in the first 4096 bytes",
    ),
    (TARGET.replace('("one", "two")', "()"), "its descriptor has no CPU model"),
    (TARGET.replace("32, TARGET", "33, TARGET"), "word_bits is 33, and must be one of 32, 64"),
    (
        TARGET.replace("32, TARGET_SUPPORTS_MTTCG", "32, False"),
        "TARGET_SUPPORTS_MTTCG is True, but its descriptor says False",
    ),
    (TARGET.replace("TCG_GUEST_DEFAULT_MO, 4242", "MemoryOrder.NONE, 4242"), "TCG_GUEST_DEFAULT_MO is .* says"),
]


@pytest.mark.parametrize(("source", "reason"), BROKEN, ids=[reason[:40] for _, reason in BROKEN])
def test_a_broken_target_is_reported_by_name_and_the_others_work(install: Installed, source: str, reason: str) -> None:
    registry, _ = install(
        target__good=source, target__fine=TARGET.replace('"good"', '"fine"'), host__here=HOST, board__desk=BOARD
    )
    assert [target.name for target in registry.targets()] == ["fine"]
    assert registry.host("here").default_mo == MemoryOrder.NONE
    assert [board.name for board in registry.boards()] == ["desk"]
    (problem,) = registry.problems()
    assert problem.plugin == "target.good"
    with pytest.raises(PluginError, match=rf"^plug-in target\.good: {reason}") as caught:
        registry.target("good")
    assert caught.value.exit_status == 2


def test_a_host_without_its_order_is_broken(install: Installed) -> None:
    registry, _ = install(host__here=HOST.replace("TCG_TARGET_DEFAULT_MO = MemoryOrder.NONE", ""))
    assert registry.hosts() == ()
    with pytest.raises(PluginError, match="does not declare TCG_TARGET_DEFAULT_MO"):
        registry.host("here")


def test_a_front_end_that_does_not_load_makes_its_target_broken(install: Installed) -> None:
    registry, _ = install(target__good=TARGET.replace('return f"front end for {cpu}"', "1 / 0"))
    with pytest.raises(PluginError, match=r"^plug-in target\.good: cannot be loaded: ZeroDivisionError"):
        registry.load(registry.target("good"))
    assert registry.targets() == ()
    assert [problem.plugin for problem in registry.problems()] == ["target.good"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (BOARD.replace("    yield Board", "    yield 1 / 0, Board"), "raddle_boards failed: ZeroDivisionError"),
        (BOARD.replace("    yield Board", "    return 1, Board"), "raddle_boards must return Board descriptors"),
        (BOARD.replace("    yield Board(", "    return len("), "raddle_boards failed: TypeError"),
        (
            BOARD.replace('lambda: "desk")', 'lambda: "desk", (Property("lid", (), ""),))'),
            "property lid of its board desk has no values",
        ),
        (
            BOARD.replace('lambda: "desk")', 'lambda: "desk", (Property("lid", ("on",), ""),) * 2)'),
            "its board desk has two properties lid",
        ),
    ],
)
def test_a_broken_board_hook_is_reported(install: Installed, source: str, reason: str) -> None:
    registry, _ = install(board__desk=source, target__good=TARGET)
    assert registry.boards() == ()
    (problem,) = registry.problems()
    assert str(problem).startswith(f"plug-in board.desk: {reason}")
    assert registry.target("good").name == "good"


@pytest.mark.parametrize("name", ["arm", "target.", "gadget.arm", "target"])
def test_an_entry_point_must_say_its_kind(name: str) -> None:
    registry = Registry(lambda: list[EntryPoint]([FakeEntryPoint(name, "module")]))
    assert registry.targets() == ()
    (problem,) = registry.problems()
    assert problem.plugin == name
    assert "must be called KIND.NAME" in problem.reason


def test_an_entry_point_must_name_a_module() -> None:
    registry = Registry(lambda: list[EntryPoint]([FakeEntryPoint("target.good", "os:getcwd")]))
    with pytest.raises(PluginError, match=r"its entry point 'os:getcwd' is not a module"):
        registry.target("good")


def test_two_distributions_under_one_name_are_reported() -> None:
    both: list[EntryPoint] = [FakeEntryPoint("target.good", "a"), FakeEntryPoint("target.good", "b")]
    registry = Registry(lambda: both)
    with pytest.raises(PluginError, match="two distributions bring it: a and b"):
        registry.target("good")
