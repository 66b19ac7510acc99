# SPDX-License-Identifier: Apache-2.0
"""The registry: lazy discovery, the checks on a plug-in, and that a broken one stands in nobody's way."""

from __future__ import annotations

import gzip
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from raddle.entry_points import EntryPoint
from raddle.errors import PluginError, UsageError
from raddle.litmus.models import known
from raddle.machine.choice import choose_board
from raddle.ordering import MemoryOrder
from raddle.plugins import API_VERSION, Registry

TARGET = """
from raddle.ir.types import FloatRules, Type
from raddle.ordering import MemoryOrder
from raddle.plugins import Board, Device, ElfFormat, HelperPackage, KernelKind, Magic, Target, hookimpl

RADDLE_API_VERSION = 1
TARGET_SUPPORTS_MTTCG = True
TCG_GUEST_DEFAULT_MO = MemoryOrder.ALL

class FrontEnd:
    word, page_bits, mmu_indices, fetch_index_shift = Type.I32, 12, 1, 0
    floats = FloatRules()

    def __init__(self, cpu):
        self.cpu = cpu

def load(cpu):
    return FrontEnd(cpu)

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


class FakeEntryPoint(EntryPoint):
    """One of no distribution, which counts how often it is loaded."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(name, value)
        self.loads: list[str] = []

    def load(self) -> Any:
        self.loads.append(self.name)
        return super().load()


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


def test_models_of_memory_come_from_guests_and_hosts(install: Installed) -> None:
    """Of those that can be loaded; one that a plug-in has in common with another is there once."""
    brings = """
from raddle.litmus.models import Model
from types import SimpleNamespace
MINE = Model("mine", "", "", lambda execution: True)
"""
    target = brings + TARGET.replace(
        "load)", "load, litmus=lambda: SimpleNamespace(models={'one': MINE, 'two': MINE}))"
    )
    host = brings + HOST.replace('"back end")', '"back end", memory_model=lambda: MINE._replace(name="hosts"))')
    broken = HOST.replace('"here"', '"bad"').replace('"back end")', '"back end", memory_model=lambda: 1 / 0)')
    registry, _ = install(target__good=target, host__here=host, host__bad=broken)
    assert list(known(registry)) == ["sc", "hosts", "mine"]
    assert [one.plugin for one in registry.problems()] == ["host.bad"]


def test_a_run_imports_the_pair_it_needs_alone(install: Installed) -> None:
    registry, entry_points = install(target__good=TARGET, target__other=TARGET, host__here=HOST, host__there=HOST)
    assert registry.target("good").cpus == ("one", "two")
    assert registry.host_for("here").name == "here"
    assert imported(entry_points) == {"target.good", "host.here"}
    assert registry.problems() == ()


def test_a_front_end_is_made_for_the_cpu_model_that_is_chosen(install: Installed) -> None:
    registry, _ = install(target__good=TARGET)
    target = registry.target("good")
    ends = (
        registry.front_end(target),
        registry.load(target),
        *(registry.front_end(target, cpu) for cpu in ("max", "two")),
    )
    assert [end.cpu for end in ends] == ["one", "one", "one", "two"]
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
    with pytest.raises(UsageError, match=r"this machine \(vax\): installed: here; Raddle .* docs add-a-host tells how"):
        registry.host_for("vax")
    for machine, package in (("aarch64", "raddle-host-aarch64"), ("x86_64", "raddle-host-x86-64")):
        with pytest.raises(UsageError, match=rf"\({machine}\): installed: here; remedy: pip install {package}$"):
            registry.host_for(machine)
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
    with pytest.raises(
        UsageError, match=r"'desk': no installed package provides a machine; remedy: .*'raddle\[GUEST\]'$"
    ):
        registry.boards_named("desk")


def test_boards_devices_and_helpers(install: Installed) -> None:
    registry, _ = install(target__good=TARGET, board__desk=BOARD, helper__sums=HELPER)
    assert [board.name for board in registry.boards()] == ["desk"]
    assert registry.boards("good") == registry.boards()
    assert registry.load(*registry.boards_named("desk")) == "desk"
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
    with pytest.raises(UsageError, match=rf"'desk' exists for {ASKED}"):
        choose_board(registry, "desk", "", None)
    with pytest.raises(UsageError, match=rf"there are {ASKED}"):
        choose_board(registry, "", "", None)
    assert choose_board(registry, "desk", "good", None).target == "good"
    assert choose_board(registry, "good/desk", "", None).target == "good"
    with pytest.raises(UsageError, match="'fine/desk' is not a machine of the good guest"):
        choose_board(registry, "fine/desk", "good", None)
    with pytest.raises(UsageError, match="unknown target plug-in 'bad'"):
        choose_board(registry, "bad/desk", "", None)


def test_a_second_board_of_the_same_guest_and_name_is_a_fault(install: Installed) -> None:
    """The first one can still be chosen."""
    twice = BOARD + TWICE
    registry, _ = install(target__good=TARGET, board__desk=BOARD, board__more=BOARD, board__twice=twice)
    assert choose_board(registry, "desk", "", None).target == "good"
    assert choose_board(registry, "good/desk", "", None).target == "good"
    assert [problem.plugin for problem in registry.problems()] == ["board.more", "board.twice"]
    with pytest.raises(UsageError, match="unknown machine 'shelf'"):
        choose_board(registry, "shelf", "", None)


TWICE = """
@hookimpl
def raddle_boards():
    return [Board("shelf", "good", "a flat one", 4, lambda: None) for _ in range(2)]
"""


def test_without_a_name_it_is_the_guests_first_board(install: Installed) -> None:
    registry, _ = install(target__good=TARGET, target__bare=BARE, board__desk=TWO_BOARDS)
    assert choose_board(registry, "", "good", None).name == "desk"
    assert choose_board(registry, "", "", None).name == "desk"
    assert choose_board(registry, "shelf", "", None).name == "shelf"
    with pytest.raises(UsageError, match=r"^the bare guest has no machine$"):
        choose_board(registry, "", "bare", None)
    with pytest.raises(UsageError, match=r"^no installed package provides a machine; remedy: .*'raddle\[GUEST\]'"):
        choose_board(install()[0], "", "", None)


ASKED = r"several guests: say which one, by --target GUEST or -M GUEST/NAME \(good/desk, fine/desk\)"
BARE = TARGET.replace('"good"', '"bare"').replace("4242", "None")
TWO_BOARDS = (
    BOARD
    + """
@hookimpl
def raddle_boards():
    return [Board(name, "good", "a flat one", 4, lambda: name) for name in ("desk", "shelf")]
"""
)
FINE = TARGET.replace('"good"', '"fine"').replace("4242", "4243")
MORE = BOARD.replace('"good"', '"fine"')


def elf(machine: int, order: str) -> bytes:
    return b"\x7fELF\x01" + (b"\x02" if order == ">" else b"\x01") + bytes(10) + struct.pack(f"{order}HH", 2, machine)


def both_orders(source: str) -> str:
    return source.replace('two"), load)', "two\"), load, (ElfFormat(32, 'big'), ElfFormat(32, 'little')))")


packed = pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])


def test_a_file_that_cannot_be_read_is_told_of_before_guests_are(install: Installed, tmp_path: Path) -> None:
    registry, _ = install(target__good=TARGET, target__fine=FINE, board__desk=BOARD, board__more=MORE)
    for kernel, fault in ((tmp_path / "none", "No such file"), (tmp_path, "it is a directory, not a file")):
        with pytest.raises(UsageError, match=f"cannot read kernel {kernel}: {fault}"):
            choose_board(registry, "", "", kernel)
        assert choose_board(registry, "", "fine", kernel).target == "fine"
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UsageError, match="it is empty"):
        choose_board(registry, "desk", "", tmp_path / "empty")


@pytest.mark.parametrize("order", ["<", ">"])
@packed
def test_an_elf_kernel_says_which_guest_it_is_for(
    install: Installed, tmp_path: Path, order: str, pack: Callable[[bytes], bytes]
) -> None:
    registry, _ = install(
        target__good=both_orders(TARGET), target__fine=both_orders(FINE), board__desk=BOARD, board__more=MORE
    )
    kernel = tmp_path / "kernel"
    for machine, target, other in ((4242, "good", "fine"), (4243, "fine", "good")):
        kernel.write_bytes(pack(elf(machine, order)))
        for name in ("", "desk", f"{target}/desk"):
            assert choose_board(registry, name, "", kernel).target == target
            assert choose_board(registry, name, target, kernel).target == target
        for name, guest in (("", other), ("desk", other), (f"{other}/desk", ""), (f"{other}/desk", other)):
            with pytest.raises(UsageError, match=f"ELF program for machine {machine}, which the {target} guest runs"):
                choose_board(registry, name, guest, kernel)
            assert choose_board(registry, name, guest, kernel, firmware=True).target == other
    kernel.write_bytes(pack(elf(8, order)))
    for name, target in (("", ""), ("desk", ""), ("desk", "good"), ("fine/desk", "")):
        with pytest.raises(UsageError, match=r"for MIPS, and no installed guest runs those \(installed: fine, good\)"):
            choose_board(registry, name, target, kernel)
    for contents in (elf(4242, order)[:19], b"\x7fELF", b"\x1f\x8b\x08", b"raw" * 100):
        kernel.write_bytes(pack(contents))
        with pytest.raises(UsageError, match=ASKED):
            choose_board(registry, "desk", "", kernel)
        assert choose_board(registry, "desk", "fine", kernel).target == "fine"


def test_class_and_byte_order_tell_guests_of_one_machine_apart(install: Installed, tmp_path: Path) -> None:
    good = TARGET.replace('two"), load)', "two\"), load, (ElfFormat(32, 'big'),))")
    registry, _ = install(
        target__good=good, target__fine=FINE.replace("4243", "4242"), board__desk=BOARD, board__more=MORE
    )
    kernel = tmp_path / "kernel"
    for order, target in ((">", "good"), ("<", "fine")):
        kernel.write_bytes(elf(4242, order))
        assert choose_board(registry, "", "", kernel).target == target
    assert choose_board(registry, "good/desk", "", kernel).target == "good"  # its loader says what is wrong


@packed
def test_other_kernel_files_say_which_guest_they_are_for(
    install: Installed, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    kind = "KernelKind('own', Magic(8, b'OWN!', 'an own image'), print)"
    registry, _ = install(
        target__good=TARGET.replace('two"), load)', f'two"), load, uimage_architecture=77, kernel_kinds=({kind},))'),
        target__fine=FINE,
        board__desk=BOARD,
        board__more=MORE,
    )
    kernel = tmp_path / "kernel"
    for contents in (bytes(8) + b"OWN!", b"\x27\x05\x19\x56" + bytes(25) + b"\x4d" + bytes(34)):
        kernel.write_bytes(pack(contents))
        assert choose_board(registry, "desk", "", kernel).target == "good"
        assert choose_board(registry, "desk", "fine", kernel).target == "fine"  # there it may be raw code


def test_a_guest_without_elf_programs_may_read_one_as_it_is(install: Installed, tmp_path: Path) -> None:
    registry, _ = install(target__bare=BARE, board__desk=BOARD.replace('"good"', '"bare"'))
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf(4242, "<"))
    assert choose_board(registry, "", "", kernel).target == "bare"


def test_names_of_boards_that_are_none(install: Installed, tmp_path: Path) -> None:
    registry, _ = install(target__good=TARGET, target__fine=FINE, board__desk=BOARD, board__more=MORE)
    for name in ("/desk", "good/", "/"):
        with pytest.raises(UsageError, match=f"machine '{name}' is not GUEST/NAME"):
            choose_board(registry, name, "", None)
    with pytest.raises(UsageError, match=r"unknown machine 'good/disk'; did you mean good/desk\? \(known: good/desk\)"):
        choose_board(registry, "good/disk", "", None)
    with pytest.raises(UsageError, match=r"unknown machine 'disk'; did you mean desk\? \(known: desk\)"):
        choose_board(registry, "disk", "", None)
    for path in (tmp_path, tmp_path / "nothing", "a\0b", "/dev/zero"):
        with pytest.raises(UsageError, match="cannot read kernel "):
            choose_board(registry, "desk", "", path)


def test_the_same_distribution_twice_on_the_path_is_no_conflict() -> None:
    twice: list[EntryPoint] = [FakeEntryPoint("target.x", "module_x"), FakeEntryPoint("target.x", "module_x")]
    registry = Registry(lambda: twice)
    assert registry.names("target") == ("x",)
    assert registry.problems() == ()


# --- broken plug-ins

BROKEN = [
    ("raise RuntimeError('two\\nlines')", "cannot be imported: RuntimeError: two lines"),
    ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
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
    (TARGET.replace("def raddle_target()", "def raddle_tarket()"), "its hooks are wrong: .*raddle_tarket"),
    (TARGET.replace("def raddle_target()", "def raddle_target(extra)"), "its hooks are wrong: .*extra"),
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
    registry, _ = install(target__good=TARGET.replace("return FrontEnd(cpu)", "1 / 0"))
    with pytest.raises(PluginError, match=r"^plug-in target\.good: cannot be loaded: ZeroDivisionError"):
        registry.load(registry.target("good"))
    assert registry.targets() == ()
    assert [problem.plugin for problem in registry.problems()] == ["target.good"]


@pytest.mark.parametrize(
    ("declared", "given", "reason"),
    [
        ("Type.I32, 12, 1, 0", "Type.I32, 11, 1, 0", "page_bits is 11, and must be 12 to 31"),
        ("Type.I32, 12, 1, 0", "Type.I32, 32, 1, 0", "page_bits is 32, and must be 12 to 31"),
        ("Type.I32, 12, 1, 0", "Type.I32, '12', 1, 0", "page_bits is '12', and must be 12 to 31"),
        ("Type.I32, 12, 1, 0", "Type.I32, 12.0, 1, 0", "page_bits is 12.0, and must be 12 to 31"),
        ("Type.I32, 12, 1, 0", "Type.I32, 12, 0, 0", "mmu_indices is 0, and must be 1 to 4"),
        ("Type.I32, 12, 1, 0", "Type.I32, 12, 5, 0", "mmu_indices is 5, and must be 1 to 4"),
        ("Type.I32, 12, 1, 0", "Type.I32, 12, 1, 31", "fetch_index_shift is 31, and must be 0 to 30"),
        ("Type.I32, 12, 1, 0", "Type.I64, 12, 1, 0", "word has 64 bits, and its descriptor says 32"),
        ("Type.I32, 12, 1, 0", "Type.F32, 12, 1, 0", "word is F32, and must be I32 or I64"),
        ("FloatRules()", "FloatRules(); linear_indices = 1,", "linear_indices is .1,., and must be among its 1 MMU"),
        ("FloatRules()", "FloatRules(); linear_indices = 0", "linear_indices is 0, and must be among its 1 MMU"),
        ("FloatRules()", "None", "floats is None, and must be FloatRules"),
        ("page_bits, mmu_indices", "page_bit, mmu_indices", "page_bits is None, and must be 12 to 31"),
    ],
)
def test_numbers_of_a_front_end_that_the_runtime_cannot_work_with(
    install: Installed, declared: str, given: str, reason: str
) -> None:
    registry, _ = install(target__good=TARGET.replace(declared, given))
    with pytest.raises(PluginError, match=rf"^plug-in target\.good: its front end's {reason}"):
        registry.load(registry.target("good"))
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


NO_MEMORY = r"plug-in target\.good: cannot be imported: there is not enough memory"


@pytest.mark.parametrize(
    "failure",
    ["MemoryError", "MemoryError('too\\nmuch')", "ImportError('x.so: failed to map segment from shared object')"],
)
def test_a_machine_that_is_lacking_for_want_of_memory_is_said_to_be(install: Installed, failure: str) -> None:
    registry, _ = install(target__good=f"raise {failure}", target__bare=BARE)
    for name, target in (("", ""), ("desk", ""), ("", "good"), ("good/desk", "")):
        with pytest.raises(UsageError, match=rf"none of the plug-ins .* can be used: {NO_MEMORY}") as caught:
            choose_board(registry, name, target, None)
        assert "install" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^the bare guest has no machine$"):
        choose_board(registry, "", "bare", None)


def test_an_unknown_machine_may_be_a_broken_plugins(install: Installed) -> None:
    registry, _ = install(target__good=TARGET, board__desk=BOARD, board__shelf="raise MemoryError")
    with pytest.raises(
        UsageError, match=r"unknown machine 'shelf' \(known: desk\); it may be .* plug-in board\.shelf: "
    ):
        choose_board(registry, "shelf", "", None)


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
    with pytest.raises(PluginError, match="two distributions provide it: a and b"):
        registry.target("good")


def test_a_board_of_a_guest_that_there_is_not(install: Installed) -> None:
    board = """
@hookimpl
def raddle_boards():
    return [Board("desk", "goof", "a flat one", 4, lambda: "desk")]
"""
    registry, _ = install(target__good=TARGET + board)
    problem = "its board 'desk' is for target 'goof', but the targets are good"
    with pytest.raises(UsageError, match=f"none of the plug-ins that provide machines can be used: .*{problem}"):
        choose_board(registry, "", "good", None)
    assert [one.reason for one in registry.problems()] == [problem]


def test_elf_machine_is_a_number(install: Installed) -> None:
    registry, _ = install(target__good=TARGET.replace("4242", '"riscv"'))
    with pytest.raises(
        PluginError, match="elf_machine is 'riscv', and must be the number e_machine of ELF headers, or"
    ):
        registry.target("good")
