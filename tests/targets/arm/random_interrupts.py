# SPDX-License-Identifier: Apache-2.0
"""Random bare-metal guests about the interrupt controller (GICv2, ARM IHI 0048B), made without a compiler, for QEMU and
Raddle.

A guest is a row of *trials* on one CPU, with the MMU off. Each writes or reads a register of the distributor or of the
CPU interface, sends itself an interrupt, unmasks or masks IRQs and FIQs, acknowledges, or ends what was acknowledged
last, and then logs what it read with the running priority and the interrupt that is pending. The handler of IRQs and
FIQs logs each interrupt that it takes and ends it, or leaves it active for a trial to come, so that others preempt it;
one of group 1 that IAR does not show it takes after setting AckCtl. Every other guest uses both groups.

Interrupts come from software (SGIR, ISPENDR), and from the physical and the virtual timer (ARM DDI 0406C.d, B8.1),
whose deadlines have passed or are far away, so that time does not count. What is not used is UNPREDICTABLE, or
IMPLEMENTATION DEFINED, or about the registers of group 1 alone (AIAR, AEOIR, AHPPIR), which QEMU has not. What QEMU
does otherwise with groups is kept away from where it shows: it says 1022 where no priority suffices, acknowledges
though the group is disabled, and compares whole priorities with a running priority of the other group's binary point.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Final

from tests.targets.arm.random_guest import CODE, HVC, LOG, LOG_ENTRY, PSCI_SYSTEM_OFF, VBAR, Guest, mcr, movw, mrc

DISTRIBUTOR: Final = 0x0800_0000
INTERFACE: Final = 0x0801_0000
ACTIVE_STACK: Final = 0x4100_0000
"""What was acknowledged and is to be ended, the latest last."""

WORDS: Final = 3
"""The interrupts used are those of so many words of the bit registers: 16 SGIs, 16 PPIs, 64 SPIs."""
SGIS: Final = 16

CTLR, IGROUPR, ISENABLER, ICENABLER, ISPENDR, ICPENDR = 0x000, 0x080, 0x100, 0x180, 0x200, 0x280
ISACTIVER, ICACTIVER, IPRIORITYR, ITARGETSR, ICFGR = 0x300, 0x380, 0x400, 0x800, 0xC00
SGIR, CPENDSGIR, SPENDSGIR = 0xF00, 0xF10, 0xF20
"""Of the distributor (4.3)."""
BIT_REGISTERS: Final = (ISENABLER, ICENABLER, ISPENDR, ICPENDR, ISACTIVER, ICACTIVER)

PMR, BPR, IAR, EOIR, RPR, HPPIR, DIR = 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1000
ABPR, APR, NSAPR = 0x1C, 0xD0, 0xE0
"""Of the CPU interface (4.4)."""
ENABLE, BOTH, EOI_MODE = 1 << 0, 3, 1 << 9
ACKNOWLEDGE, BY_FIQ, COMMON_POINT = 1 << 2, 1 << 3, 1 << 4
OTHER_GROUP: Final = 1022

CNTP_CTL, CNTP_TVAL, CNTV_CTL, CNTV_TVAL = (14, 0, 2, 1), (14, 0, 2, 0), (14, 0, 3, 1), (14, 0, 3, 0)
CNTP_CVAL, CNTV_CVAL = 0xEC42_1F2E, 0xEC42_1F3E  # mcrr p15, 2 or 3, r1, r2, c14
TIMERS: Final = ((CNTP_CTL, CNTP_TVAL, CNTP_CVAL), (CNTV_CTL, CNTV_TVAL, CNTV_CVAL))
TIMER_INTERRUPTS: Final = (30, 27)
MASKED: Final = 3
"""A timer's CTL: on, without an interrupt."""

# r3: a trial's, r4, r5: the handler's, r7: bottom of the stack of active interrupts, r8: distributor, r9: interface,
# r10: whether the handler leaves interrupts active, r11: where to log, r12: top of the stack.
LOG_R2, LOG_R4, LOG_R5, LOG_R6 = 0xE48B_2004, 0xE48B_4004, 0xE48B_5004, 0xE48B_6004  # str rN, [r11], #4
PUSH_R4, PUSH_R6, POP_R6 = 0xE48C_4004, 0xE48C_6004, 0xE53C_6004  # str rN, [r12], #4; ldr r6, [r12, #-4]!
CPSIE: Final = (0xF108_00C0, 0xF108_00C0, 0xF108_0080, 0xF108_0040)
CPSID_IF, CPSID_I, CPSID_F = 0xF10C_00C0, 0xF10C_0080, 0xF10C_0040
MODE_IRQ: Final = 0x12
HANDLER_STACK: Final = 0x4110_0000
NEXT: Final = 0xEAFF_FFFF
"""A branch to the next instruction: interrupts are looked for at blocks' starts."""


def load(register: int, base: int, offset: int) -> int:
    return 0xE590_0000 | base << 16 | register << 12 | offset


def store(register: int, base: int, offset: int) -> int:
    return 0xE580_0000 | base << 16 | register << 12 | offset


def if_equal(word: int) -> int:
    """The instruction with the condition EQ."""
    return word & 0x0FFF_FFFF


def unless_equal(word: int) -> int:
    """The instruction with the condition NE."""
    return word & 0x0FFF_FFFF | 0x1000_0000


def compare(register: int, value: int, scratch: int) -> list[int]:
    """cmp register, #value"""
    return [*movw(scratch, value), 0xE150_0000 | register << 16 | scratch]


ENTRIES: Final = (
    # IRQ: sub lr, lr, #4; srsdb sp!, #irq; cpsid if; mov r5, #0; b HANDLER
    *(0xE24E_E004, 0xF96D_0500 | MODE_IRQ, CPSID_IF, 0xE3A0_5000, 0xEA00_0003),
    # FIQ, which goes on with IRQ mode's registers: sub lr, lr, #4; srsdb sp!, #irq; cpsid if, #irq; mov r5, #1
    *(0xE24E_E004, 0xF96D_0500 | MODE_IRQ, 0xF10E_00C0 | MODE_IRQ, 0xE3A0_5001),
)
FIQ_ENTRY: Final = 5
HANDLER: Final = (
    LOG_R5,
    load(4, 9, IAR),
    LOG_R4,
    *compare(4, OTHER_GROUP, 5),
    if_equal(load(5, 9, CTLR)),
    if_equal(0xE385_5000 | ACKNOWLEDGE),  # orr r5, r5, #ACKNOWLEDGE
    if_equal(store(5, 9, CTLR)),
    if_equal(load(4, 9, IAR)),
    if_equal(LOG_R4),
    load(5, 9, RPR),
    LOG_R5,
    0xE354_0000 | TIMER_INTERRUPTS[0],  # cmp r4, #30
    unless_equal(0xE354_0000 | TIMER_INTERRUPTS[1]),
    0xE3A0_5000 | MASKED,  # mov r5, #3
    if_equal(mcr(5, *CNTP_CTL)),
    if_equal(mcr(5, *CNTV_CTL)),
    0xE35A_0000,  # cmp r10, #0
    unless_equal(PUSH_R4),
    if_equal(store(4, 9, EOIR)),
    0xF8BD_0A00,  # rfeia sp!
)


class _Maker:
    def __init__(self, random: Random, trials: int) -> None:
        self.random = random
        self.groups = random.randrange(2) == 0
        self.point = random.randrange(7) if self.groups and random.randrange(2) else None
        """The binary point of both groups, where each has its own register; None: they share BPR."""
        self.eoi_mode = False
        self.control = 0
        """What the interface's CTLR was last told."""
        self.code: list[int] = []
        self._head()
        operations: list[tuple[int, Callable[[], list[int]]]] = [
            (6, self._change_bits), (8, self._pend), (5, self._send), (3, self._priority), (2, self._configure),
            (1, self._control), (1, self._mask), (4, self._unmask_or_mask), (2, self._handler), (2, self._acknowledge),
            (12, self._end), (4, self._read), (5, self._timer),
            *(((3, self._change_groups), (2, self._one_group)) if self.groups else ()),
        ]  # fmt: skip
        weights, makers = zip(*operations, strict=True)
        for number in range(trials):
            self.code += [*movw(11, LOG + LOG_ENTRY * number), *random.choices(makers, weights)[0](), NEXT]
            self.code += [load(2, 9, RPR), LOG_R2, load(2, 9, HPPIR), LOG_R2]
        end = self._here()
        self.code += [*movw(0, PSCI_SYSTEM_OFF), HVC]
        self.guest = Guest({CODE: struct.pack(f"<{len(self.code)}I", *self.code)}, end, trials, log=True)

    def _here(self) -> int:
        return CODE + 4 * len(self.code)

    def _head(self) -> None:
        """The entry, the vectors, of which two are used, the handler, and the controller as it is set up."""
        vectors = 8
        start = 2 * vectors + len(ENTRIES) + len(HANDLER)
        self.code = [0xEA00_0000 | start - 2] + [0xE320_F000] * (vectors - 1)  # b start
        # b . but for IRQ and FIQ: b to their entries
        self.code += [0xEAFF_FFFE] * 6 + [0xEA00_0000, 0xEA00_0000 | FIQ_ENTRY - 1, *ENTRIES, *HANDLER]
        self.code += [*movw(0, CODE + 4 * vectors), mcr(0, *VBAR)]
        self.code += [0xF102_0000 | MODE_IRQ, *movw(13, HANDLER_STACK), 0xF102_0013]  # cps #irq; …; cps #svc
        for register, value in ((7, ACTIVE_STACK), (8, DISTRIBUTOR), (9, INTERFACE), (10, 0), (12, ACTIVE_STACK)):
            self.code += movw(register, value)
        for n in range(WORDS):
            self.code += self._write(DISTRIBUTOR + ISENABLER + 4 * n, self.random.getrandbits(32))
            if self.groups:
                self.code += self._write(DISTRIBUTOR + IGROUPR + 4 * n, self.random.getrandbits(32))
        for n in range(8 * WORDS):
            self.code += self._write(DISTRIBUTOR + IPRIORITYR + 4 * n, self._priorities())
        self.code += self._write(DISTRIBUTOR + CTLR, self._enables) + self._write(INTERFACE + PMR, 0xF0)
        # They stay: QEMU compares whole priorities with a running priority by the binary point of its time.
        point, alias = (self.random.randrange(8),) * 2 if self.point is None else (self.point, self.point + 1)
        self.code += self._write(INTERFACE + BPR, point) + self._write(INTERFACE + ABPR, alias)
        self.code += self._control_interface(True)

    @property
    def _enables(self) -> int:
        return BOTH if self.groups else ENABLE

    def _control_interface(self, enabled: bool) -> list[int]:
        """Write the interface's CTLR."""
        control = self._enables * enabled | EOI_MODE * self.eoi_mode
        if self.groups:
            control |= self.random.choice((0, ACKNOWLEDGE)) | self.random.choice((0, BY_FIQ))
            control |= self.random.choice((0, COMMON_POINT)) if self.point is not None else COMMON_POINT
        self.control = control
        return self._write(INTERFACE + CTLR, control)

    # -- what a trial does ---------------------------------------------------------------------------------------------

    @staticmethod
    def _write(address: int, value: int) -> list[int]:
        return [*movw(0, address), *movw(1, value), store(1, 0, 0)]

    @staticmethod
    def _write_byte(address: int, value: int) -> list[int]:
        return [*movw(0, address), *movw(1, value), 0xE5C0_1000]  # strb r1, [r0]

    def _sparse(self) -> int:
        return self.random.getrandbits(32) & self.random.getrandbits(32) & self.random.getrandbits(32)

    def _priorities(self) -> int:
        return self.random.getrandbits(32)

    def _change_bits(self) -> list[int]:
        # More is enabled than disabled and less made active than inactive, so that interrupts are taken.
        (register,) = self.random.choices(BIT_REGISTERS, (4, 1, 3, 1, 1, 4))
        # QEMU keeps a shared interrupt that ISACTIVER made active so when it ends.
        word = 0 if register == ISACTIVER else self.random.randrange(WORDS)
        return self._write(DISTRIBUTOR + register + 4 * word, self._sparse())

    def _pend(self) -> list[int]:
        """One private or shared interrupt."""
        interrupt = self.random.randrange(SGIS, 32 * WORDS)
        return self._write(DISTRIBUTOR + ISPENDR + 4 * (interrupt >> 5), 1 << (interrupt & 31))

    def _send(self) -> list[int]:
        random, interrupt = self.random, self.random.randrange(SGIS)
        if random.randrange(4) == 0:
            register = random.choice((CPENDSGIR, SPENDSGIR))
            return self._write_byte(DISTRIBUTOR + register + interrupt, 1)  # QEMU trips over bytes of 0 in SPENDSGIR
        filter_, targets = random.choice(((0, 1), (0, 1), (0, 0xFE), (1, 0xFF), (2, 0)))
        attribute = random.randrange(2)  # NSATT: nothing without Security Extensions
        return self._write(DISTRIBUTOR + SGIR, filter_ << 24 | targets << 16 | attribute << 15 | interrupt)

    def _priority(self) -> list[int]:
        random = self.random
        if random.randrange(2):
            return self._write(DISTRIBUTOR + IPRIORITYR + 4 * random.randrange(8 * WORDS), self._priorities())
        return self._write_byte(DISTRIBUTOR + IPRIORITYR + random.randrange(32 * WORDS), random.getrandbits(8))

    def _configure(self) -> list[int]:
        random = self.random
        if random.randrange(2):
            return self._write(DISTRIBUTOR + ICFGR + 4 * random.randrange(2, 2 * WORDS), random.getrandbits(32))
        return self._write(DISTRIBUTOR + ITARGETSR + 4 * random.randrange(8 * WORDS), random.getrandbits(32))

    def _control(self) -> list[int]:
        random = self.random
        if random.randrange(2):
            return self._write(DISTRIBUTOR + CTLR, random.choice((0, *(self._enables,) * 3)))
        self.eoi_mode = random.randrange(3) == 0
        return self._control_interface(random.randrange(4) != 0)

    def _change_groups(self) -> list[int]:
        return self._write(DISTRIBUTOR + IGROUPR + 4 * self.random.randrange(WORDS), self.random.getrandbits(32))

    def _one_group(self) -> list[int]:
        """Only one group is enabled for a moment, in which interrupts are taken."""
        one = self.random.choice((1, 2))
        if self.random.randrange(2):
            address, value, after = DISTRIBUTOR + CTLR, one, BOTH
        else:
            address, value, after = INTERFACE + CTLR, self.control & ~BOTH | one, self.control | BOTH
        # What is pending already is taken first: a pending interrupt of the other group may hide it.
        come = [NEXT, *self._pend(), NEXT, *self._send(), NEXT]
        return [*self._write(address, value), *come, *self._write(address, after)]

    def _mask(self) -> list[int]:
        values = (0xFF, 0xFF, 0xF0, 0xF0, 0xF0, 0xC0, 0x80, 0x40, 0, self.random.getrandbits(8))
        return self._write(INTERFACE + PMR, self.random.choice(values))

    def _timer(self) -> list[int]:
        random = self.random
        control, in_ticks, deadline = random.choice(TIMERS)
        kind = random.randrange(4)
        if kind == 0:
            return [mrc(2, *control), LOG_R2]
        if kind == 1:
            return [*movw(1, random.randrange(4)), mcr(1, *control)]
        if kind == 2:
            return [*movw(1, random.choice((0, 0xFFFF_FFFF, 0x7FFF_FFFF))), mcr(1, *in_ticks)]
        low, high = random.choice(((0, 0), (random.getrandbits(32), 1 << 30)))
        return [*movw(1, low), *movw(2, high), deadline]

    def _unmask_or_mask(self) -> list[int]:
        return [self.random.choice((*CPSIE * 2, CPSID_I, CPSID_F, CPSID_IF))]

    def _handler(self) -> list[int]:
        return [0xE3A0_A000 | (self.random.randrange(3) == 0)]  # mov r10, #0 or #1

    def _acknowledge(self) -> list[int]:
        # 1022 as 1023: add r6, r6, #1
        return [load(6, 9, IAR), *compare(6, OTHER_GROUP, 3), if_equal(0xE286_6001), LOG_R6, PUSH_R6]

    def _end(self) -> list[int]:
        """What was acknowledged last, if anything was."""
        ends = [0xE15C_0007, unless_equal(POP_R6), unless_equal(store(6, 9, EOIR))]  # cmp r12, r7
        if self.eoi_mode and self.random.randrange(4):
            ends += [0xE289_0A01, unless_equal(store(6, 0, 0))]  # add r0, r9, #0x1000: DIR
            # Masked, or which interrupt is taken depends on whether it is between the two.
            ends = [0xE10F_1000, CPSID_IF, *ends, 0xE121_F001]  # mrs r1, cpsr; …; msr cpsr_c, r1
        return ends

    def _read(self) -> list[int]:
        random = self.random
        words = [register + 4 * n for register in BIT_REGISTERS for n in range(WORDS)]
        words += [register + 4 * n for register in (IPRIORITYR, ITARGETSR) for n in range(8 * WORDS)]
        words += [ICFGR + 4 * n for n in range(2 * WORDS)] + [CTLR, CPENDSGIR, SPENDSGIR + 4]
        words += [IGROUPR + 4 * n for n in range(WORDS)] * 2
        own = [0, PMR, BPR, RPR, HPPIR, ABPR, *(register + 4 * n for register in (APR, NSAPR) for n in range(4))]
        addresses = [DISTRIBUTOR + word for word in words] + [INTERFACE + word for word in own] * 4
        return [*movw(0, random.choice(addresses)), load(2, 0, 0), LOG_R2]


def random_interrupts(random: Random, trials: int) -> Guest:
    """A guest with so many trials, which keeps ``LOG_ENTRY`` bytes of each from ``LOG`` on."""
    return _Maker(random, trials).guest
