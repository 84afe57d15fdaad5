# SPDX-License-Identifier: GPL-2.0-only
"""curl uploads: with a length, in chunks, as a form, several over one
connection; both ends preloaded. What arrived is recognised by its digest.
"""
import hashlib
import sys

from harness.dialogue import SERVERS
from harness.net import pattern
from harness.program import Program, run as run_command
from harness.waiting import check

VERSION = ["curl", "--version"]
CHECKED = "uploads with a length, in chunks, posted, several over one connection"
PORT = 7600
SIZES = [0, 1, 1000, 65_536, 3_000_000, 30_000_000]


def run(mode):
    url = f"http://127.0.0.1:{PORT}/"
    files, wanted = [], []
    for size in SIZES:
        files.append(mode.workdir / f"upload-{size}")
        files[-1].write_bytes(pattern(size, size))
        wanted.append(f"{size} {hashlib.sha256(pattern(size, size)).hexdigest()}")

    def curl(*words, stdin=None):
        return run_command(mode, ["curl", "-sS", "--max-time", 60, *words], stdin=stdin)

    with Program(mode, [sys.executable, SERVERS / "upload_server.py", PORT], port=PORT) as server:
        curl("-T", files[3], url)
        with server.keeps_nothing():
            for file, line in zip(files, wanted):
                check(line in curl("-T", file, url), f"an upload of {file.name}")
                # Of standard input the length is not known: chunks.
                with open(file, "rb") as stdin:
                    check(line in curl("-T", "-", url, stdin=stdin), f"an upload of {file.name} in chunks")
                check(line in curl("--data-binary", f"@{file}", url), f"a post of {file.name}")
            several = [word for file in files for word in ("-T", file, url)]
            check(curl(*several).split("\n")[:-1] == wanted, "several over one connection")
        server.idles()
        return {"uploads": wanted, "belongings": server.belongings()}
