"""What a model's outputs are called, for those who run it with torch and those who run its graph without."""

from __future__ import annotations

# Raw measures: what ``Calibration`` and ``InputGuard`` work on.
FLOW = "flow_measure"  # (B, stages)
RECONSTRUCTION = "reconstruction_measure"  # (B,)
LOG_RATIOS = "log_ratios"  # (B, kinds), where the model has classes
INPUT_STATISTICS = "traits"  # (B, T), see ``model.traits``

MAPS = ("residual", "anomaly")  # as "residual_map" and "anomaly_map", (B, H, W)
X_HAT = "x_hat"  # (B, 3, H, W)

# Calibrated: what a graph gives to whoever has no aeflow.
SCORE, P_VALUE = "score", "p_value"  # (B,)
TERMS = ("flow", "reconstruction", "posterior")  # (B,) each, the last where the model has classes

PICTURE_SIDE = 16  # pixels of the small picture among the traits


def of_map(name: str) -> str:
    """The output that holds a map."""
    return f"{name}_map"
