# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""The beginning and the end of the `raddle` script.

A user who interrupts the command in its first or last milliseconds must not see a traceback. So this module makes
SIGINT end the process, as SIGTERM does, before anything is imported that takes time; a shell then reports 130. Later,
`raddle.cli.main` handles SIGINT. The module is outside the package, because the package's own imports would come first.
"""

import atexit
import gc
import os
import sys

try:
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["main"]

GC_THRESHOLD = 1_000_000
"""Allocations between two searches for cyclic garbage. A start makes tens of thousands of objects that stay, and each
search would look at all of them."""


def main() -> int:
    """Run the command. Returns the exit status; or ends the process with it, if threads of Raddle may still exist.

    When the interpreter exits, it ends threads that wake later by pthread_exit, which loads a library. If there is no
    memory or no descriptor for that, the process aborts. A thread that has not begun yet cannot be found anywhere, so
    this checks whether the module that starts threads was imported.
    """
    status = _run()
    if "raddle.workers" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # there is no such stream, its reader is gone, it is closed
                status = status or 1
        os._exit(status)
    return status


def _run() -> int:
    if sys.platform != "linux":
        sys.stderr.write(f"raddle: runs on Linux only, not on {sys.platform}: a Linux virtual machine will do\n")
        return 1
    # This process runs nothing else, so its settings can be changed.
    gc.set_threshold(GC_THRESHOLD)
    atexit.register(gc.freeze)  # a search at exit would be wasted
    try:
        from raddle.cli.main import main as command

        return command()
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        reason = "there is not enough memory"
    except ImportError as error:
        reason = f"a part of the program cannot be loaded (is there enough memory, is the installation whole?): {error}"
    except OSError as error:  # of the import system: no descriptor is free, or a file cannot be read
        reason = f"the program cannot be loaded: {error}"
    sys.stderr.write(f"raddle: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
