# SPDX-License-Identifier: Apache-2.0
"""A device's routine, run by the IR interpreter beside the device that it belongs to."""

from raddle.runtime._native import ffi

from raddle.devices.base import WRITE
from raddle.ir.builder import Builder
from raddle.ir.interpreter import CpuState, interpret
from raddle.ir.verifier import verify


class Native:
    """Accesses a handler through its routine; `passed` has what the routine left to Python, `header` the fields of the
    CPU that accesses it.
    """

    def __init__(self, handler, callees=None):
        self.builder = Builder()
        handler.routine(self.builder)
        verify(self.builder, routine=True)
        self.passed = []
        self.header = {}
        self.handler = handler
        self.callees = callees or {}

    def read(self, offset, size):
        return self._access(offset, size, 0) & (1 << 8 * size) - 1

    def write(self, offset, size, value):
        self._access(offset, size | WRITE, value)

    def _access(self, offset, how, value):
        def io_python(cpu, offset, how, value, number):
            self.passed.append((offset, how))
            if how & WRITE:
                self.handler.write(offset, how & ~WRITE, value)
                return 0
            return self.handler.read(offset, how)

        callees = {
            **self.callees,
            "io_python": io_python,
            "host_load32": lambda cpu, address: ffi.cast("uint32_t *", address)[0],
            "host_store32": lambda cpu, address, value: store("uint32_t *", address, value),
            "host_store8": lambda cpu, address, value: store("uint8_t *", address, value),
        }
        cpu = CpuState(bytearray(), {**self.header, "arg0": offset, "arg1": how, "arg2": value, "arg3": 7})
        return interpret(self.builder, cpu, None, callees=callees).value


def store(kind, address, value):
    pointer = ffi.cast(kind, address)
    pointer[0] = value & (1 << 8 * ffi.sizeof(ffi.typeof(kind).item)) - 1
    return 0
