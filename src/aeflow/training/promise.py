"""Promise of a threshold in whole images, and how sure it is."""

from __future__ import annotations

from scipy.stats import betabinom

from aeflow.errors import count

NEW = 100  # normals to say it of
SURE = 0.9  # probability of the range


def promise(held_out: int, rank: int) -> str:
    """Return how many of 100 new normals the threshold flags, if they are like the ``held_out`` ones it is the rank of.

    The number of new scores above the ``rank``-th lowest of n is beta-binomial with parameters n + 1 - rank and rank
    (Wilks 1942), whatever the scores' distribution.

    >>> promise(268, 256)
    'of 100 normals like these, 5 will be flagged (1 to 9); p-values go down to 0.0037'
    """
    flagged = betabinom(NEW, held_out + 1 - rank, rank)
    low, high = flagged.interval(SURE)
    mean = NEW * (held_out + 1 - rank) / (held_out + 1)
    of = f"of {count(NEW, 'normal')} like these, {mean:.0f} will be flagged ({low:.0f} to {high:.0f})"
    return f"{of}; p-values go down to {1 / (held_out + 1):.2g}"
