# SPDX-License-Identifier: Apache-2.0
"""The options that give files to flash banks and memory, as QEMU's users write them."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from raddle.cli.boot import flash_banks
from raddle.cli.drives import Drive, LoaderDevice, parse_device, parse_drive
from raddle.cli.options import parse
from raddle.errors import UsageError
from raddle.machine.flash_file import FlashFile, flash_files


@pytest.mark.parametrize(
    ("value", "drive"),
    [
        ("if=pflash,format=raw,file=code.fd", Drive("code.fd")),
        ("file=a,,b=c,if=pflash", Drive("a,b=c")),
        ("if=pflash,file=x,unit=1,readonly=on", Drive("x", 1, readonly=True)),
        ("if=pflash,file=x,index=0,read-only=off,snapshot=on", Drive("x", 0, snapshot=True)),
        ("if=pflash,file=x,readonly,id=pf,cache=none,aio=threads", Drive("x", readonly=True)),
        ("if=pflash,file=x,file=y", Drive("y")),
    ],
)
def test_drives(value, drive):
    assert parse_drive(value) == drive


@pytest.mark.parametrize(
    ("value", "device"),
    [
        ("loader,file=k,addr=0x40400000", LoaderDevice("k", 0x4040_0000, raw=False)),
        ("loader,file=k,addr=1024,force-raw=on", LoaderDevice("k", 1024)),
        ("driver=loader,file=k.elf", LoaderDevice("k.elf", None, raw=False)),
        ("loader,addr=0x40000000,data=0x1234,data-len=4", LoaderDevice(b"\x34\x12\0\0", 0x4000_0000)),
        ("loader,addr=0x40000000,data=0x1234,data-len=2,data-be=on", LoaderDevice(b"\x12\x34", 0x4000_0000)),
    ],
)
def test_loader_devices(value, device):
    assert parse_device(value) == device


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("-drive if=virtio,file=x", "-drive if=virtio is not supported: there are no disks"),
        ("-drive file=x", "-drive if=virtio is not supported: there are no disks"),
        ("-drive if=pflash", "-drive if=pflash has no file: add file=FILE"),
        ("-drive if=pflash,file=", "-drive if=pflash,file= has no file: add file=FILE"),
        ("-drive if=pflash,,file=x", "-drive if=pflash,file=x is not supported: there are no disks"),
        ("-drive if=pflash,file=x,", "-drive if=pflash,file=x,: a setting is empty"),
        (
            "-drive if=pflash,file=x,format=qcow2",
            "-drive format=qcow2 is not supported; the nearest that is: format=raw",
        ),
        ("-drive if=pflash,file=x,unti=1", "unknown -drive if=pflash setting 'unti'; did you mean unit?"),
        ("-drive if=pflash,file=x,unit=one", "-drive unit must be a number, as in 0x40400000, not 'one'"),
        ("-drive if=pflash,file=x,unit=-1", "-drive unit must be a number, as in 0x40400000, not '-1'"),
        ("-drive if=pflash,file=x,readonly=maybe", "-drive readonly is on or off, not 'maybe'"),
        ("-pflash=", "option -pflash needs the name of a file"),
        ("-M virt,pflash0=node", "the nearest that is: -drive if=pflash,unit=0,format=raw,file=FILE"),
        ("-device virtio-blk,drive=x", "-device virtio-blk is not supported: a board's devices are fixed"),
        ("-device=", "-device needs the name of a device: -device loader,file=FILE,addr=ADDRESS"),
        ("-device ,file=x", "-device needs the name of a device: -device loader,file=FILE,addr=ADDRESS"),
        ("-device loader", "-device loader has nothing to load: add file=FILE, or data=NUMBER and data-len=BYTES"),
        ("-device loader,file=x,cpu-num=0", "unknown -device loader setting 'cpu-num'"),
        ("-device loader,file=x,force-raw=on", "needs an address: add addr=ADDRESS"),
        ("-device loader,file=x,addr=0xzz", "-device loader addr must be a number, as in 0x40400000, not '0xzz'"),
        ("-device loader,file=x,addr=0x1_0", "-device loader addr must be a number, as in 0x40400000, not '0x1_0'"),
        ("-device loader,addr=1,data=1", "data= goes with addr= and data-len=, and without file="),
        ("-device loader,data=1,data-len=1", "data= goes with addr= and data-len=, and without file="),
        ("-device loader,addr=1,data=256,data-len=1", "data-len is 1 to 8 bytes, and data= must fit into them"),
        ("-device loader,addr=1,data=1,data-len=9", "data-len is 1 to 8 bytes, and data= must fit into them"),
    ],
)
def test_what_is_refused(option, fault):
    with pytest.raises(UsageError, match=re.escape(fault)):
        parse(option.split(" "))


def banks(*words):
    options = parse(words)
    assert not isinstance(options, str)
    return flash_banks(options)


def test_drives_are_for_the_banks_in_order():
    assert banks() == []
    assert banks("-pflash", "a") == [FlashFile("a")]
    assert banks("-pflash", "a", "-pflash", "b,c") == [FlashFile("a"), FlashFile("b,c")]
    one = ("-drive", "if=pflash,unit=1,file=b,readonly=on")
    assert banks(*one) == [None, FlashFile("b", readonly=True)]
    assert banks(*one, "-pflash", "a") == [FlashFile("a"), FlashFile("b", readonly=True)]
    assert banks("-pflash", "a", "-snapshot") == [FlashFile("a", snapshot=True)]
    with pytest.raises(UsageError, match="flash bank 1 has two files: b and c; give one another unit="):
        banks(*one, "-drive", "if=pflash,unit=1,file=c")
    with pytest.raises(UsageError, match="there is no flash bank 4000000000; units begin with unit=0"):
        banks("-drive", "if=pflash,unit=4000000000,file=c")


def test_files_from_python():
    file = FlashFile("c", readonly=True)
    assert flash_files(None) == ()
    assert flash_files("a") == flash_files(["a"]) == (FlashFile("a"),)
    assert flash_files(Path("a")) == (FlashFile(Path("a")),)
    assert flash_files(file) == (file,)
    assert flash_files([None, file]) == (None, file)


def test_help_names_them(capsys):
    text = parse(["-help"])
    places = [text.index(f"  -{name} ") for name in ("bios", "drive", "pflash", "snapshot", "device")]
    assert all(one < another for one, another in pairwise(places))
