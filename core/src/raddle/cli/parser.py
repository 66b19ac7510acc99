# SPDX-License-Identifier: Apache-2.0
"""The options of the sub-commands, as argparse reads them."""

from __future__ import annotations

import argparse

from raddle import __version__
from raddle.cli.commands import COMMANDS, load, program
from raddle.errors import UsageError

TYPE_CHECKING = False  # see raddle/__init__.py
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Parser", "build_parser"]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError, with a message of one line, where argparse prints usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Raises UsageError for an unknown option, and names the nearest one that the parser knows."""
        parsed, rest = super().parse_known_args(args, namespace)
        if rest and rest[0].startswith("-"):
            import difflib  # late: it takes a tenth of the time of `--help`

            near = difflib.get_close_matches(rest[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"; the nearest that is: {near[0]}" if near else ""
            self.error(f"option {rest[0]!r} is not supported{hint}")
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return parsed, rest


def build_parser(command: str) -> Parser:
    """The parser of `raddle COMMAND`, with the options of `command` only. If that is no sub-command, the parser knows
    all sub-commands, but none of their options.
    """
    parser = Parser(
        prog=program(),
        description="Dynamic binary translator and machine emulator: one host thread per guest CPU.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", "-version", action="version", version=f"raddle {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, required=True)
    for name, text in COMMANDS.items():
        if command in COMMANDS and name != command:
            continue
        subparser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == command:
            module = load(name)
            module.configure(subparser)
            subparser.set_defaults(run=getattr(module, "run", None))
    return parser
