# SPDX-License-Identifier: Apache-2.0
"""`-d`: what the log says about a guest that is run, and that entries of vCPUs do not mix."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from raddle.cli.options import parse
from raddle.cli.values import LOG_ITEMS
from raddle.debug import disassembly
from raddle.errors import UsageError

pytest.importorskip("raddle_target_arm")

from raddle.debug.log import ITEMS
from raddle.debug.probes import ExceptionTaken, Filled
from raddle.machine.machine import Machine
from raddle.translate.frontend import FAULT_ALIGNMENT, FAULT_BUS

GUESTS = Path(__file__).resolve().parents[1] / "guests/arm/prebuilt"
LIMIT = 240


class Stream:
    """Keeps what every write wrote, of a guest that began at `entry`."""

    def __init__(self):
        self.writes = []
        self.entry = 0

    def write(self, text):
        self.writes.append(text)

    @property
    def text(self):
        return "".join(self.writes)


def logged(guest, items, mode="single", cpus=1):
    stream = Stream()
    with Machine("virt", cpus=cpus, kernel=GUESTS / f"{guest}.elf", accelerator=f"tcg,thread={mode}") as machine:
        machine.log(items, stream)
        machine.start(paused=True)
        stream.entry = machine.cpus[0].pc
        machine.resume()
        machine.wait(LIMIT)
        assert f"PASS {guest}" in machine.console.text
    return stream


# --- the items ----------------------------------------------------------------------------------------------------


def test_in_asm():
    log = logged("hello", ["in_asm"])
    assert log.text.startswith(
        f"in_asm: block at {log.entry:#x}, mode 0x2\n"
        f"  {log.entry:#x}:  e3a00000  mov r0, #0\n"
        f"  {log.entry + 4:#x}:  e59f1004  ldr r1, [pc, #4]\n"
    )


def test_in_asm_of_t32():
    text = logged("sha256-thumb", ["in_asm"]).text
    assert re.search(r"^  0x[0-9a-f]{8}:  [0-9a-f]{4}      mov \w+, \w+$", text, re.MULTILINE)
    assert re.search(r"^  0x[0-9a-f]{8}:  [0-9a-f]{8}  \S+", text, re.MULTILINE)
    assert ".word" not in text


def test_op_shows_each_instruction_once():
    log = logged("hello", ["op"])
    assert log.text.startswith(f"op: {log.entry:#x}: mov r0, #0\n       ; %0 = 0x0\n       set.i32 r0, %0.imm\n")
    heads = [line.split(": ", 2) for line in log.text.splitlines() if line.startswith("op: ")]
    assert len({head[1] for head in heads}) == len(heads)


def test_out_asm_accounts_for_every_byte():
    log = logged("hello", ["out_asm"])
    blocks = re.split(r"^out_asm: ", log.text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 20
    for block in blocks:
        size = int(re.search(r": (\d+) bytes$", block, re.MULTILINE)[1])
        lines = re.findall(r"^    ([0-9a-f]+):  ((?:[0-9a-f]{2} )+)", block, re.MULTILINE)
        position = 0
        for address, data in lines:
            assert int(address, 16) == position
            position += len(data.split())
        assert position == size
    assert f"  {log.entry:#x}: mov r0, #0\n" in blocks[0]
    assert f"  {log.entry + 4:#x}: ldr r1, [pc, #4] (cold)\n" in blocks[0]


def test_int():
    text = logged("exceptions", ["int"]).text
    assert re.search(r"^int: vCPU 0: svc at pc 0x[0-9a-f]{8}, to 0x[0-9a-f]+8$", text, re.MULTILINE)
    assert re.search(r"^int: vCPU 0: write fault of 0x\w+, code 0x\w+, at pc 0x\w+, to 0x\w+$", text, re.MULTILINE)
    assert re.search(r"^int: vCPU 0: interrupt, lines 0x1, at pc 0x\w+, to 0x\w+$", text, re.MULTILINE)


def test_mmu():
    log = logged("exceptions", ["mmu"])
    text, page = log.text, log.entry & ~0xFFF
    assert text.startswith(f"mmu: vCPU 0: fetch {log.entry:#x} mmu 1: {page:#x} rwx\n")
    assert re.search(r"^mmu: vCPU 0: \w+ 0x9\w+ mmu 1: I/O rw.$", text, re.MULTILINE)
    assert re.search(r"^mmu: vCPU 0: (read|write) 0x\w+ mmu \d: fault, code 0x\w+$", text, re.MULTILINE)


@pytest.mark.parametrize("mode", ["multi", "single"])
def test_exec(mode):
    log = logged("hello", ["exec"], mode)
    assert log.text.startswith(f"exec: vCPU 0: {log.entry:#x}\nexec: vCPU 0: 0x40100000\n")


def test_entries_of_vcpus_do_not_mix():
    stream = logged("hello-smp", ITEMS, "multi", 4)
    assert all(text.endswith("\n") for text in stream.writes)
    assert {*re.findall(r"^exec: vCPU (\d)", stream.text, re.MULTILINE)} == {"0", "1", "2", "3"}


def test_items_are_those_of_the_command_line():
    assert {*ITEMS} < LOG_ITEMS.keys()


def test_unknown_item():
    with Machine("virt", kernel=GUESTS / "hello.elf") as machine, pytest.raises(UsageError, match="mean in_asm"):
        machine.log(["in_asn"], Stream())


def test_a_stream_that_fails_stops_the_machine():
    class Full(Stream):
        def write(self, text):
            raise OSError("no space")

    machine = Machine("virt", kernel=GUESTS / "hello.elf")
    machine.log(["in_asm"], Full())
    machine.start()
    with pytest.raises(OSError, match="no space"):
        machine.wait(LIMIT)
    machine.close()


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["help", "?"])
def test_list_of_items(word):
    text = parse(["-d", word])
    assert all(f"  {name} " in text for name in LOG_ITEMS)


def raddle(*words):
    command = [sys.executable, "-m", "raddle.cli.main", "boot", "-nographic", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_log_file(tmp_path):
    path = tmp_path / "log"
    items = "in_asm,op,out_asm,int,exec,mmu,accel,stats,guest_errors"
    done = raddle("-kernel", str(GUESTS / "hello.elf"), "-d", items, "-D", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    text = path.read_text()
    assert text.startswith("accel: multi: ")
    assert "\naccel: llsc=fast: " in text
    for head in ("in_asm: ", "op: ", "out_asm: ", "exec: vCPU 0: ", "mmu: vCPU 0: ", "Time of threads"):
        assert re.search(f"^{head}", text, re.MULTILINE), head


def test_registers_before_each_block():
    text = logged("hello", ["cpu", "exec"]).text
    blocks = re.findall(r"^cpu: vCPU 0: block at (0x[0-9a-f]+)\n(?:.+\n)+?\n", text, re.MULTILINE)
    assert blocks == re.findall(r"^exec: vCPU 0: (0x[0-9a-f]+)$", text, re.MULTILINE)
    assert len(blocks) > 100


def test_without_chains_every_block_is_looked_up(capsys):
    counts = []
    for items in ((), ("nochain",)):
        with Machine("virt", kernel=GUESTS / "hello.elf", accelerator="tcg,thread=single") as machine:
            if items:
                machine.log(items, Stream())
            machine.start()
            machine.wait(LIMIT)
            counts.append(sum(one["count_lookup"] for one in machine.stats()["cpus"]))
    assert counts[1] > 2 * counts[0]


def test_what_is_not_there_is_told_of_once_for_each_place():
    stream = Stream()
    with Machine("virt", kernel=GUESTS / "exceptions.elf", accelerator="tcg,thread=single") as machine:
        machine.log(["unimp"], stream)
        machine.start()
        machine.wait(LIMIT)
    places = re.findall(
        r"unimp: vCPU 0: instruction or system register at pc (0x[0-9a-f]+) is undefined\n", stream.text
    )
    assert len(places) > 1
    assert len(places) == len(set(places)) == len(stream.writes)


@pytest.mark.parametrize("items", [("exec",), ("cpu",), ("in_asm",), ("op",), ("out_asm",)], ids=str)
def test_a_filter_keeps_blocks_at_its_addresses(items):
    entry = r"(?:block at |vCPU 0: |^op: )(0x[0-9a-f]+)"
    everything, some = Stream(), Stream()
    for stream, within in ((everything, ()), (some, (range(0x4010_0000, 0x4010_0010),))):
        with Machine("virt", kernel=GUESTS / "hello.elf", accelerator="tcg,thread=single") as machine:
            machine.log(items, stream, within)
            machine.start()
            machine.wait(LIMIT)
    found = {int(pc, 16) for pc in re.findall(entry, some.text, re.MULTILINE)}
    assert found
    assert all(0x4010_0000 <= pc < 0x4010_0040 for pc in found)  # blocks begin there, instructions may follow
    assert len(found) < len(set(re.findall(entry, everything.text, re.MULTILINE)))


def test_filter_on_the_command_line(tmp_path):
    path = tmp_path / "log"
    command = ("-kernel", str(GUESTS / "hello.elf"), "-d", "exec,nochain,unimp,guest_errors", "-D", str(path))
    done = raddle(*command, "-dfilter", "0x40100000+0x10,0x100..0x200")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == "exec: vCPU 0: 0x40100000\n"


def test_verify_writes_nothing_of_a_guest_in_order(tmp_path):
    path = tmp_path / "log"
    done = raddle("-kernel", str(GUESTS / "exceptions.elf"), "-d", "verify", "-D", str(path))
    assert (done.returncode, done.stderr, path.read_text()) == (0, "", "")
    assert "PASS exceptions" in done.stdout


def test_unknown_item_on_the_command_line():
    done = raddle("-d", "in_asm,excc")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean exec?" in done.stderr


@pytest.mark.parametrize(
    ("code", "shown"), [(FAULT_ALIGNMENT, "FAULT_ALIGNMENT"), (FAULT_BUS, "FAULT_BUS"), (0x805, "0x805")]
)
def test_codes_of_faults(code, shown):
    """Those of the runtime have names; the others are the guest's."""
    taken = ExceptionTaken("read fault", 0x100, 0x10, 0x2000, code)
    assert str(taken) == f"read fault of 0x2000, code {shown}, at pc 0x100, to 0x10"
    assert str(Filled(0x2000, 0, 1, code)) == f"read 0x2000 mmu 1: fault, code {shown}"


# --- disassembly --------------------------------------------------------------------------------------------------

X86_64, A32, T32 = ("CS_ARCH_X86", "CS_MODE_64"), ("CS_ARCH_ARM", "CS_MODE_ARM"), ("CS_ARCH_ARM", "CS_MODE_THUMB")


def test_disassembly_skips_what_it_cannot_read():
    found = list(disassembly.lines(X86_64, b"\x90\x06\x06\xc3", 16))
    assert [(at, text) for at, _, text in found] == [(16, "nop"), (17, ".byte 0x06"), (18, ".byte 0x06"), (19, "ret")]


@pytest.mark.parametrize("language", [None, ("CS_ARCH_VAX", "CS_MODE_ARM")])
def test_disassembly_of_an_unknown_language(language):
    assert [text for _, _, text in disassembly.lines(language, b"\x01\x02", 0)] == [".byte 0x01", ".byte 0x02"]
    assert disassembly.one(language, b"\x01", 0) is None


def test_one_instruction():
    assert disassembly.one(A32, bytes.fromhex("0000a0e3"), 0) == "mov r0, #0"
    assert disassembly.one(T32, bytes.fromhex("0000a0e3"), 0) is None
