# SPDX-License-Identifier: Apache-2.0
"""A base for classes whose objects cannot be copied or pickled, because a copy would not work."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["Unique"]


class Unique:
    """Refuses `copy` and `pickle`."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"the {type(self).__name__} of a machine cannot be copied or pickled")
