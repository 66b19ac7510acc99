# SPDX-License-Identifier: Apache-2.0
"""A guest of somebody else's: its wheel, installed with pip beside core and host, runs as its declarations call for.

The tiny guest declares a sequentially consistent memory, and x86-64 lets a load pass an earlier store (ST_LD): so it
runs on one thread, unless barriers are asked for. That the barriers are there, and needed, is for test_tiny_order.py.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.plugins.tiny import HERE, TINY, Environment

ROOT = HERE.parents[1]
PACKAGES = (ROOT / "core", ROOT / "hosts" / "x86_64", TINY)

pytestmark = [pytest.mark.slow, pytest.mark.host("x86_64")]

COUNTS_ON = "the tiny guest counts on orders that the x86_64 host does not keep (ST_LD)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh virtual environment with core, host and the tiny guest in it, and nothing of this tree on its path."""
    directory = tmp_path_factory.mktemp("tiny")
    sources = []
    for package in PACKAGES:
        # From copies: a build leaves its traces where the sources are.
        source = directory / "sources" / package.name
        shutil.copytree(package, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__"))
        sources.append(str(source))
    wheels = directory / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), *sources], check=True)
    assert sorted(wheel.name.partition("-")[0] for wheel in wheels.iterdir()) == [
        "raddle",
        "raddle_host_x86_64",
        "raddle_target_tiny",
    ]
    venv.create(directory / "venv", with_pip=True)
    environment = Environment(directory, (str(directory / "venv" / "bin" / "python"), "-I"))
    installed = environment("-m", "pip", "-q", "install", "pytest>=8", *(str(wheel) for wheel in wheels.iterdir()))
    assert installed.returncode == 0, installed.stderr
    return environment


def test_the_guest_passes_the_target_contract(environment: Environment) -> None:
    """And the contract's controls: it finds the mistakes that they make."""
    tests = environment.directory / "sources" / TINY.name / "tests"
    done = environment("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tests))
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_new_guest_passes_the_contract(environment: Environment) -> None:
    """What `raddle new-target` writes can be installed, is listed, and passes its tests as it is."""
    written = environment("-m", "raddle.cli.main", "new-target", "acme")
    assert written.returncode == 0, written.stderr
    package = environment.directory / "raddle-target-acme"
    installed = environment("-m", "pip", "-q", "install", "--no-deps", str(package))
    assert installed.returncode == 0, installed.stderr
    try:
        assert "acme-board" in environment("-m", "raddle.cli.main", "info").stdout
        page = environment("-m", "raddle.cli.main", "docs", "add-a-guest").stdout
        assert page.startswith("# Add a guest\n"), "the pages are in the wheel"
        assert environment("-c", "import raddle.docs.check").returncode == 1, "and nothing else of docs/ is"
        done = environment("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(package))
        assert done.returncode == 0, done.stdout
        source, program = package / "programs" / "hello.s", environment.directory / "hello.bin"
        assert environment("-m", "raddle_target_acme.assembler", str(source), str(program)).returncode == 0
        boot = ("-m", "raddle.cli.main", "boot", "-M", "acme-board", "-nographic", "-kernel", str(program))
        done = environment(*boot)
        assert (done.returncode, done.stdout) == (0, "hello from acme\n"), done.stderr
    finally:
        environment("-m", "pip", "-q", "uninstall", "-y", "raddle-target-acme")


def test_a_new_host_passes_the_contract(environment: Environment) -> None:
    """What `raddle new-host` writes, too."""
    written = environment("-m", "raddle.cli.main", "new-host", "acme")
    assert written.returncode == 0, written.stderr
    package = environment.directory / "raddle-host-acme"
    installed = environment("-m", "pip", "-q", "install", "--no-deps", str(package))
    assert installed.returncode == 0, installed.stderr
    try:
        assert "│ acme " in environment("-m", "raddle.cli.main", "info").stdout
        assert environment("-m", "raddle.cli.main", "docs", "add-a-host").stdout.startswith("# Add a host\n")
        done = environment("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(package))
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout
    finally:
        environment("-m", "pip", "-q", "uninstall", "-y", "raddle-host-acme")


def test_info_lists_the_guest_and_its_mode(environment: Environment) -> None:
    done = environment("-m", "raddle.cli.main", "info")
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout
    assert "desk" in done.stdout
    assert "broken" not in done.stdout
    matrix = environment("-m", "raddle.cli.main", "info", "--matrix").stdout
    rows = [
        [cell.strip() for cell in line.split("│")[1:5]] for line in matrix.splitlines() if line.startswith("│ tiny")
    ]
    assert rows == [["tiny", "x86_64", "native", "single"], ["tiny", "x86_64", "fenced", "multi"]]


def test_orders_that_the_host_lacks_make_it_single_threaded(environment: Environment) -> None:
    assert environment.run("counter", 4, "tcg") == {
        "status": 0,
        "console": "=",
        "mode": "single",
        "reasons": [f"{COUNTS_ON}; order=fenced would run it multi-threaded"],
        "warnings": [],
    }


def test_with_barriers_it_is_multi_threaded(environment: Environment) -> None:
    assert environment.run("counter", 4, "tcg,order=fenced") == {
        "status": 0,
        "console": "=",
        "mode": "multi",
        "reasons": ["order=fenced adds a barrier for each order that the x86_64 host lacks: ST_LD"],
        "warnings": [],
    }


def test_a_user_may_insist_and_is_warned(environment: Environment) -> None:
    result = environment.run("counter", 4, "tcg,thread=multi")
    assert (result["mode"], result["console"]) == ("multi", "=")
    assert result["warnings"] == [f"{COUNTS_ON}: its programs may see them broken; order=fenced keeps them"]


def test_a_cpu_model_is_chosen(environment: Environment, tmp_path: Path) -> None:
    """The second model has no FETCHADD."""
    assert "tiny-uni" in environment("-m", "raddle.cli.main", "boot", "-M", "desk", "-cpu", "help").stdout
    program = str(HERE / "programs" / "counter.tiny")
    for cpu, status, said in (("tiny", 0, '"console": "="'), ("tiny-uni", 1, "undefined instruction at 0x1018")):
        done = environment(str(environment.script()), program, "4", "tcg", cpu)
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True)


def test_a_program_that_goes_wrong_is_one_line(environment: Environment, tmp_path: Path) -> None:
    program = tmp_path / "bad.bin"
    program.write_bytes(bytes(4))
    done = environment("-m", "raddle.cli.main", "boot", "-M", "desk", "-kernel", str(program), "-serial", "null")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "raddle: undefined instruction at 0x1000"
    assert "Traceback" not in done.stderr
