# SPDX-License-Identifier: GPL-2.0-only
"""rsync to and from a daemon that forks for each; both ends preloaded."""
import random

from harness.net import digest, pattern
from harness.program import Program, run as run_command
from harness.waiting import check, wait_until

VERSION = ["rsync", "--version"]
CHECKED = "to and from a daemon that forks"
PORT = 7700


def tree(root):
    rng = random.Random(3)
    for i in range(150):
        path = root / f"{i % 7}" / f"file{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pattern(rng.choice([0, 10, 3000, 40_000, 900_000]), i))


def contents(root):
    return {str(path.relative_to(root)): digest(path.read_bytes()) for path in sorted(root.rglob("*"))
            if path.is_file()}


def run(mode):
    source, target, back = (mode.workdir / name for name in ("source", "target", "back"))
    target.mkdir()
    tree(source)
    config = mode.workdir / "rsyncd.conf"
    config.write_text(f"use chroot = no\nuid = root\ngid = root\nlog file = {mode.workdir}/rsyncd.log\n"
                      f"[files]\npath = {target}\nread only = no\n")
    url = f"rsync://127.0.0.1:{PORT}/files/"
    command = ["rsync", "--daemon", "--no-detach", "--address", "127.0.0.1", "--port", PORT, f"--config={config}"]
    with Program(mode, command, port=PORT) as daemon:
        run_command(mode, ["rsync", "-a", f"{source}/", url])
        check(contents(target) == contents(source), "what was sent is there")
        # Differences only, and deletions.
        for path in sorted(source.rglob("file*"))[::5]:
            data = bytearray(path.read_bytes() + b"more")
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        (source / "0" / "file0").unlink()
        run_command(mode, ["rsync", "-a", "--checksum", "--delete", f"{source}/", url])
        check(contents(target) == contents(source), "what was changed is there")
        run_command(mode, ["rsync", "-az", url, f"{back}/"])
        check(contents(back) == contents(source), "what was fetched is the same")
        wait_until(lambda: len(daemon.processes()) == 1, "the daemon's children's end")
        # Which of them is a matter of its version.
        daemon.stop(status=(0, 20))
    return {"files": contents(source)}
