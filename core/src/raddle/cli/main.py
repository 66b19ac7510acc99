# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""The `raddle` command: finds the sub-command's file, imports that file alone, and turns errors into one line.

A sub-command's file defines `configure(parser)`, which adds its options, and `run(arguments) -> int`, which returns
the exit status. Neither prints errors: they raise RaddleError.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from raddle import __version__
from raddle.errors import RaddleError, UsageError, unknown

__all__ = ["main"]

COMMANDS: Final = {
    "boot": "boot a machine: system mode, with QEMU-style options",
    "info": "list plug-ins, boards and CPUs, and the threading mode of each target on each host",
    "demo": "run the bundled multi-processor guest and show what each vCPU did",
    "new-target": "write a guest package that passes the target contract, to start from",
}

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

GC_THRESHOLD: Final = 1_000_000
"""Allocations between two searches for cyclic garbage. A start makes tens of thousands of objects that stay, and such a
search looks at all of them."""


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors of one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what this parser does not know, with the nearest option that it does know."""
        parsed, rest = super().parse_known_args(args, namespace)
        if rest and rest[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(rest[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"; the nearest that is: {near[0]}" if near else ""
            self.error(f"option {rest[0]!r} is not supported{hint}")
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return parsed, rest


def build_parser(command: str) -> Parser:
    """The parser of `command`; without one, of all sub-commands, which it knows by name and help alone."""
    parser = Parser(
        prog="raddle",
        description="Dynamic binary translator and machine emulator: one host thread per guest CPU.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"raddle {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, required=True)
    for name, text in COMMANDS.items():
        if command in COMMANDS and name != command:
            continue
        subparser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == command:
            module = importlib.import_module(f"raddle.cli.{name.replace('-', '_')}")
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `raddle` with `argv`, by default the process's. Returns the exit status: 0, 1 (failure) or 2 (usage)."""
    if argv is None:  # the process is ours
        gc.set_threshold(GC_THRESHOLD)
        atexit.register(gc.freeze)  # what is left at the end needs no search
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    try:
        return _dispatch(arguments)
    except RaddleError as error:
        print(f"raddle: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader is gone (`raddle info | head`): keep the interpreter's own flush at exit from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    try:
        parsed = build_parser(command).parse_args(arguments or ["--help"])
    except SystemExit as request:  # --help and --version
        return int(request.code or 0)
    status: int = parsed.run(parsed)
    sys.stdout.flush()
    return status


def _complete() -> None:
    """Answer the shell's request for completions; does not return."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(build_parser(words[1] if len(words) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
