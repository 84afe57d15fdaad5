# SPDX-License-Identifier: GPL-2.0-only
"""redis-server with threads for I/O: several threads send for one event loop."""
from cases.redis import checked

VERSION = ["redis-server", "--version"]
CHECKED = "as redis, with threads for I/O"


def run(mode):
    return checked(mode, "--io-threads", "2")
