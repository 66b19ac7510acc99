# SPDX-License-Identifier: Apache-2.0
"""A clock with timers that a test moves by hand."""


class HandClock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0
        self.timers = []

    def clock_ns(self):
        return self.now

    def timer(self, callback):
        timer = HandTimer(callback)
        self.timers.append(timer)
        return timer

    def move(self, seconds):
        self.now += round(seconds * 1_000_000_000)
        for timer in self.timers:
            if timer.deadline is not None and timer.deadline <= self.now:
                timer.deadline = None
                timer.callback()


class HandTimer:
    def __init__(self, callback):
        self.callback = callback
        self.deadline = None

    def set(self, deadline_ns):
        self.deadline = deadline_ns

    def cancel(self):
        self.deadline = None
