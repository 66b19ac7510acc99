# SPDX-License-Identifier: Apache-2.0
"""Emission, one small function an IR opcode, in the opcode table's categories; importing the package registers all."""

from raddle_host_aarch64.emit import control, floating, integer, memory, state

__all__ = ["control", "floating", "integer", "memory", "state"]
