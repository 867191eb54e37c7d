"""Linear-Gaussian start of FlowGMM: Gaussians with one covariance, fitted by EM to labelled and unlabelled vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import softmax

Array = NDArray[Any]

# Variance of standardised data below which a direction counts as constant.
MIN_VARIANCE = 1e-6
EM_ROUNDS = 100
EM_TOLERANCE = 1e-3


def fit_linear(a: Array, allowed: Array, start: Array, weights: Array, shrinkage: float) -> tuple[Array, Array, Array]:
    """Fit Gaussians with one shrunken covariance ``root root^T`` by EM: means (K, d), root (d, d), log-weights (K,).

    ``a`` (n, d) are the points, ``weights`` (n,) their weights, ``allowed`` (n, K) the Gaussians that each point's
    label leaves possible, ``start`` (n, K) the first responsibilities: zeros for a point of which nothing is known.
    """
    size = a.shape[1]
    second = a.T @ (a * weights[:, None]) / weights.sum()
    responsibility = start
    for round_ in range(EM_ROUNDS):
        mass = responsibility * weights[:, None]
        share = mass.sum(0)
        means = mass.T @ a / share[:, None]
        # The first means come from few points: their residuals do not estimate a covariance yet.
        within = second - (means.T * share) @ means / weights.sum() if round_ else second
        within = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
        root = np.linalg.cholesky(within + MIN_VARIANCE * np.eye(size))
        # One point more for each Gaussian, so that none loses all its weight.
        log_weights = np.log((share + 1) / (share + 1).sum())
        v, m = whiten(a, root), whiten(means, root)
        joint = v @ m.T - 0.5 * np.square(m).sum(1) + log_weights
        previous, responsibility = responsibility, softmax(np.where(allowed, joint, -np.inf), axis=1)
        if np.abs(responsibility - previous).max() < EM_TOLERANCE:
            break
    return means, root, log_weights


def whiten(a: Array, root: Array) -> Array:
    """Return ``root^-1 a`` for each row of ``a`` (n, d)."""
    return np.ascontiguousarray(solve_triangular(root, a.T, lower=True).T)
