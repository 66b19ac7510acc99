# SPDX-License-Identifier: Apache-2.0
"""Guest bytes to IR to host code: decode tables, block keys and the translator."""
