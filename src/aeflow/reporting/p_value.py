"""p-values in words: the smallest that a model can give is a bound, not a value."""

from __future__ import annotations

import math

ROUNDING = 1e-9  # relative


def p_words(p: float, least: float = 0.0, digits: str = ".2g") -> str:
    """Return a p-value as text, and as a bound if it is ``least``, which more held-out normals would make smaller.

    >>> p_words(0.12, 1 / 21), p_words(1 / 21, 1 / 21)
    ('0.12', '≤ 0.048')
    """
    return f"≤ {p:{digits}}" if math.isclose(p, least, rel_tol=ROUNDING) else f"{p:{digits}}"


def p_term(p: float, least: float) -> str:
    """Return the same with its letter: ``p = 0.12``, ``p ≤ 0.048``."""
    words = p_words(p, least)
    return f"p {words}" if words.startswith("≤") else f"p = {words}"
