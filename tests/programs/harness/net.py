# SPDX-License-Identifier: GPL-2.0-only
"""Clients that are never preloaded: what they see is what the wire carried."""
import hashlib
import random
import socket
import struct

from .waiting import LIMIT, Failure, check


def pattern(size, seed=0):
    """Bytes that say where they belong: no stretch of them repeats nearby."""
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


class Client:
    """A TCP connection with a buffer; every wait has a limit."""

    def __init__(self, port, rcvbuf=None, sndbuf=None):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if sndbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        self.sock.settimeout(LIMIT)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise Failure("the server reads no more: sending hangs") from None

    def _fill(self, most=1 << 20):
        try:
            data = self.sock.recv(most)
        except TimeoutError:
            raise Failure(f"no more data within {LIMIT:.0f} s: a reply is lost or late "
                          f"(here so far: {bytes(self.buffer[-80:])!r})") from None
        self.buffer += data
        return len(data)

    def exactly(self, size):
        while len(self.buffer) < size:
            check(self._fill(), f"the connection ended {size - len(self.buffer)} bytes early")
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def line(self):
        """Up to CR LF, without it."""
        while (end := self.buffer.find(b"\r\n")) < 0:
            check(self._fill(), "the connection ended within a line")
        data = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        return data

    def rest(self):
        """All up to the end of the stream."""
        while self._fill():
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def reset(self):
        """Ends the connection by RST, whatever is under way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def closed_by_peer(self):
        """Reads and drops until the server ends the connection, either way."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise Failure("the server does not end the connection") from None
