"""Findings of a comparison in plain words, with what to do: for the terminal, the page and programs alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aeflow.calibration.held_out import SCORE
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.drift.charts import MOST_ABNORMAL, RARITY, Alarm
from aeflow.drift.drift import Drift
from aeflow.drift.source import Curve, Share, Source
from aeflow.errors import count, sentence

Severity = Literal["alarm", "look", "fine"]
# What a column of the input statistics says of an image, and what its being higher or lower means.
STATISTICS = {
    "input_brightness": ("brightness", "brighter", "darker"),
    "input_clipped": ("share of white", "more clipped to white", "less clipped to white"),
    "input_contrast": ("contrast", "of more contrast", "of less contrast"),
    "input_colour": ("colour", "more colourful", "less colourful"),
    "input_sharpness": ("sharpness", "sharper or noisier", "more blurred"),
    "input_layout": ("framing", "framed more alike", "framed differently"),
    "input_features": ("look as the encoder sees it", "farther from the training's", "nearer to the training's"),
    SCORE: ("score", "of higher scores", "of lower scores"),
}
assert STATISTICS.keys() >= set(INPUT_COLUMNS.values())
ALSO = 0.15  # share of the evidence from which a further statistic is named
TO_DO = (
    "find out what changed then (scanner, software, protocol, export); if images stay as they are now, recalibrate "
    "with 20 or more normal ones taken since, better 100: aeflow recalibrate RUN NORMALS --out RUN2"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: ``alarm`` if something has to be done, ``look`` if it should be known, ``fine`` if all is well."""

    severity: Severity
    title: str
    text: str
    remedy: str = ""


def findings(found: Drift) -> list[Finding]:
    """Return what was found, the alarms first."""
    every = [finding for source in found.sources for finding in _of_source(found, source)]
    every += _of_budget(found, found.sources[0])
    order: tuple[Severity, ...] = ("alarm", "look", "fine")
    return sorted(every, key=lambda finding: order.index(finding.severity))


def _of_source(found: Drift, source: Source) -> Iterator[Finding]:
    """Yield the findings of a source; of a group those alone that are worth a line."""
    first = source is found.sources[0]
    where = "" if first else f"{source.name}: "
    other, scores = source.other_images, source.other_scores
    if other.alarms:
        text = f"Since {when(found, source, other.alarms[0])}: {what_moved(other.alarms[0])}.{_again(other)}"
        if scores.alarms:
            text += f" The scores of all images moved, too, since {when(found, source, scores.alarms[0])}."
        yield Finding("alarm", f"{where}normal images do not look as they did", text, TO_DO)
    elif scores.alarms:
        more = "more" if scores.alarms[0].kind == "higher" else "fewer"
        text = (
            f"Since {when(found, source, scores.alarms[0])}, beside the images before in this order, which says "
            f"nothing of the calibration: {called(found, source)}.{_again(scores, 'change')} "
        ) + (
            "The images of a source changed, see above, and its scores may have with them."
            if first and any(one.other_images.alarms for one in found.sources)
            else "Those that look normal look as before: other patients, and not another scanner."
        )
        title = f"{where}{more} images look abnormal than those before them"
        yield Finding("look", title, text, "ask if that is to be expected")
    elif first:
        text = (
            f"{count(len(source.rows), 'patient')}, {source.looks_normal:,} of them in the more normal half: from the "
            "first to the last image nothing speaks for a change of scanner, nor of the share of abnormal images."
        )
        yield Finding("fine", "no alarm", text)
    if first and not other.alarms and source.flagged.low > found.promised:
        text = f"{sentence(called(found, source))}. Abnormal images do that, or normal ones of another source."
        yield Finding("look", "more images are called abnormal than of normal ones alone", text)
    moved = [one for one in source.comparisons if one.significant and one.statistic != SCORE]
    if moved and not other.alarms:
        names = ", ".join(f"{name_of(one.statistic)} {one.shift:+.1f}" for one in moved)
        text = (
            f"In standard deviations of the training's: {names}. A site that always differed from the training's does "
            "so from its first image on; a change since then would be an alarm."
        )
        yield Finding("look", f"{where}normal images differ from the training's, without an alarm", text)


def _of_budget(found: Drift, source: Source) -> Iterator[Finding]:
    """Yield that more images are called abnormal than accepted, if they are."""
    if source.over_budget is not None and source.over_budget.alarms:
        text = (
            f"Accepted are {100 * (found.budget or 0):.3g} % of the images, and {share(source.flagged)} were called "
            f"abnormal. More than accepted since {when(found, source, source.over_budget.alarms[0])}."
        )
        remedy = "if images changed, see to that first; else score with another threshold (--false-positive-rate)"
        yield Finding("alarm", "more images are called abnormal than accepted", text, remedy)


def when(found: Drift, source: Source, alarm: Alarm) -> str:
    """Return since when a chart has moved, with the interval of the estimate, in the words of the order."""
    at, low, high = (found.at[source.rows[round(time)]] for time in alarm.onset)
    what = "" if found.order is not None else "image "
    return f"{what}{at}" if low == high else f"{what}{at} (between {low} and {high})"


def what_moved(alarm: Alarm) -> str:
    """Return what is other, by the statistics that carry most of the evidence."""
    if alarm.statistic == RARITY:
        abnormal = f"more than {10 * MOST_ABNORMAL:g} of 10 images abnormal"
        return f"hardly any image looks normal any more: another scanner, or {abnormal}"
    _, higher, lower = STATISTICS[alarm.statistic]
    name = name_of(alarm.statistic)
    words = {
        "higher": f"images are {higher}",
        "lower": f"images are {lower}",
        "wider": f"images differ more in {name}",
        "narrower": f"images differ less in {name}",
    }
    also = [name_of(one) for one, part in alarm.evidence.items() if one != alarm.statistic and part > ALSO]
    return words[alarm.kind] + (f"; {', '.join(also)} moved, too" if also else "")


def name_of(statistic: str) -> str:
    """Return the name of a column for people."""
    return STATISTICS[statistic][0] if statistic in STATISTICS else f"term {statistic.replace('_', ' ')}"


def called(found: Drift, source: Source) -> str:
    """Return the share of a source's images called abnormal, beside the one that the calibration promises."""
    return f"called abnormal are {share(source.flagged)}, where {100 * found.promised:.1f} % of normal images would be"


def share(of: Share) -> str:
    """Return a share with its interval in percent."""
    return f"{100 * of.value:.1f} % ({100 * of.low:.1f} to {100 * of.high:.1f})"


def _again(curve: Curve, what: str = "alarm") -> str:
    """Return how often a chart passed its line, if more than once; of the share of abnormal images it is no alarm."""
    return f" {len(curve.alarms)} {what}s so far." if len(curve.alarms) > 1 else ""
