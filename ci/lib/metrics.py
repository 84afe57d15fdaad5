# SPDX-License-Identifier: GPL-2.0-only
"""Does OpenMetrics' reference parser read what the daemon serves?

usage: metrics.py SCRAPE
"""
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

with open(sys.argv[1], encoding="utf-8") as scrape:
    families = {family.name: family for family in text_string_to_metric_families(scrape.read())}
for name in ("flexnet_queue_delay_seconds", "flexnet_grant_latency_seconds", "flexnet_class_wait_seconds"):
    kind = families[name].type if name in families else "missing"
    if kind != "histogram":
        sys.exit(f"{name} is {kind}, not a histogram")
print(len(families), "families")
