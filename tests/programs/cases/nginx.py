# SPDX-License-Identifier: GPL-2.0-only
"""nginx: every byte of downloads, reload under load, and what wrk drives."""
import gzip
import random
import re
import signal
import threading

from harness import nginx
from harness.http import Http
from harness.net import digest
from harness.program import run as run_command
from harness.waiting import Failure, check, wait_until

VERSION = ["nginx", "-v"]
CHECKED = ("sendfile between writes, keep-alive, pipelining, chunks by gzip and SSI, ranges, 4 KB send "
           "buffers, several workers, reloads under load, wrk")


def whole(site, port, rounds):
    """Keep-alive, in a random order, headers by writev and bodies by sendfile."""
    rng, seen = random.Random(port), []
    names = list(site.files) + ["copied", "pushed"]
    if port == nginx.TINY:
        # A few kilobytes at a time, each after an acknowledgement.
        names = ["tiny", "page", "middle", "whole.shtml"]
    with Http(port) as client:
        for _ in range(rounds):
            rng.shuffle(names)
            for name in names:
                wanted = site.files.get(name, site.files["big"])
                status, headers, body = client.get(f"/{name}")
                if status != 200 or body != wanted:
                    raise Failure(f"/{name} from port {port}: {status}, {len(body)} bytes, first difference at "
                                  f"{first_difference(body, wanted)}")
                seen.append(f"{name} {headers.get('content-length')} {headers.get('transfer-encoding')}".encode())
    return digest(b"".join(seen))


def first_difference(got, wanted):
    return next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))


def compressed(site, port):
    with Http(port) as client:
        for _ in range(5):
            status, headers, body = client.get("/text.txt", "Accept-Encoding: gzip")
            check(status == 200 and headers.get("transfer-encoding") == "chunked", f"chunks: {headers}")
            check(gzip.decompress(body) == site.files["text.txt"], "the text after gzip and chunks")


def pipelined(site):
    """Requests without waiting: replies in order, small after large."""
    rng = random.Random(9)
    with Http(nginx.PORT, rcvbuf=16384) as client:
        names = [rng.choice(["tiny", "page", "middle", "whole.shtml"]) for _ in range(200)]
        for name in names:
            client.request(f"/{name}")
        for i, name in enumerate(names):
            check(client.response()[2] == site.files[name], f"pipelined reply {i}, /{name}")


def ranges(site):
    with Http(nginx.TINY) as client:
        big = site.files["big"]
        for start in range(0, len(big), 999_983):
            status, _, body = client.get("/big", f"Range: bytes={start}-{start + 20_000}")
            check(status == 206 and body == big[start:start + 20_001], f"the range from {start}")


def stalled(site):
    """Clients that stop reading; others go on; nothing of theirs is lost."""
    clients = [(Http(port, rcvbuf=4096), name) for port, name in ((nginx.PORT, "big"), (nginx.TINY, "middle"))
               for _ in range(4)]
    for client, name in clients:
        client.request(f"/{name}", "Connection: close")
    with Http(nginx.PORT) as other:
        for _ in range(100):
            check(other.get("/page")[2] == site.files["page"], "others are served")
    for i, (client, name) in enumerate(clients):
        if i % 4 == 3:
            client.exactly(20_000)
            client.reset()
        else:
            check(client.response()[2] == site.files[name], "the file after a pause")
            check(client.rest() == b"", "and nothing after it")
            client.sock.close()


def reloaded(site, server):
    """Reloads while clients download: every reply whole, old workers end."""
    failures, stop = [], threading.Event()

    def downloads(seed):
        rng = random.Random(seed)
        try:
            while not stop.is_set():
                with Http(rng.choice([nginx.PORT, nginx.TINY])) as client:
                    for number in range(5):
                        name = rng.choice(["page", "middle", "whole.shtml"])
                        client.request(f"/{name}")
                        try:
                            first = client.exactly(1)
                        except (Failure, ConnectionError):
                            # Kept alive, and closed by a worker that ends
                            # before it read this request; within a reply no.
                            if number == 0:
                                raise
                            break
                        client.buffer[:0] = first
                        status, headers, body = client.response()
                        check(status == 200 and body == site.files[name], f"/{name} while reloading")
                        if headers.get("connection") == "close":
                            break
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=downloads, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    with Http(nginx.TINY, rcvbuf=4096) as held:
        # Under way over all reloads, on the first workers.
        held.request("/middle", "Connection: close")
        check(held.line().startswith(b"HTTP/1.1 200"), "the download over reloads starts")
        for _ in range(3):
            old = set(server.processes())
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(set(server.processes()) - old) >= nginx.WORKERS, "new workers")
        check(held.rest().endswith(b"\r\n\r\n" + site.files["middle"]), "the download over reloads is whole")
    stop.set()
    for thread in threads:
        thread.join()
    check(not failures, f"while reloading: {failures[:3]}")
    wait_until(lambda: len(server.processes()) == nginx.WORKERS + 1, "the old workers' end")


def wrk(mode, port, path):
    text = run_command(mode, ["wrk", "-t", 2, "-c", 24, "-d", 1, f"http://127.0.0.1:{port}{path}"], preload=False)
    check("Socket errors" not in text and "Non-2xx" not in text, f"wrk {path}: {text}")
    check(int(re.search(r"(\d+) requests in", text).group(1)) > 24, text)


def run(mode):
    site = nginx.Site(mode.workdir)
    seen = {}
    with nginx.server(mode) as server:
        # Each worker has served, so each has its executor.
        for _ in range(4):
            whole(site, nginx.PORT, 1)
        wrk(mode, nginx.PORT, "/page")
        with server.keeps_nothing():
            seen["whole"] = [whole(site, port, 2) for port in (nginx.PORT, nginx.TINY)]
            compressed(site, nginx.PORT)
            compressed(site, nginx.TINY)
            pipelined(site)
            ranges(site)
            stalled(site)
            wrk(mode, nginx.PORT, "/page")
            wrk(mode, nginx.TINY, "/middle")
        reloaded(site, server)
        server.idles()
        seen["belongings"] = server.belongings()
        server.stop(signal.SIGQUIT)
        check("alert" not in (mode.workdir / "error.log").read_text(), "nginx's error log has alerts")
    return seen
