# SPDX-License-Identifier: Apache-2.0
"""Decoders: find the line of a table that an instruction word matches, by a few of its bits at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raddle.translate.pattern import UNDEFINED, Pattern


class Node:
    """A step of the decoder: it either looks up `word >> shift & mask` in `children`, or tries the patterns of `leaf`
    in order.

    A child is made when the first word leads to it. Threads may race to make one, and either can be used.
    """

    __slots__ = ("_kept", "_patterns", "_tested", "children", "leaf", "mask", "shift")

    def __init__(self, patterns: list[Pattern], tested: int, width: int) -> None:
        """The step for words whose bits `tested` are known, and which can match `patterns`. Exceptions come first in
        these. `width` is the width of words in bits.
        """
        window = _window(patterns, ((1 << width) - 1) & ~tested) if len(patterns) > 2 else None
        self.children: list[Node | None] | None = None
        self.leaf = patterns
        self.shift = self.mask = 0
        if window is not None:
            self.shift, bits = window
            self.mask = (1 << bits) - 1
            self.children = [None] * (1 << bits)
            self._patterns = patterns
            self._tested = tested | self.mask << self.shift
            self._kept: dict[tuple[int, ...], Node] = {}

    def grow(self, choice: int, width: int) -> Node:
        """Make the child for words whose bits in the window are `choice`."""
        assert self.children is not None
        selected = self.mask << self.shift
        bits = choice << self.shift
        matching = [
            pattern
            for pattern in self._patterns
            if not (pattern.value ^ bits) & pattern.mask & selected
            and not any(mask & ~selected == 0 and bits & mask == value for mask, value in pattern.excluded)
        ]
        same = tuple(pattern.index for pattern in matching)
        child = self._kept.get(same)
        if child is None:
            child = self._kept[same] = Node(matching, self._tested, width)
        self.children[choice] = child
        return child


class Decoder:
    """A compiled table. Any thread may use it."""

    __slots__ = ("_patterns", "_root", "width")

    def __init__(self, patterns: Sequence[Pattern], width: int, root: Node) -> None:
        self._patterns = tuple(patterns)
        self.width = width
        self._root = root

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """All lines by their `index`, also those that are named UNDEFINED."""
        return tuple(pattern.read() for pattern in self._patterns)

    def decode(self, word: int) -> Pattern | None:
        """The pattern of `word`, an unsigned integer of the table's width; None if the word is no instruction.

        Raises TableError for a mistake in a line of a trusted table.
        """
        node = self._root
        while node.children is not None:
            choice = word >> node.shift & node.mask
            node = node.children[choice] or node.grow(choice, self.width)
        for pattern in node.leaf:
            if word & pattern.mask == pattern.value:
                for mask, value in pattern.excluded:
                    if word & mask == value:
                        break
                else:
                    pattern.read()
                    return pattern if pattern.always_defined or pattern.is_defined(word) else None
        return None

    @property
    def names(self) -> frozenset[str]:
        """The names of all instructions in the table."""
        return frozenset(pattern.name for pattern in self._patterns if pattern.name != UNDEFINED)


def each_bit(mask: int) -> Iterator[int]:
    """The bits of `mask` that are 1, each as a mask of its own, from the lowest."""
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


_WIDEST_WINDOW = 8
_MOST = 0.7
"""A window has only bits that are fixed in many patterns: at least this share of the number for its best bit. A larger
share makes a deeper decoder; a smaller one makes a decoder that is larger and slower to build."""


def _window(patterns: list[Pattern], open_bits: int) -> tuple[int, int] | None:
    """The bits to branch on, as lowest bit and width; None if there are none. They are bits that most patterns have
    fixed, with different values.
    """
    ones = zeros = 0
    for pattern in patterns:
        ones |= pattern.mask & pattern.value
        zeros |= pattern.mask & ~pattern.value
    candidates = list(each_bit(ones & zeros & open_bits))
    if not candidates:
        return None
    counts = {bit: sum(1 for pattern in patterns if pattern.mask & bit) for bit in candidates}
    most = max(counts.values())
    best = (0, 0, 0)
    for low in candidates:
        width = total = 0
        while width < _WIDEST_WINDOW and counts.get(low << width, 0) >= _MOST * most:
            total += counts[low << width]
            width += 1
        best = max(best, (total, low.bit_length() - 1, width))
    return best[1], best[2]
