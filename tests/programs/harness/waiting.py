# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for what must come. A limit is a failure, never a way to go on."""
import time

# Everything that is awaited comes within this many seconds on a machine that
# others use too; a hang is told by it.
LIMIT = 60.0


class Failure(Exception):
    """The program did not do what it does without the library."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def wait_until(condition, what, limit=LIMIT):
    """Until condition() is true; its last value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {limit:.0f} s for {what}")
        # /proc and ports have no event to wait for.
        time.sleep(0.02)
