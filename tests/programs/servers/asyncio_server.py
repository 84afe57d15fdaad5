# SPDX-License-Identifier: GPL-2.0-only
"""A server of asyncio's streams. usage: PORT PATTERN SNDBUF"""
import asyncio
import socket
import sys

port, path, sndbuf = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
pattern = open(path, "rb").read()


async def serve(reader, writer):
    try:
        while words := (await reader.readline()).split():
            if words[0] == b"ECHO":
                writer.write(await reader.readexactly(int(words[1])))
            elif words[0] == b"GIVE":
                start, size, chunk = map(int, words[1:])
                for at in range(start, start + size, chunk):
                    writer.write(pattern[at:min(at + chunk, start + size)])
                    await writer.drain()
            elif words[0] == b"FILE":
                start, size = map(int, words[1:])
                writer.write(b"file\n")
                await writer.drain()
                with open(path, "rb") as file:
                    await asyncio.get_running_loop().sendfile(writer.transport, file, start, size)
                writer.write(b"end\n")
            elif words[0] == b"CLOSE":
                writer.write(pattern[:int(words[1])])
                break
            elif words[0] == b"SHUT":
                writer.write(pattern[:int(words[1])])
                writer.write_eof()
                while await reader.read(65536):
                    pass
                break
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sndbuf:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.start_server(serve, sock=listener, backlog=64)
    await server.serve_forever()


asyncio.run(main())
