"""FlowGMM for vectors, a scikit-learn classifier and density; only the package's own __init__ imports it."""

from aeflow.flowgmm.estimator import FlowGMM as FlowGMM

__all__ = ["FlowGMM"]
