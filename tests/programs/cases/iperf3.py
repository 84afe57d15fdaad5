# SPDX-License-Identifier: GPL-2.0-only
"""iperf3 both ways, small and large writes, both ends preloaded."""
import json

from harness.program import Program, run as run_command
from harness.waiting import check

VERSION = ["iperf3", "-v"]
CHECKED = ("both ways, both at once, 4 at once, 128 B and 128 kB writes, sendfile, tiny windows, UDP in "
           "order")
PORT = 5300


def measure(mode, *more):
    text = run_command(mode, ["iperf3", "-c", "127.0.0.1", "-p", PORT, "-J", "--get-server-output", *more])
    report = json.loads(text)
    check("error" not in report, report.get("error"))
    return report


def tcp(mode, size, block, *more):
    """What the receiver had is what was asked to be sent."""
    end = measure(mode, "-n", size, "-l", block, *more)["end"]
    sent, received = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
    check(sent >= size, f"{sent} of {size} bytes sent")
    # The receiver stops at the sender's word, which has a connection of its
    # own: what is under way then is not counted, plain or not.
    check(received <= sent, f"{received} received of {sent}")


def udp(mode, block):
    """Datagrams keep number and size; loss is the receiver's buffer's."""
    end = measure(mode, "-u", "-n", block * 2000, "-l", block, "-b", "50M", "-w", "1M")["end"]
    check(end["sum"]["packets"] >= 2000, f"{end['sum']['packets']} datagrams")
    late = sum(stream["udp"]["out_of_order"] for stream in end["streams"])
    check(late == 0, f"{late} datagrams out of order")
    check(end["sum"]["bytes"] == end["sum"]["packets"] * block, "datagrams of another size")


def run(mode):
    with Program(mode, ["iperf3", "-s", "-p", PORT], port=PORT) as server:
        tcp(mode, 1 << 20, "128K")
        tcp(mode, 1 << 20, "128K", "-R")
        with server.keeps_nothing():
            for more in ([], ["-R"], ["--bidir"], ["-P", "4"]):
                if "--bidir" in more:
                    measure(mode, "-t", "1", "-l", "8K", *more)
                else:
                    tcp(mode, 200 << 20, "128K", *more)
                    tcp(mode, 4 << 20, "128", *more)
            # Large files by sendfile, and tiny windows.
            tcp(mode, 20 << 20, "64K", "-Z")
            tcp(mode, 2 << 20, "1K", "-w", "4K")
            udp(mode, 1400)
            udp(mode, 64)
        server.idles()
        return {"belongings": server.belongings()}
