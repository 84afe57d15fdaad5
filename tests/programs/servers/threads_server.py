# SPDX-License-Identifier: GPL-2.0-only
"""A thread a connection. usage: PORT PATTERN SNDBUF"""
import sys
import threading

from blocking import listen, serve

listener = listen(int(sys.argv[1]), int(sys.argv[3]))
while True:
    sock = listener.accept()[0]
    threading.Thread(target=serve, args=(sock, sys.argv[2]), daemon=True).start()
