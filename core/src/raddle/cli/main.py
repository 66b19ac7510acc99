# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""The `raddle` command: finds the sub-command's file, imports that file alone, and turns errors into one line.

A sub-command's file defines `configure(parser)`, which adds its options, and `run(arguments) -> int`, which returns
the exit status; or, where argparse cannot read its words, `main(words) -> int`, and `configure` for shell completion
alone. None of them prints errors: they raise RaddleError.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from raddle.cli.commands import COMMANDS, load
from raddle.errors import RaddleError, UsageError, unknown

__all__ = ["main"]

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

OWN_OPTIONS: Final = ("-h", "--help", "--version")

GC_THRESHOLD: Final = 1_000_000
"""Allocations between two searches for cyclic garbage. A start makes tens of thousands of objects that stay, and such a
search looks at all of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `raddle` with `argv`, by default the process's. Returns the exit status: 0, 1 (failure) or 2 (usage)."""
    if argv is None:  # the process is ours
        gc.set_threshold(GC_THRESHOLD)
        atexit.register(gc.freeze)  # what is left at the end needs no search
        _occupy()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    try:
        return _dispatch(arguments)
    except RaddleError as error:
        print(f"raddle: {_line(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError as error:
        print(f"raddle: there is not enough memory{f': {_line(str(error))}' if str(error) else ''}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader is gone (`raddle info | head`): keep the interpreter's own flush at exit from complaining.
        _mute()
        return 1
    except OSError as error:  # what is written to has become full, or is gone
        print(f"raddle: {_what_failed(error)}{error.strerror or error}", file=sys.stderr)
        _mute()
        return 1


def _occupy() -> None:
    """Put the null device where the process was started without a standard file: no other file is to become it."""
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open to the end


def _line(text: str) -> str:
    """`text` in one line; names of files may have anything in them, which the terminal is not to obey."""
    words = " ".join(text.split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in words)


def _what_failed(error: OSError) -> str:
    """What the error is about, as far as that can be found out."""
    if error.filename:
        return f"{error.filename}: "
    try:
        sys.stdout.flush()  # it has kept what it could not write
    except OSError as again:
        if again.errno == error.errno:
            return "cannot write to the standard output: "
    return ""


def _mute() -> None:
    """Nothing more is written to the standard output, not even by the interpreter at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    if command.startswith("-") and command not in OWN_OPTIONS:
        raise UsageError(f"option {command!r} is not supported before a command (see raddle --help)")
    module = load(command) if command in COMMANDS else None
    if module is not None and hasattr(module, "main"):
        status: int = module.main(arguments[1:])
    else:
        from raddle.cli.parser import build_parser  # late, for argparse, which a boot does without

        try:
            parsed = build_parser(command).parse_args(arguments or ["--help"])
        except SystemExit as request:  # --help and --version
            status = int(request.code or 0)
        else:
            status = parsed.run(parsed)
    sys.stdout.flush()
    return status


def _complete() -> None:
    """Answer the shell's request for completions; does not return."""
    import argcomplete

    from raddle.cli.parser import build_parser

    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(build_parser(words[1] if len(words) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
