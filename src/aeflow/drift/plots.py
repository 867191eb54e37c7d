"""Figures of a comparison: charts over the stream, p-values, and statistics by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aeflow._types import Floats
from aeflow.drift.drift import Drift
from aeflow.drift.source import Curve, Source
from aeflow.drift.words import name_of
from aeflow.errors import DataError
from aeflow.reporting.palette import ABNORMAL, FAINT, INK, MUTED, NEUTRAL, NORMAL, WIDTH
from aeflow.reporting.style import grid, new_figure, styled

MOST_POINTS = 1500  # of a curve; of more the highest in each stretch is drawn
MOST_SOURCES = 8  # with a row of their own
BINS = 20  # of p-values
LEAST = 0.1  # lowest value that is drawn on the logarithmic axis
SHADES = (INK, NEUTRAL, "#b07d2b", "#7b4f9d", NORMAL, ABNORMAL, "#3d8f8f", MUTED)
TITLES = {
    "other_images": "Other images: do images that look normal still look the same?",
    "other_scores": "Other scores: is another share of images abnormal?",
    "over_budget": "Over budget: are more images called abnormal than accepted?",
}


@styled
def charts(found: Drift) -> Figure:
    """Draw the charts of all images over the stream, with their line, where they passed it, and since when."""
    every = found.sources[0]
    figure = new_figure(WIDTH, 2.5 * len(every.curves))
    sheet = figure.subplots(len(every.curves), 1, sharex=True, squeeze=False).ravel()
    for axes, (name, curve) in zip(sheet, every.curves.items(), strict=True):
        _chart(axes, curve, alarms=name != "other_scores")
        axes.set_title(TITLES[name])
        axes.set_ylabel("evidence")
    _places(sheet[-1], found, every)
    return figure


@styled
def charts_by_source(found: Drift) -> Figure:
    """Draw the chart of other images for each source, those with alarms first; DataError without sources."""
    groups = sorted(found.sources[1:], key=lambda source: -max(source.other_images.values, default=0.0))[:MOST_SOURCES]
    if not groups:
        raise DataError("figure", "no sources", "name a column with --by")
    figure = new_figure(WIDTH, 1.55 * len(groups))
    sheet = figure.subplots(len(groups), 1, squeeze=False).ravel()
    for axes, source in zip(sheet, groups, strict=True):
        _chart(axes, source.other_images)
        axes.set_title(_plain(source.name))
        _places(axes, found, source)
    return figure


@styled
def p_values(source: Source) -> Figure:
    """Draw the histogram of p-values beside what normal images alone would give."""
    figure = new_figure(WIDTH, 2.6)
    axes = figure.subplots()
    values = np.asarray(source.p_values)
    axes.hist(values, np.linspace(0, 1, BINS + 1).tolist(), color=NEUTRAL, alpha=0.75, edgecolor="white", linewidth=0.8)
    axes.axhline(len(values) / BINS, color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
    axes.annotate("normal images alone", (1, len(values) / BINS), (0, 4), textcoords="offset points", ha="right",
                  color=MUTED, fontsize=8.5)  # fmt: skip
    axes.set(xlim=(0, 1), xlabel="p-value: share of held-out normals that score as high", ylabel="patients")
    grid(axes)
    return figure


@styled
def statistics(sources: Sequence[Source]) -> Figure:
    """Draw the shift of each statistic with its interval, for each source; DataError if none was compared."""
    shown = [source for source in sources if source.comparisons][: len(SHADES)]
    rows = list(dict.fromkeys(one.statistic for source in shown for one in source.comparisons))
    if not rows:
        raise DataError("figure", "no statistic was compared", "give more images")
    figure = new_figure(WIDTH, 0.9 + len(rows) * (0.24 + 0.1 * len(shown)))
    axes = figure.subplots()
    axes.axvline(0, color=MUTED, linewidth=0.9)
    for place, source in enumerate(shown):
        label: str | None = _plain(source.name)
        for one in source.comparisons:
            y = rows.index(one.statistic) + 0.7 * ((place + 0.5) / len(shown) - 0.5)
            alpha = 1.0 if one.significant else 0.35
            axes.plot([one.low, one.high], [y, y], color=SHADES[place], linewidth=3, alpha=0.45 * alpha)
            axes.plot(one.shift, y, "o", color=SHADES[place], markersize=5, alpha=alpha, label=label)
            label = None
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="shift against the held-out normals, in their standard deviations")
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows], fontsize=9.5, color=INK)
    axes.tick_params(axis="y", length=0)
    for boundary in range(1, len(rows)):
        axes.axhline(boundary - 0.5, color=FAINT, linewidth=0.6)
    if len(shown) > 1:
        figure.legend(loc="outside upper left", ncols=4)
    return figure


def figures(found: Drift) -> Mapping[str, Figure]:
    """Return the figures of a comparison by name."""
    made = {"charts": charts(found), "p_values": p_values(found.sources[0])}
    if len(found.sources) > 1:
        made["sources"] = charts_by_source(found)
    if any(source.comparisons for source in found.sources):
        made["statistics"] = statistics(found.sources)
    return made


def _chart(axes: Axes, curve: Curve, alarms: bool = True) -> None:
    """Draw a curve on a logarithmic axis, its line, and where it passed it and since when: an alarm, or no more."""
    x, y = _thinned(np.asarray(curve.values))
    word, shade, mark = ("alarm", ABNORMAL, "v") if alarms else ("change, no alarm", MUTED, "o")
    axes.plot(x, np.maximum(y, LEAST), color=NEUTRAL, linewidth=1.3)
    axes.axhline(curve.line, color=shade, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.annotate(word, (0, curve.line), (4, 2), textcoords="offset points", color=shade, fontsize=8.5)
    for number, alarm in enumerate(curve.alarms):
        axes.plot(alarm.at, curve.line, mark, color=shade, markersize=6)
        if number == 0:
            axes.axvspan(alarm.onset.low, max(alarm.onset.high, alarm.onset.low + 1), color=shade, alpha=0.15)
    axes.set_yscale("log")
    axes.set(xlim=(0, max(1, len(curve.values) - 1)), ylim=(LEAST, 8 * max(curve.line, float(y.max(initial=1)))))
    grid(axes)


def _thinned(values: Floats) -> tuple[Floats, Floats]:
    """Return places and values of a curve, of a long one the highest in each stretch."""
    step = -(-len(values) // MOST_POINTS) or 1
    starts = np.arange(0, len(values), step)
    return starts.astype(float), np.maximum.reduceat(values, starts) if len(values) else values


def _plain(text: str) -> str:
    """Return text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def _places(axes: Axes, found: Drift, source: Source) -> None:
    """Name places on the axis of the stream as the order does."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    last = len(source.rows) - 1
    ticks = [int(tick) for tick in axes.get_xticks() if 0 <= tick <= last]
    axes.set_xticks(ticks, [_plain(found.at[source.rows[tick]]) for tick in ticks])
    axes.set_xlabel(_plain(found.order or "image"))
