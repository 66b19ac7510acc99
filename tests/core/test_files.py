# SPDX-License-Identifier: Apache-2.0
"""Files for a machine: what has no end is refused in one line, and nothing takes more memory than it may."""

import gzip
import os
import socket
import stat
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from raddle.errors import UsageError
from raddle.machine.files import Contents, gunzip, read_file

compress = partial(gzip.compress, mtime=0)


def test_gzip_bombs_are_stopped():
    bomb = compress(bytes(4 << 20))
    with pytest.raises(UsageError, match="more than 1 MiB when decompressed"):
        gunzip(bomb, "kernel", limit=1 << 20)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("missing", "No such file"),
        (".", "it is a directory"),
        ("bad\0name", "null"),
        ("secret", "Permission denied"),
    ],
)
def test_unreadable_files(tmp_path, path, fault):
    if path == "secret":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        (tmp_path / "secret").touch(mode=0)
    with pytest.raises(UsageError, match=f"cannot read initrd .*{fault}"):
        read_file(tmp_path / path, "initrd")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (make_socket, "a socket"),
        (Path.mkdir, "a directory"),
    ],
    ids=["pipe", "device", "socket", "directory"],
)
def test_what_might_never_end_is_refused(make, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("it"))
    with pytest.raises(UsageError, match=f"cannot read kernel it: it is {kind}, not a file"):
        read_file("it", "kernel")


def test_a_pipe_that_comes_in_between_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "it")
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: True)
    with pytest.raises(UsageError, match="empty"):
        read_file(tmp_path / "it", "kernel")


def test_a_file_that_waits_for_a_writer_is_not_waited_for(tmp_path, monkeypatch):
    """As /proc/kmsg does, which is a regular file to look at."""
    os.mkfifo(tmp_path / "it")
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: True)
    reader = os.open(tmp_path / "it", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "it", os.O_WRONLY)
    try:
        with pytest.raises(UsageError, match=r"cannot read initrd .*it: it waits for a writer; give a"):
            read_file(tmp_path / "it", "initrd")
    finally:
        os.close(writer)
        os.close(reader)


def test_a_terminal_is_no_file(tmp_path):
    main, terminal = os.openpty()
    try:
        with pytest.raises(UsageError, match="it is a device, not a file"):
            read_file(os.ttyname(terminal), "firmware")
    finally:
        os.close(main)
        os.close(terminal)


def test_files_that_cannot_be_read_say_why():
    with pytest.raises(UsageError, match="cannot read kernel /proc/self/mem: Input/output error"):
        read_file("/proc/self/mem", "kernel")


def test_a_remedy_is_told_with_what_is_too_large(tmp_path):
    (tmp_path / "it").write_bytes(bytes(11))
    with pytest.raises(UsageError, match=r"it is larger than 10 bytes; take less$"):
        read_file(tmp_path / "it", "initrd", 10, "take less")


def test_large_files_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "it").touch()
    os.truncate(tmp_path / "it", 1 << 40)
    with pytest.raises(UsageError, match="larger than 1 GiB"):
        read_file(tmp_path / "it", "kernel")
    os.truncate(tmp_path / "it", (1 << 20) + 1)
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        read_file(tmp_path / "it", "kernel", 1 << 20)


def test_no_more_memory_is_taken_than_a_file_needs(tmp_path):
    (tmp_path / "it").write_bytes(b"small")
    tracemalloc.start()
    try:
        assert read_file(tmp_path / "it", "kernel") == b"small"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_files_of_unknown_size_are_read_to_their_end(monkeypatch):
    monkeypatch.setattr("raddle.machine.files.PIECE", 7)
    assert Path("/proc/version").stat().st_size == 0
    assert read_file("/proc/version", "kernel") == Path("/proc/version").read_bytes()


def test_files_of_unknown_size_are_read_as_far_as_the_limit():
    assert Path("/proc/cpuinfo").stat().st_size == 0
    with pytest.raises(UsageError, match="larger than 10 bytes"):
        read_file("/proc/cpuinfo", "kernel", 10)


# --- parts of a file --------------------------------------------------------------------------------------------

PLAIN = bytes(range(256)) * 64


@pytest.mark.parametrize("data", [PLAIN, compress(PLAIN), compress(PLAIN) + b"trailing"], ids=["plain", "gz", "more"])
@pytest.mark.parametrize("checked", [False, True])
def test_parts_are_those_of_the_file(data, checked, monkeypatch):
    monkeypatch.setattr("raddle.machine.files.PIECE", 100)
    monkeypatch.setattr("raddle.machine.files.FEED", 7)
    contents = Contents(data, "it")
    ranges = [(0, 5), (3, 1000), (len(PLAIN) - 2, 100), (1 << 40, 1), (77, 0)]
    assert contents.parts(ranges, checked) == [PLAIN[at : at + size] for at, size in ranges]
    assert contents.start(50) == PLAIN[:50]
    assert contents.whole(len(PLAIN), "") == PLAIN


def test_what_is_behind_the_parts_is_looked_at_only_where_it_matters():
    data = compress(os.urandom(1 << 20))[:-4]
    assert len(Contents(data, "it").parts([(0, 10)], checked=False)[0]) == 10
    with pytest.raises(UsageError, match="cannot decompress it: the gzip data are truncated"):
        Contents(data, "it").parts([(0, 10)], checked=True)


@pytest.mark.parametrize("data", [bytes(3 << 20), compress(bytes(3 << 20))], ids=["plain", "gz"])
def test_no_more_than_the_limit_is_had(data):
    with pytest.raises(UsageError, match=r"it: it (is larger|has more) than 2 MiB.*; use less"):
        Contents(data, "it").whole(2 << 20, "use less")


def test_parts_of_a_bomb_take_no_memory_for_the_rest(monkeypatch):
    bomb = compress(bytes(64 << 20))
    monkeypatch.setattr("raddle.machine.files.EXPANSION_LIMIT", 32 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="it has more than 32 MiB when decompressed"):
            Contents(bomb, "it").parts([(0, 10), (20 << 20, 10)], checked=True)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
