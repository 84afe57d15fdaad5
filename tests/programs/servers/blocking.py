# SPDX-License-Identifier: GPL-2.0-only
"""One connection, served by blocking calls."""
import os
import socket


def serve(sock, path):
    reader = sock.makefile("rb")
    pattern = open(path, "rb").read()
    try:
        while words := reader.readline().split():
            if words[0] == b"ECHO":
                sock.sendall(reader.read(int(words[1])))
            elif words[0] == b"GIVE":
                start, size, chunk = map(int, words[1:])
                for at in range(start, start + size, chunk):
                    sock.sendall(pattern[at:min(at + chunk, start + size)])
            elif words[0] == b"FILE":
                start, size = map(int, words[1:])
                sock.sendall(b"file\n")
                with open(path, "rb") as file:
                    while size:
                        sent = os.sendfile(sock.fileno(), file.fileno(), start, size)
                        start, size = start + sent, size - sent
                sock.sendmsg([b"en", b"d\n"])
            elif words[0] == b"CLOSE":
                sock.sendall(pattern[:int(words[1])])
                break
            elif words[0] == b"SHUT":
                sock.sendall(pattern[:int(words[1])])
                sock.shutdown(socket.SHUT_WR)
                while reader.read(65536):
                    pass
                break
    except ConnectionError:
        pass
    finally:
        reader.close()
        sock.close()


def listen(port, sndbuf):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sndbuf:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener
