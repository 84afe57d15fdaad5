# SPDX-License-Identifier: GPL-2.0-only
"""Cells in virtual time: a boot each, whose result stays until what it is made with changes.

What bench/virtual, sweep, gate and all share. Promises that a cell which is there and was made
by the same files is not made again. What a cell measures is the caller's to say.
"""
import concurrent.futures
import csv
import hashlib
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Of Student's distribution, two-sided 95%, by degrees of freedom; beyond them the normal one.
STUDENT = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14]


def numbers(text):
    """Whole numbers with commas between, as an argument."""
    return [int(number) for number in text.split(",")]


def build(*packages):
    """Installs and builds what the cells are made with; packages beside the default ones."""
    more = "".join(f" && cargo build --release --quiet -p {package}" for package in packages)
    subprocess.run(["bash", "-c", f"ci/setup && . ci/env && cargo build --release --quiet{more}"],
                   cwd=ROOT, check=True, stdout=sys.stderr)


def program(name):
    """Where a program of this machine is."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        sys.exit(f"there is no {name} here: run ci/setup")
    return found


def perf():
    """perf, which is installed where it is missing, as an argument of `ci/vm --add`."""
    found = subprocess.run([ROOT / "bench/lib/perf"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return found.strip() + ":/flexnet/bin/perf"


def digest(*more):
    """What cells are made with: programs, kernel, plugin and the scripts of the VM, and what is added."""
    files = [TARGET / "release" / name for name in ("scx_flexnet", "flexnet", "flexnet-bench")]
    files += sorted((ROOT / "ci/virtual-time").glob("lockstep.*"))
    files += [ROOT / "ci/vm", ROOT / "ci/lib/qemu.sh", ROOT / "ci/lib/guest-run", ROOT / "ci/lib/guest-init"]
    total = hashlib.sha256(os.environ.get("FLEXNET_KERNEL", "").encode())
    for file in [*files, *more]:
        total.update(pathlib.Path(str(file).split(":")[0]).read_bytes())
    return total.hexdigest()


def boot(folder, made_by, cpus, seed, command, adds=()):
    """Runs a command in a guest, unless the folder has its result; its output, nothing if it failed.

    What it writes under /out is in the folder's `out`. adds are files as of `ci/vm --add`.
    """
    key = json.dumps([made_by, cpus, seed, command])
    mark, output = folder / "made-by", folder / "output"
    if mark.is_file() and mark.read_text() == key:
        return output.read_text()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    added = [word for file in adds for word in ("--add", str(file))]
    with open(output, "w", encoding="utf-8") as to, open(folder / "errors", "w", encoding="utf-8") as errors:
        done = subprocess.run([ROOT / "ci/vm", "--virtual-time", "--cpus", str(cpus), "--seed", str(seed),
                               *added, "--out", folder / "out", "--", *command],
                              stdin=subprocess.DEVNULL, stdout=to, stderr=errors)
    if done.returncode:
        print(f"{folder.name} failed: {output.read_text()[-2000:]}{(folder / 'errors').read_text()[-2000:]}",
              file=sys.stderr)
        return None
    mark.write_text(key)
    return output.read_text()


def each(jobs, function, cells):
    """The function's results for all cells, some at once, without those that failed; and how many failed."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(function, cells))
    good = [result for result in results if result is not None]
    return good, len(results) - len(good)


def percentile(values, share):
    """The smallest of the sorted values that is not exceeded by this share of them."""
    return values[max(0, math.ceil(len(values) * share) - 1)]


def mean_and_half(values):
    """The mean over seeds, and half of its 95% interval; nothing for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    quantile = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else 1.96
    return mean, quantile * statistics.stdev(values) / math.sqrt(len(values))


def interval(values, digits=0):
    """The same as text."""
    mean, half = mean_and_half(values)
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def colocate(out, made_by, cell, seconds, rate):
    """A cell of the co-location experiment: its row and its sorted latencies, or nothing.

    A cell is CPUs, bulk senders, the scheduler's name in flexnet-bench, scx_flexnet's arguments
    and the seed.
    """
    cpus, t_apps, scheduler, words, seed = cell
    variant = hashlib.sha256(f"{words} {seconds} {rate}".encode()).hexdigest()[:8]
    folder = out / f"{cpus}-cpus-t-{t_apps}-{scheduler}-{variant}-seed-{seed}"
    said = boot(folder, made_by, cpus, seed, [
        "flexnet-bench", "colocate", "--lockstep", "--matrix", "--only", scheduler, "--rounds", "1",
        "--seconds", str(seconds), "--requests", "1", "--rate", str(rate),
        "--t-apps", str(t_apps), "--steer", "lo" if "steering" in scheduler else "",
        "--scx-flexnet", words, "--json", "/out/colocate.json", "--latencies", "/out/latencies.csv"])
    if said is None:
        return None
    result = json.loads((folder / "out/colocate.json").read_text())["cells"][0]
    with open(folder / "out/latencies.csv", encoding="utf-8") as file:
        us = sorted(float(row["latency_us"]) for row in csv.DictReader(file))
    row = dict(zip(("cpus", "t_apps", "scheduler", "arguments", "seed"), cell))
    row |= {"seconds": seconds, "rate": rate, "requests": len(us),
            "unanswered": result["l_unsent"] + result["l_unanswered"],
            "p50_us": percentile(us, 0.5), "p99_us": percentile(us, 0.99), "max_us": us[-1],
            "mb_s": round(result["t_mb_s"], 2), "net_cores": result["net_cores_avg"]}
    print(f"{folder.name}: P50 {row['p50_us']:.0f} µs, P99 {row['p99_us']:.0f} µs, {row['mb_s']:.1f} MB/s",
          file=sys.stderr, flush=True)
    return row, us


def write_rows(file, rows):
    """Rows of equal columns as CSV."""
    with open(file, "w", encoding="utf-8", newline="") as to:
        writer = csv.DictWriter(to, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
