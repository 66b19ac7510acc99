# SPDX-License-Identifier: Apache-2.0
"""Faults of the host: no descriptor, no memory, no room for a thread, signals at the worst of times."""

import errno
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from raddle.cli import boot
from raddle.errors import MachineError
from raddle.machine import terminal
from raddle.machine.reader import Reader
from raddle.machine.streams import parse_chardev

TESTS = Path(__file__).parent
GUESTS = TESTS.parent / "guests" / "arm" / "prebuilt"


def run(program, *arguments, **options):
    """A Python program, to its end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options)


# --- no descriptor is free --------------------------------------------------------------------------------------

NO_DESCRIPTOR = """
import os, resource, sys
from raddle.machine.streams import parse_chardev
device = parse_chardev(f"unix:{sys.argv[1]},server=on,wait={sys.argv[2]}")
device.on_failure = lambda error: print("failed", error, flush=True)
device.on_input(lambda: device.write(device.take(100)))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
def limit():
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
if sys.argv[2] == "off":
    device.start()
limit()
print("limited", flush=True)
if sys.argv[2] == "on":
    import threading
    threading.Thread(target=device.start, daemon=True).start()
sys.stdin.readline()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
sys.stdin.readline()
device.close()
"""


@pytest.mark.parametrize("wait", ["off", "on"])
def test_a_peer_is_let_in_when_a_descriptor_becomes_free(tmp_path, wait):
    child = subprocess.Popen(
        [sys.executable, "-c", NO_DESCRIPTOR, f"{tmp_path}/s", wait],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "limited\n"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(60)
            peer.connect(f"{tmp_path}/s")
            told = child.stderr.readline()
            if wait == "on":
                assert told == f"raddle: waiting for a connection on unix:{tmp_path}/s\n"
                told = child.stderr.readline()
            assert told == (
                f"raddle: warning: cannot let a peer in on unix:{tmp_path}/s: Too many open files; "
                "trying again until I can\n"
            )
            child.stdin.write("go on\n")
            child.stdin.flush()
            peer.sendall(b"hello")
            assert peer.recv(100) == b"hello"
        output, errors = child.communicate("end\n", timeout=60)
        assert (child.returncode, output, errors) == (0, "", "")
    finally:
        child.kill()
        child.wait()


@pytest.mark.host
@pytest.mark.parametrize("spare", range(12))
def test_too_few_descriptors_are_one_line(tmp_path, spare):
    program = (
        "import raddle_command, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv.pop(1)),) * 2);"
        "sys.exit(raddle_command.main())"
    )
    done = run(
        program, 3 + spare, "boot", "-kernel", GUESTS / "hello.elf", "-serial", f"file:{tmp_path}/o", "-m", "16M"
    )
    if done.returncode == 0:
        assert (tmp_path / "o").read_text()
    else:
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("raddle: ")
        assert done.stderr.count("\n") == 1


def test_a_thread_that_cannot_be_started_is_an_error_of_one_line(monkeypatch):
    device = parse_chardev("null")
    reader = Reader("raddle-test", device)
    monkeypatch.setattr(reader._thread, "start", lambda: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    with pytest.raises(MachineError, match="cannot start the thread that reads input: can't start new thread"):
        reader.start()
    reader.stop()


@pytest.mark.host
def test_no_room_for_threads_is_no_fault_of_the_guest():
    program = """
import sys, threading
import raddle_command
start = threading.Thread.start
def refuse(thread):
    if thread.name.startswith("vCPU"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
sys.exit(raddle_command.main())
"""
    done = run(program, "boot", "-kernel", GUESTS / "hello.elf", "-serial", "null")
    assert (done.returncode, done.stderr) == (
        1,
        "raddle: cannot start a thread for each vCPU: can't start new thread\n",
    )


# --- no memory --------------------------------------------------------------------------------------------------


@pytest.mark.host
@pytest.mark.parametrize("mebibytes", range(24, 232, 24))
def test_too_little_memory_is_one_line(mebibytes):
    program = "import sys, raddle_command; sys.exit(raddle_command.main())"
    limit = mebibytes << 20
    done = run(
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit})); {program}",
        *("boot", "-kernel", GUESTS / "hello.elf", "-serial", "null", "-m", "16M"),
    )
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1:]
    if done.returncode:
        assert done.returncode in (1, 2)
        assert last[0].startswith("raddle: ")
    else:
        assert not last


AT_WORK = """
import resource, sys, time
import raddle_command
from raddle import workers

def wake_often():
    while True:
        time.sleep(0.0001)

workers.submit(wake_often)
free = sys.stdin.fileno() + 3
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
sys.exit(raddle_command.main())
"""


def test_the_end_needs_no_descriptor_while_a_thread_works():
    """Python has a thread that wakes at its end load a library, and aborts when it cannot."""
    for _ in range(5):
        done = run(AT_WORK, "info")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


WITH_AN_IMPORT = """
import sys
import _signal, errno, os
wanted, happens = sys.argv[1:3]
del sys.argv[1:3]
class At:
    def find_spec(self, name, path, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            exec(happens)
sys.meta_path.insert(0, At())
import raddle_command
sys.exit(raddle_command.main())
"""
EARLY = ("raddle", "raddle.errors", "raddle.cli.main", "raddle.cli.boot", "raddle.machine.machine", "raddle.plugins")
LATE = ("raddle.entry_points", "raddle_target_arm.boards.virt", "raddle.threads.engine", "raddle.runtime._native")


@pytest.mark.host
@pytest.mark.parametrize("module", [EARLY[1], *LATE])
@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "ImportError('_x.so: failed to map segment from shared object')",
        "OSError(errno.EMFILE, os.strerror(errno.EMFILE), 'x')",
    ],
    ids=["memory", "map", "descriptors"],
)
def test_an_import_that_fails_is_one_line(module, error):
    done = run(WITH_AN_IMPORT, module, f"raise {error}", "boot", "-kernel", GUESTS / "hello.elf", "-serial", "null")
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("raddle: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.host
@pytest.mark.parametrize("mode", ["multi", "single"])
def test_a_guest_goes_on_though_nothing_can_be_said_about_it(mode):
    """One that does nothing but take exceptions is told of once; the import for that fails, and SIGTERM ends it."""
    happens = "os.kill(os.getpid(), 15); raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), 'x')"
    options = ("boot", "-kernel", GUESTS / "stray-pc.elf", "-serial", "null", "-accel", f"tcg,thread={mode}")
    done = run(WITH_AN_IMPORT, "raddle.debug.stuck", happens, *options)
    assert (done.returncode, done.stderr) == (143, "")


# --- signals ----------------------------------------------------------------------------------------------------


@pytest.mark.host
@pytest.mark.parametrize("module", [*EARLY, *LATE])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_an_import_is_quiet(module, number, status):
    action = f"_signal.raise_signal({int(number)})"
    done = run(WITH_AN_IMPORT, module, action, "boot", "-kernel", GUESTS / "endless-loop.elf", "-serial", "null")
    assert done.returncode in (status, -number)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_ignored_interrupt_stays_so():
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import raddle_command, sys; "
    program += (
        "sys.argv[1:] = ['--version']; raddle_command.main(); print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    assert run(program).stdout.splitlines()[-1] == "True"


STORM = """
import os, signal, sys, threading
sys.path.insert(0, {tests!r})
import test_cli_boot as t
from raddle.cli import boot
from raddle.cli.main import main

def begins(engine):
    engine.write("ready\\n")
    os.kill(os.getpid(), signal.SIGTERM)
    engine.stopping.wait()

def storm(frame, event, argument):
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    if began and not names & {{"_handle", "__exit__"}} and "_run" in names:
        counted.append(event)
        os.kill(os.getpid(), signal.SIGTERM)

began, counted = [], []
stop = t.Machine.stop
def stops(machine):
    began.append(True)
    stop(machine)
t.Machine.stop = stops
t.FakeEngine.guest = staticmethod(begins)
boot.Machine = lambda *a, **k: t.Machine(*a, engine=t.FakeEngine, plugins=t.plugins(), **k)
sys.argv[1:] = ["boot", "-kernel", {kernel!r}, *{options!r}]
sys.setprofile(storm)
status = main()
sys.setprofile(None)
assert len(counted) > 20
sys.exit(status)
"""


@pytest.mark.parametrize("options", [["-serial", "null", "-monitor", "stdio"], ["-serial", "mon:stdio"]], ids=" ".join)
def test_a_storm_of_signals_while_it_ends_leaves_the_terminal_as_it_was(tmp_path, options):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"\x00\x00\xa0\xe3" * 8)
    program = STORM.format(tests=str(TESTS), kernel=str(kernel), options=options)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    try:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (143, b"")
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


DIES = """
import os, signal, sys
from raddle.cli import boot
from raddle.machine.streams import StdioDevice
with boot._Signals():
    device = StdioDevice()
    device.start()
    os.write(1, b"raw")
    signal.raise_signal({number})
"""


@pytest.mark.parametrize("number", boot.DEADLY)
def test_signals_that_end_it_give_the_terminal_back(number):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    try:
        program = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)){DIES.format(number=int(number))}"
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=slave, stdout=subprocess.PIPE, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (-number, b"raw")
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


HANGS = """
import os, signal
from raddle.cli import boot
from raddle.machine.streams import StdioDevice

class Machine:
    def request_stop(self, at_once):
        os.write(1, b"asked ")

boot.IMPATIENT = {patience}
signals = boot._Signals()
signals.machine = Machine()
device = StdioDevice()
device.start()
signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.SIGTERM)
os.write(1, b"lives")
os._exit(0)
"""


@pytest.mark.parametrize(
    ("patience", "status", "said"), [(0, -signal.SIGTERM, b"asked "), (1000, 0, b"asked asked lives")]
)
def test_who_insists_ends_a_command_that_hangs(patience, status, said):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    try:
        command = [sys.executable, "-c", HANGS.format(patience=patience)]
        done = subprocess.run(command, stdin=slave, stdout=subprocess.PIPE, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (status, said)
        assert (termios.tcgetattr(slave) == before) == (status != 0)
    finally:
        os.close(master)
        os.close(slave)


def test_signals_do_not_keep_the_terminal_from_being_set(monkeypatch):
    set_really, interrupted = termios.tcsetattr, []

    def interrupt(*arguments):
        if len(interrupted) < 3:
            interrupted.append(arguments)
            raise termios.error(errno.EINTR, os.strerror(errno.EINTR))
        set_really(*arguments)

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    try:
        raw = terminal.RawTerminal(slave, signals=False)
        assert termios.tcgetattr(slave) != before
        monkeypatch.setattr(terminal.termios, "tcsetattr", interrupt)
        raw.restore()
        assert len(interrupted) == 3
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)
