# SPDX-License-Identifier: GPL-2.0-only
"""Puts bench/sim/designs' results into one table and one file."""

import json
import pathlib
import sys

source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
rows = []
for path in sorted(source.glob("*-half.json")):
    service = path.name.removesuffix("-half.json")
    half = json.loads(path.read_text())
    capacity = json.loads((source / f"{service}-capacity.json").read_text())
    full = half["cores"] * 1e6 / half["service_mean_us"]
    held = {one["design"]: one["achieved_rps"] / full for one in capacity["outcomes"]}
    for one in half["outcomes"]:
        rows.append(
            {
                "service": service,
                "design": one["design"],
                "held_of_full": round(held.get(one["design"], 0), 4),
                "batch_share_at_half": round(one["batch_share"], 4),
                "p99_us_at_half": one["p99_us"],
            }
        )
target.write_text(json.dumps({"experiment": "sim-designs", "rows": rows}, indent=1) + "\n")
print(f"{'service':<18} {'design':<30} {'held':>6} {'batch at half':>13} {'P99 µs at half':>15}")
for row in rows:
    print(
        f"{row['service']:<18} {row['design']:<30} {row['held_of_full']:>6.2f}"
        f" {row['batch_share_at_half']:>13.2f} {row['p99_us_at_half']:>15.1f}"
    )
