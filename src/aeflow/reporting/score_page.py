"""Page of scores: one HTML file with all in it, row by row; its reader sorts, filters and moves the threshold."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow._version import __version__
from aeflow.reporting.heat_colours import HEAT, ramp_of
from aeflow.reporting.panels import Drawn, grey, panel

TEMPLATES = Path(__file__).parent / "templates"
MARK = b'<meta name="generator" content="aeflow'
IMAGE, MAP = 224, 96  # pixels of a side: 5,000 rows of both are some fifty megabytes
QUALITY, MAP_QUALITY = 60, 40  # of JPEG, of WebP
STOPS = 9  # colours that stand for the whole scale in the legend
_colours = np.rint(255 * HEAT).astype(np.uint8)


def beginning_and_end(
    fingerprint: str, threshold: float, rule: str, normals: Sequence[float], reasons: Mapping[str, str]
) -> tuple[str, str]:
    """Return what stands before and after the rows of a model's page; ``normals`` are scores of held-out ones.

    ``reasons`` says what each reason means for which an image is outside.
    """
    script = (TEMPLATES / "scores.js").read_text(encoding="utf-8")
    facts = {"threshold": threshold, "normals": list(normals), "reasons": dict(reasons)}
    values = {
        "version": html.escape(__version__),
        "fingerprint": html.escape(fingerprint),
        "model": html.escape(fingerprint[:12]),
        "threshold": f"{threshold:.4g}",
        "normals": f"{len(normals):,}",
        "least": f"{1 / (len(normals) + 1):.2g}",
        "rule": html.escape(rule),
        "colours": ", ".join(f"rgb({r} {g} {b})" for r, g, b in ramp_of(STOPS).tolist()),
        "style": "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "scores.css")),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "facts": in_script(facts),
    }
    start, end = (TEMPLATES / "scores.html").read_text(encoding="utf-8").split("$rows")
    return Template(start).substitute(values), Template(end).substitute(values)


def row(number: int, name: str, at: int | None, score: Drawn | str, scale: tuple[float, float]) -> str:
    """Return one row of the page, of a score with its maps, or of the reason why there is none."""
    if isinstance(score, str):
        values: list[Any] = [number, name, at, None, None, None, score, None, None]
    else:
        shown = panel(score)
        outside = ", ".join(score.outside) or None
        pictures = [_image(grey(shown.image)), _map(shown.maps["anomaly"], scale)]
        values = [number, name, at, score.value, score.p_value, outside, None, *pictures]
    return in_script(values) + "\n"


def in_script(values: Any) -> str:
    """Return values as JSON that can end no element, whatever is in a name."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _image(pixels: NDArray[np.floating[Any]]) -> str:
    """Return an image (H, W) in [0, 1] as the address of a small JPEG."""
    image = PIL.Image.fromarray(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    if image.width > IMAGE:
        image = image.resize((IMAGE, IMAGE), PIL.Image.Resampling.BILINEAR)
    return _address(image, "jpeg", quality=QUALITY, optimize=True)


def _map(values: NDArray[np.floating[Any]], scale: tuple[float, float]) -> str | None:
    """Return a map (H, W) in its colours as the address of a small WebP; None if nothing of it is coloured."""
    low, high = scale
    level = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
    steps = PIL.Image.fromarray(level).resize((MAP, MAP), PIL.Image.Resampling.BILINEAR)
    if steps.getextrema()[1] == 0:
        return None
    return _address(PIL.Image.fromarray(_colours[np.asarray(steps)]), "webp", quality=MAP_QUALITY, method=1)


def _address(image: PIL.Image.Image, kind: str, **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
