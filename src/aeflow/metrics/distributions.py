"""Ranks, and the normal's and Student's distribution: what intervals and tests need of scipy.

A service and the base package have these alone: scipy would be three quarters of what ``aeflow[serve]`` installs.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from aeflow._types import Floats

EXACT = 1e-15  # relative change of a continued fraction at which it has converged
STEPS = 100_000  # of it; it takes about as many as the root of the degrees of freedom
HALVINGS = 100  # of the interval in which a quantile is sought


def midranks(values: Floats) -> Floats:
    """Return the ranks (n,) of values (n,) from 1; equal ones share the mean of theirs.

    >>> midranks(np.array([2.0, 1.0, 2.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (times.cumsum() - (times - 1) / 2)[inverse]
    return ranks


def normal_quantile(p: float) -> float:
    """Return the value that a standard normal falls below with probability ``p``."""
    return NormalDist().inv_cdf(p)


def normal_tail(z: float) -> float:
    """Return the probability that a standard normal exceeds ``z``, as exact for large ``z`` as for small."""
    return math.erfc(z / math.sqrt(2)) / 2


def student_tail(t: float, degrees: float) -> float:
    """Return the probability that Student's t exceeds ``t >= 0``: ``I_x(d / 2, 1 / 2) / 2`` at ``x = d / (d + t^2)``.

    >>> round(student_tail(2.228, 10), 4)
    0.025
    """
    x = degrees / (degrees + t * t)
    return _regularised_beta(x, t * t / (degrees + t * t), degrees / 2, 0.5) / 2


def student_quantile(p: float, degrees: float) -> float:
    """Return the value that Student's t falls below with probability ``p``, from 1/2 to below 1."""
    low, high = 0.0, 1.0
    while student_tail(high, degrees) > 1 - p:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, degrees) > 1 - p else (low, middle)
    return (low + high) / 2


def _regularised_beta(x: float, rest: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function ``I_x(a, b)``; ``rest`` is ``1 - x`` without its rounding.

    By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), on the side where it converges.
    """
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _beta_fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _beta_fraction(rest, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return ``1 / (1 + d_1 / (1 + d_2 / ...))`` of that fraction, by Lentz's method (Thompson and Barnett 1986)."""
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / _away(1 + step * d, tiny)
            c = _away(1 + step / c, tiny)
            value *= c * d
        if abs(c * d - 1) < EXACT:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge at x = {x}, a = {a}, b = {b}")


def _away(value: float, tiny: float) -> float:
    """Return a value that is not 0."""
    return value if abs(value) > tiny else tiny
