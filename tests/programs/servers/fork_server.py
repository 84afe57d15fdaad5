# SPDX-License-Identifier: GPL-2.0-only
"""A process a connection. The parent writes a greeting right before it forks,
the child goes on behind it: their order is the test. usage: PORT PATTERN SNDBUF
"""
import os
import signal
import sys

from blocking import listen, serve

# The kernel buries the children.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = listen(int(sys.argv[1]), int(sys.argv[3]))
while True:
    sock = listener.accept()[0]
    sock.sendall(b"served by ")
    if os.fork() == 0:
        listener.close()
        sock.sendall(b"a child\n")
        serve(sock, sys.argv[2])
        os._exit(0)
    sock.close()
