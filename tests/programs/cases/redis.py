# SPDX-License-Identifier: GPL-2.0-only
"""redis-server: every reply checked, and what redis-benchmark drives."""
import random
import re

from harness.net import Client, digest, pattern
from harness.program import Program, run as run_command
from harness.waiting import check, wait_until

VERSION = ["redis-server", "--version"]
CHECKED = ("pipelines against a model, 8 MB values, MULTI, pub/sub, BLPOP, output limits, a diskless replica "
           "(fork), redis-benchmark")
PORT, REPLICA = 6400, 6401


class Redis(Client):
    def command(self, *words):
        """Sends; the reply is read later."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.send(b"".join(parts))

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind in b"+-:":
            return line
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            data = self.exactly(size + 2)
            check(data.endswith(b"\r\n"), "a bulk reply ends wrongly")
            return data[:-2]
        check(kind == b"*", f"a reply that is none: {line[:60]!r}")
        return None if int(rest) < 0 else [self.reply() for _ in range(int(rest))]

    def ask(self, *words):
        self.command(*words)
        return self.reply()

    def expect(self, wanted, *words):
        got = self.ask(*words)
        check(got == wanted, f"{words[0]}: {got!r:.80} instead of {wanted!r:.80}")


def server(mode, port, *more):
    return Program(mode, ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", "--dir", mode.workdir, "--enable-debug-command", "yes",
                          "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
                          "--repl-diskless-load", "swapdb", "--client-output-buffer-limit",
                          "pubsub 1mb 1mb 0", *more], port=port)


def pipelined():
    """Batches of mixed commands, each reply against a model of the store."""
    rng, model, seen = random.Random(4), {}, []
    with Redis(PORT) as client:
        for batch in range(60):
            wanted = []
            for _ in range(rng.choice([1, 3, 30, 200])):
                key = f"k{rng.randrange(50)}"
                what = rng.random()
                if what < 0.5:
                    value = pattern(rng.choice([0, 1, 20, 1400, 16000, 70000]), rng.random())
                    client.command("SET", key, value)
                    model[key] = value
                    wanted.append(b"+OK")
                elif what < 0.9:
                    client.command("GET", key)
                    wanted.append(model.get(key))
                else:
                    client.command("DEL", key)
                    wanted.append(b":1" if model.pop(key, None) is not None else b":0")
            got = [client.reply() for _ in wanted]
            check(got == wanted, f"batch {batch}: a reply is another's, or wrong")
            seen.extend(repr(reply).encode() for reply in got)
        client.expect(f":{len(model)}".encode(), "DBSIZE")
    return digest(b"".join(seen))


def large():
    value = pattern(8 << 20, "large")
    with Redis(PORT) as client, Redis(PORT, rcvbuf=4096) as slow:
        client.expect(b"+OK", "SET", "large", value)
        client.expect(value, "GET", "large")
        # A small window: partial writes, then waiting for room again and again.
        slow.expect(value, "GET", "large")


def transactions():
    with Redis(PORT) as client, Redis(PORT) as other:
        client.expect(b"+OK", "MULTI")
        for i in range(100):
            client.expect(b"+QUEUED", "INCR", "counter")
        client.expect([b":%d" % (i + 1) for i in range(100)], "EXEC")
        client.expect(b"+OK", "WATCH", "counter")
        client.expect(b"+OK", "MULTI")
        client.expect(b"+QUEUED", "INCR", "counter")
        other.expect(b":101", "INCR", "counter")
        client.expect(None, "EXEC")


def published():
    """Every subscriber has every message, in order."""
    subscribers = [Redis(PORT) for _ in range(8)]
    with Redis(PORT) as publisher:
        for subscriber in subscribers:
            subscriber.command("SUBSCRIBE", "news")
            check(subscriber.reply() == [b"subscribe", b"news", b":1"], "SUBSCRIBE")
        for i in range(500):
            publisher.command("PUBLISH", "news", b"%d " % i + pattern(i, i))
        for i in range(500):
            check(publisher.reply() == b":8", "PUBLISH reaches all")
        for subscriber in subscribers:
            for i in range(500):
                check(subscriber.reply() == [b"message", b"news", b"%d " % i + pattern(i, i)], f"message {i}")
    for subscriber in subscribers:
        subscriber.sock.close()


def blocked():
    """Clients that wait in BLPOP are woken in the order they came."""
    waiting = [Redis(PORT) for _ in range(20)]
    with Redis(PORT) as client:
        for n, one in enumerate(waiting):
            one.command("BLPOP", "queue", 0)
            wait_until(lambda n=n: b"blocked_clients:%d\r" % (n + 1) in client.ask("INFO", "clients"),
                       "BLPOP to block")
        for i in range(20):
            client.ask("RPUSH", "queue", f"item {i}")
        for i, one in enumerate(waiting):
            check(one.reply() == [b"queue", b"item %d" % i], f"item {i}")
            one.sock.close()


def stalled():
    """Clients that stop reading hold up nobody and lose nothing."""
    value = pattern(100_000, "stalled")
    with Redis(PORT) as client:
        client.expect(b"+OK", "SET", "stalled", value)
        stalled = [Redis(PORT, rcvbuf=8192) for _ in range(4)]
        for one in stalled:
            for _ in range(100):
                one.command("GET", "stalled")
        for i in range(200):
            client.expect(b"+OK", "SET", "other", str(i))
        for one in stalled[:3]:
            for i in range(100):
                check(one.reply() == value, f"reply {i} after a pause")
            one.sock.close()
        # In the middle of what it was owed.
        stalled[3].exactly(1000)
        stalled[3].reset()
        # A subscriber that never reads is cut off at its limit, and only it.
        deaf = Redis(PORT, rcvbuf=4096)
        deaf.command("SUBSCRIBE", "noise")
        deaf.reply()
        check(client.ask("PUBLISH", "noise", pattern(1000)) == b":1", "the subscriber is there")
        wait_until(lambda: client.ask("PUBLISH", "noise", value) == b":0", "the deaf subscriber's end")
        deaf.closed_by_peer()
        deaf.sock.close()


def resets():
    for i in range(50):
        client = Redis(PORT)
        client.send(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * (i % 4 + 1))
        if i % 2:
            client.exactly(10)
        client.reset()


def replicated(mode, master):
    """Full synchronisation: a forked child writes to the replica's socket."""
    with server(mode, REPLICA) as replica, Redis(PORT) as client, Redis(REPLICA) as other:
        other.expect(b"+OK", "REPLICAOF", "127.0.0.1", PORT)
        wait_until(lambda: b"master_link_status:up" in other.ask("INFO", "replication"), "the replica's link")
        for i in range(2000):
            client.command("SET", f"r{i}", pattern(i % 300, i))
        for i in range(2000):
            check(client.reply() == b"+OK", "SET while replicated")
        check(client.ask("WAIT", 1, 60000) == b":1", "the replica has all")
        alike = client.ask("DEBUG", "DIGEST"), other.ask("DEBUG", "DIGEST")
        check(alike[0] == alike[1], f"master and replica differ: {alike}")
        wait_until(lambda: len(master.processes()) == 1, "the child's end")
        other.sock.close()
        replica.stop()
    return alike[0].decode()


def benchmark(mode, *more):
    text = run_command(mode, ["redis-benchmark", "-p", PORT, "-n", 3000, "-c", 20, "--csv", *more])
    check(not re.search(r"error|ERR", text), text)
    # A line for each test: all the requests were answered.
    return sorted(re.findall(r'^"([A-Za-z ()_0-9]+)","[0-9.]+"', text, re.M))


def checked(mode, *more):
    """A server with these options; what it replied and what it has in the end."""
    seen = {}
    with server(mode, PORT, *more) as redis:
        with Redis(PORT) as client:
            client.expect(b"+PONG", "PING")
            pipelined()
            client.expect(b"+OK", "FLUSHALL")
            with redis.keeps_nothing():
                seen["pipelined"] = pipelined()
                large()
                transactions()
                published()
                blocked()
                stalled()
                resets()
                seen["benchmark"] = [benchmark(mode, "-t", "get,set,lrange_100"),
                                     benchmark(mode, "-t", "get,set", "-P", "16", "-d", "1000")]
            # The clients that came and went are gone for redis too.
            wait_until(lambda: b"connected_clients:1\r" in client.ask("INFO", "clients"), "the clients' end")
        seen["replica"] = replicated(mode, redis)
        redis.idles()
        seen["belongings"] = redis.belongings()
        redis.stop()
    return seen


def run(mode):
    return checked(mode)
