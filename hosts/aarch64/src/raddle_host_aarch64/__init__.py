# SPDX-License-Identifier: Apache-2.0
"""The AArch64 host: makes machine code for 64-bit Arm processors, Armv8.0 and later."""
