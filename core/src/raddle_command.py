# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""What the `raddle` script begins with, before anything is imported that takes its time, and ends with.

A module outside of the package, whose own imports would come first. Whoever interrupts the command in its first
milliseconds, or its last ones, is to see no traceback: until `raddle.cli.main` takes SIGINT, it ends the process as
SIGTERM does, and a shell reports 130.
"""

import atexit
import os
import sys

try:
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["main"]


def main() -> int:
    """Run the command; returns the exit status, or ends the process with it where threads of Raddle's may be left.

    Python ends such threads by pthread_exit when they wake, which loads a library: with no memory or no descriptor for
    it, the process aborts. One that has not begun yet is not counted anywhere: so this asks what could have begun one.
    """
    status = _run()
    if "raddle.workers" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # there is none, its reader is gone, it is closed
                status = status or 1
        os._exit(status)
    return status


def _run() -> int:
    if sys.platform != "linux":
        sys.stderr.write(f"raddle: runs on Linux only, not on {sys.platform}: a Linux virtual machine will do\n")
        return 1
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
