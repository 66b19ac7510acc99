# SPDX-License-Identifier: Apache-2.0
"""The threading mode of a machine: the decision with its reasons, and the two options that control it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

from raddle.errors import UsageError, unknown
from raddle.ordering import MemoryOrder, missing, names
from raddle.plugins import Host, Target
from raddle.sizes import parse_size, size_text

__all__ = [
    "AccelOptions",
    "Decision",
    "IcountOptions",
    "Llsc",
    "Mode",
    "Order",
    "Thread",
    "decide",
    "parse_accel",
    "parse_icount",
]


class Mode(Enum):
    """How the vCPUs of a machine run."""

    MULTI = "multi"
    """One host thread for each vCPU."""
    SINGLE = "single"
    """All vCPUs in turn on one host thread (round-robin)."""


class Thread(Enum):
    """What a user asks for with `thread=`."""

    AUTO = "auto"
    MULTI = "multi"
    SINGLE = "single"


class Order(Enum):
    """What to do about an order that the guest counts on and the host does not keep: `order=`."""

    NATIVE = "native"
    """Nothing: such a guest runs single-threaded, unless the user requests threads."""
    FENCED = "fenced"
    """Add a barrier for each missing order before each access."""


class Llsc(Enum):
    """How long a reservation of a load-exclusive stands: `llsc=`."""

    FAST = "fast"
    """While memory holds the value that was read: a store-exclusive compares."""
    STRICT = "strict"
    """Until another observer writes to its granule. Stores cost more."""

    @property
    def description(self) -> str:
        """What it means, for the user."""
        meaning = {
            Llsc.FAST: "a store-exclusive compares the value that was read with memory",
            Llsc.STRICT: "a reservation is lost when another observer writes to its 64 bytes",
        }
        return f"llsc={self.value}: {meaning[self]}"


class Decision(NamedTuple):
    """The mode, its reasons, warnings, and the orders that translated code must add barriers for."""

    mode: Mode
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    fences: MemoryOrder = MemoryOrder.NONE


def decide(
    target: Target,
    host: Host,
    requested: Thread = Thread.AUTO,
    icount: bool = False,
    order: Order = Order.NATIVE,
    warnings: tuple[str, ...] = (),
) -> Decision:
    """Choose the threading mode. Pure: the same arguments always give the same result. The result has `warnings`, too.

    Raises UsageError if `requested` is MULTI and threads cannot work at all: with instruction counting, and for a guest
    whose word is wider than the host's.
    """
    lacking = missing(target.default_mo, host.default_mo)
    fences = lacking if order is Order.FENCED else MemoryOrder.NONE
    if requested is Thread.SINGLE:
        return Decision(Mode.SINGLE, ("thread=single was asked for",), warnings)

    counting = ["instruction counting needs one thread"] if icount else []
    unconverted = [] if target.supports_mttcg else [f"the {target.name} guest does not declare TARGET_SUPPORTS_MTTCG"]
    oversized, unordered = [], []
    if target.word_bits > host.word_bits:
        oversized.append(
            f"a word of the {target.name} guest ({target.word_bits} bits) is wider than one of the {host.name} host "
            f"({host.word_bits} bits)"
        )
    if lacking and not fences:
        unordered.append(
            f"the {target.name} guest counts on orders that the {host.name} host does not keep "
            f"({', '.join(names(lacking))})"
        )

    if requested is Thread.MULTI:
        if counting or oversized:
            raise UsageError(f"thread=multi is not possible: {'; '.join(counting + oversized)}")
        risks = [f"{fact}: its atomic operations and TLB flushes may go wrong" for fact in unconverted]
        risks += [f"{fact}: its programs may see them broken; order=fenced keeps them" for fact in unordered]
        return Decision(Mode.MULTI, ("thread=multi was asked for",), (*warnings, *risks), fences)

    obstacles = counting + unconverted + oversized
    obstacles += [f"{fact}; order=fenced would run it multi-threaded" for fact in unordered]
    if obstacles:
        return Decision(Mode.SINGLE, tuple(obstacles), warnings)
    if fences:
        reason = (
            f"order=fenced adds a barrier for each order that the {host.name} host lacks: {', '.join(names(fences))}"
        )
        return Decision(Mode.MULTI, (reason,), warnings, fences)
    kept = f"the {host.name} host keeps every order that the {target.name} guest counts on"
    return Decision(Mode.MULTI, (kept,), warnings)


# --- options ----------------------------------------------------------------------------------------------------


class AccelOptions(NamedTuple):
    """`--accel tcg[,thread=multi|single][,order=native|fenced][,llsc=fast|strict][,tb-size=MIB][,memo-size=SIZE]
    [,split-wx=on|off]`.
    """

    thread: Thread = Thread.AUTO
    order: Order = Order.NATIVE
    code_size: int | None = None
    """Bytes of the code buffer; None is the engine's default."""
    memo_size: int | None = None
    """The memo's budget in bytes; None is the engine's default."""
    warnings: tuple[str, ...] = ()
    """About accelerators that were named before this one, and are not available."""
    split_wx: bool | None = None
    """Whether code is written at one address and executed at another; None: if the host can."""
    llsc: Llsc = Llsc.FAST


class IcountOptions(NamedTuple):
    """`-icount shift=N|auto[,sleep=on|off]`: an instruction takes 2**shift ns of virtual time.

    `shift` is None for `auto`. While all CPUs are idle, `sleep` makes virtual time pass at the speed of real time;
    without it, the clock jumps to the next event.
    """

    shift: int | None
    sleep: bool = False


SETTINGS = ("thread", "order", "llsc", "tb-size", "memo-size", "split-wx")

LEAST_MEMO_SIZE = 1 << 20
"""With less, the memo would be empty at the start of most blocks."""
MOST_MEMO_SIZE = 64 << 30
"""No guest has so much code, and far larger sizes would not fit the runtime's numbers."""

ACCELERATOR = "tcg"
FOREIGN_ACCELERATORS = ("hax", "hvf", "kvm", "nvmm", "qtest", "whpx", "xen")
"""QEMU's other accelerators. A command line may name them first, to fall back to `tcg`."""

MAX_CODE_MIB = 1024
"""A jump from one end of the code buffer to the other must fit 32 bits, with a sign."""

MAX_ICOUNT_SHIFT = 10
"""The slowest clock: 2**10 ns for each instruction, about one million instructions per second."""


def parse_accel(text: str) -> AccelOptions:
    """Parse the value of `--accel`. Raises UsageError, which lists the known names and values."""
    accelerators, *settings = text.split(",")
    warnings = _fall_back(accelerators)
    thread, order, llsc = Thread.AUTO, Order.NATIVE, Llsc.FAST
    code_size: int | None = None
    memo_size: int | None = None
    split_wx: bool | None = None
    for key, value in _settings("--accel", settings, SETTINGS):
        match key:
            case "thread":
                thread = _choice("--accel thread", value, {"multi": Thread.MULTI, "single": Thread.SINGLE})
            case "order":
                order = _choice("--accel order", value, {one.value: one for one in Order})
            case "llsc":
                llsc = _choice("--accel llsc", value, {one.value: one for one in Llsc})
            case "tb-size":
                code_size = _code_size(value)
            case "memo-size":
                memo_size = _memo_size(value)
            case "split-wx":
                split_wx = _choice("--accel split-wx", value, {"on": True, "off": False})
    return AccelOptions(thread, order, code_size, memo_size, warnings, split_wx, llsc)


def _memo_size(value: str) -> int:
    size = parse_size(value)
    if not LEAST_MEMO_SIZE <= size <= MOST_MEMO_SIZE:
        raise UsageError(
            f"--accel memo-size must be {size_text(LEAST_MEMO_SIZE)} to {size_text(MOST_MEMO_SIZE)}, "
            f"not {size_text(size)}"
        )
    return size


def _fall_back(accelerators: str) -> tuple[str, ...]:
    """Find the available accelerator in a list like `kvm:tcg`. Returns warnings about those before it. Raises
    UsageError if none is available.
    """
    lacking: list[str] = []
    for name in accelerators.split(":"):
        if name == ACCELERATOR:
            return tuple(f"accelerator {one} is not available: falling back to {name}" for one in lacking)
        if name not in FOREIGN_ACCELERATORS:
            raise unknown("accelerator", name, (ACCELERATOR,))
        lacking.append(name)
    raise UsageError(
        f"accelerator {accelerators} is not available (known: {ACCELERATOR}); "
        f"{accelerators}:{ACCELERATOR} would fall back"
    )


def _code_size(value: str) -> int | None:
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) > MAX_CODE_MIB:
        raise UsageError(f"--accel tb-size must be MiB for the code buffer, 1 to {MAX_CODE_MIB}, not {value!r}")
    return int(value) << 20 or None


def parse_icount(text: str) -> IcountOptions:
    """Parse the value of `-icount`. `N` and `auto` may stand for `shift=N` and `shift=auto`. Raises UsageError."""
    first, *others = text.split(",")
    settings = [first if "=" in first else f"shift={first}", *others]
    shift: int | None = None
    given_shift = sleep = False
    for key, value in _settings("-icount", settings, ("shift", "sleep")):
        match key:
            case "shift":
                given_shift = True
                shift = None if value == "auto" else _shift(value)
            case "sleep":
                sleep = _choice("-icount sleep", value, {"on": True, "off": False})
    if not given_shift:
        raise UsageError("-icount needs shift=N or shift=auto")
    return IcountOptions(shift, sleep)


def _shift(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) > MAX_ICOUNT_SHIFT:
        raise UsageError(f"-icount shift must be auto or a number from 0 to {MAX_ICOUNT_SHIFT}, not {value!r}")
    return int(value)


def _settings(option: str, parts: Iterable[str], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The KEY and VALUE of each KEY=VALUE. Raises UsageError for an unknown KEY, and for one that is given twice."""
    seen = set()
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in known:
            raise unknown(f"{option} setting", key, known)
        if not equals or not value:
            raise UsageError(f"{option} {key} needs a value: {key}=...")
        if key in seen:
            raise UsageError(f"{option} gives {key} twice")
        seen.add(key)
        yield key, value


Value = TypeVar("Value")


def _choice(what: str, given: str, choices: Mapping[str, Value]) -> Value:
    if given not in choices:
        raise unknown(f"{what} value", given, choices)
    return choices[given]
