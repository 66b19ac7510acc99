# SPDX-License-Identifier: Apache-2.0
"""A guest of a dozen 32-bit instructions with a sequentially consistent memory."""
