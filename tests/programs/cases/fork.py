# SPDX-License-Identifier: GPL-2.0-only
"""Servers that fork: a Python one whose parent and child write on one
connection, and socat with a child, and a program behind pipes, a connection.
"""
import sys

from harness.dialogue import DATA, SERVERS, Dialogue, data_file
from harness.net import Client
from harness.program import Program
from harness.waiting import check, wait_until

VERSION = ["python3", "--version"]
CHECKED = "the dialogue of epoll, with a child a connection; writes by a parent right before its fork; socat"
PORT, ECHO, PIPED = 7500, 7501, 7502


def forking(mode):
    command = [sys.executable, SERVERS / "fork_server.py", PORT, data_file(mode), 0]
    with Program(mode, command, port=PORT) as server:
        dialogue = Dialogue(PORT, greeting=b"served by a child\n")
        seen = [dialogue.requests(seed, 10) for seed in range(3)]
        wait_until(lambda: len(server.processes()) == 1, "the children's end")
        dialogue.requests(4, 1)
        with server.keeps_nothing():
            dialogue.requests(5, 20, rcvbuf=4096)
            dialogue.ends()
            dialogue.stalled()
            dialogue.resets(10)
            dialogue.at_once(6)
            # The library forgets children that have gone as it forks again.
            wait_until(lambda: len(server.processes()) == 1, "the children's end")
            dialogue.requests(6, 1)
        return seen


def echoes(port, windows=(None, 4096)):
    for rcvbuf in windows:
        with Client(port, rcvbuf=rcvbuf) as client:
            for size in (1, 100, 5000, 60_000):
                client.send(DATA[:size])
                check(client.exactly(size) == DATA[:size], f"{size} bytes echoed")


def socat(mode):
    with Program(mode, ["socat", f"TCP-LISTEN:{ECHO},fork,reuseaddr,bind=127.0.0.1", "PIPE"], port=ECHO) as pipe, \
            Program(mode, ["socat", f"TCP-LISTEN:{PIPED},fork,reuseaddr,bind=127.0.0.1", "EXEC:cat"],
                    port=PIPED) as program:
        for server, port in ((pipe, ECHO), (program, PIPED)):
            echoes(port)

            def childless(server=server):
                wait_until(lambda: len(server.processes()) == 1, "socat's children's end")
            childless()
            # The library forgets children that have gone as it forks again.
            echoes(port, [None])
            childless()
            # The parent itself sends nothing.
            with server.keeps_nothing(offloads=False):
                for _ in range(5):
                    echoes(port)
                childless()
                echoes(port, [None])
                childless()


def run(mode):
    seen = {"python": forking(mode)}
    socat(mode)
    return seen
