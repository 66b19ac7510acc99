# SPDX-License-Identifier: Apache-2.0
"""What a machine is made of besides CPUs and memory: boards, lines, clocks, character devices, loaders."""
