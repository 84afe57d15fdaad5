#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Unmodified programs, plain and with the preload library: the same results.

Each case runs in a network and process namespace of its own, first plain, then
in all modes of the library; what it reports must be equal. README.md has the cases.
"""
import argparse
import concurrent.futures
import fcntl
import importlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

from harness import table
from harness.program import Mode

HERE = pathlib.Path(__file__).resolve().parent
# A whole case in one mode; a hang that no limit within the case told.
CASE_LIMIT = 150
TABLE = HERE.parents[1] / "crates/flexnet-preload/PROGRAMS.md"


def cases():
    return sorted(path.stem for path in (HERE / "cases").glob("*.py") if path.stem != "__init__")


def load(name):
    return importlib.import_module(f"cases.{name}")


def bring_up_loopback():
    request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS


def inside(name, mode_name, library, workdir):
    """The case itself, in its namespace; what it saw goes into a file."""
    bring_up_loopback()
    mode = Mode(mode_name, library, workdir)
    seen = load(name).run(mode)
    (mode.workdir / "seen.json").write_text(json.dumps(seen))


def run_case(name, mode, options):
    """What the case saw, None where it failed, and what to say about it."""
    with tempfile.TemporaryDirectory(prefix=f"flexnet-{name}-") as workdir:
        os.chmod(workdir, 0o755)
        command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                   sys.executable, str(HERE / "run.py"), "--inside", name, "--mode", mode,
                   "--library", str(options.library), "--workdir", workdir]
        start = time.monotonic()
        try:
            done = subprocess.run(command, timeout=CASE_LIMIT, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            output, failed = done.stdout, done.returncode != 0
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace") + f"no end within {CASE_LIMIT} s\n"
            failed = True
        seconds = time.monotonic() - start
        text = f"{name:<13} {mode:<15} {'FAILED' if failed else 'ok':<6} {seconds:5.1f} s"
        if not failed:
            return json.loads(pathlib.Path(workdir, "seen.json").read_text()), text
        log = pathlib.Path(workdir, "flexnet.log")
        if log.exists():
            output += "--- the library's log:\n" + log.read_text(errors="replace")[-3000:]
        return None, f"{text}\n{output}"


def compare(name, mode, plain, seen):
    """What is different, in words."""
    different = sorted(key for key in plain.keys() | seen.keys() if plain.get(key) != seen.get(key))
    return "".join(f"\n{name} {mode}: {key} is {seen.get(key)!r}, plain {plain.get(key)!r}" for key in different)


def run_all(names, options):
    """All cases in all their modes, several at a time; how many failed."""
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = {}
        for name in names:
            modes = options.modes.split(",") if options.modes else table.MODES
            for mode in ["plain"] + ([] if options.plain else modes):
                runs[name, mode] = pool.submit(run_case, name, mode, options)
        for (name, mode), run in runs.items():
            seen, text = run.result()
            plain = runs[name, "plain"].result()[0]
            different = compare(name, mode, plain, seen) if seen is not None and plain is not None else ""
            wrong += seen is None or bool(different)
            print(text + different, flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True, help="libflexnet_preload.so")
    parser.add_argument("--only", help="cases, by name, with commas")
    parser.add_argument("--modes", help="modes instead of all, with commas; off is one, too")
    # A case waits most of its time: all of them use two CPUs for less than a minute.
    parser.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1), help="cases at a time (3 a CPU)")
    parser.add_argument("--plain", action="store_true", help="plain alone: are the cases themselves right?")
    parser.add_argument("--write-table", action="store_true", help="after a run of all: writes the page of programs")
    parser.add_argument("--list", action="store_true", help="the cases' names")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        try:
            inside(options.inside, options.mode, options.library, options.workdir)
        except Exception:  # whatever it is, it is the case's failure
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            # Threads of a client that hangs do not keep it.
            os._exit(1)
        return 0
    names = options.only.split(",") if options.only else cases()
    if options.list:
        print("\n".join(names))
        return 0
    options.library = pathlib.Path(options.library).resolve()
    if not options.plain and not options.library.is_file():
        parser.error(f"no library {options.library}: cargo build --release -p flexnet-preload")
    if os.geteuid() != 0:
        parser.error("namespaces need root")
    wrong = run_all(names, options)
    whole = not (options.only or options.modes or options.plain)
    if whole and not wrong and (stale := table.check(TABLE, {name: load(name) for name in names}, options.write_table)):
        print(stale)
        return 1
    print(f"{wrong} failed" if wrong else "all as without the library")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
