# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from raddle.ir.interpreter import Leave
from raddle.translate.frontend import FAULT_ALIGNMENT, FAULT_BUS
from raddle_target_arm import exceptions
from raddle_target_arm.exceptions import CPSR_ALL
from raddle_target_arm.state import MODE_E, MODE_IT_SHIFT, MODE_PRIVILEGED, MODE_T, STATE

USR, FIQ, IRQ, SVC, ABT, UND, SYS = 0x10, 0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F
MODES = {"usr": USR, "fiq": FIQ, "irq": IRQ, "svc": SVC, "abt": ABT, "und": UND, "sys": SYS}
A, I, F = 0x100, 0x80, 0x40


def cpsr(system: Any) -> int:
    """The whole CPSR, put together here from the state's parts."""
    flags = sum(system[name] << bit for name, bit in (("nf", 31), ("zf", 30), ("cf", 29), ("vf", 28), ("qf", 27)))
    mode = system["mode"]
    it = mode >> MODE_IT_SHIFT & 0xFF
    execution = (it & 3) << 25 | it >> 2 << 10 | bool(mode & MODE_T) << 5 | bool(mode & MODE_E) << 9
    return flags | system["ge"] << 16 | system["masks"] | system["cpsr_m"] | execution


def go(system: Any, value: int) -> None:
    system.call("cpsr_write", value, CPSR_ALL)


def test_reset_is_supervisor_mode_with_interrupts_masked(system: Any) -> None:
    assert cpsr(system) == SVC | A | I | F
    assert system["mode"] == MODE_PRIVILEGED


def test_every_mode_has_its_own_sp_and_lr_and_fiq_its_own_r8_to_r12(system: Any) -> None:
    for number, mode in enumerate(MODES.values()):
        go(system, mode)
        system.update(sp=0x100 + number, lr=0x200 + number)
        for register in range(8, 13):
            system[f"r{register}"] = register << 8 | (1 if mode == FIQ else 0)
    for number, (name, mode) in reversed(list(enumerate(MODES.items()))):
        # User mode sees what System mode, which came later, has left; a User mode program cannot get out of it
        go(system, SYS if name == "usr" else mode)
        if system["cpsr_m"] == USR:
            continue
        number = 6 if name in ("usr", "sys") else number
        assert (system["sp"], system["lr"]) == (0x100 + number, 0x200 + number), name
        assert all(system[f"r{r}"] == r << 8 | (1 if mode == FIQ else 0) for r in range(8, 13)), name


@pytest.mark.parametrize("value", [0x8800_0010, 0xF80F_03D1, 0x0600_FC3F, 0x4005_0213])
def test_cpsr_write_sets_every_part(system: Any, value: int) -> None:
    go(system, value)
    assert cpsr(system) == value
    assert bool(system["mode"] & MODE_PRIVILEGED) == (value & 0x1F != USR)


def test_cpsr_write_in_user_mode_leaves_the_privileged_bits(system: Any) -> None:
    go(system, USR)
    go(system, 0xF80F_03DF)
    assert cpsr(system) == 0xF80F_0200 | USR


def test_cpsr_write_of_a_mode_that_does_not_exist_leaves_the_mode(system: Any) -> None:
    go(system, 0x8000_0016)
    assert cpsr(system) == 0x8000_0000 | SVC


def test_cpsr_write_obeys_its_mask(system: Any) -> None:
    go(system, 0x2000_0000 | SVC | I)
    system.call("cpsr_write", 0xD000_001F | F, 0xF000_0000)
    assert cpsr(system) == 0xD000_0000 | SVC | I


def test_mrs_hides_the_execution_state(system: Any) -> None:
    go(system, 0xF80F_0200 | SVC | A | 0x20 | 0x0600_FC00)
    assert system.value(exceptions.read_cpsr) == 0xF80F_0200 | SVC | A


ENTRIES = [
    ("undefined", UND, 0x04, I),
    ("svc", SVC, 0x08, I),
    ("breakpoint", ABT, 0x0C, A | I),
]


@pytest.mark.parametrize(("name", "mode", "vector", "masks"), ENTRIES)
def test_entry(system: Any, name: str, mode: int, vector: int, masks: int) -> None:
    go(system, 0xA805_0000 | USR | 0x20)
    system["vbar"] = 0x8000_0040
    system["sp"] = 0x1234
    system.call(name, 0x4000, 0b1010_0101)
    assert cpsr(system) == 0xA805_0000 | mode | masks
    assert system["lr"] == 0x4000
    assert system["spsr_" + {UND: "und", SVC: "svc", ABT: "abt"}[mode]] == 0xA805_0030 | 0b01 << 25 | 0b101001 << 10
    assert system["pc"] == 0x8000_0040 + vector
    assert (system["sp_usr"], system["sp"]) == (0x1234, 0)


def test_entry_obeys_sctlr(system: Any) -> None:
    system["sctlr"] |= 1 << 13 | 1 << 25 | 1 << 30
    system["vbar"] = 0x8000_0000
    system.call("svc", 4, 0)
    assert system["pc"] == 0xFFFF_0008
    assert system["mode"] == MODE_PRIVILEGED | MODE_T | MODE_E


def test_entry_ends_the_reservation(system: Any) -> None:
    system["exclusive_address"] = 0x1000
    system.call("svc", 4, 0)
    assert system["exclusive_address"] == (1 << 64) - 1


@pytest.mark.parametrize(
    ("pending", "masks", "mode"),
    [
        (0, 0, USR),
        (1, 0, IRQ),
        (2, 0, FIQ),
        (3, 0, FIQ),
        (3, F, IRQ),
        (3, I, FIQ),
        (1, I, USR),
        (2, F, USR),
        (3, I | F, USR),
    ],
)
def test_interrupts(system: Any, pending: int, masks: int, mode: int) -> None:
    go(system, USR | masks | 0x20 | 0b11 << 25 | 0b100100 << 10)
    before = cpsr(system)
    system["pc"] = 0x5000
    taken = system.call("interrupt", pending)
    assert taken == (mode != USR)
    assert system["cpsr_m"] == mode
    if taken:
        assert system["lr"] == 0x5004
        assert system["spsr_irq" if mode == IRQ else "spsr_fiq"] == before
        assert system["pc"] == (0x18 if mode == IRQ else 0x1C)
        assert system["masks"] == masks | A | I | (F if mode == FIQ else 0)
        assert system["mode"] == MODE_PRIVILEGED


def test_fiq_exchanges_the_high_registers(system: Any) -> None:
    go(system, SYS)
    for n in range(8, 13):
        system.update(**{f"r{n}": n, f"r{n}_fiq": 0x100 + n})
    system.call("interrupt", 2)
    assert [system[f"r{n}"] for n in range(8, 13)] == [0x108, 0x109, 0x10A, 0x10B, 0x10C]
    go(system, SYS)
    assert [system[f"r{n}"] for n in range(8, 13)] == [8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    ("access", "code", "long", "status"),
    [
        (0, 0x7, False, 0x007),
        (1, 0x7B, False, 0x87B),
        (1, FAULT_ALIGNMENT, False, 0x801),
        (0, FAULT_BUS, False, 0x008),
        (0, FAULT_ALIGNMENT, True, 0x221),
        (1, FAULT_BUS, True, 0xA10),
        (1, 0x20F, True, 0xA0F),
    ],
)
def test_data_fault(system: Any, access: int, code: int, long: bool, status: int) -> None:
    go(system, USR | 0x20)
    system.update(pc=0x6000, insn_extra=0x84, ttbcr=0x8000_0000 if long else 0, ifsr=0x55)
    system.call("fault", 0xDEAD_BEEF, access | 1 << 8, code)
    assert (system["dfsr"], system["dfar"], system["ifsr"]) == (status, 0xDEAD_BEEF, 0x55)
    assert (system["lr"], system["pc"], system["cpsr_m"], system["masks"]) == (0x6008, 0x10, ABT, A | I)
    assert system["spsr_abt"] == USR | 0x20 | 0x21 << 10


@pytest.mark.parametrize(("code", "long", "status"), [(0x7B, False, 0x7B), (FAULT_BUS, False, 8), (0x207, True, 0x207)])
def test_prefetch_fault(system: Any, code: int, long: bool, status: int) -> None:
    go(system, USR | 0x20 | 0x21 << 10)
    system.update(pc=0x6FFE, ttbcr=0x8000_0000 if long else 0, dfsr=0x55)
    system.call("fault", 0x7000, 2, code)
    assert (system["ifsr"], system["ifar"], system["dfsr"]) == (status, 0x7000, 0x55)
    assert (system["lr"], system["pc"], system["cpsr_m"]) == (0x7002, 0xC, ABT)
    assert system["spsr_abt"] == USR | 0x20 | 0x21 << 10


def test_breakpoint_status(system: Any) -> None:
    system.call("breakpoint", 0, 0)
    assert system["ifsr"] == 2
    system["ttbcr"] = 0x8000_0000
    system.call("breakpoint", 0, 0)
    assert system["ifsr"] == 0x222


@pytest.mark.parametrize(("spsr", "target"), [(USR, 0x4000), (SVC | 0x20, 0x4002)])
def test_exception_return(system: Any, spsr: int, target: int) -> None:
    system["lr"] = 0x4003
    outcome = system.emit(
        lambda b: exceptions.exception_return(b, b.get(STATE.fields["lr"]), b.const(spsr | 0x6000_0000))
    )
    assert outcome.how is Leave.EXIT
    assert (system["pc"], cpsr(system), system["event"]) == (target, spsr | 0x6000_0000, 1)


def test_exception_return_into_an_it_block(system: Any) -> None:
    system.emit(lambda b: exceptions.exception_return(b, b.const(0x4002), b.const(USR | 0x20 | 0x0600_8000)))
    assert system["mode"] == MODE_T | 0b1000_0011 << MODE_IT_SHIFT


@pytest.mark.parametrize(("thumb", "lr"), [(False, 0x1004), (True, 0x1002)])
def test_undefined_instruction(system: Any, thumb: bool, lr: int) -> None:
    mode = MODE_PRIVILEGED | (MODE_T if thumb else 0)
    outcome = system.emit(lambda b: exceptions.take_undefined(b, 0, mode), pc=0x1000)
    assert (outcome.how, outcome.value) == (Leave.GOTO_INDIRECT, 4)
    assert system["lr"] == lr


def test_svc_and_bkpt(system: Any) -> None:
    assert system.emit(lambda b: exceptions.take_svc(b, 2, 0), pc=0x1000).value == 8
    assert system["lr"] == 0x1002
    assert system.emit(lambda b: exceptions.take_breakpoint(b, 0), pc=0x1000).value == 0xC
    assert system["lr"] == 0x1004


def test_firmware_call_is_undefined_in_user_mode(system: Any) -> None:
    outcome = system.emit(lambda b: exceptions.call_firmware(b, 4, 0, 0, MODE_PRIVILEGED), pc=0x1000)
    assert (outcome.how, system["pc"]) == (Leave.EXIT, 0x1004)
    assert [call[0] for call in system.calls] == ["big_lock", "psci", "big_unlock"]
    assert system.emit(lambda b: exceptions.call_firmware(b, 4, 0, 0, 0), pc=0x1000).value == 4


@pytest.mark.parametrize("mode", [FIQ, IRQ, SYS, USR])
def test_user_registers_from_every_mode(system: Any, mode: int) -> None:
    go(system, mode)
    fields = [f"r{n}" for n in range(13)] + ["sp", "lr"]
    for n, name in enumerate(fields):
        system[name] = 0x100 + n
        if mode == FIQ and 8 <= n <= 12:
            system[f"{name}_usr"] = 0x200 + n
        if mode in (FIQ, IRQ) and n > 12:
            system[f"{name}_usr"] = 0x200 + n
    for n, name in enumerate(fields):
        banked = (mode == FIQ and 8 <= n <= 12) or (mode in (FIQ, IRQ) and n > 12)
        assert system.value(lambda b, n=n: exceptions.read_user_register(b, n)) == (0x200 if banked else 0x100) + n
        system.emit(lambda b, n=n: exceptions.write_user_register(b, n, b.const(0x300 + n)))
        assert system[f"{name}_usr" if banked else name] == 0x300 + n
        if banked:
            assert system[name] == 0x100 + n


def test_banked_stack_pointers_for_srs(system: Any) -> None:
    system.update(sp=1, sp_und=2)
    assert system.value(lambda b: exceptions.read_banked_sp(b, SVC)) == 1
    assert system.value(lambda b: exceptions.read_banked_sp(b, UND)) == 2
    system.emit(lambda b: exceptions.write_banked_sp(b, SVC, b.const(3)))
    system.emit(lambda b: exceptions.write_banked_sp(b, UND, b.const(4)))
    assert (system["sp"], system["sp_und"]) == (3, 4)


def test_spsr(system: Any) -> None:
    system["spsr_svc"] = 0x1234_5678
    assert system.value(exceptions.read_spsr) == 0x1234_5678
    system.emit(lambda b: exceptions.write_spsr(b, b.const(0xFFFF_FFFF), 0xFF00_0000))
    assert system["spsr_svc"] == 0xFF34_5678
