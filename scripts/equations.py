"""TeX -> SVG, so that a page shows equations without a script or a font of its own.

The glyphs are drawn as paths by matplotlib, which is there anyway, in the text's own colour and on its baseline.
"""

from __future__ import annotations

import html

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

SIZE = text_to_path.FONT_SCALE  # units an em
FONT = FontProperties(size=SIZE, math_fontfamily="stix")
LETTERS = {
    int(Path.MOVETO): "M",
    int(Path.LINETO): "L",
    int(Path.CURVE3): "Q",
    int(Path.CURVE4): "C",
    int(Path.CLOSEPOLY): "Z",
}
POINTS = {int(Path.CURVE3): 2, int(Path.CURVE4): 3}


def svg(tex: str, display: bool = False) -> str:
    """Return one equation as an inline SVG element; ValueError if matplotlib cannot read it."""
    text = f"${' '.join(tex.split())}$"
    width, height, depth, _, _ = MathTextParser("path").parse(text, 72, FONT)  # the height is all of it
    verts, codes = text_to_path.get_text_path(FONT, text, ismath=True)  # above the baseline
    outline = _outline([0, height - depth] + np.asarray(verts) * [1, -1], [int(code) for code in codes])
    em = {"width": width / SIZE, "height": height / SIZE, "vertical-align": -depth / SIZE}
    style = "; ".join(f"{name}: {value:.3f}em" for name, value in em.items())
    drawn = (
        f'<svg class="equation" role="img" aria-label="{html.escape(tex)}" style="{style}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><path d="{outline}"/></svg>'
    )
    return f'<div class="equation">{drawn}</div>' if display else drawn


def _outline(points: NDArray[np.float64], codes: list[int]) -> str:
    """Return a path in SVG's letters."""
    parts, i = [], 0
    while i < len(codes):
        n = POINTS.get(codes[i], 1)
        letter = LETTERS[codes[i]]
        coordinates = " ".join(f"{x:.0f} {y:.0f}" for x, y in points[i : i + n])
        parts.append(letter if letter == "Z" else f"{letter}{coordinates}")
        i += n
    return "".join(parts)
