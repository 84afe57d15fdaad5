# SPDX-License-Identifier: GPL-2.0-only
"""haproxy in front of nginx, both preloaded, with and without splice."""
import random
import signal

from harness import nginx
from harness.http import Http
from harness.program import Program, run as run_command
from harness.waiting import check

VERSION = ["haproxy", "-v"]
CHECKED = "before nginx, HTTP and TCP, copying and splicing"
COPYING, SPLICING, RAW = 8900, 8901, 8902


def config(workdir):
    path = workdir / "haproxy.cfg"
    path.write_text(f"""
global
    nbthread 2
    maxconn 200
    tune.sndbuf.client 8192
    tune.rcvbuf.server 8192
defaults
    timeout connect 60s
    timeout client 60s
    timeout server 60s
frontend copying
    mode http
    bind 127.0.0.1:{COPYING}
    default_backend files
frontend splicing
    mode http
    option splice-response
    bind 127.0.0.1:{SPLICING}
    default_backend files
listen raw
    mode tcp
    option splice-auto
    bind 127.0.0.1:{RAW}
    server nginx 127.0.0.1:{nginx.PORT}
backend files
    mode http
    option splice-response
    server nginx 127.0.0.1:{nginx.PORT}
""")
    return path


def downloads(site, port, seed):
    rng = random.Random(seed)
    names = ["big"] + [rng.choice(["tiny", "page", "middle", "text.txt", "whole.shtml"]) for _ in range(60)]
    with Http(port) as client:
        for name in names:
            status, _, body = client.get(f"/{name}")
            check(status == 200 and body == site.files[name], f"/{name} through port {port}: {status}")


def slow_and_reset(site, port):
    slow, gone = Http(port, rcvbuf=4096), Http(port, rcvbuf=4096)
    for client in (slow, gone):
        client.request("/text.txt")
    gone.exactly(10_000)
    gone.reset()
    check(slow.response()[2] == site.files["text.txt"], f"the file by a slow reader of port {port}")
    slow.sock.close()


def run(mode):
    site = nginx.Site(mode.workdir)
    seen = {}
    with nginx.server(mode) as behind, \
            Program(mode, ["haproxy", "-db", "-f", config(mode.workdir)], port=RAW) as haproxy:
        for port in (COPYING, SPLICING, RAW):
            downloads(site, port, 1)
            run_command(mode, ["wrk", "-t", 1, "-c", 8, "-d", 1, f"http://127.0.0.1:{port}/page"], preload=False)
        for port in (COPYING, SPLICING, RAW):
            downloads(site, port, 2)
            slow_and_reset(site, port)
            text = run_command(mode, ["wrk", "-t", 2, "-c", 16, "-d", 1, f"http://127.0.0.1:{port}/middle"],
                               preload=False)
            check("Socket errors" not in text and "Non-2xx" not in text, text)
        haproxy.idles()
        seen["threads"] = haproxy.belongings()["threads"]
        # A soft stop: it ends when the last connection, kept alive to nginx
        # or not, is closed; nothing of ours keeps one.
        haproxy.stop(signal.SIGUSR1)
        behind.stop(signal.SIGQUIT)
    return seen
