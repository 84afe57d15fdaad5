# SPDX-License-Identifier: GPL-2.0-only
"""A server of non-blocking sockets over epoll. usage: PORT PATTERN level|edge SNDBUF"""
import os
import select
import socket
import sys

port, path, trigger, sndbuf = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
EDGE = select.EPOLLET if trigger == "edge" else 0
pattern = open(path, "rb").read()
data_file = os.open(path, os.O_RDONLY)


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.inbox = bytearray()
        # What is still to be written: bytes, a stretch of the file, "shut", "close".
        self.outbox = []
        self.counting = None
        self.ended = False

    def readable(self):
        """Until EAGAIN, as edge triggering asks; true where the peer ended."""
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self.inbox += data
            self.requests()

    def requests(self):
        if self.counting is not None:
            return
        while (end := self.inbox.find(b"\n")) >= 0:
            words = self.inbox[:end].split()
            if words[0] == b"ECHO":
                size = int(words[1])
                if len(self.inbox) < end + 1 + size:
                    return
                self.outbox.append(bytes(self.inbox[end + 1:end + 1 + size]))
                end += size
            elif words[0] == b"GIVE":
                start, size, chunk = map(int, words[1:])
                self.outbox += [pattern[at:min(at + chunk, start + size)] for at in range(start, start + size, chunk)]
            elif words[0] == b"FILE":
                start, size = map(int, words[1:])
                self.outbox += [b"file\n", (start, size), b"end\n"]
            elif words[0] == b"CLOSE":
                self.outbox += [pattern[:int(words[1])], "close"]
            elif words[0] == b"SHUT":
                self.outbox += [pattern[:int(words[1])], "shut"]
                self.counting = 0
            del self.inbox[:end + 1]

    def writable(self):
        """Until EAGAIN or nothing is left; false when it is closed."""
        while self.outbox:
            first = self.outbox[0]
            try:
                if first == "close":
                    return False
                if first == "shut":
                    self.sock.shutdown(socket.SHUT_WR)
                    self.outbox.pop(0)
                elif isinstance(first, tuple):
                    start, size = first
                    sent = os.sendfile(self.sock.fileno(), data_file, start, size)
                    self.outbox[:1] = [(start + sent, size - sent)] if sent < size else []
                else:
                    sent = self.sock.send(first)
                    self.outbox[:1] = [first[sent:]] if sent < len(first) else []
            except BlockingIOError:
                return True
        return not self.ended


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sndbuf:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections = {}

    def interest(connection):
        if EDGE:
            return select.EPOLLIN | select.EPOLLOUT | EDGE
        return (0 if connection.ended else select.EPOLLIN) | (select.EPOLLOUT if connection.outbox else 0)

    while True:
        for fd, event in epoll.poll():
            if fd == listener.fileno():
                sock = listener.accept()[0]
                sock.setblocking(False)
                connections[sock.fileno()] = connection = Connection(sock)
                epoll.register(sock, interest(connection))
                continue
            connection = connections[fd]
            try:
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and connection.readable():
                    connection.ended = True
                alive = connection.writable()
            except OSError:
                alive = False
            if not alive:
                epoll.unregister(fd)
                connections.pop(fd).sock.close()
            elif not EDGE:
                epoll.modify(fd, interest(connection))


main()
