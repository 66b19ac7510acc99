# SPDX-License-Identifier: Apache-2.0
"""Empty virtio-mmio slots: what a probe reads, in Python and in the routine."""

from itertools import product

from raddle.devices.virtio_mmio import SLOT_SIZE, SLOTS, VirtioSlots
from raddle.ir.builder import Builder
from raddle.ir.interpreter import CpuState, interpret
from raddle.ir.verifier import verify

MAGIC, VERSION, DEVICE_ID = 0x7472_6976, 1, 0


def test_every_slot_is_there_and_has_no_device():
    device = VirtioSlots()
    assert device.SIZE == SLOTS * SLOT_SIZE == 0x4000
    for slot in range(SLOTS):
        start = SLOT_SIZE * slot
        assert [device.read(start + offset, 4) for offset in (0, 4, 8)] == [MAGIC, VERSION, DEVICE_ID]


def test_writing_changes_nothing():
    device = VirtioSlots()
    for offset in range(0, SLOT_SIZE, 4):
        device.write(offset, 4, 0xFFFF_FFFF)
    assert [device.read(offset, 4) for offset in range(0, SLOT_SIZE, 4)] == [MAGIC, VERSION] + [0] * 126


def test_a_probe_needs_no_python():
    device = VirtioSlots()
    b = Builder()
    device.routine(b)
    verify(b, routine=True)
    passed = []

    def io_python(cpu, offset, how, value, number):
        passed.append((offset, how))
        return device.write(offset, how & 0xFF, value) if how >> 8 else device.read(offset, how)

    starts = (0, 5 * SLOT_SIZE, (SLOTS - 1) * SLOT_SIZE)
    for start, offset, size, is_write in product(starts, range(0x20), (1, 2, 4, 8), (0, 1)):
        cpu = CpuState(bytearray(), {"arg0": start + offset, "arg1": size | is_write << 8, "arg2": 3, "arg3": 7})
        before = len(passed)
        value = interpret(b, cpu, None, callees={"io_python": io_python}).value
        if not is_write:
            assert value == device.read(start + offset, size)
        probes = size == 4 and offset in (0, 4, 8) and not is_write
        assert len(passed) - before == (not probes)
