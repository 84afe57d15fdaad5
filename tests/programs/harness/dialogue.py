# SPDX-License-Identifier: GPL-2.0-only
"""What a client does with any of servers/, and checks byte by byte."""
import pathlib
import random
import socket
import threading

from .net import Client, digest, pattern
from .waiting import check

SERVERS = pathlib.Path(__file__).resolve().parent.parent / "servers"
DATA = pattern(4 << 20, "data")


def data_file(mode):
    path = mode.workdir / "pattern"
    path.write_bytes(DATA)
    return path


class Dialogue:
    def __init__(self, port, greeting=b"", has_file=True, largest=1 << 20, half_close=True):
        self.port = port
        self.greeting = greeting
        self.has_file = has_file
        self.largest = largest
        self.half_close = half_close

    def connect(self, **sizes):
        client = Client(self.port, **sizes)
        check(client.exactly(len(self.greeting)) == self.greeting, "the greeting is in its place")
        return client

    def request(self, rng, client):
        """One at random; the bytes its reply must be."""
        kind = rng.choice(["echo", "give", "give", "file"] if self.has_file else ["echo", "give"])
        size = rng.choice([1, 64, 1400, 16_384, 70_000, rng.randrange(1, self.largest)])
        start = rng.randrange(len(DATA) - size)
        if kind == "echo":
            client.send(b"ECHO %d\n" % size + DATA[start:start + size])
            return DATA[start:start + size]
        if kind == "give":
            # Few enough pieces for a slow server.
            chunk = rng.choice([size, max(1, size // 7), max(size // 500, 10)])
            client.send(b"GIVE %d %d %d\n" % (start, size, chunk))
            return DATA[start:start + size]
        client.send(b"FILE %d %d\n" % (start, size))
        return b"file\n" + DATA[start:start + size] + b"end\n"

    def requests(self, seed, count, **sizes):
        rng, seen = random.Random(seed), []
        with self.connect(**sizes) as client:
            for i in range(count):
                wanted = self.request(rng, client)
                got = client.exactly(len(wanted))
                check(got == wanted, f"request {i} of seed {seed}: {len(wanted)} bytes that are others")
                seen.append(got)
        return digest(b"".join(seen))

    def batches(self, seed, count, batch):
        """Many small requests at once: replies in order."""
        with self.connect() as client:
            for _ in range(count):
                client.send(b"".join(b"GIVE %d %d 100\n" % (seed * 100 + i, i * 13 % 900 + 1) for i in range(batch)))
                for i in range(batch):
                    start, size = seed * 100 + i, i * 13 % 900 + 1
                    check(client.exactly(size) == DATA[start:start + size], f"reply {i} of a batch")

    def stalled(self):
        """Clients that stop reading; others are served; nothing is lost."""
        size = self.largest
        slow = [self.connect(rcvbuf=4096) for _ in range(4)]
        for client in slow:
            client.send(b"GIVE 0 %d 5000\n" % size)
        self.requests(99, 10)
        for client in slow[:3]:
            check(client.exactly(size) == DATA[:size], "what was owed after a pause")
            client.sock.close()
        slow[3].exactly(100)
        slow[3].reset()

    def ends(self):
        """Closed or shut down with much still under way: all of it arrives."""
        for size in (1, 3000, self.largest):
            for sizes in ({}, {"rcvbuf": 4096}):
                with self.connect(**sizes) as client:
                    client.send(b"CLOSE %d\n" % size)
                    if self.half_close:
                        client.sock.shutdown(socket.SHUT_WR)
                    check(client.rest() == DATA[:size], f"all of {size} bytes before a close")
                with self.connect(**sizes) as client:
                    client.send(b"SHUT %d\n" % size)
                    check(client.rest() == DATA[:size], f"all of {size} bytes before a shutdown")
                    client.send(b"more that nobody answers")
                    client.sock.shutdown(socket.SHUT_WR)

    def resets(self, count=20):
        for i in range(count):
            client = self.connect(rcvbuf=4096)
            client.send(b"GIVE 0 %d %d\n" % (self.largest, 1000 + 3000 * (i % 3)))
            if i % 2:
                client.exactly(500)
            client.reset()

    def at_once(self, count):
        """Several clients side by side."""
        failures = []

        def one(seed):
            try:
                self.requests(seed, 8)
            except Exception as error:
                failures.append(repr(error))
        threads = [threading.Thread(target=one, args=(1000 + i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(not failures, f"{len(failures)} of {count} clients: {failures[:2]}")

    def whole(self, server):
        """All of it, with a look at what is left afterwards; what was seen."""
        # Warm: what is made once is there, and each kind of call was made.
        self.requests(1, 5)
        self.ends()
        self.at_once(4)
        with server.keeps_nothing():
            seen = {"bytes": [self.requests(2, 40), self.requests(3, 15, rcvbuf=4096)]}
            self.batches(4, 5, 200)
            self.stalled()
            self.ends()
            self.resets()
            self.at_once(8)
        server.idles()
        return seen | {"belongings": server.belongings()}
