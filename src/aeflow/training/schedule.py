"""Schedule of a learning rate over the steps of a training."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int) -> float:
    """Return the share of the top learning rate: a linear rise over a fifth of ``steps``, then half a cosine to 0."""
    rise = steps / 5
    share = (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
    return max(min(share, 1.0), 1e-3)
