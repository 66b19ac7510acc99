# SPDX-License-Identifier: Apache-2.0
"""`raddle new-target` and `new-host`: what they write, that it works, and what is refused. `raddle docs`.

That it works when it is installed is tested with the tiny guest; here it is only found on the path.
"""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from raddle.cli.main import main
from raddle.ir.header import HEADER
from raddle.ir.opcodes import TABLE
from raddle.plugins import registry
from raddle.runtime.helpers import HELPERS

KINDS = [("new-target", "guest"), ("new-host", "host")]
FILES = {
    "new-target": {"plugin.py", "board.py", "short.dec", "long.dec", "hello.s"},
    "new-host": {"plugin.py", "encoding.py", "emit.py", "backend.py", "machine.py"},
}


@pytest.mark.parametrize("command", FILES)
def test_writes_a_package(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "acme", str(tmp_path / "here" / "it_is")]) == 0
    assert "pip install -e" in capsys.readouterr().out
    written = [path for path in (tmp_path / "here" / "it_is").rglob("*") if path.is_file()]
    names = FILES[command] | {"pyproject.toml", "README.md", "py.typed", "test_contract.py"}
    assert names <= {path.name for path in written}
    for path in written:
        text = path.read_text()
        assert "@name@" not in text
        if path.suffix == ".py":
            ast.parse(text)


@pytest.mark.parametrize(("command", "noun"), KINDS)
@pytest.mark.parametrize("name", ["", "Acme", "a-b", "1st", "a/b", "..", "é", "class"])
def test_refuses_names_that_are_no_module(
    command: str, noun: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, name, str(tmp_path / "x")]) == 2
    assert f"is no name for a {noun}" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", FILES)
def test_overwrites_nothing(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "acme", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-target", "acme", str(tmp_path / "file" / "x")]) == 1
    assert capsys.readouterr().err.startswith("raddle: cannot write")


@pytest.mark.parametrize("command", FILES)
def test_a_link_to_nothing_stays(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert main([command, "acme", str(link)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("place", ["it_is", "here/it_is"])
def test_a_write_that_fails_leaves_nothing(command: str, place: str, tmp_path: Path) -> None:
    """A limit on the size of files stops the first one that is longer: others have been written before."""
    (tmp_path / "mine").write_text("mine")
    done = subprocess.run(
        # Without -B, Python keeps what the limit leaves of its compiled modules, and no later start can read them.
        [sys.executable, "-B", "-m", "raddle", command, "acme", place],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"raddle: cannot write {place}: File too large\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


@pytest.mark.parametrize("command", FILES)
def test_what_comes_meanwhile_is_not_overwritten(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "it_is" / "pyproject.toml"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        mine.parent.mkdir()
        mine.write_text("mine")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert main([command, "acme", str(mine.parent)]) == 1
    assert capsys.readouterr().err == f"raddle: cannot write {mine.parent}: Directory not empty\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(("command", "noun"), KINDS)
def test_refuses_the_name_of_one_that_is_there(
    command: str, noun: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = registry().names(command.removeprefix("new-"))[0]
    assert main([command, name, str(tmp_path / "x")]) == 2
    assert f"there is a {noun} {name} already" in capsys.readouterr().err


# --- that it works ------------------------------------------------------------------------------------------------


def written(parent: Path, kind: str) -> Path:
    """A package, which is found by who has its `src` on the path."""
    directory = parent / f"raddle-{kind}-acme"
    assert main([f"new-{kind}", "acme", str(directory)]) == 0
    information = directory / "src" / f"raddle_{kind}_acme-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: raddle-{kind}-acme\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text(f"[raddle]\n{kind}.acme = raddle_{kind}_acme.plugin\n")
    return directory


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest."""
    return written(tmp_path_factory.mktemp("new"), "target")


@pytest.fixture(scope="module")
def acme_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("new"), "host")


@pytest.fixture(params=["acme", "acme_host"])
def either(request: pytest.FixtureRequest) -> Path:
    directory: Path = request.getfixturevalue(request.param)
    return directory


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(directory / "src")}
    command: Sequence[str] = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_its_own_tests_pass(acme: Path) -> None:
    """The target contract, and programs with interrupts, a timer and console input, in both threading modes."""
    done = python(acme, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist", "tests")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_the_hosts_own_tests_pass(acme_host: Path) -> None:
    """The host contract; nothing is skipped but what needs an operation that it does not have."""
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist", "-rs")
    done = python(acme_host, "-m", "pytest", *options, "tests")
    assert done.returncode == 0, done.stdout
    reasons = [line.partition("py:")[2] for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert reasons
    assert all("the host has no" in reason for reason in reasons)


@pytest.mark.parametrize("page", ["add-a-host", "docs ir"])
def test_the_hosts_page_names_what_is_installed(acme_host: Path, page: str) -> None:
    assert main(["docs", page.removeprefix("docs ")]) == 0
    assert any(
        f"raddle docs {page.removeprefix('docs ')}" in path.read_text() for path in acme_host.rglob("*.[mp][dy]")
    )


def reason_in_matrix(listed: str, *pair: str) -> str:
    """Why a guest does not run on a host, which one row of `raddle info --matrix` says."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in listed.splitlines() if "│" in line]
    (first,) = [number for number, row in enumerate(cells) if tuple(row[:2]) == pair]
    assert cells[first][3] == "-"
    reason = cells[first][4]
    for row in cells[first + 1 :]:
        if row[1]:
            break
        reason += f" {row[4]}"
    return reason


def test_a_host_without_routines_is_listed_with_what_it_lacks(acme_host: Path) -> None:
    """As it is written: it boots no guest yet. The others are listed as ever."""
    done = python(acme_host, "-m", "raddle", "info", "--matrix")
    assert (done.returncode, done.stderr) == (0, "")
    assert "broken" not in done.stdout
    assert reason_in_matrix(done.stdout, "arm", "acme") == (
        "the host's package raddle_host_acme does not compile routine 'undefined': "
        "NotImplementedError: routines are not there yet"
    )
    assert any("aarch64" in line and "multi" in line for line in done.stdout.splitlines())


def test_a_host_whose_rules_are_refused_is_listed_as_refused(tmp_path: Path) -> None:
    """With the reason, in the words in which a machine refuses it (tests/hosts/toy). The others are listed as ever."""
    host = written(tmp_path, "host")
    fields = host / "src" / "raddle_host_acme" / "fields.py"
    text = fields.read_text()
    fields.write_text(
        text.replace("Shape(4, ((0, 16),), scale=16 * number)", "Shape(4, ((0, 12),), scale=16 * number)")
    )
    assert fields.read_text() != text
    done = python(host, "-m", "raddle", "info", "--matrix")
    assert (done.returncode, done.stderr) == (0, "")
    assert reason_in_matrix(done.stdout, "arm", "acme") == (
        "the host's package raddle_host_acme does not set its back end up: its rules are refused: in stub leave shapes "
        "3, 4 leave out bits 12 to 15 of a guest address, which is 0 to 4294967295"
    )
    assert any("aarch64" in line and "multi" in line for line in done.stdout.splitlines())


def comes_between_others(line: str, text: str) -> bool:
    """Whether the text has the line's characters in their order: CPUs print at the same time, one by one."""
    rest = iter(text)
    return all(character in rest for character in line)


def test_its_program_runs_as_its_page_says(acme: Path) -> None:
    page = (acme / "README.md").read_text()
    for line in ("raddle_target_acme.assembler programs/hello.s hello.bin", "-M acme-board -kernel hello.bin"):
        assert line in page
    done = python(acme, "-m", "raddle_target_acme.assembler", "programs/hello.s", "hello.bin")
    assert done.returncode == 0, done.stderr
    for more in ([], ["-smp", "2"], ["-icount", "shift=2"], ["-d", "verify"]):
        boot = ("-m", "raddle", "boot", "-M", "acme-board", "-nographic", "-kernel", "hello.bin", *more)
        done = python(acme, *boot)
        assert (done.returncode, done.stderr) == (0, "")
        if "-smp" in more:
            assert comes_between_others("hello from acme\n", done.stdout)
        else:
            assert "hello from acme\n" in done.stdout


@pytest.mark.peer("mypy")
def test_it_is_typed(either: Path) -> None:
    done = python(either, "-m", "mypy", "--strict", "--cache-dir", str(either / "cache"), "src", "tests")
    assert done.returncode == 0, done.stdout


@pytest.mark.peer("ruff")
@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_it_is_clean_by_its_own_configuration(either: Path, command: list[str]) -> None:
    done = python(either, "-m", "ruff", *command, "--no-cache", ".")
    assert done.returncode == 0, done.stdout


def test_every_page_that_its_page_names_is_installed(acme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "`raddle docs add-a-guest`" in (acme / "README.md").read_text()
    capsys.readouterr()
    assert main(["docs", "add-a-guest"]) == 0
    assert capsys.readouterr().out.startswith("# Add a guest\n")


# --- the pages ----------------------------------------------------------------------------------------------------


def test_docs_lists_all_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    listed = capsys.readouterr().out
    for page in (Path(__file__).parents[2] / "docs").glob("*.md"):
        title = page.read_text().splitlines()[0].removeprefix("# ")
        assert f"{page.stem:<16}{title}\n" in listed


def test_docs_of_an_unknown_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "add-a-gest"]) == 2
    assert "did you mean add-a-guest?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("helpers", [f"| `{helper.name}` | " for helper in HELPERS if helper.arity is not None]),
        ("ir", [f"| `{info.name}` | " for info in TABLE.values()]),
        ("fields", [f"| `{field.name}` | " for field in HEADER]),
    ],
)
def test_docs_of_a_table_have_all_its_rows(page: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", page]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# ")
    for name in names:
        assert text.count(f"\n{name}") == 1, name
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1, "all rows have as many columns"
    assert main(["docs"]) == 0
    assert f"{page:<16}{text.partition(chr(10))[0][2:]}\n" in capsys.readouterr().out
