"""Promise of a threshold in whole images, and how sure it is."""

from __future__ import annotations

from scipy.stats import betabinom

from aeflow.errors import count

NEW = 100  # normals to say it of
SURE = 0.9  # probability of the range


def promise(held_out: int, rank: int, patients: int) -> str:
    """Return how many of 100 new normals the threshold flags, if they are like the ``held_out`` ones it is the rank of.

    The number of new scores above the ``rank``-th lowest of n is beta-binomial with parameters n + 1 - rank and rank
    (Wilks 1942), whatever the scores' distribution. That is for images that do not depend on one another. Those of a
    patient are alike, so the range is that of as many images as there are ``patients``, with the same mean.

    >>> promise(268, 256, 268)
    'of 100 normals like these, 5 will be flagged (1 to 9); the smallest p-value that 268 normals allow is 0.0037'
    >>> promise(72, 70, 12)
    'of 100 normals like these, 4 will be flagged (0 to 16); the smallest p-value that 72 normals allow is 0.014'
    """
    share = (held_out + 1 - rank) / (held_out + 1)
    low, high = betabinom(NEW, (patients + 1) * share, (patients + 1) * (1 - share)).interval(SURE)
    of = f"of {count(NEW, 'normal')} like these, {NEW * share:.0f} will be flagged ({low:.0f} to {high:.0f})"
    return f"{of}; the smallest p-value that {count(held_out, 'normal')} allow is {1 / (held_out + 1):.2g}"
