"""From pixels to everything a score is made of: what torch runs, and what is exported as one graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aeflow.calibration.calibration import Calibration
from aeflow.calibration.posterior import Posterior
from aeflow.model import output_names
from aeflow.model.aeflow import AEFlow
from aeflow.model.input_statistics import measure_input_statistics


def measured(net: AEFlow, x: Tensor, maps: bool = True) -> dict[str, Tensor]:
    """The raw measures, the maps if asked for, and the reconstruction of images ``x`` (B, 3, H, W), by name."""
    m = net(x)
    found = {
        output_names.FLOW: m.flow,
        output_names.RECONSTRUCTION: m.reconstruction,
        output_names.INPUT_STATISTICS: measure_input_statistics(x, m.pooled),
        output_names.X_HAT: m.x_hat,
    }
    if m.log_ratios is not None:
        found[output_names.LOG_RATIOS] = m.log_ratios
    if maps:
        found |= {output_names.of_map("residual"): m.residual_map, output_names.of_map("anomaly"): net.anomaly_map(m)}
    return found


class Calibrated(nn.Module):
    """``Calibration`` in float32 tensors, for whoever runs a graph without aeflow; aeflow itself uses ``Calibration``.

    ``flow`` (B, stages), ``reconstruction`` (B,), ``log_ratios`` (B, kinds) -> score, p-value and terms, (B,) each.
    """

    stage_mean: Tensor
    stage_std: Tensor
    scores: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.calibration = calibration
        mean, std = np.array(calibration.stages).T
        for name, values in (("stage_mean", mean), ("stage_std", std), ("scores", calibration.scores)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, flow: Tensor, reconstruction: Tensor, log_ratios: Tensor | None) -> dict[str, Tensor]:
        c = self.calibration
        if c.standardise:
            terms = {
                "flow": _standardised(((flow - self.stage_mean) / self.stage_std).mean(dim=1), c.flow),
                "reconstruction": _standardised(reconstruction, c.reconstruction),
            }
            if c.two_sided:
                terms["reconstruction"] = terms["reconstruction"].abs()
        else:
            terms = {"flow": flow.mean(dim=1), "reconstruction": reconstruction}
        value = c.beta * terms["flow"] + (1 - c.beta) * terms["reconstruction"]
        if c.posterior is not None and log_ratios is not None:
            value, terms["posterior"] = _with_posterior(c.posterior, value, log_ratios)
        at_least = (self.scores[None] >= value[:, None]).to(value.dtype).sum(dim=1)
        return {output_names.SCORE: value, output_names.P_VALUE: (1 + at_least) / (len(c.scores) + 1), **terms}


class ScoreGraph(nn.Module):
    """The whole way as one module: images ``x`` (B, 3, H, W) in [0, 1] to the tensors named ``outputs``, in order."""

    def __init__(self, net: AEFlow, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.calibrated = Calibrated(calibration)
        classes = [output_names.LOG_RATIOS] if net.classes is not None else []
        terms = output_names.TERMS if calibration.posterior is not None else output_names.TERMS[:2]
        maps = map(output_names.of_map, output_names.MAPS)
        measures = (output_names.FLOW, output_names.RECONSTRUCTION, *classes, output_names.INPUT_STATISTICS)
        self.outputs = (output_names.SCORE, output_names.P_VALUE, *terms, *maps, output_names.X_HAT, *measures)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = measured(self.net, x)
        found |= self.calibrated(
            found[output_names.FLOW], found[output_names.RECONSTRUCTION], found.get(output_names.LOG_RATIOS)
        )
        return tuple(found[name] for name in self.outputs)


def _standardised(values: Tensor, spread: tuple[float, float]) -> Tensor:
    mean, std = spread
    return (values - mean) / std


def _with_posterior(posterior: Posterior, value: Tensor, log_ratios: Tensor) -> tuple[Tensor, Tensor]:
    """The score with what the classes say in it, and their term."""
    term = _standardised(log_ratios.logsumexp(dim=1), posterior.evidence)
    base = _standardised(value, posterior.normals_only)
    return (1 - posterior.weight) * base + posterior.weight * term, term
