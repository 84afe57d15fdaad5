# SPDX-License-Identifier: GPL-2.0-only
"""A Python server of asyncio's streams, with backpressure and sendfile."""
import sys

from harness.dialogue import SERVERS, Dialogue, data_file
from harness.program import Program

VERSION = ["python3", "--version"]
CHECKED = "the dialogue of epoll, with asyncio's streams"
PORT = 7200


def run(mode):
    path, seen = data_file(mode), {}
    for sndbuf in (0, 4096):
        with Program(mode, [sys.executable, SERVERS / "asyncio_server.py", PORT, path, sndbuf], port=PORT) as server:
            largest = 1 << 20 if not sndbuf else 1 << 17
            seen[f"{sndbuf}"] = Dialogue(PORT, largest=largest).whole(server)
    return seen
