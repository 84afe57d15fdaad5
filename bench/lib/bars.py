# SPDX-License-Identifier: GPL-2.0-only
"""Bars of latencies on a logarithmic axis, a group for each number of CPUs, as SVG.

Promises the same bytes for the same numbers. What the numbers mean is the caller's to say.
"""
import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 840, 250, 190, 64
BAR, GAP, GROUP = 24, 6, 30
COLOURS = {"eevdf": "#9aa5b1", "eevdf+rt": "#c9a227", "scx_flexnet": "#2b6cb0", "scx_flexnet-alone": "#63a4dd"}
NAMES = {"eevdf": "EEVDF", "eevdf+rt": "EEVDF, service under chrt -r 1", "scx_flexnet": "scx_flexnet, with the library",
         "scx_flexnet-alone": "scx_flexnet"}


def text(x, y, words, anchor="start", size=13, weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def draw(title, groups, file):
    """Writes a picture: groups are (heading, [(scheduler, µs, remark)])."""
    values = [us for _, bars in groups for _, us, _ in bars]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** (math.floor(math.log10(max(values))) + 1)
    span = WIDTH - LEFT - RIGHT

    def place(us):
        return LEFT + span * math.log10(us / low) / math.log10(high / low)

    parts, y = [], TOP
    for heading, bars in groups:
        parts.append(text(12, y + 14, heading, weight="bold"))
        y += 24
        for scheduler, us, remark in bars:
            parts.append(text(LEFT - 8, y + BAR * 0.7, NAMES.get(scheduler, scheduler), "end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{place(us) - LEFT:.1f}" height="{BAR}" '
                         f'fill="{COLOURS.get(scheduler, "#888")}"/>')
            parts.append(text(place(us) + 6, y + BAR * 0.7, f"{us:,.0f} µs{remark}"))
            y += BAR + GAP
        y += GROUP - GAP
    ticks, tick = [], low
    while tick <= high:
        ticks.append(f'<line x1="{place(tick):.1f}" y1="{TOP - 8}" x2="{place(tick):.1f}" y2="{y - 12}" stroke="#ddd"/>')
        ticks.append(text(place(tick), y + 4, f"{tick:,} µs", "middle", 12))
        tick *= 10
    with open(file, "w", encoding="utf-8") as to:
        to.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16}" '
                 f'font-family="sans-serif" fill="#222">\n<rect width="{WIDTH}" height="{y + 16}" fill="#fff"/>\n'
                 + text(12, 26, title, size=16, weight="bold") + "\n" + "\n".join(ticks + parts) + "\n</svg>\n")
