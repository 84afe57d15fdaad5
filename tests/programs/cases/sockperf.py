# SPDX-License-Identifier: GPL-2.0-only
"""sockperf: ping-pong and under load, TCP and UDP, both ends preloaded."""
import re

from harness.program import Program, run as run_command
from harness.waiting import check

VERSION = ["sockperf", "--version"]
CHECKED = "ping-pong with verified data and under load, UDP and TCP"
PORT = 11400


def drive(mode, kind, *more):
    text = run_command(mode, ["sockperf", kind, "-i", "127.0.0.1", "-p", PORT, "-t", 1, *more])
    lost = re.search(r"dropped messages = (\d+); # duplicated messages = (\d+); # out-of-order messages = (\d+)", text)
    check(lost, f"sockperf gives no result:\n{text[-600:]}")
    check("mismatch" not in text.lower(), f"data came out otherwise:\n{text[-600:]}")
    dropped, twice, late = map(int, lost.groups())
    # Under load a UDP receiver may drop; nobody may repeat or reorder.
    check(twice == 0 and late == 0, f"{twice} twice, {late} out of order")
    if kind == "ping-pong" or "--tcp" in more:
        check(dropped == 0, f"{dropped} lost")
    return bool(re.search(r"ReceivedMessages=[1-9]", text))


def run(mode):
    seen = {}
    for protocol in ([], ["--tcp"]):
        with Program(mode, ["sockperf", "server", "-i", "127.0.0.1", "-p", PORT, *protocol], port=PORT) as server:
            drive(mode, "ping-pong", *protocol)
            # The server answers by sendto with an address, over TCP too: such a send
            # is the kernel's as it was, behind what is queued.
            with server.keeps_nothing(offloads=False):
                for kind, more in [("ping-pong", ["-m", 4000, "--data-integrity"]),
                                   ("under-load", ["--mps", 20000, "-m", 1000])]:
                    seen[f"{kind} {protocol} {more}"] = drive(mode, kind, *protocol, *more)
            server.stop(2)
    return seen
