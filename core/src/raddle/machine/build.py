# SPDX-License-Identifier: Apache-2.0
"""Makes a machine from its arguments: chooses board, guest and host, checks what they take, and connects the parts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from raddle import accel
from raddle.accel import AccelOptions, Decision, IcountOptions
from raddle.errors import UsageError
from raddle.machine import arguments
from raddle.machine.arguments import Arguments
from raddle.machine.board import Board, BoardOptions
from raddle.machine.choice import choose_board
from raddle.machine.clock import MachineClock
from raddle.machine.control import Control, close_devices
from raddle.machine.flash_file import flash_files
from raddle.machine.load import loads
from raddle.machine.parts import Engine, Instruments
from raddle.machine.time_of_day import parse_rtc
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.sizes import parse_size

__all__ = ["build", "default_engine"]

AUTO_ICOUNT_SHIFT: Final = 3
"""`-icount shift=auto`: 8 ns for each instruction. A speed that followed the host's would not be deterministic."""


def build(given: Arguments) -> Control:
    """A machine that is ready to start. Raises UsageError for arguments or files that it cannot be made of. Runs on a
    worker, like everything that makes or frees parts of a machine.
    """
    arguments.check_kinds(given)
    plugins = given.plugins if given.plugins is not None else registry()
    settings = accel.parse_accel(given.accelerator)
    counting: IcountOptions | None = accel.parse_icount(given.icount) if given.icount is not None else None
    flash = flash_files(given.pflash)
    kernel = arguments.path(given.kernel)
    firmware = given.bios is not None or (bool(flash) and flash[0] is not None)
    described = choose_board(plugins, given.board, given.target, kernel, firmware=firmware)
    architecture = plugins.target(described.target)
    model = architecture.cpu_model(given.cpu or "")
    properties = arguments.properties(described, given.properties or {})
    if not 1 <= given.cpus <= described.max_cpus:
        raise UsageError(f"machine {described.name} has 1 to {described.max_cpus} CPUs, not {given.cpus}")
    size = parse_size(given.memory) if isinstance(given.memory, str) else given.memory
    host = plugins.host_for()
    decision = accel.decide(
        architecture, host, settings.thread, counting is not None, settings.order, settings.warnings
    )
    board_class: type[Board] = plugins.load(described)
    frontend = plugins.front_end(architecture, model)
    options = BoardOptions(
        cpus=given.cpus,
        cpu=model,
        memory=size,
        target=architecture,
        kernel=kernel,
        initrd=arguments.path(given.initrd),
        append=arguments.text(given.append),
        dtb=arguments.path(given.dtb),
        bios=arguments.path(given.bios),
        flash=flash,
        loads=loads(given.load),
        page_size=1 << frontend.page_bits,
        properties=properties,
        rtc=parse_rtc(given.rtc, counting is not None),
    )
    arguments.check_taken(described.name, board_class.TAKES, options)
    arguments.check_banks(described.name, board_class.FLASH_BANKS, len(options.flash))
    with ExitStack() as opened:  # closed in reverse order if something fails
        consoles = arguments.consoles(given.serial, board_class.SERIAL_PORTS)
        opened.callback(close_devices, consoles)
        clock = MachineClock()
        board = board_class(options, consoles, clock)
        opened.callback(board.close)
        engine = given.engine(
            frontend, plugins.load(host), decision, board.memory, given.cpus, icount=counting, settings=settings
        )
        opened.callback(engine.close)
        clock.connect(engine)
        control = Control(decision, frontend, board, consoles, engine, instruments(engine), given.reboot)
        opened.pop_all()
    return control


def default_engine(
    frontend: Any,
    backend: Any,
    decision: Decision,
    memory: AddressSpace,
    ncpus: int,
    icount: IcountOptions | None,
    settings: AccelOptions,
) -> Engine:
    """The `EngineFactory` of a machine that names no other."""
    # Imported late, because it loads the native runtime, which checks of options and files do not need.
    from raddle.threads.engine import Engine as NativeEngine

    options: dict[str, Any] = {"split_wx": settings.split_wx, "llsc": settings.llsc}
    if icount is not None:
        options["icount_shift"] = AUTO_ICOUNT_SHIFT if icount.shift is None else icount.shift
        options["icount_sleep"] = icount.sleep
    if settings.memo_size is not None:
        options["memo_size"] = settings.memo_size
    if settings.code_size is not None:
        options["code_size"] = settings.code_size
    return NativeEngine(frontend, backend, decision, memory, ncpus, **options)


def instruments(engine: Engine) -> Instruments | None:
    """The instruments of `engine`; None for an engine that has no observer."""
    if not hasattr(engine, "observer"):
        return None
    from raddle.debug import instruments as native  # late, as the engine

    return native.Instruments(engine)  # type: ignore[arg-type]  # only raddle.threads.engine's has an observer
