# SPDX-License-Identifier: Apache-2.0
"""Hooks on blocks, memory and exceptions, early and late, in both threading modes, on the ARM guests."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from raddle.errors import UsageError

pytest.importorskip("raddle_target_arm")

from elftools.elf.elffile import ELFFile

from raddle.debug.hooks import MAX_WATCHED_PAGES
from raddle.machine.machine import Machine

GUESTS = Path(__file__).resolve().parents[1] / "guests/arm/prebuilt"
LIMIT = 240


@pytest.fixture(params=["multi", "single"])
def mode(request):
    return request.param


def machine(name, mode, cpus=2):
    return Machine("virt", cpus=cpus, kernel=GUESTS / f"{name}.elf", accelerator=f"tcg,thread={mode}")


def symbol(name, guest):
    with (GUESTS / f"{guest}.elf").open("rb") as file:
        return ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(name)[0]["st_value"] & ~1


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def counts_of(one):
    """How often each vCPU of endless-count has been through its loop."""
    first = symbol("counts", "endless-count")
    return [int.from_bytes(one.memory[at : at + 4], "little") for at in (first, first + 64)]


def loop_on(one, loops):
    """Let each vCPU of endless-count go through its loop so many times."""
    before = counts_of(one)
    until(lambda: all((now - old) % (1 << 32) > loops for now, old in zip(counts_of(one), before, strict=True)))


LOOPS = 3_000_000
"""Chained, vCPUs leave blocks when they are interrupted, a few hundred times a second, in which they loop so often."""


def test_block_hook_sees_every_block_from_the_first_on(mode):
    seen = []
    with machine("hello", mode, 1) as one:
        one.add_block_hook(lambda cpu, pc: seen.append((cpu.index, pc, cpu.pc)))
        one.start(paused=True)
        entry = one.cpus[0].pc
        one.resume()
        assert one.wait(LIMIT) == 0
        assert "PASS hello" in one.console.text
    assert seen[0] == (0, entry, entry)
    assert {index for index, _, _ in seen} == {0}
    assert all(pc == cpu_pc for _, pc, cpu_pc in seen)
    calls = Counter(pc for _, pc, _ in seen)
    assert calls[symbol("_start", "hello")] == 1
    assert calls.most_common(1)[0][1] > 10


def test_late_block_hook_takes_effect_on_all_vcpus_and_leaves_no_trace(mode):
    seen = set()
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        before = one.stats()
        hook = one.add_block_hook(lambda cpu, pc: seen.add(cpu.index))
        until(lambda: seen == {0, 1})
        hook.remove()
        seen.clear()
        lookups = [cpu["count_lookup"] for cpu in one.stats()["cpus"]]
        loop_on(one, LOOPS)
        assert not seen
        after = one.stats()
        assert after["flushes"] == before["flushes"] + 1
        assert all(cpu["count_lookup"] - old < LOOPS / 10 for cpu, old in zip(after["cpus"], lookups, strict=True))
        hook.remove()


def test_block_hook_range(mode):
    start = symbol("print", "hello")
    seen = []
    with machine("hello", mode, 1) as one:
        one.add_block_hook(lambda cpu, pc: seen.append(pc), start, start + 4)
        one.start()
        one.wait(LIMIT)
    assert seen
    assert set(seen) == {start}


def test_late_memory_hook_sees_accesses_of_all_vcpus(mode):
    counts = symbol("counts", "endless-count")
    seen = []
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        hook = one.add_memory_hook(lambda *access: seen.append(access), counts, counts + 128)
        until(lambda: {access[0].index for access in seen[:100_000]} == {0, 1})
        hook.remove()
        found = list(seen)
        slow = [cpu["count_slow"] for cpu in one.stats()["cpus"]]
        loop_on(one, LOOPS)
        assert len(seen) == len(found)
        if mode == "multi":
            assert all(c["count_slow"] - old < LOOPS / 10 for c, old in zip(one.stats()["cpus"], slow, strict=True))
    for cpu, address, size, is_write, _ in found:
        assert (address, size, is_write) == (counts + 64 * cpu.index, 4, True)
    values = [value for cpu, _, _, _, value in found if cpu.index == 0]
    assert values == list(range(values[0], values[0] + len(values)))


def test_memory_hook_knows_the_instruction(mode):
    counts = symbol("counts", "endless-count")
    seen = []
    with machine("endless-count", mode, 1) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        one.add_memory_hook(lambda cpu, *_: seen.append(cpu.pc), counts, counts + 4)
        until(lambda: len(seen) > 10)
    assert len(set(seen)) == 1
    # The store itself, not the block that it is in.
    pc = seen[0]
    assert 0x4010_0000 <= pc < 0x4010_4000


def test_memory_hook_ignores_the_rest_of_its_page(mode):
    counts = symbol("counts", "endless-count")
    seen = []
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        one.add_memory_hook(lambda cpu, address, *_: seen.append(address), counts + 66, counts + 68)
        until(lambda: len(seen) > 100)
    assert set(seen) == {counts + 64}


def test_exception_hook(mode):
    events = []
    with machine("exceptions", mode, 1) as one:
        one.add_exception_hook(lambda cpu, event: events.append(event))
        one.start()
        one.wait(LIMIT)
        assert "PASS exceptions" in one.console.text
        counted = one.stats()["cpus"][0]["count_exception"]
    kinds = Counter(event.kind for event in events)
    assert kinds.keys() == {"svc", "undefined", "breakpoint", "interrupt", "read fault", "write fault", "fetch fault"}
    assert len(events) == counted
    fault = next(event for event in events if event.kind == "read fault")
    assert fault.address is not None
    assert fault.code
    assert str(fault).startswith(f"read fault of {fault.address:#x}, code ")
    # Vectors are where the vCPU goes on: a word each.
    assert {event.target & 0x1F for event in events if event.kind == "svc"} == {8}
    assert {event.target & 0x1F for event in events if event.kind == "read fault"} == {0x10}


def test_late_exception_hook(mode):
    events = []
    with machine("stray-pc", mode, 1) as one:
        one.start()
        until(lambda: one.stats()["cpus"][0]["count_exception"] > 10)
        hook = one.add_exception_hook(lambda cpu, event: events.append(event))
        until(lambda: len(events) > 10)
        hook.remove()
        count = len(events)
        before = one.stats()["cpus"][0]["count_exception"]
        until(lambda: one.stats()["cpus"][0]["count_exception"] > before + 100)
        assert len(events) == count
    assert {event.kind for event in events} == {"fetch fault"}


@pytest.mark.parametrize("kind", ["block", "memory", "exception"])
def test_error_in_a_hook_stops_the_machine(mode, kind):
    def fail(*_):
        raise ValueError("it is enough")

    guest = "stray-pc" if kind == "exception" else "endless-count"
    cpus = 1 if kind == "exception" else 2
    one = machine(guest, mode, cpus)
    one.start()
    until(lambda: all(cpu["count_lookup"] > 10 for cpu in one.stats()["cpus"]))
    if kind == "memory":
        one.hook(kind, fail, 0x4010_0000, 0x4020_0000)
    else:
        one.hook(kind, fail)
    with pytest.raises(ValueError, match="it is enough") as caught:
        one.wait(LIMIT)
    one.close()
    (note,) = caught.value.__notes__
    assert note.startswith("on vCPU ")


def test_a_hook_removes_itself_and_adds_another(mode):
    first, second = [], []

    def once(cpu, pc):
        first.append(pc)
        hook.remove()
        one.add_exception_hook(lambda *_: None)
        hooks.append(one.add_block_hook(lambda cpu, pc: second.append(pc)))

    hooks = []
    with machine("endless-count", mode, 1) as one:
        hook = one.add_block_hook(once)
        one.start()
        until(lambda: second)
        hooks[0].remove()
        one.console.expect("ready", timeout=LIMIT)
    assert len(first) == 1


def test_hooks_from_many_threads(mode):
    """Adding and removing while two vCPUs run, from two threads at once and from hooks."""
    counts = symbol("counts", "endless-count")
    calls = []

    def churn(one):
        for _ in range(10):
            hooks = [
                one.add_block_hook(lambda *_: calls.append(1)),
                one.add_memory_hook(lambda *_: calls.append(2), counts, counts + 4),
                one.add_exception_hook(lambda *_: calls.append(3)),
            ]
            for hook in hooks:
                hook.remove()

    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        threads = [threading.Thread(target=churn, args=(one,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        del calls[:]
        loop_on(one, 1000)
        assert not calls


def test_no_exclusive_section_begins_while_a_vcpu_translates():
    """What hooks put in place, and the pages they watch, must not change under a translation that needs a TLB fill."""
    translating, began, sections = [], [], []
    with machine("hello", "multi", 1) as one:
        engine, miss = one.engine, one.engine.miss

        def translate(env):
            engine.flush_tlb(engine.cpus[0])
            translating.append(env)
            answer = miss(env)
            translating.clear()
            return answer

        def section(begun):
            with engine.exclusive():
                begun.set()

        def filled(cpu, event):
            if translating and not began:
                begun = threading.Event()
                sections.append(threading.Thread(target=section, args=(begun,)))
                sections[0].start()
                began.append(begun.wait(0.3))

        engine.miss = translate
        engine.observer.hooks.add_fill(filled)
        one.start()
        assert one.wait(LIMIT) == 0
        sections[0].join(LIMIT)
    assert began == [False]


def test_hooks_on_a_paused_and_on_a_stopped_machine(mode):
    seen = []
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        one.pause()
        hook = one.add_block_hook(lambda cpu, pc: seen.append(cpu.index))
        assert not seen
        one.resume()
        until(lambda: set(seen) == {0, 1})
        one.stop()
        hook.remove()
        one.add_block_hook(lambda *_: None).remove()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blocks", print), "unknown kind of hook 'blocks'; did you mean block?"),
        (("memory", print), "a memory hook needs the first address"),
        (("memory", print, 0, MAX_WATCHED_PAGES * 8192), "pages of 4096 bytes are possible"),
        (("block", print, 8, 8), "go from low to high"),
    ],
)
def test_refused_hooks(arguments, message):
    with machine("hello", "single", 1) as one, pytest.raises(UsageError, match=message):
        one.hook(*arguments)


def test_pages_of_all_memory_hooks_count_together():
    with machine("hello", "single", 1) as one:
        one.add_memory_hook(print, 0, MAX_WATCHED_PAGES * 4096)
        with pytest.raises(UsageError, match=f"memory hooks on {MAX_WATCHED_PAGES + 1} pages"):
            one.add_memory_hook(print, 0x7000_0000, 0x7000_0001)


def test_a_machine_without_hooks_has_nothing_in_its_way(mode):
    with machine("hello", mode, 1) as one:
        one.start()
        one.wait(LIMIT)
        assert one.engine.block_hooks == one.engine.watch_hooks == ()
        assert one.engine.translator.listeners == ()
        assert one.stats()["cpus"][0]["count_chain"] > 10


def test_block_hook_does_not_change_a_counted_history():
    histories = []
    for hooked in (False, True):
        calls = []
        with Machine("virt", kernel=GUESTS / "hello.elf", icount="shift=2") as one:
            if hooked:
                one.add_block_hook(lambda cpu, pc, calls=calls: calls.append(pc))
            one.start()
            one.wait(LIMIT)
            histories.append((one.stats()["cpus"][0]["count_instructions"], one.engine.clock_ns(), one.console.text))
        assert bool(calls) == hooked
    assert histories[0] == histories[1]
    assert histories[0][0] > 1000


@pytest.mark.parametrize("kind", ["block", "memory", "exception"])
def test_errors_of_many_vcpus_are_one(mode, kind):
    """Every vCPU's hook fails at the same time: the first error comes out, and the machine ends."""

    def fail(cpu, *_):
        raise LookupError(f"vCPU {cpu.index}")

    counts = symbol("counts", "endless-count")
    one = machine("stray-pc" if kind == "exception" else "endless-count", mode, 4)
    one.start()
    until(lambda: all(cpu["count_lookup"] > 10 for cpu in one.stats()["cpus"]))
    one.hook(kind, fail, counts, counts + 0x100) if kind == "memory" else one.hook(kind, fail)
    with pytest.raises(LookupError, match="vCPU"):
        one.wait(LIMIT)
    one.close()


def test_hooks_from_a_timer_and_under_the_big_lock(mode):
    """Neither waits for vCPUs, which may wait for the lock."""
    seen, late = [], []
    with machine("endless-count", mode) as one:
        hooks = []

        def expired():
            hooks.append(one.add_block_hook(lambda cpu, pc: seen.append(cpu.index)))

        one.start()
        one.console.expect("ready", timeout=LIMIT)
        one.engine.timer(expired).set(one.engine.clock_ns() + 1_000_000)
        until(lambda: set(seen) == {0, 1})
        with one.engine.big_lock, one.engine.big_lock:
            hooks[0].remove()
            hook = one.add_block_hook(lambda cpu, pc: late.append(cpu.index))
        until(lambda: set(late) == {0, 1})
        hook.remove()
        del seen[:], late[:]
        loop_on(one, 1000)
        assert not seen
        assert not late
