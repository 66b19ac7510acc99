# SPDX-License-Identifier: Apache-2.0
"""The options of `raddle boot`: those that QEMU's users type, read by one table.

Options begin with one dash or two; a value follows as the next word or after `=`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, NoReturn

from raddle.cli.drives import Drive, LoaderDevice, parse_device, parse_drive
from raddle.errors import UsageError, unknown

if TYPE_CHECKING:
    import argparse

__all__ = ["OPTIONS", "BootOptions", "Option", "configure", "parse"]


@dataclass(slots=True)
class BootOptions:
    """What was given, as far as the words themselves tell."""

    machine: str = "virt"
    cpu: str | None = None
    cpus: int = 1
    memory: str = "128M"
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    dtb: str | None = None
    bios: str | None = None
    flash: list[Drive] = field(default_factory=list)
    """For the flash banks; the first one whose unit is None is the first bank's that has none yet."""
    snapshot: bool = False
    loads: list[LoaderDevice] = field(default_factory=list)
    serial: list[str] = field(default_factory=list)
    monitor: str | None = None
    nographic: bool = False
    display: str = "none"
    accelerator: str = "tcg"
    icount: str | None = None
    reboot: bool = True
    paused: bool = False
    log: tuple[str, ...] = ()
    log_file: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table: how an option is written, and what its value does to the BootOptions."""

    names: tuple[str, ...]
    metavar: str
    """Empty for an option without a value."""
    meaning: str
    apply: Callable[[BootOptions, str], None]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An option that QEMU has and Raddle has not: whether a value follows, and what comes nearest."""

    nearest: str
    value: bool = True


def _set(name: str) -> Callable[[BootOptions, str], None]:
    assert name in {one.name for one in fields(BootOptions)}
    return lambda options, value: setattr(options, name, value)


def _flag(name: str, value: bool) -> Callable[[BootOptions, str], None]:
    return lambda options, _: setattr(options, name, value)


# --- values -----------------------------------------------------------------------------------------------------


def _machine(options: BootOptions, value: str) -> None:
    """`virt`, `virt,accel=tcg,gic-version=2`: properties that only say what is so anyway."""
    name, *properties = value.split(",")
    options.machine = name.removeprefix("type=")
    for one in properties:
        key, _, given = one.partition("=")
        match key:
            case "accel":
                _accelerator(options, given)
            case "gic-version":
                if given not in ("2", "max", "host"):
                    raise unknown("-machine gic-version", given, ("2",))
            case "virtualization" | "secure" | "highmem" | "its" | "dumpdtb":
                if given not in ("off", "false"):
                    raise UsageError(f"-machine {key}={given} is not supported; the nearest that is: {key}=off")
            case "pflash0" | "pflash1":
                raise UsageError(
                    f"-machine {key}=NODE is not supported (there is no -blockdev); the nearest that is: "
                    f"-drive if=pflash,unit={key[-1]},format=raw,file=FILE"
                )
            case _:
                raise unknown("-machine property", key, ("accel", "gic-version"))


CPU_COUNT_KEYS: Final = ("cpus", "maxcpus", "sockets", "dies", "clusters", "cores", "threads")
CPU_COUNT_DIGITS: Final = 30
"""Of what a board is asked about, which says how many CPUs it can have."""


def _smp(options: BootOptions, value: str) -> None:
    """`4`, `cpus=4`, `4,maxcpus=4`, `sockets=1,cores=4,threads=1`."""
    counts: dict[str, int] = {}
    for position, part in enumerate(value.split(",")):
        key, equals, number = part.partition("=")
        if not equals and position == 0:
            key, number = "cpus", key
        if key not in CPU_COUNT_KEYS:
            raise unknown("-smp setting", key, CPU_COUNT_KEYS)
        if not (number.isascii() and number.isdigit() and number.strip("0")):
            raise UsageError(f"-smp {key} must be a number of 1 or more, not {number!r}")
        if len(number) > CPU_COUNT_DIGITS:
            raise UsageError(f"-smp {key} has {len(number)} digits: no machine has that many")
        counts[key] = int(number)
    product = 1
    for key in CPU_COUNT_KEYS[2:]:
        product *= counts.get(key, 1)
    cpus = counts.get("cpus", product)
    if counts.keys() & set(CPU_COUNT_KEYS[2:]) and product not in (cpus, counts.get("maxcpus", cpus)):
        raise UsageError(f"-smp {value}: {product} CPUs in the topology, but cpus={cpus}")
    if counts.get("maxcpus", cpus) != cpus:
        raise UsageError(
            f"-smp maxcpus={counts['maxcpus']} is not supported (no CPU hot-plug); the nearest that is: {cpus}"
        )
    options.cpus = cpus


def _memory(options: BootOptions, value: str) -> None:
    """`512`, `512M`, `size=1G`."""
    size, *settings = value.split(",")
    if settings:
        raise UsageError(f"-m {settings[0]} is not supported (no memory hot-plug); the nearest that is: -m {size}")
    options.memory = size.removeprefix("size=")


def _accelerator(options: BootOptions, value: str) -> None:
    options.accelerator = value.removeprefix("accel=")


def _serial(options: BootOptions, value: str) -> None:
    options.serial.append(value)


def _drive(options: BootOptions, value: str) -> None:
    options.flash.append(parse_drive(value))


def _pflash(options: BootOptions, value: str) -> None:
    options.flash.append(Drive(value))


def _device(options: BootOptions, value: str) -> None:
    options.loads.append(parse_device(value))


def _display(options: BootOptions, value: str) -> None:
    if value != "none":
        raise UsageError(f"-display {value} is not supported (there is no screen); the nearest that is: -display none")


LOG_ITEMS: Final = {
    "in_asm": "guest instructions of each block that is translated",
    "op": "the blocks' IR",
    "out_asm": "the blocks' host code",
    "int": "exceptions and interrupts that are taken",
    "exec": "every block that is executed",
    "mmu": "page-table walks and faults",
    "guest_errors": "what a guest does to devices and should not",
    "accel": "the threading mode, and why",
    "stats": "counters, when the machine stops",
}


def _log(options: BootOptions, value: str) -> None:
    items = value.split(",")
    if "help" in items or "?" in items:
        raise _Help("Log items (-d):\n" + "".join(f"  {name:<14}{text}\n" for name, text in LOG_ITEMS.items()))
    for item in items:
        if item not in LOG_ITEMS:
            raise unknown("log item", item, LOG_ITEMS)
    options.log = tuple(dict.fromkeys((*options.log, *items)))


# --- the table --------------------------------------------------------------------------------------------------

OPTIONS: Final = (
    Option(("M", "machine"), "NAME", "board (virt)", _machine),
    Option(("cpu",), "NAME", "CPU model; the default is the board's", _set("cpu")),
    Option(("smp",), "N", "number of CPUs (1)", _smp),
    Option(("m",), "SIZE", "RAM: 512M, 1G, or a number of MiB (128M)", _memory),
    Option(("kernel",), "FILE", "kernel: zImage, raw image or ELF, gzip'd or not", _set("kernel")),
    Option(("initrd",), "FILE", "initial RAM disk", _set("initrd")),
    Option(("append",), "TEXT", "the kernel's command line", _set("append")),
    Option(("dtb",), "FILE", "device tree to use instead of the machine's own", _set("dtb")),
    Option(("bios",), "FILE", "firmware to start; it may ask for kernel, initrd and command line", _set("bios")),
    Option(
        ("drive",),
        "if=pflash,format=raw,file=FILE[,unit=0|1][,readonly=on][,snapshot=on]",
        "a flash bank's contents (unit 0: firmware); what the guest programs is written to the file",
        _drive,
    ),
    Option(("pflash",), "FILE", "as -drive if=pflash,format=raw,file=FILE: the next flash bank's contents", _pflash),
    Option(("snapshot",), "", "leave the files of all drives as they are", _flag("snapshot", True)),
    Option(
        ("device",),
        "loader,file=FILE,addr=ADDRESS",
        "put a file into memory; or a number: loader,addr=ADDRESS,data=NUMBER,data-len=BYTES",
        _device,
    ),
    Option(
        ("serial",),
        "DEV",
        "serial port: mon:stdio (the default), stdio, file:PATH, pty, null, unix:PATH,server=on[,wait=off], "
        "tcp:[HOST]:PORT,server=on[,wait=off] (without HOST for this host alone; port 0 is a free one, and told)",
        _serial,
    ),
    Option(
        ("monitor",), "DEV", "where the monitor is besides Ctrl-A C: stdio, none, or as for -serial", _set("monitor")
    ),
    Option(
        ("nographic",), "", "no screen (there never is one): serial port and monitor on stdio", _flag("nographic", True)
    ),
    Option(("display",), "none", "no screen", _display),
    Option(("accel",), "tcg[,SETTING=VALUE]", "thread=multi|single, order=native|fenced, memo-size=64M", _accelerator),
    Option(("icount",), "shift=N|auto[,sleep=on|off]", "count instructions: deterministic, one thread", _set("icount")),
    Option(("no-reboot",), "", "exit instead of rebooting", _flag("reboot", False)),
    Option(("S",), "", "do not start before the monitor's `cont`", _flag("paused", True)),
    Option(("d",), "ITEM,...", "log these items; `-d help` lists them", _log),
    Option(("D",), "FILE", "log into this file instead of standard error", _set("log_file")),
)

UNSUPPORTED: Final = {
    "s": Unsupported("the monitor (Ctrl-A C)", value=False),
    "gdb": Unsupported("the monitor (Ctrl-A C)"),
    "hda": Unsupported("-initrd"),
    "hdb": Unsupported("-initrd"),
    "cdrom": Unsupported("-initrd"),
    "blockdev": Unsupported("-initrd"),
    "sd": Unsupported("-initrd"),
    "netdev": Unsupported("-serial"),
    "nic": Unsupported("-serial"),
    "net": Unsupported("-serial"),
    "chardev": Unsupported("-serial"),
    "parallel": Unsupported("-serial"),
    "vnc": Unsupported("-display none"),
    "vga": Unsupported("-display none"),
    "enable-kvm": Unsupported("--accel tcg", value=False),
    "qmp": Unsupported("-monitor"),
    "mon": Unsupported("-monitor"),
    "daemonize": Unsupported("-serial pty", value=False),
    "loadvm": Unsupported("-kernel"),
    "no-shutdown": Unsupported("-no-reboot", value=False),
    "semihosting": Unsupported("-serial", value=False),
    "rtc": Unsupported("-icount"),
    "object": Unsupported("-machine"),
    "global": Unsupported("-machine"),
    "plugin": Unsupported("-d exec"),
    "trace": Unsupported("-d int"),
    "dumpdtb": Unsupported("-dtb"),
}

_BY_NAME: Final = {name: option for option in OPTIONS for name in option.names}


class _Help(Exception):
    """Text that was asked for instead of a machine."""


def parse(words: Sequence[str]) -> BootOptions | str:
    """Read a command line; a text is help that was asked for. Raises UsageError."""
    options = BootOptions()
    rest = list(words)
    try:
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word in ("-", "--"):
                raise UsageError(f"unexpected argument {word!r}; a kernel is given as -kernel {word}")
            name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
            if name in ("h", "help"):
                return help_text()
            option = _BY_NAME.get(name)
            if option is None:
                _refuse(name, word.partition("=")[0])
            if not option.metavar:
                if equals:
                    raise UsageError(f"option -{name} takes no value")
            elif not equals:
                if not rest:
                    raise UsageError(f"option -{name} needs a value: -{name} {option.metavar}")
                value = rest.pop(0)
            if option.metavar == "FILE" and not value:
                raise UsageError(f"option -{name} needs the name of a file, which is empty")
            option.apply(options, value)
    except _Help as answer:
        return str(answer)
    return options


def _refuse(name: str, word: str) -> NoReturn:
    if name in UNSUPPORTED:
        raise UsageError(f"option {word!r} is not supported yet; the nearest that is: {UNSUPPORTED[name].nearest}")
    import difflib

    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"; the nearest that is: -{near[0]}" if near else " (see raddle boot --help)"
    raise UsageError(f"option {word!r} is not supported{hint}")


def help_text() -> str:
    """The table, for people."""
    import textwrap

    lines = ["usage: raddle boot [OPTION]...", "", "Boot a machine. Options are QEMU's:", ""]
    for option in OPTIONS:
        left = "  " + ", ".join(f"-{name}" for name in option.names) + (f" {option.metavar}" if option.metavar else "")
        texts = textwrap.wrap(option.meaning, 84)
        if len(left) > 33:
            lines.append(left)
            left = ""
        lines.append(f"{left:<34} {texts[0]}")
        lines += [f"{'':<34} {text}" for text in texts[1:]]
    lines += [
        "",
        "Of an option that is given twice the last one counts; -serial, -drive, -pflash, -device and -d add up.",
        "",
        "Example: raddle boot -smp 4 -m 512M -kernel vmlinuz -initrd initramfs.cpio.gz -append console=ttyAMA0",
        "",
        "While it runs: Ctrl-A X ends it, Ctrl-A C opens and closes the monitor, Ctrl-A H lists all keys.",
        "",
    ]
    return "\n".join(lines)


# --- as a sub-command of `raddle` -------------------------------------------------------------------------------


def configure(parser: argparse.ArgumentParser) -> None:
    """Tell `parser` the options' names, for shell completion. It does not read them: argparse would take `-smp4` for
    `-s -m p4`, and `-append -x` for two options.
    """
    for option in OPTIONS:
        names = [f"-{name}" for name in option.names]
        if option.metavar:
            parser.add_argument(*names, metavar=option.metavar)
        else:
            parser.add_argument(*names, action="store_true")
