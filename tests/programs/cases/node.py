# SPDX-License-Identifier: GPL-2.0-only
"""A Node server: libuv's loop, several threads of its own, backpressure."""
from harness.dialogue import SERVERS, Dialogue, data_file
from harness.program import Program

VERSION = ["node", "--version"]
CHECKED = "the dialogue of epoll, with Node"
PORT = 7400


def run(mode):
    with Program(mode, ["node", SERVERS / "node_server.js", PORT, data_file(mode)], port=PORT) as server:
        return Dialogue(PORT).whole(server)
