# SPDX-License-Identifier: Apache-2.0
"""The bundled demo guest, ``demo.elf``; its source, and what it prints, is in ``tests/guests/common/demo/demo.c``."""
