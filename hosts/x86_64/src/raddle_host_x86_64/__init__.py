# SPDX-License-Identifier: Apache-2.0
"""x86-64 host for Raddle."""
