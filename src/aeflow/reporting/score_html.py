"""A score as a notebook shows it: its picture, and what stands below it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Protocol

import numpy as np
from PIL import Image

from aeflow.reporting.panels import Drawn, panel_title
from aeflow.reporting.score_picture import encoded

PURPOSE = "Research use, not a medical device."
NO_MAP = "No picture: this score was made without its map."


class Shown(Drawn, Protocol):
    """Interface of a score that a notebook shows."""

    @property
    def threshold(self) -> float:
        """The score above which an image is called abnormal."""

    @property
    def posterior(self) -> Mapping[str, float]:
        """Probability of each class that the model knows; empty if it knows none."""


def score_html(score: Shown, picture: Image.Image | None) -> str:
    """Return a score as HTML that needs nothing beside it: its picture, if there is one, and its figures as text."""
    title = panel_title(score.value, score.p_value, score.verdict, outside=score.outside)
    lines = [f"{title}   ·   threshold {score.threshold:.3g}"]
    if score.posterior:
        lines.append("   ·   ".join(f"p({kind}) = {share:.2g}" for kind, share in score.posterior.items()))
    lines += [PURPOSE] if picture is not None else [NO_MAP, PURPOSE]
    text = "<br>".join(map(escape, lines))
    shown = ""
    if picture is not None:
        data = base64.b64encode(encoded(np.asarray(picture))).decode()
        shown = f'<img src="data:image/png;base64,{data}" alt="{escape(title)}" style="max-width: 100%"><br>'
    return f'<div style="font-size: 0.9em">{shown}{text}</div>'
