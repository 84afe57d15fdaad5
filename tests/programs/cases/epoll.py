# SPDX-License-Identifier: GPL-2.0-only
"""A Python server over epoll, level and edge triggered, also with tiny buffers."""
import sys

from harness.dialogue import SERVERS, Dialogue, data_file
from harness.program import Program

VERSION = ["python3", "--version"]
CHECKED = ("a dialogue with a server over epoll, level and edge triggered: backpressure, sendfile, close and "
           "shutdown with a rest")
PORT = 7100


def run(mode):
    path, seen = data_file(mode), {}
    for trigger in ("level", "edge"):
        for sndbuf in (0, 4096):
            command = [sys.executable, SERVERS / "epoll_server.py", PORT, path, trigger, sndbuf]
            with Program(mode, command, port=PORT) as server:
                largest = 1 << 20 if not sndbuf else 1 << 17
                seen[f"{trigger} {sndbuf}"] = Dialogue(PORT, largest=largest).whole(server)
    return seen
