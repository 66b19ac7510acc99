# SPDX-License-Identifier: Apache-2.0
"""`raddle info`, and what the command line does with a user's mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raddle import __version__
from raddle.cli import info
from raddle.cli.main import COMMANDS, main
from raddle.ir.types import FloatRules, StateLayout, Type
from raddle.ordering import MemoryOrder
from raddle.plugins import Board, Host, Registry, Target, registry

TSO = MemoryOrder.ALL & ~MemoryOrder.ST_LD


def loads(*_: str) -> Any:
    return SimpleNamespace(
        word=Type.I32,
        page_bits=12,
        mmu_indices=1,
        linear_indices=(),
        fetch_index_shift=0,
        floats=FloatRules(),
        state=StateLayout(),
        registers=(),
        routines={},
        python_helpers={},
    )


def loads_back_end() -> Any:
    return registry().load(registry().host("x86_64"))


def fails(cpu: str) -> Any:
    raise ImportError("no front end here")


class FakeRegistry(Registry):
    """Descriptors that are simply there; loading and problems are the real registry's."""

    def __init__(self, targets: list[Target], hosts: list[Host], boards: list[Board]) -> None:
        super().__init__(lambda: ())
        self._fakes = tuple(targets), tuple(hosts), tuple(boards)

    def targets(self) -> tuple[Target, ...]:
        return self._fakes[0]

    def hosts(self) -> tuple[Host, ...]:
        return self._fakes[1]

    def boards(self, target: str = "") -> tuple[Board, ...]:
        return self._fakes[2]


@pytest.fixture
def raddle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `raddle` with fake plug-ins: a weak and a strong guest, one that does not load, two hosts, a board."""
    plugins = FakeRegistry(
        [
            Target("weak", 32, True, MemoryOrder.NONE, 1, ("cpu-w",), loads),
            Target("strong", 32, True, MemoryOrder.ALL, 2, ("cpu-s",), loads),
            Target("ghost", 64, True, MemoryOrder.NONE, 3, ("cpu-g",), fails),
        ],
        [
            Host("tso", 64, TSO, ("nowhere",), loads_back_end),
            Host("lax", 64, MemoryOrder.NONE, ("nowhere",), loads_back_end),
        ],
        [Board("desk", "weak", "a flat one", 4, loads)],
    )
    monkeypatch.setattr(info, "registry", lambda: plugins)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return run


Raddle = Callable[..., tuple[int, str, str]]


def row(text: str, *cells: str) -> list[str]:
    """The cells of the only table row that begins with `cells`."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines() if "│" in line]
    (found,) = [one for one in rows if one[: len(cells)] == list(cells)]
    return found


def test_info_lists_what_works_and_says_why_the_rest_does_not(raddle: Raddle) -> None:
    status, out, err = raddle("info")
    assert (status, err) == (0, "")
    assert f"raddle {__version__}" in out
    assert row(out, "weak") == ["weak", "32", "yes", "weak", "cpu-w"]
    assert row(out, "strong")[3] == "LD_LD, LD_ST, ST_LD, ST_ST"
    assert row(out, "tso") == ["tso", "64", "LD_LD, LD_ST, ST_ST", "no"]
    assert row(out, "desk") == ["desk", "weak", "1-4", "a flat one"]
    assert "broken plug-in target.ghost: cannot be loaded: ImportError: no front end here" in out
    assert "cpu-g" not in out


def test_matrix_gives_mode_and_reason_of_each_pair(raddle: Raddle) -> None:
    """With each setting of `order`, and in one row if they make no difference."""
    status, out, _ = raddle("info", "--matrix")
    assert status == 0
    kept = "the tso host keeps every order that the weak guest counts on"
    assert row(out, "weak", "tso")[2:] == ["native, fenced", "multi", kept]
    native, fenced = row(out, "strong", "tso", "native"), row(out, "strong", "tso", "fenced")
    assert native[3] == "single"
    assert native[4].startswith("the strong guest counts on orders that the tso host does not keep (ST_LD)")
    assert fenced[3] == "multi"
    assert fenced[4].startswith("order=fenced adds a barrier for each order that the tso host lacks: ST_LD")
    assert row(out, "strong", "lax", "native")[3] == "single"
    assert "ghost" not in out.partition("broken plug-in")[0]


def test_matrix_decides_as_boot_would(raddle: Raddle) -> None:
    _, out, _ = raddle("info", "--matrix", "--accel", "tcg,order=fenced")
    assert row(out, "strong", "tso")[2:4] == ["fenced", "multi"]
    _, out, _ = raddle("info", "--matrix", "-icount", "shift=auto")
    assert row(out, "weak", "tso")[2:] == ["native, fenced", "single", "instruction counting needs one thread"]
    _, out, _ = raddle("info", "--matrix", "-accel", "tcg,thread=multi", "-icount", "3")
    assert row(out, "weak", "tso")[3] == "-"


def test_matrix_of_what_is_installed(tmp_path: Path) -> None:
    """ARM and Alpha, and the tiny guest, which counts on all orders, on both hosts."""
    tiny = Path(__file__).parents[1] / "plugins" / "raddle-target-tiny" / "src"
    information = tmp_path / "raddle_target_tiny-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: raddle-target-tiny\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[raddle]\ntarget.tiny = raddle_target_tiny.plugin\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(tiny)))}
    command = [sys.executable, "-m", "raddle", "info", "--matrix"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")[:4]] for line in done.stdout.splitlines()]
    for pair in product(("alpha", "arm", "tiny"), ("aarch64", "x86_64")):
        found = [one[2:] for one in rows if one[:2] == list(pair)]
        if pair[0] != "tiny":
            assert found == [["native, fenced", "multi"]]
        else:
            assert found == [["native", "single"], ["fenced", "multi"]]
    assert "(LD_LD, LD_ST, ST_LD, ST_ST)" in done.stdout, "what AArch64 lacks for the tiny guest"
    assert "(ST_LD)" in done.stdout, "what x86-64 lacks"


def test_what_is_installed_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert row(out, "alpha", "64")[2:] == ["yes", "weak", "ev67, ev4, ev45, ev5, ev56, pca56, ev6, ev68"]
    assert row(out, "arm", "32")[2:] == ["yes", "weak", "cortex-a15"]
    assert row(out, "clipper", "alpha")[2] == "1-4"
    assert row(out, "virt", "arm")[2] == "1-8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["inof"],
            "raddle: unknown command 'inof'; did you mean info? (known: boot, info, demo, litmus, fetch-demo-kernel, "
            "new-target, new-host, docs)",
        ),
        (
            ["info", "--matix"],
            "raddle: option '--matix' is not supported; the nearest that is: --matrix (see raddle info",
        ),
        (["info", "more"], "raddle: unexpected argument 'more' (see raddle info --help)"),
        (["--verison"], "raddle: "),
        (["info", "--accel"], "raddle: argument -accel/--accel: expected one argument"),
        (["info", "--accel", "kvm"], "raddle: accelerator kvm is not available (known: tcg); kvm:tcg would fall back"),
        (["info", "--accel", "tcg,llsc=exact"], "raddle: unknown --accel llsc value 'exact' (known: fast, strict)"),
        (["info", "-icount", "often"], "raddle: -icount shift must be auto or a number"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(raddle: Raddle, arguments: list[str], message: str) -> None:
    status, out, err = raddle(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_version_and_help(raddle: Raddle) -> None:
    assert raddle("--version") == raddle("-version") == (0, f"raddle {__version__}\n", "")
    for arguments in ([], ["--help"]):
        status, out, err = raddle(*arguments)
        assert (status, err) == (0, "")
        assert all(command in out for command in COMMANDS)
    status, out, _ = raddle("info", "--help")
    assert status == 0
    assert "--matrix" in out


def python(code: str, **environment: str) -> str:
    completed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return completed.stdout


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("raddle.machine", "raddle.runtime", "raddle.ir", "raddle.translate", "capstone", "elftools", "cffi")
    code = (
        "import sys, raddle.cli.main, raddle.cli.parser as p\n"
        "p.build_parser('info')\n"
        f"print([name for name in sys.modules if name.startswith({heavy!r}) or name.startswith('raddle_')])"
    )
    assert python(code) == "[]\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m raddle.cli.main info | true"
    completed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert completed.stderr == ""


def test_the_shell_is_offered_commands_and_options() -> None:
    def offered(line: str) -> set[str]:
        code = "import os, sys; os.dup2(1, 8); sys.argv = ['raddle']; from raddle.cli.main import main; main()"
        answer = python(
            code,
            _ARGCOMPLETE="1",
            _ARGCOMPLETE_IFS="\x0b",
            _ARGCOMPLETE_SUPPRESS_SPACE="1",
            COMP_LINE=line,
            COMP_POINT=str(len(line)),
        )
        return {word.strip() for word in answer.split("\x0b")}

    assert set(COMMANDS) <= offered("raddle ")
    assert offered("raddle inf") == {"info"}
    assert offered("raddle info --m") == {"--matrix"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["info"], ["--version"], ["boot", "--help"]], ids=" ".join)
def test_output_that_cannot_be_written(words: list[str]) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "raddle.cli.main", *words]
        result = subprocess.run(
            command, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True, timeout=240, check=False
        )
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["raddle: cannot write to the standard output: No space left on device"]


@pytest.mark.parametrize("words", ["info", "boot --help"])
def test_a_process_without_a_standard_output(words: str) -> None:
    command = f"exec {sys.executable} -m raddle.cli.main {words} >&-"
    result = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    assert (result.returncode, result.stderr) == (0, "")
