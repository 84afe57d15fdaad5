# SPDX-License-Identifier: GPL-2.0-only
"""Do the dashboard and the alerts name what the daemon exports, and nothing else?

usage: monitoring.py RULES [SCRAPE]

What is exported is docs/metrics.md's table, which a test of the daemon compares
with what it serves; a scrape, where one is given, must have it too. Writes the
dashboard's expressions as recording rules, for promtool to parse.
"""
import json
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
folder = root / "packaging/monitoring"
# What Prometheus adds to every series, and its own metrics.
ADDED = {"instance", "job"}
OTHERS = {"ALERTS", "up"}


def exported():
    """Sample names with their labels."""
    samples = {}
    row = re.compile(r"\| `(flexnet_\w+)(?:\{([^}]*)\})?` \| (\w+) \|")
    for name, labels, kind in row.findall((root / "docs/metrics.md").read_text()):
        labels = ADDED | set(filter(None, labels.split(",")))
        if kind == "histogram":
            samples |= {name + "_bucket": labels | {"le"}, name + "_sum": labels, name + "_count": labels}
        else:
            samples[name] = labels
    return samples


def expressions():
    """Each expression, where it stands, and its legend."""
    dashboard = json.loads((folder / "grafana.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        yield "grafana.json", "two panels have one id", ""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"grafana.json, {panel['title']}", target["expr"], target["legendFormat"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield "grafana.json, " + variable["name"], variable["definition"], ""
    for name in ("alerts.yml", "alerts.test.yml"):
        text = (folder / name).read_text()
        for expression in re.findall(r"expr: (?:>-\n)?((?:.+\n)(?: {10,}.+\n)*)", text):
            yield name, expression, ""
        for series in re.findall(r"series: '([^']*)'", text):
            yield name, series, ""


def mistakes(samples):
    for place, expression, legend in expressions():
        names = set(re.findall(r"\b(flexnet_\w+)", expression))
        if not names and not any(other in expression for other in OTHERS):
            yield f"{place}: no metric in {expression!r}"
        for name in names - samples.keys():
            yield f"{place}: {name} is not exported"
        known = ADDED.union(*(samples.get(name, set()) for name in names))
        for name, selector in re.findall(r"\b(flexnet_\w+)\{([^}]*)\}", expression):
            for label in re.findall(r"(\w+) ?[=!]", selector):
                if label not in samples.get(name, {label}):
                    yield f"{place}: {name} has no label {label}"
        used = [word.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for word in by.split(",")]
        for label in filter(None, used + re.findall(r"\{\{(\w+)\}\}", legend)):
            if label not in known | {"alertname"}:
                yield f"{place}: no label {label} in {expression!r}"


def parsed_by_promtool(path):
    rules = []
    for number, (place, expression, _) in enumerate(expressions()):
        if place.startswith("grafana.json") and not expression.startswith("label_values"):
            expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
            rules.append({"record": f"panel:{number}", "expr": expression})
    # JSON is YAML.
    pathlib.Path(path).write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))


samples = exported()
found = list(mistakes(samples))
if not samples:
    found.append("docs/metrics.md has no table")
if len(sys.argv) > 2:
    scrape = pathlib.Path(sys.argv[2]).read_text()
    # A family without a series (no client, no grant yet) is still announced.
    served = set(re.findall(r"^# TYPE (\w+)", scrape, re.M))
    for name in samples:
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        if not served & {name, family, family.removesuffix("_total")}:
            found.append(f"{sys.argv[2]}: {name} was not served")
parsed_by_promtool(sys.argv[1])
print("\n".join(found) or "dashboard and alerts name what is exported")
sys.exit(bool(found))
