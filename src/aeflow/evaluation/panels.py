"""A score -> a row of a gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aeflow.evaluation.gallery import Panel, panel_title
from aeflow.score import Score


def panel(result: Score, truth: str | None = None, mask: NDArray[np.bool_] | None = None) -> Panel:
    """Input, reconstruction and maps of an image that was scored with its maps and pictures."""
    image, x_hat = result.pictures
    grey = (image == image[:1]).all()
    return Panel(
        image=image[0] if grey else image.transpose(1, 2, 0),
        reconstruction=x_hat.mean(axis=0) if grey else x_hat.transpose(1, 2, 0),
        maps=dict(result.maps),
        title=panel_title(result.value, result.p_value, result.verdict, truth, result.outside),
        mask=mask,
    )
