# SPDX-License-Identifier: Apache-2.0
"""An engine's counters as text, for `-d stats` and the monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from raddle.sizes import size_text

__all__ = ["breakdown", "cpus", "report"]

Stats = Mapping[str, Any]

COUNTERS: Final = (
    ("block look-ups", "count_lookup"),
    ("  not found", "count_miss"),
    ("chains", "count_chain"),
    ("memory slow paths", "count_slow"),
    ("TLB fills", "count_fill"),
    ("TLB flushes", "count_flush"),
    ("  asked for by others", "tlb_records"),
    ("TLB barriers that waited", "tlb_syncs"),
    ("  for a vCPU without a core", "tlb_sync_sleeps"),
    ("  left a core to such a one", "tlb_give_ways"),
    ("I/O accesses", "count_mmio"),
    ("exceptions, interrupts", "count_exception"),
    ("calls into Python", "count_python"),
    ("stores to code pages", "notdirty"),
    ("sleeps", "sleeps"),
    ("  wakes from them", "wakes"),
    ("  runs by the timers' thread", "loans"),
    ("cores left by what spins", "spin_yields"),
    ("instructions (icount)", "count_instructions"),
)
"""A vCPU's counters: the label, and the counter's name."""

MOST_FREQUENT: Final = 10
LEFT, COLUMN = 30, 18


def report(stats: Stats) -> str:
    """The whole report on a result of `Engine.stats`, without a newline at the end."""
    return "\n".join(
        [*_translation(stats), "", *_counters(stats), "", *_times(stats), "", *_python(stats), "", *_locks(stats)]
    )


def cpus(infos: Iterable[Mapping[str, Any]]) -> str:
    """Results of `VCpu.info`, a line for each vCPU."""
    rows = [["CPU", "thread", "state", "pc", "exceptions", "look-ups", "TLB fills", "I/O", "Python"]]
    for info in infos:
        counts = [str(info[f"count_{name}"]) for name in ("exception", "lookup", "fill", "mmio", "python")]
        rows.append([str(info["index"]), str(info["thread"] or "-"), info["state"], f"{info['pc']:#x}", *counts])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(name: str, *cells: str) -> str:
    return f"{name:<{LEFT}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells).rstrip()


def _number(value: float) -> str:
    return f"{value:,}".replace(",", " ")


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _seconds(ns: float, whole: float) -> str:
    return f"{ns / 1e9:.3f} s {_share(ns, whole):>7}"


def _translation(stats: Stats) -> list[str]:
    made, instructions = stats["installs"], stats["instructions"]  # since the start, flushed ones included
    tried = made + stats["installs_raced"] + stats["installs_equal"]
    per_block = stats["translate_ns"] / made / 1000 if made else 0
    lines = [
        "Translation",
        _row("blocks", _number(stats["blocks"])),
        _row("instructions", _number(instructions)),
        _row("  a block", f"{instructions / made:.1f}" if made else "-"),
        _row("blocks made without Python", _share(sum(cpu["joins"] for cpu in stats["cpus"]), tried)),
        _row("barriers left out", _summed(stats, "barriers_left_out"), "of " + _summed(stats, "barriers")),
        # They are made and counted again after the memo was emptied.
        _row("words translated", _number(stats["words"])),
        _row("  for an instruction", _ratio(stats["words"], instructions)),
        _row("templates made", _number(stats["templates"])),
        _row("  for a word", _ratio(stats["templates"], stats["words"])),
    ]
    if "compiled" in stats:
        lines.append(_row("  compiled, not derived", _number(stats["compiled"])))
    if "memo_bytes" in stats:
        lines += [
            _row("memo", f"{_number(stats['memo_bytes'])} bytes", "of " + size_text(stats["memo_size"])),
            _row("  in Python, about", f"{_number(stats['memo_python_bytes'])} bytes"),
            _row("  emptied", _number(stats["memo_emptied"])),
        ]
    return [
        *lines,
        _row("Python CPU time", f"{stats['translate_ns'] / 1e9:.3f} s"),
        _row("  a block", f"{per_block:.1f} us"),
        _row("host code", f"{_number(stats['code_bytes'])} bytes"),
        _row("  records of it", f"{_number(stats['record_bytes'])} bytes"),
        _row("installed", _number(stats["installs"])),
        _row("  lost a race", _number(stats["installs_raced"])),
        _row("  another had made it", _number(stats["installs_equal"])),
        _row("blocks invalidated", _number(stats["invalidated"])),
        _row("code buffer flushed", _number(stats["flushes"])),
    ]


def _summed(stats: Stats, name: str) -> str:
    return _number(sum(cpu[name] for cpu in stats["cpus"]))


def _with_total(values: Sequence[float], show: Callable[[float], str] = _number) -> list[str]:
    shown = [show(value) for value in values]
    return [*shown, show(sum(values))] if len(values) > 1 else shown


def _counters(stats: Stats) -> list[str]:
    all_cpus = stats["cpus"]
    names = [f"vCPU {cpu['index']}" for cpu in all_cpus]
    lines = [_row("Counters", *names, *(["total"] if len(names) > 1 else []))]
    for name, key in COUNTERS:
        values = [cpu[key] for cpu in all_cpus]
        if any(values) or key != "count_instructions":
            lines.append(_row(name, *_with_total(values)))
    lines.append(_row("timers fired", _number(stats["timers_fired"])))
    hashes = [cpu["trace_hash"] for cpu in all_cpus]
    if any(hashes):  # with instruction counting; equal in equal runs
        lines.append(_row("execution hash", *(f"{value:016x}" for value in hashes)))
    return lines


# --- time -------------------------------------------------------------------------------------------------------


def _spent(stats: Stats, kinds: Sequence[str], column: str, of: Sequence[int]) -> int:
    return sum(path[column][cpu] for path in stats["paths"] if path["kind"] in kinds for cpu in of)


def breakdown(stats: Stats, thread: Mapping[str, Any]) -> dict[str, int]:
    """A thread's wall time by what it did, in nanoseconds; see raddle.debug.profile for how each is known."""
    own = [stats["cpus"][index] for index in thread["cpus"]]

    def total(name: str) -> int:
        return sum(int(cpu[name]) for cpu in own)

    translation = _spent(stats, ["translation"], "cpu_ns", thread["cpus"])
    python = _spent(stats, ["MMIO", "helper"], "cpu_ns", thread["cpus"])
    execution = thread["cpu_ns"] - translation - python
    sync = min(total("tlb_sync_ns"), max(0, execution))
    joining = min(total("join_ns"), max(0, execution - sync))
    result = {
        "execution": max(0, execution - sync - joining),
        "translation, in Python": translation,
        "translation, from the memo": joining,
        "Python devices, helpers": python,
        "TLB synchronisation": sync,
        "sleeping (halted, off)": total("sleep_ns"),
        "no work, or paused": thread["idle_ns"],
        "waiting: TLB barriers": total("tlb_sync_sleep_ns") + total("tlb_give_way_ns"),
        "waiting: big lock": total("big_lock_wait_ns"),
    }
    result["waiting: GIL, a core"] = max(0, thread["wall_ns"] - sum(result.values()))
    return result


def _waits(stats: Stats, thread: Mapping[str, Any]) -> dict[str, int | None]:
    """A thread's waits for the GIL and for a core, in nanoseconds; None if unknown."""
    measured = bool(stats["paths"])
    callbacks = sum(stats["cpus"][cpu]["python_ns"] for cpu in thread["cpus"])
    inside = {column: _spent(stats, ["MMIO", "helper"], column, thread["cpus"]) for column in ("wall_ns", "cpu_ns")}
    translation = {column: _spent(stats, ["translation"], column, thread["cpus"]) for column in ("wall_ns", "cpu_ns")}
    return {
        # From the runtime's call until the Python function begins, and from its end until the runtime goes on.
        "  into and out of callbacks": max(0, callbacks - inside["wall_ns"]) if measured else None,
        "  within callbacks": inside["wall_ns"] - inside["cpu_ns"] if measured else None,
        "  within translation": translation["wall_ns"] - translation["cpu_ns"] if measured else None,
        # A thread that is woken waits for a core, which its sleep includes.
        "  no core free, at most": thread["delay_ns"],
    }


def _times(stats: Stats) -> list[str]:
    threads = sorted(stats["threads"], key=lambda thread: thread["cpus"])
    if not threads:
        return ["Time: no vCPU has run"]
    names = [f"vCPU {thread['cpus'][0]}" if len(thread["cpus"]) == 1 else "all vCPUs" for thread in threads]
    parts = [breakdown(stats, thread) for thread in threads]
    walls = [thread["wall_ns"] for thread in threads]
    several = len(threads) > 1
    lines = [
        _row("Time of threads", *names, *(["total"] if several else [])),
        _row("wall", *(f"{wall / 1e9:.3f} s" for wall in (*walls, *([sum(walls)] if several else [])))),
    ]
    for name in parts[0]:
        values = [part[name] for part in parts]
        cells = [_seconds(value, wall) for value, wall in zip(values, walls, strict=True)]
        lines.append(_row(name, *cells, *([_seconds(sum(values), sum(walls))] if several else [])))
    waits = [_waits(stats, thread) for thread in threads]
    for name in waits[0]:
        known = [wait[name] for wait in waits]
        values = [value for value in known if value is not None]
        if len(values) == len(known):
            cells = [_seconds(value, wall) for value, wall in zip(values, walls, strict=True)]
            lines.append(_row(name, *cells, *([_seconds(sum(values), sum(walls))] if several else [])))
    lines.append("GIL, a core: what is left of the wall time, with waits for exclusive sections.")
    if not stats["paths"]:
        lines.append("Translation and Python are in `execution`: -d stats measures them apart.")
    return lines


def _python(stats: Stats) -> list[str]:
    paths = [path for path in stats["paths"] if sum(path["calls"])]
    if not paths:
        return ["Python paths: counted with -d stats"]

    def row(name: str, path: Mapping[str, Any]) -> str:
        calls, wall, cpu = (sum(path[column]) for column in ("calls", "wall_ns", "cpu_ns"))
        cells = (_number(calls), f"{wall / 1e9:.3f} s", f"{cpu / 1e9:.3f} s", f"{wall / calls / 1000:.1f} us")
        return _row(name, *cells)

    paths.sort(key=lambda path: -sum(path["calls"]))
    lines = [_row("Python paths, most frequent", "calls", "time", "CPU time", "a call")]
    lines += [row(f"{path['kind']} {path['name']}", path) for path in paths[:MOST_FREQUENT]]
    devices = [path for path in paths if path["kind"] == "MMIO"]
    accesses = sum(cpu["count_mmio"] for cpu in stats["cpus"])
    lines += ["", _row("I/O accesses by device", "in Python")]
    lines += [_row(path["name"], _number(sum(path["calls"]))) for path in devices]
    lines.append(_row("all devices, in native code", _number(accesses - sum(sum(path["calls"]) for path in devices))))
    return lines


def _locks(stats: Stats) -> list[str]:
    return [
        _row("Waiting", "times", "seconds"),
        _row("big lock, all threads", _number(stats["big_lock_waits"]), f"{stats['big_lock_wait_ns'] / 1e9:.3f}"),
        _row(
            "exclusive sections, to begin",
            _number(stats["exclusive_sections"]),
            f"{stats['exclusive_wait_ns'] / 1e9:.3f}",
        ),
    ]
