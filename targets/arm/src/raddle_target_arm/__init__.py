# SPDX-License-Identifier: Apache-2.0
"""ARMv7-A guest for Raddle."""
