"""The score as one module, from pixels to calibrated values: torch runs it, and an export writes it as one graph."""

from __future__ import annotations

import functools
import operator

import numpy as np
import torch
from torch import Tensor, nn

from aeflow.calibration.calibration import Calibration
from aeflow.calibration.posterior import Posterior
from aeflow.calibration.term_scale import TermScale
from aeflow.model import output_names
from aeflow.model.aeflow import AEFlow
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.maps import anomaly_map, laid_into, region_map, residual_map
from aeflow.model.terms import TERMS


def measured(net: AEFlow, x: Tensor, maps: bool, pictures: bool) -> dict[str, Tensor]:
    """Return by name the raw measures of images ``x`` (B, 3, H, W), with what ``Backend.run`` is asked for."""
    m = net(x, maps, pictures)
    found = {TERMS[name].output: measure for name, measure in m.terms.items()}
    found[output_names.INPUT_STATISTICS] = measure_input_statistics(m.encoded.x, m.pooled)
    if net.front.recognises:
        assert m.encoded.statistics is not None
        found[output_names.REGION_STATISTICS] = m.encoded.statistics
    if m.log_ratios is not None:
        found[output_names.LOG_RATIOS] = m.log_ratios
    if maps:
        found[output_names.of_map("anomaly")] = anomaly_map(net, m)
        if m.encoded.region is not None:
            found[output_names.REGION] = region_map(net, m.encoded)
    if pictures:
        found[output_names.X_HAT] = laid_into(net, x, m.x_hat, m.encoded)
        if maps:
            found[output_names.of_map("residual")] = residual_map(net, m)
    return found


class TensorCalibration(nn.Module):
    """``Calibration`` in float32 tensors, for those who run a graph without aeflow; aeflow uses ``Calibration`` itself.

    Measures by term, (B,) or (B, columns), and ``log_ratios`` (B, kinds) -> score, p-value and terms, (B,) each.
    """

    scores: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.calibration = calibration
        for name, scale in calibration.term_scales.items():
            for part, values in zip(("mean", "std"), np.array(scale.columns or [(0, 1)]).T, strict=True):
                self.register_buffer(f"{name}_{part}", torch.tensor(values, dtype=torch.float32))
        self.register_buffer("scores", torch.tensor(calibration.scores, dtype=torch.float32))

    def forward(self, measures: dict[str, Tensor], log_ratios: Tensor | None) -> dict[str, Tensor]:
        c = self.calibration
        if c.standardise:
            terms = {name: self._term(name, scale, measures[name]) for name, scale in c.term_scales.items()}
        else:
            terms = {
                name: measures[name] if measures[name].dim() == 1 else measures[name].mean(dim=1)
                for name in c.term_scales
            }
        value = functools.reduce(operator.add, [scale.weight * terms[name] for name, scale in c.term_scales.items()])
        if c.posterior is not None and log_ratios is not None:
            value, terms[output_names.POSTERIOR] = _with_posterior(c.posterior, value, log_ratios)
        at_least = (self.scores[None] >= value[:, None]).to(value.dtype).sum(dim=1)
        return {output_names.SCORE: value, output_names.P_VALUE: (1 + at_least) / (len(c.scores) + 1), **terms}

    def _term(self, name: str, scale: TermScale, measure: Tensor) -> Tensor:
        """Return the standardised term (B,), as ``TermScale.term`` does."""
        if scale.columns is not None:
            measure = ((measure - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")).mean(dim=1)
        distance = _standardised(measure, scale.spread)
        return distance.abs() if scale.two_sided else distance


class ScoreGraph(nn.Module):
    """The whole score as one module: images ``x`` (B, 3, H, W) in [0, 1] to the tensors named ``outputs``, in order."""

    def __init__(self, net: AEFlow, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.calibrated = TensorCalibration(calibration)
        classes = [output_names.LOG_RATIOS] if net.knows_kinds else []
        terms = [*calibration.term_scales, *([output_names.POSTERIOR] if calibration.posterior is not None else [])]
        maps = map(output_names.of_map, output_names.MAPS)
        measures = (*(TERMS[name].output for name in calibration.term_scales), *classes, output_names.INPUT_STATISTICS)
        regions = [
            *([output_names.REGION] if net.settings.describes else []),
            *([output_names.REGION_STATISTICS] if net.front.recognises else []),
        ]
        self.outputs = (
            output_names.SCORE,
            output_names.P_VALUE,
            *terms,
            *maps,
            output_names.X_HAT,
            *measures,
            *regions,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = measured(self.net, x, maps=True, pictures=True)
        measures = {name: found[TERMS[name].output] for name in self.calibrated.calibration.term_scales}
        found |= self.calibrated(measures, found.get(output_names.LOG_RATIOS))
        return tuple(found[name] for name in self.outputs)


def _standardised(values: Tensor, spread: tuple[float, float]) -> Tensor:
    mean, std = spread
    return (values - mean) / std


def _with_posterior(posterior: Posterior, value: Tensor, log_ratios: Tensor) -> tuple[Tensor, Tensor]:
    """Return the score with the classes' evidence in it, and the classes' term, (B,) each."""
    term = _standardised(log_ratios.logsumexp(dim=1), posterior.evidence)
    base = _standardised(value, posterior.normals_only)
    return (1 - posterior.weight) * base + posterior.weight * term, term
