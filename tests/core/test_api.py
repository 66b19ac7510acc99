# SPDX-License-Identifier: Apache-2.0
"""The public names of the package: there, imported late, typed, and particular about what they are given."""

import copy
import pickle
import re
import struct
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import raddle
from raddle.machine.load import Load
from raddle.memory import HostMemory

TREE = Path(__file__).parents[2]
GUESTS = TREE / "tests/guests/arm/prebuilt"
LIMIT = 30
KERNEL = 0x4001_0000
"""Where a raw image is loaded."""


def instruments(machine: raddle.Machine[Any]) -> Any:
    """What looks into the machine's engine."""
    return machine._control.instruments


@pytest.mark.parametrize("name", raddle.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(raddle, name) is not None
    assert name in dir(raddle)


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Machin'"):
        _ = raddle.Machin


def test_importing_raddle_imports_no_machine() -> None:
    code = "import sys, raddle; print([name for name in sys.modules if name.startswith('raddle.')])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "['raddle.errors']\n"


# --- types ------------------------------------------------------------------------------------------------------

MORE = """

def checked(other: raddle.Machine, cpu: raddle.VCpu, state: raddle.State, hook: raddle.Hook) -> None:
    byte: int = other.memory[0]
    word: bytes = other.memory[0:4]
    other.memory[0] = byte
    other.memory[0:4] = word
    number: int = cpu.regs.r5
    cpu.regs.r5 = number
    paused: bool = state is raddle.State.PAUSED
    hook.remove()
    try:
        other.console.expect("x").group()
    except (raddle.ExpectTimeout, raddle.ConsoleClosed, raddle.MemoryAccessError):
        print(paused)


from raddle_target_arm.registers import ArmRegisters

with raddle.Machine[ArmRegisters]("virt") as arm:
    cpsr: int = arm.cpus[0].regs.cpsr
"""

WRONG = """
with raddle.Machine[ArmRegisters]("virt") as arm:
    arm.cpus[0].regs.no_such
    arm.memory[0:4] = 5
    raddle.Machine("virt", cpus="2")
"""


def type_errors(tmp_path: Path, text: str) -> list[str]:
    example = tmp_path / "example.py"
    example.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


@pytest.mark.slow
@pytest.mark.peer("mypy")
def test_the_readmes_example_is_typed(tmp_path: Path) -> None:
    example, *others = re.findall(r"```python\n(.*?)```", (TREE / "README.md").read_text(), re.S)
    assert not others
    assert type_errors(tmp_path, example + MORE) == []
    assert [line.split("[")[-1] for line in type_errors(tmp_path, example + MORE + WRONG)] == [
        "attr-defined]",
        "call-overload]",
        "arg-type]",
    ]


class BytesPath:
    """A path, and not a text."""

    def __fspath__(self) -> bytes:
        return b"vmlinuz"

    def __repr__(self) -> str:
        return "BytesPath()"


# --- arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"board": None},
        {"cpus": "2"},
        {"cpus": True},
        {"cpus": 2.0},
        {"memory": 1.5},
        {"memory": None},
        {"cpu": 15},
        {"kernel": b"vmlinuz"},
        {"initrd": 1},
        {"dtb": []},
        {"bios": 1.0},
        {"append": 5},
        {"serial": 5},
        {"serial": [5]},
        {"serial": b"null"},
        {"serial": bytearray(b"null")},
        {"kernel": BytesPath()},
        {"pflash": raddle.FlashFile(5)},  # type: ignore[arg-type]
        {"pflash": 5},
        {"pflash": b"flash"},
        {"pflash": [5]},
        {"load": None},
        {"load": "script.img"},
        {"load": [("script.img", "0x40200000")]},
        {"load": [5]},
        {"load": [(b"x", True)]},
        {"load": [Load(b"x", None)]},
        {"load": [Load(5, 0x4020_0000)]},  # type: ignore[arg-type]
        {"load": [Load(Path("x"), "here")]},  # type: ignore[arg-type]
        {"accelerator": None},
        {"icount": 3},
        {"reboot": "no"},
        {"target": 3},
        {"engine": None},
        {"plugins": {}},
    ],
    ids=str,
)
def test_arguments_of_another_kind_are_usage_errors(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(raddle.UsageError, match=name if name != "serial" else "character device") as caught:
        raddle.Machine(**{"kernel": GUESTS / "hello.elf", **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        *({name: ""} for name in ("kernel", "initrd", "dtb", "bios", "pflash")),
        {"pflash": [None, raddle.FlashFile("")]},
        {"load": [("", 0x4020_0000)]},
    ],
    ids=str,
)
def test_a_file_has_a_name(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(raddle.UsageError, match=rf"Machine\({name}=\.\.\.\) is empty: give the name of a file"):
        raddle.Machine(**{"kernel": GUESTS / "hello.elf", **given})


CALLS: list[tuple[Callable[[Any], object], str]] = [
    (lambda machine: machine.fail("x"), r"the error of fail\(\) is an exception, not 'x' \(str\)"),
    (lambda machine: machine.fail(ValueError), "an exception, not <class"),
    (lambda machine: machine.request_stop("x"), "exit status .* a whole number, not 'x'"),
    (lambda machine: machine.wait("x"), r"timeout of wait\(\) is seconds, a number, not 'x'"),
    (lambda machine: machine.wait(float("nan")), "seconds, a number, not nan"),
    (lambda machine: machine.log([], 5), r"the stream of log\(\) is a file that is open for text, not 5"),
    (lambda machine: machine.log(["int"], 5), r"the stream of log\(\)"),
    (lambda machine: machine.log("int", sys.stderr), "items .* a sequence of strings, not 'int'"),
    (lambda machine: machine.log([5], sys.stderr), "items .* a sequence of strings"),
    (lambda machine: machine.log(["exec"], sys.stderr, [5]), "within= .* a sequence of ranges"),
    (lambda machine: machine.log(["exec"], sys.stderr, 5), "within= .* a sequence of ranges"),
    (lambda machine: machine.hook("block", print, "a", "b"), "the start of a hook is an address"),
    (lambda machine: machine.add_memory_hook(print, 0, 1.5), "the end of a hook is an address"),
    (lambda machine: machine.hook(5, print), "the kind of a hook is a string, not 5"),
    (lambda machine: machine.console.send("\udcff"), "is not text in UTF-8; give bytes"),
    (lambda machine: machine.console.send(5), "a string or bytes, not 5"),
    (lambda machine: machine.console.expect("("), "is not a regular expression: missing"),
    (lambda machine: machine.console.expect(b"x"), "a regular expression for text, not b'x'"),
    (lambda machine: machine.console.expect("x", "y"), r"timeout of expect\(\) is seconds"),
    (lambda machine: machine.console.feed("x"), r"what feed\(\) types is bytes, .*not 'x'"),
    (lambda machine: machine.console.feed([300]), r"what feed\(\) types is bytes, .*not \[300\]"),
    (lambda machine: machine.console.feed(5), r"what feed\(\) types is bytes, .*not 5"),
    (lambda machine: machine.console.feed(b"x", "no"), r"wait of feed\(\) is True or False"),
    (lambda machine: machine.console.take("x"), r"limit of take\(\) is a whole number"),
    (lambda machine: machine.console.on_input(5), r"what on_input\(\) calls is a function, not 5"),
    (lambda machine: machine.console.write("x"), "what is sent is bytes, not 'x'"),
    (lambda machine: machine.hook("block", 5), "a hook is a function, not 5"),
    (lambda machine: machine.hook("memory", print, 0), "a memory hook needs the first address and the one after"),
    (lambda machine: machine.hook("memory", print, 1 << 70, (1 << 70) + 1), "addresses end before 0x10000000000000000"),
    (lambda machine: machine.hook("block", print, 0, 1 << 70), "addresses end before"),
    (lambda machine: instruments(machine).hooks.add_memory(print, None, 5), "a memory hook needs the first address"),
    (lambda machine: instruments(machine).hooks.add_fill(5), "a hook is a function"),
    (lambda machine: instruments(machine).hooks.add_translation(5), "a hook is a function"),
    (lambda machine: instruments(machine).log(5, sys.stderr), "items .* a sequence of strings"),
    (lambda machine: machine.request_stop(0, at_once="no"), r"at_once of request_stop\(\) is True or False"),
    (lambda machine: machine.start("no"), r"paused of start\(\) is True or False, not 'no'"),
    # vCPUs
    (lambda machine: machine.cpus[0].power_on("a", "b"), r"the entry of power_on\(\) is a whole number, not 'a'"),
    (lambda machine: machine.cpus[0].power_on(0, 1.5), r"the argument of power_on\(\) is a whole number"),
    (lambda machine: machine.cpus[0].power_on(1 << 32, 0), r"power_on\(\) has 32 bits: .* 0xffffffff, not 0x100000000"),
    (lambda machine: machine.cpus[0].power_down(0, -1), r"argument of power_down\(\) has 32 bits: .* not -0x1"),
    (lambda machine: machine.cpus[0].async_run_on_cpu(5), r"work of async_run_on_cpu\(\) is a function, not 5"),
    (lambda machine: machine.cpus[0].async_safe_run_on_cpu(5), r"work of async_safe_run_on_cpu\(\) is a function"),
    (lambda machine: machine.cpus[0].run_on_cpu(5), r"work of run_on_cpu\(\) is a function"),
    (lambda machine: machine.cpus[0].interrupt_set("x"), r"interrupt_set\(\) raises is a whole number"),
    (lambda machine: machine.cpus[0].interrupt_set(1 << 32), r"interrupt_set\(\) raises has 32 bits"),
    (lambda machine: machine.cpus[0].interrupt_clear(-1), r"interrupt_clear\(\) lowers has 32 bits"),
    (lambda machine: machine.cpus[0][5], "the name of a vCPU's field is a string, not 5"),
    (lambda machine: machine.cpus[0].__setitem__([], 5), "the name of a vCPU's field is a string"),
    (lambda machine: machine.cpus[0].__setitem__("r0", "x"), "register r0 is a whole number, not 'x'"),
    (lambda machine: machine.cpus[0].__setitem__("r0", True), "register r0 is a whole number, not True"),
    (lambda machine: machine.cpus[0].__setitem__("nf", 2), "register nf has 1 bit: it can be 0x0 to 0x1, not 0x2"),
    (lambda machine: setattr(machine.cpus[0].regs, "r0", "x"), r"register r0 is a whole number, not 'x' \(str\)"),
    (lambda machine: setattr(machine.cpus[0].regs, "r0", 1.0), "register r0 is a whole number"),
    (lambda machine: setattr(machine.cpus[0].regs, "r0", None), "register r0 is a whole number"),
    (lambda machine: setattr(machine.cpus[0].regs, "r0", 1 << 32), "r0 has 32 bits: .* 0xffffffff, not 0x100000000"),
    (lambda machine: setattr(machine.cpus[0].regs, "r0", -(1 << 31) - 1), "can be -0x80000000 to .*, not -0x80000001"),
    (lambda machine: setattr(machine.cpus[0].regs, "pc", 1 << 32), "register pc has 32 bits"),
    (lambda machine: setattr(machine.cpus[0].regs, "d0", 1 << 64), "register d0 has 64 bits"),
    (lambda machine: setattr(machine.cpus[0].regs, "cpsr", 1 << 32), "register cpsr has 32 bits"),
    (lambda machine: setattr(machine.cpus[0].regs, "cpsr", "x"), "register cpsr is a whole number"),
    # the engine, timers, the clock
    (lambda machine: machine.engine.timer(5), "what a timer calls is a function, not 5"),
    (lambda machine: machine.engine.timer(print).set("x"), "the deadline of a timer is a whole number, not 'x'"),
    (lambda machine: machine.engine.timer(print).set(float("nan")), "the deadline of a timer is a whole number"),
    (lambda machine: machine.engine.routine_timer(5, "x"), "the vCPU of a timer is a vCPU, not 5"),
    (lambda machine: machine.engine.routine_timer(machine.cpus[0], 5), "the routine of a timer is a string, not 5"),
    (lambda machine: machine.engine.native_timer(5), "the routine of a timer is a string, not 5"),
    (lambda machine: machine.engine.event_timer(None), "the vCPU of a timer is a vCPU, not None"),
    (lambda machine: instruments(machine).around(5), r"what around\(\) looks at is a vCPU"),
    (lambda machine: machine.engine.flush_tlb(5), "whose TLB is emptied is a vCPU"),
    (lambda machine: machine.engine.join("x"), r"timeout of join\(\) is seconds"),
    (lambda machine: machine.engine.fail("x", None), r"the error of fail\(\) is an exception"),
    (lambda machine: machine.board.clock.timer(5), "what a timer calls is a function"),
    # memory
    (lambda machine: machine.memory["a"], "an address in guest memory is a whole number, not 'a'"),
    (lambda machine: machine.memory[1.5], "an address in guest memory is a whole number"),
    (lambda machine: machine.memory["a":4], "the first address of a range is a whole number, not 'a'"),
    (lambda machine: machine.memory[0:"b"], "the end address of a range is a whole number, not 'b'"),
    (lambda machine: machine.memory.__setitem__(KERNEL, 300), "the byte at 0x40010000 has 8 bits: .* 0xff, not 0x12c"),
    (lambda machine: machine.memory.__setitem__(KERNEL, -1), "the byte at 0x40010000 has 8 bits"),
    (lambda machine: machine.memory.__setitem__(KERNEL, b"x"), "the byte at 0x40010000 is a whole number, not b'x'"),
    (lambda machine: machine.memory.__setitem__("a", 5), "an address in guest memory is a whole number"),
    (
        lambda machine: machine.memory.__setitem__(slice(KERNEL, KERNEL + 1), [300]),
        r"what is written to 0x40010000-0x40010000 is bytes, or numbers from 0 to 255, not \[300\] \(list\)",
    ),
    (lambda machine: machine.memory.__setitem__(slice(KERNEL, KERNEL + 1), "x"), "is bytes, or .*, not 'x'"),
    (lambda machine: machine.memory.__setitem__(slice(KERNEL, KERNEL + 1), 1), r"is bytes, or .*, not 1 \(int\)"),
    (lambda machine: machine.memory.read("a", 4), "an address in guest memory is a whole number"),
    (lambda machine: machine.memory.read(KERNEL, "a"), "the size of an access to guest memory is a whole number"),
    (lambda machine: machine.memory.write(KERNEL, "x"), "what is written to guest memory is bytes, or"),
    (lambda machine: machine.memory.write("a", b"x"), "an address in guest memory is a whole number"),
    (lambda machine: machine.memory.clear(KERNEL, "x"), "the size of what is cleared is a whole number"),
    (lambda machine: machine.memory.clear("x", 4), "an address in guest memory is a whole number"),
    (lambda machine: machine.memory.find("x"), "an address in guest memory is a whole number"),
    (lambda machine: machine.memory.on_write(5), r"what on_write\(\) calls is a function"),
    (lambda machine: machine.memory.on_serve_loads(5), r"what on_serve_loads\(\) calls is a function"),
    (lambda machine: machine.memory.serve_loads(5, True), r"what serve_loads\(\) turns is a region, not 5"),
    (lambda machine: machine.memory.serve_loads(machine.memory.find(KERNEL), True), "RAM .* is no ROM device"),
    (lambda machine: machine.memory.serve_loads(machine.memory.regions[0], 2), "by_handler of .* is True or False"),
    # what a board is made of
    (lambda _: raddle.AddressSpace("x"), "the size of a page is a whole number"),  # type: ignore[arg-type]
    (lambda _: building().add_ram(5, 0, PAGE), "the name of a region is a string, not 5"),
    (lambda _: building().add_ram("RAM", "x", PAGE), "the start of region RAM is a whole number"),
    (lambda _: building().add_ram("RAM", 0, "x"), "the size of region RAM is a whole number"),
    (lambda _: building().add_rom("ROM", 0, PAGE, "x"), "the contents of ROM is bytes, or"),
    (lambda _: building().add_io("device", 0, PAGE, object()), "the handler of region device is a device, with"),
    (lambda _: building().add_io("device", 0, PAGE, Handler(), 5), "the routine of region device is a function"),
    (lambda _: building().add_rom_device("flash", 0, PAGE, 5), "the handler of region flash is a device"),
    (lambda _: building().add_routines(5), r"what add_routines\(\) adds is a mapping"),
    (lambda _: building().add_routines({5: print}), "the name of a routine is a string"),
    (lambda _: building().add_routines({"one": 5}), "routine one is a function, not 5"),
    (lambda _: HostMemory("x"), "the size of memory is a whole number"),  # type: ignore[arg-type]
    (
        lambda machine: machine.hook(1 << 20000, print),
        r"the kind of a hook is a string, not one too large to show \(int\)",
    ),
]

PAGE = 4096


class Handler:
    """A device that does nothing."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None: ...


def building() -> Any:
    """An address space that regions can still be added to."""
    return raddle.AddressSpace()


@pytest.mark.host
@pytest.mark.parametrize(("call", "fault"), CALLS, ids=[fault for _, fault in CALLS])
def test_what_methods_are_given_is_of_the_right_kind(
    machine: raddle.Machine, call: Callable[[Any], object], fault: str
) -> None:
    with pytest.raises(raddle.UsageError, match=fault) as caught:
        call(machine)
    assert "\n" not in str(caught.value)
    assert machine.state is raddle.State.PAUSED


@pytest.mark.host
def test_a_wait_may_be_for_ever() -> None:
    with raddle.Machine(kernel=GUESTS / "hello.elf", serial="null") as machine:
        machine.start()
        assert machine.wait(float("inf")) == 0


# --- machines ---------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[raddle.Machine]:
    """Paused before a program that reads the CPSR into r0 and loops."""
    image = tmp_path / "image"
    image.write_bytes(struct.pack("<2I", 0xE10F_0000, 0xEAFF_FFFE))  # mrs r0, cpsr; b .
    with raddle.Machine("virt", kernel=image, memory="16M") as machine:
        machine.start(paused=True)
        yield machine


PARTS: dict[str, Callable[[raddle.Machine], object]] = {
    "machine": lambda machine: machine,
    "memory": lambda machine: machine.memory,
    "console": lambda machine: machine.console,
    "cpu": lambda machine: machine.cpus[0],
    "regs": lambda machine: machine.cpus[0].regs,
    "engine": lambda machine: machine.engine,
    "board": lambda machine: machine.board,
    "hook": lambda machine: machine.add_exception_hook(print),
}


@pytest.mark.host
@pytest.mark.parametrize("part", PARTS)
def test_no_part_of_a_machine_can_be_copied(machine: raddle.Machine, part: str) -> None:
    one = PARTS[part](machine)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"^the \w+ of a machine cannot be copied or pickled"):
            make(one)


@pytest.mark.host
def test_registers_are_those_that_the_type_names(machine: raddle.Machine) -> None:
    from raddle_target_arm.registers import ArmRegisters

    regs = machine.cpus[0].regs
    assert sorted(dir(regs)) == sorted(ArmRegisters.__annotations__)
    for name in dir(regs):
        assert getattr(regs, name) >= 0
        setattr(regs, name, getattr(regs, name))
    for name in ("no_such", "cpsr_"):
        with pytest.raises(AttributeError, match=name):
            getattr(regs, name)


@pytest.mark.host
def test_a_negative_number_is_the_twos_complement_in_a_register(machine: raddle.Machine) -> None:
    cpu = machine.cpus[0]
    for name, value, held in (
        ("r0", -1, 0xFFFF_FFFF),
        ("r0", -(1 << 31), 0x8000_0000),
        ("r0", (1 << 32) - 1, 0xFFFF_FFFF),
        ("d0", -1, (1 << 64) - 1),
        ("pc", -4, 0xFFFF_FFFC),
        ("cpsr", 0x1D3 - (1 << 31), 0x8000_01D3),
    ):
        setattr(cpu.regs, name, value)
        assert getattr(cpu.regs, name) == held
    cpu["r1"] = -2
    assert cpu["r1"] == 0xFFFF_FFFE


@pytest.mark.host
def test_a_vcpu_is_asked_of_its_own_machine(machine: raddle.Machine) -> None:
    engine: Any = machine.engine
    other = raddle.Machine(kernel=GUESTS / "hello.elf")
    with other, pytest.raises(raddle.UsageError, match="not vCPU 0 of another machine"):
        engine.event_timer(other.cpus[0])


@pytest.mark.host
def test_memory_takes_what_has_bytes_in_it(machine: raddle.Machine) -> None:
    memory: Any = machine.memory
    part = slice(KERNEL, KERNEL + 4)
    for given in (b"\1\0\2\0", bytearray(b"\1\0\2\0"), array("H", [1, 2]), [1, 0, 2, 0], memoryview(b"1122")[::-1]):
        memory[part] = given
        assert memory[part] == bytes(given)


@pytest.mark.host
@pytest.mark.parametrize("cpsr", [0x1D3, 0xF80F_01D3, 0x8000_01DF, 0x2000_01D1, 0x4000_01D2, 0x1000_0010])
def test_the_cpsr_is_what_the_guest_reads(machine: raddle.Machine, cpsr: int) -> None:
    looping = threading.Event()
    regs = machine.cpus[0].regs
    assert regs.cpsr == 0x1D3
    regs.cpsr = cpsr
    assert regs.cpsr == cpsr
    regs.pc, end = KERNEL, KERNEL + 4
    machine.hook("block", lambda *_: looping.set(), end, end + 4)
    machine.resume()
    assert looping.wait(LIMIT)
    machine.pause()
    assert regs.r0 == cpsr


@pytest.mark.host
def test_a_write_of_the_cpsr_changes_the_bank(machine: raddle.Machine) -> None:
    regs = machine.cpus[0].regs
    for name, value in (("r8", 8), ("r12", 12), ("sp", 13), ("lr", 14), ("sp_irq", 113), ("r8_fiq", 208)):
        setattr(regs, name, value)
    regs.cpsr = 0x1D2
    assert (regs.r8, regs.sp, regs.lr, regs.sp_svc, regs.lr_svc) == (8, 113, 0, 13, 14)
    regs.cpsr = 0x1D1
    assert (regs.r8, regs.r12, regs.sp, regs.r8_usr, regs.sp_irq) == (208, 0, 0, 8, 113)
    regs.cpsr = 0x1D3
    assert (regs.r8, regs.r12, regs.sp, regs.lr) == (8, 12, 13, 14)
    with pytest.raises(raddle.UsageError, match=r"register cpsr cannot be 0x15: .*mode 0x15"):
        regs.cpsr = 0x15


@pytest.mark.host
def test_what_a_state_does_not_let_a_machine_do_is_said() -> None:
    with raddle.Machine(kernel=GUESTS / "hello.elf") as machine:
        ready: tuple[Callable[[], object], ...] = (machine.resume, machine.pause, machine.request_reset)
        for call in ready:
            with pytest.raises(raddle.UsageError, match="machine that is ready"):
                call()
        machine.start(paused=True)
        for call in (machine.start, machine.profile):
            with pytest.raises(raddle.UsageError, match="machine that is paused"):
                call()
        with pytest.raises(raddle.UsageError, match="has been built"):
            machine.memory.add_io("device", 0x0B00_0000, 0x1000, object())  # type: ignore[arg-type]
        with machine.hold(), pytest.raises(raddle.UsageError, match="within"):
            machine.close()
        machine.resume()
        machine.wait(LIMIT)
        stopped: tuple[Callable[[], object], ...] = (
            machine.start,
            machine.resume,
            machine.pause,
            machine.request_reset,
            machine.profile,
        )
        for call in stopped:
            with pytest.raises(raddle.UsageError, match="machine that is stopped"):
                call()
