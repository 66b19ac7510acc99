# SPDX-License-Identifier: Apache-2.0
"""Plug-ins: hook specifications, the descriptors that hooks return, and the registry that finds and checks them.

A plug-in is a module that an installed distribution names in the entry-point group `raddle`, as `KIND.NAME`:
`target.tiny`, `host.x86_64`, `board.NAME`, `device.NAME`, `helper.NAME`. The registry lists entry points without
importing anything, and imports a plug-in's module when it is first needed. A fault of one plug-in is a PluginError with
its name and the reason; the others can still be used.

Every plug-in module declares `RADDLE_API_VERSION: int`, the API that it was written for, as a literal. A target also
declares `TARGET_SUPPORTS_MTTCG: bool` and `TCG_GUEST_DEFAULT_MO: MemoryOrder`, a host `TCG_TARGET_DEFAULT_MO:
MemoryOrder`. A reader looks for these first, and the descriptor must have the same values.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pluggy

from raddle.entry_points import EntryPoint, entry_points
from raddle.errors import PluginError, UsageError, unknown
from raddle.ordering import MemoryOrder

if TYPE_CHECKING:
    from raddle.codegen.backend import BackEnd
    from raddle.layout import Layout, Segment
    from raddle.translate.frontend import FrontEnd

__all__ = [
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "Board",
    "Device",
    "ElfFormat",
    "HelperPackage",
    "Host",
    "KernelKind",
    "Magic",
    "Property",
    "Registry",
    "Target",
    "hookimpl",
    "registry",
]

API_VERSION: Final = 1
"""Incremented by each change that would break a plug-in written for the API before it."""

ENTRY_POINT_GROUP: Final = "raddle"

GUEST_REMEDY: Final = "remedy: install a guest, and the host for this machine with it: pip install 'raddle[GUEST]'"
"""For messages: what to do if no plug-in fits."""

HOSTED: Final = ("aarch64", "x86_64")
"""For messages: the machines that Raddle itself has host packages for."""

HOST_REMEDY: Final = "Raddle itself has none for it: raddle docs add-a-host tells how to write one"
"""For messages: what to do on another machine."""

UNMAPPED: Final = "failed to map segment"
"""A part of the dynamic linker's message when there is no memory for a library."""

WORD_SIZES: Final = (32, 64)

hookspec = pluggy.HookspecMarker("raddle")
hookimpl = pluggy.HookimplMarker("raddle")


# --- descriptors ------------------------------------------------------------------------------------------------


BYTE_ORDERS: Final = ("little", "big")


class ElfFormat(NamedTuple):
    """Class and byte order of an ELF file."""

    bits: int
    """32 or 64."""
    order: str
    """`little` or `big`."""

    def __str__(self) -> str:
        return f"{self.bits}-bit {self.order}-endian"


KERNEL_HEAD: Final = 0x1000
"""Bytes at the start of a kernel file, decompressed, from which its kind is recognised."""


class Magic(NamedTuple):
    """Bytes by which a kind of file is recognised."""

    offset: int
    """The position of the first of them in the file."""
    magic: bytes
    meaning: str
    """What such a file is: "a device tree", for example."""

    def matches(self, head: bytes) -> bool:
        """Whether a file has these bytes. `head` is its beginning: KERNEL_HEAD bytes, or all of a shorter file."""
        return head.startswith(self.magic, self.offset)


KernelReader = Callable[[bytes, str, "Layout"], "tuple[tuple[Segment, ...], int]"]
"""Called as `reader(data, name, layout)`: `data` is the contents of a kernel file, decompressed, `name` what messages
call it, and `layout` says where there is memory. Returns the kernel's segments and its entry, and adds nothing to the
layout. Raises UsageError for a damaged file."""


class KernelKind(NamedTuple):
    """A kind of kernel file that a target has, besides ELF, uImage and the raw image."""

    name: str
    """The kind's name in messages and in `Image.kind` of raddle.machine.loaders."""
    magic: Magic
    load: Callable[[], KernelReader]
    """Imports the reader and returns it."""
    has_addresses: bool = False
    """Whether segments and entry have guest-physical addresses. If not, they are offsets from the address at which the
    board puts the kernel."""


class Target(NamedTuple):
    """A guest architecture. Immutable. To make one is cheap; `load` does the imports.

    name: the name in the entry point and in messages: `tiny`.
    word_bits: width of the guest's general registers: 32 or 64.
    supports_mttcg: the same as the module's TARGET_SUPPORTS_MTTCG: its atomics, barriers and TLB flushes are safe with
        threads.
    default_mo: the same as the module's TCG_GUEST_DEFAULT_MO: the order of plain accesses that its programs may count
        on.
    elf_machine: `e_machine` of its programs, or None for a guest that has no ELF number.
    cpus: CPU models, as `-cpu` names them; the first one is the default, and what `max` stands for.
    load: imports the guest's front end and returns the one for a CPU model of `cpus`. May raise any exception, such as
        ImportError, if it cannot run.
    elf_formats: the formats of its ELF programs; empty for little-endian ones of class `word_bits`.
    uimage_architecture: the number of its kernels' architecture in U-Boot's legacy image format, or None for a guest
        that has none.
    kernel_kinds: its own kinds of kernel files.
    foreign_files: kinds of files that are refused, because they would be taken for raw images: kernels of related
        architectures, for example.
    direct_map: first address and size of the virtual addresses that are physical ones + the first, with or without page
        tables, for a guest whose kernels are linked there: their ELF files have them for physical addresses.
    litmus: imports the guest's raddle.litmus.guest.LitmusGuest and returns it; None for a guest that runs no litmus
        tests.
    """

    name: str
    word_bits: int
    supports_mttcg: bool
    default_mo: MemoryOrder
    elf_machine: int | None
    cpus: tuple[str, ...]
    load: Callable[[str], FrontEnd]
    elf_formats: tuple[ElfFormat, ...] = ()
    uimage_architecture: int | None = None
    kernel_kinds: tuple[KernelKind, ...] = ()
    foreign_files: tuple[Magic, ...] = ()
    direct_map: tuple[int, int] = (0, 0)
    litmus: Callable[[], Any] | None = None

    @property
    def formats(self) -> tuple[ElfFormat, ...]:
        """`elf_formats`, or the format that is the default."""
        return self.elf_formats or (ElfFormat(self.word_bits, "little"),)

    def cpu_model(self, name: str = "") -> str:
        """The CPU model that a user calls `name`, one of `cpus`. `max` and the empty name mean the first one. Raises
        UsageError for an unknown name.
        """
        if name in ("", "max"):
            return self.cpus[0]
        if name not in self.cpus:
            raise unknown("CPU", name, self.cpus)
        return name


class Host(NamedTuple):
    """A host architecture. Immutable. To make one is cheap; `load` does the imports."""

    name: str
    """The name in the entry point and in messages: `x86_64`."""
    word_bits: int
    """Width of the host's general registers: 32 or 64."""
    default_mo: MemoryOrder
    """The same as the module's TCG_TARGET_DEFAULT_MO: the order that its plain loads and stores keep by themselves."""
    machine_names: tuple[str, ...]
    """What `platform.machine()` returns on machines that run its code."""
    load: Callable[[], type[BackEnd]]
    """Imports the host's back end and returns its class. May raise any exception, such as ImportError, if it cannot
    run."""
    memory_model: Callable[[], Any] | None = None
    """Imports the raddle.litmus.models.Model of its memory and returns it; None for a host that brings none."""


class Property(NamedTuple):
    """A setting of a board, as in `-M NAME,property=value`."""

    name: str
    values: tuple[str, ...]
    """Its possible values; the first one is the default. `on` and `off` may also be given as `true`, `yes` and so on.
    """
    meaning: str


class Board(NamedTuple):
    """A machine of a target, which users name with `-M`."""

    name: str
    target: str
    description: str
    max_cpus: int
    load: Callable[[], Any]
    """Imports the board and returns its class."""
    properties: tuple[Property, ...] = ()
    """Its settings. The board's class gets their values in BoardOptions.properties."""


class Device(NamedTuple):
    """A device that boards can use."""

    name: str
    description: str
    load: Callable[[], Any]
    """Imports the device and returns its class."""


class HelperPackage(NamedTuple):
    """Python helpers, called from IR by name, that several targets can share."""

    name: str
    description: str
    load: Callable[[], Mapping[str, Callable[..., Any]]]
    """Imports the package and returns its helpers by name."""


KIND_OF: Final[dict[type, str]] = {
    Target: "target",
    Host: "host",
    Board: "board",
    Device: "device",
    HelperPackage: "helper",
}


# --- hooks ------------------------------------------------------------------------------------------------------


class HookSpecifications:
    """The hooks that a plug-in module may implement, each with `@hookimpl`. Each is called once, and not while a guest
    runs.
    """

    @hookspec
    def raddle_target(self) -> Target:  # type: ignore[empty-body]
        """The guest architecture of a `target.NAME` plug-in, which must implement this."""

    @hookspec
    def raddle_host(self) -> Host:  # type: ignore[empty-body]
        """The host architecture of a `host.NAME` plug-in, which must implement this."""

    @hookspec
    def raddle_boards(self) -> Iterable[Board]:  # type: ignore[empty-body]
        """Boards that the plug-in provides. Any plug-in may implement this; a `board.NAME` plug-in must. The first
        board of a target's plug-in is the target's default."""

    @hookspec
    def raddle_devices(self) -> Iterable[Device]:  # type: ignore[empty-body]
        """Devices that the plug-in provides. Any plug-in may implement this; a `device.NAME` plug-in must."""

    @hookspec
    def raddle_helpers(self) -> Iterable[HelperPackage]:  # type: ignore[empty-body]
        """Helper packages that the plug-in provides. Any plug-in may implement this; a `helper.NAME` plug-in must."""


REQUIRED_HOOK: Final = {
    "target": "raddle_target",
    "host": "raddle_host",
    "board": "raddle_boards",
    "device": "raddle_devices",
    "helper": "raddle_helpers",
}

SINGLE_HOOKS: Final = ("raddle_target", "raddle_host")
"""Hooks that return one descriptor; the others return several."""

REQUIRED_ATTRIBUTES: Final[dict[str, dict[str, type]]] = {
    "target": {"TARGET_SUPPORTS_MTTCG": bool, "TCG_GUEST_DEFAULT_MO": MemoryOrder},
    "host": {"TCG_TARGET_DEFAULT_MO": MemoryOrder},
    "board": {},
    "device": {},
    "helper": {},
}


# --- registry ---------------------------------------------------------------------------------------------------


Descriptor = TypeVar("Descriptor", Target, Host, Board, Device, HelperPackage)


def installed() -> Iterable[EntryPoint]:
    """The entry points of the group in every distribution on `sys.path`."""
    return entry_points(ENTRY_POINT_GROUP)


class Registry:
    """The plug-ins of one process. Any thread may call the methods. Results are kept.

    Methods that return one thing raise UsageError for an unknown name and PluginError for a broken plug-in. Methods
    that return all things of a kind leave out broken plug-ins, and add their errors to `problems()`.
    """

    def __init__(self, discover: Callable[[], Iterable[EntryPoint]] = installed) -> None:
        self._discover = discover
        self._lock = threading.RLock()
        self._manager = pluggy.PluginManager("raddle")
        self._manager.add_hookspecs(HookSpecifications)
        self._entry_points: dict[str, EntryPoint] | None = None
        self._modules: dict[str, ModuleType] = {}
        self._answers: dict[tuple[str, str], list[Any]] = {}
        self._problems: dict[str, PluginError] = {}

    def renew_lock(self) -> None:
        """Called in a forked child, where the lock may be held by a thread that does not exist."""
        self._lock = threading.RLock()

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of the entry points of `kind` (`target`, `host`, ...), sorted. Imports nothing."""
        prefix = f"{kind}."
        return tuple(name.removeprefix(prefix) for name in sorted(self._found()) if name.startswith(prefix))

    def target(self, name: str) -> Target:
        """The guest architecture `name`. Imports no other plug-in module."""
        return self._architecture("target", name, Target)

    def host(self, name: str) -> Host:
        """The host architecture `name`. Imports no other plug-in module."""
        return self._architecture("host", name, Host)

    def host_for(self, machine: str = "") -> Host:
        """The host for a machine that `platform.machine()` calls `machine`; by default, for this machine. Raises
        UsageError if there is none.

        Tries the plug-in of the same name first, so that on most machines no other one is imported.
        """
        machine = machine or os.uname().machine  # as platform.machine(), without an import that would slow each start
        candidates = sorted(self.names("host"), key=lambda name: name != machine)
        for name in candidates:
            try:
                host = self.host(name)
            except PluginError:
                continue
            if machine in host.machine_names:
                return host
        broken = [str(problem) for problem in self.problems() if problem.plugin.startswith("host.")]
        remedy = f"remedy: pip install raddle-host-{machine.replace('_', '-')}" if machine in HOSTED else HOST_REMEDY
        raise UsageError(
            f"no usable host plug-in for this machine ({machine}): "
            + ("; ".join(broken) or f"installed: {', '.join(candidates) or 'none'}")
            + f"; {remedy}"
        )

    def targets(self) -> tuple[Target, ...]:
        """All targets whose plug-in modules have no fault, sorted by name."""
        return tuple(self._working(self.target, self.names("target")))

    def hosts(self) -> tuple[Host, ...]:
        """All hosts whose plug-in modules have no fault, sorted by name."""
        return tuple(self._working(self.host, self.names("host")))

    def boards(self, target: str = "") -> tuple[Board, ...]:
        """The boards of `target`; by default, of all targets. Imports the plug-in modules of no other target."""
        if target and target not in self.names("target"):
            raise unknown("target plug-in", target, self.names("target"))
        names = (f"target.{target}",) if target else self._full_names("target")
        boards = self._collect("raddle_boards", (*names, *self._full_names("board")), Board)
        return tuple(board for board in boards if target in ("", board.target))

    def boards_named(self, name: str, target: str = "") -> tuple[Board, ...]:
        """The boards of this name, which may be TARGET/NAME, of `target`; by default, of all targets. Raises UsageError
        if there is none.
        """
        guest, slash, short = name.rpartition("/")
        if slash:
            if not guest or not short:
                raise UsageError(f"machine {name!r} is not GUEST/NAME")
            if target not in ("", guest):
                raise UsageError(f"machine {name!r} is not a machine of the {target} guest")
            target, name = guest, short
        boards = self.boards(target)
        if not boards:
            raise UsageError(f"unknown machine {name!r}: {self.no_machine(target)}")
        found = tuple(board for board in boards if board.name == name)
        if not found:
            guest = f"{guest}/" if slash else ""
            error = unknown("machine", f"{guest}{name}", sorted({f"{guest}{board.name}" for board in boards}))
            broken = self._without_machines(target)
            raise UsageError(f"{error}; it may be one of those that cannot be used: {broken}") if broken else error
        return found

    def no_machine(self, target: str = "") -> str:
        """A message that says why `boards(target)` is empty, and what to do."""
        broken = self._without_machines(target)
        if broken:
            return f"none of the plug-ins that provide machines can be used: {broken}"
        if target:
            return f"the {target} guest has no machine"
        return f"no installed package provides a machine; {GUEST_REMEDY}"

    def _without_machines(self, target: str) -> str:
        """The errors of plug-ins that may provide machines of `target`, or of any target if it is empty."""
        asked = (f"target.{target}" if target else "target.", "board.")
        return "; ".join(str(one) for one in self.problems() if one.plugin.startswith(asked))

    def devices(self) -> tuple[Device, ...]:
        """Devices of all plug-ins."""
        return self._collect("raddle_devices", self._full_names("target", "board", "device"), Device)

    def helpers(self) -> tuple[HelperPackage, ...]:
        """Helper packages of all plug-ins."""
        return self._collect("raddle_helpers", self._full_names("target", "helper"), HelperPackage)

    def problems(self) -> tuple[PluginError, ...]:
        """The errors of all plug-ins that were used until now and are broken, one error for each."""
        with self._lock:
            return tuple(self._problems[name] for name in sorted(self._problems))

    def front_end(self, target: Target, cpu: str = "") -> FrontEnd:
        """The front end of `target` for one of its CPU models, by default the first. Raises UsageError for an unknown
        model, and PluginError if loading fails or if the runtime cannot run the front end.
        """
        front_end: FrontEnd = self._loaded(target, partial(target.load, target.cpu_model(cpu)))
        fault = _front_end_fault(target, front_end)
        if fault:
            raise self._broken(f"target.{target.name}", fault)
        return front_end

    def litmus_guest(self, target: Target) -> Any:
        """The raddle.litmus.guest.LitmusGuest of `target`. Raises UsageError if it has none, and PluginError if loading
        it fails.
        """
        if target.litmus is None:
            raise UsageError(f"the {target.name} guest has no machine code for litmus tests; --model needs none")
        return self._loaded(target, target.litmus)

    def memory_models(self) -> tuple[Any, ...]:
        """Each raddle.litmus.models.Model of hosts and guests."""
        models: list[Any] = []
        for host in self.hosts():
            with suppress(PluginError):
                models += [self._loaded(host, host.memory_model)] if host.memory_model else []
        for target in self.targets():
            with suppress(PluginError):
                models += self.litmus_guest(target).models.values() if target.litmus else []
        return tuple(models)

    def load(self, descriptor: Target | Host | Board | Device | HelperPackage) -> Any:
        """The result of `descriptor.load()`. For a target, this is the front end for its default CPU model. Raises
        PluginError if loading fails.
        """
        if isinstance(descriptor, Target):
            return self.front_end(descriptor)
        return self._loaded(descriptor, descriptor.load)

    def _loaded(self, descriptor: Target | Host | Board | Device | HelperPackage, load: Callable[[], Any]) -> Any:
        try:
            return load()
        except Exception as error:
            full_name = f"{KIND_OF[type(descriptor)]}.{descriptor.name}"
            raise self._broken(full_name, f"cannot be loaded: {_one_line(error)}") from error

    # --- discovery and checks

    def _found(self) -> dict[str, EntryPoint]:
        with self._lock:
            if self._entry_points is None:
                self._entry_points = {}
                for entry_point in self._discover():
                    self._note(entry_point)
            return self._entry_points

    def _note(self, entry_point: EntryPoint) -> None:
        """Add an entry point, unless its name is invalid or another module has it."""
        assert self._entry_points is not None
        name = entry_point.name
        kind, _, rest = name.partition(".")
        if kind not in REQUIRED_HOOK or not rest:
            self._broken(
                name, f"its entry point must be called KIND.NAME, where KIND is one of {', '.join(REQUIRED_HOOK)}"
            )
            return
        # The same distribution may be on sys.path twice (installed, and in a source tree): that is no conflict.
        earlier = self._entry_points.setdefault(name, entry_point)
        if earlier.value != entry_point.value:
            self._broken(name, f"two distributions provide it: {earlier.value} and {entry_point.value}")

    def _full_names(self, *kinds: str) -> tuple[str, ...]:
        return tuple(f"{kind}.{name}" for kind in kinds for name in self.names(kind))

    def _module(self, full_name: str) -> ModuleType:
        """The plug-in's module, imported, checked and registered. Raises PluginError."""
        with self._lock:
            if full_name in self._problems:
                raise self._problems[full_name]
            if full_name not in self._modules:
                self._modules[full_name] = self._import(full_name)
            return self._modules[full_name]

    def _import(self, full_name: str) -> ModuleType:
        entry_point = self._found()[full_name]
        kind = full_name.partition(".")[0]
        try:
            module = entry_point.load()
        except (Exception, SystemExit) as error:
            raise self._broken(full_name, f"cannot be imported: {_one_line(error)}") from error
        if not isinstance(module, ModuleType):
            raise self._broken(full_name, f"its entry point {entry_point.value!r} is not a module")
        version = getattr(module, "RADDLE_API_VERSION", None)
        if version is None:
            raise self._broken(full_name, "does not declare RADDLE_API_VERSION")
        if version != API_VERSION:
            raise self._broken(full_name, f"is written for API version {version!r}; this Raddle has {API_VERSION}")
        for attribute, wanted in REQUIRED_ATTRIBUTES[kind].items():
            if not hasattr(module, attribute):
                raise self._broken(full_name, f"does not declare {attribute}")
            if not isinstance(getattr(module, attribute), wanted):
                raise self._broken(full_name, f"{attribute} must be a {wanted.__name__}")
        try:
            self._manager.register(module, name=full_name)
            self._manager.check_pending()
        except Exception as error:  # a hook with a wrong signature, or a name that no specification has
            raise self._broken(full_name, f"its hooks are wrong: {_one_line(error)}") from error
        if not self._implements(module, REQUIRED_HOOK[kind]):
            raise self._broken(full_name, f"does not implement {REQUIRED_HOOK[kind]}")
        return module

    def _implements(self, module: ModuleType, hook: str) -> bool:
        return any(one.plugin is module for one in getattr(self._manager.hook, hook).get_hookimpls())

    def _call(self, full_name: str, hook: str) -> list[Any]:
        """The result of one plug-in's implementation of `hook`, which is called once; empty if it has none."""
        module = self._module(full_name)
        if (full_name, hook) not in self._answers:
            others = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
            try:
                answers = self._manager.subset_hook_caller(hook, others)()
                if hook not in SINGLE_HOOKS:
                    answers = [one for answer in answers for one in answer]
            except Exception as error:
                raise self._broken(full_name, f"{hook} failed: {_one_line(error)}") from error
            self._answers[full_name, hook] = answers
        return self._answers[full_name, hook]

    def _architecture(self, kind: str, name: str, wanted: type[Descriptor]) -> Descriptor:
        if name not in self.names(kind):
            raise unknown(f"{kind} plug-in", name, self.names(kind))
        full_name = f"{kind}.{name}"
        with self._lock:
            answers = self._call(full_name, REQUIRED_HOOK[kind])
            descriptor = answers[0] if answers else None
            if not isinstance(descriptor, wanted):
                raise self._broken(full_name, f"{REQUIRED_HOOK[kind]} must return a {wanted.__name__}")
            fault = _disagreement(self._modules[full_name], name, descriptor)
            if fault:
                raise self._broken(full_name, fault)
            return descriptor

    def _collect(self, hook: str, full_names: Iterable[str], wanted: type[Descriptor]) -> tuple[Descriptor, ...]:
        """The descriptors that the named plug-ins return from `hook`, without those of broken plug-ins. Of two plug-ins
        with a board of the same guest and name, the later one is broken.
        """
        found: list[Descriptor] = []
        with self._lock:
            for full_name in full_names:
                try:
                    provided = self._call(full_name, hook)
                except PluginError:
                    continue
                if not all(isinstance(one, wanted) for one in provided):
                    self._broken(full_name, f"{hook} must return {wanted.__name__} descriptors")
                    continue
                boards = [one for one in provided if isinstance(one, Board)]
                fault = (
                    "".join(map(_property_fault, boards))
                    or self._foreign_board(full_name, boards)
                    or _name_fault(found, boards)
                )
                if fault:
                    self._broken(full_name, fault)
                    continue
                found += provided
        return tuple(found)

    def _foreign_board(self, full_name: str, boards: Iterable[Board]) -> str:
        """The fault of a guest's plug-in that has a board for a guest that is not installed; empty if it has none."""
        if not full_name.startswith("target."):
            return ""
        guests = self.names("target")
        wrong = next((board for board in boards if board.target not in guests), None)
        if wrong is None:
            return ""
        return f"its board {wrong.name!r} is for target {wrong.target!r}, but the targets are {', '.join(guests)}"

    def _working(self, get: Callable[[str], Descriptor], names: Iterable[str]) -> Iterator[Descriptor]:
        for name in names:
            try:
                yield get(name)
            except PluginError:
                continue

    def _broken(self, full_name: str, reason: str) -> PluginError:
        with self._lock:
            error = PluginError(full_name, reason)
            self._problems[full_name] = error
            if full_name in self._modules or self._manager.has_plugin(full_name):
                self._modules.pop(full_name, None)
                self._manager.unregister(name=full_name)
            return error


def _disagreement(module: ModuleType, name: str, descriptor: Target | Host | Board | Device | HelperPackage) -> str:
    """How a descriptor contradicts its entry point or its module's declarations; empty if it does not."""
    declared: dict[str, tuple[object, object]]
    match descriptor:
        case Target():
            declared = {
                "TARGET_SUPPORTS_MTTCG": (module.TARGET_SUPPORTS_MTTCG, descriptor.supports_mttcg),
                "TCG_GUEST_DEFAULT_MO": (module.TCG_GUEST_DEFAULT_MO, descriptor.default_mo),
            }
        case Host():
            declared = {"TCG_TARGET_DEFAULT_MO": (module.TCG_TARGET_DEFAULT_MO, descriptor.default_mo)}
        case _:
            return ""
    if descriptor.name != name:
        return f"its descriptor is called {descriptor.name!r}, its entry point {name!r}"
    if isinstance(descriptor, Target) and not descriptor.cpus:
        return "its descriptor has no CPU model"
    if descriptor.word_bits not in WORD_SIZES:
        return f"word_bits is {descriptor.word_bits!r}, and must be one of {', '.join(map(str, WORD_SIZES))}"
    for attribute, (in_module, in_descriptor) in declared.items():
        if in_module != in_descriptor:
            return f"{attribute} is {in_module!r}, but its descriptor says {in_descriptor!r}"
    if isinstance(descriptor, Target):
        machine: object = descriptor.elf_machine
        if not isinstance(machine, int | None):
            return f"elf_machine is {machine!r}, and must be the number e_machine of ELF headers, or None"
        for form in descriptor.elf_formats:
            if form.bits not in WORD_SIZES or form.order not in BYTE_ORDERS:
                return f"elf_formats has {form.bits!r} bits, {form.order!r}: it is 32 or 64, and little or big"
        for magic in (*(kind.magic for kind in descriptor.kernel_kinds), *descriptor.foreign_files):
            if not magic.magic or not 0 <= magic.offset <= KERNEL_HEAD - len(magic.magic):
                return f"the magic of {magic.meaning} must lie in the first {KERNEL_HEAD} bytes of a file"
    return ""


PAGE_BITS: Final = range(12, 32)
FETCH_INDEX_SHIFTS: Final = range(31)
"""Positions of the MMU index, two bits, in the 32 bits of the block mode."""


def _front_end_fault(target: Target, front_end: FrontEnd) -> str:
    """The attribute of a front end that the runtime cannot work with; empty if there is none."""
    # Imported late, because a front end that is loaded has imported these already.
    from raddle.ir.types import MMU_INDICES, FloatRules, Type

    word = getattr(front_end, "word", None)
    if word not in (Type.I32, Type.I64):
        return f"its front end's word is {getattr(word, 'name', word)}, and must be I32 or I64"
    if word.bits > target.word_bits:
        return f"its front end's word has {word.bits} bits, and its descriptor says {target.word_bits}"
    if not isinstance(getattr(front_end, "floats", None), FloatRules):
        return f"its front end's floats is {getattr(front_end, 'floats', None)!r}, and must be FloatRules"
    for name, allowed in (
        ("page_bits", PAGE_BITS),
        ("mmu_indices", range(1, MMU_INDICES + 1)),
        ("fetch_index_shift", FETCH_INDEX_SHIFTS),
    ):
        value = getattr(front_end, name, None)
        if not isinstance(value, int) or value not in allowed:
            return f"its front end's {name} is {value!r}, and must be {allowed[0]} to {allowed[-1]}"
    linear, count = getattr(front_end, "linear_indices", ()), front_end.mmu_indices
    if not isinstance(linear, Sequence) or any(index not in range(count) for index in linear):
        return f"its front end's linear_indices is {linear!r}, and must be among its {count} MMU indices"
    return ""


def _name_fault(earlier: Iterable[object], boards: Iterable[Board]) -> str:
    """The fault of a board whose guest has another one of that name, here or `earlier`; empty if there is none."""
    seen = {f"{board.target}/{board.name}" for board in earlier if isinstance(board, Board)}
    for board in boards:
        name = f"{board.target}/{board.name}"
        if name in seen:
            return f"its board {name} has the name of another one"
        seen.add(name)
    return ""


def _property_fault(board: Board) -> str:
    """The fault of a board's properties; empty if there is none."""
    names = [one.name for one in board.properties]
    for one in board.properties:
        if not one.values:
            return f"property {one.name} of its board {board.name} has no values"
        if names.count(one.name) > 1:
            return f"its board {board.name} has two properties {one.name}"
    return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {text}" if text else "there is not enough memory"
    if isinstance(error, ImportError) and UNMAPPED in text:
        return f"there is not enough memory: {text}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_registry: Registry | None = None
_registry_lock = threading.Lock()


def _after_fork() -> None:
    """In a forked child, where the locks may be held by threads that do not exist."""
    global _registry_lock
    _registry_lock = threading.Lock()
    if _registry is not None:
        _registry.renew_lock()


os.register_at_fork(after_in_child=_after_fork)


def registry() -> Registry:
    """The registry of the installed plug-ins, made at the first call."""
    global _registry
    with _registry_lock:
        if _registry is None:
            _registry = Registry()
        return _registry
