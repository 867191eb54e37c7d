"""What a notebook shows of a score or a model: HTML that needs nothing beside it, every text of it escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
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
    """Return a score as HTML: its picture, if there is one, and its figures as text."""
    title = panel_title(score)
    lines = [f"{title}   ·   threshold {score.threshold:.3g}"]
    if score.posterior:
        lines.append("   ·   ".join(f"p({kind}) = {share:.2g}" for kind, share in score.posterior.items()))
    if picture is None:
        return lines_html([*lines, NO_MAP, PURPOSE])
    data = base64.b64encode(encoded(np.asarray(picture))).decode()
    shown = f'<img src="data:image/png;base64,{data}" alt="{escape(title)}" style="max-width: 100%">'
    return shown + lines_html([*lines, PURPOSE])


def lines_html(lines: Sequence[str]) -> str:
    """Return lines of text as HTML."""
    return f'<div style="font-size: 0.9em">{"<br>".join(map(escape, lines))}</div>'
