# SPDX-License-Identifier: Apache-2.0
"""The values of `raddle boot`'s options. Each function parses one, stores it in BootOptions, or raises UsageError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from raddle.cli.drives import Drive, LoaderDevice, parse_device, parse_drive
from raddle.cli.peer_options import UNSUPPORTED
from raddle.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "HELP_WORDS",
    "LOG_ITEMS",
    "BootOptions",
    "Help",
    "accelerator",
    "add",
    "cpu",
    "device",
    "drive",
    "flag",
    "log_filter",
    "log_items",
    "machine",
    "memory",
    "nothing",
    "only",
    "pflash",
    "smp",
    "store",
    "uuid",
]

HELP_WORDS: Final = ("help", "?")


@dataclass(slots=True)
class BootOptions:
    """The command line, parsed. Boards, CPU models and files are checked later."""

    machine: str = ""
    target: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    """The board's properties that were given with -M."""
    cpu: str | None = None
    cpus: int = 1
    memory: str = "128M"
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    dtb: str | None = None
    bios: str | None = None
    flash: list[Drive] = field(default_factory=list)
    """Files for flash banks, in the order of the command line. One whose unit is None goes to the first free bank."""
    snapshot: bool = False
    loads: list[LoaderDevice] = field(default_factory=list)
    serial: list[str] = field(default_factory=list)
    monitor: str | None = None
    nographic: bool = False
    display: str = "none"
    accelerator: str = "tcg"
    """The first of the next two that was given; by default tcg."""
    accel: str = field(default="", compare=False)
    """-accel"""
    machine_accel: str = field(default="", compare=False)
    """`accel=` of -M"""
    icount: str | None = None
    rtc: str | None = None
    reboot: bool = True
    paused: bool = False
    pid_file: str | None = None
    log: tuple[str, ...] = ()
    log_file: str | None = None
    log_within: tuple[range, ...] = ()


Apply = Callable[[BootOptions, str], None]


class Help(Exception):
    """A text that was requested instead of a machine: raised to end parsing."""


# --- of any option ----------------------------------------------------------------------------------------------


def store(name: str) -> Apply:
    assert name in {one.name for one in fields(BootOptions)}
    return lambda options, value: setattr(options, name, value)


def flag(name: str, value: bool) -> Apply:
    return lambda options, _: setattr(options, name, value)


def add(name: str) -> Apply:
    return lambda options, value: getattr(options, name).append(value)


def nothing(keys: Collection[str] = ()) -> Apply:
    """Accept a value that changes nothing. With `keys`, accept only settings with these names."""

    def apply(_: BootOptions, value: str) -> None:
        for position, part in enumerate(value.split(",") if keys else ()):
            key, equals, _value = part.partition("=")
            if key not in keys and (equals or position):
                raise unknown("setting", key, keys)

    return apply


def only(option: str, choice: str, reason: str) -> Apply:
    """Accept `choice`, which is so anyway, with any settings after it, and no other value."""

    def apply(_: BootOptions, value: str) -> None:
        given = value.partition(",")[0]
        if not given:
            raise UsageError(f"option -{option} needs a value: -{option} {choice}")
        if given in HELP_WORDS:
            raise Help(f"-{option}: {choice} ({reason})\n")
        if given.removeprefix("driver=") != choice:
            raise UsageError(f"-{option} {given} is not supported ({reason}); the nearest that is: -{option} {choice}")

    return apply


# --- of one option ----------------------------------------------------------------------------------------------


def uuid(_: BootOptions, value: str) -> None:
    """Check the value, which is not used."""
    import uuid as library  # late: few users give one

    try:
        library.UUID(value)
    except ValueError:
        raise UsageError(f"-uuid {value!r} is not a UUID: 32 hexadecimal digits, with or without dashes") from None


def machine(options: BootOptions, value: str) -> None:
    """`NAME`, `GUEST/NAME`, `NAME,accel=tcg,property=value`. The board says which properties it has."""
    name, *properties = value.split(",")
    name = name.removeprefix("type=")
    if name in HELP_WORDS:
        from raddle.cli.listings import machines

        raise Help(machines())
    if not name:
        raise UsageError("-M needs the name of a board (-M help lists them)")
    if set(properties) & set(HELP_WORDS):
        from raddle.cli.listings import properties as listing

        raise Help(listing(name))
    options.machine, options.properties = name, {}
    for one in properties:
        key, equals, given = one.partition("=")
        match key:
            case "accel":
                options.machine_accel = _accelerator("-machine accel", given)
            case "dumpdtb":
                raise UsageError(f"-machine {one} is not supported: {UNSUPPORTED[key].reason}")
            case "pflash0" | "pflash1":
                raise UsageError(
                    f"-machine {key}=NODE is not supported (there is no -blockdev); the nearest that is: "
                    f"-drive if=pflash,unit={key[-1]},format=raw,file=FILE"
                )
            case _:
                options.properties[key] = given if equals else "on"


def cpu(options: BootOptions, value: str) -> None:
    """`cortex-a15`, `max`."""
    name, *properties = value.split(",")
    if not name:
        raise UsageError("-cpu needs the name of a CPU model (-cpu help lists them)")
    if properties:
        raise UsageError(f"-cpu property {properties[0]!r} is not supported; the nearest that is: -cpu {name}")
    options.cpu = name


CPU_COUNT_KEYS: Final = ("cpus", "maxcpus", "sockets", "dies", "clusters", "cores", "threads")
CPU_COUNT_DIGITS: Final = 30
"""Longer numbers are refused here. Shorter ones are passed on: the board's own message says how many CPUs it can have.
"""


def smp(options: BootOptions, value: str) -> None:
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


def memory(options: BootOptions, value: str) -> None:
    """`512`, `512M`, `size=1G`."""
    size, *settings = value.split(",")
    if not size.removeprefix("size="):
        raise UsageError("-m needs a size of memory, as in -m 512M")
    if settings:
        raise UsageError(
            f"-m {settings[0] or value} is not supported (no memory hot-plug); the nearest that is: -m {size}"
        )
    options.memory = size.removeprefix("size=")


def drive(options: BootOptions, value: str) -> None:
    """See raddle.cli.drives."""
    options.flash.append(parse_drive(value))


def pflash(options: BootOptions, value: str) -> None:
    """A file name, whatever is in it."""
    options.flash.append(Drive(value))


def device(options: BootOptions, value: str) -> None:
    """See raddle.cli.drives."""
    if value in HELP_WORDS:
        from raddle.cli.listings import devices

        raise Help(devices())
    options.loads.append(parse_device(value))


def accelerator(options: BootOptions, value: str) -> None:
    """The value is kept as it is: raddle.accel parses it, like the argument of a Machine."""
    if value in HELP_WORDS:
        raise Help("Accelerators: tcg\n")
    options.accel = _accelerator("-accel", value.removeprefix("accel="))


def _accelerator(option: str, value: str) -> str:
    if not value:
        raise UsageError(f"{option} needs the name of an accelerator (tcg)")
    return value


LOG_ITEMS: Final = {
    "in_asm": "guest instructions of each block that is translated",
    "op": "the blocks' IR",
    "out_asm": "the blocks' host code",
    "int": "exceptions and interrupts that are taken",
    "exec": "every block that is executed",
    "cpu": "the registers before every block that is executed",
    "nochain": "logs nothing, but blocks are not chained (exec and cpu do the same)",
    "mmu": "page-table walks and faults",
    "unimp": "unimplemented instructions and system registers that the guest uses",
    "guest_errors": "the guest's mistakes in using devices",
    "verify": "logs nothing, but verifies all IR that is translated, and a mistake ends the machine",
    "accel": "the threading mode, and why",
    "stats": "counters, when the machine stops",
}


def log_items(options: BootOptions, value: str) -> None:
    """`int`, `int,exec`."""
    items = value.split(",")
    if set(items) & set(HELP_WORDS):
        raise Help("Log items (-d):\n" + "".join(f"  {name:<14}{text}\n" for name, text in LOG_ITEMS.items()))
    for item in items:
        if item not in LOG_ITEMS:
            raise unknown("log item", item, LOG_ITEMS)
    options.log = tuple(dict.fromkeys((*options.log, *items)))


def log_filter(options: BootOptions, value: str) -> None:
    """`0x8000..0x8fff`, `0x8000+0x1000`, `0x8fff-0x1000`; several with commas."""
    from raddle.debug.ranges import parse_ranges

    options.log_within += parse_ranges(value)
