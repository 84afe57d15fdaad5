# SPDX-License-Identifier: GPL-2.0-only
"""Medians and ratios to EEVDF, paired by round, of bench/overhead's output.

usage: overhead.py TEXT JSON
"""

import json
import statistics
import sys
from collections import defaultdict


def main():
    times = defaultdict(dict)
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            round_, scheduler, bench, seconds = line.split()
            times[bench, scheduler][int(round_)] = float(seconds)
    rows = []
    for (bench, scheduler), by_round in sorted(times.items()):
        base = times[bench, "eevdf"]
        ratios = sorted(by_round[r] / base[r] for r in by_round if r in base)
        rows.append(
            {
                "bench": bench,
                "scheduler": scheduler,
                "rounds": len(by_round),
                "seconds_median": statistics.median(by_round.values()),
                "ratio_to_eevdf": statistics.median(ratios),
                "ratio_min": ratios[0],
                "ratio_max": ratios[-1],
            }
        )
    print(f"{'bench':<10} {'scheduler':<12} {'seconds':>8}  to EEVDF [min, max]")
    for row in rows:
        print(
            f"{row['bench']:<10} {row['scheduler']:<12} {row['seconds_median']:>8.3f}  "
            f"{row['ratio_to_eevdf']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]"
        )
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        json.dump({"experiment": "overhead", "rows": rows}, out, indent=1)


if __name__ == "__main__":
    main()
