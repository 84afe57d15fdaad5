# SPDX-License-Identifier: GPL-2.0-only
"""The experiments of bench/all: their cells, what a cell measures, and how all of them are shown.

A kind of experiment has a list of cells. A cell is measured by one boot and gives rows, or nothing
where it failed. Rows with equal keys differ by their seed.
"""
import json
import cells as virtual
from curves import draw

COLOCATE = ["eevdf", "eevdf+library", "eevdf+steering", "eevdf+rt", "scx_flexnet", "scx_flexnet-alone"]
# Requests a second: for redis a tenth of what it reaches plain and alone on two CPUs in virtual
# time, for the others in the ratio that they had to it in real time. Fanout and iperf3 have no rate.
PROGRAM_RATES = {"redis": 600, "memcached": 480, "nginx": 140, "fanout": 1, "iperf3": 1}
DESIGNS = ["eevdf", "eevdf+idle", "flexnet:quantum=500us", "netchannel", "snap:mode=dedicating", "snap:mode=spreading",
           "snap:slo=5ms", "shenango", "shinjuku:quantum=500us,slo1=100ms", "shinjuku:quantum=0ns"]
# The scenarios by the number of CPUs that they are for: CPU 0 stands for other machines.
SCENARIOS = {2: "steps,mixed,colocate", 3: "engines"}
PIPE_LOOPS = 2000


class Colocate:
    """A service beside T bulk senders: P99 and bulk throughput against T."""

    keys = ["cpus", "t_apps", "scheduler"]
    digits = {"p50_us": 0, "p99_us": 0, "mb_s": 1, "net_cores": 2}

    def __init__(self, options):
        self.options, self.made_by = options, virtual.digest()
        self.cells = [(cpus, t_apps, scheduler, "", seed) for seed in options.seeds for cpus in options.cpus
                      for t_apps in options.t_apps for scheduler in COLOCATE]

    def measure(self, cell):
        result = virtual.colocate(self.options.out / "colocate", self.made_by, cell, self.options.seconds, 400)
        return result and [result[0]]

    def draw(self, rows, file):
        panels = []
        for name, what, logarithmic in (("p99_us", "P99, µs", True), ("mb_s", "bulk, MB/s", False)):
            panels.append((logarithmic, [(f"{cpus} CPUs: {what}", lines(
                [row for row in rows if row["cpus"] == cpus], "scheduler", "t_apps", name))
                for cpus in sorted({row["cpus"] for row in rows})]))
        seeds = len({row["seed"] for row in rows})
        draw("A service beside T bulk senders, in virtual time",
             f"T; cells of {self.options.seconds:g} s, mean over {seeds} seeds with its 95% interval", panels, file)


class Overhead:
    """`perf bench sched` without executors: seconds."""

    keys = ["cpus", "scheduler", "bench"]
    digits = {"seconds": 3}
    draw = None

    def __init__(self, options):
        self.options = options
        self.adds = [virtual.perf(), virtual.ROOT / "bench/lib/overhead-guest"]
        self.made_by = virtual.digest(*self.adds)
        self.cells = [(cpus, scheduler, seed) for seed in options.seeds for cpus in options.cpus
                      for scheduler in ("eevdf", "scx_flexnet")]

    def measure(self, cell):
        cpus, scheduler, seed = cell
        folder = self.options.out / "overhead" / f"{cpus}-cpus-{scheduler}-seed-{seed}"
        said = virtual.boot(folder, self.made_by, cpus, seed, [
            "overhead-guest", "1", str(PIPE_LOOPS), "pipe messaging", scheduler, "lockstep"], self.adds)
        if said is None:
            return None
        found = [line.split() for line in (folder / "out/overhead.txt").read_text().splitlines()]
        return [{"cpus": cpus, "scheduler": scheduler, "seed": seed, "bench": bench, "seconds": float(seconds)}
                for _, _, bench, seconds in found]


class Programs:
    """Unmodified programs, plain and offloaded, alone and beside eight bulk senders."""

    keys = ["cpus", "scheduler", "program", "offload", "neighbours"]
    digits = {"p50_us": 0, "p99_us": 0, "throughput": 0, "cpu_us_per_request": 2, "cpu_half_us_per_request": 2,
              "neighbours_mb_s": 1}
    draw = None

    def __init__(self, options):
        self.options = options
        names = ("redis-server", "memcached", "nginx", "iperf3")
        self.adds = [virtual.TARGET / "release/libflexnet_preload.so", *(virtual.program(name) for name in names)]
        self.made_by = virtual.digest(*self.adds)
        self.cells = [(cpus, scheduler, program, seed) for seed in options.seeds for cpus in options.cpus
                      for scheduler in ("eevdf", "scx_flexnet") for program in PROGRAM_RATES]

    def measure(self, cell):
        cpus, scheduler, program, seed = cell
        folder = self.options.out / "programs" / f"{cpus}-cpus-{scheduler}-{program}-seed-{seed}"
        said = virtual.boot(folder, self.made_by, cpus, seed, [
            "flexnet-bench", "programs", "--lockstep", "--only", scheduler, "--programs", program, "--rounds", "1",
            "--seconds", str(self.options.seconds), "--rate", str(PROGRAM_RATES[program]), "--steer", "",
            "--neighbours", self.options.neighbours, "--json", "/out/programs.json"], self.adds)
        if said is None:
            return None
        result = json.loads((folder / "out/programs.json").read_text())
        kept = ("scheduler", "program", "offload", "neighbours", *self.digits)
        return [{"cpus": cpus, "seed": seed, "rate": PROGRAM_RATES[program]} | {name: row[name] for name in kept}
                for row in result["cells"]]


class Designs:
    """Every design on real executors, against EEVDF with plain threads."""

    keys = ["scenario", "measure", "rival", "cpus"]
    digits = {"value": 2}
    draw = None

    def __init__(self, options):
        self.options, self.made_by = options, virtual.digest()
        self.cells = [(cpus, rival, seed) for seed in options.seeds for cpus in SCENARIOS for rival in DESIGNS]

    def measure(self, cell):
        cpus, rival, seed = cell
        folder = self.options.out / "designs" / f"{cpus}-cpus-{rival}-seed-{seed}"
        said = virtual.boot(folder, self.made_by, cpus, seed, [
            "flexnet-bench", "designs", "--lockstep", "--rivals", rival, "--only", SCENARIOS[cpus], "--rounds", "1",
            "--step", str(self.options.seconds), "--json", "/out/designs.json"])
        if said is None:
            return None
        result = json.loads((folder / "out/designs.json").read_text())
        return [{"cpus": cpus, "seed": seed, "scenario": found["scenario"], "rival": rival,
                 "measure": value["name"], "value": value["median"]}
                for found in result["cells"] for value in found["values"]]


KINDS = {"colocate": Colocate, "overhead": Overhead, "programs": Programs, "designs": Designs}


def lines(rows, line_key, x_key, value_key):
    """Lines of bench/lib/curves.py: a point is the mean over seeds and half of its interval."""
    found = {}
    for row in rows:
        found.setdefault(row[line_key], {}).setdefault(row[x_key], []).append(row[value_key])
    return [(name, [(x, *virtual.mean_and_half(values)) for x, values in sorted(points.items())])
            for name, points in found.items()]


def table(rows, keys, digits):
    """Means over seeds with their 95% intervals, as Markdown."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    text = [f"| {' | '.join([*keys, *digits])} |", "|---" * (len(keys) + len(digits)) + "|"]
    for key, of in groups.items():
        shown = []
        for name, places in digits.items():
            values = [float(row[name]) for row in of if row[name] is not None]
            shown.append(virtual.interval(values, places) if values else "–")
        text.append(f"| {' | '.join(map(str, key))} | {' | '.join(shown)} |")
    return "\n".join(text)
