# SPDX-License-Identifier: Apache-2.0
"""Contract suites that authors of hosts and targets inherit; they need pytest."""
