# SPDX-License-Identifier: Apache-2.0
"""Character devices: consoles in memory, files, sockets, pseudo-terminals, the terminal and its escape keys."""

import hashlib
import os
import pty
import re
import select
import socket
import subprocess
import sys
import termios
import threading
import time
import tty

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raddle.errors import OutputError, UsageError
from raddle.machine.chardev import (
    BACKLOG_LIMIT,
    INPUT_LIMIT,
    CharDevice,
    ConsoleClosed,
    ExpectTimeout,
    FileDevice,
    MemoryConsole,
)
from raddle.machine.outlet import Outlet
from raddle.machine.peers import PtyDevice, SocketDevice
from raddle.machine.reader import Sequence
from raddle.machine.streams import Command, EscapeFilter, StdioDevice, parse_chardev


def until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


def take_all(device, size):
    data = b""

    def more():
        nonlocal data
        data += device.take(size)
        return len(data) >= size

    until(more)
    return data


# --- in memory --------------------------------------------------------------------------------------------------


def test_expect_consumes_what_it_matches():
    console = MemoryConsole()
    console.write(b"one two ")
    console.write("thr\u00e9e".encode()[:4])
    console.write("thr\u00e9e".encode()[4:])
    assert console.expect(r"t(w)o", timeout=1)[1] == "w"
    assert console.read() == " thrée"
    assert console.read() == ""
    assert console.text == "one two thrée"


def test_expect_waits_for_output():
    console = MemoryConsole()
    threading.Timer(0.05, console.write, [b"login: "]).start()
    assert console.expect(re.compile("login:"), timeout=240)


def test_expect_says_what_came_instead():
    console = MemoryConsole()
    console.write(b"Kernel panic\n")
    with pytest.raises(ExpectTimeout, match=r"did not print 'login:' in 0.01 s; it ended with 'Kernel panic\\n'"):
        console.expect("login:", timeout=0.01)


def test_expect_ends_when_the_machine_does():
    console = MemoryConsole()
    threading.Timer(0.05, console.close).start()
    with pytest.raises(ConsoleClosed, match="stopped without printing"):
        console.expect("login:", timeout=240)
    console.write(b"late")
    assert console.expect("late", timeout=0)


def test_send_reaches_the_port():
    console, told = MemoryConsole(), []
    console.on_input(lambda: told.append(console.take(3)))
    console.send("hello")
    assert (told, console.take(10)) == ([b"hel"], b"lo")


def test_feeding_waits_while_too_much_waits_and_close_lets_go():
    device = CharDevice()
    fed = threading.Event()

    def feed():
        device.feed(b"x" * INPUT_LIMIT)
        device.feed(b"y")
        fed.set()

    threading.Thread(target=feed).start()
    assert not fed.wait(0.05)
    assert device.take(1) == b"x"
    assert fed.wait(240)
    feeder = threading.Thread(target=device.feed, args=(b"z",))
    feeder.start()
    device.close()
    until(lambda: not feeder.is_alive())


# --- files, sockets, ptys ---------------------------------------------------------------------------------------


def test_file(tmp_path):
    path = tmp_path / "out"
    path.write_text("old contents")
    device = parse_chardev(f"file:{path}")
    device.write(b"new")
    assert path.read_bytes() == b"new"
    device.close()
    device.close()
    device.write(b"ignored after close")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("file:/nonexistent/x", "cannot open /nonexistent/x: No such file or directory"),
        ("file:", "not supported"),
        ("vc", r"'vc' is not supported \(known: stdio"),
        ("stdio:x", "not supported"),
        ("mon:null", "not supported"),
        ("tcp:localhost:99", "needs server=on"),
        ("tcp:localhost,server=on", "not tcp:HOST:PORT"),
        ("tcp:localhost:70000,server=on", "not tcp:HOST:PORT"),
        ("tcp:nowhere.invalid:1,server=on", "cannot listen on tcp:nowhere.invalid:1"),
        ("tcp:127.0.0.1:1,server=on,color=red", "'color=red' is not supported"),
        ("unix:/nonexistent/sock,server=on", "cannot listen on unix:/nonexistent/sock: No such file"),
    ],
)
def test_devices_that_cannot_be(text, fault):
    with pytest.raises(UsageError, match=fault) as caught:
        parse_chardev(text)
    assert "\n" not in str(caught.value)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="Address already in use"):
            parse_chardev(f"tcp:127.0.0.1:{port},server=on")


@pytest.fixture
def served(tmp_path):
    device = parse_chardev(f"unix:{tmp_path}/sock,server=on,wait=off")
    assert isinstance(device, SocketDevice)
    device.start()
    yield device, str(tmp_path / "sock")
    device.close()
    assert not (tmp_path / "sock").exists()


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(path)
    return peer


def test_socket_carries_both_ways_and_peers_may_change(served):
    device, path = served
    device.write(b"nobody listens")
    for text in (b"first", b"second"):
        with connect(path) as peer:
            peer.sendall(text)
            assert take_all(device, len(text)) == text
            device.write(b"hello " + text)
            assert peer.recv(100) == b"hello " + text
        until(lambda: device._peer is None)


def test_socket_never_holds_the_guest_up(served):
    device, path = served
    with connect(path) as peer:
        until(lambda: device._peer is not None)
        for _ in range(64):  # nobody reads meanwhile: were it to wait, it would wait for ever
            device.write(b"x" * 65536)
        until(lambda: len(peer.recv(65536)) > 0)


def test_socket_waits_for_its_peer_when_told_to(tmp_path, capsys):
    device = parse_chardev(f"unix:{tmp_path}/sock,server=on")
    starter = threading.Thread(target=device.start)
    starter.start()
    with connect(f"{tmp_path}/sock"):
        starter.join(240)
        assert not starter.is_alive()
    device.close()
    assert "waiting for a connection" in capsys.readouterr().err


LOTS = bytes(range(1, 251)) * 80


def test_a_peer_is_held_back_while_too_much_waits_and_nothing_is_lost(served):
    device, path = served
    with connect(path) as peer:
        sender = threading.Thread(target=peer.sendall, args=(LOTS * 50,))
        sender.start()
        until(lambda: len(device._input) >= INPUT_LIMIT)
        seen = b""
        while len(seen) < len(LOTS * 50):
            assert len(device._input) < 3 * INPUT_LIMIT
            seen += device.take(1000)
        sender.join(240)
    assert seen == LOTS * 50


def test_a_peer_that_leaves_while_it_is_held_back_makes_room_for_the_next(served):
    device, path = served
    with connect(path) as peer:
        peer.sendall(LOTS)
    with connect(path) as peer:
        until(lambda: len(device._input) == len(LOTS) and device._peer is not None)
        device.write(b"hello")
        assert peer.recv(100) == b"hello"
        peer.sendall(b"more")
        assert take_all(device, len(LOTS) + 4) == LOTS + b"more"
        device.write(b"still here")
        assert peer.recv(100) == b"still here"


def test_who_comes_before_it_was_noticed_that_the_last_one_left_is_let_in(tmp_path):
    device = parse_chardev(f"unix:{tmp_path}/sock,server=on,wait=off")
    with connect(f"{tmp_path}/sock") as peer:
        device._accept()
        peer.sendall(b"first")
    with connect(f"{tmp_path}/sock") as peer:
        device._accept()
        device.write(b"hello")
        assert peer.recv(100) == b"hello"
        with connect(f"{tmp_path}/sock") as another:
            device._accept()
            assert another.recv(100) == b"", "one at a time"
    assert device.take(100) == b"first"
    device.close()


def test_what_peers_leave_behind_has_a_bound(served):
    device, path = served
    device.feed(b"x" * (BACKLOG_LIMIT - 10), wait=False)
    with connect(path) as peer:
        peer.sendall(LOTS)
    until(lambda: len(device._input) == BACKLOG_LIMIT)
    with connect(path) as peer:
        until(lambda: device._peer is not None)
        device.write(b"hello")
        assert peer.recv(100) == b"hello"
    assert take_all(device, BACKLOG_LIMIT).endswith(b"x" + LOTS[:10])


def test_tcp_peer_that_leaves_while_it_is_held_back():
    device = parse_chardev("tcp:127.0.0.1:0,server=on,wait=off")
    device.start()
    for _ in range(3):
        with socket.create_connection(device._listener.getsockname(), timeout=240) as peer:
            peer.sendall(LOTS)
            peer.shutdown(socket.SHUT_WR)
            assert peer.recv(100) == b""
    assert take_all(device, 3 * len(LOTS)) == LOTS * 3
    device.close()


def test_tcp_socket():
    device = parse_chardev("tcp:127.0.0.1:0,server=on,wait=off")
    device.start()
    with socket.create_connection(device._listener.getsockname(), timeout=240) as peer:
        peer.sendall(b"ping")
        assert take_all(device, 4) == b"ping"
    device.close()


@pytest.mark.parametrize(
    ("host", "listens", "notes"),
    [
        ("", "127.0.0.1", ["character device on tcp:127.0.0.1:PORT"]),
        ("127.0.0.1", "127.0.0.1", ["character device on tcp:127.0.0.1:PORT"]),
        ("localhost", "127.0.0.1", ["character device on tcp:127.0.0.1:PORT"]),
        (
            "0.0.0.0",
            "0.0.0.0",
            [
                "character device on tcp:0.0.0.0:PORT",
                "warning: other hosts can connect to tcp:0.0.0.0:PORT, and nobody asks them for a password; "
                "tcp:127.0.0.1:PORT is for this host alone",
            ],
        ),
    ],
)
def test_tcp_listens_for_this_host_alone_unless_a_host_is_named(host, listens, notes):
    device = parse_chardev(f"tcp:{host}:0,server=on,wait=off")
    found, port = device._listener.getsockname()
    assert found == listens
    assert list(device.notes) == [note.replace("PORT", str(port)) for note in notes]
    assert device.where == f"tcp:{host or '127.0.0.1'}:{port}"
    device.close()


def test_a_port_that_was_named_is_not_told_of():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    device = parse_chardev(f"tcp::{port},server=on,wait=off")
    assert device.notes == ()
    device.close()


def test_pty():
    device = parse_chardev("pty")
    assert isinstance(device, PtyDevice)
    device.start()
    terminal = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, b"in\r")
    assert take_all(device, 3) == b"in\r"
    device.write(b"out\n")
    assert os.read(terminal, 100) == b"out\n"
    os.close(terminal)
    device.close()


def test_no_thread_is_left_behind(tmp_path):
    for text in ("pty", f"unix:{tmp_path}/sock,server=on,wait=off", "null", f"file:{tmp_path}/out"):
        device = parse_chardev(text)
        device.start()
        device.close()
        device.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("raddle")] == []


def test_file_device_is_closed_with_its_path_kept(tmp_path):
    device = FileDevice(str(tmp_path / "x"))
    device.close()
    assert device.path.name == "x"


# --- readers that read nothing ----------------------------------------------------------------------------------

MORE_THAN_FITS = bytes(range(256)) * 8192


def pipe_ends():
    return os.pipe()


def terminal_ends():
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave


def socket_ends():
    return tuple(end.detach() for end in socket.socketpair())


class Writing(threading.Thread):
    """Writes more than any file takes, on a thread of its own."""

    def __init__(self, outlet):
        super().__init__(daemon=True)
        self.outlet = outlet
        self.start()

    def run(self):
        self.outlet.write(MORE_THAN_FITS)

    def ends(self):
        self.join(240)
        return not self.is_alive()


class Ends:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def read(self):
        assert select.select([self.reader], [], [], 240)[0], "nothing comes"
        try:
            return os.read(self.reader, 1 << 16)
        except OSError:  # the end of a terminal
            return b""

    def read_to_the_end(self):
        """What is there when nobody else has the writer's end open."""
        os.close(self.writer)
        self.writer = None
        return b"".join(iter(self.read, b""))

    def close(self):
        os.close(self.reader)
        if self.writer is not None:
            os.close(self.writer)


@pytest.fixture(params=[pipe_ends, terminal_ends, socket_ends], ids=lambda ends: ends.__name__)
def ends(request):
    """The reader's and the writer's."""
    ends = Ends(*request.param())
    yield ends
    ends.close()


@pytest.fixture(params=[True, False], ids=["shared", "own"])
def outlet(request, ends):
    outlet = Outlet("it", ends.writer if request.param else os.dup(ends.writer), shared=request.param)
    yield outlet
    outlet.close()


def test_a_reader_that_takes_its_time_gets_everything(outlet, ends):
    writing = Writing(outlet)
    seen = b""
    while len(seen) < len(MORE_THAN_FITS):
        seen += ends.read()
    assert seen == MORE_THAN_FITS
    assert writing.ends()


@pytest.mark.parametrize("how", ["hang_up", "close"])
def test_a_reader_that_reads_nothing_is_waited_for_until_then(outlet, ends, how):
    writing = Writing(outlet)
    seen = ends.read()
    writing.join(0.05)
    assert writing.is_alive(), "the control: it waits"
    getattr(outlet, how)()
    assert writing.ends()
    outlet.write(b"more")
    outlet.close()
    seen += ends.read_to_the_end()
    assert len(seen) < len(MORE_THAN_FITS)
    assert MORE_THAN_FITS.startswith(seen), "nothing is missing in between"


def test_after_a_hang_up_what_fits_is_written(outlet, ends):
    outlet.hang_up()
    outlet.write(b"the end")
    assert ends.read() == b"the end"


def test_others_see_no_change_of_a_shared_file(ends):
    outlet = Outlet("it", ends.writer, shared=True)
    assert os.get_blocking(ends.writer)
    outlet.close()
    outlet.close()
    assert os.write(ends.writer, b"still open") == 10
    assert ends.read() == b"still open"


@pytest.fixture
def not_again(monkeypatch):
    """Gives an outlet to what another user may have opened."""

    def refuse(*_):
        raise PermissionError

    def outlet(file):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            return Outlet("it", file, shared=True)

    return outlet


@pytest.mark.parametrize("ends", [pipe_ends, terminal_ends], indirect=True, ids=lambda ends: ends.__name__)
def test_a_file_that_may_not_be_opened_again(ends, not_again):
    outlet = not_again(ends.writer)
    outlet.write(b"hello")
    assert ends.read() == b"hello"
    outlet.close()


@pytest.mark.parametrize("ends", [pipe_ends], indirect=True, ids=lambda ends: ends.__name__)
def test_a_pipe_that_may_not_be_opened_again(ends, not_again):
    outlet = not_again(ends.writer)
    writing = Writing(outlet)
    seen = ends.read()
    outlet.hang_up()
    assert writing.ends()
    outlet.close()
    assert MORE_THAN_FITS.startswith(seen + ends.read_to_the_end())


def test_the_master_of_a_terminal_is_not_opened_again():
    master, slave = terminal_ends()
    outlet = Outlet("it", master, shared=True)
    outlet.write(b"typed")
    assert Ends(slave, None).read() == b"typed"
    outlet.close()
    os.close(master)
    os.close(slave)


def test_a_reader_that_is_gone():
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet("the pipe", writer)
    with pytest.raises(OutputError, match=r"^cannot write to the pipe: Broken pipe$"):
        outlet.write(b"x")
    outlet.hang_up()
    outlet.write(b"who is not waited for any longer is not complained of either")
    outlet.close()


def test_a_shared_file_is_written_where_others_write(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        outlet = Outlet("it", file.fileno(), shared=True)
        for _ in range(3):
            outlet.write(b"ours\n")
            os.write(file.fileno(), b"theirs\n")
        outlet.close()
    assert (tmp_path / "out").read_text() == "ours\ntheirs\n" * 3


# --- the terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (b"plain", [b"plain"]),
        (b"a\x01xb", [b"a", Command.QUIT, b"b"]),
        (b"\x01X\x01C\x01h", [Command.QUIT, Command.MONITOR, Command.HELP]),
        (b"\x01a\x01\x01", [b"\x01\x01"]),
        (b"\x01?z", [b"z"]),
        (b"\x03\x1a", [b"\x03\x1a"]),
    ],
)
def test_escapes(typed, meant):
    assert EscapeFilter().feed(typed) == meant


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"\x01", b"a", b"x", b"c", b"q"]), max_size=20), st.data())
def test_escapes_do_not_depend_on_how_input_is_cut(pieces, data):
    def joined(parts):
        result = []
        for part in parts:
            if result and isinstance(part, bytes) and isinstance(result[-1], bytes):
                result[-1] += part
            else:
                result.append(part)
        return result

    typed = b"".join(pieces)
    cut = data.draw(st.integers(0, len(typed)))
    split = EscapeFilter()
    assert joined(EscapeFilter().feed(typed)) == joined(split.feed(typed[:cut]) + split.feed(typed[cut:]))


STDIO_PROGRAM = """
import sys, time
from raddle.machine.streams import Command, StdioDevice
device = StdioDevice()
done = []
device.on_command = lambda command: done.append(command) if command is Command.QUIT else None
device.start()
device.write(b"ready\\r\\n")
while not done:
    data = device.take(100)
    if data:
        device.write(b"<" + data + b">")
    time.sleep(0.005)
{end}
"""


@pytest.mark.parametrize("end", ["device.close()", "raise RuntimeError('defect')", "sys.exit(3)"])
def test_terminal_is_raw_while_open_and_put_back_however_it_ends(end):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    program = STDIO_PROGRAM.replace("{end}", end)
    child = subprocess.Popen([sys.executable, "-c", program], stdin=slave, stdout=slave, stderr=subprocess.DEVNULL)
    seen = b""

    def read(wanted):
        nonlocal seen
        while wanted not in seen:
            assert select.select([master], [], [], 240)[0], f"no {wanted!r} after {seen!r}"
            seen += os.read(master, 1000)

    try:
        read(b"ready")
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        os.write(master, b"k\x03")
        read(b"<k\x03>") if b"<k>" not in seen else read(b"<\x03>")
        os.write(master, b"\x01x")
        child.wait(240)
        assert termios.tcgetattr(slave) == before
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)


@pytest.fixture
def sequence():
    """What does a terminal's input, with its device; not started."""
    device = StdioDevice()
    sequence = Sequence("raddle-typed", device)
    yield device, sequence
    sequence.stop()
    device.close()
    assert not sequence._thread.is_alive()


def test_what_is_typed_has_a_bound_while_it_cannot_be_done(sequence):
    device, typed = sequence
    done = []
    device.divert = device.on_command = done.append
    half = b"x" * (BACKLOG_LIMIT // 2)
    for _ in range(3):
        device._put(typed, half + b"y")
    device._put(typed, Command.HELP)
    typed.start()
    until(lambda: Command.HELP in done)
    device._put(typed, b"more")
    until(lambda: b"more" in done)
    assert done == [half + b"y", half[1:], Command.HELP, b"more"]


def test_what_was_typed_before_the_end_is_done_first(sequence):
    device, typed = sequence
    done = []
    device.divert = device.on_command = done.append
    device._put(typed, b"quick")
    typed.start()
    device._put(typed, b"work")
    device._put(typed, Command.QUIT)
    assert done == [b"quick", b"work", Command.QUIT]


def test_what_fails_about_typed_input_is_told_of(sequence):
    device, typed = sequence
    failed = []
    device.on_failure = failed.append
    device.divert = lambda data: 1 // 0
    typed.start()
    device._put(typed, b"z")
    typed._thread.join(240)
    assert [type(error) for error in failed] == [ZeroDivisionError]


def test_what_typed_input_does_may_end_it(sequence):
    device, typed = sequence
    device.on_command = lambda command: typed.stop()
    typed.start()
    device._put(typed, Command.MONITOR)
    typed._thread.join(240)
    assert not typed._thread.is_alive()


UNREAD_PROGRAM = """
import hashlib, threading
from raddle.machine.streams import Command, StdioDevice
device = StdioDevice()
quit = threading.Event()
device.on_command = lambda command: quit.set()
device.start()
device.write(b"ready")
quit.wait(240)
waiting = device.take(1 << 20)
device.write(f"{quit.is_set()} {len(waiting)} {hashlib.md5(waiting).hexdigest()}.".encode())
device.close()
"""


def test_a_terminal_is_read_on_though_the_guest_reads_nothing():
    master, slave = terminal_ends()
    child = subprocess.Popen([sys.executable, "-c", UNREAD_PROGRAM], stdin=slave, stdout=slave)
    os.close(slave)
    terminal = Ends(master, None)
    os.set_blocking(master, False)
    typed = LOTS.replace(b"\x01", b"") + b"\x01x"
    said = b""
    try:
        while b"ready" not in said:
            said += terminal.read()
        while typed:
            assert select.select([], [master], [], 20)[1], "the terminal is full"
            typed = typed[os.write(master, typed[:500]) :]
        while not said.endswith(b"."):
            said += terminal.read()
        wanted = LOTS.replace(b"\x01", b"")
        assert said.decode() == f"readyTrue {len(wanted)} {hashlib.md5(wanted).hexdigest()}."
    finally:
        child.kill()
        child.wait()
        terminal.close()


PIPE_PROGRAM = """
import sys
from raddle.machine.chardev import INPUT_LIMIT
from raddle.machine.streams import StdioDevice
device = StdioDevice()
device.start()
seen, most = b"", 0
while not seen.endswith(b"end"):
    most = max(most, len(device._input))
    seen += device.take(700)
assert most < 3 * INPUT_LIMIT, most
device.write(seen)
device.close()
"""


def test_nothing_of_a_pipe_is_lost_however_slowly_the_guest_reads():
    sent = LOTS.replace(b"\x01", b"") * 100 + b"end"
    done = subprocess.run([sys.executable, "-c", PIPE_PROGRAM], input=sent, capture_output=True, timeout=240)
    assert (done.stdout == sent, done.stderr) == (True, b"")


def test_a_pipe_that_nobody_takes_from_holds_no_end_up():
    ended = "device.start()\nwhile len(device._input) < 4096: pass\ndevice.close()\nprint('closed')"
    program = f"from raddle.machine.streams import StdioDevice\ndevice = StdioDevice()\n{ended}"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, LOTS)
    done = subprocess.run([sys.executable, "-c", program], stdin=reader, capture_output=True, timeout=240)
    os.close(reader)
    os.close(writer)
    assert (done.stdout, done.stderr) == (b"closed\n", b"")
