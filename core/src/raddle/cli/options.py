# SPDX-License-Identifier: Apache-2.0
"""The options of `raddle boot`, which are QEMU's: a table of them, and their parser.

Options begin with one dash or two; a value follows as the next word or after `=`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from raddle.cli import values
from raddle.cli.commands import program
from raddle.cli.peer_options import UNSUPPORTED
from raddle.cli.values import HELP_WORDS, Apply, BootOptions, Help
from raddle.errors import LIMIT, UsageError, line

if TYPE_CHECKING:
    import argparse

__all__ = ["OPTIONS", "TAKEN", "BootOptions", "Option", "configure", "parse"]

LEAST: Final = 40
"""The characters that are kept at least of each of several mistakes."""
BESIDE: Final = 20
"""The characters that a message has for each of several mistakes beside those that are kept of it."""
NEAR: Final = 0.75
"""An option is proposed for a mistyped one if their names are at least so similar, by difflib's measure."""


class Option(NamedTuple):
    """A row of the table: how an option is written, and what its value does to the BootOptions."""

    names: tuple[str, ...]
    metavar: str
    """Empty for an option without a value."""
    meaning: str
    apply: Apply


def _version(_: BootOptions, __: str) -> None:
    from raddle import __version__

    raise Help(f"raddle {__version__}\n")


OPTIONS: Final = (
    Option(
        ("M", "machine"),
        "NAME[,PROPERTY=VALUE]",
        "board, or GUEST/NAME (by default the guest's first); `-M help` lists them, `-M NAME,help` its properties",
        values.machine,
    ),
    Option(
        ("target",),
        "GUEST",
        "guest architecture, if neither the kernel's file nor -M says it",
        values.store("target"),
    ),
    Option(("cpu",), "NAME", "CPU model; the default is the board's; `-cpu help` lists them", values.cpu),
    Option(("smp",), "N", "number of CPUs (1)", values.smp),
    Option(("m",), "SIZE", "RAM: 512M, 1G, or a number of MiB (128M)", values.memory),
    Option(
        ("kernel",),
        "FILE",
        "kernel: ELF, uImage, raw image, or a kind of the guest's own, gzip'd or not",
        values.store("kernel"),
    ),
    Option(("initrd",), "FILE", "initial RAM disk", values.store("initrd")),
    Option(("append",), "TEXT", "the kernel's command line", values.store("append")),
    Option(("dtb",), "FILE", "device tree to use instead of the machine's own", values.store("dtb")),
    Option(
        ("bios",), "FILE", "firmware to start; it may ask for kernel, initrd and command line", values.store("bios")
    ),
    Option(
        ("drive",),
        "if=pflash,format=raw,file=FILE[,unit=0|1][,readonly=on][,snapshot=on]",
        "a flash bank's contents (unit 0: firmware); what the guest programs is written to the file",
        values.drive,
    ),
    Option(
        ("pflash",),
        "FILE",
        "as -drive if=pflash,format=raw,file=FILE: the next flash bank's contents",
        values.pflash,
    ),
    Option(("snapshot",), "", "leave the files of all drives as they are", values.flag("snapshot", True)),
    Option(
        ("device",),
        "loader,file=FILE,addr=ADDRESS",
        "put a file into memory; or a number: loader,addr=ADDRESS,data=NUMBER,data-len=BYTES",
        values.device,
    ),
    Option(
        ("serial",),
        "DEV",
        "serial port: mon:stdio (the default), stdio, file:PATH, pty, null, unix:PATH,server=on[,wait=off], "
        "tcp:[HOST]:PORT,server=on[,wait=off] (without HOST, only for this host; port 0 is a free one, which is shown)",
        values.add("serial"),
    ),
    Option(
        ("monitor",),
        "DEV",
        "where the monitor is, besides Ctrl-A C: stdio, none, or as for -serial",
        values.store("monitor"),
    ),
    Option(
        ("nographic",),
        "",
        "no screen (there never is one): serial port and monitor on stdio",
        values.flag("nographic", True),
    ),
    Option(("display",), "none", "no screen", values.only("display", "none", "there is no screen")),
    Option(
        ("accel",),
        "tcg[,SETTING=VALUE]",
        "thread=multi|single, order=native|fenced, llsc=fast|strict, tb-size=MiB of the code buffer, memo-size=64M, "
        "split-wx=on|off",
        values.accelerator,
    ),
    Option(
        ("icount",),
        "shift=N|auto[,sleep=on|off]",
        "count instructions: deterministic, one thread",
        values.store("icount"),
    ),
    Option(
        ("rtc",),
        "[base=utc|localtime|DATETIME][,clock=host|rt|vm]",
        "time of day: where it starts (utc, or with -icount the year 2000), and what it follows: the host's (the "
        "default), real time, or the machine's clock, which pauses stop (the default, and the only one, with -icount)",
        values.store("rtc"),
    ),
    Option(("no-reboot",), "", "exit instead of rebooting", values.flag("reboot", False)),
    Option(("S",), "", "do not start before the monitor's `cont`", values.flag("paused", True)),
    Option(("d",), "ITEM,...", "log these items; `-d help` lists them", values.log_items),
    Option(
        ("dfilter",),
        "RANGE,...",
        "log only blocks at these addresses: FIRST..LAST, FIRST+SIZE or LAST-SIZE; does not apply to int, mmu, unimp",
        values.log_filter,
    ),
    Option(("D",), "FILE", "log into this file instead of standard error", values.store("log_file")),
    Option(("pidfile",), "FILE", "write the process's number into this file while it runs", values.store("pid_file")),
    Option(("version",), "", "the version", _version),
)

TAKEN: Final = (
    Option(("name",), "NAME", "", values.nothing()),
    Option(("uuid",), "UUID", "", values.uuid),
    Option(("nodefaults",), "", "", values.nothing()),
    Option(("no-user-config",), "", "", values.nothing()),
    Option(("usb",), "", "", values.nothing()),
    Option(("vga",), "none", "", values.only("vga", "none", "there is no screen")),
    Option(("audiodev",), "none", "", values.only("audiodev", "none", "there is no sound")),
    Option(("msg",), "SETTING", "", values.nothing(("timestamp", "guest-name"))),
    Option(("overcommit",), "SETTING", "", values.nothing(("mem-lock", "cpu-pm"))),
    Option(("L",), "DIRECTORY", "", values.nothing()),
)
"""Options that are accepted and change nothing: they ask for what is so anyway, or do not concern the machine."""

_BY_NAME: Final = {name: option for option in (*OPTIONS, *TAKEN) for name in option.names}


def parse(words: Sequence[str]) -> BootOptions | str:
    """Parse a command line. Returns a text if help was requested. Raises one UsageError for all that is wrong."""
    options = BootOptions()
    wrong = _Wrong()
    rest = list(words)
    try:
        while rest:
            _one(options, rest, wrong)
        wrong.check()
        if options.cpu in HELP_WORDS:
            from raddle.cli.listings import cpus

            return cpus(options.machine, options.target)
    except Help as answer:
        return str(answer)
    options.accelerator = options.accel or options.machine_accel or options.accelerator
    return options


class _Wrong:
    """Collects all that is wrong with a command line."""

    def __init__(self) -> None:
        self._unsupported: list[tuple[str, str]] = []
        self._others: list[str] = []

    def option(self, word: str, reason: str) -> None:
        """Add an option that is not supported. If `reason` is empty, the message points to the list of options."""
        if all(word != other for other, _ in self._unsupported):
            self._unsupported.append((word, reason))

    def other(self, message: str) -> None:
        self._others.append(message)

    def check(self) -> None:
        """Raise UsageError if anything is wrong."""
        count = len(self._unsupported) + len(self._others)
        if not count:
            return
        message = self._message(LIMIT)
        if len(message) > LIMIT:  # a long word must not hide the other mistakes
            message = self._message(max(LIMIT // count - BESIDE, LEAST))
        raise UsageError(message)

    def _message(self, limit: int) -> str:
        """What is wrong, with no more than `limit` characters of each mistake."""
        said = [line(message, limit) for message in self._others]
        unsupported = [(line(word, limit), reason) for word, reason in self._unsupported]
        listed = f"{program()} boot --help lists those that are"
        if len(unsupported) == 1:
            (word, reason) = unsupported[0]
            said.insert(0, f"option {word!r} is not supported: {reason or listed}")
        elif unsupported:
            named = ", ".join(f"{word} ({reason})" if reason else word for word, reason in unsupported)
            hint = "" if all(reason for _, reason in unsupported) else f" ({listed})"
            said.insert(0, f"these options are not supported: {named}{hint}")
        return "; ".join(said)


def _one(options: BootOptions, rest: list[str], wrong: _Wrong) -> None:
    """Parse the first option of `rest`, and remove it from there."""
    word = rest.pop(0)
    if not word.startswith("-") or word in ("-", "--"):
        wrong.other(f"unexpected argument {word!r}; a kernel is given as -kernel {word}")
        return
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    if name in ("h", "help"):
        raise Help(help_text())
    option = _BY_NAME.get(name)
    if option is None:
        _refuse(name, word.partition("=")[0], equals, rest, wrong)
        return
    try:
        if not option.metavar:
            if equals:
                raise UsageError(f"option -{name} takes no value")
        elif not equals:
            if not rest:
                raise UsageError(f"option -{name} needs a value: -{name} {option.metavar}")
            value = rest.pop(0)
        if option.metavar == "FILE" and not value:
            raise UsageError(f"option -{name} needs the name of a file")
        option.apply(options, value)
    except UsageError as error:
        wrong.other(str(error))


def _refuse(name: str, word: str, equals: str, rest: list[str], wrong: _Wrong) -> None:
    """Report an option that is not supported, and remove its value from `rest`."""
    known = UNSUPPORTED.get(name)
    follows = bool(rest) and not equals and (known.value if known is not None else not rest[0].startswith("-"))
    if follows:
        rest.pop(0)
    if known is not None:
        wrong.option(word, known.reason)
        return
    import difflib

    near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=NEAR)
    wrong.option(word, f"did you mean -{near[0]}?" if near else "")


def help_text() -> str:
    """The text of `raddle boot --help`."""
    import textwrap

    lines = [f"usage: {program()} boot [OPTION]...", "", "Boot a machine. Options are QEMU's:", ""]
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
        *textwrap.wrap(f"Accepted without effect: {', '.join(f'-{one.names[0]}' for one in TAKEN)}.", 118),
        "",
        "If an option is given twice, the last one counts; but -serial, -drive, -pflash, -device, -d, -dfilter add up.",
        "",
        f"Example: {program()} boot -smp 4 -m 512M -kernel vmlinuz -initrd initramfs.cpio.gz -append console=ttyAMA0",
        "",
        "While it runs: Ctrl-A X ends it, Ctrl-A C opens and closes the monitor, Ctrl-A H lists all keys.",
        "",
    ]
    return "\n".join(lines)


# --- as a sub-command of `raddle` -------------------------------------------------------------------------------


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options and the completers of their values to `parser`, for shell completion only. argparse cannot parse
    them: it would take `-smp4` for `-s -m p4`, and `-append -x` for two options.
    """
    from raddle.cli.completion import COMPLETERS

    for option in (*OPTIONS, *TAKEN):
        names = [f"-{name}" for name in option.names]
        if option.metavar:
            action: Any = parser.add_argument(*names, metavar=option.metavar)
            if option.names[0] in COMPLETERS:
                action.completer = COMPLETERS[option.names[0]]
        else:
            parser.add_argument(*names, action="store_true")
