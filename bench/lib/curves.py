# SPDX-License-Identifier: GPL-2.0-only
"""Curves over a parameter with 95% intervals, in a grid of panels, as SVG.

Promises the same bytes for the same numbers. The parameter's values stand at equal distances.
What the numbers mean is the caller's to say.
"""
import math
from bars import COLOURS, NAMES, text

PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP_X, GAP_Y, MARGIN = 280, 190, 70, 96, 70, 62, 16
# For lines that are no scheduler of bars.py.
MORE = ["#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096"]


class Axis:
    """From values to heights in a panel."""

    def __init__(self, values, logarithmic):
        self.logarithmic = logarithmic
        high = max(values) or 1
        if logarithmic:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.high = 10 ** max(math.ceil(math.log10(high)), math.log10(self.low) + 1)
            self.ticks = [self.low * 10 ** n for n in range(round(math.log10(self.high / self.low)) + 1)]
        else:
            step = 10 ** math.floor(math.log10(max(high, 1e-9)))
            step = next(s for s in (step / 5, step / 2, step, step * 2) if high / s <= 5)
            self.low, self.high = 0, step * math.ceil(high / step)
            self.ticks = [step * n for n in range(round(self.high / step) + 1)]

    def share(self, value):
        if self.logarithmic:
            value = max(value, self.low)
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return value / self.high


def colour(name, number):
    return COLOURS.get(name, MORE[number % len(MORE)])


def panel(x0, y0, heading, axis, places, lines):
    """A panel's parts: lines are (name, colour, [(x, y, half of the interval or None)])."""
    bottom = y0 + PANEL_HEIGHT

    def height(value):
        return bottom - PANEL_HEIGHT * min(1, max(0, axis.share(value)))

    parts = [text(x0, y0 - 10, heading, weight="bold")]
    for tick in axis.ticks:
        parts.append(f'<line x1="{x0}" y1="{height(tick):.1f}" x2="{x0 + PANEL_WIDTH}" y2="{height(tick):.1f}" stroke="#ddd"/>')
        parts.append(text(x0 - 6, height(tick) + 4, f"{tick:,.6g}", "end", 11))
    for value, place in places.items():
        parts.append(text(x0 + place, bottom + 16, f"{value:,.10g}", "middle", 11))
    for _, stroke, points in lines:
        path = " ".join(f"{x0 + places[x]:.1f},{height(y):.1f}" for x, y, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"/>')
        for x, y, half in points:
            at = x0 + places[x]
            parts.append(f'<circle cx="{at:.1f}" cy="{height(y):.1f}" r="3" fill="{stroke}"/>')
            if half:
                parts.append(f'<line x1="{at:.1f}" y1="{height(y - half):.1f}" x2="{at:.1f}" y2="{height(y + half):.1f}" '
                             f'stroke="{stroke}"/>')
    return parts


def draw(title, x_name, rows, file):
    """Writes a picture.

    A row is (is it logarithmic, [(heading, [(name, [(x, y, half)])])]): its panels share an axis.
    """
    xs = sorted({x for _, panels in rows for _, lines in panels for _, points in lines for x, _, _ in points})
    step = PANEL_WIDTH / max(1, len(xs))
    places = {x: step * (number + 0.5) for number, x in enumerate(xs)}
    names = list(dict.fromkeys(name for _, panels in rows for _, lines in panels for name, _ in lines))
    width = LEFT + max(len(panels) for _, panels in rows) * (PANEL_WIDTH + GAP_X)
    # The picture is as wide as its legend, too.
    legend, at, line = [], MARGIN, 52
    for number, name in enumerate(names):
        known = NAMES.get(name, name)
        if at > MARGIN and at + 40 + 7 * len(known) > width:
            at, line = MARGIN, line + 18
        legend.append(f'<line x1="{at}" y1="{line - 4}" x2="{at + 22}" y2="{line - 4}" stroke="{colour(name, number)}" '
                      f'stroke-width="3"/>' + text(at + 28, line, known, size=12))
        at += 44 + 7 * len(known)
    parts, y = [], TOP + line - 52
    for logarithmic, panels in rows:
        axis = Axis([y for _, lines in panels for _, points in lines for _, y, _ in points], logarithmic)
        for number, (heading, lines) in enumerate(panels):
            coloured = [(name, colour(name, names.index(name)), points) for name, points in lines]
            parts += panel(LEFT + number * (PANEL_WIDTH + GAP_X), y, heading, axis, places, coloured)
        y += PANEL_HEIGHT + GAP_Y
    parts.append(text(LEFT, y - GAP_Y + 36, x_name, size=12))
    with open(file, "w", encoding="utf-8") as to:
        to.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" font-family="sans-serif" '
                 f'fill="#222">\n<rect width="{width}" height="{y}" fill="#fff"/>\n'
                 + text(MARGIN, 26, title, size=16, weight="bold") + "\n" + "\n".join(legend + parts) + "\n</svg>\n")
