# SPDX-License-Identifier: GPL-2.0-only
"""memcached: values checked over TCP and UDP, and what memcaslap drives."""
import random
import re
import socket
import struct

from harness.net import Client, digest, pattern
from harness.program import Program, run as run_command
from harness.waiting import LIMIT, check

VERSION = ["memcached", "-V"]
CHECKED = "text protocol against a model, 500 values at once, UDP, memcaslap with verification"
PORT = 11300


class Memcached(Client):
    def set(self, key, value, noreply=False):
        tail = b" noreply" if noreply else b""
        self.send(b"set %s 0 0 %d%s\r\n%s\r\n" % (key, len(value), tail, value))

    def values(self):
        """The values of one get, by key."""
        found = {}
        while (line := self.line()) != b"END":
            word, key, _, size = line.split()
            check(word == b"VALUE", f"{line!r} in place of a value")
            found[key] = self.exactly(int(size))
            check(self.line() == b"", "a value ends wrongly")
        return found

    def get(self, *keys):
        self.send(b"get " + b" ".join(keys) + b"\r\n")
        return self.values()


def mixed(seed):
    rng, model, seen = random.Random(seed), {}, []
    with Memcached(PORT) as client:
        for _ in range(60):
            batch = []
            for _ in range(rng.choice([1, 5, 100])):
                key = b"%d-%d" % (seed, rng.randrange(40))
                if rng.random() < 0.5:
                    model[key] = pattern(rng.choice([0, 10, 1000, 9000, 200_000]), rng.random())
                    quiet = rng.random() < 0.3
                    client.set(key, model[key], quiet)
                    if not quiet:
                        batch.append((None, None))
                else:
                    keys = sorted({key, b"%d-%d" % (seed, rng.randrange(40))})
                    client.send(b"get " + b" ".join(keys) + b"\r\n")
                    batch.append((keys, {k: model[k] for k in keys if k in model}))
            for keys, wanted in batch:
                if keys is None:
                    check(client.line() == b"STORED", "a set is answered")
                    continue
                got = client.values()
                check(got == wanted, f"get {keys}: a value is wrong or another's")
                seen.extend(got[k] for k in keys if k in got)
    return digest(b"".join(seen))


def many_keys():
    """One reply of many pieces, which memcached sends by several sendmsg."""
    with Memcached(PORT) as client, Memcached(PORT, rcvbuf=4096) as slow:
        wanted = {b"m%d" % i: pattern(i * 37 % 5000, i) for i in range(500)}
        for key, value in wanted.items():
            client.set(key, value)
        for _ in wanted:
            check(client.line() == b"STORED", "a set is answered")
        for one in (client, slow):
            check(one.get(*wanted) == wanted, "500 values at once")


def stalled():
    value = pattern(900_000, "stalled")
    with Memcached(PORT) as client:
        client.set(b"stalled", value)
        check(client.line() == b"STORED", "a large value")
        stalled = [Memcached(PORT, rcvbuf=4096) for _ in range(6)]
        for one in stalled:
            one.send(b"get stalled\r\n" * 5)
        for i in range(100):
            client.set(b"other", b"%d" % i)
            check(client.line() == b"STORED", "others are served")
        for one in stalled[:4]:
            for _ in range(5):
                check(one.values() == {b"stalled": value}, "what was owed after a pause")
            one.sock.close()
        for one in stalled[4:]:
            one.exactly(100)
            one.reset()


def over_udp():
    """Datagrams keep their boundaries; the 8 bytes before each number them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT)
        sock.connect(("127.0.0.1", PORT))
        with Memcached(PORT) as client:
            client.set(b"udp", pattern(5000, "udp"))
            check(client.line() == b"STORED", "a set over TCP")
        for request in range(200):
            sock.send(struct.pack("!HHHH", request, 0, 1, 0) + b"get udp\r\n")
            pieces, total = {}, None
            while total is None or len(pieces) < total:
                data = sock.recv(65536)
                number, part, total, _ = struct.unpack("!HHHH", data[:8])
                check(number == request, f"a datagram of request {number} in reply to {request}")
                pieces[part] = data[8:]
            text = b"".join(pieces[i] for i in range(total))
            check(text == b"VALUE udp 0 5000\r\n" + pattern(5000, "udp") + b"\r\nEND\r\n", "a value over UDP")


def slap(mode):
    text = run_command(mode, ["memcaslap", "-s", f"127.0.0.1:{PORT}", "-T", 2, "-c", 16, "-x", 20000,
                              "-v", "0.3", "-X", 1024])
    wrong = re.findall(r"(get_misses|verify_misses|verify_failed): ([1-9]\d*)", text)
    check(not wrong and "Ops: 20000" in text, f"memcaslap: {wrong}\n{text[-800:]}")
    return "20000 operations, all verified"


def run(mode):
    seen = {}
    with Program(mode, ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", PORT, "-U", PORT, "-t", 3, "-m", 200],
                 port=PORT) as memcached:
        mixed(1)
        over_udp()
        with memcached.keeps_nothing():
            seen["mixed"] = [mixed(seed) for seed in (2, 3)]
            many_keys()
            stalled()
            over_udp()
            seen["memcaslap"] = slap(mode)
        memcached.idles()
        seen["belongings"] = memcached.belongings()
        memcached.stop()
    return seen
