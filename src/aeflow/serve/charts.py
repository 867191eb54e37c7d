"""Charts of the pages as SVG: a score's place among normals, and p-values and evidence over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup

from aeflow.drift.source import Curve, Source

BINS = 36
WIDTH, HEIGHT = 320, 76  # of the strip, in its own units
PLOT = (900, 270, 50, 20, 24)  # over time: width, height, left margin, gap between both parts, bottom margin
LEAST = 0.1  # lowest evidence that is drawn, on its logarithmic axis
MOST_POINTS = 800  # of a curve


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


def over_time(source: Source, at: Sequence[str], rate: float) -> Markup:
    """Return the p-values of a source's images in their order, and below them the evidence of its charts.

    ``at`` names each image of the stream; ``rate`` of false alarms is a line among the p-values.
    """
    width, height, left, gap, bottom = PLOT
    count, right = len(source.rows), width - 8
    step = -(-count // MOST_POINTS) or 1  # of many images one in so many is drawn
    tall = (height - 8 - gap - bottom) / 2
    curves = {"scores": source.other_scores, "images": source.other_images}
    most = max(value for curve in curves.values() for value in (*curve.values, 10 * curve.line))
    highest = math.log10(most / LEAST)

    def x(number: float) -> float:
        return left + (right - left) * number / max(1, count - 1)

    def y_of_p(p: float) -> float:
        return 8 + tall * (1 - p)

    def y_of_evidence(value: float) -> float:
        return 8 + tall + gap + tall * (1 - math.log10(max(value, LEAST) / LEAST) / highest)

    def line(kind: str, y: float, words: str) -> str:
        return (
            f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
        )

    def path(curve: Curve) -> str:
        # of a long one the highest in each stretch
        tops = [(start, max(curve.values[start : start + step])) for start in range(0, count, step)]
        return " ".join(f"{x(number):.1f},{y_of_evidence(value):.1f}" for number, value in tops)

    parts = [line("grid", y_of_p(p), f"{p:g}") for p in (0.0, 0.5, 1.0)]
    parts.append(f'<line class="threshold" x1="{left}" x2="{right}" y1="{y_of_p(rate):.1f}" y2="{y_of_p(rate):.1f}"/>')
    parts += [
        f'<circle class="{"low" if source.p_values[i] <= rate else "dot"}" cx="{x(i):.1f}" '
        f'cy="{y_of_p(source.p_values[i]):.1f}" r="2.2"/>'
        for i in range(0, count, step)
    ]
    parts.append(line("grid", y_of_evidence(LEAST), f"{LEAST:g}"))
    parts.append(line("threshold", y_of_evidence(source.other_images.line), "alarm"))
    for alarm in source.other_images.alarms[:1]:
        low, high = x(alarm.onset.low), x(alarm.onset.high)
        top, span = 8 + tall + gap, max(2.0, high - low)
        parts.append(f'<rect class="since" x="{low:.1f}" y="{top:.1f}" width="{span:.1f}" height="{tall:.1f}"/>')
    for name, curve in curves.items():
        parts.append(f'<polyline class="evidence {name}" points="{path(curve)}"/>')
        parts += [
            f'<path class="mark {name}" d="M{x(alarm.at) - 5:.1f},{y_of_evidence(curve.line) - 9:.1f}h10l-5,9z"/>'
            if name == "images"
            else f'<circle class="mark {name}" cx="{x(alarm.at):.1f}" cy="{y_of_evidence(curve.line):.1f}" r="4"/>'
            for alarm in curve.alarms
        ]
    parts += [
        f'<text x="{x(i):.1f}" y="{height - 5}" text-anchor="{anchor}">'
        f"{escape(at[source.rows[i]])}, no. {i + 1:,}</text>"
        for i, anchor in ((0, "start"), (count - 1, "end"))
    ]
    alarms, changes = len(source.other_images.alarms), len(source.other_scores.alarms)
    found = f"alarms of other images: {alarms}, changes of the share of abnormal ones: {changes}"
    words = f"p-values of {count:,} patients and the evidence that something changed; {found}"
    start = f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">'
    return Markup(f"{start}{''.join(parts)}</svg>")  # numbers alone, and words that are escaped
