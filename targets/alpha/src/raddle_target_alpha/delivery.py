# SPDX-License-Identifier: Apache-2.0
"""How exceptions and interrupts reach the operating system: stack frames, entry points, priorities.

``ROUTINES`` has what the runtime calls (``fault``, ``interrupt``), and a routine for each entry point.
PALcode for OSF/1 does all this on real machines: Alpha Architecture Reference Manual, 4th edition, II-B 5 and 6.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Operand, Value, native, python
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.frontend import ACCESS_FETCH, FAULT_ALIGNMENT, FAULT_BUS, RoutineBuilder
from raddle_target_alpha import tsunami
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES, Entry
from raddle_target_alpha.mmu import FAULT, KSEG, NOT_TRANSLATED, PAGE_BITS, PAGE_SIZE, translate
from raddle_target_alpha.state import INDEX_KERNEL, PS, PS_IPL, PS_USER, R, update_mode
from raddle_target_alpha.system_state import ALARM, ALARM_TIMER, ENTRY_POINTS, KGP, KSP, USP, WHAMI

GP, SP = R[29], R[30]
ARGUMENTS: Final = R[16:19]

FRAME_BYTES: Final = 48
"""The stack frame: PS, PC, r29, r16, r17, r18 (II-B 5.1)."""

# a0 of entInt (II-B 5.2), and the priority level at which each interrupt runs
INTERRUPT_IPI, INTERRUPT_TIMER, INTERRUPT_ERROR, INTERRUPT_DEVICE = range(4)
IPL_DEVICE, IPL_TIMER, IPL_IPI, IPL_ERROR = 4, 5, 6, 7
VECTOR_TIMER, VECTOR_ERROR = 0x600, 0x660
VECTOR_ISA, VECTOR_PCI = 0x800, 0x900
"""The first of the system control block's vectors for the 8259s and for the chipset's own interrupts, 16 bytes each."""

LINES_BY_IPL: Final = tuple(
    (tsunami.LINE_DEVICE if ipl < IPL_DEVICE else 0)
    | (tsunami.LINE_TIMER | tsunami.LINE_ALARM if ipl < IPL_TIMER else 0)
    | (tsunami.LINE_IPI if ipl < IPL_IPI else 0)
    | (tsunami.LINE_ERROR if ipl < IPL_ERROR else 0)
    for ipl in range(PS_IPL + 1)
)
_LINES_TABLE: Final = sum(lines << 8 * ipl for ipl, lines in enumerate(LINES_BY_IPL))

LOGOUT: Final = 0x1000
"""Physical address of the area that describes machine checks, which the console reserves."""
KERNEL_STACK_INVALID: Final = 2
"""The reason of a halt (III 3.5)."""


def unmasked(b: Builder) -> Value:
    """The pending interrupt lines that the current priority level lets in, I32."""
    shift = b.shl(b.and_(b.get(PS), PS_IPL), 3)
    allowed = b.trunc(b.shr(b.const(_LINES_TABLE, Type.I64), shift), Type.I32)
    return b.and_(b.get(COMMON["interrupt_request"]), allowed)


def halt(b: Builder, reason: int) -> None:
    """Emit a halt of this CPU by the console; COMMON pc is where it stands."""
    b.call(native("big_lock"))
    b.call(python("halt", may_exit=False), b.const(reason, Type.I64))
    b.call(native("big_unlock"))


def _enter(b: Builder, entry: Entry, arguments: tuple[Operand, Operand, Operand], ipl: int | None = None) -> None:
    """Emit the entry of the exception, which saves COMMON pc, at a new priority level if one is given. ``arguments``
    are the handler's a0 to a2. Returns from the routine when there is no stack.
    """
    old = b.get(PS)
    user = b.ne(b.and_(old, PS_USER), 0)
    stack = b.sub(b.select(user, b.get(KSP), b.get(SP)), FRAME_BYTES)
    first, last = translate(b, stack), translate(b, b.add(stack, FRAME_BYTES - 8))
    with b.if_(b.or_(b.eq(first, NOT_TRANSLATED), b.eq(last, NOT_TRANSLATED))):
        halt(b, KERNEL_STACK_INVALID)
        b.ret()
    left = b.sub(PAGE_SIZE, b.extract(stack, 0, PAGE_BITS), Type.I64)
    saved = (b.zext(old, Type.I64), b.get(COMMON["pc"]), b.get(GP), *(b.get(register) for register in ARGUMENTS))
    for number, value in enumerate(saved):
        place = 8 * number
        in_first = b.icmp(Condition.ULT, b.const(place, Type.I64), left)
        address = b.select(in_first, b.add(first, place), b.sub(last, FRAME_BYTES - 8 - place))
        b.call(native("phys_store64"), address, value)
    with b.if_(user):
        b.set(USP, b.get(SP))
    b.set(SP, stack)
    b.set(GP, b.get(KGP))
    for register, argument in zip(ARGUMENTS, arguments, strict=True):
        b.set(register, argument)
    b.set(PS, b.and_(old, PS_IPL) if ipl is None else ipl)
    update_mode(b)
    b.set(COMMON["pc"], b.and_(b.get(ENTRY_POINTS.elements[entry]), ~3))
    b.clear_exclusive()


def _take(entry: Entry) -> RoutineBuilder:
    """Routine(a0, a1, a2): an instruction takes the exception; COMMON pc is what is saved."""

    def build(b: Builder) -> None:
        a0, a1, a2 = (b.get(COMMON[f"arg{n}"]) for n in range(3))
        b.call(native("exception"), b.get(COMMON["pc"]))
        _enter(b, entry, (a0, a1, a2))
        b.ret()

    return build


# -- faults ------------------------------------------------------------------------------------------------------------


def _fault(b: Builder) -> None:
    """Routine(address, access | mmu_index << 8, code): the fault of the instruction at pc."""
    address, how, code = (b.get(COMMON[f"arg{n}"]) for n in range(3))
    access, index = b.and_(how, 0xFF), b.extract(how, 8, 8)
    user = b.ne(b.and_(b.get(PS), PS_USER), 0)
    with b.if_(b.and_(user, b.eq(index, INDEX_KERNEL))):  # a system call stores to the kernel's stack
        halt(b, KERNEL_STACK_INVALID)
        b.ret()
    with b.if_(b.eq(code, FAULT_BUS)):
        _enter(b, Entry.INT, (INTERRUPT_ERROR, VECTOR_ERROR, LOGOUT | KSEG), IPL_ERROR)
        b.ret()
    with b.if_(b.eq(code, FAULT_ALIGNMENT)):
        pc = b.get(COMMON["pc"])
        word = b.call(native("phys_load32"), translate(b, pc), type=Type.I64)
        b.set(COMMON["pc"], b.add(pc, INSTRUCTION_BYTES))
        _enter(b, Entry.UNA, (address, b.extract(word, 26, 6), b.extract(word, 21, 5)))
        b.ret()
    cause = b.select(b.eq(access, ACCESS_FETCH), -1, access, Type.I64)
    _enter(b, Entry.MM, (address, b.sub(code, FAULT), cause))
    b.ret()


# -- interrupts --------------------------------------------------------------------------------------------------------


def _interrupt(b: Builder) -> None:
    """Routine(pending lines): enter the most urgent interrupt that the priority level lets in; 1 if there is one, else
    0. Tells the chipset what PALcode tells it.
    """
    b.get(COMMON["arg0"])
    lines = unmasked(b)
    cpu = b.get(WHAMI)

    def acknowledge(first: int) -> None:
        bit = b.shl(b.const(1 << first, Type.I64), b.trunc(cpu, Type.I32))
        b.call(native("phys_store64"), b.const(tsunami.CCHIP + tsunami.MISC, Type.I64), bit)

    def enter(a0: int, a1: Operand, ipl: int) -> None:
        _enter(b, Entry.INT, (a0, a1, 0), ipl)
        b.ret(b.const(1, Type.I64))

    def pending(line: int) -> Value:
        return b.ne(b.and_(lines, line), 0)

    with b.if_(pending(tsunami.LINE_ERROR)):
        enter(INTERRUPT_ERROR, VECTOR_ERROR, IPL_ERROR)
    with b.if_(pending(tsunami.LINE_IPI)):
        acknowledge(tsunami.MISC_IPI)
        enter(INTERRUPT_IPI, 0, IPL_IPI)
    with b.if_(pending(tsunami.LINE_TIMER | tsunami.LINE_ALARM)):
        with b.if_(pending(tsunami.LINE_TIMER)):
            acknowledge(tsunami.MISC_TIMER)
        with b.if_(pending(tsunami.LINE_ALARM)):
            b.set(ALARM, 0)
            lower_alarm(b)
        enter(INTERRUPT_TIMER, VECTOR_TIMER, IPL_TIMER)
    with b.if_(pending(tsunami.LINE_DEVICE)):
        register = b.const(0, Type.I64)
        for number, offset in enumerate(tsunami.DIR):
            register = b.select(b.eq(cpu, number), tsunami.CCHIP + offset, register)
        requests = b.call(native("phys_load64"), register, type=Type.I64)
        with b.if_(b.ne(requests, 0)):
            isa = b.ne(b.and_(requests, 1 << tsunami.ISA_INTERRUPT), 0)
            with b.if_(isa):
                cycle = b.const(tsunami.INTERRUPT_ACKNOWLEDGE, Type.I64)
                vector = b.and_(b.call(native("phys_load32"), cycle, type=Type.I64), 0xFF)
                enter(INTERRUPT_DEVICE, b.add(b.shl(vector, 4), VECTOR_ISA), IPL_DEVICE)
            highest = b.sub(63, b.clz(requests), Type.I64)
            enter(INTERRUPT_DEVICE, b.add(b.shl(highest, 4), VECTOR_PCI), IPL_DEVICE)
    b.ret(b.const(0, Type.I64))


# -- the alarm of each CPU ---------------------------------------------------------------------------------------------


def lower_alarm(b: Builder) -> None:
    """Emit what ends the alarm's interrupt."""
    b.call(native("interrupt_clear"), b.zext(b.get(COMMON["cpu_index"]), Type.I64), b.const(tsunami.LINE_ALARM))


def _alarm_expire(b: Builder) -> None:
    """Routine(timer): the alarm's time has come, unless a reset has forgotten it. Under the big lock, on the CPU's own
    thread.
    """
    b.get(COMMON["arg0"])
    with b.if_(b.ne(b.get(ALARM), 0)):
        b.call(native("interrupt_set"), b.zext(b.get(COMMON["cpu_index"]), Type.I64), b.const(tsunami.LINE_ALARM))
    b.ret()


def _alarm_set(b: Builder) -> None:
    """Routine(deadline): set this CPU's alarm to nanoseconds of the machine's clock, 0 for none. The last one is no
    more.
    """
    deadline = b.get(COMMON["arg0"])
    number = b.zext(b.get(ALARM_TIMER), Type.I64)
    b.set(ALARM, deadline)
    lower_alarm(b)
    with b.if_(b.eq(deadline, 0)):
        b.call(native("timer_cancel"), number)
        b.ret()
    b.call(native("timer_set"), number, deadline)
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {
    **{entry.routine: _take(entry) for entry in Entry},
    "fault": _fault,
    "interrupt": _interrupt,
    "alarm_expire": _alarm_expire,
    "alarm_set": _alarm_set,
}
