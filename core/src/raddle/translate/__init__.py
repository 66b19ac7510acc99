# SPDX-License-Identifier: Apache-2.0
"""From guest bytes to IR to host code: decode tables, the front end's protocol and the translator."""
