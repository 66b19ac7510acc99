# SPDX-License-Identifier: Apache-2.0
"""Devices that belong to no architecture, and the base class of all devices."""

from __future__ import annotations

from raddle.devices.base import Device, Register

__all__ = ["Device", "Register"]
