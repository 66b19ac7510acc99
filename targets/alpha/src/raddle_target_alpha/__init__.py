# SPDX-License-Identifier: Apache-2.0
"""The Alpha guest: 64 bits, pages of 8 KiB, no condition flags, and the weakest memory order that there is."""
