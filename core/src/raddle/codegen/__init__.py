# SPDX-License-Identifier: Apache-2.0
"""What host back ends share: templates, blocks and the protocol of a back end."""
