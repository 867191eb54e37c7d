"""Colours of the maps: clear at the low end of the model's scale, bright at its high end."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap


def _heat(background: float | None = None) -> ListedColormap:
    """Return colours that are clear for typical values, then red to pale yellow and ever more opaque.

    With ``background`` they are mixed onto that grey.
    """
    value = np.linspace(0, 1, 256)
    colours = colormaps["inferno"](0.35 + 0.6 * value)
    colours[:, 3] = 0.7 * value**0.7
    if background is not None:
        colours[:, :3] = background + colours[:, 3:] * (colours[:, :3] - background)
        colours[:, 3] = 1
    return ListedColormap(colours, "heat")


HEAT, HEAT_ON_GREY = _heat(), _heat(0.4)
