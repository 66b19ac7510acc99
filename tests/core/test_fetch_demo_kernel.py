# SPDX-License-Identifier: Apache-2.0
"""`raddle fetch-demo-kernel`: from a mirror that is a directory, and from an apt that pretends."""

import gzip
import hashlib
import io
import lzma
import shutil
import stat
import subprocess
import tarfile

import pytest

pytest.importorskip("raddle_target_arm")

from raddle.cli.main import main
from raddle.debian.initramfs import initramfs
from raddle.debian.package import read_member
from raddle.errors import MachineError

KERNEL, BUSYBOX = b"the kernel" * 1000, b"busybox" * 1001
META, REAL = "linux-image-armmp", "linux-image-6.1.0-1-armmp"


def package(files, kind="xz", extra=()):
    """A .deb with these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    suffix = f".{kind}" if kind else ""
    result = b"!<arch>\n"
    for name, contents in (("debian-binary", b"2.0\n"), *extra, (f"data.tar{suffix}", data.getvalue())):
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(contents):<10}`\n".encode()
        result += header + contents + b"\n" * (len(contents) % 2)
    return result


@pytest.fixture
def packages():
    return {
        REAL: package({"./boot/config-6.1": b"x", "./boot/vmlinuz-6.1": KERNEL}),
        "busybox-static": package({"./bin/busybox": BUSYBOX}, extra=[("control.tar", b"odd")]),
    }


@pytest.fixture
def mirror(tmp_path, packages):
    """The URL of a directory in the form of Debian's archive."""
    root = tmp_path / "mirror"
    index = root / "dists/stable/main/binary-armhf"
    index.mkdir(parents=True)
    paragraphs = [f"Package: {META}\nDepends: {REAL} (= 6.1), other | another\nDescription: two\n lines\n"]
    for name, contents in packages.items():
        (root / f"{name}.deb").write_bytes(contents)
        checked = hashlib.sha256(contents).hexdigest()
        paragraphs.append(f"Package: {name}\nFilename: {name}.deb\nSHA256: {checked}\n")
    (index / "Packages.xz").write_bytes(lzma.compress("\n".join(paragraphs).encode()))
    return root


def entries(archive):
    """Names, modes and contents of a newc archive."""
    data, position, found = gzip.decompress(archive), 0, {}
    while True:
        fields = [int(data[position + 6 + 8 * one : position + 14 + 8 * one], 16) for one in range(13)]
        assert data[position : position + 6] == b"070701"
        start = position + 110
        name = data[start : start + fields[11] - 1].decode()
        start = start + fields[11] + 3 & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]])
        position = start + fields[6] + 3 & ~3


def check(directory):
    assert (directory / "vmlinuz").read_bytes() == KERNEL
    found = entries((directory / "initramfs.cpio.gz").read_bytes())
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, BUSYBOX)
    assert found["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert found["dev"] == (stat.S_IFDIR | 0o755, b"")
    assert not list(directory.glob("*.part"))


def test_from_a_mirror(mirror, tmp_path, capsys):
    out = tmp_path / "a directory"
    assert main(["fetch-demo-kernel", str(out), "--mirror", mirror.as_uri() + "/"]) == 0
    check(out)
    said = capsys.readouterr().out
    assert f"fetching {REAL}, busybox-static" in said
    assert f"-kernel '{out}/vmlinuz' -initrd '{out}/initramfs.cpio.gz' -append" in said


APT = """#!/bin/sh
case "$*" in
*"depends linux-image-armmp"*) printf 'linux-image-armmp\\n  Depends: {real}\\n' ;;
*download*) for last; do :; done; cp {packages}/"$last".deb ./"$last"_1_armhf.deb ;;
*update*) echo 'E: some list is missing' >&2; exit 100 ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def apt(mirror, tmp_path, monkeypatch):
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("apt-get", "apt-cache"):
        (commands / name).write_text(APT.format(real=REAL, packages=mirror))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")


def test_from_the_machines_own_sources(apt, tmp_path):
    assert main(["fetch-demo-kernel", str(tmp_path / "out")]) == 0
    check(tmp_path / "out")


def test_apt_that_fails_is_one_line(apt, mirror, tmp_path, capsys):
    (mirror / "busybox-static.deb").unlink()
    assert main(["fetch-demo-kernel", str(tmp_path / "out")]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("raddle: apt-get -qq download busybox-static failed: ")
    assert errors.count("\n") == 1


def test_without_apt_a_mirror_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["fetch-demo-kernel", str(tmp_path / "out")]) == 2
    assert "has no apt" in (error := capsys.readouterr().err)
    assert "--mirror URL" in error


def damage_index(mirror):
    index = mirror / "dists/stable/main/binary-armhf/Packages.xz"
    index.write_bytes(index.read_bytes()[:-20])


def damage_package(mirror):
    (mirror / f"{REAL}.deb").write_bytes(b"other")


def take_package_away(mirror):
    (mirror / f"{REAL}.deb").unlink()


def take_index_away(mirror):
    (mirror / "dists/stable/main/binary-armhf/Packages.xz").unlink()


def empty_index(mirror):
    (mirror / "dists/stable/main/binary-armhf/Packages.xz").write_bytes(lzma.compress(b""))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_index, "Packages.xz is truncated"),
        (damage_package, "does not match the mirror's index"),
        (take_package_away, f"{REAL}.deb: [Errno 2] No such file or directory"),
        (take_index_away, "cannot fetch file:"),
        (empty_index, "has no package linux-image-armmp"),
    ],
)
def test_what_is_wrong_with_a_mirror_is_one_line(mirror, tmp_path, capsys, damage, said):
    damage(mirror)
    assert main(["fetch-demo-kernel", str(tmp_path / "out"), "--mirror", mirror.as_uri()]) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.startswith("raddle: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out" / "initramfs.cpio.gz").exists()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--mirror", "ftp://x"], 2),
        (["--mirror", ""], 2),
        (["--mirror", "https://"], 1),
        (["--mirror", "http://[::1"], 2),
        (["--mirror", "file:///a\0b"], 1),
        (["--target", "vax"], 2),
    ],
)
def test_hostile_words_are_one_line(tmp_path, capsys, words, status):
    assert main(["fetch-demo-kernel", str(tmp_path / "out"), *words]) == status
    errors = capsys.readouterr().err
    assert errors.startswith("raddle: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("where", ["/proc/nothing", "/dev/null", "/dev/null/x", "a\0b"])
def test_a_directory_that_cannot_be_made_is_one_line(mirror, capsys, where):
    assert main(["fetch-demo-kernel", where, "--mirror", mirror.as_uri()]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("raddle: cannot make ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_packages_of_each_compression(tmp_path, kind):
    path = tmp_path / "p.deb"
    path.write_bytes(package({"./boot/vmlinuz-1": KERNEL}, kind))
    assert read_member(path, "boot/vmlinuz-*") == KERNEL


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "not a Debian package"),
        (b"!<arch>\n", "no archive in a known format"),
        (b"!<arch>\n" + b"x" * 60, "cannot read package"),
        (package({"./boot/vmlinuz-1": KERNEL})[:200], "cannot read package"),
        (package({"./other": KERNEL}), "has 0 files"),
        (package({"./boot/vmlinuz-1": KERNEL, "./boot/vmlinuz-2": KERNEL}), "has 2 files"),
        (package({}).replace(b"data.tar.xz ", b"data.tar.zst"), "it has debian-binary, data.tar.zst"),
    ],
)
def test_packages_that_cannot_be_read(tmp_path, contents, said):
    path = tmp_path / "p.deb"
    path.write_bytes(contents)
    with pytest.raises(MachineError, match=said):
        read_member(path, "boot/vmlinuz-*")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_the_ram_disk(tmp_path):
    archive = gzip.decompress(initramfs(("bin",), {"bin/tool": b"12345", "init": b"#!"}))
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True)
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(row[0], row[2], row[4], row[-1]) for row in rows] == [
        ("drwxr-xr-x", "root", "0", "bin"),
        ("-rwxr-xr-x", "root", "5", "bin/tool"),
        ("-rwxr-xr-x", "root", "2", "init"),
    ]
