"""Names of a model's outputs, for torch and for graphs that run without it; those of the terms are in TERMS."""

from __future__ import annotations

LOG_RATIOS = "log_ratios"  # (B, kinds), if the model has classes
INPUT_STATISTICS = "traits"  # (B, T), see ``model.input_statistics``; the name in graphs of earlier versions

MAPS = ("residual", "anomaly")  # as "residual_map" and "anomaly_map", (B, H, W)
REGION = "region"  # (B, H, W) in [0, 1], how far each pixel counts; none if all of the image does
REGION_STATISTICS = "region_statistics"  # (B, T) of a learnt region, see ``model.regions.plausibility``
X_HAT = "x_hat"  # (B, 3, H, W)

# Calibrated: what a graph gives to those who run it without aeflow, beside each term by its name.
SCORE, P_VALUE = "score", "p_value"  # (B,)
POSTERIOR = "posterior"  # (B,) the classes' term, if the model has classes

PICTURE_SIDE = 16  # pixels of the small picture among the input statistics


def of_map(name: str) -> str:
    """Return the name of the output that holds a map."""
    return f"{name}_map"
