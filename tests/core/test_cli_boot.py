# SPDX-License-Identifier: Apache-2.0
"""`raddle boot` and Machine, on a board and an engine that pretend: options, errors, consoles, monitor, ends."""

import contextlib
import fcntl
import os
import platform
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from array import array
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raddle
from raddle.accel import SETTINGS, Mode, parse_accel, parse_icount
from raddle.cli import boot
from raddle.cli.main import main
from raddle.cli.options import OPTIONS, TAKEN, BootOptions, parse
from raddle.cli.peer_options import UNSUPPORTED
from raddle.devices.pl011 import PL011
from raddle.errors import MachineError, UsageError
from raddle.ir.types import FloatRules, Type
from raddle.layout import Area, Layout
from raddle.machine.arguments import properties
from raddle.machine.board import Board as BoardBase
from raddle.machine.chardev import CharDevice, ConsoleClosed
from raddle.machine.choice import choose_board
from raddle.machine.lines import Line
from raddle.machine.loaders import load_image
from raddle.machine.machine import Machine, State
from raddle.machine.peers import SocketDevice
from raddle.ordering import MemoryOrder
from raddle.plugins import Board, Host, Property, Registry, Target, hookimpl
from raddle.sizes import parse_size, size_text

# --- a machine that pretends ------------------------------------------------------------------------------------


class FakeBoard(BoardBase):
    NAME = "fake"
    TAKES = frozenset({"kernel", "initrd", "append", "dtb", "bios", "loads"})

    def __init__(self, options, consoles, clock):
        super().__init__(options, consoles, clock)
        if options.kernel is None:
            raise UsageError("there is nothing to boot")
        load_image(options.kernel, options.target, Layout(Area("RAM", 0x4000_0000, options.memory)))
        self.console = consoles[0]
        self.uart = PL011(consoles[0], Line(), clock)
        self.memory.add_io("uart", 0x900_0000, options.page_size, self.uart)
        self.memory.add_ram("RAM", 0x4000_0000, options.page_size)
        self.resets = 0

    def connect(self, cpus, power, big_lock):
        super().connect(cpus, power, big_lock)

        def receive():
            with big_lock:
                self.uart.receive()

        self.console.on_input(receive)

    def reset(self):
        self.resets += 1
        self.uart.reset()
        self.cpus[0].power_on(0x4000_0000, self.resets)


class FakeCpu:
    def __init__(self, index):
        self.index = index
        self.started = []

    def power_on(self, entry, argument):
        self.started.append((entry, argument))

    def drain(self):
        pass

    def info(self):
        return {"state": "running"}


class FakeTimer:
    """Its time never comes."""

    def set(self, deadline_ns):
        pass

    def cancel(self):
        pass


class FakeEngine:
    """Runs `guest(engine)` on a thread, which stands for all vCPUs; it ends when that returns or is told to stop."""

    guest = staticmethod(lambda engine: engine.stopping.wait())
    made = []

    def __init__(self, frontend, backend, decision, memory, ncpus, icount=None, settings=None):
        self.decision, self.memory, self.icount, self.settings = decision, memory, icount, settings
        self.cpus = [FakeCpu(index) for index in range(ncpus)]
        self.big_lock = threading.RLock()
        self.stopping = threading.Event()
        self.calls = []
        self.error = None
        self.thread = threading.Thread(target=self.run)
        FakeEngine.made.append(self)

    def run(self):
        try:
            self.guest(self)
        except Exception as error:
            self.error = error

    def start(self):
        self.calls.append("start")
        self.thread.start()

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def stop(self):
        self.stopping.set()

    def join(self, timeout=None):
        if self.thread.ident is not None:
            self.thread.join(timeout)
        if self.error is not None:
            raise self.error

    def close(self):
        assert not self.thread.is_alive()

    def clock_ns(self):
        return 0

    def timer(self, callback):
        return FakeTimer()

    def stats(self):
        return {"blocks": 42}

    # what a guest does

    def write(self, text):
        for byte in text.encode():
            with self.big_lock:
                self.memory.find(0x900_0000).handler.write(0, 1, byte)

    def read(self):
        """A byte from the serial port; empty when told to stop."""
        uart = self.memory.find(0x900_0000).handler
        while not self.stopping.is_set():
            with self.big_lock:
                if not uart.read(0x18, 4) & 0x10:
                    return chr(uart.read(0, 1))
            time.sleep(0.002)
        return ""


class FakeFrontEnd:
    word, page_bits, mmu_indices, fetch_index_shift = Type.I32, 13, 1, 0
    floats = FloatRules()

    def __init__(self, cpu):
        self.cpu = cpu

    def describe(self, cpu):
        return "pc=0x8000\n"


class EntryPoint:
    def __init__(self, name, hook, answer, **attributes):
        self.name, self.value = name, f"fake_{name}"
        self.module = ModuleType(self.value)
        self.module.RADDLE_API_VERSION = 1
        for attribute, value in attributes.items():
            setattr(self.module, attribute, value)
        function = lambda: answer  # noqa: E731 - a hook without arguments
        setattr(self.module, hook, hookimpl(function))

    def load(self):
        return self.module


def plugins():
    weak = MemoryOrder.NONE
    target = Target("arm", 32, True, weak, 40, ("cortex-a15", "cortex-a7"), FakeFrontEnd)
    host = Host("here", 64, MemoryOrder.ALL, (platform.machine(),), lambda: None)
    settings = (Property("lid", ("off",), "a cover"), Property("colour", ("red", "green"), "of the case"))
    boards = [Board("virt", "arm", "pretends", 8, lambda: FakeBoard, settings)]
    return Registry(
        lambda: [
            EntryPoint("target.arm", "raddle_target", target, TARGET_SUPPORTS_MTTCG=True, TCG_GUEST_DEFAULT_MO=weak),
            EntryPoint("host.here", "raddle_host", host, TCG_TARGET_DEFAULT_MO=MemoryOrder.ALL),
            EntryPoint("board.virt", "raddle_boards", boards),
        ]
    )


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "kernel"
    path.write_bytes(b"\x00\x00\xa0\xe3" * 8)
    return str(path)


def machines_threads():
    """Names of Raddle's threads; workers are not among Python's."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("raddle")]


@pytest.fixture
def pretend(monkeypatch):
    """Let `raddle boot` and Machine use the pretended parts; gives a function that says what the guest does."""

    def guest(function):
        monkeypatch.setattr(FakeEngine, "guest", staticmethod(function))

    def make(*arguments, **options):
        return Machine(*arguments, engine=FakeEngine, plugins=plugins(), **options)

    monkeypatch.setattr(FakeEngine, "made", [])
    monkeypatch.setattr(boot, "Machine", make)
    guest.machine = make
    yield guest
    assert machines_threads() == []


# --- options that a board may take or not -----------------------------------------------------------------------

BOOT_OPTIONS = {
    "initrd": ["-initrd", "/dev/null"],
    "append": ["-append", "quiet"],
    "dtb": ["-dtb", "/dev/null"],
    "bios": ["-bios", "/dev/null"],
    "loads": ["-device", "loader,data=1,data-len=4,addr=0x40000000"],
}


@pytest.mark.parametrize("left", [("initrd",), ("append",), ("dtb",), ("bios",), ("loads",), ("append", "loads")])
def test_an_option_that_a_board_does_not_take_is_named(pretend, kernel, monkeypatch, capfd, left):
    monkeypatch.setattr(FakeBoard, "TAKES", FakeBoard.TAKES - set(left))
    words = [word for field in left for word in BOOT_OPTIONS[field]]
    assert main(["boot", "-M", "virt", "-kernel", kernel, "-serial", "null", *words]) == 2
    names = ", ".join(" ".join(BOOT_OPTIONS[field][:1]) if field != "loads" else "-device loader" for field in left)
    errors = capfd.readouterr().err
    assert errors.startswith(f"raddle: machine virt does not take {names}, which it would ignore; it takes -kernel, ")
    assert not FakeEngine.made


def test_a_board_takes_a_kernel_where_it_says_nothing(pretend, kernel, monkeypatch):
    monkeypatch.setattr(FakeBoard, "TAKES", BoardBase.TAKES)
    with pretend.machine("virt", kernel=kernel):
        pass
    with pytest.raises(UsageError, match=r"machine virt does not take -device loader, .*; it takes -kernel$"):
        pretend.machine("virt", kernel=kernel, load=[(b"1", 0x4000_0000)])


# --- the table of options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {}),
        (
            "-M virt -smp 4 -m 512M -kernel k -initrd i",
            {"machine": "virt", "cpus": 4, "memory": "512M", "kernel": "k", "initrd": "i"},
        ),
        (
            "--machine virt,accel=tcg,colour=red --smp cpus=3",
            {"machine": "virt", "cpus": 3, "accelerator": "tcg", "properties": {"colour": "red"}},
        ),
        ("-M desk,lid,colour=red -M virt,lid", {"machine": "virt", "properties": {"lid": "on"}}),
        ("-machine type=virt -smp 8,maxcpus=8,sockets=1,cores=4,threads=2", {"machine": "virt", "cpus": 8}),
        ("-smp cores=2,threads=2", {"cpus": 4}),
        ("-accel tcg,thread=single -icount shift=auto", {"accelerator": "tcg,thread=single", "icount": "shift=auto"}),
        ("--accel=tcg,thread=multi", {"accelerator": "tcg,thread=multi"}),
        ("-append -x -cpu cortex-a15", {"append": "-x", "cpu": "cortex-a15"}),
        ("-serial null -serial pty -monitor none", {"serial": ["null", "pty"], "monitor": "none"}),
        ("-nographic -no-reboot -S -display none", {"nographic": True, "reboot": False, "paused": True}),
        ("-d int,exec -d stats,int -D log", {"log": ("int", "exec", "stats"), "log_file": "log"}),
        ("-m size=1G -bios b -dtb d", {"memory": "1G", "bios": "b", "dtb": "d"}),
        ("-name guest=x,process=y -nodefaults -no-user-config -usb -vga none -msg timestamp=on -L dir", {}),
        ("-uuid 01234567-89ab-cdef-0123-456789abcdef -overcommit mem-lock=off,cpu-pm=on -audiodev none,id=x", {}),
        ("-audiodev driver=none,id=x -msg timestamp -overcommit mem-lock", {}),
        ("-pidfile p", {"pid_file": "p"}),
        ("-M arm/virt -cpu max", {"machine": "arm/virt", "cpu": "max"}),
        ("-M virt,accel=kvm:tcg", {"machine": "virt", "accelerator": "kvm:tcg"}),
        ("--target arm -m 64", {"target": "arm", "memory": "64"}),
        ("-accel tcg,thread=single -M virt,accel=tcg", {"machine": "virt", "accelerator": "tcg,thread=single"}),
        ("-accel kvm -accel tcg", {"accelerator": "tcg"}),
        ("-d unimp,cpu,nochain,guest_errors", {"log": ("unimp", "cpu", "nochain", "guest_errors")}),
        (
            "-dfilter 0x80..0x8f,256+0x10 -dfilter 0xff-0x10",
            {"log_within": (range(0x80, 0x90), range(256, 272), range(0xF0, 0x100))},
        ),
    ],
)
def test_options(words, expected):
    assert parse(words.split()) == BootOptions(**expected)


def test_a_command_line_with_spaces_is_one_value():
    options = parse(["-append", "console=ttyAMA0 panic=-1"])
    assert options.append == "console=ttyAMA0 panic=-1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-kernl x", "option '-kernl' is not supported: did you mean -kernel?"),
        ("--smpp=4", "option '--smpp' is not supported: did you mean -smp?"),
        ("-smp4", "option '-smp4' is not supported: did you mean -smp?"),
        ("-zzzzzz", "option '-zzzzzz' is not supported: raddle boot --help lists those that are"),
        ("-serail null", "option '-serail' is not supported: did you mean -serial?"),
        (
            "-s",
            "option '-s' is not supported: there is no GDB server; the nearest that is: the monitor (Ctrl-A C)",
        ),
        (
            "-gdb tcp::1234",
            "option '-gdb' is not supported: there is no GDB server; the nearest that is: the monitor (Ctrl-A C)",
        ),
        ("-nic user", "option '-nic' is not supported: there is no network"),
        (
            "-netdev user,id=n -device virtio-net-device,netdev=n -zzz x -m 12 --gdb=x -netdev tap",
            "these options are not supported: -netdev (there is no network), -zzz, --gdb (there is no GDB server; the "
            "nearest that is: the monitor (Ctrl-A C)) (raddle boot --help lists those that are); -device "
            "virtio-net-device is not supported: a board's devices are fixed; only loader can be added",
        ),
        ("-daemonize -M virt,pflash0=f -smp 0", "option '-daemonize' is not supported: it stays in the foreground"),
        ("-daemonize -M virt,pflash0=f -smp 0", "; -machine pflash0=NODE is not supported"),
        ("-daemonize -M virt,pflash0=f -smp 0", "; -smp cpus must be a number of 1 or more, not '0'"),
        ("-vga std", "-vga std is not supported (there is no screen); the nearest that is: -vga none"),
        ("-audiodev pa,id=x", "-audiodev pa is not supported (there is no sound); the nearest that is: -audiodev none"),
        ("-uuid zz", "-uuid 'zz' is not a UUID"),
        ("-msg time=on", "unknown setting 'time'; did you mean timestamp? (known: timestamp, guest-name)"),
        ("-overcommit mem=on", "unknown setting 'mem'"),
        ("-cpu max,pmu=off", "-cpu property 'pmu=off' is not supported; the nearest that is: -cpu max"),
        ("-dfilter zz", "-dfilter 'zz' is no range of addresses: FIRST..LAST, FIRST+SIZE or LAST-SIZE"),
        ("-dfilter 8..7", "-dfilter '8..7' holds no address"),
        ("-dfilter 0xffffffffffffffff+2", "-dfilter '0xffffffffffffffff+2' holds no address, or some beyond 64 bits"),
        ("-pidfile=", "option -pidfile needs the name of a file"),
        ("vmlinuz", "unexpected argument 'vmlinuz'; a kernel is given as -kernel vmlinuz"),
        ("-kernel", "option -kernel needs a value: -kernel FILE"),
        ("-kernel=", "option -kernel needs the name of a file"),
        ("-S=1", "option -S takes no value"),
        ("-smp 0", "-smp cpus must be a number of 1 or more, not '0'"),
        (f"-smp {'9' * 31}", "-smp cpus has 31 digits: no machine has that many"),
        ("-smp x", "-smp cpus must be a number of 1 or more, not 'x'"),
        ("-smp 4,core=2", "unknown -smp setting 'core'; did you mean cores?"),
        ("-smp 4,cores=3", "3 CPUs in the topology, but cpus=4"),
        ("-smp 2,maxcpus=4", "maxcpus=4 is not supported (no CPU hot-plug); the nearest that is: 2"),
        ("-m 1G,slots=2", "-m slots=2 is not supported"),
        ("-M=", "-M needs the name of a board (-M help lists them)"),
        ("-M virt,dumpdtb=f", "-machine dumpdtb=f is not supported: the device tree is not written to a file"),
        ("-zzz -yyy 1", "these options are not supported: -zzz, -yyy (raddle boot --help lists those that are)"),
        ("-accel=", "-accel needs the name of an accelerator (tcg)"),
        ("-M virt,accel=", "-machine accel needs the name of an accelerator (tcg)"),
        ("-display=", "option -display needs a value: -display none"),
        ("-m 1G,", "-m 1G, is not supported (no memory hot-plug); the nearest that is: -m 1G"),
        ("-display gtk", "-display gtk is not supported (there is no screen); the nearest that is: -display none"),
        ("-d in_asn", "unknown log item 'in_asn'; did you mean in_asm?"),
    ],
)
def test_bad_options(words, message):
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tables_do_not_overlap():
    names = [name for option in (*OPTIONS, *TAKEN) for name in option.names]
    assert len(names) == len(set(names))
    assert not set(names) & set(UNSUPPORTED)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_options_that_are_not_supported_take_their_value_with_them(name):
    value = ["vmlinuz"] if UNSUPPORTED[name].value else []
    with pytest.raises(UsageError) as caught:
        parse([f"-{name}", *value, "-m", "64"])
    assert str(caught.value) == f"option '-{name}' is not supported: {UNSUPPORTED[name].reason}"


PEER = "qemu-system-arm"
ELSEWHERE = {"preconfig", "xen-domid", "xen-attach", "xen-domid-restrict", "old-param", "fw", "audio-help", "no-acpi"}
ELSEWHERE |= {"win2k-hack", "no-hpet", "no-fd-bootchk", "rotate", "enable-sync-profile", "qtest", "qtest-log"}


@pytest.mark.peer
@pytest.mark.skipif(shutil.which(PEER) is None, reason=f"{PEER} is not installed")
def test_every_option_of_the_peer_is_known():
    listed = subprocess.run([PEER, "-help"], capture_output=True, text=True, timeout=60, check=True).stdout
    names = {name for line in listed.splitlines() for name in re.findall(r"^--?([A-Za-z0-9_-]+)", line)}
    known = {name for option in (*OPTIONS, *TAKEN) for name in option.names} | set(UNSUPPORTED) | {"h", "help"}
    assert names - known - ELSEWHERE == set()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_there_is_read_or_refused(data):
    """Any words: names of options, values that are nearly right, and anything else."""
    pieces = st.sampled_from(
        [
            "",
            ",",
            "=",
            ":",
            "..",
            "+",
            "-",
            "0x",
            "9" * 40,
            "tcg",
            "kvm",
            "thread=",
            "tb-size=",
            "virt",
            "arm/",
            "/",
            "\0",
        ]
        + ["cpus=", "sockets=2", "shift=", "auto", "1", "²", "-1", "1e9", "none", "help", "int", "\udcff", "\n", "tcp:"]
    )
    value = st.one_of(st.text(max_size=12), st.lists(pieces, max_size=5).map("".join))
    names = [name for option in (*OPTIONS, *TAKEN) for name in option.names] + [*UNSUPPORTED, "x", ""]
    word = st.one_of(st.sampled_from(names).map(lambda name: f"-{name}"), value)
    words = data.draw(st.lists(word, max_size=6))

    def read():
        found = parse(words)
        if isinstance(found, BootOptions):
            parse_accel(found.accelerator)
            if found.icount is not None:
                parse_icount(found.icount)
            parse_size(found.memory)
            choose_board(plugins(), found.machine, found.target, None)

    with contextlib.suppress(UsageError):
        read()


def test_help_names_every_setting_of_accel():
    accel = next(option for option in OPTIONS if "accel" in option.names)
    assert [part.partition("=")[0] for part in accel.meaning.split(", ")] == list(SETTINGS)


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_names_every_option(word, capsys):
    assert main(["boot", word]) == 0
    text = capsys.readouterr().out
    assert all(f"-{name}" in text for option in OPTIONS for name in option.names)
    assert max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raddle boot -ker", "-kernel"),
        ("raddle boot -kernel k -ser", "-serial"),
        ("raddle boot -accel ", "kvm:tcg"),
        ("raddle boot -accel tcg,thr", "tcg,thread=single"),
        ("raddle boot -smp 4 -m 64 -d int,in_", "int,in_asm"),
        ("raddle boot -icount shift=a", "shift=auto"),
        ("raddle boot -display ", "none"),
        ("raddle boot -serial null -monitor st", "stdio"),
        pytest.param("raddle boot -M vi", "virt", marks=pytest.mark.host),
        pytest.param("raddle boot -M arm/", "arm/virt", marks=pytest.mark.host),
        pytest.param("raddle boot -M virt,gic", "virt,gic-version=2", marks=pytest.mark.host),
        pytest.param("raddle boot -M virt,its=off,acc", "virt,its=off,accel=tcg", marks=pytest.mark.host),
        pytest.param("raddle boot -M none,", "none,accel=tcg", marks=pytest.mark.host),
        pytest.param("raddle boot -target ", "arm", marks=pytest.mark.host),
        pytest.param("raddle boot -cpu cor", "cortex-a15", marks=pytest.mark.host),
    ],
)
def test_shells_can_complete(line, found):
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    program = "import os; os.dup2(1, 8); from raddle.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True)
    assert found in [word.strip() for word in done.stdout.split("\n")]


@pytest.mark.host
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-M help", "  arm/virt "),
        ("-machine ?", "  arm/virt "),
        ("-M virt,help", "  gic-version=2|max|host "),
        ("-M arm/virt,accel=tcg,?", "Properties (-M virt,PROPERTY=VALUE) of machine arm/virt:"),
        ("-cpu help", "  cortex-a15 "),
        ("-cpu help --target arm", "CPUs (-cpu):"),
        ("-cpu help -M arm/virt", "CPUs (-cpu) of machine arm/virt:"),
        ("-device help", "  loader "),
        ("-accel help", "Accelerators: tcg"),
        ("-display help", "-display: none"),
        ("-zzz -d help", "  unimp "),
        ("-version", f"raddle {raddle.__version__}"),
    ],
)
def test_lists(words, said, capsys):
    assert main(["boot", *words.split()]) == 0
    output = capsys.readouterr()
    assert said in output.out
    assert output.err == ""


def test_help_on_log_items(capsys):
    assert main(["boot", "-d", "help"]) == 0
    assert "in_asm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512 << 20), ("512M", 512 << 20), ("1.5G", 3 << 29), ("64k", 1 << 16), ("1GiB", 1 << 30)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1000, "1000 bytes"),
        (1 << 10, "1 KiB"),
        (3 << 29, "1536 MiB"),
        (3 << 30, "3 GiB"),
        (100 << 40, "100 TiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_sizes_in_messages(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize("text", ["", "M", "-1", "1e3", "512Q", "0x10", "9" * 40])
def test_bad_sizes(text):
    with pytest.raises(UsageError, match="not a memory size"):
        parse_size(text)


@pytest.mark.host
@pytest.mark.parametrize("option", ["-kernel", "-initrd", "-dtb", "-bios"])
def test_a_pipe_is_not_waited_for(option, tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo")
    guest = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"
    kernel = [] if option in ("-kernel", "-bios") else ["-kernel", str(guest)]
    assert main(["boot", "-M", "virt", *kernel, option, str(tmp_path / "fifo")]) == 2
    assert capsys.readouterr().err.endswith("fifo: it is a pipe, not a file\n")


def test_the_last_one_of_an_option_that_is_given_twice_counts():
    options = parse(["-append", "one", "-append", "two", "-m", "64", "-m", "1G", "-d", "int", "-d", "exec"])
    assert (options.append, options.memory, options.log) == ("two", "1G", ("int", "exec"))


def test_names_do_not_steer_the_terminal(capsys):
    assert main(["boot", "-kernel", "a\033[2J\n\udcff"]) == 2
    assert capsys.readouterr().err == "raddle: cannot read kernel a\\x1b[2J\\n\\udcff: No such file or directory\n"


@pytest.mark.parametrize("words", [["--foo"], ["-smp", "2"], ["-kernel", "k", "boot"]])
def test_options_before_the_command_are_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"raddle: option {words[0]!r} is not supported before a command (see raddle --help)\n"
    )


# --- what is wrong with a machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-target vax", "unknown target plug-in 'vax' (known: arm)"),
        ("-M vrt", "unknown machine 'vrt'; did you mean virt? (known: virt)"),
        (
            "-M virt,lid",
            "machine virt does not support lid=on (a cover); the nearest that it does: lid=off",
        ),
        (
            "-M virt,colour=blue",
            "machine virt does not support colour=blue (of the case); the nearest that it does: one of red, green",
        ),
        ("-M virt,color=red", "unknown property of machine virt 'color'; did you mean colour? (known: lid, colour)"),
        ("-cpu cortex-a16", "unknown CPU 'cortex-a16'; did you mean cortex-a15? (known: cortex-a15, cortex-a7)"),
        ("-accel kvm", "accelerator kvm is not available (known: tcg); kvm:tcg would fall back"),
        ("-accel kmv", "unknown accelerator 'kmv' (known: tcg)"),
        ("-accel tcg,thread=many", "unknown --accel thread value 'many' (known: multi, single)"),
        ("-accel tcg,thread=multi -icount shift=1", "thread=multi is not possible: instruction counting needs"),
        ("-icount shift=99", "-icount shift must be auto or a number from 0 to 10"),
        ("-smp 9", "machine virt has 1 to 8 CPUs, not 9"),
        ("-m 12Q", "'12Q' is not a memory size"),
        ("-kernel /nonexistent/k", "cannot read kernel /nonexistent/k: No such file or directory"),
        ("-serial file:/nonexistent/x", "cannot open /nonexistent/x"),
        ("-serial null -serial null", "the machine has 1 serial port, not 2"),
        ("-serial stdio -monitor stdio", "only one device can use stdio"),
        ("-monitor tcp:1", "tcp:1 needs server=on"),
        ("-D /nonexistent/log -d stats", "cannot open log file /nonexistent/log"),
        ("-d in_asm", "-d in_asm is not supported yet"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(pretend, kernel, capfd, words, message):
    given = words.split()
    assert main(["boot", *(["-kernel", kernel] if "-kernel" not in given else []), *given]) == 2
    errors = capfd.readouterr().err
    assert message in errors
    assert errors.startswith("raddle: ")
    assert errors.count("\n") == 1


def test_a_property_of_a_board_that_has_none():
    """-M takes accel= for every board, so that none is known would not be true."""
    bare = Board("bare", "arm", "has no properties", 1, lambda: FakeBoard)
    with pytest.raises(UsageError, match=r"^machine bare has no properties of its own, so none called 'lid'$"):
        properties(bare, {"lid": "on"})


NASTY = (
    "",
    " ",
    "\0",
    "a\0b",
    "\udcff",
    "\x1b[2J",
    "a\nb",
    ",",
    "=",
    ":",
    "/",
    "x" * 5000,
    "-1",
    "\u00b2",
    "9" * 5000,
    "0x",
    "..",
    "1..2,",
    "tcg,",
    "virt,",
    "virt,=",
    "arm/",
    "help,",
    "file:",
    "file:/",
    "file:a\0b",
    "file:" + "x" * 5000,
    "tcp:[::1:0,server=on,wait=off",
    "tcp:a\0b:0,server=on,wait=off",
    "tcp:" + "x" * 300 + ":0,server=on,wait=off",
    "tcp:\udcff:0,server=on,wait=off",
    "tcp::" + "9" * 5000 + ",server=on",
    "unix:" + "x" * 200 + ",server=on,wait=off",
    "unix:a\0b,server=on,wait=off",
    "unix:/,server=on,wait=off",
    "if=pflash,file=a\0b",
    "loader,file=\udcff,addr=0",
)


@pytest.mark.parametrize("option", [one for one in (*OPTIONS, *TAKEN) if one.metavar], ids=lambda one: one.names[0])
def test_no_value_makes_a_traceback(pretend, kernel, tmp_path, monkeypatch, capfd, option):
    monkeypatch.chdir(tmp_path)
    pretend(lambda engine: None)
    for value in NASTY:
        defaults = {"kernel": kernel, "serial": "null"}
        given = [
            word for name, default in defaults.items() if name not in option.names for word in (f"-{name}", default)
        ]
        status = main(["boot", *given, f"-{option.names[0]}={value}"])
        errors = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("raddle: warning")]
        if status:
            assert status == 2, value
            assert len(errors) == 1, value
            assert errors[0].startswith("raddle: ")
            assert errors[0].isprintable()


# --- running ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "raddle: there is not enough memory\n"),
        (MemoryError("cannot allocate\n1 GiB"), "raddle: there is not enough memory: cannot allocate 1 GiB\n"),
    ],
)
def test_no_memory_is_one_line(pretend, kernel, capfd, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(boot, "parse", fail)
    assert main(["boot", "-kernel", kernel]) == 1
    assert capfd.readouterr() == ("", said)


def powers_off(text="hello\n"):
    def guest(engine):
        engine.write(text)

    return guest


def test_boot_prints_and_exits_0(pretend, kernel, capfd):
    pretend(powers_off())
    assert main(["boot", "-kernel", kernel, "-smp", "2", "-d", "stats,accel"]) == 0
    out, err = capfd.readouterr()
    assert out == "hello\n"
    assert "blocks                          42" in err
    assert "accel: multi: " in err
    assert len(FakeEngine.made[0].cpus) == 2
    assert FakeEngine.made[0].cpus[0].started == [(0x4000_0000, 1)]


def test_log_goes_into_a_file(pretend, kernel, tmp_path, capfd):
    pretend(powers_off())
    assert main(["boot", "-kernel", kernel, "-d", "stats", "-D", str(tmp_path / "log")]) == 0
    assert "42" in (tmp_path / "log").read_text()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_is_named(pretend, kernel, capfd):
    pretend(powers_off())
    assert main(["boot", "-kernel", kernel, "-d", "stats", "-D", "/dev/full"]) == 1
    assert capfd.readouterr().err == "raddle: cannot write to log file /dev/full: No space left on device\n"


def complains(engine):
    """Reads where the UART has no register, and powers off."""
    with engine.big_lock:
        engine.memory.find(0x900_0000).handler.read(0x800, 4)


def test_guest_errors_go_into_the_log_once(pretend, kernel, tmp_path, capfd):
    pretend(complains)
    for _ in range(2):  # what one run has set up, the next one does not find
        assert (
            main(["boot", "-kernel", kernel, "-serial", "null", "-d", "guest_errors", "-D", str(tmp_path / "log")]) == 0
        )
        assert (tmp_path / "log").read_text().count("\n") == 1
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_guest_errors_that_cannot_be_written_are_no_traceback(pretend, kernel, capfd):
    pretend(complains)
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-d", "guest_errors", "-D", "/dev/full"]) == 1
    assert capfd.readouterr().err == "raddle: cannot write to log file /dev/full: No space left on device\n"


def test_serial_into_a_file(pretend, kernel, tmp_path, capfd):
    pretend(powers_off())
    assert main(["boot", "-kernel", kernel, "-serial", f"file:{tmp_path}/out"]) == 0
    assert (tmp_path / "out").read_text() == "hello\n"
    assert capfd.readouterr().out == ""


@pytest.fixture
def stdout_to():
    """Gives a function that turns the process's standard output to another file, for the rest of the test."""
    saved = os.dup(1)
    yield lambda file: os.dup2(file, 1)
    os.dup2(saved, 1)
    os.close(saved)


def no_threads():
    deadline = time.monotonic() + 240
    while machines_threads():
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.002)
    return True


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("log", [[], ["-d", "stats", "-D", os.devnull]], ids=["", "log"])
def test_a_standard_output_that_is_full_is_named(pretend, kernel, stdout_to, capfd, log):
    pretend(powers_off())
    with Path("/dev/full").open("w") as full:
        stdout_to(full.fileno())
        assert main(["boot", "-kernel", kernel, *log]) == 1
    assert capfd.readouterr().err == "raddle: cannot write to the standard output: No space left on device\n"
    assert no_threads()


def test_a_standard_output_that_nobody_reads_any_more_is_named(pretend, kernel, stdout_to, capfd):
    pretend(powers_off())
    reader, writer = os.pipe()
    stdout_to(writer)
    os.close(writer)
    os.close(reader)
    assert main(["boot", "-kernel", kernel]) == 1
    assert capfd.readouterr().err == "raddle: cannot write to the standard output: Broken pipe\n"
    assert no_threads()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_serial_port_that_cannot_be_written_is_no_fault_of_the_guest(pretend, kernel, capfd):
    pretend(powers_off())
    assert main(["boot", "-kernel", kernel, "-serial", "file:/dev/full"]) == 1
    assert capfd.readouterr().err == "raddle: cannot write to /dev/full: No space left on device\n"
    assert no_threads()


def test_a_fault_shows_registers_and_exits_1(pretend, kernel, capfd):
    def guest(engine):
        error = MachineError("nothing answers at 0x1234")
        error.add_note("on vCPU 0, guest pc 0x8000")
        raise error

    pretend(guest)
    assert main(["boot", "-kernel", kernel]) == 1
    errors = capfd.readouterr().err
    assert errors.splitlines() == [
        "on vCPU 0, guest pc 0x8000",
        "CPU 0",
        "pc=0x8000",
        "For a trace: add -d int,exec -D FILE",
        "raddle: nothing answers at 0x1234",
    ]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_in_order(pretend, kernel, number, status):
    def guest(engine):
        os.kill(os.getpid(), number)
        engine.stopping.wait(240)

    pretend(guest)
    assert main(["boot", "-kernel", kernel, "-serial", "null"]) == status
    assert not FakeEngine.made[0].thread.is_alive()


@pytest.mark.parametrize("number", boot.SIGNALS)
def test_a_signal_that_is_ignored_stays_so(pretend, kernel, number):
    old = signal.signal(number, signal.SIG_IGN)
    try:
        pretend(lambda engine: os.kill(os.getpid(), number))
        assert main(["boot", "-kernel", kernel, "-serial", "null"]) == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, old)


def fills_pipes(engine):
    """Sends more than fits, whether it is told to stop or not: what it sends was sent before."""
    engine.write("".join(f"{number}\n" for number in range(2000)))


FILLED = "".join(f"{number}\n" for number in range(2000)).encode()
PIPE_SIZE = 4096


@pytest.fixture
def pipe():
    """A small one: who fills it, and who reads it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    yield reader, writer
    os.close(reader)


def wait_until_full(reader):
    count = array("i", [0])
    deadline = time.monotonic() + 240
    while count[0] < PIPE_SIZE:
        assert time.monotonic() < deadline, f"{count[0]} bytes are in the pipe"
        time.sleep(0.002)
        fcntl.ioctl(reader, termios.FIONREAD, count)


def read_all(reader):
    return b"".join(iter(lambda: os.read(reader, 1 << 16), b""))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_end_it_though_nobody_reads(pretend, kernel, stdout_to, pipe, number, status):
    reader, writer = pipe
    pretend(fills_pipes)
    stdout_to(writer)
    os.close(writer)

    def interrupt():
        wait_until_full(reader)
        os.kill(os.getpid(), number)
        if not ended.wait(240):
            while len(b"".join(seen)) < len(FILLED):  # so that the test fails and does not wait for ever
                seen.append(os.read(reader, 1 << 16))

    seen = []
    ended = threading.Event()
    other = threading.Thread(target=interrupt, daemon=True)
    other.start()
    assert main(["boot", "-kernel", kernel]) == status
    ended.set()
    other.join(240)
    assert not seen
    assert FILLED.startswith(os.read(reader, PIPE_SIZE))
    assert no_threads()


def test_a_guest_that_ends_is_read_to_the_end(pretend, kernel, stdout_to, pipe):
    reader, writer = pipe
    pretend(fills_pipes)
    stdout_to(writer)
    os.close(writer)
    seen = []

    def read_late():
        wait_until_full(reader)
        while len(b"".join(seen)) < len(FILLED):
            seen.append(os.read(reader, 1 << 16))

    other = threading.Thread(target=read_late, daemon=True)
    other.start()
    assert main(["boot", "-kernel", kernel]) == 0
    other.join(240)
    assert b"".join(seen) == FILLED


@pytest.mark.parametrize("options", [["-serial"], ["-serial", "null", "-monitor"]], ids=["serial", "monitor"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_end_the_wait_for_a_peer(pretend, kernel, tmp_path, monkeypatch, number, status, options):
    before = {one: signal.getsignal(one) for one in boot.SIGNALS}
    wait = SocketDevice.wait_for_peer

    def interrupted(device):
        os.kill(os.getpid(), number)
        wait(device)

    monkeypatch.setattr(SocketDevice, "wait_for_peer", interrupted)
    assert main(["boot", "-kernel", kernel, *options, f"unix:{tmp_path}/m,server=on"]) == status
    assert not (tmp_path / "m").exists()
    assert {one: signal.getsignal(one) for one in boot.SIGNALS} == before


@pytest.mark.parametrize("options", [["-serial"], ["-serial", "null", "-monitor"]], ids=["serial", "monitor"])
def test_another_signal_does_not_interrupt_the_end(pretend, kernel, tmp_path, monkeypatch, options):
    monkeypatch.setattr(SocketDevice, "wait_for_peer", lambda device: signal.raise_signal(signal.SIGTERM))
    close = CharDevice.close

    def interrupted(device):
        close(device)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CharDevice, "close", interrupted)
    assert main(["boot", "-kernel", kernel, *options, f"unix:{tmp_path}/m,server=on"]) == 143
    assert not (tmp_path / "m").exists()


def test_a_signal_whose_exception_got_lost_is_not_forgotten(pretend, kernel, tmp_path, monkeypatch):
    def make(*arguments, **options):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        return pretend.machine(*arguments, **options)

    monkeypatch.setattr(boot, "Machine", make)
    monkeypatch.setattr(SocketDevice, "wait_for_peer", lambda device: pytest.fail("a peer is waited for"))
    assert main(["boot", "-kernel", kernel, "-serial", f"unix:{tmp_path}/m,server=on"]) == 143
    assert not (tmp_path / "m").exists()


def test_monitor_on_a_socket(pretend, kernel, tmp_path):
    path = f"{tmp_path}/monitor"

    def talk():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            while peer.connect_ex(path):
                time.sleep(0.01)
            peer.sendall(b"info stats\n")
            seen = b""
            while b"42\r\n" not in seen:
                seen += peer.recv(1000)
            peer.sendall(b"quit\n")
            while peer.recv(1000):
                pass

    user = threading.Thread(target=talk, daemon=True)
    user.start()
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-monitor", f"unix:{path},server=on"]) == 0
    user.join(240)
    assert not user.is_alive()


def test_the_size_of_the_code_buffer_reaches_the_engine(pretend, kernel):
    pretend(lambda engine: None)
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-accel", "tcg,tb-size=3"]) == 0
    assert FakeEngine.made[0].settings.code_size == 3 << 20


def test_an_accelerator_that_is_not_there_falls_back_with_a_line(pretend, kernel, capfd):
    pretend(lambda engine: None)
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-M", "virt,accel=kvm:hvf:tcg"]) == 0
    assert capfd.readouterr().err.splitlines() == [
        "raddle: warning: accelerator kvm is not available: falling back to tcg",
        "raddle: warning: accelerator hvf is not available: falling back to tcg",
    ]


def test_max_is_the_first_cpu(pretend, kernel):
    with pretend.machine(kernel=kernel, cpu="max") as machine:
        assert machine.board.options.cpu == machine.frontend.cpu == "cortex-a15"
    with pretend.machine(kernel=kernel, cpu="cortex-a7") as machine:
        assert machine.board.options.cpu == machine.frontend.cpu == "cortex-a7"


def test_the_pid_file_is_there_while_it_runs(pretend, kernel, tmp_path, capfd):
    path = tmp_path / "pid"
    path.write_text("a longer text that was there before\n")
    command = ["boot", "-kernel", kernel, "-serial", f"file:{tmp_path}/out", "-pidfile", str(path)]

    def guest(engine):
        engine.write(path.read_text())
        code = "import sys; from raddle.cli.main import main; sys.exit(main(sys.argv[1:]))"
        again = [sys.executable, "-c", code, *command]
        seen.append(subprocess.run(again, capture_output=True, text=True, timeout=60, check=False))

    seen = []
    pretend(guest)
    assert main(command) == 0
    assert (tmp_path / "out").read_text() == f"{os.getpid()}\n"
    assert seen[0].returncode == 2
    assert seen[0].stderr == f"raddle: pid file {path} belongs to another process that is still running\n"
    assert not path.exists()


def test_no_pid_file_is_left_by_a_machine_that_cannot_be_made(tmp_path, capfd):
    path = tmp_path / "pid"
    assert main(["boot", "-kernel", "/nonexistent/kernel", "-serial", "null", "-pidfile", str(path)]) == 2
    assert "cannot read kernel /nonexistent/kernel" in capfd.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("path", ["/nonexistent/pid", "/", "/dev/full", "a\0b"])
def test_a_pid_file_that_cannot_be_is_named(pretend, kernel, path, capfd):
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-pidfile", path]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith(("raddle: cannot open pid file ", "raddle: cannot write pid file "))
    assert errors.count("\n") == 1


def test_icount_reaches_the_engine(pretend, kernel):
    pretend(lambda engine: None)
    assert main(["boot", "-kernel", kernel, "-serial", "null", "-icount", "shift=2"]) == 0
    assert FakeEngine.made[0].icount.shift == 2
    assert FakeEngine.made[0].decision.mode is Mode.SINGLE


# --- Machine ----------------------------------------------------------------------------------------------------


def echo(engine):
    engine.write("ready\n")
    while byte := engine.read():
        engine.write(f"<{byte}>")


def test_a_boards_memory_is_made_of_the_guests_pages(pretend, kernel):
    with pretend.machine(kernel=kernel) as machine:
        assert machine.board.options.page_size == machine.memory.page_size == 8192


def test_a_board_gets_its_properties(pretend, kernel):
    with pretend.machine(kernel=kernel, properties={"lid": "no"}) as machine:
        assert machine.board.options.properties == {"lid": "off", "colour": "red"}
    with pretend.machine("arm/virt", kernel=kernel, properties={"colour": "green"}) as machine:
        assert machine.board.options.properties == {"lid": "off", "colour": "green"}


def test_machine_talks_on_its_console(pretend, kernel):
    pretend(echo)
    with pretend.machine(cpus=2, kernel=kernel, memory="64M") as machine:
        assert machine.state is State.READY
        machine.start()
        machine.console.expect("ready", timeout=240)
        machine.console.send("abc")
        machine.console.expect("<a><b><c>", timeout=240)
        machine.memory[0x4000_0000:0x4000_0004] = b"1234"
        assert machine.memory[0x4000_0001] == ord("2")
    assert machine.state is State.STOPPED
    assert "ready" in machine.console.text


def test_machine_pauses_and_resumes(pretend, kernel):
    with pretend.machine(kernel=kernel) as machine:
        machine.start(paused=True)
        assert FakeEngine.made[0].calls == []
        machine.resume()
        machine.resume()
        machine.pause()
        machine.pause()
        assert machine.state is State.PAUSED
        machine.resume()
        assert FakeEngine.made[0].calls == ["start", "pause", "resume"]
        with pytest.raises(UsageError, match="running cannot be started"):
            machine.start()
        with pytest.raises(TimeoutError):
            machine.wait(0.01)
    with pytest.raises(UsageError, match="stopped cannot be resumed"):
        machine.resume()


def test_machine_that_never_started_closes(pretend, kernel):
    with pretend.machine(kernel=kernel):
        pass


def test_errors_come_out_of_wait_and_of_the_block(pretend, kernel):
    def guest(engine):
        raise ZeroDivisionError("in a hook")

    pretend(guest)
    machine = pretend.machine(kernel=kernel)
    machine.start()
    with pytest.raises(ZeroDivisionError):
        machine.wait(240)
    with pytest.raises(ConsoleClosed):
        machine.console.expect("never", timeout=240)
    with pytest.raises(ZeroDivisionError), machine:
        pass


def test_errors_of_input_threads_stop_the_machine(pretend, kernel, tmp_path):
    path = f"{tmp_path}/sock"
    machine = pretend.machine(kernel=kernel, serial=f"unix:{path},server=on,wait=off")
    machine.start()
    machine.board.uart.receive = lambda: 1 // 0
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b"x")
        with pytest.raises(ZeroDivisionError):
            machine.wait(240)
    with pytest.raises(ZeroDivisionError):
        machine.__exit__(None, None, None)


def test_registers_of_cpus_that_are_off_are_not_shown(pretend, kernel, monkeypatch):
    with pretend.machine(kernel=kernel, cpus=2) as machine:
        monkeypatch.setattr(machine.cpus[1], "info", lambda: {"state": "off"}, raising=False)
        assert machine.describe() == "CPU 0\npc=0x8000\nCPU 1 is off"


def test_reset_restarts_and_no_reboot_ends(pretend, kernel):
    with pretend.machine(kernel=kernel) as machine:
        machine.start()
        machine.request_reset()
        deadline = time.monotonic() + 240
        while machine.board.resets < 2:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert machine.cpus[0].started == [(0x4000_0000, 1), (0x4000_0000, 2)]
    with pretend.machine(kernel=kernel, reboot=False) as machine:
        machine.start()
        machine.request_reset()
        assert machine.wait(240) == 0
        assert machine.board.resets == 1


def test_a_machine_that_waits_for_its_start_can_be_stopped(pretend, kernel):
    with pretend.machine(kernel=kernel) as machine:
        machine.start(paused=True)
        machine.request_stop()
        assert machine.wait(240) == 0


def test_exit_status_of_a_stop(pretend, kernel):
    with pretend.machine(kernel=kernel) as machine:
        machine.start()
        machine.request_stop(3)
        assert machine.wait(240) == 3


def test_only_an_in_memory_console_is_a_console(pretend, kernel):
    with (
        pretend.machine(kernel=kernel, serial="null") as machine,
        pytest.raises(UsageError, match="not an in-memory console"),
    ):
        machine.console  # noqa: B018 - the access is what is tested


# --- on a terminal ----------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import test_cli_boot as t
from raddle.cli import boot
from raddle.cli.main import main
t.FakeEngine.guest = staticmethod(t.{guest})
boot.Machine = lambda *a, **k: t.Machine(*a, engine=t.FakeEngine, plugins=t.plugins(), **k)
sys.argv[1:] = ["boot", "-kernel", {kernel!r}, *{options!r}]
sys.exit(main())
"""


def program(kernel, *options, guest="echo"):
    return PROGRAM.format(tests=str(Path(__file__).parent), kernel=kernel, options=options, guest=guest)


def writes_everywhere(engine):
    engine.write("stray\n")
    for number in range(3):
        with contextlib.suppress(OSError):
            os.write(number, b"stray\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_no_other_file_becomes_a_standard_one(kernel, tmp_path, closed):
    log = tmp_path / "log"
    code = program(kernel, "-d", "stats", "-D", str(log), guest="writes_everywhere")
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0
    assert "42" in log.read_text()
    assert "stray" not in log.read_text()


class Terminal:
    """A child on a pseudo-terminal."""

    def __init__(self, program):
        self.master, self.slave = pty.openpty()
        self.child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=self.slave, stdout=self.slave, stderr=self.slave
        )
        self.seen = b""

    def expect(self, wanted):
        deadline = time.monotonic() + 240
        os.set_blocking(self.master, False)
        while wanted not in self.seen:
            assert time.monotonic() < deadline, f"no {wanted!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.master, 1000)
            except BlockingIOError:
                time.sleep(0.01)
        self.seen = self.seen.partition(wanted)[2]

    def type(self, text):
        os.write(self.master, text)

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(kernel):
    terminal = Terminal(program(kernel))
    yield terminal
    terminal.close()


def test_console_and_monitor_share_the_terminal(terminal):
    terminal.expect(b"ready\r\n")
    terminal.type(b"k\x03")
    terminal.expect(b"<k><\x03>")
    terminal.type(b"\x01c")
    terminal.expect(b"(raddle) ")
    terminal.type(b"info cpus\r")
    terminal.expect(b"CPU 0: state running\r\n(raddle) ")
    terminal.type(b"stop\rcont\rnonsense\r")
    terminal.expect(b"unknown monitor command 'nonsense'")
    terminal.type(b"\x01cz\x01a")
    terminal.expect(b"<z><\x01>")
    terminal.type(b"\x01h")
    terminal.expect(b"Ctrl-A X  exit")
    terminal.type(b"\x01x")
    assert terminal.child.wait(240) == 0


def test_monitor_quits(terminal):
    terminal.expect(b"ready")
    terminal.type(b"\x01cquit\r")
    assert terminal.child.wait(240) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [(), ("-serial", "null", "-monitor", "stdio")], ids=["console", "monitor"])
def test_what_cannot_be_written_puts_the_terminal_back(kernel, options):
    master, slave = pty.openpty()
    os.write(master, b"help\n")
    before = termios.tcgetattr(slave)
    try:
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-c", program(kernel, *options)]
            done = subprocess.run(command, stdin=slave, stdout=full, stderr=subprocess.PIPE, timeout=240, check=False)
        assert done.stderr == b"raddle: cannot write to the standard output: No space left on device\n"
        assert done.returncode == 1
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("before", [b"", b"y", b"\x01h", b"\x01c", b"\x01cinfo cpus\r\x01cy"])
def test_the_escape_key_ends_it_though_nobody_reads(kernel, pipe, before):
    reader, writer = pipe
    master, slave = pty.openpty()
    command = [sys.executable, "-c", program(kernel, guest="fills_pipes")]
    child = subprocess.Popen(command, stdin=slave, stdout=writer)
    os.close(writer)
    try:
        wait_until_full(reader)
        os.write(master, before + b"\x01x")
        assert child.wait(240) == 0
        assert FILLED.startswith(read_all(reader))
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)
