# SPDX-License-Identifier: Apache-2.0
"""Devices that only Alpha machines have."""
