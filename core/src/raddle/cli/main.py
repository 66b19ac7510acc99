# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""The `raddle` command: imports the sub-command's file, and no other, runs it, and prints errors as one line.

A sub-command's file defines `configure(parser)`, which adds its options, and `run(arguments) -> int`, which returns
the exit status. Where argparse cannot parse the command line, it defines `main(words) -> int` instead of `run`, and
`configure` only for shell completion. Sub-commands do not print errors, they raise RaddleError.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from raddle.cli.commands import COMMANDS, load, program
from raddle.errors import RaddleError, UsageError, unknown
from raddle.notices import notice, report

TYPE_CHECKING = False  # see raddle/__init__.py
if TYPE_CHECKING:
    from typing import Final

__all__ = ["main"]

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

OWN_OPTIONS: Final = ("-h", "--help", "-version", "--version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `raddle` with `argv`, by default the process's. Returns the exit status: 0, 1 (failure) or 2 (usage)."""
    if argv is not None:
        return _main(list(argv))
    _occupy()
    try:
        # From here on, Ctrl-C raises an exception, so that open files and devices are closed. See raddle_command for
        # the time before and after.
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _main(sys.argv[1:])
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _main(arguments: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    try:
        return _dispatch(arguments)
    except RaddleError as error:
        report(error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError as error:
        notice(f"there is not enough memory{f': {error}' if str(error) else ''}")
        return 1
    except ImportError as error:  # of a late import, which is the first to fail when memory is short
        notice(f"a part of the program cannot be loaded (is there enough memory, is the installation whole?): {error}")
        return 1
    except BrokenPipeError:
        # The reader is gone (`raddle info | head`). Without this, the interpreter's flush at exit reports an error.
        _mute()
        return 1
    except OSError as error:  # the device or file that is written to is full or gone
        notice(f"{_what_failed(error)}{error.strerror or error}")
        _mute()
        return 1


def _occupy() -> None:
    """Open the null device for each standard file that the process was started without. Otherwise the next file that
    is opened would become the standard file.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open to the end
    if sys.stderr is None:  # `print` would take the standard output instead
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - open to the end


def _what_failed(error: OSError) -> str:
    """The beginning of a message that names the file of the error, if it can be found out."""
    if error.filename:
        return f"{error.filename}: "
    try:
        sys.stdout.flush()  # this fails again if it was the standard output, which still has the text
    except OSError as again:
        if again.errno == error.errno:
            return "cannot write to the standard output: "
    return ""


def _mute() -> None:
    """Discard further standard output, also what the interpreter flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    if command.startswith("-") and command not in OWN_OPTIONS:
        raise UsageError(f"option {command!r} is not supported before a command (see {program()} --help)")
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
