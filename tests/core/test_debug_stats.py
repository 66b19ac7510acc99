# SPDX-License-Identifier: Apache-2.0
"""Counters: that the categories of time add up, and what `-d stats`, `info stats` and `info cpus` say."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("raddle_target_arm")

from elftools.elf.elffile import ELFFile

from raddle.cli.monitor import Monitor
from raddle.debug import report
from raddle.machine.machine import Machine
from raddle.threads.clock import ThreadClock

GUESTS = Path(__file__).resolve().parents[1] / "guests/arm/prebuilt"
LIMIT = 240


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.001)


@pytest.fixture(params=["multi", "single"])
def mode(request):
    return request.param


def machine(guest, mode="multi", cpus=2, **options):
    return Machine("virt", cpus=cpus, kernel=GUESTS / f"{guest}.elf", accelerator=f"tcg,thread={mode}", **options)


def finished(guest, mode, cpus=2, **options):
    with machine(guest, mode, cpus, **options) as one:
        one.profile()
        one.start()
        one.wait(LIMIT)
        return one.stats()


def test_paths_count_what_the_runtime_counts(mode):
    stats = finished("hello", mode, 1)
    paths = {(path["kind"], path["name"]): path for path in stats["paths"]}
    uart = paths["MMIO", "pl011"]
    assert uart["calls"][0] > 1
    assert (
        sum(path["calls"][0] for (kind, _), path in paths.items() if kind in ("MMIO", "helper"))
        == (stats["cpus"][0]["count_python"])
    )
    assert paths["translation", "blocks"]["calls"][0] == stats["translate_misses"]
    assert stats["translate_misses"] + sum(cpu["joins"] for cpu in stats["cpus"]) >= stats["installs"]
    for path in stats["paths"]:
        for wall, cpu in zip(path["wall_ns"], path["cpu_ns"], strict=True):
            assert 0 <= cpu <= wall + 100_000


def test_categories_add_up_to_wall_time(mode):
    stats = finished("spinlock", mode)
    assert len(stats["threads"]) == (2 if mode == "multi" else 1)
    parts = [report.breakdown(stats, thread) for thread in stats["threads"]]
    for part, thread in zip(parts, stats["threads"], strict=True):
        assert all(value >= 0 for value in part.values())
        assert sum(part.values()) == pytest.approx(thread["wall_ns"], rel=0.05, abs=20e6)
    # Which vCPU translates what all run depends on who comes first.
    assert sum(part["execution"] for part in parts) > 0
    assert sum(part["translation, in Python"] for part in parts) > 0


def asleep(stats):
    """Each thread's sleep as a part of its time."""
    parts = [report.breakdown(stats, thread) for thread in stats["threads"]]
    times = [part["sleeping (halted, off)"] + part["no work, or paused"] for part in parts]
    return [time / thread["wall_ns"] for time, thread in zip(times, stats["threads"], strict=True)]


def test_sleeping_vcpus_sleep(mode):
    with machine("endless-sleep", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        deadline = time.monotonic() + LIMIT
        while min(asleep(one.stats())) < 0.7:
            assert time.monotonic() < deadline, asleep(one.stats())
            time.sleep(0.1)
            one.pause()  # wakes them: a sleep counts when it is over
            one.resume()


def test_paused_time_is_no_wait_for_the_gil(mode):
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        one.pause()
        time.sleep(0.5)
        one.resume()
        one.stop()
        stats = one.stats()
    for thread in stats["threads"]:
        assert report.breakdown(stats, thread)["no work, or paused"] > 0.4e9


def test_report(mode):
    text = report.report(finished("spinlock", mode))
    for line in (
        r"  within translation( +\d+\.\d{3} s +\d+\.\d %)+",
        r"blocks +\d+",
        r"blocks made without Python +\d+\.\d %",
        r"barriers left out +[\d ]+ of [\d ]+",
        r"  for an instruction +\d+\.\d{3}",
        r"  for a word +\d+\.\d{3}",
        r"  a block +\d+\.\d us",
        r"host code +[\d ]+ bytes",
        r"block look-ups( +[\d ]+){3}",
        r"TLB fills( +[\d ]+){3}",
        r"TLB barriers that waited( +[\d ]+){3}",
        r"  for a vCPU without a core( +[\d ]+){3}",
        r"  left a core to such a one( +[\d ]+){3}",
        r"cores left by what spins( +[\d ]+){3}",
        r"waiting: TLB barriers( +\d+\.\d{3} s +\d+\.\d %)+",
        r"execution( +\d+\.\d{3} s +\d+\.\d %)+",
        r"waiting: GIL, a core( +\d+\.\d{3} s +\d+\.\d %)+",
        r"MMIO pl011 +\d+ +\d\.\d{3} s +\d\.\d{3} s +\d+\.\d us",
        r"all devices, in native code +\d+",
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), f"{line}\n{text}"
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_report_of_a_machine_that_was_not_profiled_or_did_not_run():
    with machine("hello", cpus=1) as one:
        assert "no vCPU has run" in report.report(one.stats())
        one.start()
        one.wait(LIMIT)
        text = report.report(one.stats())
    assert "counted with -d stats" in text
    assert re.search(r"^block look-ups +\d+$", text, re.MULTILINE)


def test_report_with_instruction_counting():
    stats = finished("hello", "single", 1, icount="shift=2")
    text = report.report(stats)
    assert re.search(r"^instructions \(icount\) +[\d ]+$", text, re.MULTILINE)
    assert re.search(r"^execution hash +[\da-f]{16}$", text, re.MULTILINE)


def test_timers_have_a_stopwatch():
    with machine("endless-count", cpus=1) as one:
        ticks = []
        early = one.engine.timer(lambda: ticks.append(1))
        one.profile()
        late = one.engine.timer(lambda: ticks.append(2))
        early.set(1_000_000)
        late.set(2_000_000)
        one.start()
        deadline = time.monotonic() + LIMIT
        while len(ticks) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        paths = [path for path in one.stats()["paths"] if path["kind"] == "timer"]
    assert sum(sum(path["calls"]) for path in paths) >= 2


def test_info_cpus_tells_where_a_running_vcpu_is(mode):
    with (GUESTS / "endless-count.elf").open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        counts = symbols.get_symbol_by_name("counts")[0]["st_value"]
    with machine("endless-count", mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        monitor = Monitor(one, lambda text: None, lambda: None)
        lines = monitor.execute("info cpus").splitlines()
        assert lines[0].split()[:4] == ["CPU", "thread", "state", "pc"]
        assert len(lines) == 3
        for index, line in enumerate(lines[1:]):
            number, thread, state, pc, *counters = line.split()
            assert int(number) == index
            assert int(thread) > 0
            assert state == "running"
            assert 0x4010_0000 < int(pc, 16) < 0x4010_4000 < counts
            assert len(counters) == 5
        assert "Time of threads" in monitor.execute("info stats")
        one.pause()
        assert len(monitor.execute("info cpus").splitlines()) == 3


def test_info_cpus_of_vcpus_that_are_off():
    with machine("hello") as one:
        one.start()
        one.wait(LIMIT)
        lines = report.cpus(cpu.info() for cpu in one.cpus).splitlines()
    assert lines[2].split()[:4] == ["1", "-", "off", "0x0"]


def largest_code_mapping(mebibytes):
    """Bytes, while a machine has a code buffer of that size."""
    with Machine("virt", kernel=GUESTS / "hello.elf", accelerator=f"tcg,tb-size={mebibytes}") as one:
        one.start()
        one.wait(LIMIT)
        assert "PASS hello" in one.console.text
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "raddle-code" in line]
    ends = [re.split("[- ]", line)[:2] for line in lines]
    return max(int(end, 16) - int(start, 16) for start, end in ends)


def test_the_code_buffer_has_the_size_that_was_asked_for():
    assert largest_code_mapping(3) - largest_code_mapping(1) == 2 << 20


def test_the_clock_of_a_thread_that_has_ended_is_not_asked_for(monkeypatch):
    """Asking for it is undefined, a fault sooner or later; whoever reads may have seen the thread alive just before."""
    asked = []
    ask = time.pthread_getcpuclockid
    monkeypatch.setattr(time, "pthread_getcpuclockid", lambda ident: asked.append(threading.get_ident()) or ask(ident))
    clocks = []
    thread = threading.Thread(target=lambda: clocks.append(ThreadClock([0])))
    thread.start()
    ident = thread.ident
    thread.join(LIMIT)
    (clock,) = clocks
    clock.native_id = -1  # the kernel tells nothing of it any more, for sure
    until(lambda: clock._host_times() == (0, None))  # a thread's end comes a moment after `join`
    assert asked == [ident]


def test_a_thread_that_ends_while_its_clock_is_read(monkeypatch):
    """The reader finds no times, and gives those that the thread has left."""
    clocks, read, go_on = [], threading.Event(), threading.Event()

    def run():
        clocks.append(ThreadClock([0]))
        read.wait(LIMIT)
        clocks[0].stop()
        go_on.set()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: clocks)
    clock = clocks[0]
    look = clock._host_times

    def late():
        if threading.current_thread() is thread:
            return look()
        read.set()
        assert go_on.wait(LIMIT)
        thread.join(LIMIT)
        return 0, None

    monkeypatch.setattr(clock, "_host_times", late)
    assert clock.read() is clock._final


def test_statistics_are_read_while_a_machine_stops():
    for _ in range(10):
        with machine("endless-loop", cpus=8) as one:
            one.start()
            begun, stopped = threading.Barrier(3), threading.Event()

            def ask(one=one, begun=begun, stopped=stopped):
                begun.wait(LIMIT)
                while not stopped.is_set():
                    assert all(thread["cpu_ns"] >= 0 for thread in one.stats()["threads"])

            with ThreadPoolExecutor(2) as pool:
                asking = [pool.submit(ask) for _ in range(2)]
                begun.wait(LIMIT)
                one.stop()
                stopped.set()
                for future in asking:
                    future.result(LIMIT)
