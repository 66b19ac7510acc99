# SPDX-License-Identifier: Apache-2.0
"""The hardware restart parameter block, page tables that map it, and the console's code on machines that run it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from raddle.errors import MachineError
from raddle.machine.machine import Machine
from raddle_target_alpha import hwrpb
from raddle_target_alpha.assembler import (
    ADDQ,
    BEQ,
    BIS,
    BR,
    CALL_PAL,
    LDA,
    LDAH,
    LDQ,
    MB,
    SLL,
    STB,
    STQ,
    SUBQ,
    branch,
    jump,
    literal,
    memory,
    operate,
)
from raddle_target_alpha.mmu import KSEG, PAGE_SIZE
from raddle_target_alpha.state import ZERO

MIB = 1 << 20
BASE = hwrpb.HWRPB
LIMIT = 240.0


@pytest.fixture
def block() -> bytes:
    segments = dict(hwrpb.segments(hwrpb.Machine(3, "ev67", 64 * MIB), KSEG + 0x31_0000))
    segment = segments["the console"]
    assert segment.address == BASE
    return segment.data


def quad(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", data, offset)[0])


def test_its_head_identifies_machine_and_block(block: bytes) -> None:
    assert quad(block, 0) == BASE
    assert block[8:16] == b"HWRPB\0\0\0"
    assert [quad(block, offset) for offset in (24, 40, 48, 56)] == [len(block), 8192, 44, 255]
    assert (quad(block, 80), quad(block, 88)) == (34, 5 << 10)
    assert (quad(block, 104), quad(block, 112)) == (1024 * 4096, 667_000_000)
    assert quad(block, 120) == 0xFFFF_FFFE_0000_0000


def test_its_checksum(block: bytes) -> None:
    assert sum(struct.unpack_from("<36Q", block)) & (1 << 64) - 1 == quad(block, 288)


def test_every_cpu_has_a_slot(block: bytes) -> None:
    count, size, offset = (quad(block, at) for at in (144, 152, 160))
    assert count == 3
    for cpu in range(count):
        slot = offset + size * cpu
        assert BASE + slot == hwrpb.slot(cpu)
        assert quad(block, slot + 128) & 0x1CC == 0x1CC
        assert quad(block, slot + 176) == 11
        assert quad(block, slot + 40) == 1, "floating point is enabled"
    assert quad(block, offset + 128) & 1
    assert not quad(block, offset + size + 128) & 1


def test_clusters_of_memory_are_all_of_it(block: bytes) -> None:
    table = quad(block, 200)
    assert quad(block, table + 16) == 2
    clusters = [struct.unpack_from("<7Q", block, table + 24 + 56 * n) for n in range(2)]
    assert [(one[0], one[1], one[6]) for one in clusters] == [(0, 16, 1), (16, 8192 - 16, 0)]
    assert quad(block, table) == sum(struct.unpack_from("<16Q", block, table + 8)) & (1 << 64) - 1


def test_tables_lie_apart(block: bytes) -> None:
    """What offsets of the block point to does not overlap."""
    parts = [(0, 320), *((hwrpb.SLOTS + n * hwrpb.SLOT_BYTES, hwrpb.SLOT_BYTES) for n in range(4))]
    parts += [(quad(block, 184), quad(block, 176)), (quad(block, 192), 72), (quad(block, 200), 136)]
    parts += [(quad(block, 312), 64), (hwrpb.PROCEDURES, 32), (hwrpb.CODE, 0x400)]
    for (start, size), (following, _) in zip(sorted(parts), sorted(parts)[1:], strict=False):
        assert start + size <= following


@pytest.mark.parametrize("model", sorted(hwrpb.PROCESSOR_TYPES))
def test_every_model_has_its_type(model: str) -> None:
    segments = dict(hwrpb.segments(hwrpb.Machine(1, model, 64 * MIB), 0))
    assert quad(segments["the console"].data, hwrpb.SLOTS + 176) == hwrpb.PROCESSOR_TYPES[model]


def test_page_tables_map_block_and_themselves() -> None:
    memory = bytearray(hwrpb.CONSOLE_END)
    for _, segment in hwrpb.segments(hwrpb.Machine(1, "ev67", 64 * MIB), 0):
        memory[segment.address : segment.address + segment.size] = segment.data
    root = quad(memory, hwrpb.slot(0) + 16)

    def walk(address: int) -> int | None:
        table = root
        for level in (2, 1, 0):
            entry = quad(memory, table * PAGE_SIZE + 8 * (address >> 13 + 10 * level & 0x3FF))
            if not entry & 1:
                return None
            table = entry >> 32
        return table * PAGE_SIZE

    assert [walk(0x1000_0000 + page * PAGE_SIZE) for page in range(3)] == [BASE, BASE + PAGE_SIZE, None]
    assert walk(0xFFFF_FFFE_0000_0000 + 8 * (0x1000_0000 >> 13) & ~0x1FFF) == hwrpb.TABLES[2]


# --- machines

A0, A1, A2, A3, RA, PV = 16, 17, 18, 19, 26, 27
HALT, CSERVE, WTINT = (CALL_PAL[name] for name in ("HALT", "CSERVE", "WTINT"))

COUNTED = {"icount": "shift=2"}
MODES: dict[str, dict[str, str]] = {
    "multi": {"accelerator": "tcg,order=fenced"},
    "single": {"accelerator": "tcg,thread=single"},
    "icount": COUNTED,
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
    made: list[Machine] = []

    def run(words: Sequence[int], data: bytes = b"", cpus: int = 1, **options: Any) -> Machine:
        """A machine that runs a raw program; `data` lies 0x400 bytes after its beginning."""
        kernel = tmp_path / "program"
        kernel.write_bytes(struct.pack(f"<{len(words)}I", *words).ljust(DATA, b"\0") + data)
        machine = Machine("alpha/clipper", cpus=cpus, memory="16M", kernel=kernel, **options)
        made.append(machine)
        machine.start()
        return machine

    yield run
    for machine in made:
        machine.close()


DATA = 0x400
START: tuple[int, ...] = (branch(BR, 1, 0),)
"""r1 = 4 + the address of the program."""
BLOCK = (memory(LDAH, 2, 0x1000, ZERO),)
"""r2 = the virtual address of the block."""


def dispatch(procedure: int) -> tuple[int, ...]:
    """Call DISPATCH (0) or FIXUP (16)."""
    return (
        memory(LDQ, 3, 192, 2),
        operate(ADDQ, 2, 3, 3),
        memory(LDQ, PV, procedure, 3),
        memory(LDQ, 4, 8, PV),
        jump(RA, 4),
    )


def uart(register: int) -> tuple[int, ...]:
    """The address of the first UART, 0xfffffd01fc0003f8."""
    return (
        memory(LDA, register, -0x2FE, ZERO),
        literal(SLL, register, 32, register),
        memory(LDAH, register, -0x400, register),
        memory(LDA, register, 0x3F8, register),
    )


def put(character: str, register: int, scratch: int = 20) -> tuple[int, ...]:
    return (memory(LDA, scratch, ord(character), ZERO), memory(STB, scratch, 0, register))


@pytest.mark.host
def test_the_kernel_is_entered_as_an_operating_system_is(run: Callable[..., Machine]) -> None:
    machine = run((*START, CALL_PAL["WTINT"], branch(BR, ZERO, -2)))
    deadline = time.monotonic() + LIMIT
    while machine.cpus[0].info()["state"] != "halted" and time.monotonic() < deadline:
        time.sleep(0.001)
    machine.pause()
    cpu = machine.cpus[0]
    assert cpu["r1"] == KSEG + 0x31_0004
    assert (cpu["ps"], cpu["fen"], cpu["pcbb"], cpu["r30"]) == (7, 1, hwrpb.slot(0), KSEG + hwrpb.STACK_END)
    assert (cpu["vptb"], cpu["ptbr"]) == (hwrpb.VPTB, hwrpb.TABLES[0] // PAGE_SIZE)


@pytest.mark.host
def test_callbacks_write_and_read(run: Callable[..., Machine]) -> None:
    text = b"Hello from the console\r\n"
    machine = run(
        (
            *(*START, *BLOCK),
            *(memory(LDA, A0, 2, ZERO), memory(LDA, A1, 0, ZERO)),
            *(memory(LDA, A2, DATA - 4, 1), memory(LDA, A3, len(text), ZERO)),
            *dispatch(0),
            operate(BIS, 0, 0, 9),
            *(memory(LDA, A0, 1, ZERO), *dispatch(0), operate(BIS, 0, 0, 10)),
            *(memory(LDA, A0, 0x22, ZERO), *dispatch(0), operate(BIS, 0, 0, 11)),
            HALT,
        ),
        text,
    )
    assert machine.wait(LIMIT) == 0
    assert machine.console.text == text.decode()
    cpu = machine.cpus[0]
    assert (cpu["r9"], cpu["r10"] >> 61, cpu["r11"] >> 61) == (len(text), 4, 6)


@pytest.mark.host
def test_the_console_can_be_mapped_elsewhere(run: Callable[..., Machine]) -> None:
    machine = run((*START, *BLOCK, memory(LDAH, A0, 0x2000, ZERO), operate(BIS, 2, 2, A1), *dispatch(16), HALT))
    assert machine.wait(LIMIT) == 0
    assert machine.cpus[0]["r0"] == 0
    wanted = hwrpb.procedures(0x2000_0000)
    assert machine.memory.read(wanted.address, wanted.size) == wanted.data


def starting(message: bytes) -> tuple[tuple[int, ...], bytes]:
    """CPU 0 sends CPU 1 a message, and halts when the flag at DATA is set, or waits for ever. CPU 1 begins at the
    second part: it prints, and sets the flag."""
    slot = hwrpb.slot(1) - hwrpb.HWRPB
    second = 60
    words = (
        *START,
        *BLOCK,
        *(memory(LDA, 3, 4 * second - 4, 1), memory(STQ, 3, hwrpb.RESTART, 2)),
        *(memory(LDA, 3, 0x777, ZERO), memory(STQ, 3, hwrpb.RESTART_DATA, 2)),
        *(memory(LDA, 3, DATA - 4 + 0x200, 1), memory(STQ, 3, slot, 2)),
        *(memory(LDQ, 3, DATA + 8 - 4, 1), memory(STQ, 3, slot + hwrpb.MESSAGE, 2)),
        MB,
        *(memory(LDA, 3, 2, ZERO), memory(STQ, 3, hwrpb.RECEIVE_READY, 2)),
        memory(LDQ, 3, DATA - 4, 1),
        branch(BEQ, 3, -2),
        HALT,
    )
    words += (HALT,) * (second - len(words))
    words += (
        *START,
        *(*uart(5), *put("2", 5)),
        MB,
        memory(STQ, PV, DATA - 4 - 4 * second, 1),
        CALL_PAL["WTINT"],
        branch(BR, ZERO, -2),
    )
    return words, bytes(8) + message.ljust(8, b"\0")


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
def test_a_message_starts_a_cpu(run: Callable[..., Machine], mode: str) -> None:
    words, data = starting(b"START\r\n")
    machine = run(words, data, cpus=2, **MODES[mode])
    assert machine.wait(LIMIT) == 0
    assert machine.console.text == "2"
    cpu = machine.cpus[1]
    assert (cpu["r27"], cpu["r30"]) == (0x777, KSEG + 0x31_0000 + DATA + 0x200)
    flags = int.from_bytes(machine.memory.read(hwrpb.slot(1) + hwrpb.FLAGS, 8), "little")
    assert flags & hwrpb.BOOTSTRAPPING
    assert machine.memory.read(hwrpb.HWRPB + hwrpb.RECEIVE_READY, 8) == bytes(8)


@pytest.mark.host
def test_interrupts_do_not_keep_a_cpu_awake_that_waits_to_be_started(run: Callable[..., Machine]) -> None:
    """CPU 0 interrupts CPU 1 once, and ends a second of the machine's clock later."""
    second = 1_000_000_000
    high = second + 0x8000 >> 16
    machine = run(
        (
            *START,
            *(memory(LDA, A0, 1, ZERO), CALL_PAL["WRIPIR"]),
            *(memory(LDA, A0, 5, ZERO), memory(LDAH, A1, high, ZERO), memory(LDA, A1, second - (high << 16), A1)),
            *(CSERVE, WTINT),
            HALT,
        ),
        cpus=2,
        **COUNTED,
    )
    assert machine.wait(LIMIT) == 0
    waits = second // hwrpb.WAIT_NS
    assert machine.cpus[1]["count_instructions"] < 20 * (waits + 2)


@pytest.mark.host
def test_another_message_starts_nothing(run: Callable[..., Machine]) -> None:
    words, data = starting(b"HELLO\r\n")
    machine = run(words, data, cpus=2)
    ready, deadline = hwrpb.HWRPB + hwrpb.RECEIVE_READY, time.monotonic() + LIMIT
    taken = waiting = False
    while not (taken and waiting) and time.monotonic() < deadline:
        time.sleep(0.001)
        machine.pause()
        flagged = int.from_bytes(machine.memory.read(ready, 8), "little")
        waiting = taken and machine.cpus[1].info()["state"] == "halted"
        taken = taken or (machine.cpus[0].pc >= KSEG + 0x31_0000 and machine.cpus[0]["r3"] == 0 and not flagged)
        machine.resume()
    machine.pause()
    assert waiting
    assert machine.cpus[1].pc < KSEG + hwrpb.CONSOLE_END
    assert machine.console.text == ""
    flags = int.from_bytes(machine.memory.read(hwrpb.slot(1) + hwrpb.FLAGS, 8), "little")
    assert not flags & hwrpb.BOOTSTRAPPING


@pytest.mark.host
def test_a_kernel_without_a_stack_ends_the_machine_with_an_error(run: Callable[..., Machine]) -> None:
    machine = run((*START, memory(LDA, 30, 0x4000, ZERO), CALL_PAL["BPT"]))
    with pytest.raises(
        MachineError, match=r"CPU 0 has halted: its kernel stack is not valid \(pc 0xfffffc000031000c\)"
    ):
        machine.wait(LIMIT)


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
def test_an_alarm_ends_a_wait(run: Callable[..., Machine], mode: str) -> None:
    """Two seconds of the machine's clock pass, no less."""
    wait = 2_000_000_000
    high = wait + 0x8000 >> 16
    machine = run(
        (
            *START,
            *uart(5),
            *(memory(LDA, A0, 7, ZERO), CSERVE, operate(BIS, 0, 0, 9)),
            *(memory(LDA, A0, 5, ZERO), memory(LDAH, A1, high, ZERO), memory(LDA, A1, wait - (high << 16), A1)),
            *(CSERVE, WTINT),
            *(memory(LDA, A0, 7, ZERO), CSERVE, operate(SUBQ, 0, 9, 9)),
            HALT,
        ),
        **MODES[mode],
    )
    assert machine.wait(LIMIT) == 0
    assert machine.cpus[0]["r9"] >= wait
