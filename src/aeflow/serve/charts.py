"""Charts of the pages as SVG: a score's place among normals, and p-values over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup

BINS = 36
WIDTH, HEIGHT = 320, 76  # of the strip, in its own units
PLOT = (900, 150, 46, 22)  # of p-values over time: width, height, left and bottom margin


def place_among_normals(normals: Sequence[float], score: float, threshold: float) -> Markup:
    """Return a histogram of the held-out normals' scores, with the threshold and the place of a score."""
    ends = [*normals, score, threshold]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    counts, edges = np.histogram(normals, bins=BINS, range=(low - 0.02 * span, high + 0.02 * span))

    def x(value: float) -> float:
        return float(WIDTH * (value - edges[0]) / (edges[-1] - edges[0]))

    base, top = HEIGHT - 16, max(1, int(counts.max()))
    bars = [
        f'<rect class="bar" x="{x(edge):.1f}" y="{base - 44 * math.sqrt(number / top):.1f}" '
        f'width="{WIDTH / BINS - 1:.1f}" height="{44 * math.sqrt(number / top):.1f}"/>'
        for edge, number in zip(edges, counts, strict=False)
        if number
    ]
    above = sum(value >= score for value in normals)
    words = f"{above:,} of {len(normals):,} held-out normals score as high as this one, or higher"
    anchor = "end" if x(score) > 0.75 * WIDTH else "start" if x(score) < 0.25 * WIDTH else "middle"
    return Markup(  # numbers alone, and words that are escaped
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">{"".join(bars)}'
        f'<line class="threshold" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="6" y2="{base}"/>'
        f'<line class="here" x1="{x(score):.1f}" x2="{x(score):.1f}" y1="2" y2="{base}"/>'
        f'<text x="{x(score):.1f}" y="{HEIGHT - 3}" text-anchor="{anchor}">{score:.3g}</text></svg>'
    )


def p_values_over_time(points: Sequence[tuple[str, float]], rate: float) -> Markup:
    """Return a plot of p-values (time, p) in the order in which they came, with the rate of false alarms as a line."""
    width, height, left, bottom = PLOT
    inner, tall = width - left - 8, height - bottom - 8

    def y(p: float) -> float:
        return 8 + tall * (1 - p)

    step = inner / max(1, len(points) - 1)
    dots = "".join(
        f'<circle class="{"low" if p <= rate else "dot"}" cx="{left + i * step:.1f}" cy="{y(p):.1f}" r="2.5"/>'
        for i, (_, p) in enumerate(points)
    )
    ticks = "".join(
        f'<line class="grid" x1="{left}" x2="{width - 8}" y1="{y(p):.1f}" y2="{y(p):.1f}"/>'
        f'<text x="{left - 6}" y="{y(p) + 4:.1f}" text-anchor="end">{p:g}</text>'
        for p in (0.0, 0.5, 1.0)
    )
    days = [at[:10] for at, _ in (points[0], points[-1])] if points else ["", ""]
    share = sum(p <= rate for _, p in points) / max(1, len(points))
    words = f"p-values of {len(points):,} studies; {share:.0%} are at most {rate:g}"
    return Markup(
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">{ticks}'
        f'<line class="threshold" x1="{left}" x2="{width - 8}" y1="{y(rate):.1f}" y2="{y(rate):.1f}"/>{dots}'
        f'<text x="{left}" y="{height - 5}">{escape(days[0])}</text>'
        f'<text x="{width - 8}" y="{height - 5}" text-anchor="end">{escape(days[1])}</text></svg>'
    )
