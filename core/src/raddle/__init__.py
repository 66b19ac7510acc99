# SPDX-License-Identifier: Apache-2.0
"""Raddle: a dynamic binary translator and machine emulator that runs one host thread per guest CPU."""

from __future__ import annotations

from raddle.errors import MachineError, PluginError, RaddleError, UsageError

__all__ = ["MachineError", "PluginError", "RaddleError", "UsageError", "__version__"]

__version__ = "0.1.0"
